"""A small method for tests of the runner: a GAN of linear maps with dropout, and a second stage over the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bench.train.config import RunConfig, load_config
from bench.train.log import Speed
from models.base import Batch, DataInfo, Drive, Progress, Section, Stage, Talker, TrainConfig, Update
from prep.sample_spec import SampleSpec, Sound

NAME = "fake"
ENTRY = "tests.bench.fake_training:Fake"
PRESET = """
[adversarial.train]
batch_size = 2
steps = 6
validate_every = 2
sample_every = 3
checkpoint_every = 3
monitor = "error"

[polish.train]
batch_size = 2
steps = 2
validate_every = 2
sample_every = 0
monitor = "error"

[runner]
device = "cpu"
precision = "no"
log_every = 1
workers = 0
tensorboard = false
"""


class AdversarialConfig(Section):
    learning_rate: float = 0.01
    dropout: float = 0.5
    momentum: bool = True
    explode_at: int | None = None
    train: TrainConfig


class PolishConfig(Section):
    learning_rate: float = 0.01
    train: TrainConfig


class FakeConfig(Section):
    adversarial: AdversarialConfig
    polish: PolishConfig


class _Stage(Stage):
    sample = SampleSpec(
        window=3,
        landmarks="lips",
        normalise="view",
        view="box128",
        view_frames=(0,),
        window_sounds=(Sound("mel"),),
    )

    def prepare(self, sample: Batch) -> Batch:
        return {**sample, "target": sample["landmarks"].mean(dim=0).flatten() / 128}

    def _optimizer(self, network: nn.Module, learning_rate: float, adam: bool = True) -> Optimizer:
        parameters = network.parameters()
        return (
            torch.optim.Adam(parameters, learning_rate)
            if adam
            else torch.optim.SGD(parameters, learning_rate)
        )


class Adversarial(_Stage):
    name = "adversarial"

    def __init__(self, config: AdversarialConfig, generator: nn.Module, discriminator: nn.Module) -> None:
        self.config, self.train = config, config.train
        self.generator, self.discriminator = generator, discriminator
        self.networks, self.frozen = {"generator": generator, "discriminator": discriminator}, {}
        self.validations = 0
        self.seen: list[list[str]] = []
        self.gradients_left = False

    def optimizers(self) -> dict[str, Optimizer]:
        rate, adam = self.config.learning_rate, self.config.momentum
        return {
            "generator": self._optimizer(self.generator, rate, adam),
            "discriminator": self._optimizer(self.discriminator, rate, adam),
        }

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        self.seen.append(list(batch["clip"]))
        fake = self.generator(batch["window_mel"].flatten(1))
        error = (fake - batch["target"]).abs().mean()
        if progress.step == self.config.explode_at:
            error = error * float("nan")
        loss = error + 0.01 * (self.discriminator(fake) - 1).square().mean()
        yield Update(loss, "generator", {"L1": error})
        self.gradients_left |= any(p.grad is not None for p in self.discriminator.parameters())
        judged = (
            self.discriminator(fake.detach()).square() + (self.discriminator(batch["target"]) - 1).square()
        )
        yield Update(judged.mean(), "discriminator", {"L_d": judged.mean()})

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        fake = self.generator(batch["window_mel"].flatten(1))
        return {"error": (fake - batch["target"]).abs().mean()}

    def validated(self, figures: Mapping[str, float]) -> None:
        self.validations += 1

    def samples(self, batch: Batch) -> dict[str, Tensor]:
        return {"truth": batch["images"][:, 0].float() / 255}

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self.validations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.validations = state["validations"]


class Polish(_Stage):
    name = "polish"

    def __init__(self, config: PolishConfig, generator: nn.Module, bias: nn.Module) -> None:
        self.config, self.train = config, config.train
        self.generator, self.bias = generator, bias
        self.networks, self.frozen = {"bias": bias}, {"generator": generator}

    def optimizers(self) -> dict[str, Optimizer]:
        return {"bias": self._optimizer(self.bias, self.config.learning_rate)}

    def _error(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            fake = self.generator(batch["window_mel"].flatten(1))
        return (self.bias(fake) - batch["target"]).abs().mean()

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        error = self._error(batch)
        yield Update(error, "bias", {"L1": error})

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        return {"error": self._error(batch)}


class Fake(Talker):
    name = NAME
    title = "Fake"
    config_class = FakeConfig

    def __init__(self, config: FakeConfig, data: DataInfo) -> None:
        points = 80
        self.networks = {
            "generator": nn.Sequential(nn.Dropout(config.adversarial.dropout), nn.Linear(1280, points)),
            "discriminator": nn.Linear(points, 1),
            "bias": nn.Linear(points, points),
        }
        generator, discriminator, bias = self.networks.values()
        self.stages = {
            "adversarial": Adversarial(config.adversarial, generator, discriminator),
            "polish": Polish(config.polish, generator, bias),
        }

    @property
    def needed_networks(self) -> tuple[str, ...]:
        return ("generator", "bias")

    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        return (shot.frame for shot in drive.footage.shots())


class Recorder:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []
        self.speeds: list[Speed] = []
        self.steps: list[int] = []

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [line[1:] for line in self.lines if line[0] == kind]

    def begin(self, stage: str, start_step: int, total_steps: int | None) -> None:
        self.lines.append(("begin", stage, start_step, total_steps))

    def advance(self, stage: str, step: int) -> None:
        self.steps.append(step)

    def step(self, stage: str, step: int, epoch: float, logs: Mapping[str, float], speed: Speed) -> None:
        self.lines.append(("step", stage, step, epoch, dict(logs)))
        self.speeds.append(speed)

    def validation(self, stage: str, step: int, figures: Mapping[str, float], best: bool) -> None:
        self.lines.append(("validation", stage, step, dict(figures), best))

    def pictures(self, stage: str, step: int, columns: Mapping[str, Tensor]) -> None:
        self.lines.append(
            ("pictures", stage, step, {name: tuple(value.shape) for name, value in columns.items()})
        )

    def note(self, text: str) -> None:
        self.lines.append(("note", text))

    def end(self, stage: str, reason: str) -> None:
        self.lines.append(("end", stage, reason))


def config_for(data: Path, run: Path, *overrides: str) -> RunConfig:
    """The fake method's configuration: a log line every step, no loader workers."""
    preset = run.parent / "preset.toml"
    preset.write_text(PRESET)
    return load_config(NAME, str(preset), overrides, [data], run)
