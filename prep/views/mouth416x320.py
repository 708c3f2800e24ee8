"""The view of G4G and DINet: a face around a square mouth region."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from prep.landmark_sets import MESH_TO_68
from prep.views.geometry import BoxView, Float, Int


def crop_radius(
    landmarks68: npt.ArrayLike, frame_size: tuple[int, int], scale: float = 1.05
) -> tuple[bool, int]:
    """Radius of DINet's crop for a clip (Zhang et al., AAAI 2023, ``compute_crop_radius``).

    Args:
        landmarks68: (T, 68, 2), T > 0, iBUG's points in pixels; fractions are truncated, as in the official code.
        frame_size: width and height, pixels.
        scale: margin factor of the face; in the official code random from 1.05 to 1.15 in training, 1.05 at inference.

    Returns:
        Whether the official code would accept the clip (every crop inside the frame, and the largest radius
        no more than 1.5 times the smallest), and the radius in pixels, a multiple of 4.
    """
    points = np.asarray(landmarks68, np.float64).astype(np.int64)
    down = points[..., 1].max(axis=1) - points[:, 29, 1]
    across = points[:, 54, 0] - points[:, 48, 0]
    radii = np.maximum(down * scale, across * scale) // 2
    radius = (int(radii.max() / 4) + 1) * 4
    boxes = _around(points, radius)
    inside = (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= frame_size).all()
    return bool(inside and radii.max() <= 1.5 * radii.min()), radius


def _around(points: Int, radius: int) -> Int:
    x, y, quarter = points[:, 33, 0], points[:, 29, 1], radius // 4
    return np.stack(
        [x - radius - quarter, y - radius, x + radius + quarter, y + 2 * radius + quarter], axis=-1
    )


def _boxes(points: Float, frame_width: int, frame_height: int) -> Int:
    """Face crop of DINet and G4G: rows 128 to 383 and columns 32 to 287 of it are the 256² mouth region.

    The whole clip has one radius. The official code uses OpenFace's points; this one uses the mesh
    (:data:`~prep.landmark_sets.MESH_TO_68`). The official code drops a clip whose crop is not inside the frame or
    whose face changes its size by more than half; this one repeats the frame's edge and uses the clip's largest
    radius.
    """
    landmarks68 = points[:, MESH_TO_68].astype(np.int64)
    _, radius = crop_radius(landmarks68, (frame_width, frame_height))
    return _around(landmarks68, radius)


VIEW = BoxView("mouth416x320", 320, 416, "G4G, DINet: face 416×320 around a 256² mouth region", _boxes)
