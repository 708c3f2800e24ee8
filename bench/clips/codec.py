"""How a video is encoded, and encoding other frames in the same way, such as those of the ground truth."""

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
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bench.clips.job import Codec
from prep.errors import ClipError

if TYPE_CHECKING:
    from prep.pixels import Matrix

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
#: Lossless codings: only the conversion to their pixel format loses something.
LOSSLESS = frozenset({"ffv1", "ffvhuff", "huffyuv", "png", "rawvideo", "utvideo"})

#: How far, as a ratio, the bit rate of the coded truth may be from that of the prediction, and how often it is tried.
RATE_TOLERANCE = 0.02
RATE_ATTEMPTS = 8


@dataclass(frozen=True)
class _Knob:
    """The encoder setting that is changed until the bit rate is right. On its scale the logarithm of the bit
    rate falls about linearly.

    Attributes:
        options: value and wanted bit rate → options of the encoder.
        start: the first value that is tried.
        low: the value of the highest quality.
        high: the value of the lowest quality.
        step: smallest difference between two values that matters.
        halves: increase of the value that halves the bit rate, approximately.
    """

    options: Callable[[float, int], dict[str, str]]
    start: float
    low: float
    high: float
    step: float = 1.0
    halves: float = 6.0


def _crf(value: float, wanted: int) -> dict[str, str]:
    # "b" is 0 because libvpx would otherwise use the quality as a limit only.
    return {"crf": f"{value:g}", "b": "0"}


def _asked(value: float, wanted: int) -> dict[str, str]:
    return {"b": str(round(min(max(wanted * 2 ** (-value / 6), 1_000), 2**31 - 1)))}


_RATE = _Knob(_asked, 0.0, -48.0, 48.0, step=0.1)
# Constant quality for encoders that have one scale for it. Files of the other encoders are usually made with
# a target # bit rate, so this target is changed.
_KNOBS = {
    "libx264": _Knob(_crf, 23.0, 1.0, 51.0, step=0.1),
    "libx265": _Knob(_crf, 28.0, 1.0, 51.0, step=0.1),
    "libvpx-vp9": _Knob(_crf, 32.0, 1.0, 63.0, halves=10.0),
    "libsvtav1": _Knob(_crf, 35.0, 1.0, 63.0, halves=10.0),
}

# Options for one thread, since the number of threads changes an encoder's decisions. mbtree is off: x264's
# assembly # code for it reads uninitialised memory, so its output sometimes differs.
_OPTIONS = {
    "libx264": {"mbtree": "0"},
    "libx264rgb": {"mbtree": "0", "preset": "ultrafast", "qp": "0"},
    "libx265": {"x265-params": "pools=none:frame-threads=1:log-level=none"},
    "libvpx": {"deadline": "good", "cpu-used": "4"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "4", "row-mt": "0"},
    "libsvtav1": {"preset": "8", "svtav1-params": "lp=1"},
}


def probe_codec(path: Path) -> Codec:
    """How the video stream of a file is coded. Only the first frame is decoded.

    The bit rate is the size of the packets divided by the duration at 25 fps. The container's header is not trusted.

    Raises:
        ClipError: step ``video``; the file cannot be read, or there is no encoder for its coding.
    """
    from prep import rates, video_reading
    from prep.pixels import Colour

    info = video_reading.probe(path)
    colour = Colour.of(info)
    with _opened(path) as container:
        context = _pictures(container).codec_context
        coding, pix_fmt = context.codec.canonical_name, context.pix_fmt
    if coding in LOSSLESS:
        return Codec(coding, convertible(pix_fmt, coding), colour=colour)
    bit_rate = max(1, round(picture_bits(path) * rates.FPS / info.n_frames))
    encoder = checked_encoder(ENCODERS.get(coding, ""), pix_fmt, coding)
    return Codec(encoder, pix_fmt, bit_rate, colour=colour)


def reencode(frames: Iterable[np.ndarray], codec: Codec) -> Iterator[np.ndarray]:
    """Encode frames and decode them again: the same number, the same size. Deterministic.

    Settings that cannot be read from a file (preset, group of pictures) have the encoder's default. The encoder runs in
    one thread, at 25 fps. If the codec has a bit rate, the constant quality (or the target of the rate control) is
    varied until the file has that rate within 2 %, in at most eight attempts; the nearest file is used. Where qualities
    are whole numbers, the difference may be up to 10 %. (With a target bit rate, x264 reaches only two thirds of it on
    a clip of one second, and its frames are 3 dB worse than those of constant quality at the same rate, which is how
    most files are made.) Frames are kept in a temporary folder; only a few are in memory at a time.

    Args:
        frames: uint8 (H, W, 3), RGB. Odd sides are padded by repeating the last row or column, and cropped again
            afterwards.
        codec: how to encode. A lossless codec amounts to the conversion to its pixel format and back.

    Yields:
        uint8 (H, W, 3), RGB, decoded by the codec's own matrix as by :func:`prep.video_reading.frames`.

    Raises:
        ClipError: step ``video``; the encoder rejects the frames, or the decoder returns fewer.
        OSError: the temporary folder is full.
    """
    if codec.name in LOSSLESS:
        yield from _converted(frames, codec)
        return
    from prep import video_reading

    with TemporaryDirectory(prefix="bench-codec-") as folder:
        coded, height, width, n_frames = code_file(Path(folder), frames, codec)
        if not n_frames:
            return
        given = 0
        matrix = cast("Matrix", "tagged" if codec.pixels == "opencv" else codec.colour.matrix)
        decoded = video_reading.frames(coded, crop=(0, 0, width, height), pixels=codec.pixels, matrix=matrix)
        for frame in decoded:
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

    # Every attempt needs all frames again: they are kept losslessly coded, a tenth of their size.
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
        # The same value again, and all rates on one side: the encoder is at its highest or lowest quality.
        stuck = found in excess.values() and len({known > 0 for known in excess.values()}) == 1
        excess[value] = found
        if stuck or abs(found) <= math.log1p(RATE_TOLERANCE):
            break
        value = _nearer(excess, knob)
    best = min(excess, key=lambda value: (abs(excess[value]), value))
    return folder / f"{best:g}.mkv", *shape


def _nearer(excess: Mapping[float, float], knob: _Knob) -> float:
    """The next value to try, given the log ratio of actual to wanted bit rate at the values tried so far.

    While all values are on one side, the scale's usual slope is used. After that: the Illinois variant of regula falsi,
    which halves the weight of an end point each time it is kept.
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

    from prep.conversion import Painter, even, tag
    from prep.rates import FPS

    # Without this, SVT-AV1 prints its settings to standard error.
    os.environ.setdefault("SVT_LOG", "0")
    paint = Painter(codec.pix_fmt, codec.colour)
    height = width = count = 0
    try:
        with av.open(f"file:{path}", "w", format="matroska", options={"fflags": "+bitexact"}) as container:
            stream: Any = container.add_stream(
                codec.name, rate=FPS, options={**_OPTIONS.get(codec.name, {}), **rate}
            )
            stream.pix_fmt = codec.pix_fmt
            stream.codec_context.thread_count = 1
            stream.codec_context.flags |= Flags.bitexact
            tag(stream.codec_context, codec.colour)
            for rgb in frames:
                if not count:
                    height, width = rgb.shape[:2]
                    stream.height, stream.width = height + height % 2, width + width % 2
                picture = paint(even(rgb))
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


def _converted(frames: Iterable[np.ndarray], codec: Codec) -> Iterator[np.ndarray]:
    """To a pixel format and back."""
    from prep.conversion import Converter, Painter, even

    paint, convert = Painter(codec.pix_fmt, codec.colour), Converter(codec.pixels)
    for rgb in frames:
        height, width = rgb.shape[:2]
        yield np.ascontiguousarray(convert(paint(even(rgb)))[:height, :width])


def convertible(pix_fmt: str, coding: str) -> str:
    """Return the pixel format. Raises ClipError if frames cannot be converted to it (a palette format)."""
    import av

    try:
        list(_converted([np.zeros((2, 2, 3), np.uint8)], Codec(pix_fmt=pix_fmt)))
    except (av.FFmpegError, ValueError):
        raise ClipError("video", f"nothing can be coded as {coding} in {pix_fmt} here") from None
    return pix_fmt


def checked_encoder(encoder: str, pix_fmt: str, coding: str) -> str:
    """Return the encoder's name. Raises ClipError if this FFmpeg lacks it or it does not support the pixel format."""
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
    """The first video stream that is not a still picture."""
    from av.stream import Disposition

    return next(s for s in container.streams.video if not s.disposition & Disposition.attached_pic)


def picture_bits(path: Path) -> int:
    """Total size in bits of the packets of the video stream."""
    with _opened(path) as container:
        return 8 * sum(packet.size for packet in container.demux(_pictures(container)))
