"""A rotated square of a frame as the input of a network, as MediaPipe's CPU path cuts it.

MediaPipe calls OpenCV's ``warpPerspective`` with bilinear interpolation on bytes (image_to_tensor_converter_opencv.cc):
positions are rounded to 1/32 pixel, weights are whole numbers, the result is rounded to a byte. The same arithmetic is
done here in one pass that also writes the floats in the network's layout, so that the result depends neither on the
version of OpenCV nor on the processor.
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
#: OpenCV calculates positions from the first column of blocks of this width.
BLOCK = 64


def cut(frame: Image, matrix: Float, out: Float32, low: float, high: float, *, edge: bool) -> None:
    """Sample a square of a frame.

    Args:
        frame: (H, W, 3) uint8, C-contiguous.
        matrix: (3, 3) float64, from columns and rows of ``out`` to those of the frame, homogeneous, whole numbers at
            the middles of pixels; see :func:`prep.facemesh.region.matrix`.
        out: (S, S, 3) float32, written.
        low: the value of byte 0.
        high: the value of byte 255.
        edge: repeat the frame's edge outside of it; otherwise the bytes there are 0.
    """
    if frame.size < 4:
        frame = np.repeat(frame, 2, axis=1) if edge else np.pad(frame, ((0, 1), (0, 1), (0, 0)))
    # Four bytes beginning at each byte.
    words = as_strided(frame.reshape(-1)[:4].view(np.uint32), (frame.size - 3,), (1,), writeable=False)
    _cut(frame, words, matrix, out, np.float32((high - low) / 255), np.float32(low), edge)


@_compiled
def _places(matrix, row, across, down):  # type: ignore[no-untyped-def]
    """Where the pixels of a row lie, in 1/32 pixel of the frame."""
    for start in range(0, len(across), BLOCK):
        x = matrix[0, 0] * start + matrix[0, 1] * row + matrix[0, 2]
        y = matrix[1, 0] * start + matrix[1, 1] * row + matrix[1, 2]
        w = matrix[2, 0] * start + matrix[2, 1] * row + matrix[2, 2]
        for i in range(min(BLOCK, len(across) - start)):
            scale = 32.0 / (w + matrix[2, 0] * i)
            across[start + i] = np.int32(((x + matrix[0, 0] * i) * scale + _ROUND) - _ROUND)
            down[start + i] = np.int32(((y + matrix[1, 0] * i) * scale + _ROUND) - _ROUND)


@_compiled
def _cut(frame, words, matrix, out, scale, low, edge):  # type: ignore[no-untyped-def]
    height, width, _ = frame.shape
    size = len(out)
    across, down = np.empty(size, np.int32), np.empty(size, np.int32)
    # The four pixels around each place.
    pixels = np.empty((4, size), np.uint32)
    channels = np.empty((3, size), np.float32)
    line = 3 * width
    for row in range(size):
        _places(matrix, row, across, down)
        inside = np.int32(0)
        for column in range(size):
            x, y = across[column] >> 5, down[column] >> 5
            # Negative if a pixel is outside, or too near to the end for the four bytes.
            inside |= x | y | (width - 3 - x) | (height - 2 - y)
        if inside < 0:
            _gather_at_edge(frame, across, down, pixels, edge)
        else:
            for column in range(size):
                at = np.uint64((down[column] >> 5) * line + (across[column] >> 5) * 3)
                pixels[0, column], pixels[1, column] = words[at], words[at + np.uint64(3)]
                at += np.uint64(line)
                pixels[2, column], pixels[3, column] = words[at], words[at + np.uint64(3)]
        for channel in range(3):
            _blend(pixels, np.uint32(8 * channel), across, down, channels[channel], scale, low)
        for column in range(size):
            to = out[row, column]
            to[0], to[1], to[2] = channels[0, column], channels[1, column], channels[2, column]


@_compiled
def _blend(pixels, shift, across, down, out, scale, low):  # type: ignore[no-untyped-def]
    """One channel of a row, of its four pixels around each place."""
    whole, byte = np.uint32(32), np.uint32(255)
    for column in range(len(out)):
        right, below = np.uint32(across[column] & 31), np.uint32(down[column] & 31)
        upper = ((pixels[0, column] >> shift) & byte) * (whole - right)
        upper += ((pixels[1, column] >> shift) & byte) * right
        lower = ((pixels[2, column] >> shift) & byte) * (whole - right)
        lower += ((pixels[3, column] >> shift) & byte) * right
        total = upper * (whole - below) + lower * below
        out[column] = np.float32(np.int32((total + np.uint32(512)) >> np.uint32(10))) * scale + low


@_compiled
def _gather_at_edge(frame, across, down, pixels, edge):  # type: ignore[no-untyped-def]
    """The four pixels around each place of a row of which a part is outside of the frame."""
    height, width, _ = frame.shape
    for column in range(len(across)):
        x, y = across[column] >> 5, down[column] >> 5
        for corner in range(4):
            i, j = y + (corner >> 1), x + (corner & 1)
            if edge:
                i, j = min(max(i, 0), height - 1), min(max(j, 0), width - 1)
            elif not (0 <= i < height and 0 <= j < width):
                pixels[corner, column] = 0
                continue
            red, green, blue = np.uint32(frame[i, j, 0]), np.uint32(frame[i, j, 1]), np.uint32(frame[i, j, 2])
            pixels[corner, column] = red | green << np.uint32(8) | blue << np.uint32(16)
