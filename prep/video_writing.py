"""Writes video and sound through PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.codec.context import Flags
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from prep.rates import FPS, SAMPLE_RATE

#: Sample rates that AAC supports, in Hz.
AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
# mbtree is off: x264's assembly code for it reads uninitialised memory, so its output sometimes differs. # The
# rest: RGB is converted to YUV by the matrix of BT.601; without the tag, players use BT.709 for larger frames.
_X264 = {"mbtree": "0", "colorspace": "smpte170m", "color_range": "tv"}
# The same bytes on every processor: the rounding of swscale's fast paths depends on the processor.
_EXACT = 0x4 | 0x40000 | 0x80000  # SWS_BICUBIC, SWS_ACCURATE_RND, SWS_BITEXACT


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

    H.264 4:2:0 needs even sizes: in frames of odd width or height the last column or row is repeated, so pixel
    coordinates do not change. The file is renamed to ``path`` only when it is complete.

    Args:
        path: the file; its folder must exist.
        frames: uint8 (height, width, 3), RGB, all of one size; at least one.
        fps: frames per second.
        samples: int16 (n,), mono; the first sample belongs to the first frame.
        sample_rate: of ``samples``, one of :data:`AAC_RATES`.
        crf: x264's constant rate factor; 0 is lossless except for the conversion of colours.

    Raises:
        ValueError: no frames, arrays of another type or shape, or a sample rate that AAC does not support.
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
        """Encode the sound up to a sample, so that the file is interleaved and little data is in memory."""
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
