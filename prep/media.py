"""Video and sound in and out through PyAV: every clip becomes 25 frames and 16,000 samples a second.

The picture is brought to 25 fps by presentation times, as FFmpeg's ``fps=25:round=near`` filter does it: a
source frame takes slot ``round((pts - first_pts) * 25)`` (halves up), and output ``k`` is the latest frame
whose slot is not after ``k``. Time zero is the first picture, for the sound as well.

Files are data from strangers. Whatever is wrong with one becomes a :class:`prep.errors.ClipError` whose
reason is the same on every run; only local files are opened, and only by demuxers that open no other files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.codec.context import Flags
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageOps

from prep.errors import ClipError

FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS

#: Longest side of a picture, in pixels, that is taken.
MAX_SIDE = 8192
#: Seconds between two successive frames (or frames of sound) beyond which the timestamps are not believed.
MAX_GAP = 10
#: Packets that may fail to decode before the file is given up.
MAX_BAD_PACKETS = 100
#: Seconds by which the timestamps of sound may wander before samples are inserted or cut. Containers that
#: round to milliseconds jitter by less; half a frame is what a viewer would not notice.
SOUND_TOLERANCE = 0.02

# Demuxers that read one file and nothing else; playlists (concat, hls, dash) would open others.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,m4v,flv,asf,ogg,"
    "wav,w64,aiff,au,mp3,aac,ac3,flac,caf,mxf,ivf,dv"
)

#: Sample rates that AAC has, in Hz.
AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
# mbtree: x264's assembly for it reads memory that was never written, and now and then other bytes come out.
# The rest: RGB becomes YUV by the matrix of BT.601; without the tag, players take BT.709 for larger pictures.
_X264 = {"mbtree": "0", "colorspace": "smpte170m", "color_range": "tv"}
# The same bytes on every processor: swscale's fast paths round differently from one to the next.
_EXACT = 0x4 | 0x40000 | 0x80000  # SWS_BICUBIC, SWS_ACCURATE_RND, SWS_BITEXACT


@dataclass(frozen=True)
class VideoInfo:
    """What a video is, read from its packets; the figures of the container's header are not trusted.

    Attributes:
        width: pixels of a frame as displayed, that is after ``rotation``.
        height: pixels of a frame as displayed.
        rotation: degrees clockwise (0, 90, 180 or 270) by which :func:`frames` turns the stored picture.
        source_fps: average frames a second of the source.
        n_frames: number of slots at 25 fps, at least 1.
        has_audio: whether there is an audio stream.
    """

    width: int
    height: int
    rotation: int
    source_fps: float
    n_frames: int
    has_audio: bool


@dataclass(frozen=True)
class Sound:
    """A whole sound track on the clock of the picture.

    Attributes:
        samples: int16 (n,), mono, 16 kHz; ``samples[0]`` is heard with the first frame of the video.
        starts: seconds from the first frame to the first decoded sample, before silence was put in front
            (positive) or samples were cut there (negative).
        duration: seconds of decoded sound, before anything was padded or cut.
    """

    samples: np.ndarray
    starts: float
    duration: float


@dataclass(frozen=True)
class _Timeline:
    """Where every frame of a file belongs, from one pass over its packets."""

    info: VideoInfo
    stored: tuple[int, int]  # width and height before rotation
    mirrored: bool  # flipped left to right before rotation
    time_base: Fraction
    timed: bool  # False: the container has no presentation times, frames are counted instead
    times: np.ndarray  # int64, presentation times in time_base, sorted, from the first decodable frame on
    keys: list[tuple[int, int]]  # (pts, dts) of the key frames, by pts

    def slot(self, pts: int) -> int:
        return _slot(pts - int(self.times[0]), self.time_base)

    def key_before(self, slot: int) -> tuple[int, int] | None:
        """The last key frame from which decoding gives the frame of ``slot``; None: the beginning."""
        found = None
        for pts, dts in self.keys:
            if self.slot(pts) > slot:
                break
            found = (pts, dts)
        return found if found is not None and found[0] > self.times[0] else None


def _slot(ticks: int, time_base: Fraction) -> int:
    """The 25 fps slot of a time after the first picture; halves go up."""
    return (2 * FPS * time_base.numerator * ticks + time_base.denominator) // (2 * time_base.denominator)


def _words(error: BaseException) -> str:
    """A reason for a person: no addresses, no paths, the same on every run."""
    if isinstance(error, (av.error.InvalidDataError, av.error.ArgumentError)):
        return "damaged, or not a media file"
    if isinstance(error, av.error.EOFError):
        return "the file ends too early"
    if isinstance(
        error, (av.error.PatchWelcomeError, av.error.NotImplementedError, av.error.DecoderNotFoundError)
    ):
        return "uses a coding that is not supported"
    if isinstance(error, MemoryError):
        return "asks for too much memory"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"cannot be read ({type(error).__name__})"


def _check_file(path: Path, step: str) -> os.stat_result:
    try:
        status = path.stat()
    except OSError as error:
        raise ClipError(step, _words(error)) from error
    if not path.is_file():  # a pipe would wait for ever
        raise ClipError(step, "not a file")
    if status.st_size == 0:
        raise ClipError(step, "the file is empty")
    return status


@contextmanager
def _opened(path: Path, step: str) -> Iterator[Any]:
    """Open a media file; whatever goes wrong with it inside the block becomes a ClipError."""
    _check_file(path, step)
    options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    try:
        with av.open(f"file:{path}", options=options, metadata_errors="replace") as container:
            yield container
    except (av.FFmpegError, OSError, MemoryError, ValueError, OverflowError) as error:
        raise ClipError(step, _words(error)) from error


def _check_size(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE:
        raise ClipError("video", f"frame of {width}x{height} pixels is larger than {MAX_SIDE}")


def _video_stream(container: Any) -> Any:
    """The first stream of moving pictures, set up to be decoded in this thread."""
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue  # the cover of an album
        context = stream.codec_context
        if context is None:
            raise ClipError("video", "uses a coding that is not supported")
        _check_size(context.width, context.height)
        context.thread_type = "NONE"
        context.thread_count = 1
        # A damaged header must not make the decoder allocate gigabytes.
        context.options = {"max_pixels": str(MAX_SIDE * MAX_SIDE)}
        return stream
    raise ClipError("video", "no video stream")


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    try:
        yield from container.demux(stream)
    except IndexError:
        return  # at the end, PyAV stumbles over streams that the file announced late; every packet was read


def _decoded(packets: Iterable[Any], stream: Any, step: str) -> Iterator[Any]:
    """Decode packets to the end of the stream; packets that cannot be decoded are skipped, up to a limit."""
    bad = 0
    for packet in packets:
        if not packet.size:
            continue  # the decoder would take an empty packet for the end of the stream
        try:
            yield from stream.decode(packet)
        except av.FFmpegError as error:
            bad += 1
            if bad > MAX_BAD_PACKETS:
                raise ClipError(step, f"more than {MAX_BAD_PACKETS} packets cannot be decoded") from error
    try:
        yield from stream.decode(None)
    except av.FFmpegError:
        return  # nothing was held back


def _cut_short(path: Path, container: str) -> bool:
    """Whether a file of the MP4 family, an AVI or a Matroska file ends before its own headers say."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
        if container == "avi":
            return 8 + int.from_bytes(head[4:8], "little") > size
        if container.startswith("matroska"):  # an EBML header, then one segment that is the rest of the file
            segment = head.find(b"\x18\x53\x80\x67") + 4
            width = 9 - head[segment].bit_length()
            length = int.from_bytes(head[segment : segment + width], "big") - (1 << 7 * width)
            unknown = length == (1 << 7 * width) - 1
            return segment > 3 and not unknown and segment + width + length > size
        position = 0
        while container.startswith("mov") and position + 8 <= size:
            file.seek(position)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if length < 8:
                return False  # 0 is "to the end of the file"; anything else is no box
            position += length
    return position > size


def _orientation(frame: Any) -> tuple[int, bool]:
    """Degrees clockwise, and whether a left-right flip comes before, from the frame's display matrix."""
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


def _timeline(path: Path) -> _Timeline:
    status = _check_file(path, "video")
    return _read_timeline(path, status.st_mtime_ns, status.st_size)


# The clips of one long video share one pass; a file that was replaced is read again.
@lru_cache(maxsize=8)
def _read_timeline(path: Path, mtime_ns: int, size: int) -> _Timeline:
    """One pass over the packets of the video stream; only the first frame is decoded."""
    # (pts, dts, duration, is a key frame) of the packets that become frames
    shown: list[tuple[Any, ...]] = []
    total = 0
    damaged = False

    def packets() -> Iterator[Any]:
        nonlocal total, damaged
        for packet in _packets(container, stream):
            if packet.size:
                total += 1
                damaged = damaged or packet.is_corrupt
                if not packet.is_discard:  # an edit list leaves it out
                    shown.append((packet.pts, packet.dts, packet.duration, packet.is_keyframe))
                yield packet

    with _opened(path, "video") as container:
        stream = _video_stream(container)
        supply = packets()
        first = next(_decoded(supply, stream, "video"), None)
        for _ in supply:
            pass
        # A wrong length in a header does no harm alone: packets must be missing too, where they are counted.
        if (total < (stream.frames or total + 1) or damaged) and _cut_short(path, container.format.name):
            raise ClipError("video", "the file is cut short")
        if first is None:
            raise ClipError("video", "no frame can be decoded")
        _check_size(first.width, first.height)
        # AVI has no presentation times; those made up for it are wrong where frames are reordered.
        timed = first.pts is not None and container.format.name != "avi"
        rate = stream.average_rate or stream.guessed_rate or Fraction(FPS)
        time_base = stream.time_base
        has_audio = len(container.streams.audio) > 0
        stored = (first.width, first.height)
        rotation, mirrored = _orientation(first)
        start = first.pts

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
        *(stored if rotation in (0, 180) else stored[::-1]),
        rotation=rotation,
        source_fps=float(len(times) / (span * time_base)),
        n_frames=max(1, _slot(span, time_base)),
        has_audio=has_audio,
    )
    keys = sorted((row[0], row[0] if row[1] is None else row[1]) for row in shown if row[3]) if timed else []
    return _Timeline(info, stored, mirrored, time_base, timed, np.array(times, np.int64), keys)


def probe(path: Path) -> VideoInfo:
    """Read what a video is from its packets; only the first frame is decoded.

    The number of slots counts every packet with its own time. A file whose decoding stops early has fewer
    frames than that: compare with what :func:`frames` yields. A video of one frame is a video.

    Raises:
        ClipError: step ``video``; no file, no video stream, damaged, cut short (seen in MP4, AVI and Matroska,
            which tell their length), a frame of more than 8192 pixels a side, or more than 10 s between two
            frames.
    """
    return _timeline(Path(path)).info


def frames(
    path: Path,
    start: int = 0,
    stop: int | None = None,
    *,
    crop: tuple[int, int, int, int] | None = None,
    size: int | None = None,
) -> Iterator[np.ndarray]:
    """Yield frames ``start`` to ``stop`` (exclusive) of a video at 25 fps; the same ones whatever the start.

    Decoding begins at the last key frame before ``start``. Where a source frame fills several slots, each
    gets its own copy. Fewer frames than asked for are yielded where the video, or what can be decoded of it,
    ends earlier.

    Args:
        path: the file.
        start: first frame, 0 is the first picture of the video.
        stop: frame after the last one, or None for the end.
        crop: ``(x, y, width, height)`` in displayed pixels, cut out before resizing.
        size: side in pixels to which the picture (or crop) is resized, square: ``cv2.INTER_AREA`` where both
            sides shrink, ``cv2.INTER_LINEAR`` otherwise.

    Yields:
        uint8 (height, width, 3), RGB, C-contiguous and writable; equal to PyAV's
        ``to_ndarray(format="rgb24")``, turned upright.

    Raises:
        ClipError: step ``video``; as for :func:`probe`, or a crop that leaves the picture, a frame size that
            changes, or more than 100 packets that cannot be decoded.
        ValueError: ``start`` is negative.
    """
    path = Path(path)
    timeline = _timeline(path)
    if start < 0:
        raise ValueError(f"start is {start}; frames are counted from 0")
    stop = timeline.info.n_frames if stop is None else min(stop, timeline.info.n_frames)
    if start >= stop:
        return
    finish = _finisher(timeline, crop, size)
    held, due = None, 0
    for slot, frame in _timed_frames(path, timeline, start):
        if held is not None and start < slot:
            yield from _repeated(finish(held), min(slot, stop) - start)
            start = min(slot, stop)
        if start == stop:
            return
        held, due = frame, slot
    # The last frame of the file stands to its end; decoding that stopped early is not papered over.
    end = stop if due >= timeline.slot(int(timeline.times[-1])) else min(stop, due + 1)
    if held is not None and start < end:
        yield from _repeated(finish(held), end - start)


def _repeated(picture: np.ndarray, times: int) -> Iterator[np.ndarray]:
    for _ in range(times - 1):
        yield picture.copy()
    yield picture


def _timed_frames(path: Path, timeline: _Timeline, start: int) -> Iterator[tuple[int, Any]]:
    """Decoded frames with their slots, beginning with one that is not after ``start``."""
    # The second time round, seeking did not work, and the file is read from its beginning.
    for key in dict.fromkeys((timeline.key_before(start), None)):
        with _opened(path, "video") as container:
            stream = _video_stream(container)
            count = slot = 0
            pts = int(timeline.times[0])
            for frame in _decoded(_packets_from(container, stream, key), stream, "video"):
                if not timeline.timed:
                    pts = int(timeline.times[min(count, len(timeline.times) - 1)])
                elif frame.pts is not None:
                    pts = frame.pts
                # A frame that claims to be older than the one before it replaces that one, as in the filter.
                slot = max(slot, timeline.slot(pts))
                if key is not None and count == 0 and slot > start:
                    break
                count += 1
                yield slot, frame
            if count:
                return


def _packets_from(container: Any, stream: Any, key: tuple[int, int] | None) -> Iterator[Any]:
    """Packets from a key frame on, given as (pts, dts); nothing where the container cannot seek there."""
    packets = _packets(container, stream)
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


def _finisher(
    timeline: _Timeline, crop: tuple[int, int, int, int] | None, size: int | None
) -> Callable[[Any], np.ndarray]:
    """From a decoded frame to the array that is asked for."""
    info = timeline.info
    if crop is not None:
        x, y, width, height = crop
        if min(x, y) < 0 or min(width, height) < 1 or x + width > info.width or y + height > info.height:
            raise ClipError(
                "video",
                f"crop {width}x{height} at {x},{y} leaves the frame of {info.width}x{info.height} pixels",
            )
    # One reformatter for all frames and no threads of its own: half the time of to_ndarray(), the same bytes.
    reformatter = VideoReformatter()
    turn = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}.get(
        info.rotation
    )

    def finish(frame: Any) -> np.ndarray:
        if (frame.width, frame.height) != timeline.stored:
            before = "x".join(map(str, timeline.stored))
            raise ClipError("video", f"frame size changes from {before} to {frame.width}x{frame.height}")
        rgb: np.ndarray = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        if timeline.mirrored:
            rgb = cv2.flip(rgb, 1)
        if turn is not None:
            rgb = cv2.rotate(rgb, turn)
        if crop is not None:
            rgb = rgb[y : y + height, x : x + width].copy()
        if size is not None and rgb.shape[:2] != (size, size):
            shrinks = size < min(rgb.shape[:2])
            rgb = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return rgb

    return finish


def sound(path: Path) -> Sound:
    """Decode the first sound track to 16 kHz mono, on the clock of the picture.

    Resampling and mixing down are libswresample's, in float: stereo becomes sqrt(1/2) (left + right), which
    is 3 dB above FFmpeg's ``-ac 1`` on int16; a mix that would pass full scale is turned down as a whole.
    int16 mono at 16 kHz comes through unchanged. Samples are placed by their timestamps: a gap of more than
    20 ms becomes silence, what overlaps is cut. Without a video stream, time zero is the first sample.

    Raises:
        ClipError: step ``audio``; no file, no audio stream, damaged, nothing decodable, or timestamps that
            jump by more than 10 s. Step ``video`` where the picture, whose first frame is time zero, cannot
            be read.
    """
    path = Path(path)
    with _opened(path, "audio") as container:
        if not container.streams.audio:
            raise ClipError("audio", "no audio stream")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise ClipError("audio", "uses a coding that is not supported")
        stream.codec_context.thread_count = 1
        pictured = any(not video.disposition & Disposition.attached_pic for video in container.streams.video)
        origin = None
        if pictured:
            timeline = _timeline(path)
            origin = float(int(timeline.times[0]) * timeline.time_base)
        track = _Track(origin)
        for frame in _decoded(_packets(container, stream), stream, "audio"):
            track.add(frame)
        return track.finish()


class _Track:
    """Runs of sound without a gap, each resampled by itself and put where its first timestamp says."""

    def __init__(self, origin: float | None) -> None:
        self.origin = origin
        self.starts: float | None = None
        self.duration = 0.0  # of the runs that have ended
        self.form: tuple[str, str, int] | None = None
        self.resampler: Any = None
        self.mixed = False
        self.time = 0.0  # when the current run starts
        self.taken = 0  # samples that went into it
        self.parts: list[np.ndarray] = []
        self.runs: list[tuple[int, np.ndarray]] = []

    def add(self, frame: Any) -> None:
        """Take the next decoded frame."""
        if not 1000 <= frame.sample_rate <= 768_000:
            raise ClipError("audio", f"sample rate of {frame.sample_rate} Hz")
        if self.starts is None:
            first = frame.time or 0.0
            self.origin = first if self.origin is None else self.origin
            self.starts = self.time = first - self.origin
            if self.starts > MAX_GAP:
                raise ClipError("audio", f"the sound starts {self.starts:.0f} s after the picture")
        expected = self.time + (self.taken / self.form[2] if self.form else 0.0)
        time = expected if frame.time is None or self.origin is None else frame.time - self.origin
        if abs(time - expected) > MAX_GAP:
            raise ClipError(
                "audio", f"timestamps jump by {abs(time - expected):.0f} s, more than {MAX_GAP} s"
            )
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self.form or abs(time - expected) > SOUND_TOLERANCE:
            self.end_run()
            # Mixing down in float keeps swresample's own gains and leaves clipping to finish().
            self.resampler = AudioResampler("flt", "mono", SAMPLE_RATE)
            self.mixed = self.mixed or frame.layout.nb_channels > 1
            self.form, self.time, self.taken = form, time, 0
        self.parts.extend(part.to_ndarray()[0] for part in self.resampler.resample(frame))
        self.taken += frame.samples

    def end_run(self) -> None:
        """Flush the resampler and put the run in its place."""
        if self.form is not None:
            self.parts.extend(
                part.to_ndarray()[0] for part in self.resampler.resample(None) if part is not None
            )
            # Damaged float sound may hold anything.
            run = np.nan_to_num(np.concatenate(self.parts), copy=False, posinf=1.0, neginf=-1.0)
            self.runs.append((round(self.time * SAMPLE_RATE), run))
            self.duration += self.taken / self.form[2]
            self.parts = []

    def finish(self) -> Sound:
        """Lay the runs out from time zero."""
        self.end_run()
        if self.starts is None:
            raise ClipError("audio", "no sound can be decoded")
        loudest = max((float(np.abs(run).max()) for _, run in self.runs if run.size), default=0.0)
        # swresample mixes at constant power, so that loud channels can pass full scale together: turned down,
        # not clipped. No layout adds up to more than 4; what is beyond that is damage.
        scale = 32767 / min(loudest, 4.0) if self.mixed and loudest > 1 else 32768
        samples = np.zeros(max(0, *(position + len(run) for position, run in self.runs)), np.int16)
        end = 0
        for position, run in self.runs:
            cut = max(0, end - position)
            if cut < len(run):
                end = position + len(run)
                samples[position + cut : end] = np.rint(run[cut:] * scale).clip(-32768, 32767)
        if not end:
            raise ClipError("audio", "the sound ends before the picture starts")
        return Sound(samples, self.starts, self.duration)


def image(path: Path) -> np.ndarray:
    """Read a still picture, upright by its EXIF orientation.

    16-bit pictures keep their upper 8 bits; an alpha channel is dropped, colours under it stay as stored.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        ClipError: step ``image``; no file, not an image, cut short, or a side of more than 8192 pixels.
    """
    path = Path(path)
    _check_file(path, "image")
    try:
        with Image.open(BytesIO(path.read_bytes())) as picture:
            if max(picture.size) > MAX_SIDE:
                width, height = picture.size
                raise ClipError("image", f"picture of {width}x{height} pixels is larger than {MAX_SIDE}")
            ImageOps.exif_transpose(picture, in_place=True)
            if picture.mode.startswith("I"):  # 16 bits of grey; converting would clip, not scale
                grey = (np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise ClipError("image", f"picture is larger than {MAX_SIDE} pixels a side") from error
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise ClipError("image", "damaged, or not an image") from error


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    fps: float | Fraction = FPS,
    samples: np.ndarray | None = None,
    sample_rate: int = SAMPLE_RATE,
    crf: int = 18,
) -> None:
    """Write an MP4 that plays everywhere: H.264 4:2:0 and, with ``samples``, AAC; same input, same bytes.

    H.264 4:2:0 holds even sizes only: a picture of odd width or height gets its last column or row twice, so
    that pixel coordinates stay as they are. The file appears under its name when it is complete, not before.

    Args:
        path: the file; its folder must exist.
        frames: uint8 (height, width, 3), RGB, all of one size; at least one.
        fps: frames a second.
        samples: int16 (n,), mono; the first one is heard with the first frame.
        sample_rate: of ``samples``, one of :data:`AAC_RATES`.
        crf: x264's constant rate factor; 0 is lossless but for the conversion of colours.

    Raises:
        ValueError: no frames, arrays of another type or shape, or a sample rate that AAC does not have.
        OSError: the file cannot be written (a full disk, no such folder).
    """
    path = Path(path)
    rate = Fraction(fps).limit_denominator(1001)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    options = {"fflags": "+bitexact", "movflags": "+faststart"}
    try:
        with av.open(f"file:{temporary}", "w", format="mp4", options=options) as container:
            _encode(container, frames, rate, samples, sample_rate, crf)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _encode(
    container: Any,
    frames: Iterable[np.ndarray],
    rate: Fraction,
    samples: np.ndarray | None,
    sample_rate: int,
    crf: int,
) -> None:
    picture = container.add_stream("libx264", rate=rate, options={"crf": str(crf), **_X264})
    picture.pix_fmt = "yuv420p"
    picture.codec_context.thread_count = 1
    picture.codec_context.flags |= Flags.bitexact
    voice = None
    if samples is not None:
        samples = np.ascontiguousarray(samples)
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise ValueError(f"samples are {samples.dtype} {samples.shape}, not int16 (n,)")
        if sample_rate not in AAC_RATES:
            raise ValueError(f"AAC has no sample rate of {sample_rate} Hz")
        voice = container.add_stream("aac", rate=sample_rate, layout="mono")
        voice.codec_context.bit_rate = min(128_000, 6 * sample_rate)
        voice.codec_context.flags |= Flags.bitexact
    reformatter = VideoReformatter()
    shape: tuple[int, ...] = ()
    spoken = 0

    def speak(until: int) -> None:
        """Encode the sound up to a sample, so that the file is interleaved and nothing piles up in memory."""
        nonlocal spoken
        if samples is None or voice is None or until <= spoken:
            return
        block = AudioFrame.from_ndarray(samples[None, spoken:until], format="s16", layout="mono")
        block.sample_rate = sample_rate
        block.pts = spoken
        block.time_base = Fraction(1, sample_rate)
        container.mux(voice.encode(block))
        spoken = until

    for number, rgb in enumerate(frames):
        if not shape:
            shape = rgb.shape
            if rgb.dtype != np.uint8 or rgb.ndim != 3 or shape[2] != 3 or not rgb.size:
                raise ValueError(f"frames are {rgb.dtype} {shape}, not uint8 (height, width, 3)")
            picture.width, picture.height = shape[1] + shape[1] % 2, shape[0] + shape[0] % 2
        if rgb.shape != shape:
            raise ValueError(f"frame {number} is {rgb.shape}, the first one is {shape}")
        if shape[0] % 2 or shape[1] % 2:
            rgb = np.pad(rgb, ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0)), mode="edge")
        frame = reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"),
            format="yuv420p",
            interpolation=_EXACT,
            threads=1,
        )
        frame.pts = number
        frame.time_base = 1 / rate
        container.mux(picture.encode(frame))
        if samples is not None:
            speak(min(len(samples), int((number + 1) * sample_rate / rate)))
    if not shape:
        raise ValueError("there are no frames to write")
    container.mux(picture.encode(None))
    if samples is not None and voice is not None:
        speak(len(samples))
        container.mux(voice.encode(None))
