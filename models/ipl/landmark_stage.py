"""Training of IP-LAP's landmark generator (Zhong et al., CVPR 2023, section 3.1; ``train_landmarks_generator.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.optim import Adam, Optimizer

from models.base import Batch, Progress, Section, Stage, TrainConfig, Update
from models.ipl.landmark import JAW, LIPS, POSE, LandmarkGenerator, LandmarkNetwork, LSTMLandmarkGenerator
from models.ipl.sketch import draw_sketches
from models.ipl.sound import SOUNDS
from models.losses import continuity, point_l1
from prep.sample_spec import SampleSpec


class LandmarkConfig(Section):
    """The landmark stage; defaults are the paper's, or its code's where the paper says nothing.

    Attributes:
        backbone: the paper's transformer, or its variant with a bidirectional LSTM (Table 3).
        window: T, consecutive frames.
        references: N_l, frames whose landmarks are the prior (section 4.1: 15).
        d_model: d (section 4.1: 512).
        width: factor on the channels of the encoders.
        layers: of the transformer, or of the LSTM.
        heads: of attention.
        feedforward: inner size of the transformer's MLPs.
        dropout: rate.
        norm_first: layer normalisation before attention and MLP, as in equation 7, but not in the code.
        residual: predict what is added to the mean jaw and lips of the references, at first 0. It is not in the
            paper, whose absolute positions start at random and need more than a hundred steps to come near that mean.
        loss_form: ``code``: L_1 is a mean over coordinates, and L_c takes the norm of all 57 points; ``paper``:
            equations 10 and 11, where L_1 is a sum over coordinates, 114 times as much, and L_c takes jaw and
            lips apart. With the same ``continuity_weight`` the two give quite different weights to L_c.
        continuity_weight: λ_c of equation 12.
        learning_rate: of Adam.
        train: how the runner trains it.
    """

    backbone: Literal["transformer", "lstm"] = "transformer"
    window: int = Field(5, ge=2, le=512)
    references: int = Field(15, ge=1)
    d_model: int = Field(512, ge=2, multiple_of=2)
    width: float = Field(1.0, gt=0)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    feedforward: int = Field(1024, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    norm_first: bool = False
    residual: bool = False
    loss_form: Literal["code", "paper"] = "code"
    continuity_weight: float = Field(1.0, ge=0)
    learning_rate: float = Field(1e-4, gt=0)
    train: TrainConfig

    @model_validator(mode="after")
    def _heads_share_the_embedding(self) -> LandmarkConfig:
        if self.backbone == "transformer" and self.d_model % self.heads:
            raise ValueError(f"d_model {self.d_model} is not a multiple of heads {self.heads}")
        return self

    def build(self) -> LandmarkNetwork:
        """Build the network, with torch's default generator."""
        if self.backbone == "lstm":
            return LSTMLandmarkGenerator(self.d_model, self.layers, self.dropout, self.width, self.residual)
        return LandmarkGenerator(
            self.d_model,
            self.layers,
            self.heads,
            self.feedforward,
            self.dropout,
            self.width,
            self.norm_first,
            self.residual,
        )


class LandmarkStage(Stage):
    """Landmarks of jaw and lips, from the sound, the pose and other frames of the same clip.

    Args:
        config: of this stage.
        network: what :meth:`LandmarkConfig.build` gave.
    """

    name = "landmark"

    def __init__(self, config: LandmarkConfig, network: LandmarkNetwork) -> None:
        self.config = config
        self.train = config.train
        self.sample = SampleSpec(
            window=config.window,
            references=config.references,
            landmarks="face131",
            normalise="box",
            frame_sounds=(SOUNDS["iplap"],),
            min_frames=25,
        )
        self.networks = {"landmark": network}
        self.frozen = {}

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with torch's betas and no weight decay, as in the official code."""
        return {"landmark": Adam(self.networks["landmark"].parameters(), lr=self.config.learning_rate)}

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """One step on L_1 + λ_c L_c (equation 12); logged as ``L1`` and ``velocity``, before weighting."""
        losses = self._losses(self._predict(batch), _content(batch))
        yield Update(losses.pop("loss"), "landmark", losses)

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """``L1``, ``velocity``, ``loss``, and ``lip_distance``.

        The last is the mean Euclidean distance of the 40 points of the lips, x in widths and y in heights of
        IP-LAP's box. The metric ``lmd.lip_norm`` is the same of landmarks that are found in a generated video,
        and its box has no margin.
        """
        predicted, truth = self._predict(batch), _content(batch)
        lips = (predicted - truth)[:, :, JAW:]
        return {**self._losses(predicted, truth), "lip_distance": lips.norm(dim=3).mean()}

    @torch.no_grad()
    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """Sketches of a reference, and of the middle frame of the window as predicted and as it is."""
        middle = self.config.window // 2
        truth = batch["landmarks"][:, middle]
        predicted = torch.cat([truth[:, :POSE], self._predict(batch)[:, middle]], dim=1)
        return {
            "reference": _sketches(batch["reference_landmarks"][:, 0], batch["reference_boxes"][:, 0]),
            "predicted": _sketches(predicted, batch["boxes"][:, middle]),
            "truth": _sketches(truth, batch["boxes"][:, middle]),
        }

    def _predict(self, batch: Batch) -> Tensor:
        """(B, T, 57, 2) float32."""
        pose = batch["landmarks"][:, :, :POSE].transpose(2, 3)
        references = batch["reference_landmarks"].transpose(2, 3)
        return self.networks["landmark"](
            batch["frame_mel"].unsqueeze(2), pose, references[..., :POSE], references[..., POSE:]
        )

    def _losses(self, predicted: Tensor, truth: Tensor) -> dict[str, Tensor]:
        l1 = point_l1(predicted, truth)
        if self.config.loss_form == "paper":
            l1 = l1 * truth[0, 0].numel()
            velocity = continuity(predicted, truth, groups=(JAW, LIPS))
        else:
            velocity = continuity(predicted, truth)
        return {"L1": l1, "velocity": velocity, "loss": l1 + self.config.continuity_weight * velocity}


def _content(batch: Batch) -> Tensor:
    """The (B, T, 57, 2) true points of jaw and lips."""
    return batch["landmarks"][:, :, POSE:]


def _sketches(points: Tensor, boxes: Tensor) -> Tensor:
    """Draw (B, 131, 2) points in (B, 4) boxes: (B, 3, 128, 128) float in [0, 1]."""
    sizes = (boxes[:, 2:] - boxes[:, :2]).cpu().numpy()
    drawn = torch.from_numpy(draw_sketches(points.cpu().numpy(), sizes))
    return (drawn[:, None] / 255).expand(-1, 3, -1, -1)
