"""Reads video through PyAV: every clip becomes 25 fps.

The video is converted to 25 fps by presentation times, as by FFmpeg's ``fps=25:round=near`` filter: a source frame has
slot ``round((pts - first_pts) * 25)`` (halves up), and output ``k`` is the last frame whose slot is not after ``k``.
Time zero is the first frame, also for the sound.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
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
from prep.conversion import Converter, colour_of, light_of, matrix_of
from prep.errors import ClipError
from prep.fields import deinterlaced
from prep.pixels import UNTAGGED_MATRIX, Colour, Matrix, Pixels
from prep.rates import FPS
from prep.shaping import Finisher, Shape

# A deinterlaced frame needs one frame before it; its two fields may be two packets, with times of their own.
_LEAD = 2
# Packets a second of an interlaced recording from which on each is a field: no such recording has more frames than 30.
_FIELDS = 40


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video, read from its packets; the container's header is not trusted.

    Attributes:
        width: pixels of a frame as displayed, that is after ``rotation``, and of a square shape.
        height: pixels of a frame as displayed.
        rotation: degrees clockwise (0, 90, 180 or 270) by which :func:`frames` rotates the stored frame.
        source_fps: average frames per second of the source.
        n_frames: number of slots at 25 fps, at least 1.
        has_audio: whether there is an audio stream.
        track: number of the video stream among those of the file, from 0.
        interlaced: whether the first frame, or the header of the stream, says that it holds two fields.
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
    """The timeline of a video; raises as :func:`probe`."""
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
        matrix = matrix_of(first)
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
        matrix=matrix or UNTAGGED_MATRIX,
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
        if held is not None and start < slot:
            yield from _repeated(finish(*held, due / FPS), min(slot, stop) - start)
            start = min(slot, stop)
        if start == stop:
            return
        held, due = (frame, aspect), slot
    # The last frame of the file is repeated up to its end; but not if decoding stopped early.
    end = stop if due >= timeline.slot(int(timeline.times[-1])) else min(stop, due + 1)
    if held is not None and start < end:
        yield from _repeated(finish(*held, due / FPS), end - start)


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


def _repeated(picture: np.ndarray, times: int) -> Iterator[np.ndarray]:
    for _ in range(times - 1):
        yield picture.copy()
    yield picture


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
