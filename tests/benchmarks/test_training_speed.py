"""The share of the time in which the runner waits for samples, with two loader workers (``--benchmark-only``)."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.common.methods import get_method
from bench.train import runner
from bench.train.config import load_config
from models.base import DataInfo
from tests.bench.fake_training import Recorder
from tests.prep.fakes import fake_dataset

WAIT = 0.10


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "fake"
    fake_dataset(folder, {"train": 40, "val": 2}, views=("box128",))
    return folder


def test_the_runner_hardly_waits_for_samples(benchmark: BenchmarkFixture, data: Path, tmp_path: Path) -> None:
    options = (
        "runner.device=cpu",
        "runner.tensorboard=false",
        "runner.log_every=1",
        "runner.workers=2",
        "landmark.train.steps=8",
        "landmark.train.validate_samples=2",
        "landmark.train.sample_every=0",
    )
    config = load_config("ipl", "paper", options, [data], tmp_path / "run")
    method = get_method("ipl")(config.method_config, DataInfo())
    recorder = Recorder()
    (tmp_path / "run").mkdir()
    benchmark.pedantic(
        runner.train_stages, (config, method, ["landmark"], tmp_path / "run", False, recorder), rounds=1
    )
    waits = [speed.data_wait for speed in recorder.speeds[1:]]  # before the first step the workers start
    benchmark.extra_info.update(data_wait=waits)
    assert median(waits) < WAIT
