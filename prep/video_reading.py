"""Reads video through PyAV: every clip becomes 25 fps.

The video is converted to 25 fps by presentation times, as by FFmpeg's ``fps=25:round=near`` filter: a source frame has
slot ``round((pts - first_pts) * 25)`` (halves up), and output ``k`` is the last frame whose slot is not after ``k``.
Time zero is the first frame, also for the sound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from prep.containers import decoded, opened, read_packets, video_stream
from prep.conversion import Converter
from prep.fields import deinterlaced
from prep.pixels import Matrix, Pixels
from prep.rates import FPS
from prep.shaping import Finisher
from prep.timeline import Timeline, VideoInfo, timeline_of

# A deinterlaced frame needs one frame before it; its two fields may be two packets, with times of their own.
_LEAD = 2
# Packets a second of an interlaced recording from which on each is a field: no such recording has more frames than 30.
_FIELDS = 40


def probe(path: Path) -> VideoInfo:
    """Read the properties of a video from its packets; only the first frame is decoded.

    The number of slots includes every packet with its own time. If decoding stops early, :func:`frames` yields fewer
    frames than that. A video of one frame is accepted.

    Raises:
        ClipError: step ``video``; no file, no video stream, damaged, incomplete (detected in MP4, AVI and Matroska,
            which contain their length), a frame with a side of more than 8192 pixels, or more than 10 s between two
            frames.
    """
    return timeline_of(Path(path)).info


@dataclass(frozen=True)
class KeptFrame:
    """A decoded frame that becomes a picture when it is asked for one; in 4:2:0 it needs half the memory of RGB."""

    _finish: Finisher
    _frame: Any
    _aspect: Fraction
    _seconds: float

    @property
    def nbytes(self) -> int:
        """Memory that the decoded frame needs."""
        return sum(plane.buffer_size for plane in self._frame.planes)

    def picture(self) -> np.ndarray:
        """The picture, as :func:`frames` yields it, made anew; raises as that."""
        return self._finish(self._frame, self._aspect, self._seconds)


def kept_frames(
    path: Path,
    start: int = 0,
    stop: int | None = None,
    *,
    crop: tuple[int, int, int, int] | None = None,
    size: int | None = None,
    pixels: Pixels = "exact",
    matrix: Matrix = "tagged",
) -> Iterator[KeptFrame]:
    """As :func:`frames`, but colours are not converted yet; a frame that fills several slots is the same object."""
    path = Path(path)
    timeline = timeline_of(path)
    if start < 0:
        raise ValueError(f"start is {start}; frames are counted from 0")
    stop = timeline.info.n_frames if stop is None else min(stop, timeline.info.n_frames)
    if start >= stop:
        return
    finish = Finisher(timeline.shape, Converter(pixels, matrix), crop, size)
    held, due = None, 0
    for slot, aspect, frame in _timed_frames(path, timeline, start):
        if held is not None:
            for _ in range(start, min(slot, stop)):
                yield held
            start = max(start, min(slot, stop))
        if start == stop:
            return
        held, due = KeptFrame(finish, frame, aspect, slot / FPS), slot
    # The last frame of the file is repeated up to its end; but not if decoding stopped early.
    end = stop if due >= timeline.slot(int(timeline.times[-1])) else min(stop, due + 1)
    if held is not None:
        for _ in range(start, end):
            yield held


def pictures(kept: Iterable[KeptFrame]) -> Iterator[np.ndarray]:
    """The picture of every frame."""
    return (frame.picture() for frame in kept)


def frames(
    path: Path,
    start: int = 0,
    stop: int | None = None,
    *,
    crop: tuple[int, int, int, int] | None = None,
    size: int | None = None,
    pixels: Pixels = "exact",
    matrix: Matrix = "tagged",
) -> Iterator[np.ndarray]:
    """Yield frames ``start`` to ``stop`` (exclusive) of a video at 25 fps; a frame does not depend on ``start``.

    Decoding begins at the last key frame before ``start``. If a source frame fills several slots, each gets its own
    copy. If the video, or its decodable part, ends earlier, fewer frames are yielded.

    Args:
        path: the file.
        start: first frame; 0 is the first frame of the video.
        stop: frame after the last one, or None for the end.
        crop: ``(x, y, width, height)`` in displayed pixels, applied before resizing.
        size: side in pixels to which the frame (or crop) is resized, square: ``cv2.INTER_AREA`` if both sides become
            smaller, ``cv2.INTER_LINEAR`` otherwise.
        pixels: how colours are decoded (:data:`prep.pixels.Pixels`).
        matrix: by which matrix ``exact`` decodes (:data:`prep.pixels.Matrix`).

    Yields:
        uint8 (height, width, 3), RGB, C-contiguous and writable.

    Raises:
        ClipError: step ``video``; as for :func:`probe`, or the crop is not inside the frame, the frame size changes, or
            more than 100 packets cannot be decoded.
        ValueError: ``start`` is negative.
    """
    return pictures(kept_frames(path, start, stop, crop=crop, size=size, pixels=pixels, matrix=matrix))


def native_times(path: Path) -> list[Fraction]:
    """Seconds of every frame of the source after the first one, rising; from the packets, nothing is decoded.

    Raises:
        ClipError: step ``video``; as for :func:`probe`.
    """
    timeline = timeline_of(Path(path))
    first = int(timeline.times[0])
    times = [(int(pts) - first) * timeline.time_base for pts in np.unique(timeline.times)]
    # In some recordings the two fields of a frame are two packets: 50 or 60 a second, for half as many frames.
    paired = timeline.info.interlaced and timeline.info.source_fps > _FIELDS
    return times[::2] if paired else times


def native_frames(
    path: Path,
    *,
    start: Fraction = Fraction(0),
    square: bool = True,
    pixels: Pixels = "exact",
    matrix: Matrix = "tagged",
) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Yield every frame of the source at its own time, deinterlaced, converted and rotated as by :func:`frames`.

    Args:
        path: the file.
        start: seconds; earlier frames are left out. Decoding begins at the last key frame before it.
        square: resample to pixels of a square shape, as :func:`frames` does. Otherwise pixels have the shape
            ``probe(path).sample_aspect``.
        pixels: how colours are decoded (:data:`prep.pixels.Pixels`).
        matrix: by which matrix ``exact`` decodes (:data:`prep.pixels.Matrix`).

    Yields:
        seconds after the first frame, rising; and the frame, uint8 (height, width, 3), RGB, C-contiguous and writable.

    Raises:
        ClipError: step ``video``; as for :func:`frames`.
    """
    timeline = timeline_of(Path(path))
    finish = Finisher(timeline.shape, Converter(pixels, matrix), square=square)
    first = int(timeline.times[0])
    begin = first + math.ceil(start / timeline.time_base)
    # In the second attempt, after seeking failed, the file is read from its beginning.
    for key in dict.fromkeys((timeline.key_before(timeline.slot(begin), _LEAD), None)):
        last = None
        for pts, aspect, frame in _stamped_frames(Path(path), timeline, key):
            if key is not None and last is None and pts > begin:
                break
            # A frame that has no later time than the frame before it has no place of its own.
            if last is None or pts > last:
                if pts >= begin:
                    seconds = (pts - first) * timeline.time_base
                    yield seconds, finish(frame, aspect, float(seconds))
                last = pts
        if last is not None:
            return


def _timed_frames(path: Path, timeline: Timeline, start: int) -> Iterator[tuple[int, Fraction, Any]]:
    """Decoded frames with their slots and pixel aspects; the first slot is not after ``start``."""
    near, far = timeline.key_before(start), timeline.key_before(start, _LEAD)
    # In the next attempts, after seeking failed or where an interlaced frame needs its neighbour, more is decoded.
    for key in dict.fromkeys((near, far, None)):
        count = slot = 0
        for pts, aspect, frame in _stamped_frames(path, timeline, key, leads=key != near or near == far):
            # A frame with an earlier time than the frame before it replaces that frame, as in the filter.
            slot = max(slot, timeline.slot(pts))
            if key is not None and count == 0 and slot > start:
                break
            count += 1
            yield slot, aspect, frame
        if count:
            return


def _stamped_frames(
    path: Path, timeline: Timeline, key: tuple[int, int] | None, leads: bool = True
) -> Iterator[tuple[int, Fraction, Any]]:
    """Decoded frames, deinterlaced, with their presentation times in ``timeline.time_base`` and pixel aspects.

    Args:
        path: the file.
        timeline: of the file.
        key: (pts, dts) of the key frame to begin with; None: from the beginning.
        leads: whether frames before the wanted one are decoded too. If not, and the first frame is interlaced, nothing
            is yielded.
    """

    def raw() -> Iterator[tuple[tuple[int, Fraction], Any]]:
        pts = int(timeline.times[0])
        for count, frame in enumerate(decoded(_packets_from(container, stream, key), stream, "video")):
            if not timeline.timed:
                pts = int(timeline.times[min(count, len(timeline.times) - 1)])
            elif frame.pts is not None:
                pts = frame.pts
            if count == 0 and frame.interlaced_frame and not leads:
                return
            coded = stream.codec_context.sample_aspect_ratio
            same = coded == timeline.coded_aspect or not coded
            yield (pts, timeline.shape.aspect if same else Fraction(coded)), frame

    with opened(path, "video") as container:
        stream = video_stream(container)
        for (pts, aspect), frame in deinterlaced(raw()):
            yield pts, aspect, frame


def _packets_from(container: Any, stream: Any, key: tuple[int, int] | None) -> Iterator[Any]:
    """Packets from a key frame on, given as (pts, dts); empty if the container cannot seek there."""
    packets = read_packets(container, stream)
    if key is not None:
        try:
            container.seek(key[1], stream=stream)
        except av.FFmpegError:
            return
        first = next(packets, None)
        if first is None or not first.is_keyframe or first.pts is None or first.pts > key[0]:
            return
        yield first
    yield from packets
