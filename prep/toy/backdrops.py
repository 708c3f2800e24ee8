"""Backgrounds out of focus, drawn from random numbers."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_FINE = 256


def backdrop(
    kind: str, wall: tuple[float, float, float], size: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A room behind somebody; uint8 (size, size, 3).

    Args:
        kind: ``studio`` (a lit wall), ``window``, ``shelf`` (of books) or ``bokeh`` (distant lights).
        wall: the colour of the wall, 0 to 255.
        size: side of the frame in pixels.
        rng: where things are and what colours they have.
    """
    y, x = (np.mgrid[:_FINE, :_FINE] + 0.5) / _FINE
    centre = rng.uniform((0.3, 0.2), (0.7, 0.5))
    glow = 1.18 - 0.75 * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2)
    picture = (np.array(wall) * glow[..., None]).astype(np.float32)
    blur = 0.0
    if kind == "window":
        left = rng.uniform(-0.15, 0.05) if rng.random() < 0.5 else rng.uniform(0.62, 0.8)
        for column in range(2):
            for row in range(3):
                low = int((left + 0.24 * column) * _FINE), int((-0.05 + 0.3 * row) * _FINE)
                high = low[0] + int(0.21 * _FINE), low[1] + int(0.27 * _FINE)
                cv2.rectangle(picture, low, high, (225 - 12 * row, 232 - 6 * row, 238), -1)
        blur = 0.022
    elif kind == "shelf":
        for row in range(4):
            top = int((0.02 + 0.27 * row) * _FINE)
            at = int(rng.uniform(-12, 0))
            while at < _FINE:
                width, height = int(rng.integers(7, 17)), int(rng.integers(40, 58))
                colour = np.array(wall) * rng.uniform(0.45, 1.1) + rng.uniform(-30, 30, 3)
                cv2.rectangle(
                    picture,
                    (at, top + 60 - height),
                    (at + width, top + 60),
                    np.clip(colour, 20, 200).tolist(),
                    -1,
                )
                at += width + int(rng.integers(0, 3))
        blur = 0.03
    elif kind == "bokeh":
        picture *= 0.6
        for _ in range(26):
            disc = np.zeros_like(picture)
            place = rng.integers(0, _FINE, 2).tolist()
            colour = rng.uniform((110, 80, 40), (200, 170, 140)).tolist()
            cv2.circle(disc, place, int(rng.integers(8, 22)), colour, -1, cv2.LINE_AA)
            picture += disc * rng.uniform(0.1, 0.4)
        blur = 0.008
    if blur:
        picture = cv2.GaussianBlur(picture, (0, 0), blur * _FINE)
    picture = cv2.resize(
        picture, (size, size), interpolation=cv2.INTER_AREA if size < _FINE else cv2.INTER_LINEAR
    )
    # A little grain keeps slow gradients from banding.
    picture += rng.normal(0, 1.2, (size, size, 1)).astype(np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
