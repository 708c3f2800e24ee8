"""A rotated square of a frame as the input of a network, as MediaPipe's CPU path cuts it.

MediaPipe calls OpenCV's ``warpPerspective`` with bilinear interpolation on bytes: positions are rounded to 1/32 pixel,
weights are whole numbers, the result is rounded to a byte (image_to_tensor_converter_opencv.cc). The same arithmetic is
done here in one pass that also writes the floats in the network's layout, so that the result depends neither on the
version of OpenCV nor on the processor. Outside of the frame are zeros for the detectors, and the frame's edge for the
mesh.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

Float = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

_compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
# Added to a double and subtracted again, this rounds to the nearest whole number, halves to even.
_ROUND = 6755399441055744.0


def cut(frame: Image, matrix: Float, out: Float32, low: float, high: float, *, edge: bool) -> None:
    """Sample a square of a frame.

    Args:
        frame: (H, W, 3) uint8, C-contiguous.
        matrix: (2, 3) float64, from columns and rows of ``out`` to those of the frame, whole numbers at the middles of
            pixels.
        out: (3, S, S) float32, written.
        low: the value of byte 0.
        high: the value of byte 255.
        edge: repeat the frame's edge outside of it; otherwise the bytes there are 0.
    """
    scale = np.float32((high - low) / 255)
    # Four bytes beginning at each byte.
    words = as_strided(
        frame.reshape(-1)[:4].view(np.uint32), (max(frame.size - 3, 0),), (1,), writeable=False
    )
    _cut(frame, words, matrix, out, scale, np.float32(low), edge)


@numba.njit(inline="always")
def _lanes(word):  # type: ignore[no-untyped-def]
    """Three bytes in lanes of 21 bits."""
    word = np.uint64(word)
    return (
        (word & np.uint64(0xFF))
        | ((word & np.uint64(0xFF00)) << np.uint64(13))
        | ((word & np.uint64(0xFF0000)) << np.uint64(26))
    )


@_compiled
def _cut(frame, words, matrix, out, scale, low, edge):  # type: ignore[no-untyped-def]
    height, width, _ = frame.shape
    size = out.shape[1]
    place = np.empty(size, np.int64)
    right, down = np.empty(size, np.int64), np.empty(size, np.int64)
    sums = np.empty(size, np.uint64)
    half = np.uint64(512 | 512 << 21 | 512 << 42)
    whole = np.uint64(32)
    for row in range(size):
        x0 = matrix[0, 1] * row + matrix[0, 2]
        y0 = matrix[1, 1] * row + matrix[1, 2]
        inside = 0
        for column in range(size):
            x = np.int64(((matrix[0, 0] * column + x0) * 32.0 + _ROUND) - _ROUND)
            y = np.int64(((matrix[1, 0] * column + y0) * 32.0 + _ROUND) - _ROUND)
            right[column], down[column] = x & 31, y & 31
            x, y = x >> 5, y >> 5
            # Negative if a pixel is outside, or too near to the end for the four bytes.
            inside |= x | y | (width - 3 - x) | (height - 2 - y)
            place[column] = (y * width + x) * 3
        if inside < 0:
            _cut_at_edge(frame, matrix, row, out, scale, low, edge)
            continue
        for column in range(size):
            at = place[column]
            to_right, to_below = np.uint64(right[column]), np.uint64(down[column])
            above = _lanes(words[at]) * (whole - to_right) + _lanes(words[at + 3]) * to_right
            at += 3 * width
            below = _lanes(words[at]) * (whole - to_right) + _lanes(words[at + 3]) * to_right
            sums[column] = above * (whole - to_below) + below * to_below + half
        for channel in range(3):
            shift = np.uint64(10 + 21 * channel)
            for column in range(size):
                value = np.int32((sums[column] >> shift) & np.uint64(255))
                out[channel, row, column] = np.float32(value) * scale + low


@_compiled
def _cut_at_edge(frame, matrix, row, out, scale, low, edge):  # type: ignore[no-untyped-def]
    """One row of which a part is outside of the frame."""
    height, width, _ = frame.shape
    size = out.shape[1]
    x0 = matrix[0, 1] * row + matrix[0, 2]
    y0 = matrix[1, 1] * row + matrix[1, 2]
    for column in range(size):
        x = np.int64(((matrix[0, 0] * column + x0) * 32.0 + _ROUND) - _ROUND)
        y = np.int64(((matrix[1, 0] * column + y0) * 32.0 + _ROUND) - _ROUND)
        to_right, to_below = x & 31, y & 31
        x, y = x >> 5, y >> 5
        for channel in range(3):
            total = 512
            for down in range(2):
                for right in range(2):
                    i, j = y + down, x + right
                    if edge:
                        i, j = min(max(i, 0), height - 1), min(max(j, 0), width - 1)
                    elif not (0 <= i < height and 0 <= j < width):
                        continue
                    weight = (to_right if right else 32 - to_right) * (to_below if down else 32 - to_below)
                    total += weight * np.int64(frame[i, j, channel])
            out[channel, row, column] = np.float32(total >> 10) * scale + low
