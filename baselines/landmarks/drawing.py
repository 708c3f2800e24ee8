"""Drawings of 68 landmarks."""

from __future__ import annotations

import cv2
import numpy as np

from baselines.landmarks.points import COUNT, PATHS

#: RGB of each of :data:`baselines.landmarks.points.PATHS`: parts that lie near to each other differ.
_COLOURS = (
    *((40, 40, 40), (150, 90, 20), (150, 90, 20), (30, 120, 60), (30, 120, 60)),
    *((30, 70, 200), (30, 70, 200), (200, 30, 50), (230, 120, 140)),
)
#: Fractions of a pixel in which OpenCV counts, as a number of bits.
_SHIFT = 4


def drawn(points: np.ndarray, side: int, thickness: int = 1) -> np.ndarray:
    """Draw faces as coloured lines on white.

    Args:
        points: (n, 68, 2) float, x and y from 0 to 1 over the picture; what is beyond is cut off.
        side: S, pixels.
        thickness: of the lines, pixels.

    Returns:
        (n, S, S, 3) uint8, RGB.

    Raises:
        ValueError: the points have another shape.
    """
    if points.ndim != 3 or points.shape[1:] != (COUNT, 2):
        raise ValueError(f"points {points.shape} are not (n, {COUNT}, 2)")
    # A continuous coordinate of 0.5 is the middle of the first pixel, which OpenCV calls 0.
    places = np.rint((points * side - 0.5) * (1 << _SHIFT)).astype(np.int32)
    pictures = np.full((len(points), side, side, 3), 255, np.uint8)
    for picture, face in zip(pictures, places, strict=True):
        for path, colour in zip(PATHS, _COLOURS, strict=True):
            cv2.polylines(picture, [face[list(path)]], False, colour, thickness, cv2.LINE_AA, _SHIFT)
    return pictures
