"""Pictures warped with the same bytes by every OpenCV.

Version 5 of OpenCV interpolates between pixels at exact positions, version 4 at multiples of 1/32 of a pixel: the same
call of ``cv2.warpAffine`` gives up to 4 of 255 levels of difference, in a tenth of all bytes. What is measured and
prepared here follows version 4, as the published methods did. Both versions take positions that are already rounded
(``cv2.remap`` with maps of whole numbers) and interpolate linearly there in the same way; cubic weights differ, so that
cubic interpolation is done here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numba
import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

_compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
#: Positions are multiples of 1/32 of a pixel, cubic weights of bytes of 1/32768.
_PLACES, _WEIGHT_BITS = 32, 15
#: The taps of a cubic kernel before and after the pixel itself.
_BEFORE, _AFTER = 1, 2


def warp(
    picture: npt.NDArray[Any],
    matrix: Float,
    size: tuple[int, int],
    *,
    cubic: bool = False,
    border: int = cv2.BORDER_CONSTANT,
) -> npt.NDArray[Any]:
    """What ``cv2.warpAffine`` of OpenCV 4 gives (imgproc/src/imgwarp.cpp).

    Args:
        picture: (H, W) or (H, W, C) of uint8 or float32; at most 32767 pixels wide and high.
        matrix: (2, 3), from the picture to the result; (0, 0) is the middle of the first pixel, as OpenCV counts.
        size: width and height of the result.
        cubic: Keys' kernel with a = -0.75 in place of linear interpolation.
        border: ``cv2.BORDER_…``; a constant border is 0. Cubic interpolation takes any but the constant one.

    Returns:
        (height, width) or (height, width, C) of the picture's type. Bytes equal those of OpenCV 4.
    """
    whole = np.empty((size[1], size[0], 2), np.int16)
    parts = np.empty((size[1], size[0]), np.uint16)
    _places(_inverse(np.asarray(matrix, np.float64)), whole, parts)
    return _interpolated(picture, whole, parts, cubic, border)


def sample(
    picture: npt.NDArray[Any], at: npt.NDArray[np.float32], *, cubic: bool = False
) -> npt.NDArray[Any]:
    """What ``cv2.remap`` of OpenCV 4 gives, with the edge repeated outside of the picture.

    Args:
        picture: (H, W) or (H, W, C) of uint8 or float32.
        at: (h, w, 2) float32, x and y in the picture; (0, 0) is the middle of the first pixel.
        cubic: as in :func:`warp`.

    Returns:
        (h, w) or (h, w, C) of the picture's type.
    """
    whole, parts = cv2.convertMaps(at, None, cv2.CV_16SC2)
    return _interpolated(picture, whole, parts, cubic, cv2.BORDER_REPLICATE)


def _interpolated(picture, whole, parts, cubic, border):  # type: ignore[no-untyped-def]
    if not cubic:
        return cv2.remap(picture, whole, parts, cv2.INTER_LINEAR, borderMode=border)
    # What lies further out than a picture's own size is as far away as that: mirrored edges repeat only once.
    height, width = picture.shape[:2]
    low, high = whole.reshape(-1, 2).min(axis=0), whole.reshape(-1, 2).max(axis=0)
    left, top = (int(n) for n in np.clip(_BEFORE - low, 0, (width, height)))
    right, bottom = (
        int(n) for n in np.clip(high + _AFTER + 1 - np.array((width, height)), 0, (width, height))
    )
    if left or top or right or bottom:
        picture = cv2.copyMakeBorder(picture, top, bottom, left, right, border)
    flat = np.ascontiguousarray(picture).reshape(*picture.shape[:2], -1)
    bytes_ = picture.dtype == np.uint8
    table = _byte_table() if bytes_ else _table()
    sums = np.empty((*parts.shape, flat.shape[2]), table.dtype)
    _cubic(flat, whole, parts, left - _BEFORE, top - _BEFORE, table, sums)
    if bytes_:
        sums += 1 << (_WEIGHT_BITS - 1)
        sums >>= _WEIGHT_BITS
        sums = np.clip(sums, 0, 255, out=sums).astype(np.uint8)
    return sums.reshape(*parts.shape, *picture.shape[2:])


def _inverse(matrix: Float) -> Float:
    (a, b, c), (d, e, f) = matrix
    determinant = a * e - b * d
    factor = 1 / determinant if determinant else 0.0
    a, b, d, e = e * factor, -b * factor, -d * factor, a * factor
    return np.array([[a, b, -a * c - b * f], [d, e, -d * c - e * f]])


@_compiled
def _places(matrix, whole, parts):  # type: ignore[no-untyped-def]
    """Where each pixel of the result lies: whole pixels, and 32 times the rest of y and x in one number."""
    (height, width), fine = parts.shape, 1024.0
    for y in range(height):
        # Rows and columns are rounded for themselves, to 1/1024 of a pixel; half of 1/32 is added to round the sum.
        row_x = np.int64(np.rint((matrix[0, 1] * y + matrix[0, 2]) * fine)) + 16
        row_y = np.int64(np.rint((matrix[1, 1] * y + matrix[1, 2]) * fine)) + 16
        for x in range(width):
            at_x = (row_x + np.int64(np.rint(matrix[0, 0] * x * fine))) >> 5
            at_y = (row_y + np.int64(np.rint(matrix[1, 0] * x * fine))) >> 5
            whole[y, x, 0] = min(max(at_x >> 5, -32768), 32767)
            whole[y, x, 1] = min(max(at_y >> 5, -32768), 32767)
            parts[y, x] = (at_y & 31) * 32 + (at_x & 31)


@_compiled
def _cubic(picture, whole, parts, add_x, add_y, table, sums):  # type: ignore[no-untyped-def]
    """Sums of 4×4 weighted pixels; beyond the edge, its pixels are repeated."""
    height, width, channels = picture.shape
    line, pixels, weights, out = width * channels, picture.reshape(-1), table.reshape(-1), sums.reshape(-1)
    at = np.uint64(0)
    for i in range(parts.shape[0]):
        for j in range(parts.shape[1]):
            first, x, y = 16 * np.int64(parts[i, j]), whole[i, j, 0] + add_x, whole[i, j, 1] + add_y
            a = min(max(x, 0), width - 1) * channels
            b = min(max(x + 1, 0), width - 1) * channels
            c = min(max(x + 2, 0), width - 1) * channels
            d = min(max(x + 3, 0), width - 1) * channels
            for channel in range(channels):
                total = weights[0] * 0
                for k in range(4):
                    row, w = min(max(y + k, 0), height - 1) * line + channel, np.uint64(first + 4 * k)
                    total += (
                        pixels[np.uint64(row + a)] * weights[w]
                        + pixels[np.uint64(row + b)] * weights[w + np.uint64(1)]
                        + pixels[np.uint64(row + c)] * weights[w + np.uint64(2)]
                        + pixels[np.uint64(row + d)] * weights[w + np.uint64(3)]
                    )
                out[at] = total
                at += np.uint64(1)


@lru_cache
def _table() -> npt.NDArray[np.float32]:
    """Cubic weights (1024, 4, 4) float32 of rows and columns, for 32 parts of a pixel in y, and in x for each."""
    one, a = np.float32(1), np.float32(-0.75)
    x = np.arange(_PLACES, dtype=np.float32) / np.float32(_PLACES)
    first = ((a * (x + one) - 5 * a) * (x + one) + 8 * a) * (x + one) - 4 * a
    second = ((a + 2) * x - (a + 3)) * x * x + one
    third = ((a + 2) * (one - x) - (a + 3)) * (one - x) * (one - x) + one
    line = np.stack([first, second, third, one - first - second - third], axis=1)
    return (line[:, None, :, None] * line[None, :, None, :]).reshape(-1, 4, 4)


@lru_cache
def _byte_table() -> npt.NDArray[np.int32]:
    """The same in whole numbers, (1024, 4, 4) int32, whose sum is always 32768."""
    table = np.rint(_table() * np.float32(1 << _WEIGHT_BITS)).astype(np.int32)
    for weights in table:
        # What rounding has added or lost goes to one of these four, as in OpenCV 4: the least or the greatest.
        rest, some = int(weights.sum()) - (1 << _WEIGHT_BITS), weights[2:, 2:]
        if rest:
            at = np.unravel_index(some.argmin() if rest > 0 else some.argmax(), some.shape)
            some[at] -= rest
    return table
