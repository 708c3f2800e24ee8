"""Training of ATVGnet's landmark network (``atnet.py`` of its code)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.optim import Adam, Optimizer

from baselines.atvg.faces import Faces
from baselines.atvg.landmark_network import LandmarkNetwork
from baselines.atvg.layers import initialise
from baselines.landmarks.points import MOUTH
from baselines.landmarks.space import opening
from models.base import Batch, Progress, Section, Stage, TrainConfig, Update
from prep.sample_spec import MFCC_28X12, SampleSpec


class LandmarkConfig(Section):
    """Stage ``at``; defaults are those of the code.

    Attributes:
        width: factor on the channels of every layer.
        least: the smallest number of channels of a convolution.
        residual: what is computed is added to the example's coefficients. Neither paper nor code has it; without it, a
            network that was trained on few persons takes a new one for another.
        window: frames of a sample.
        example: ``before``: the frame before the window (code); ``any``: any frame outside of it.
        learning_rate: of Adam.
        betas: of Adam.
        train: how the runner trains it.
    """

    width: float = Field(1.0, gt=0)
    least: int = Field(1, ge=1)
    residual: bool = False
    window: int = Field(16, ge=2)
    example: Literal["before", "any"] = "before"
    learning_rate: float = Field(2e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    train: TrainConfig

    def build(self, modes: int) -> LandmarkNetwork:
        """Build the network, with torch's default generator and the code's first weights."""
        network = LandmarkNetwork(modes, self.width, self.least, self.residual)
        initialise(network)
        return network


class LandmarkStage(Stage):
    """Coefficients of landmarks from sound and those of an example: their squared error.

    Args:
        config: of this stage.
        network: trained.
        faces: the fitted space, and how it is used.
    """

    name = "at"

    def __init__(self, config: LandmarkConfig, network: LandmarkNetwork, faces: Faces) -> None:
        self.config = config
        self.train = config.train
        before = config.example == "before"
        self.sample = SampleSpec(
            window=config.window + before,
            references=0 if before else 1,
            landmarks="ibug68",
            depth=True,
            frame_sounds=(MFCC_28X12,),
        )
        self.networks = {"at": network}
        self.frozen = {"space": faces.space}
        self.compiled = ("at",)
        self._network, self._faces = network, faces

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam."""
        config = self.config
        return {"at": Adam(self._network.parameters(), config.learning_rate, config.betas)}

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """One step on the squared error of coefficients, ``mse``."""
        wanted, predicted, _ = self._predict(batch)
        error = F.mse_loss(predicted, wanted)
        yield Update(error, "at", {"mse": error})

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``: the squared error of coefficients.

        ``mouth``: the mean distance of the points of the mouth, seen from the front, from the true ones, as a share of
        the distance of the outer corners of the mean face's eyes; ``still``: that of the example's mouth. ``opening``:
        the correlation of the opening of the lips with the true one over the frames of a window.
        """
        wanted, predicted, points = self._predict(batch)
        space = self._faces.space
        true = space.frontal(points)
        example = space.frontal(self._example(batch))[:, None]
        begun = self._faces.start(self._example(batch))[:, None]
        made = example + space.movement(predicted - begun)
        eyes = (space.shape[45, :2] - space.shape[36, :2]).norm()
        return {
            "loss": F.mse_loss(predicted, wanted),
            "mouth": _mouth_distance(made, true) / eyes,
            "still": _mouth_distance(example.expand_as(true), true) / eyes,
            "opening": _correlation(opening(made), opening(true)).mean(),
        }

    def _example(self, batch: Batch) -> Tensor:
        """(B, 68, 3)."""
        given = "landmarks" if self.config.example == "before" else "reference_landmarks"
        example: Tensor = batch[given][:, 0]
        return example

    def _predict(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, K) wanted and predicted float32 coefficients, and (B, T, 68, 3) points."""
        first = int(self.config.example == "before")
        points, sound = batch["landmarks"][:, first:], batch["frame_mfcc12"][:, first:]
        example = self._example(batch)
        predicted = self._network(self._faces.start(example), sound.transpose(2, 3))
        return self._faces.wanted(points, example), predicted.float(), points


def _mouth_distance(faces: Tensor, others: Tensor) -> Tensor:
    """Mean distance of the mouths of faces, (..., 136) both: ()."""
    off = (faces - others).unflatten(-1, (-1, 2))[..., MOUTH, :]
    return off.norm(dim=-1).mean()


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation along the last axis; 0 where one of both does not change."""
    first, second = (one - one.mean(-1, keepdim=True) for one in (first, second))
    spread = (first.square().sum(-1) * second.square().sum(-1)).sqrt()
    return (first * second).sum(-1) / spread.clamp(min=1e-8)
