"""A method whose frames can be told by heart: it turns the lower half of the face's box into its negative."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import nn

from bench.common.methods import METHODS
from bench.train.checkpoint import write_networks
from bench.train.config import load_config
from models.base import Batch, DataInfo, Drive, Progress, Section, Stage, Talker, TrainConfig, Update
from prep.mesh_search import POINTS
from prep.sample_spec import SampleSpec, Sound
from tests.prep.fakes import fake_clip

#: Bits of a frame's number, and the side of the square that shows one.
BITS, SIDE = 12, 12


class GenerateConfig(Section):
    #: A sound whose loudest sample is just this makes generation fail.
    fails_at: int = -1
    fewer: int = 0
    #: From which the lower half of the face is subtracted.
    bright: int = Field(default=255, ge=1, le=255)


class FakeConfig(Section):
    train: TrainConfig = TrainConfig(batch_size=1)
    size: int = 2
    generate: GenerateConfig = GenerateConfig()


class FakeStage(Stage):
    name = "only"
    sample = SampleSpec()

    def __init__(self, config: FakeConfig, net: nn.Module) -> None:
        self.train = config.train
        self.networks = {"net": net}
        self.frozen = {}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {}

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        yield from ()

    def validate(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {}


class Fake(Talker):
    name = "fake"
    title = "Fake"
    config_class = FakeConfig
    views = ("box128",)

    def __init__(self, config: FakeConfig, data: DataInfo) -> None:
        self.config = config
        self.net = nn.Linear(config.size, 1)
        self.networks = {"net": self.net}
        self.stages = {"only": FakeStage(config, self.net)}

    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        assert not self.net.training and not torch.is_grad_enabled()
        if (
            round(float(drive.speech.chunk(2, Sound("mel", offset=-2)).max()) * 1000)
            == self.config.generate.fails_at
        ):
            raise RuntimeError("out of memory\nand a page of advice")
        footage = drive.footage
        for shot in footage.shots():
            if shot.index >= footage.n_frames - self.config.generate.fewer:
                return
            crop = footage.crop("box128", shot)
            if crop is not None:
                x0, y0, x1, y1 = box(crop.transform)
                part = shot.frame[(y0 + y1) // 2 : y1, x0:x1]
                part[:] = self.config.generate.bright - np.minimum(part, self.config.generate.bright)
            yield shot.frame

    @classmethod
    def from_official(cls, state: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
        if "their.weight" not in state:
            raise ValueError("not a checkpoint of Fake: their.weight is missing")
        return {"net": {key.replace("their.", ""): value for key, value in state.items()}}


def box(transform: np.ndarray) -> tuple[int, int, int, int]:
    """Where a crop of 128² lies in the frame: x0, y0, x1, y1."""
    (sx, _, x), (_, sy, y) = transform
    x0, y0 = round(-x / sx), round(-y / sy)
    return x0, y0, x0 + round(128 / sx), y0 + round(128 / sy)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained run of the fake method, which is registered."""
    register(monkeypatch)
    return make_run(tmp_path / "runs" / "fake")


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.entries, "fake", f"{__name__}:Fake")


def make_run(folder: Path, *overrides: str, weights: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    preset = folder.parent / "preset.toml"
    preset.write_text("")
    config = load_config("fake", str(preset), overrides, (), folder)
    torch.manual_seed(weights)
    method = Fake(config.method_config, DataInfo())
    write_networks(folder, "only", {"net": method.net.state_dict()}, "test")
    config.save(folder)
    return folder


def numbered(number: int, height: int = 200, width: int = 160, grey: int = 90) -> np.ndarray:
    """(height, width, 3) uint8, its number in black and white squares along the top."""
    frame = np.full((height, width, 3), grey, np.uint8)
    for bit in range(BITS):
        frame[:SIDE, bit * SIDE : (bit + 1) * SIDE] = 255 * (number >> bit & 1)
    return frame


def number_of(frame: np.ndarray) -> int:
    """The number that :func:`numbered` drew."""
    middle = SIDE // 2
    return sum(1 << bit for bit in range(BITS) if frame[middle, bit * SIDE + middle, 1] > 128)


class FakeMesh:
    """In place of a detector: always the same face, but none in frames of certain numbers."""

    shape = POINTS

    def __init__(self, faceless: set[int] | None = None) -> None:
        self.faceless = faceless or set()
        self.frames = 0
        self.face = fake_clip("mesh", 1).landmarks[:1].astype(np.float64)

    def detect(self, frame: np.ndarray) -> np.ndarray:
        self.frames += 1
        scale = np.array([frame.shape[1] / 160, frame.shape[0] / 200, 1.0])
        return self.face[: 0 if number_of(frame) in self.faceless else 1] * scale

    def detect_batch(self, frames: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        return map(self.detect, frames)

    def search(self, frame: np.ndarray) -> np.ndarray:
        return self.face[:0]

    def confirms(self, frame: np.ndarray, face: np.ndarray) -> bool:
        return True

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass
