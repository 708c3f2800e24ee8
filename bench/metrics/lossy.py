"""The lossy encodings, done by FFmpeg, between the reference's frames and SyncNet.

``ffmpeg -f image2 %06d.jpg`` without a quality uses the default of FFmpeg's JPEG encoder, 200 kb/s. Its rate control
depends on earlier frames. So one video needs one encoder, and the frames in order: the first images have high quality;
if the target cannot be met, the quantiser rises to about 25.

One thread everywhere: with more threads, slices give other bytes. PyAV is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.common.errors import Unavailable
from bench.metrics.base import Image
from prep.installing import install

FPS = 25
# The same samples on every processor: bicubic, accurate rounding, no fast paths.
_EXACT = 0x4 | 0x40000 | 0x80000
_BT601, _LIMITED, _FULL = 5, 1, 2
# Equivalent to `-qscale 2`, which sets the quality of each frame. PyAV cannot do that. Limits on the rate control
# that # leave a single choice give the same quantiser and the same multiplier.
_QSCALE_2 = {"qmin": "2", "qmax": "2", "i_qfactor": "1"}


def require_av() -> None:
    """Raises :class:`bench.common.errors.Unavailable` if PyAV is not installed."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise Unavailable("PyAV is not installed", install()) from error


class JpegEncoder:
    """FFmpeg's ``mjpeg`` encoder over the frames of one video, in order.

    Args:
        fixed: quantiser 2 throughout (``-qscale:v 2``), not 200 kb/s.
    """

    def __init__(self, fixed: bool = False) -> None:
        from av.video.reformatter import VideoReformatter

        self.options = _QSCALE_2 if fixed else {}
        self.reformatter = VideoReformatter()
        self.codec: Any = None
        self.count = 0

    def encode(self, picture: Image | Any) -> bytes:
        """The next picture as a JPEG file.

        Args:
            picture: (H, W, 3) uint8, RGB; or a decoded frame of PyAV in limited range. All of one size.
        """
        from av.video.frame import VideoFrame

        if isinstance(picture, np.ndarray):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            source_range = _FULL
        else:
            frame, source_range = picture, _LIMITED
        frame = self.reformatter.reformat(
            frame,
            format="yuvj420p",
            interpolation=_EXACT,
            src_colorspace=_BT601,
            dst_colorspace=_BT601,
            src_color_range=source_range,
            dst_color_range=_FULL,
            threads=1,
        )
        if self.codec is None:
            self.codec = self._open(frame.width, frame.height)
        frame.pts, frame.time_base = self.count, self.codec.time_base
        self.count += 1
        (packet,) = self.codec.encode(frame)
        return bytes(packet)

    def _open(self, width: int, height: int) -> Any:
        from av.codec import CodecContext

        codec: Any = CodecContext.create("mjpeg", "w")
        codec.width, codec.height, codec.pix_fmt = width, height, "yuvj420p"
        codec.time_base, codec.framerate = Fraction(1, FPS), Fraction(FPS)
        codec.thread_count = 1
        codec.options = self.options
        return codec


def decode_jpeg(data: bytes) -> Image:
    """What ``cv2.imread`` returns for such a file: (H, W, 3) uint8, BGR."""
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


class AviWriter:
    """``ffmpeg -qscale:v 2 -r 25 video.avi``: FFmpeg's ``mpeg4`` encoder at quantiser 2, in an AVI file.

    Args:
        path: the file.
        width: pixels.
        height: pixels.
    """

    def __init__(self, path: Path, width: int, height: int) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self.container: Any = av.open(f"file:{path}", "w", format="avi", options={"fflags": "+bitexact"})
        self.stream = self.container.add_stream("mpeg4", rate=FPS, options=_QSCALE_2)
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"
        self.stream.codec_context.thread_count = 1
        self.reformatter = VideoReformatter()
        self.count = 0

    def write(self, picture: Image) -> None:
        """Append a picture: (H, W, 3) uint8, RGB."""
        from av.video.frame import VideoFrame

        frame = self.reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"),
            format="yuv420p",
            interpolation=_EXACT,
            src_colorspace=_BT601,
            dst_colorspace=_BT601,
            src_color_range=_FULL,
            dst_color_range=_LIMITED,
            threads=1,
        )
        frame.pts, frame.time_base = self.count, Fraction(1, FPS)
        self.count += 1
        self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        """Flush the encoder and close the file."""
        self.container.mux(self.stream.encode(None))
        self.close()

    def close(self) -> None:
        """Close the file as it is; may be called again."""
        self.container.close()


def avi_frames(path: Path) -> Iterator[Any]:
    """The decoded frames of a video file, for :meth:`JpegEncoder.encode`."""
    import av

    with av.open(f"file:{path}") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        yield from container.decode(stream)
