"""Encoding and decoding of images: the encodings of the crops in a shard."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

#: ``jpeg`` (4:2:0) and ``png`` (lossless) can be read everywhere; ``webp`` is smallest, but slow to write.
ENCODINGS = ("jpeg", "png", "webp")

# OpenCV can decode directly to RGB since 4.11.
_TO_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)


def encode(rgb: Image, encoding: str, quality: int = 95) -> bytes:
    """Encode an image; the same image gives the same bytes with the same version of OpenCV.

    Args:
        rgb: (H, W, 3) uint8.
        encoding: one of :data:`ENCODINGS`.
        quality: 1 to 100; for ``webp`` 101 means lossless; ``png`` is lossless and ignores it.

    Raises:
        ValueError: the encoding is unknown, the quality out of range, or the array is not such an image.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"unknown encoding {encoding!r}; known are {', '.join(ENCODINGS)}")
    if not 1 <= quality <= (101 if encoding == "webp" else 100):
        raise ValueError(f"quality {quality} is out of range for {encoding}")
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        raise ValueError(f"not an RGB picture: {rgb.dtype} of shape {rgb.shape}")
    options = {
        "jpeg": [
            cv2.IMWRITE_JPEG_QUALITY,
            quality,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
        ],
        "png": [],
        "webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
    }[encoding]
    try:
        done, data = cv2.imencode(f".{encoding}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    except cv2.error as error:
        raise ValueError(f"a picture of {rgb.shape[1]}x{rgb.shape[0]} cannot be {encoding}") from error
    if not done:
        raise ValueError(f"a picture of {rgb.shape[1]}x{rgb.shape[0]} cannot be {encoding}")
    return data.tobytes()


def decode(data: bytes) -> Image:
    """Decode an image of any encoding.

    JPEG is decoded by the package ``simplejpeg`` if installed: it needs 40 % less time for 128² and gives the same
    pixels as OpenCV.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: the bytes are not an image.
    """
    if data[:3] == b"\xff\xd8\xff" and (fast := fast_jpeg()) is not None:
        try:
            return fast(data)
        except ValueError:
            pass  # OpenCV reads more kinds of JPEG, and decides whether the data is damaged.
    return _decode_cv2(data)


def _decode_cv2(data: bytes) -> Image:
    buffer = np.frombuffer(data, np.uint8)
    if _TO_RGB is not None:
        picture = cv2.imdecode(buffer, _TO_RGB) if buffer.size else None
    else:
        picture = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if buffer.size else None
        picture = picture if picture is None else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, picture)
    if picture is None:
        raise ValueError(f"{len(data)} bytes that are not a picture")
    return np.asarray(picture, np.uint8)


@cache
def fast_jpeg() -> Callable[[bytes], Image] | None:
    """``simplejpeg``'s decoder, if it is installed and gives the same pixels as OpenCV for a test image."""
    try:
        decoder: Callable[[bytes], Image] = importlib.import_module("simplejpeg").decode_jpeg
    except ImportError:
        return None
    # Noise with odd sides and subsampled chroma shows any difference in transform and upsampling.
    trial = encode(np.random.default_rng(0).integers(0, 256, (67, 45, 3), np.uint8), "jpeg", 90)
    return decoder if np.array_equal(decoder(trial), _decode_cv2(trial)) else None
