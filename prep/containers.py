"""Opens media files with checks, through PyAV: the common part of reading video and sound.

Files are not trusted. Every problem of a file becomes a :class:`prep.errors.ClipError` whose reason is the same on
every run. Only local files are opened, and only by demuxers that open no other files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import av
from av.format import Flags
from av.stream import Disposition

from prep.clock import Clock, ClockReader
from prep.errors import ClipError

#: Longest accepted side of a frame, in pixels.
MAX_SIDE = 8192
#: Largest accepted distance in seconds between two consecutive frames (or audio frames).
MAX_GAP = 10
#: Number of packets that may fail to decode before the file counts as unusable.
MAX_BAD_PACKETS = 100

# Demuxers that read one file only; playlists (concat, hls, dash) would open other files.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,m4v,flv,asf,ogg,"
    "wav,w64,aiff,au,mp3,aac,ac3,flac,caf,amr,mxf,ivf,dv,gif,yuv4mpegpipe"
)


def _words(error: BaseException) -> str:
    """A readable reason without addresses and paths, the same on every run."""
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


def check_file(path: Path, step: str) -> os.stat_result:
    """The file's status. Raises ClipError if it does not exist, is not a file, or is empty."""
    try:
        status = path.stat()
    except OSError as error:
        raise ClipError(step, _words(error)) from error
    if not path.is_file():  # opening a pipe would block forever
        raise ClipError(step, "not a file")
    if status.st_size == 0:
        raise ClipError(step, "the file is empty")
    return status


@contextmanager
def opened(path: Path, step: str) -> Iterator[Any]:
    """Open a media file. Errors of the file inside the block become a ClipError."""
    check_file(path, step)
    options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    try:
        with av.open(f"file:{path}", options=options, metadata_errors="replace") as container:
            yield container
    except (av.FFmpegError, OSError, MemoryError, ValueError, OverflowError) as error:
        raise ClipError(step, _words(error)) from error


def check_size(width: int, height: int) -> None:
    """Raise ClipError if a frame is too large."""
    if max(width, height) > MAX_SIDE:
        raise ClipError("video", f"frame of {width}x{height} pixels is larger than {MAX_SIDE}")


#: Streams that stand beside the programme: read only if there is no other.
_ASIDE = (
    Disposition.comment
    | Disposition.lyrics
    | Disposition.karaoke
    | Disposition.visual_impaired  # audio description
    | Disposition.descriptions
    | Disposition.clean_effects
    | Disposition.non_diegetic
    | Disposition.timed_thumbnails
    | Disposition.still_image
    | Disposition.metadata
    | Disposition.dependent
)


def video_stream(container: Any) -> Any:
    """The video stream that is to be read, set up for decoding in this thread.

    A stream that can be decoded; not the cover of an album; rather none that is marked as a thumbnail, a still image, a
    comment or for description; then one that is marked default; then the first.

    Raises:
        ClipError: step ``video``; no video stream, none that can be decoded, or its frames are too large.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise ClipError("video", "no video stream")
    for stream in sorted(streams, key=_rank):
        if (context := stream.codec_context) is None:
            continue
        check_size(context.width, context.height)
        context.thread_type = "NONE"
        context.thread_count = 1
        # A damaged header must not make the decoder allocate gigabytes.
        context.options = {"max_pixels": str(MAX_SIDE * MAX_SIDE)}
        if _opens(context):
            return stream
    raise ClipError("video", "uses a coding that is not supported")


def audio_stream(container: Any, track: int | None = None) -> Any:
    """The sound stream that is to be read, set up for decoding in this thread.

    Args:
        container: an open file.
        track: which sound stream, from 0, as in ``ffmpeg -map 0:a:N``. None: one that can be decoded; rather none
            that is marked as audio description, comment or karaoke; then one that is marked default; then the first.

    Raises:
        ClipError: step ``audio``; there is no such stream, or it cannot be decoded.
    """
    streams = container.streams.audio
    if not streams:
        raise ClipError("audio", "no audio stream")
    if track is not None and not 0 <= track < len(streams):
        known = (
            "1 sound track: 0"
            if len(streams) == 1
            else f"{len(streams)} sound tracks: 0 to {len(streams) - 1}"
        )
        raise ClipError("audio", f"no sound track {track}, the file has {known}")
    for stream in sorted(streams, key=_rank) if track is None else [streams[track]]:
        if (context := stream.codec_context) is None:
            continue
        context.thread_count = 1
        if _opens(context):
            return stream
    which = "" if track is None else f"sound track {track} of {len(streams)} "
    raise ClipError("audio", f"{which}uses a coding that is not supported")


def _rank(stream: Any) -> tuple[bool, bool, bool]:
    """Sorts the stream to be read first to the front; streams that a file declares and lacks have no size and rate."""
    context = stream.codec_context
    empty = context is None or not (context.width if stream.type == "video" else context.sample_rate)
    return bool(stream.disposition & _ASIDE), empty, not stream.disposition & Disposition.default


def _opens(context: Any) -> bool:
    """Whether the decoder accepts the stream's parameters."""
    try:
        context.open(strict=False)
    except (av.FFmpegError, ValueError, MemoryError):
        return False
    return True


_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
#: Formats whose packets have timestamps of their own; in others, times are counted or are in one table.
_STORE_TIMES = (_MP4, "matroska,webm", "mpegts", "mpeg", "ogg", "flv", "asf")
#: Formats with one head a file, of which FFmpeg reads the first file only (of Matroska, the first two).
_ONE_HEAD = ("matroska,webm", "flv", "asf")
_REMEDY = "with `ffmpeg -f concat`"
_JOINED = f"another file is joined to its end, which cannot be read: join recordings {_REMEDY}"


def read_packets(container: Any, stream: Any) -> Iterator[Any]:
    """All packets of a stream, in the order of the file, on one continuous clock, see :mod:`prep.clock`.

    Raises:
        ClipError: the times of the file begin anew and cannot be continued, or it ends with another file.
    """
    clock = _clock(container, stream)
    shifts = {} if clock is None else clock.shifts.get(stream.index, {})
    number = ticks = 0
    try:
        for packet in container.demux(stream):
            if packet.size:
                ticks = round(shifts[number] / stream.time_base) if number in shifts else ticks
                number += 1
            if ticks and packet.pts is not None:
                packet.pts += ticks
            if ticks and packet.dts is not None:
                packet.dts += ticks
            yield packet
    except IndexError:
        return  # at the end, PyAV fails on streams that the file declares late; all packets were read


def begins_anew(container: Any, stream: Any) -> bool:
    """Whether the times of a file begin anew; it can be read from its beginning only."""
    return _clock(container, stream) is not None


def _clock(container: Any, stream: Any) -> Clock | None:
    path, kind = Path(container.name.removeprefix("file:")), container.format.name
    if kind not in _STORE_TIMES:
        return None
    if kind == _MP4:
        boxes = [box for box, _ in _boxes(path)]
        if b"moof" not in boxes:  # the times of a track are in one table
            if boxes.count(b"moov") > 1:
                raise ClipError("video" if container.streams.video else "audio", _JOINED)
            return None
    status = path.stat()
    clock, streams = _read_clock(path, None, status.st_mtime_ns, status.st_size)
    if stream.index not in streams:
        clock, _ = _read_clock(path, stream.index, status.st_mtime_ns, status.st_size)
    return clock


# The clips of one long video share one pass; a replaced file is read again.
@lru_cache(maxsize=64)
def _read_clock(path: Path, wanted: int | None, mtime_ns: int, size: int) -> tuple[Clock | None, set[int]]:
    """The clock of picture, sound and the wanted stream, and whose it is: one pass over packets, without decoding."""
    with opened(path, "video") as container:
        step, kind = "video" if container.streams.video else "audio", container.format.name
        leading: set[int] = set()
        for choose in (video_stream, audio_stream):
            with suppress(ClipError):
                leading.add(choose(container).index)
        reader = ClockReader(leading, bool(container.format.flags & Flags.ts_discont.value), step)
        read = leading if wanted is None else leading | {wanted}
        # A recording from another device has streams of its own in MPEG-TS.
        others = {s.index for s in container.streams.video if kind == "mpegts" and s.index not in read}
        pictures = {s.index for s in container.streams.video} - others
        streams = [container.streams[index] for index in read | others]
        numbers = dict.fromkeys(read, 0)
        end, picture_ends, others_begin = 0, 0, size
        try:
            for packet in container.demux(streams):
                if not packet.size:
                    continue
                index, unit, place = packet.stream_index, float(packet.time_base), packet.pos or 0
                if index in others:
                    others_begin = min(others_begin, place)
                    continue
                if index in pictures:
                    picture_ends = max(picture_ends, place)
                number, numbers[index] = numbers[index], numbers[index] + 1
                if packet.dts is not None:
                    shown = packet.dts if packet.pts is None else packet.pts
                    reader.add(index, number, packet.dts * unit, shown * unit, (packet.duration or 0) * unit)
                end = max(end, place + packet.size)
        except IndexError:
            pass  # as in read_packets
        if 0 < picture_ends < others_begin < size or (kind in _ONE_HEAD and _joined_after(path, end)):
            raise ClipError(step, _JOINED)
        clock = reader.clock()
        if clock is not None and kind == _MP4:
            # FFmpeg marks fragments with earlier times as left out by an edit list.
            raise ClipError(
                step, f"its times begin anew at {reader.begins[1]:.1f} s: join recordings {_REMEDY}"
            )
        return clock, read


def _joined_after(path: Path, end: int) -> bool:
    """Whether the head of a file stands once more behind its last packet."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        return data.find(data[:9], end) >= 0


def decoded(packets: Iterable[Any], stream: Any, step: str) -> Iterator[Any]:
    """Decode packets to the end of the stream; packets that cannot be decoded are skipped, up to a limit."""
    bad = 0
    for packet in packets:
        if not packet.size:
            continue  # the decoder treats an empty packet as the end of the stream
        try:
            yield from stream.decode(packet)
        except av.FFmpegError as error:
            bad += 1
            if bad > MAX_BAD_PACKETS:
                raise ClipError(step, f"more than {MAX_BAD_PACKETS} packets cannot be decoded") from error
    try:
        yield from stream.decode(None)
    except av.FFmpegError:
        return  # the decoder has no more frames


def cut_short(path: Path, container: str) -> bool:
    """Whether a file of the MP4 family, an AVI or a Matroska file is shorter than its headers say."""
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
    if not container.startswith("mov"):
        return False
    return max((end for _, end in _boxes(path)), default=0) > size


def _boxes(path: Path) -> Iterator[tuple[bytes, int]]:
    """The kinds of the outer boxes of an MP4 file, and where each ends by its header."""
    size = path.stat().st_size
    position = 0
    with path.open("rb") as file:
        while position + 8 <= size:
            file.seek(position)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if length < 8:
                return  # 0 is "to the end of the file"; anything else is no box
            position += length
            yield head[4:8], position
