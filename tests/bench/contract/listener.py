"""A talker that hears speech logits, for tests: red is their mean about a frame, green their largest symbol."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from baselines.speech.features import LOGITS, SpeechSource, frame_logits, speech_features
from models.base import (
    Asset,
    Batch,
    DataInfo,
    Derivation,
    Drive,
    Progress,
    Section,
    Stage,
    Talker,
    TrainConfig,
    Update,
)
from prep.sample_spec import SampleSpec, Sound

ENTRY = f"{__name__}:Listener"
VIEW, SIDE = "box128", 128
HEARD = Sound(LOGITS, columns=9, lead=4)


class ListenerConfig(Section):
    speech: SpeechSource = SpeechSource(width=16, layers=1)
    train: TrainConfig = TrainConfig(batch_size=2, steps=2, validate_every=2, sample_every=0)


class ListenerStage(Stage):
    name = "listener"
    sample = SampleSpec(window=1, frame_sounds=(HEARD,))

    def __init__(self, config: ListenerConfig, net: nn.Module) -> None:
        self.train, self.networks, self.frozen = config.train, {"net": net}, {}

    def optimizers(self) -> dict[str, Optimizer]:
        return {"net": SGD(self.networks["net"].parameters(), 1e-3)}

    def _loss(self, batch: Batch) -> Tensor:
        heard: Tensor = batch[f"frame_{LOGITS}"][:, 0, :, ::2]
        assert heard.shape[1:] == (29, 5)
        loss: Tensor = self.networks["net"](heard.mean(2)).square().mean()
        return loss

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        yield Update(self._loss(batch), "net")

    def validate(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self._loss(batch)}


class Listener(Talker):
    name = "listener"
    title = "Listener"
    config_class = ListenerConfig
    views = (VIEW,)
    output = VIEW

    def __init__(self, config: ListenerConfig, data: DataInfo) -> None:
        self.speech = speech_features(config.speech)
        self.net = nn.Linear(29, 1)
        self.networks = {"net": self.net}
        self.stages = {"listener": ListenerStage(config, self.net)}

    @property
    def assets(self) -> dict[str, Asset]:
        return dict(self.speech.assets)

    @property
    def derivations(self) -> dict[str, Derivation]:
        return dict(self.speech.derivations)

    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        heard = frame_logits(drive.speech.feature(LOGITS))
        assert heard.shape == (drive.footage.n_frames, 29, 5)
        for window in heard:
            colour = np.array([colour_of(window), 8 * int(window.mean(1).argmax()), 0], np.uint8)
            yield np.broadcast_to(colour, (SIDE, SIDE, 3)).copy()


def colour_of(window: np.ndarray) -> int:
    """0 to 255 of what a frame hears."""
    return int(np.clip(128 + 20 * window[:, 2].mean(), 0, 255))
