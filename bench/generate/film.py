"""Writes a dubbed film with the frames of its source: the generated mouth in every one of them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from bench.generate.blend import HeadMotion, Patch, patch, put, same_shot
from bench.generate.film_times import FilmTimes, Moment, film_times
from bench.generate.fit import block_frames, in_blocks
from bench.generate.footage import VideoFootage
from prep.errors import ClipError
from prep.rates import FPS
from prep.video_reading import native_frames, native_times

# Seconds: the frame that a method saw is up to half a slot later than its slot, and its slot as much later or earlier.
_REACH = 1 / FPS
# Seconds by which the time of a decoded frame may differ from that of its packet.
_EXACT = Fraction(1, 2000)


class Film:
    """The frames of a source video, at their own times, in which generated mouths are put.

    Args:
        path: the video.
        footage: the same video as methods see it, at 25 fps, extended to the sound.

    Attributes:
        times: when the frames of the result are shown.

    Raises:
        ClipError: the video cannot be read.
    """

    def __init__(self, path: Path, footage: VideoFootage) -> None:
        self._path = path
        self._footage = footage
        self._times = native_times(path)
        self.times: FilmTimes = film_times(self._times, footage.order)
        # As prep.video_reading.frames: a slot shows the last frame that begins in it or before it.
        slots = np.array([math.floor(time * FPS + Fraction(1, 2)) for time in self._times])
        last = np.searchsorted(slots, np.arange(len(footage.source_landmarks)), side="right") - 1
        self._shown = last.clip(0)
        seconds = np.array([float(time) for time in self._times])
        self._motion = HeadMotion(footage.source_landmarks, seconds[self._shown])

    def frames(self, generated: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The frames of the result, (H, W, 3) uint8 RGB, in order of :attr:`times`.

        Args:
            generated: all frames of a method for the footage, in order.

        Raises:
            ClipError: the video cannot be decoded to its end.
        """
        if not self.times.moments:
            yield from generated
            return
        pairs = zip(self._footage.shots(), generated, strict=True)
        sources = self._sources([m.source for m in self.times.moments if m.source is not None])
        number, original, made = -1, np.empty(0), np.empty(0)
        mouth, mouth_of = None, -1
        for moment in self.times.moments:
            while number < moment.slot:
                shot, made = next(pairs)
                number, original = number + 1, shot.frame
            if moment.source is None:
                yield made
                continue
            frame = next(sources)
            if moment.source == self._source_of(moment.slot):
                yield made
                continue
            if mouth_of != number:
                mouth, mouth_of = self._patch(original, made, moment), number
            if mouth is not None and same_shot(mouth, original, frame):
                put(mouth, frame, self._motion.between(*self._span(moment)))
            yield frame
        # The method's last frames may be shown nowhere, but they are counted.
        for _ in pairs:
            pass

    def _source_of(self, slot: int) -> int:
        """The source frame that the method saw."""
        return int(self._shown[self._footage.order[slot]])

    def _span(self, moment: Moment) -> tuple[float, float]:
        """Seconds in the source of the frame that the method saw, and of the one that is shown."""
        assert moment.source is not None
        return float(self._times[self._source_of(moment.slot)]), float(self._times[moment.source])

    def _patch(self, original: np.ndarray, made: np.ndarray, moment: Moment) -> Patch | None:
        here, _ = self._span(moment)
        mouths = [self._motion.mouth(here)]
        for there in (here - _REACH, here + _REACH):
            back = self._motion.between(there, here)
            mouths.append(self._motion.mouth(there) @ back[:, :2].T + back[:, 2])
        return patch(original, made, np.concatenate(mouths))

    def _sources(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """The source's frames with these numbers; each may be written to. Few are in memory."""
        for part in in_blocks(numbers, block_frames(self._footage.width, self._footage.height)):
            if part[0] <= part[-1]:
                yield from self._rising(part)
            else:
                block = list(self._rising(part[::-1]))
                while block:
                    yield block.pop()

    def _rising(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """Frames whose numbers do not fall."""
        wanted = deque(numbers)
        held = None
        for time, frame in native_frames(self._path, start=self._times[numbers[0]]):
            # A frame that cannot be decoded is replaced by the one before it.
            while held is not None and wanted and self._times[wanted[0]] < time - _EXACT:
                yield held.copy()
                wanted.popleft()
            if not wanted:
                return
            held = frame
        if held is None:
            raise ClipError("video", f"no frame can be decoded at {float(self._times[wanted[0]]):.2f} s")
        for _ in wanted:
            yield held.copy()
