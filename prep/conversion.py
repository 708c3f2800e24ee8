"""Decoded frames become RGB, and RGB becomes frames to encode. Every conversion of colours is here.

``exact`` follows ITU-R BT.601, BT.709 and BT.2020 by the frame's own tags, with correct rounding and interpolated
chroma; ``opencv`` equals OpenCV's reader before 4.13.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from prep.pixels import UNTAGGED_MATRIX, Colour, Matrix, Pixels

# FFmpeg's numbers (AVColorSpace, which are those of ITU-T H.273).
_MATRICES = {0: "rgb", 1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
_SPACES = {"bt709": 1, "bt601": 6, "bt2020": 9}
_LIMITED, _FULL = 1, 2
# Transfer characteristics.
_LIGHTS = {16: "pq", 18: "hlg"}
# SWS_BICUBIC, SWS_ACCURATE_RND, SWS_BITEXACT, SWS_FULL_CHR_H_INP, SWS_FULL_CHR_H_INT
_EXACT = 0x4 | 0x40000 | 0x80000 | 0x4000 | 0x2000


def matrix_of(frame: VideoFrame) -> str | None:
    """The matrix that a decoded frame is tagged with; None: it is not tagged with one that is known."""
    if frame.format.is_rgb:
        return "rgb"
    return _MATRICES.get(int(frame.colorspace))


def light_of(frame: VideoFrame) -> str:
    """``hlg`` or ``pq`` by the tag of the transfer characteristic, otherwise ``sdr``."""
    return _LIGHTS.get(int(frame.color_trc), "sdr")


def untagged(frame: VideoFrame) -> str:
    """The matrix of a frame that is tagged with none: that of HDR, or :data:`prep.pixels.UNTAGGED_MATRIX`."""
    return UNTAGGED_MATRIX if light_of(frame) == "sdr" else "bt2020"


def colour_of(frame: VideoFrame) -> Colour:
    """The tags for files that are made from this frame (:meth:`Colour.of`)."""
    if light_of(frame) != "sdr":
        return Colour("bt709", 1, 1)
    matrix = matrix_of(frame) or UNTAGGED_MATRIX
    return Colour(
        UNTAGGED_MATRIX if matrix == "rgb" else matrix,
        int(frame.color_primaries),
        int(frame.color_trc),
        int(frame.color_range) == _FULL and matrix != "rgb",
    )


class Converter:
    """Turns decoded frames into RGB, each by its own tags.

    Args:
        pixels: how.
        matrix: ``exact`` only.

    Raises:
        ValueError: ``opencv`` with another matrix than ``tagged``.
    """

    def __init__(self, pixels: Pixels = "exact", matrix: Matrix = "tagged") -> None:
        if pixels == "opencv" and matrix != "tagged":
            raise ValueError(f"pixels opencv always decodes by BT.601, not by {matrix}")
        self.pixels = pixels
        self.matrix = matrix
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """uint8 (height, width, 3), RGB, C-contiguous and writable."""
        if self.pixels == "opencv":
            rgb: np.ndarray = self._reformat(frame, "rgb24", 5, 0x4).to_ndarray()
            return rgb
        named = (matrix_of(frame) or untagged(frame)) if self.matrix == "tagged" else self.matrix
        space = {"bt709": 1, "bt2020": 9}.get(named, 5)
        if (light := light_of(frame)) != "sdr":
            from prep.light import standard_range

            deep = self._reformat(frame, "gbrp16le", space, _EXACT)
            planes = [plane.view("<u2") for plane in _planes(deep)]
            return standard_range(planes, frame.width, _full_scale(frame), light, int(frame.color_primaries))
        if frame.format.name in ("yuv420p", "yuvj420p"):
            from prep.chroma import rgb_of_420

            full = int(frame.color_range) == _FULL or frame.format.name == "yuvj420p"
            matrix = UNTAGGED_MATRIX if named == "rgb" else named
            return rgb_of_420(_planes(frame), frame.width, frame.height, matrix, full)
        # The same bytes as "rgb24", for which libswscale has no vector code, in a third of the time.
        planar = self._reformat(frame, "gbrp", space, _EXACT)
        green, blue, red = (plane[:, : frame.width] for plane in _planes(planar))
        merged: np.ndarray = cv2.merge([red, green, blue])
        return merged

    def _reformat(self, frame: VideoFrame, pix_fmt: str, space: int, flags: int) -> VideoFrame:
        return self._reformatter.reformat(
            frame, format=pix_fmt, src_colorspace=space, interpolation=flags, threads=1
        )


def _full_scale(frame: VideoFrame) -> int:
    """What libswscale makes of white in 16-bit RGB: in limited range 255.01 times 256, else the shifted code."""
    if not frame.format.is_rgb and int(frame.color_range) != _FULL:
        return 65283
    bits = frame.format.components[0].bits
    return ((1 << bits) - 1) << (16 - bits)


def _planes(frame: VideoFrame) -> list[np.ndarray]:
    """(rows, line size) uint8 each."""
    planes: Any = frame.planes
    return [np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size) for plane in planes]


class Painter:
    """Turns RGB into frames to encode.

    Args:
        pix_fmt: FFmpeg's name of their pixel format.
        colour: by which RGB is converted; the frames carry its tags.
    """

    def __init__(self, pix_fmt: str, colour: Colour) -> None:
        self.pix_fmt = pix_fmt
        self.colour = colour
        self._reformatter = VideoReformatter()
        self._target: dict[str, int] = {}
        if not VideoFormat(pix_fmt).is_rgb:
            self._target["dst_colorspace"] = {"bt709": 1, "bt2020": 9}.get(colour.matrix, 5)
            self._target["dst_color_range"] = _FULL if colour.full else _LIMITED

    def __call__(self, rgb: np.ndarray) -> VideoFrame:
        """A frame of uint8 (height, width, 3), RGB."""
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        if self._target.get("dst_color_range") == _FULL and self.pix_fmt in _STRETCHED:
            return self._stretched(frame)
        return self._reformat(frame, self.pix_fmt, self._target)

    def _reformat(self, frame: VideoFrame, pix_fmt: str, target: dict[str, int]) -> VideoFrame:
        return self._reformatter.reformat(frame, format=pix_fmt, **target, interpolation=_EXACT, threads=1)

    def _stretched(self, frame: VideoFrame) -> VideoFrame:
        """Full range of 8 bits out of limited range of 16: libswscale itself cuts off the fraction of chroma there."""
        deep = self._reformat(frame, _STRETCHED[self.pix_fmt], {**self._target, "dst_color_range": _LIMITED})
        out = VideoFrame(frame.width, frame.height, self.pix_fmt)
        planes: Any = out.planes
        for plane, source, table in zip(planes, _planes(deep), _full_range(), strict=True):
            values = table[source.view("<u2")[:, : plane.width]]
            plane.update(np.pad(values, ((0, 0), (0, plane.line_size - plane.width))).tobytes())
        out.colorspace, out.color_range = self._target["dst_colorspace"], _FULL
        return out


# 8-bit formats with one plane for each of Y, U and V, and their 16-bit forms.
_STRETCHED = {
    f"yuv{prefix}{form}p": f"yuv{form}p16le" for form in ("420", "422", "444") for prefix in ("", "j")
}


@lru_cache
def _full_range() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """16-bit limited range → 8-bit full range, for Y, U and V: (65536,) uint8."""
    code = np.arange(1 << 16) / 256
    luma, chroma = (code - 16) * (255 / 219), 128 + (code - 128) * (255 / 224)
    y, uv = (np.floor(values + 0.5).clip(0, 255).astype(np.uint8) for values in (luma, chroma))
    return y, uv, uv


def tag(codec: Any, colour: Colour) -> None:
    """Set the tags of an encoder (PyAV's ``VideoCodecContext``), whose pixel format is known."""
    if not VideoFormat(codec.pix_fmt).is_rgb:
        codec.colorspace = _SPACES[colour.matrix]
        codec.color_range = _FULL if colour.full else _LIMITED
    codec.color_primaries, codec.color_trc = colour.primaries, colour.transfer


def even(rgb: np.ndarray) -> np.ndarray:
    """A frame with the last column or row repeated where its width or height is odd."""
    height, width = rgb.shape[:2]
    if height % 2 or width % 2:
        return np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(rgb)
