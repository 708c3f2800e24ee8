"""The whole way on the embedded corpus; training and scoring, which have tests of their own, are only recorded."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.report import Stopped, demo
from bench.report.reproduction import Reproduction
from bench.report.tables import build_table
from bench.train import TrainResult
from prep.inspect import inspect_folder
from tests.bench.report.factory import method, result

pytest.importorskip("espeakng_loader", reason="the extra `toy` is not installed")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, dict[str, Any]]]:
    """Function, first argument and named arguments of the calls of ``train`` and ``reproduce``."""
    calls: list[tuple[str, Any, dict[str, Any]]] = []

    def train(method: str, data: Any, **options: Any) -> TrainResult:
        calls.append(("train", method, {**options, "data": data}))
        options["run"].mkdir(parents=True, exist_ok=True)
        (options["run"] / "config.json").touch()
        return TrainResult(stopped=method == "stops", run=options["run"])

    def reproduce(table: str, data: Path, out: Path, **options: Any) -> Reproduction:
        calls.append(("reproduce", table, {**options, "data": data, "out": out}))
        scored = result([method(name, {"psnr.frame": 30.0}) for name in options["runs"]])
        videos = {name: out / "videos" / name for name in options["runs"]}
        return Reproduction(build_table("default", [scored]), scored, videos, out / "site" / "index.html")

    monkeypatch.setattr("bench.report.demonstration.train", train)
    monkeypatch.setattr("bench.report.demonstration.reproduce", reproduce)
    return calls


@pytest.mark.slow
def test_it_makes_prepares_trains_and_scores(called: list[Any], tmp_path: Path) -> None:
    words = ["demo", tmp_path, "--clips", 4, "--method", "wav2lip", "--method", "lipformer"]
    shown = CliRunner().invoke(app, list(map(str, words)))
    assert shown.exit_code == 0, shown.exception
    data, runs = tmp_path / "data", tmp_path / "runs"
    assert sum(split.clips for split in inspect_folder(data).splits.values()) == 4
    assert (data / "contact-sheet.png").is_file()
    trained = [(name, options) for kind, name, options in called if kind == "train"]
    assert [name for name, _ in trained] == ["sync-cca", "sync-expert", "wav2lip", "lipformer"]
    assert all(options["preset"] == "tiny" and options["data"] == [data] for _, options in trained)
    assert [options["overrides"] for _, options in trained] == [
        [],
        [],
        [f"wav2lip.expert={runs / 'sync-expert'}"],
        [],
    ]
    assert not any(options["resume"] for _, options in trained)
    kind, table, options = called[-1]
    assert (kind, table, options["data"], options["out"]) == ("reproduce", "default", data, tmp_path)
    assert options["runs"] == {name: runs / name for name in ("wav2lip", "lipformer")}
    assert (options["sync_expert"], options["site"]) == (runs / "sync-expert", tmp_path / "site")
    assert options["sync_cca"] == runs / "sync-cca"
    commands = [shlex.split(line[2:]) for line in shown.stdout.splitlines() if line.startswith("$ bench")]
    assert [command[1] for command in commands] == ["toy", "prep", "inspect", *["train"] * 4]
    for command in commands[:3]:
        again = CliRunner().invoke(app, command[1:])
        assert again.exit_code == 0, again.exception
    demo(tmp_path, clips=4, methods=["wav2lip"])
    assert [options["resume"] for kind, _, options in called[-4:] if kind == "train"] == [True] * 3


@pytest.mark.slow
def test_training_that_is_stopped_ends_it(
    called: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.report.demonstration.EXPERT", "stops")
    with pytest.raises(Stopped, match="training of stops was stopped: the same command continues"):
        demo(tmp_path, clips=4)
    assert [(kind, name) for kind, name, _ in called] == [("train", "sync-cca"), ("train", "stops")]
    assert CliRunner().invoke(app, ["demo", str(tmp_path), "--clips", "4"]).exit_code == 143
