"""The runner costs less than 3 % over a plain loop over the same modules (``--benchmark-only``).

Stages at the paper's sizes: IP-LAP's landmark generator (8 windows of 5 frames and 15 references) and renderer (2
windows with 3 references at 128², VGG-19, discriminator), Wav2Lip (2 windows of 5 frames, expert, discriminator), and
the expert itself (64 windows). Generated weights cost as much as real ones. The two take turns, a step each, in one
process on the same batch; what is compared is the processor time, its lower quartile. Last, with two loader workers,
the share of the time in which the runner waits for samples.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pytest
from accelerate.state import AcceleratorState
from pytest_benchmark.fixture import BenchmarkFixture

from bench.common.methods import get_method
from bench.train import runner, stage_run
from bench.train.config import load_config
from bench.train.loading import open_dataset, training_loader
from bench.train.log import Speed
from models.base import Batch, DataInfo, Progress, Stage, Trainable
from prep.order import WindowStream
from tests.bench.fake_training import Recorder
from tests.prep.fakes import fake_dataset

OVERHEAD, WAIT = 1.03, 0.10


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "fake"
    fake_dataset(folder, {"train": 40, "val": 2}, views=("box128", "face96"))
    return folder


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def built(name: str, data: Path, run: Path, *overrides: str) -> tuple[Any, Trainable]:
    fixed = ("runner.device=cpu", "runner.tensorboard=false", "runner.log_every=1")
    config = load_config(name, "paper", [*fixed, *overrides], [data], run)
    return config, get_method(name)(config.method_config, DataInfo())


def plain_steps(stage: Stage, batch: Batch) -> Iterator[float]:
    """Processor seconds of each step of a loop without any runner."""
    for network in stage.networks.values():
        network.train()
    for network in stage.frozen.values():
        network.eval().requires_grad_(False)
    optimizers = stage.optimizers()
    step = 0
    while True:
        begun = time.process_time()
        for update in stage.updates(batch, Progress(1_000_000 + step, 1_000.0)):
            optimizer = optimizers[update.optimizer]
            update.loss.backward()
            optimizer.step()
            # Where one side kept its gradients, the other would have to find fresh memory at every step.
            for other in optimizers.values():
                other.zero_grad(set_to_none=True)
        step += 1
        yield time.process_time() - begun


class Turns(Recorder):
    """Lets the plain loop make a step after each of the runner's."""

    def __init__(self, plain: Iterator[float]) -> None:
        super().__init__()
        self._plain = plain
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self._begun = time.process_time()

    def step(self, stage: str, step: int, epoch: float, logs: Mapping[str, float], speed: Speed) -> None:
        self.ours.append(time.process_time() - self._begun)
        self.theirs.append(next(self._plain))
        self._begun = time.process_time()


@pytest.mark.parametrize(
    ("method_name", "name", "steps", "options"),
    [
        ("ipl", "landmark", 24, ("landmark.train.batch_size=8",)),
        ("ipl", "render", 4, ("render.warp_only_epochs=0", "render.train.batch_size=2")),
        ("wav2lip", "wav2lip", 4, ("wav2lip.gan_weight=0.07", "wav2lip.train.batch_size=2")),
        ("sync-expert", "expert", 4, ()),
    ],
)
def test_a_step_costs_what_its_modules_cost(
    benchmark: BenchmarkFixture,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method_name: str,
    name: str,
    steps: int,
    options: tuple[str, ...],
) -> None:
    limits = (
        f"{name}.train.steps={steps}",
        f"{name}.train.validate_samples=2",
        f"{name}.train.sample_every=0",
    )
    config, method = built(method_name, data, tmp_path / "run", *options, *limits)
    _, other = built(method_name, data, tmp_path / "run", *options, *limits)
    stage = method.stages[name]
    for made in (method, other):
        made.stages[name].validated({"sync": 0.0})  # from here on Wav2Lip's expert takes part
    stream = WindowStream(open_dataset([data], "train", stage, 0), stage.train.batch_size)
    batch = next(iter(training_loader(stream, stage, workers=0)))
    monkeypatch.setattr(stage_run, "training_loader", lambda *_, **__: iter(lambda: batch, None))
    turns = Turns(plain_steps(other.stages[name], batch))
    (tmp_path / "run").mkdir()
    benchmark.pedantic(
        runner.train_stages, (config, method, [name], tmp_path / "run", False, turns), rounds=1
    )
    pairs = list(zip(turns.ours[1:], turns.theirs[1:], strict=True))
    # Other work on the machine only adds time: the quarter that it touched least is compared.
    ours, theirs = (quantiles(side, n=4)[0] for side in zip(*pairs, strict=True))
    ratio = ours / theirs
    benchmark.extra_info.update(stage=name, ratio=ratio, pairs=pairs)
    assert ratio < OVERHEAD


def test_the_runner_hardly_waits_for_samples(benchmark: BenchmarkFixture, data: Path, tmp_path: Path) -> None:
    limits = ("landmark.train.steps=8", "landmark.train.validate_samples=2", "landmark.train.sample_every=0")
    config, method = built("ipl", data, tmp_path / "run", "runner.workers=2", *limits)
    recorder = Recorder()
    (tmp_path / "run").mkdir()
    benchmark.pedantic(
        runner.train_stages, (config, method, ["landmark"], tmp_path / "run", False, recorder), rounds=1
    )
    waits = [speed.data_wait for speed in recorder.speeds[1:]]  # before the first step the workers start
    benchmark.extra_info.update(data_wait=waits)
    assert median(waits) < WAIT
