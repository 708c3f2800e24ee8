"""The log of a run: one curve, however often it was interrupted; grids of pictures; lines for people."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console as RichConsole

from bench.cli.train_progress import Console
from bench.common.errors import BenchError
from bench.train.log import RunLog, Several, Speed, grid, read_log, truncate

SPEED = Speed(samples_per_s=12.345678, data_wait=0.25, model_s=0.1)


def train(log: RunLog, begin: int, end: int, loss: float) -> None:
    log.begin("render", begin, 100)
    for step in range(begin + 1, end + 1):
        log.step("render", step, step / 10, {"L_1": loss + step}, SPEED)
        if step % 2 == 0:
            log.validation("render", step, {"psnr": 20.0 + step}, best=step == 2)


def curve(path: Path) -> list[tuple[int, float]]:
    return [(e["step"], e["logs"]["L_1"]) for e in read_log(path) if e["kind"] == "step"]


def test_a_line_says_what_happened(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        log.note("9 clips")
        train(log, 0, 2, 0.5)
        log.note("halfway")
        log.end("render", "2 steps")
    lines = read_log(tmp_path / "render" / "log.jsonl")
    assert all(line.pop("time").endswith("+00:00") for line in lines)
    timing = {"samples_per_s": 12.346, "data_wait": 0.25, "model_s": 0.1}
    assert lines == [
        {"kind": "begin", "step": 0, "total": 100},
        {"kind": "note", "step": 0, "text": "9 clips"},
        {"kind": "step", "step": 1, "epoch": 0.1, "logs": {"L_1": 1.5}, **timing},
        {"kind": "step", "step": 2, "epoch": 0.2, "logs": {"L_1": 2.5}, **timing},
        {"kind": "validation", "step": 2, "figures": {"psnr": 22.0}, "best": True},
        {"kind": "note", "step": 2, "text": "halfway"},
        {"kind": "end", "step": 2, "reason": "2 steps"},
    ]
    assert not (tmp_path / "render" / "tensorboard").exists()


def test_going_on_makes_one_curve(tmp_path: Path) -> None:
    path = tmp_path / "render" / "log.jsonl"
    with RunLog(tmp_path, tensorboard=False) as log:
        train(log, 0, 5, 0.0)
    # Cut off by a crash in the middle of a line.
    path.write_text(path.read_text("utf-8") + '{"kind": "st', "utf-8")
    with RunLog(tmp_path, tensorboard=False) as log:
        train(log, 2, 4, 0.25)
    assert curve(path) == [(1, 1.0), (2, 2.0), (3, 3.25), (4, 4.25)]
    assert [e["step"] for e in read_log(path) if e["kind"] == "validation"] == [2, 4]
    assert sorted(p.name for p in path.parent.iterdir()) == ["log.jsonl"]


def test_a_stage_that_begins_anew_has_an_empty_log(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        train(log, 0, 3, 0.0)
        train(log, 0, 1, 0.5)
    assert curve(tmp_path / "render" / "log.jsonl") == [(1, 1.5)]


def test_stages_have_logs_of_their_own(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        for stage in ("landmark", "render"):
            log.begin(stage, 0, None)
            log.step(stage, 1, 0.1, {"L": 1.0}, SPEED)
            log.end(stage, "done")
            log.note("between stages")
        log.begin("third", 0, None)
    notes = [e["step"] for e in read_log(tmp_path / "third" / "log.jsonl") if e["kind"] == "note"]
    assert len(read_log(tmp_path / "landmark" / "log.jsonl")) == 3
    assert notes == [0]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\nnothing\n{"step": 2}\n')
    with pytest.raises(BenchError, match=r"log\.jsonl, line 2 is damaged"):
        truncate(path, 1)
    path.write_text('{"step": 1}\n[]\n{"step": 2}\n')
    with pytest.raises(BenchError, match="line 2 is damaged"):
        read_log(path)
    with pytest.raises(BenchError, match="cannot be read"):
        read_log(tmp_path / "no.jsonl")


def test_figures_that_are_none_stay_json(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        log.begin("render", 0, None)
        log.validation("render", 0, {"psnr": math.inf, "a": -math.inf, "b": math.nan}, best=False)
    line = (tmp_path / "render" / "log.jsonl").read_text("utf-8").splitlines()[1]

    def refuse(word: str) -> None:
        raise AssertionError(word)

    figures = json.loads(line, parse_constant=refuse)["figures"]
    assert figures == {"psnr": "Infinity", "a": "-Infinity", "b": "NaN"}
    assert float(figures["psnr"]) == math.inf


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "render").write_text("a file")
    with pytest.raises(BenchError, match=r"render/log\.jsonl cannot be written"):
        RunLog(tmp_path, tensorboard=False).begin("render", 0, None)


def test_tensorboard_shows_the_resumed_curve(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begin, end, loss in ((0, 4, 0.0), (2, 3, 0.25)):
        with RunLog(tmp_path, tensorboard=True) as log:
            train(log, begin, end, loss)
            log.pictures("render", end, {"truth": torch.zeros(1, 3, 4, 4)})
    events = EventAccumulator(str(tmp_path / "render" / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/L_1")] == [(1, 1.0), (2, 2.0), (3, 3.25)]
    assert [e.step for e in events.Scalars("val/psnr")] == [2]
    assert {"speed/samples_per_s", "speed/data_wait", "speed/model_s"} <= set(events.Tags()["scalars"])
    assert events.Tags()["images"] == ["samples"]


# Grids --------------------------------------------------------------------------------------------------------


def test_a_grid_is_titles_over_columns_of_pictures() -> None:
    red = torch.zeros(3, 3, 32, 24)
    red[:, 0] = 1
    ramp = torch.linspace(-1, 2, 3 * 3 * 40 * 48).reshape(3, 3, 40, 48)
    sheet = np.asarray(grid({"a": red, "b": ramp}))
    assert sheet.shape == (20 + 3 * 40 + 2 * 2, 24 + 2 + 48, 3)
    for row in range(3):
        top = 20 + row * 42
        assert (sheet[top : top + 32, :24] == (255, 0, 0)).all()
        assert (sheet[top + 32 : top + 40, :24] == 255).all()
        wanted = (ramp[row].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        assert (sheet[top : top + 40, 26:] == wanted).all()
    assert (sheet[:20] < 128).any() and not (sheet[:20] < 128).all()


def test_a_long_title_makes_room() -> None:
    narrow = torch.zeros(1, 3, 8, 8)
    sheet = grid({"a title wider than its pictures": narrow, "b": narrow})
    assert sheet.width > 100 and sheet.height == 28


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 8, 8, 3)])
def test_what_is_no_batch_of_pictures_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="'sketch' have shape"):
        grid({"sketch": torch.zeros(shape)})


def test_pictures_lie_in_the_run(tmp_path: Path) -> None:
    with RunLog(tmp_path, tensorboard=False) as log:
        log.begin("render", 0, None)
        log.pictures(
            "render", 1000, {"truth": torch.full((2, 3, 16, 64), 0.5), "made": torch.ones(2, 3, 16, 64)}
        )
        log.pictures("render", 2000, {})
    (path,) = (tmp_path / "render" / "samples").iterdir()
    assert path.name == "step-00001000.jpg"
    with Image.open(path) as picture:
        assert picture.size == (64 + 2 + 64, 20 + 16 + 2 + 16)
        assert abs(np.asarray(picture)[24:32, 8:56].astype(int) - 128).max() < 4


# For people ---------------------------------------------------------------------------------------------------


def told(terminal: bool, total: int | None = 100) -> str:
    text = io.StringIO()
    with Console(RichConsole(file=text, force_terminal=terminal, width=200, highlight=False)) as reporter:
        reporter.begin("render", 4, total)
        reporter.step("render", 50, 1.5, {"L_[rec]": 0.123456, "lr/gen": 1e-4}, SPEED)
        reporter.validation("render", 50, {"psnr": 28.123456}, best=True)
        reporter.validation("render", 60, {"psnr": 27.0}, best=False)
        reporter.pictures("render", 60, {})
        reporter.note("something [bold] else")
        reporter.end("render", "100 steps")
    return text.getvalue()


def test_without_a_terminal_every_report_is_a_plain_line() -> None:
    assert told(False).splitlines() == [
        "render: from step 4 of 100",
        "render 50/100  epoch 1.50  L_[rec] 0.1235  lr/gen 0.0001  12.3 samples/s, 25% waiting for data",
        "render 50/100  validation: psnr 28.12  best so far",
        "render 60/100  validation: psnr 27",
        "something [bold] else",
        "render: 100 steps",
    ]
    assert told(False, None).splitlines()[:2] == [
        "render: from step 4",
        "render 50  epoch 1.50  L_[rec] 0.1235  lr/gen 0.0001  12.3 samples/s, 25% waiting for data",
    ]


def test_in_a_terminal_a_bar_holds_the_figures() -> None:
    shown = told(True)
    assert "L_[rec] 0.1235" in shown and "50/100" in shown
    assert "validation: psnr 28.12  best so far" in shown


class Recorder:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def begin(self, stage: str, start_step: int, total_steps: int | None) -> None:
        self.calls.append(("begin", stage, start_step, total_steps))

    def advance(self, stage: str, step: int) -> None:
        self.calls.append(("advance", stage, step))

    def step(self, stage: str, step: int, epoch: float, logs: Mapping[str, float], speed: Speed) -> None:
        self.calls.append(("step", stage, step, epoch, logs, speed))

    def validation(self, stage: str, step: int, figures: Mapping[str, float], best: bool) -> None:
        self.calls.append(("validation", stage, step, figures, best))

    def pictures(self, stage: str, step: int, columns: Mapping[str, torch.Tensor]) -> None:
        self.calls.append(("pictures", stage, step, columns))

    def note(self, text: str) -> None:
        self.calls.append(("note", text))

    def end(self, stage: str, reason: str) -> None:
        self.calls.append(("end", stage, reason))


def test_several_are_told_the_same() -> None:
    one, two = Recorder(), Recorder()
    several = Several([one, two])
    several.begin("a", 1, None)
    several.advance("a", 2)
    several.step("a", 2, 0.5, {"L": 1.0}, SPEED)
    several.validation("a", 2, {"loss": 2.0}, True)
    several.pictures("a", 2, {})
    several.note("x")
    several.end("a", "done")
    assert one.calls == two.calls
    assert one.calls == [
        ("begin", "a", 1, None),
        ("advance", "a", 2),
        ("step", "a", 2, 0.5, {"L": 1.0}, SPEED),
        ("validation", "a", 2, {"loss": 2.0}, True),
        ("pictures", "a", 2, {}),
        ("note", "x"),
        ("end", "a", "done"),
    ]
