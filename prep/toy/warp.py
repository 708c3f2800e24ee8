"""Smooth image warps: thin-plate splines through mesh points, and their inversion on the pixel grid."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from prep.warping import sample

Floats = NDArray[np.floating]


def _kernel(a: Floats, b: Floats) -> Floats:
    """Thin-plate kernel r² log r between two point sets (n, 2) and (m, 2); (n, m)."""
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2.0 * (a @ b.T)
    np.maximum(squared, 1e-12, out=squared)
    return 0.5 * squared * np.log(squared)


def thin_plate(points: Floats, values: Floats, query: Floats) -> Floats:
    """Interpolate ``values`` (n, k) given at ``points`` (n, 2) to ``query`` (m, 2); float64 (m, k).

    The spline of least bending energy (Bookstein, PAMI 1989).
    """
    n = len(points)
    # Centred and scaled, so that the system stays well conditioned whatever the picture's size.
    origin = points.mean(0)
    scale = float(np.abs(points - origin).max())
    a = (points - origin) / scale
    q = (query - origin) / scale
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = _kernel(a, a)
    system[:n, n] = 1.0
    system[:n, n + 1 :] = a
    system[n:, :n] = system[:n, n:].T
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros((3, values.shape[1]))]))
    return _kernel(q, a) @ weights[:n] + weights[n] + q @ weights[n + 1 :]


def spread(points: Floats, values: Floats, cells: int, coarse: int = 80) -> NDArray[np.float32]:
    """A vector field over the unit square from vectors (n, k, 2) given at scattered points (n, 2).

    Evaluated on a coarse grid and enlarged: thin-plate fields are so smooth that nothing is lost, and the cost no
    longer grows with the picture. Returns float32 (k, cells, cells, 2), in the unit of ``values``.
    """
    axis = (np.arange(coarse) + 0.5) / coarse
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    field = thin_plate(points, values.reshape(len(values), -1), grid).reshape(coarse, coarse, -1, 2)
    planes = np.ascontiguousarray(field.transpose(2, 0, 1, 3), dtype=np.float32)
    return np.stack([cv2.resize(plane, (cells, cells), interpolation=cv2.INTER_CUBIC) for plane in planes])


def invert(field: NDArray[np.float32], targets: NDArray[np.float32], steps: int = 5) -> NDArray[np.float32]:
    """Where the points came from that a displacement moved to ``targets``.

    Solves x + field(x) = target by x ← target - field(x), which converges where the field stretches by less than its
    own length; all lengths and positions are in cells of the field, the first cell's centre at 0.

    Args:
        field: float32 (g, g, 2), what is to be added to (x, y) at each cell.
        targets: float32 (h, w, 2).
        steps: number of iterations; the error shrinks by the field's steepest slope (here < 0.6) each time.
    """
    sources = targets
    for _ in range(steps):
        moved = sample(field, sources)
        sources = targets - moved
    return sources
