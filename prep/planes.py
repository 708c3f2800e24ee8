"""Crops of a training sample: encoded pictures become one array of colour planes, as the networks want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from prep.images import decode, fast_jpeg

_JPEG = b"\xff\xd8\xff"


def decode_planes(encoded: Sequence[bytes], width: int, height: int) -> np.ndarray:
    """Decode pictures of one size.

    Args:
        encoded: n pictures, of any encoding of :mod:`prep.images`.
        width: of each, pixels.
        height: of each, pixels.

    Returns:
        (n, 3, height, width) uint8 RGB.

    Raises:
        ValueError: not a picture, or one of another size.
    """
    out = np.empty((len(encoded), 3, height, width), np.uint8)
    scratch = _unaligned(3 * height * width)
    fast: Any = fast_jpeg()
    for planes, data in zip(out, encoded, strict=True):
        jpeg = fast is not None and data[:3] == _JPEG
        picture = fast(data, buffer=scratch) if jpeg else decode(data)
        if picture.shape != (height, width, 3):
            raise ValueError(f"a picture of {picture.shape[1]}x{picture.shape[0]}, not {width}x{height}")
        # A fifth of the time of transposing.
        cv2.split(picture, list(planes))
    return out


def _unaligned(size: int) -> np.ndarray:
    """(size,) uint8 that does not begin at a multiple of 32 bytes.

    To memory that does, libjpeg-turbo writes past the cache, and to read the picture afterwards takes five
    times as long: a sample of 8 crops of 128² is decoded in 0.7 or 0.85 ms, as chance will have it.
    """
    memory = np.empty(size + 32, np.uint8)
    begin = (16 - memory.ctypes.data) % 32
    return memory[begin : begin + size]
