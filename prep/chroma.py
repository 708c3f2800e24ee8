"""The usual form of video, 8-bit 4:2:0, to RGB: chroma interpolated, colours rounded once.

Equal to libswscale's bicubic conversion with accurate rounding and full chroma interpolation up to one level, in a
third of its time. All values are float32, and products and sums are rounded one by one (no fused operations, no other
order), so that the bytes are the same on every processor.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
import numpy as np

#: Luma weights of red and blue: ITU-R BT.601, BT.709, BT.2020.
LUMA_WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}

_compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
_f32 = np.float32
# Chroma samples lie in the middle of 2x2 pixels: a pixel is a quarter of their distance away from the nearest one. The
# cubic convolution of Keys with a = -0.6, as in libswscale, at distances of 1/4, 3/4, 5/4 and 7/4 samples.
_NEAREST, _NEAR, _FAR, _FARTHEST = _f32(0.871875), _f32(0.240625), _f32(-0.084375), _f32(-0.028125)


@lru_cache
def _coefficients(matrix: str, full: bool) -> np.ndarray:
    """(8,) float32: factors of luma, of V in red, of U and V in green, of U in blue; what is added to each channel."""
    red, blue = LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    luma, black, chroma = (1.0, 0, 2.0) if full else (255 / 219, 16, 2 * 255 / 224)
    v_red, u_blue = chroma * (1 - red), chroma * (1 - blue)
    u_green, v_green = -u_blue * blue / green, -v_red * red / green
    base = 0.5 - luma * black  # cutting off the fraction then rounds to the nearest, halves up
    added = (base - 128 * v_red, base - 128 * (u_green + v_green), base - 128 * u_blue)
    return np.array([luma, v_red, u_green, v_green, u_blue, *added], np.float32)


def rgb_of_420(planes: list[Any], width: int, height: int, matrix: str, full: bool) -> np.ndarray:
    """Convert a frame.

    Args:
        planes: Y, U and V as (rows, line size) uint8, C-contiguous; lines may be longer than the picture is wide.
        width: pixels.
        height: pixels.
        matrix: a key of :data:`LUMA_WEIGHTS`.
        full: luma and chroma use the range 0 to 255, not 16 to 235 (240).

    Returns:
        (height, width, 3) uint8, RGB.
    """
    out = np.empty((height, 3 * width), np.uint8)
    _convert(*planes, width, _coefficients(matrix, full), out)
    return out.reshape(height, width, 3)


@_compiled
def _between_rows(a, b, c, d, nearest_first, out):  # type: ignore[no-untyped-def]
    """Four rows of chroma → the row between ``b`` and ``c`` that is nearer to ``b`` (or to ``c``)."""
    if nearest_first:
        w0, w1, w2, w3 = _FAR, _NEAREST, _NEAR, _FARTHEST
    else:
        w0, w1, w2, w3 = _FARTHEST, _NEAR, _NEAREST, _FAR
    for i in range(out.size):
        out[i] = w0 * _f32(a[i]) + w1 * _f32(b[i]) + w2 * _f32(c[i]) + w3 * _f32(d[i])


@_compiled
def _twice_as_wide(row, out):  # type: ignore[no-untyped-def]
    """(n + 4,) with a border of two samples on either side → (2 n,)."""
    n = row.size - 4
    row[0] = row[1] = row[2]
    row[n + 2] = row[n + 3] = row[n + 1]
    a, b, c, d, e = row[0:n], row[1 : n + 1], row[2 : n + 2], row[3 : n + 3], row[4 : n + 4]
    for i in range(n):
        out[2 * i] = _FARTHEST * a[i] + _NEAR * b[i] + _NEAREST * c[i] + _FAR * d[i]
        out[2 * i + 1] = _FAR * b[i] + _NEAREST * c[i] + _NEAR * d[i] + _FARTHEST * e[i]


@_compiled
def _colour_row(y, u, v, factors, out):  # type: ignore[no-untyped-def]
    luma, v_red, u_green, v_green, u_blue = factors[0], factors[1], factors[2], factors[3], factors[4]
    add_red, add_green, add_blue = factors[5], factors[6], factors[7]
    least, most = _f32(0), _f32(255)
    for i in range(y.size):
        base = luma * _f32(y[i])
        red = base + v_red * v[i] + add_red
        green = base + u_green * u[i] + v_green * v[i] + add_green
        blue = base + u_blue * u[i] + add_blue
        out[3 * i] = np.uint8(np.int32(min(max(red, least), most)))
        out[3 * i + 1] = np.uint8(np.int32(min(max(green, least), most)))
        out[3 * i + 2] = np.uint8(np.int32(min(max(blue, least), most)))


@_compiled
def _convert(luma, first, second, width, factors, out):  # type: ignore[no-untyped-def]
    n = (width + 1) // 2
    last = first.shape[0] - 1
    narrow_u, narrow_v = np.empty(n + 4, np.float32), np.empty(n + 4, np.float32)
    u, v = np.empty(2 * n, np.float32), np.empty(2 * n, np.float32)
    for row in range(out.shape[0]):
        odd = row % 2 == 1
        b = row // 2 if odd else max(row // 2 - 1, 0)
        a, c, d = max(row // 2 - 2 + odd, 0), min(row // 2 + odd, last), min(row // 2 + 1 + odd, last)
        for plane, narrow, wide in ((first, narrow_u, u), (second, narrow_v, v)):
            _between_rows(plane[a][:n], plane[b][:n], plane[c][:n], plane[d][:n], odd, narrow[2 : n + 2])
            _twice_as_wide(narrow, wide)
        _colour_row(luma[row][:width], u[:width], v[:width], factors, out[row])
