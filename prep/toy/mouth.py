"""What is seen between parted lips: a dark cavity, two rows of teeth and a tongue, shaded by the lips around them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from prep.warping import warp

Floats = NDArray[np.float64]
Sprite = NDArray[np.uint8]

_CAVITY = (52, 18, 17)
_TEETH = (232, 216, 190)
_GAP = (150, 118, 104)
_TONGUE = (158, 78, 76)


def _spline_matrix(n: int, dense: int) -> Floats:
    """Linear map from ``n`` points to ``dense`` points on the Catmull-Rom curve through them; (dense, n)."""
    matrix = np.zeros((dense, n))
    for row, t in enumerate(np.linspace(0, n - 1, dense)):
        i = min(int(t), n - 2)
        f = t - i
        weights = (
            -0.5 * f**3 + f**2 - 0.5 * f,
            1.5 * f**3 - 2.5 * f**2 + 1,
            -1.5 * f**3 + 2 * f**2 + 0.5 * f,
            0.5 * f**3 - 0.5 * f**2,
        )
        for k, weight in zip(range(i - 1, i + 3), weights, strict=True):
            # Beyond the ends the curve is continued straight.
            if k < 0:
                matrix[row, 0] += 2 * weight
                matrix[row, 1] -= weight
            elif k > n - 1:
                matrix[row, n - 1] += 2 * weight
                matrix[row, n - 2] -= weight
            else:
                matrix[row, k] += weight
    return matrix


SMOOTH_ROW = _spline_matrix(11, 41)


def _teeth(widths: tuple[float, ...], heights: tuple[float, ...], curve: float, scale: float) -> Sprite:
    """A row of teeth hanging down, the middle of the biting edge in the middle of the picture.

    Args:
        widths: as seen from the front, from the middle one outwards, in units.
        heights: the same teeth's.
        curve: how far the row rises (and recedes into the dark) a unit squared away from the middle.
        scale: pixels of the sprite a unit.
    """
    fine = 6 * scale
    half = sum(widths) + 0.02
    tall = max(heights) + 0.02
    y, x = np.mgrid[-tall : tall : 1 / fine, -half : half : 1 / fine]
    colour = np.zeros((*x.shape, 3))
    cover = np.zeros(x.shape)
    start = 0.0
    for width, height in zip(widths, heights, strict=True):
        centre = start + width / 2
        across = np.abs(np.abs(x) - centre) / (width / 2)
        edge = -curve * x**2 - (max(heights) - height) * 0.5
        # Rounded lower corners, and a hair's breadth between neighbours.
        bottom = edge - 0.012 * np.clip((across - 0.55) / 0.45, 0, 1) ** 2.5
        tooth = (across < 0.97) & (y < bottom) & (y > edge - height)
        relief = 1 - 0.20 * across**3 - 0.10 * np.clip(1 + (y - edge) / 0.03, 0, 1)
        colour[tooth] = np.outer(relief[tooth], _TEETH)
        cover[tooth] = 1
        start += width
    # Between neighbouring teeth no light comes back, but it is not the cavity's black either.
    seam = (
        (cover == 0) & (np.abs(x) < start) & (y < -curve * x**2 - 0.03) & (y > -curve * x**2 - min(heights))
    )
    colour[seam], cover[seam] = _GAP, 1
    colour *= np.clip(1 - (np.abs(x) / (start + 0.03)) ** 2.2 * 0.8, 0, 1)[..., None]
    return _reduced(colour, cover, scale / fine)


def _tongue(scale: float) -> Sprite:
    """The tongue from the front, the middle of its upper edge in the middle of the picture."""
    fine = 3 * scale
    y, x = np.mgrid[-0.22 : 0.22 : 1 / fine, -0.26 : 0.26 : 1 / fine]
    top = 0.75 * x**2 + 0.008 * np.exp(-((x / 0.02) ** 2))
    cover = np.clip((y - top) / 0.012, 0, 1) * np.clip((0.215 - np.abs(x)) / 0.03, 0, 1)
    relief = 0.72 + 0.34 * np.exp(-(((y - top - 0.035) / 0.03) ** 2)) - 1.8 * x**2
    relief -= 0.12 * np.exp(-((x / 0.012) ** 2))
    return _reduced(relief[..., None] * _TONGUE, cover, scale / fine)


def _reduced(colour: Floats, cover: Floats, factor: float) -> Sprite:
    """Premultiplied RGBA uint8, reduced by area averaging."""
    rgba = np.dstack([colour * cover[..., None], 255 * cover]).astype(np.float32)
    small = cv2.resize(rgba, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


class Mouth:
    """Paints the inside of a mouth into frames.

    Args:
        unit: the distance between the outer eye corners, in pixels of the frames.
    """

    def __init__(self, unit: float) -> None:
        scale = self._scale = max(1.5 * unit, 40.0)
        self._upper = _teeth(
            (0.094, 0.072, 0.074, 0.055, 0.04), (0.115, 0.102, 0.11, 0.095, 0.085), 0.28, scale
        )
        lower = _teeth((0.058, 0.062, 0.066, 0.055, 0.045), (0.095, 0.095, 0.1, 0.09, 0.08), 0.35, scale)
        # The lower row stands further back, in less light.
        self._lower = (lower[::-1] * (0.86, 0.86, 0.86, 1)).astype(np.uint8)
        self._tongue = _tongue(scale)

    def paint(
        self, frame: NDArray[np.uint8], upper: Floats, lower: Floats, pose: Floats, drop: float, tongue: float
    ) -> None:
        """Paint into ``frame`` (h, w, 3), in place.

        Args:
            upper: inner contour of the upper lip from corner to corner, (11, 2) pixels.
            lower: the same of the lower lip.
            pose: (2, 3) from mouth units (origin: middle of the closed lips) to pixels, at rest of the jaw.
            drop: how far the jaw has come down, in units.
            tongue: 0 lies low, 1 touches the upper teeth.
        """
        height, width = frame.shape[:2]
        contour = np.concatenate([SMOOTH_ROW @ upper, (SMOOTH_ROW @ lower)[::-1]])
        scale = float(np.hypot(pose[0, 0], pose[1, 0]))
        pad = 3 + int(0.05 * scale)
        left, top = np.maximum(np.floor(contour.min(0)).astype(int) - pad, 0)
        right, bottom = np.minimum(np.ceil(contour.max(0)).astype(int) + pad, (width, height))
        if right - left < 4 or bottom - top < 4 or (lower - upper)[:, 1].max() < 0.3:
            return
        size = (int(right - left), int(bottom - top))
        # Filled four times finer: OpenCV's own anti-aliasing would widen the contour, and closed lips would gape.
        fine = np.zeros((4 * size[1], 4 * size[0]), np.uint8)
        cv2.fillPoly(
            fine, [np.round(((contour - (left, top)) * 4 - 0.5) * 256).astype(np.int32)], 255, shift=8
        )
        mask = cv2.resize(fine, size, interpolation=cv2.INTER_AREA)
        cover = cv2.GaussianBlur(mask, (0, 0), 0.5).astype(np.float32) / 255
        # The lips keep the light off: darker towards the contour, above all under the upper lip.
        depth = cv2.GaussianBlur(mask, (0, 0), 0.035 * scale).astype(np.float32) / 255
        shifted = warp(depth, np.array([[1, 0, 0], [0, 1, 0.025 * scale]]), size)
        light = np.clip(1.3 * np.minimum(depth, shifted) + 0.15, 0.42, 1)

        inside = np.empty((*size[::-1], 3), np.float32)
        inside[:] = _CAVITY
        layers = (
            (self._tongue, (0.0, 0.014 + 0.6 * drop - tongue * (0.5 * drop + 0.006))),
            (self._lower, (0.0, drop - 0.012)),
            (self._upper, (0.0, 0.022)),
        )
        for sprite, (dx, dy) in layers:
            self._blend(inside, sprite, pose, (dx, dy), (left, top))
        # Light that comes back from among lips is reddish.
        inside *= light[..., None] ** np.array([0.75, 1.05, 1.25], np.float32)
        region = frame[top:bottom, left:right]
        region[:] = np.rint(region + (inside - region) * cover[..., None]).astype(np.uint8)

    def _blend(
        self,
        inside: NDArray[np.float32],
        sprite: Sprite,
        pose: Floats,
        at: tuple[float, float],
        corner: tuple[int, int],
    ) -> None:
        """Blend a sprite, its middle at ``at`` in mouth units, into ``inside``, whose first pixel is ``corner``."""
        linear = pose[:, :2] / self._scale
        middle = np.array([sprite.shape[1], sprite.shape[0]]) / 2
        offset = pose[:, :2] @ at + pose[:, 2] - corner - linear @ middle
        # Positions are continuous; OpenCV's pixel centres lie on integers.
        matrix = np.column_stack([linear, offset + linear @ (0.5, 0.5) - 0.5])
        drawn = warp(sprite, matrix, (inside.shape[1], inside.shape[0])).astype(np.float32)
        inside *= 1 - drawn[..., 3:] / 255
        inside += drawn[..., :3]
