"""Precision: chosen by measurement, one for each stage."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from bench.common.errors import BenchError
from bench.train import precision, training
from bench.train.config import RunConfig
from bench.train.log import read_log
from bench.train.precision import bf16_gain, resolve, stage_precision
from tests.bench.fake_training import PRESET, Adversarial
from tests.bench.train.test_runner import config_for, data, registered  # noqa: F401


def test_what_is_faster_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = config_for(tmp_path, tmp_path / "run", "runner.precision=auto")
    for gain, chosen, said in ((1.9, "bf16", "bfloat16"), (1.1, "no", "float32"), (0.3, "no", "float32")):
        monkeypatch.setattr(precision, "bf16_gain", lambda _, gain=gain: gain)
        resolved, line = resolve(config)
        assert resolved.runner.precision == chosen
        assert line == f"precision: {said}; on this device bfloat16 is {gain} times as fast as float32"


def test_a_given_precision_is_not_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(precision, "bf16_gain", None)
    config = config_for(tmp_path, tmp_path / "run", "runner.precision=bf16")
    assert resolve(config) == (config, "")


def test_the_measurement_is_a_ratio_and_draws_no_random_number() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    gain = bf16_gain(torch.device("cpu"))
    assert math.isfinite(gain) and gain > 0
    assert torch.rand(1) == expected


def test_a_run_keeps_what_was_chosen(
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    words = ("runner.precision=auto", "adversarial.train.steps=2", "adversarial.train.precision=no")
    monkeypatch.setattr(precision, "bf16_gain", lambda _: 2.0)
    preset = tmp_path / "mine.toml"
    preset.write_text(PRESET)
    training.train("fake", [data], preset=str(preset), overrides=words, run=run, stages=["adversarial"])
    config = RunConfig.load(run)
    assert config.runner.precision == "bf16"
    notes = [line["text"] for line in read_log(run / "adversarial/log.jsonl") if line["kind"] == "note"]
    assert "precision: bfloat16; on this device bfloat16 is 2.0 times as fast as float32" in notes
    # Another machine would choose otherwise.
    monkeypatch.setattr(precision, "bf16_gain", lambda _: 0.5)
    for more in ((), ("runner.precision=auto",)):
        training.train("fake", run=run, resume=True, overrides=more, stages=["adversarial"])
        assert RunConfig.load(run).runner.precision == "bf16"
    with pytest.raises(BenchError, match=r"runner\.precision=bf16, not no"):
        training.train("fake", run=run, resume=True, overrides=("runner.precision=no",))


def test_a_stage_has_its_own(tmp_path: Path) -> None:
    words = ("runner.precision=bf16", "adversarial.train.precision=no")
    config = config_for(tmp_path, tmp_path / "run", *words)
    stage = Adversarial(config.method_config.adversarial, torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    assert stage_precision(config, stage) == "no"
    if not torch.cuda.is_available():
        config = config_for(tmp_path, tmp_path / "run", "adversarial.train.precision=fp16")
        stage = Adversarial(config.method_config.adversarial, torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
        with pytest.raises(BenchError, match=r"adversarial\.train\.precision=fp16: only CUDA"):
            stage_precision(config, stage)
