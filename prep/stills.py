"""Reads still images through Pillow."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from prep.containers import MAX_SIDE, check_file
from prep.errors import ClipError


def image(path: Path) -> np.ndarray:
    """Read a still image, rotated by its EXIF orientation.

    16-bit images are reduced to their upper 8 bits; an alpha channel is removed without changing the stored colours.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        ClipError: step ``image``; no file, not an image, cut short, or a side of more than 8192 pixels.
    """
    path = Path(path)
    check_file(path, "image")
    try:
        with Image.open(BytesIO(path.read_bytes())) as picture:
            if max(picture.size) > MAX_SIDE:
                width, height = picture.size
                raise ClipError("image", f"picture of {width}x{height} pixels is larger than {MAX_SIDE}")
            ImageOps.exif_transpose(picture, in_place=True)
            if picture.mode.startswith("I"):  # 16 bits of grey; converting would clip, not scale
                grey = (np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise ClipError("image", f"picture is larger than {MAX_SIDE} pixels a side") from error
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise ClipError("image", "damaged, or not an image") from error
