"""The space of landmarks: aligned to a mean face, and as few modes of movement."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from baselines.landmarks.points import COUNT, LOWER, STEADY, UPPER

#: The size of the mean face: the root of the summed squares of its x and y. Coordinates are then about -1 to 1.
SIZE = 5.0


class LandmarkSpace(nn.Module):
    """A mean face, and the principal components of how faces move about their own means.

    Faces are aligned by nose and corners of the eyes. In three dimensions that removes the turns of the head too, which
    in the plane are the strongest modes: of 89 clips of real persons, the first mode then correlates with the opening
    of the lips by 0.86, while in the plane the first two are turns. Components are those of the deviations from the
    mean of each clip, so that none is spent on how persons differ. All is fitted by
    :class:`baselines.landmarks.fitting.SpaceStage`; before that, it is drawn with torch's default generator.

    Args:
        modes: K, how many.
        dimensions: D, of a point in modes: 2, x and y after alignment, or 3.

    Attributes:
        shape: (68, 3) float32, the mean face, centred; its x and y have the size :data:`SIZE`.
        mean: (68 D,) float32, x and y (and z) of a point side by side: the face whose coefficients are 0.
        components: (K, 68 D) float32, orthonormal rows, the strongest first.
        deviations: (K,) float32, standard deviations of the coefficients within a clip.
    """

    shape: Tensor
    mean: Tensor
    components: Tensor
    deviations: Tensor

    def __init__(self, modes: int, dimensions: Literal[2, 3] = 2) -> None:
        super().__init__()
        self.dimensions = dimensions
        shape = torch.randn(COUNT, 3) * SIZE / (2 * COUNT) ** 0.5
        self.register_buffer("shape", shape)
        self.register_buffer("mean", shape[:, :dimensions].flatten())
        self.register_buffer(
            "components", torch.randn(modes, COUNT * dimensions) / (COUNT * dimensions) ** 0.5
        )
        self.register_buffer("deviations", torch.zeros(modes))

    def frontal(self, points: Tensor) -> Tensor:
        """Faces seen from the front, without the movement of the head.

        Args:
            points: (..., 68, 3) float, pixels, z scaled like x.

        Returns:
            (..., 68 D): the similarity in space that brings the steady points nearest to those of the mean face, as x,
            y (and z) of one point after the other; float64 where ``points`` are, else float32.
        """
        placed = aligned(points, self.shape)
        return placed[..., : self.dimensions].flatten(-2)

    def flat(self, points: Tensor) -> Tensor:
        """Faces as they are seen, at the mean face's place and size.

        Args:
            points: (..., 68, 2 or 3) float, pixels; z is left out.

        Returns:
            (..., 136), of the same types: the similarity in the plane that brings the steady points nearest to those of
            the mean face, as x, y of one point after the other.
        """
        return aligned(points[..., :2], self.shape[:, :2]).flatten(-2)

    def coefficients(self, faces: Tensor) -> Tensor:
        """(..., 68 D) of :meth:`frontal` → (..., K) float32."""
        with torch.autocast(faces.device.type, enabled=False):
            return (faces.float() - self.mean) @ self.components.T

    def movement(self, coefficients: Tensor) -> Tensor:
        """(..., K) → (..., 68 D) float32: what coefficients add to a face."""
        with torch.autocast(coefficients.device.type, enabled=False):
            return coefficients.float() @ self.components


def aligned(points: Tensor, shape: Tensor) -> Tensor:
    """Bring faces to the place, turn and size of a shape, by their steady points, in the sense of least squares.

    Umeyama, PAMI 1991, without reflections, in two or three dimensions.

    Args:
        points: (..., 68, D) float.
        shape: (68, D) float.

    Returns:
        (..., 68, D), float64 where ``points`` are, else float32. NaN where the steady points are one point, or a point
        is NaN.
    """
    steady = list(STEADY)
    with torch.autocast(points.device.type, enabled=False):
        points = points if points.dtype == torch.float64 else points.float()
        shape = shape.to(points.dtype)
        centre, aim = points[..., steady, :].mean(-2, keepdim=True), shape[steady].mean(0)
        given, wanted = points[..., steady, :] - centre, shape[steady] - aim
        known = given.isfinite().all(-1).all(-1)[..., None, None]
        product = torch.where(known, given, 0).transpose(-1, -2) @ wanted
        u, s, vt = torch.linalg.svd(product)
        flip = torch.ones_like(s)
        flip[..., -1] = torch.linalg.det(u @ vt).sign()
        scale = (s * flip).sum(-1)[..., None, None] / given.square().sum((-1, -2), keepdim=True)
        turn = (u * flip[..., None, :]) @ vt
        # Of a shape that is one point there is no scale either: 0 is none.
        scale = torch.where(scale > 0, scale, torch.nan)
        return (points - centre) @ (scale * turn) + aim


def opening(faces: Tensor) -> Tensor:
    """How far the lips are open: (..., 136), x and y of one point after the other → (...), in their unit."""
    return faces[..., 2 * LOWER + 1] - faces[..., 2 * UPPER + 1]
