"""IP-LAP's sketches: line drawings of its 131 landmarks, which are the renderer's input for the outline of the face."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

#: Pixels of a sketch's side, and of the pictures that go with it.
SIZE = 128

# Positions in the order of the networks: 74 of the pose (temples 0-7, brows, nose, eyes), 17 of the jaw, 20 of
# the outer and 20 of the inner lips. The oval is open over the forehead; eyes and lips are closed.
_PATHS = [
    np.array(path)
    for path in (
        [*range(4), *range(74, 91), *range(4, 8)],
        *(range(start, start + 5) for start in (8, 13, 18, 23)),
        [*range(28, 33), 37],
        range(33, 42),
        *([*range(start, stop), start] for start, stop in ((42, 58), (58, 74), (91, 111), (111, 131))),
    )
]

#: (125, 2) int64: the drawn edges, positions among the 131.
EDGES = np.concatenate([np.stack([path[:-1], path[1:]], axis=1) for path in _PATHS])

_COLOUR = 224


def draw_sketches(points: npt.ArrayLike, sizes: npt.ArrayLike) -> np.ndarray:
    """Draw landmarks as IP-LAP's ``preprocess_video.py`` does.

    Lines one pixel wide are drawn on a canvas of the box's shape whose shorter side is 128, which is then
    stretched to a square, so that lines turn grey along the longer side. A point outside the box takes the
    edges that end in it along.

    Args:
        points: (n, 131, 2) float, x and y from 0 to 1 over a box; pose, jaw, outer and inner lips. In float64
            they fall on the pixels of the official preprocessing, in float32 on those of its inference.
        sizes: (n, 2) float, width and height of the box in pixels.

    Returns:
        (n, 128, 128) uint8, 0 or up to 224; each of the three official channels. IP-LAP rounds to 8 bits in
        training, as here, but not at inference.

    Raises:
        ValueError: the shapes differ from these, or a box is empty.
    """
    points, sizes = np.asarray(points), np.asarray(sizes, np.float64)
    if points.ndim != 3 or points.shape[1:] != (131, 2) or sizes.shape != (len(points), 2):
        raise ValueError(f"points {points.shape} and sizes {sizes.shape} are not (n, 131, 2) and (n, 2)")
    if not (sizes > 0).all():
        raise ValueError("a box of a sketch is empty")
    canvases = (sizes * SIZE / sizes.min(axis=1, keepdims=True)).astype(np.int64)
    inside: np.ndarray = np.all((points >= 0) & (points <= 1), axis=2)
    limits = canvases[:, None].astype(points.dtype)
    pixels = np.floor(np.where(inside[..., None], points, 0) * limits)
    pixels = np.minimum(pixels, limits - 1).astype(np.int32)
    sketches = np.empty((len(points), SIZE, SIZE), np.uint8)
    for sketch, (width, height), at, shown in zip(sketches, canvases.tolist(), pixels, inside, strict=True):
        canvas = np.zeros((height, width), np.uint8)
        paths = _PATHS if shown.all() else EDGES[shown[EDGES].all(axis=1)]
        cv2.polylines(canvas, [at[path] for path in paths], False, _COLOUR)
        if (width, height) == (SIZE, SIZE):
            sketch[:] = canvas
        else:
            # Of floats, since OpenCV's rule for bytes rounds its weights.
            np.rint(cv2.resize(canvas.astype(np.float32), (SIZE, SIZE)), out=sketch, casting="unsafe")
    return sketches
