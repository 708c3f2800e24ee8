"""The landmark picture L_r (section 3.1.1): the 68 points of iBUG as white lines on black."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

#: ``all`` lines; ``upper``: brows, eyes and nose alone, which do not tell what the mouth does.
Parts = Literal["all", "upper"]

_UPPER = [
    range(17, 22),
    range(22, 27),
    range(27, 31),
    range(31, 36),
    [*range(36, 42), 36],
    [*range(42, 48), 42],
]
_LOWER = [range(17), [*range(48, 60), 48], [*range(60, 68), 60]]
_LINES = {
    "all": [np.array(line) for line in (*_LOWER, *_UPPER)],
    "upper": [np.array(line) for line in _UPPER],
}

# The paper gives L_r one channel and says no more; OpenCV draws lines one pixel wide with the same bytes everywhere.
_WHITE = 255
# Beyond this many pixels of a point, OpenCV's integers would overflow.
_FAR = 10_000


def draw_landmarks(points: npt.ArrayLike, height: int, width: int, parts: Parts = "all") -> np.ndarray:
    """Draw landmarks.

    Args:
        points: (n, 68, 2) float, x and y in pixels of the picture, the first from 0 to 1; lines are cut at its edge.
        height: of the picture, pixels.
        width: of the picture, pixels.
        parts: which lines.

    Returns:
        (n, 1, height, width) uint8, 0 or 255.

    Raises:
        ValueError: another shape of ``points``.
    """
    points = np.asarray(points)
    if points.ndim != 3 or points.shape[1:] != (68, 2):
        raise ValueError(f"points of shape {points.shape} are not (n, 68, 2)")
    pixels = np.floor(points).clip(-_FAR, _FAR).astype(np.int32)
    pictures = np.zeros((len(points), 1, height, width), np.uint8)
    for picture, at in zip(pictures, pixels, strict=True):
        cv2.polylines(picture[0], [at[line] for line in _LINES[parts]], False, _WHITE)
    return pictures
