"""From a decoded frame to the picture that is shown: colours, shape of the pixels, orientation, crop and size."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from av.video.frame import VideoFrame

from prep.conversion import Converter
from prep.errors import ClipError

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class Shape:
    """How stored frames are shown.

    Attributes:
        stored: width and height of the first stored frame in pixels.
        aspect: width of a stored pixel divided by its height.
        rotation: degrees clockwise: 0, 90, 180 or 270.
        mirrored: flipped left to right before rotation.
    """

    stored: tuple[int, int]
    aspect: Fraction = Fraction(1)
    rotation: int = 0
    mirrored: bool = False

    def turned(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height after rotation."""
        return size if self.rotation in (0, 180) else size[::-1]

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height as displayed, with square pixels."""
        return self.turned(squared(self.stored, self.aspect))


def squared(size: tuple[int, int], aspect: Fraction) -> tuple[int, int]:
    """Width and height with square pixels: the side that is too short is enlarged, so that nothing is lost."""
    width, height = size
    if aspect >= 1:
        return max(1, round(width * aspect)), height
    return width, max(1, round(height / aspect))


class Finisher:
    """Turns decoded frames of one file into the requested arrays.

    Args:
        shape: how the file's frames are shown.
        convert: how colours are decoded.
        crop: ``(x, y, width, height)`` in displayed pixels.
        size: side in pixels to which the frame (or crop) is resized, square.
        square: resample to square pixels.

    Raises:
        ClipError: step ``video``; the crop is not inside the frame.
    """

    def __init__(
        self,
        shape: Shape,
        convert: Converter,
        crop: tuple[int, int, int, int] | None = None,
        size: int | None = None,
        square: bool = True,
    ) -> None:
        if crop is not None:
            x, y, width, height = crop
            across, down = shape.shown
            if min(x, y) < 0 or min(width, height) < 1 or x + width > across or y + height > down:
                raise ClipError(
                    "video", f"crop {width}x{height} at {x},{y} leaves the frame of {across}x{down} pixels"
                )
        self.shape = shape
        self.convert = convert
        self.crop = crop
        self.size = size
        self.square = square

    def __call__(self, frame: VideoFrame, aspect: Fraction, seconds: float) -> np.ndarray:
        """The picture of a frame: uint8 (height, width, 3), RGB, C-contiguous and writable.

        Args:
            frame: decoded.
            aspect: width of its pixels divided by their height.
            seconds: its time, for messages.

        Raises:
            ClipError: step ``video``; the frame is shown in another size than the file's first one.
        """
        stored = (frame.width, frame.height)
        if stored != self.shape.stored or aspect != self.shape.aspect:
            self._check_size(stored, aspect, seconds)
        rgb = self.convert(frame)
        target = squared(self.shape.stored, self.shape.aspect) if self.square else self.shape.stored
        if stored != target:
            rgb = cv2.resize(rgb, target, interpolation=cv2.INTER_LINEAR_EXACT)
        if self.shape.mirrored:
            rgb = cv2.flip(rgb, 1)
        if self.shape.rotation:
            rgb = cv2.rotate(rgb, _TURNS[self.shape.rotation])
        if self.crop is not None:
            x, y, width, height = self.crop
            rgb = rgb[y : y + height, x : x + width].copy()
        if self.size is not None and rgb.shape[:2] != (self.size, self.size):
            shrinks = self.size < min(rgb.shape[:2])
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            rgb = cv2.resize(rgb, (self.size, self.size), interpolation=how)
        return rgb

    def _check_size(self, stored: tuple[int, int], aspect: Fraction, seconds: float) -> None:
        before, after = self.shape.shown, self.shape.turned(squared(stored, aspect))
        if before != after:
            sizes = " to ".join(f"{width}x{height}" for width, height in (before, after))
            raise ClipError(
                "video", f"frame size changes from {sizes} at {seconds:.1f} s: split the file there"
            )
