"""How a video is coded, and coding other pictures in the same way: what the truth looks like in such a file."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.clips.job import Codec
from prep.errors import ClipError

#: FFmpeg's name of a coding → its encoder.
ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "mpeg4": "mpeg4",
    "msmpeg4v3": "msmpeg4",
    "mpeg2video": "mpeg2video",
    "mjpeg": "mjpeg",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
}
#: Codings that lose nothing but what the format of their pixels loses.
LOSSLESS = frozenset({"ffv1", "ffvhuff", "huffyuv", "png", "rawvideo", "utvideo"})

#: How far, as a ratio, the bit rate of the coded truth may be from that of the prediction, and how often it is tried.
RATE_TOLERANCE = 0.02
RATE_ATTEMPTS = 8


@dataclass(frozen=True)
class _Knob:
    """What is turned until the bit rate is right, on a scale on which its logarithm falls about evenly.

    Attributes:
        options: value and wanted bit rate → options of the encoder.
        start: the first value that is tried.
        low: the finest.
        high: the coarsest.
        step: between values that differ.
        halves: by how much the value grows where the bit rate halves, about.
    """

    options: Callable[[float, int], dict[str, str]]
    start: float
    low: float
    high: float
    step: float = 1.0
    halves: float = 6.0


def _crf(value: float, wanted: int) -> dict[str, str]:
    # "b" of 0: libvpx would else take the quality for a limit.
    return {"crf": f"{value:g}", "b": "0"}


def _asked(value: float, wanted: int) -> dict[str, str]:
    return {"b": str(round(min(max(wanted * 2 ** (-value / 6), 1_000), 2**31 - 1)))}


_RATE = _Knob(_asked, 0.0, -48.0, 48.0, step=0.1)
# Constant quality where the encoder has it on one scale; the others, whose usual files are of a rate that was asked
# for, are asked for more or less.
_KNOBS = {
    "libx264": _Knob(_crf, 23.0, 1.0, 51.0, step=0.1),
    "libx265": _Knob(_crf, 28.0, 1.0, 51.0, step=0.1),
    "libvpx-vp9": _Knob(_crf, 32.0, 1.0, 63.0, halves=10.0),
    "libsvtav1": _Knob(_crf, 35.0, 1.0, 63.0, halves=10.0),
}

# Options for one thread, since threads move an encoder's decisions. mbtree: x264's assembly for it reads memory
# that was never written, and now and then other bytes come out.
_OPTIONS = {
    "libx264": {"mbtree": "0"},
    "libx264rgb": {"mbtree": "0", "preset": "ultrafast", "qp": "0"},
    "libx265": {"x265-params": "pools=none:frame-threads=1:log-level=none"},
    "libvpx": {"deadline": "good", "cpu-used": "4"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "4", "row-mt": "0"},
    "libsvtav1": {"preset": "8", "svtav1-params": "lp=1"},
}
# The same bytes on every processor: SWS_BICUBIC, SWS_ACCURATE_RND, SWS_BITEXACT.
_EXACT = 0x4 | 0x40000 | 0x80000


def probe_codec(path: Path) -> Codec:
    """How the picture of a file is coded; nothing but its first frame is decoded.

    The bit rate is that of the packets over the length at 25 fps; what the container's header says is not trusted.

    Raises:
        ClipError: step ``video``; the file cannot be read, or there is no encoder for its coding.
    """
    from prep import rates, video_reading

    n_frames = video_reading.probe(path).n_frames
    with _opened(path) as container:
        context = _pictures(container).codec_context
        coding, pix_fmt = context.codec.canonical_name, context.pix_fmt
    if coding in LOSSLESS:
        return Codec(coding, convertible(pix_fmt, coding))
    encoder = checked_encoder(ENCODERS.get(coding, ""), pix_fmt, coding)
    return Codec(encoder, pix_fmt, max(1, round(picture_bits(path) * rates.FPS / n_frames)))


def reencode(frames: Iterable[np.ndarray], codec: Codec) -> Iterator[np.ndarray]:
    """Code frames and decode them again, as many and of the same size; same input, same output.

    What a file does not tell of its encoder (preset, group of pictures) stays at the default; it runs in one thread,
    at 25 fps. Where the codec has a bit rate, its constant quality, or what is asked of its rate control, is sought
    until the file has that rate within 2 %, in at most eight attempts, and the nearest file counts; qualities in whole
    numbers may come no nearer than 10 %. (x264, asked for the rate itself, gives two thirds of it on a clip of a
    second, and pictures 3 dB worse than at the constant quality of the same rate, at which most files are made.)
    Pictures pass through a temporary folder, and memory holds few of them at a time.

    Args:
        frames: uint8 (H, W, 3), RGB. Odd sides are filled up by repeating the last row or column, and cut back.
        codec: how. Lossless codings are the conversion to their pixel format and back.

    Yields:
        uint8 (H, W, 3), RGB, converted as by :func:`prep.video_reading.frames`.

    Raises:
        ClipError: step ``video``; the encoder refuses the frames, or does not give all of them back.
        OSError: the temporary folder is full.
    """
    if codec.name in LOSSLESS:
        yield from _converted(frames, codec.pix_fmt)
        return
    from prep import video_reading

    with TemporaryDirectory(prefix="bench-codec-") as folder:
        coded, height, width, n_frames = code_file(Path(folder), frames, codec)
        if not n_frames:
            return
        given = 0
        for frame in video_reading.frames(coded, crop=(0, 0, width, height)):
            given += 1
            yield frame
        if given != n_frames:
            raise ClipError("video", f"{codec.name} gave {given} of {n_frames} frames back")


def code_file(folder: Path, frames: Iterable[np.ndarray], codec: Codec) -> tuple[Path, int, int, int]:
    """The coded file, and height, width and number of the frames in it."""
    if codec.bit_rate is None:
        path = folder / "coded.mkv"
        return path, *write_coded(path, frames, codec, {"crf": str(codec.crf)})
    from prep import rates, video_reading

    # Every attempt takes the frames anew; coded without loss, at a tenth of their size.
    whole = folder / "whole.mkv"
    shape = write_coded(whole, frames, Codec("libx264rgb", "rgb24"), {})
    if not shape[2]:
        return whole, *shape
    knob = _KNOBS.get(codec.name, _RATE)
    excess: dict[float, float] = {}
    value = knob.start
    while value not in excess and len(excess) < RATE_ATTEMPTS:
        path = folder / f"{value:g}.mkv"
        write_coded(path, video_reading.frames(whole), codec, knob.options(value, codec.bit_rate))
        found = math.log(picture_bits(path) * rates.FPS / shape[2] / codec.bit_rate)
        # The same again, and still all on one side: the encoder is at its finest or coarsest.
        stuck = found in excess.values() and len({known > 0 for known in excess.values()}) == 1
        excess[value] = found
        if stuck or abs(found) <= math.log1p(RATE_TOLERANCE):
            break
        value = _nearer(excess, knob)
    best = min(excess, key=lambda value: (abs(excess[value]), value))
    return folder / f"{best:g}.mkv", *shape


def _nearer(excess: Mapping[float, float], knob: _Knob) -> float:
    """The next value to try, from the excess of the bit rate, as a logarithm, at those that were tried so far.

    Before there is a value on either side: by the scale's usual slope. Then the Illinois form of regula falsi: an end
    that stays where it is weighs half as much every time.
    """
    fine = max((value for value in excess if excess[value] > 0), default=None)
    coarse = min((value for value in excess if excess[value] <= 0), default=None)
    last = next(reversed(excess))
    if fine is None or coarse is None:
        value = last + excess[last] / math.log(2) * knob.halves
    else:
        side = excess[last] > 0
        run = len(list(takewhile(lambda value: (excess[value] > 0) == side, reversed(excess))))
        above, below = excess[fine], -excess[coarse]
        stays = 0.5 ** (run - 1)
        above, below = (above, below * stays) if side else (above * stays, below)
        value = fine + (coarse - fine) * above / (above + below)
    value = min(max(value, knob.low), knob.high)
    return round(round(value / knob.step) * knob.step, 6)


def write_coded(
    path: Path, frames: Iterable[np.ndarray], codec: Codec, rate: dict[str, str]
) -> tuple[int, int, int]:
    """Write frames to a Matroska file; returns their height, width and number."""
    import av
    from av.codec.context import Flags
    from av.video.reformatter import VideoReformatter

    from prep.rates import FPS

    # SVT-AV1 would tell standard error all about itself.
    os.environ.setdefault("SVT_LOG", "0")
    reformatter = VideoReformatter()
    height = width = count = 0
    try:
        with av.open(f"file:{path}", "w", format="matroska", options={"fflags": "+bitexact"}) as container:
            stream: Any = container.add_stream(
                codec.name, rate=FPS, options={**_OPTIONS.get(codec.name, {}), **rate}
            )
            stream.pix_fmt = codec.pix_fmt
            stream.codec_context.thread_count = 1
            stream.codec_context.flags |= Flags.bitexact
            for rgb in frames:
                if not count:
                    height, width = rgb.shape[:2]
                    stream.height, stream.width = height + height % 2, width + width % 2
                picture = _formatted(_even(rgb), reformatter, codec.pix_fmt)
                picture.pts, picture.time_base = count, Fraction(1, FPS)
                container.mux(stream.encode(picture))
                count += 1
            if count:
                container.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(errno.ENOSPC, "the disk of the temporary folder is full") from error
        raise ClipError(
            "video", f"{codec.name} cannot write {width}x{height} pixels in {codec.pix_fmt}"
        ) from error
    return height, width, count


def _even(rgb: np.ndarray) -> np.ndarray:
    height, width = rgb.shape[:2]
    if height % 2 or width % 2:
        return np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(rgb)


def _formatted(rgb: np.ndarray, reformatter: Any, pix_fmt: str) -> Any:
    from av.video.frame import VideoFrame

    frame = VideoFrame.from_ndarray(rgb, format="rgb24")
    return reformatter.reformat(frame, format=pix_fmt, interpolation=_EXACT, threads=1)


def _converted(frames: Iterable[np.ndarray], pix_fmt: str) -> Iterator[np.ndarray]:
    """To a pixel format and back."""
    from av.video.reformatter import VideoReformatter

    there, back = VideoReformatter(), VideoReformatter()
    for rgb in frames:
        height, width = rgb.shape[:2]
        frame = back.reformat(_formatted(_even(rgb), there, pix_fmt), format="rgb24", threads=1)
        yield frame.to_ndarray()[:height, :width]


def convertible(pix_fmt: str, coding: str) -> str:
    """The pixel format. Raises ClipError where nothing can be converted to it (a palette)."""
    import av

    try:
        list(_converted([np.zeros((2, 2, 3), np.uint8)], pix_fmt))
    except (av.FFmpegError, ValueError):
        raise ClipError("video", f"nothing can be coded as {coding} in {pix_fmt} here") from None
    return pix_fmt


def checked_encoder(encoder: str, pix_fmt: str, coding: str) -> str:
    """The encoder's name. Raises ClipError where this build of FFmpeg lacks it, or it the pixel format."""
    from av.codec.codec import Codec as Encoder
    from av.codec.codec import UnknownCodecError

    try:
        formats = Encoder(encoder, "w").video_formats or ()
    except UnknownCodecError:
        raise ClipError("video", f"there is no encoder for {coding} here") from None
    if pix_fmt not in {form.name for form in formats}:
        raise ClipError("video", f"the encoder {encoder} has no pixel format {pix_fmt}")
    return encoder


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file that :func:`prep.video_reading.probe` has found to be a video."""
    import av

    try:
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            yield container
    except av.FFmpegError as error:
        raise ClipError("video", "damaged, or not a media file") from error


def _pictures(container: Any) -> Any:
    """The first stream of moving pictures."""
    from av.stream import Disposition

    return next(s for s in container.streams.video if not s.disposition & Disposition.attached_pic)


def picture_bits(path: Path) -> int:
    """Bits of the picture's packets."""
    with _opened(path) as container:
        return 8 * sum(packet.size for packet in container.demux(_pictures(container)))
