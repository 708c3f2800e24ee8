"""How ATVGnet's networks see landmarks: relative to the example's, with or without the person's own shape."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from baselines.landmarks.fitting import SpaceConfig
from baselines.landmarks.space import LandmarkSpace

#: Whether landmarks say whose face it is.
Identity = Literal["removed", "kept"]


class FacesConfig(SpaceConfig):
    """Table ``[space]``: how landmarks are given to both networks.

    Attributes:
        identity: ``removed``: the example's landmarks are the mean face, whoever it is, and a frame's are the mean face
            and how the frame differs from the example (code); ``kept``: both are those of the person.
    """

    identity: Identity = "removed"


class Faces:
    """Landmarks as the networks take them.

    Args:
        space: fitted.
        identity: see :class:`FacesConfig`.
    """

    def __init__(self, space: LandmarkSpace, identity: Identity) -> None:
        self.space = space
        self.removed = identity == "removed"

    def start(self, example: Tensor) -> Tensor:
        """(B, 68, 3) points of examples, pixels → (B, K): the coefficients that the landmark network begins with."""
        if self.removed:
            neutral = self.space.shape[:, : self.space.dimensions].flatten()
            return self.space.coefficients(neutral).expand(len(example), -1)
        return self.own(example)

    def own(self, points: Tensor) -> Tensor:
        """(..., 68, 3) points, pixels → (..., K): coefficients of the faces as they are."""
        return self.space.coefficients(self.space.frontal(points))

    def wanted(self, points: Tensor, example: Tensor) -> Tensor:
        """What the landmark network is to give: (B, T, 68, 3) and (B, 68, 3) points, pixels → (B, T, K)."""
        found = self.own(points)
        return found + (self.start(example) - self.own(example))[:, None] if self.removed else found

    def shown(self, example: Tensor) -> Tensor:
        """(..., 68, 2 or 3) points of examples, pixels → (..., 136): what the picture network takes them for."""
        if self.removed:
            return self.space.shape[:, :2].flatten().expand(*example.shape[:-2], -1)
        return self.space.flat(example)

    def targets(self, points: Tensor, example: Tensor) -> Tensor:
        """What the picture network paints in training: (B, T, 68, 2) and (B, 68, 2) points, pixels → (B, T, 136)."""
        flat = self.space.flat(points)
        return flat + (self.shown(example) - self.space.flat(example))[:, None] if self.removed else flat

    def spoken(self, predicted: Tensor, start: Tensor, own: Tensor, shown: Tensor, factors: Tensor) -> Tensor:
        """What the picture network paints in generation.

        The code adds the amplified coefficients to the mean of its principal components, and not to the landmarks that
        the example is taken for; so does this where identity is removed.

        Args:
            predicted: (T, K), of the landmark network.
            start: (K,), what it began with.
            own: (T, K) or (1, K): coefficients of the mouth that the example of each frame has, less those of the first
                example.
            shown: (T, 136) or (1, 136), of the examples, see :meth:`shown`.
            factors: (K,), by which movements are amplified (code: ω).

        Returns:
            (T, 136).
        """
        if self.removed:
            return self.space.mean + self.space.movement(factors * predicted - own)
        return shown + self.space.movement(factors * (predicted - start) - own)
