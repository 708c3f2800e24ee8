"""The times and properties of a video, from one pass over its packets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from prep.containers import (
    MAX_GAP,
    begins_anew,
    check_file,
    check_size,
    cut_short,
    decoded,
    opened,
    read_packets,
    video_stream,
)
from prep.conversion import colour_of, light_of, matrix_of, untagged
from prep.errors import ClipError
from prep.pixels import UNTAGGED_MATRIX, Colour
from prep.rates import FPS
from prep.shaping import Shape


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video, read from its packets; the container's header is not trusted.

    Attributes:
        width: pixels of a frame as displayed, that is after ``rotation``, and of a square shape.
        height: pixels of a frame as displayed.
        rotation: degrees clockwise (0, 90, 180 or 270) by which the stored frame is rotated to be shown.
        source_fps: average frames per second of the source.
        n_frames: number of slots at 25 fps, at least 1.
        has_audio: whether there is an audio stream.
        track: number of the video stream among those of the file, from 0.
        interlaced: whether the first frame says that it holds two fields.
        light: ``sdr``, or ``hlg`` or ``pq`` for a recording in high dynamic range, which is converted.
        matrix: ``bt601``, ``bt709``, ``bt2020`` or ``rgb``: the file's tag, or the rule for untagged files.
        matrix_tagged: whether the file is tagged with it.
        sample_aspect: width of a pixel divided by its height, after ``rotation``.
        colour: the tags with which a file made from this one is written.
    """

    width: int
    height: int
    rotation: int
    source_fps: float
    n_frames: int
    has_audio: bool
    track: int = 0
    interlaced: bool = False
    light: str = "sdr"
    matrix: str = UNTAGGED_MATRIX
    matrix_tagged: bool = False
    sample_aspect: float = 1.0
    colour: Colour = field(default_factory=Colour)


@dataclass(frozen=True)
class Timeline:
    """The times of all frames of a file, from one pass over its packets."""

    info: VideoInfo
    shape: Shape
    coded_aspect: Fraction | None  # pixel aspect by the codec at the first frame; None: it says nothing
    time_base: Fraction
    timed: bool  # False: the container has no presentation times, frames are counted instead
    times: np.ndarray  # int64, presentation times in time_base, sorted, from the first decodable frame on
    keys: list[tuple[int, int]]  # (pts, dts) of the key frames, by pts

    def slot(self, pts: int) -> int:
        """The 25 fps slot of a presentation time in ``time_base``."""
        return _slot(int(pts) - int(self.times[0]), self.time_base)

    def key_before(self, slot: int, lead: int = 0) -> tuple[int, int] | None:
        """The last key frame with which decoding can begin for the frame of a slot; None: the beginning.

        Args:
            slot: at 25 fps.
            lead: smallest number of frames that are decoded before that frame.
        """
        shown = bisect_right(self.times, slot, key=self.slot) - 1 - lead
        if shown < 0:
            return None
        found = None
        for pts, dts in self.keys:
            if pts > self.times[shown]:
                break
            found = (pts, dts)
        return found if found is not None and found[0] > self.times[0] else None


def _slot(ticks: int, time_base: Fraction) -> int:
    """The 25 fps slot of a time after the first frame; halves are rounded up."""
    return (2 * FPS * time_base.numerator * ticks + time_base.denominator) // (2 * time_base.denominator)


def _orientation(frame: Any) -> tuple[int, bool]:
    """Degrees clockwise, and whether a horizontal flip comes first, from the frame's display matrix."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 0, False
    a, b, _, c, d = (int(value) for value in np.frombuffer(data, np.int32, 5))
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    if abs(a) >= abs(b):
        return (180 if a < 0 else 0), mirrored
    return (90 if b > 0 else 270), mirrored


def timeline_of(path: Path) -> Timeline:
    """The timeline of a video; raises as :func:`prep.video_reading.probe`."""
    status = check_file(path, "video")
    return _read_timeline(path, status.st_mtime_ns, status.st_size)


# The clips of one long video share one pass; a replaced file is read again.
@lru_cache(maxsize=8)
def _read_timeline(path: Path, mtime_ns: int, size: int) -> Timeline:
    """One pass over the packets of the video stream; only the first frame is decoded."""
    # (pts, dts, duration, is a key frame) of the packets that become frames
    shown: list[tuple[Any, ...]] = []
    total = 0
    damaged = False

    def packets() -> Iterator[Any]:
        nonlocal total, damaged
        for packet in read_packets(container, stream):
            if packet.size:
                total += 1
                damaged = damaged or packet.is_corrupt
                if not packet.is_discard:  # an edit list leaves it out
                    shown.append((packet.pts, packet.dts, packet.duration, packet.is_keyframe))
                yield packet

    with opened(path, "video") as container:
        stream = video_stream(container)
        supply = packets()
        first = next(decoded(supply, stream, "video"), None)
        for _ in supply:
            pass
        # A wrong length in a header alone is no problem: packets must also be missing, if their number is known.
        if (total < (stream.frames or total + 1) or damaged) and cut_short(path, container.format.name):
            raise ClipError("video", "the file is cut short")
        if first is None:
            raise ClipError("video", "no frame can be decoded")
        check_size(first.width, first.height)
        # AVI has no presentation times; the generated ones are wrong if frames are reordered.
        timed = first.pts is not None and container.format.name != "avi"
        rate = stream.average_rate or stream.guessed_rate or Fraction(FPS)
        time_base = stream.time_base
        has_audio = len(container.streams.audio) > 0
        coded_aspect = stream.codec_context.sample_aspect_ratio or None
        # The container's word, or else the codec's.
        aspect = Fraction(stream.sample_aspect_ratio or coded_aspect or 1)
        shape = Shape((first.width, first.height), aspect, *_orientation(first))
        check_size(*shape.shown)
        start = first.pts
        matrix, usual = matrix_of(first), untagged(first)
        light, colour = light_of(first), colour_of(first)
        interlaced = bool(first.interlaced_frame)
        track = list(container.streams.video).index(stream)
        joined = begins_anew(container, stream)

    step = max(1, round(1 / (rate * time_base)))
    timed = timed and all(row[0] is not None for row in shown)
    if timed:
        times = sorted(row[0] for row in shown if row[0] >= start) or [start]
        step = next((row[2] for row in shown if row[0] == times[-1] and row[2] and row[2] > 0), step)
    elif all(row[1] is not None for row in shown):
        times = sorted(row[1] for row in shown)
    else:
        times = [number * step for number in range(len(shown))]
    gap = float(max(step, *(after - before for before, after in pairwise([*times[:1], *times]))) * time_base)
    if gap > MAX_GAP:
        raise ClipError("video", f"timestamps jump by {gap:.0f} s, more than {MAX_GAP} s")
    span = times[-1] + step - times[0]
    info = VideoInfo(
        *shape.shown,
        rotation=shape.rotation,
        source_fps=float(len(times) / (span * time_base)),
        n_frames=max(1, _slot(span, time_base)),
        has_audio=has_audio,
        track=track,
        interlaced=interlaced,
        light=light,
        matrix=matrix or usual,
        matrix_tagged=matrix is not None,
        sample_aspect=float(aspect if shape.rotation in (0, 180) else 1 / aspect),
        colour=colour,
    )
    # A file of joined recordings is read from its beginning.
    seekable = timed and not joined
    keys = (
        sorted((row[0], row[0] if row[1] is None else row[1]) for row in shown if row[3]) if seekable else []
    )
    return Timeline(info, shape, coded_aspect, time_base, timed, np.array(times, np.int64), keys)
