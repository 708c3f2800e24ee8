"""Fitting of a space of landmarks: the mean face, then the modes of movement about each clip's mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from baselines.landmarks.points import IBUG
from baselines.landmarks.space import SIZE, LandmarkSpace, aligned
from models.base import FitClip, FitConfig, FitStage, Group, Pass, Sums, Unfit

#: Frames with a face that a clip must have: of fewer, the mean says little.
LEAST = 5
#: Variance of a coefficient below which there is no movement, but rounding.
STILL = 1e-10
#: How often the mean face is found anew, each time of faces that are aligned to the last one.
ROUNDS = 2


class SpaceConfig(FitConfig):
    """Options of the fit.

    Attributes:
        modes: K, principal components that are kept.
    """

    modes: int = Field(default=6, ge=1, le=100)


class SpaceStage(FitStage):
    """Fits a :class:`baselines.landmarks.space.LandmarkSpace` to the training clips.

    Passes: a rough mean face, of each clip's first face turned and scaled by the corners of its eyes; the mean face of
    the faces that are aligned to it, once more; second moments of the deviations from the mean of each clip; and how
    much of these deviations the modes hold in the clips of validation.

    Args:
        config: its options.
        space: to be fitted.
    """

    name = "space"
    passes: ClassVar = (
        Pass("rough shape", "train"),
        *(Pass("shape", "train") for _ in range(ROUNDS)),
        Pass("modes", "train"),
        Pass("held out", "val"),
    )

    def __init__(self, config: SpaceConfig, space: LandmarkSpace) -> None:
        self.config = config
        self._space = space
        self.networks, self.frozen = {"space": space}, {}

    def sums(self, number: int, clip: FitClip) -> Sums:
        """See :meth:`models.base.FitStage.sums`."""
        points = clip.landmarks[np.isfinite(clip.landmarks[:, 0, 0])][:, IBUG].astype(np.float64)
        if len(points) < LEAST:
            raise Unfit(f"fewer than {LEAST} frames with a face")
        faces = torch.from_numpy(points)
        if number == 0:
            return {"shape": _upright(faces[0]).numpy()}
        placed = aligned(faces, self._space.shape)
        if not bool(placed.isfinite().all()):
            raise Unfit("with a face without size")
        if number <= ROUNDS:
            return {"shape": placed.mean(dim=0).numpy()}
        moved = placed[..., : self._space.dimensions].flatten(1)
        moved = moved - moved.mean(dim=0)
        if self.passes[number].part == "train":
            return {"n": np.array(len(moved)), "moments": (moved.T @ moved).numpy()}
        held = moved @ self._space.components.double().T
        return {"total": moved.square().sum().numpy(), "held": held.square().sum().numpy()}

    def take(self, number: int, groups: Sequence[Group]) -> dict[str, float]:
        """See :meth:`models.base.FitStage.take`.

        Returns:
            Of the modes: ``persons``; ``share``, of the variance of the movement, and ``share_1`` of the first mode. Of
            the clips of validation: ``held_out``, the share of the variance of their movement.
        """
        sums = {name: sum(group.sums[name] for group in groups) for name in groups[0].sums}
        if number <= ROUNDS:
            self._set_shape(torch.from_numpy(np.asarray(sums["shape"])))
            return {}
        if self.passes[number].part == "val":
            return {"held_out": float(sums["held"] / max(float(sums["total"]), 1e-12))}
        space = self._space
        values, vectors = np.linalg.eigh(np.asarray(sums["moments"]) / float(sums["n"]))
        count = len(space.components)
        if not values[-count] > STILL:
            raise ValueError(f"the faces move in fewer than {count} ways: fit fewer space.modes")
        values, vectors = values[::-1], vectors[:, ::-1]
        # The sign of an eigenvector is open: its largest number is positive.
        strongest = np.abs(vectors).argmax(axis=0)
        vectors = vectors * np.sign(vectors[strongest, np.arange(vectors.shape[1])])
        space.components.copy_(torch.from_numpy(np.ascontiguousarray(vectors[:, :count].T)))
        space.deviations.copy_(torch.from_numpy(np.sqrt(values[:count])))
        total = float(values.sum())
        return {
            "persons": sum(group.persons for group in groups),
            "share": float(values[:count].sum()) / total,
            "share_1": float(values[0]) / total,
        }

    def about(self) -> dict[str, object]:
        """Which landmarks, and how many modes."""
        return {
            "landmarks": "FaceMesh: ibug68",
            "dimensions": self._space.dimensions,
            "modes": len(self._space.components),
        }

    def _set_shape(self, total: Tensor) -> None:
        shape = total - total.mean(dim=0)
        shape = shape * (SIZE / shape[:, :2].square().sum().sqrt())
        space = self._space
        space.shape.copy_(shape)
        space.mean.copy_(shape[:, : space.dimensions].flatten())


def _upright(face: Tensor) -> Tensor:
    """(68, 3): a face of size 1 about its centre, whose outer corners of the eyes are level and equally deep."""
    centred = face - face.mean(dim=0)
    x = centred[45] - centred[36]
    x = x / x.norm()
    down = centred[33] - centred[27]
    y = down - (down @ x) * x
    y = y / y.norm()
    turned = centred @ torch.stack([x, y, torch.linalg.cross(x, y)], dim=1)
    return turned / turned.square().sum().sqrt()
