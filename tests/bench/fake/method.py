"""A method small enough to train in a moment: the mean colour of a face from its landmarks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from models.base import (
    Asset,
    Batch,
    DataInfo,
    Drive,
    Progress,
    Section,
    Stage,
    Talker,
    TrainConfig,
    Update,
)
from prep.sample_spec import SampleSpec


class ColourConfig(Section):
    view: str = "box128"
    landmarks: str = "face131"
    hidden: int = Field(8, ge=1, le=512)
    layers: tuple[int, ...] = (1, 2)
    loss: Literal["l1", "l2"] = "l2"
    tag: str | None = None
    learning_rate: float = Field(0.1, gt=0)
    with_expert: bool = False
    train: TrainConfig

    @model_validator(mode="after")
    def _even(self) -> ColourConfig:
        if self.hidden % 2:
            raise ValueError(f"hidden {self.hidden} is odd")
        return self


class FakeConfig(Section):
    colour: ColourConfig
    shade: ColourConfig


class ColourStage(Stage):
    def __init__(self, name: str, config: ColourConfig, expert: nn.Module) -> None:
        self.name = name
        self.config = config
        self.sample = SampleSpec(
            window=1,
            view=config.view,
            landmarks=config.landmarks,
            normalise="frame" if config.landmarks == "landmarks68" else "box",
        )
        self.train = config.train
        self.network = nn.Linear(2, 3)
        self.networks = {name: self.network}
        self.frozen = {"expert": nn.Sequential(expert)} if config.with_expert else {}

    def optimizers(self) -> dict[str, Optimizer]:
        return {"colour": SGD(self.network.parameters(), lr=self.config.learning_rate)}

    def _loss(self, batch: Batch) -> Tensor:
        wanted = batch["images"].float().mean((1, 3, 4)) / 255
        found = self.network(batch["landmarks"].mean((1, 2)))
        return (found - wanted).abs().mean() if self.config.loss == "l1" else (found - wanted).square().mean()

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        loss = self._loss(batch)
        yield Update(loss, "colour", {"L_colour": loss})

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self._loss(batch)}

    def samples(self, batch: Batch) -> dict[str, Tensor]:
        found = self.network(batch["landmarks"].mean((1, 2)))
        truth = batch["images"][:, 0].float() / 255
        return {"generated": found[:, :, None, None].expand_as(truth), "truth": truth}


class Fake(Talker):
    """Learns mean colours.

    For tests.
    """

    name: ClassVar[str] = "fake"
    title: ClassVar[str] = "Fake"
    config_class: ClassVar[type[Section]] = FakeConfig
    weights: ClassVar[str] = "fake_expert"

    def __init__(self, config: Any, data: DataInfo) -> None:
        if config.colour.hidden != config.shade.hidden:
            raise ValueError("colour.hidden and shade.hidden differ")
        self.expert = nn.Linear(2, 3)
        self.stages = {
            name: ColourStage(name, getattr(config, name), self.expert) for name in ("colour", "shade")
        }
        self.networks = {name: stage.networks[name] for name, stage in self.stages.items()}

    @property
    def assets(self) -> dict[str, Asset]:
        return {
            "expert": Asset(
                self.expert,
                self.weights,
                network="colour",
                purpose="the expert's loss",
                without="shade.with_expert=false",
            )
        }

    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        for shot in drive.footage.shots():
            yield torch.zeros(shot.frame.shape, dtype=torch.uint8).numpy()
