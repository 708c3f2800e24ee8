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

from prep.conversion import Painter, even, tag
from prep.pixels import Colour
from prep.rates import FPS, SAMPLE_RATE

#: Sample rates that AAC supports, in Hz.
AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
#: Unit of the times of files with a variable frame rate, in seconds.
TIME_BASE = Fraction(1, 120_000)
#: Number of channels that AAC can be written with → its layout.
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
# mbtree is off: x264's assembly code for it reads uninitialised memory, so its output sometimes differs.
_X264 = {"mbtree": "0"}


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    fps: float | Fraction = FPS,
    samples: np.ndarray | None = None,
    sample_rate: int = SAMPLE_RATE,
    crf: int = 18,
    colour: Colour | None = None,
    sample_aspect: Fraction | None = None,
    times: Iterable[Fraction] | None = None,
) -> None:
    """Write an MP4 that plays everywhere: H.264 4:2:0 and, with ``samples``, AAC; same input, same bytes.

    H.264 4:2:0 needs even sizes: in frames of odd width or height the last column or row is repeated, so pixel
    coordinates do not change. The file is renamed to ``path`` only when it is complete.

    Args:
        path: the file; its folder must exist.
        frames: uint8 (height, width, 3), RGB, all of one size; at least one.
        fps: frames per second.
        samples: int16 or float32 (-1 to 1), (n,) mono or (n, channels); the first sample belongs to the first frame.
        sample_rate: of ``samples``, one of :data:`AAC_RATES`.
        crf: x264's constant rate factor; 0 is lossless except for the conversion of colours.
        colour: by which the RGB is converted, and with which the file is tagged; None: BT.601.
        sample_aspect: width of a pixel divided by its height; None: square.
        times: seconds of each frame, rising from 0, one for each frame, for a variable frame rate; None: by ``fps``.

    Raises:
        ValueError: no frames, arrays of another type or shape, a sample rate or a number of channels that AAC does not
            support, or times that do not rise or are fewer than the frames.
        OSError: the file cannot be written (a full disk, no such folder).
    """
    path = Path(path)
    rate = _rate(fps)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    options = {"fflags": "+bitexact", "movflags": "+faststart"}
    try:
        with av.open(f"file:{temporary}", "w", format="mp4", options=options) as container:
            sound = None if samples is None else _Sound(container, samples, sample_rate)
            _encode(container, frames, rate, crf, colour or Colour(), sample_aspect, times, sound)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _rate(fps: float | Fraction) -> Fraction:
    """The rate as a fraction; rates such as 59.94 are exactly 60000/1001."""
    exact = Fraction(fps)
    if exact.denominator <= 1001:
        return exact
    nominal = Fraction(round(exact * 1001 / 1000) * 1000, 1001)
    return nominal if abs(nominal - exact) < Fraction(1, 200) else exact.limit_denominator(1001)


class _Sound:
    """The sound of a file that is being written, encoded little by little."""

    def __init__(self, container: Any, samples: np.ndarray, rate: int) -> None:
        samples = np.ascontiguousarray(samples)
        if samples.dtype not in (np.int16, np.float32) or samples.ndim not in (1, 2):
            raise ValueError(
                f"samples are {samples.dtype} {samples.shape}, not int16 or float32 (n,) or (n, channels)"
            )
        if rate not in AAC_RATES:
            raise ValueError(f"AAC has no sample rate of {rate} Hz")
        self.samples = samples[:, None] if samples.ndim == 1 else samples
        channels = self.samples.shape[1]
        if channels not in LAYOUTS:
            raise ValueError(f"AAC has no layout of {channels} channels")
        self.rate = rate
        self.container = container
        self.written = 0
        self.stream = container.add_stream("aac", rate=rate, layout=LAYOUTS[channels])
        self.stream.codec_context.bit_rate = min(128_000, 6 * rate) * channels
        self.stream.codec_context.flags |= Flags.bitexact

    def write(self, until: int) -> None:
        """Encode up to a sample, so that the file is interleaved and little data is in memory."""
        until = min(until, len(self.samples))
        if until <= self.written:
            return
        part = self.samples[self.written : until]
        form = "s16" if part.dtype == np.int16 else "flt"
        block = AudioFrame.from_ndarray(part.reshape(1, -1), format=form, layout=self.stream.layout.name)
        block.sample_rate = self.rate
        block.pts = self.written
        block.time_base = Fraction(1, self.rate)
        self.container.mux(self.stream.encode(block))
        self.written = until

    def finish(self) -> None:
        """Encode the rest."""
        self.write(len(self.samples))
        self.container.mux(self.stream.encode(None))


def _encode(
    container: Any,
    frames: Iterable[np.ndarray],
    rate: Fraction,
    crf: int,
    colour: Colour,
    sample_aspect: Fraction | None,
    times: Iterable[Fraction] | None,
    sound: _Sound | None,
) -> None:
    picture = container.add_stream("libx264", rate=rate, options={"crf": str(crf), **_X264})
    picture.pix_fmt = "yuv420p"
    picture.codec_context.thread_count = 1
    picture.codec_context.flags |= Flags.bitexact
    tag(picture.codec_context, colour)
    if sample_aspect is not None:
        picture.codec_context.sample_aspect_ratio = sample_aspect
    time_base = 1 / rate if times is None else TIME_BASE
    if times is not None:
        picture.codec_context.time_base = picture.time_base = time_base
    when = None if times is None else iter(times)
    paint = Painter("yuv420p", colour)
    shape: tuple[int, ...] = ()
    last = -1
    for number, rgb in enumerate(frames):
        if not shape:
            shape = rgb.shape
            if rgb.dtype != np.uint8 or rgb.ndim != 3 or shape[2] != 3 or not rgb.size:
                raise ValueError(f"frames are {rgb.dtype} {shape}, not uint8 (height, width, 3)")
            picture.width, picture.height = shape[1] + shape[1] % 2, shape[0] + shape[0] % 2
        if rgb.shape != shape:
            raise ValueError(f"frame {number} is {rgb.shape}, the first one is {shape}")
        frame = paint(even(rgb))
        pts = number
        if when is not None:
            seconds = next(when, None)
            pts = -1 if seconds is None else round(Fraction(seconds) / time_base)
            if pts <= last:
                raise ValueError(
                    f"frame {number} has no time, or one that is not after that of the frame before"
                )
        frame.pts, frame.time_base, last = pts, time_base, pts
        container.mux(picture.encode(frame))
        if sound is not None:
            sound.write(int((pts + 1) * time_base * sound.rate))
    if not shape:
        raise ValueError("there are no frames to write")
    container.mux(picture.encode(None))
    if sound is not None:
        sound.finish()
