"""A talker of one person for tests of the contract: it is built after the data, and fine-tunes before it generates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from models.base import (
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

ENTRY = f"{__name__}:Personal"
VIEW = "box128"


class PersonalConfig(Section):
    adapt_steps: int = 2
    explode: bool = False
    train: TrainConfig = TrainConfig(batch_size=1, steps=2, validate_every=2, sample_every=0)


class Colour(nn.Module):
    """One colour, (3,) in [0, 1]."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.colour = nn.Parameter(start.clone())


class PersonalStage(Stage):
    name = "personal"
    sample = SampleSpec(window=1, view=VIEW)

    def __init__(self, config: PersonalConfig, net: Colour) -> None:
        self.train = config.train
        self.net = net
        self.networks = {"net": net}
        self.frozen = {}

    def optimizers(self) -> dict[str, Optimizer]:
        return {"net": SGD(self.net.parameters(), 0.5)}

    def _loss(self, batch: Batch) -> Tensor:
        return (batch["images"].float().mean((1, 3, 4)) / 255 - self.net.colour).square().sum(1).mean()

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        yield Update(self._loss(batch), "net")

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self._loss(batch)}


class Personal(Talker):
    """Paints the face in the colour of its person.

    Args:
        config: a :class:`PersonalConfig`.
        data: its background gives the first colour, and there must be one person.
    """

    name = "personal"
    title = "Personal"
    config_class = PersonalConfig
    views = (VIEW,)
    background = VIEW
    #: How often it was fine-tuned, for tests.
    adaptations = 0

    def __init__(self, config: PersonalConfig, data: DataInfo) -> None:
        if data.identities > 1:
            raise ValueError(f"it learns one person, not {data.identities}: train it with --per speaker")
        self.config = config
        start = torch.zeros(3)
        if data.background is not None:
            start = torch.from_numpy(data.background.mean((0, 1)) / 255).float()
        self.net = Colour(start)
        self.networks = {"net": self.net}
        self.stages = {"personal": PersonalStage(config, self.net)}

    @property
    def adapts(self) -> bool:
        return self.config.adapt_steps > 0

    def adapt_optimizers(self) -> dict[str, Optimizer]:
        return {"net": SGD(self.net.parameters(), 0.25)}

    def adapt(self, drive: Drive) -> Iterator[Update]:
        type(self).adaptations += 1
        assert len(drive.speech.samples) == 640 * drive.footage.n_frames
        (shot,) = drive.footage.pick([0])
        wanted = torch.from_numpy(shot.frame.mean((0, 1)) / 255).float()
        for _ in range(self.config.adapt_steps):
            loss = (self.net.colour - wanted).square().sum()
            yield Update(loss * float("nan") if self.config.explode else loss, "net")

    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        colour = (self.net.colour.detach() * 255).round().clamp(0, 255).byte().numpy()
        for shot in drive.footage.shots():
            crop = drive.footage.crop(VIEW, shot)
            if crop is not None:
                (sx, _, x), (_, sy, y) = crop.transform
                x0, y0 = round(-x / sx), round(-y / sy)
                shot.frame[y0 : y0 + round(SIDE / sy), x0 : x0 + round(SIDE / sx)] = colour
            yield shot.frame


SIDE = 128
