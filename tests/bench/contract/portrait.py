"""A portrait talker for tests of the contract: it paints a view, with an asset, derived columns and any pose.

Each of its inputs shows in the colour that it paints: red is the asset's weight and the clip's derived tone, green
the pose, blue the sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from models.base import (
    Asset,
    Batch,
    DataInfo,
    Derivation,
    Drive,
    Footage,
    Progress,
    Section,
    Speech,
    Stage,
    Talker,
    TrainConfig,
    Update,
    When,
)
from prep.sample_spec import Column, SampleSpec, Sound

ENTRY = f"{__name__}:Portrait"
VIEW, SIDE = "box128", 128
MEL = Sound("mel", 16)
LOUDNESS = Sound("ear.loudness", 2)


class PortraitConfig(Section):
    #: Changing it changes what is derived.
    gain: float = 1.0
    critic: str = "runs/critic"
    train: TrainConfig = TrainConfig(batch_size=2, steps=3, validate_every=3, sample_every=0)


class PortraitStage(Stage):
    name = "portrait"

    def __init__(self, config: PortraitConfig, net: nn.Module, critic: nn.Module) -> None:
        self.train = config.train
        self.networks = {"net": net}
        self.frozen = {"critic": critic}
        self.sample = SampleSpec(
            window=2,
            view=VIEW,
            frame_sounds=(MEL, LOUDNESS),
            derived=("gaze.centre", "gaze.tone"),
            identity=True,
        )

    def optimizers(self) -> dict[str, Optimizer]:
        return {"net": SGD(self.networks["net"].parameters(), 0.01)}

    def _loss(self, batch: Batch) -> Tensor:
        known = torch.cat(
            [
                batch["gaze.centre"].mean(1),
                batch["gaze.tone"],
                batch["frame_ear.loudness"].mean((1, 3)),
                batch["frame_mel"].mean((1, 2, 3))[:, None],
            ],
            dim=1,
        )
        wanted = batch["images"].float().mean((1, 2, 3, 4))[:, None] / 255
        return (self.networks["net"](known) - self.frozen["critic"](wanted)).square().mean()

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        loss = self._loss(batch)
        yield Update(loss, "net", {"identities": progress.sum(batch["identity"].max().float())})

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self._loss(batch)}


class Portrait(Talker):
    """Paints one colour a frame.

    Args:
        config: a :class:`PortraitConfig`.
        data: of no influence.
    """

    name = "portrait"
    title = "Portrait"
    config_class = PortraitConfig
    views = (VIEW,)
    output = VIEW
    poses = frozenset({"footage", "video", "still"})

    def __init__(self, config: PortraitConfig, data: DataInfo) -> None:
        self.config = config
        self.critic = nn.Linear(1, 1)
        self.net = nn.Linear(2 + 3 + 1 + 1, 1)
        self.networks = {"net": self.net}
        self.stages = {"portrait": PortraitStage(config, self.net, self.critic)}

    @property
    def assets(self) -> dict[str, Asset]:
        when: frozenset[When] = frozenset({"train", "generate", "derive"})
        return {"critic": Asset(self.critic, self.config.critic, when, "critic", "the colour red")}

    @property
    def derivations(self) -> dict[str, Derivation]:
        columns = (
            Column("centre", "frame", (2,)),
            Column("tone", "clip", (3,)),
        )
        loudness = Column("loudness", "sound", (1,), rate=50.0)
        return {
            "gaze": Derivation(
                "gaze", columns, self._gaze, parameters={"gain": self.config.gain}, assets=("critic",)
            ),
            "ear": Derivation("ear", (loudness,), hear=self._hear),
        }

    def _gaze(self, footage: Footage) -> Mapping[str, np.ndarray]:
        if len(footage.speech.samples) == 23 * 640:
            raise ValueError("it looks away")
        points = footage.landmarks("mesh468")
        (first,) = footage.pick([0])
        weight = float(self.critic.weight.detach())
        return {
            "centre": np.nan_to_num(points.mean(1) / [footage.width, footage.height]).astype(np.float32),
            "tone": (first.frame.mean((0, 1)) / 255 * self.config.gain * weight).astype(np.float32),
        }

    def _hear(self, speech: Speech) -> Mapping[str, np.ndarray]:
        return {"loudness": np.abs(speech.samples.astype(np.float32)).reshape(-1, 320, 1).mean(1) / 32768}

    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        footage = drive.footage
        tone = float(footage.derived("gaze.tone").mean())
        pose = None if drive.pose is None else drive.pose.derived("gaze.centre")
        for shot in footage.shots():
            crop = footage.crop(VIEW, shot)
            assert (crop is not None) == bool(footage.detected[shot.index])
            red = 100 * float(self.critic.weight) * tone
            green = 0.0 if pose is None else 200 * float(pose[shot.index].mean())
            blue = 900 * float(drive.speech.chunk(shot.index, LOUDNESS).mean())
            colour = np.array([red, green, blue]).round().clip(0, 255).astype(np.uint8)
            yield np.broadcast_to(colour, (SIDE, SIDE, 3)).copy()
