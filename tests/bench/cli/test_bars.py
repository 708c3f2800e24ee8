"""Progress bars on terminals of different widths."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from bench.cli import progress
from bench.cli.bars import Bars
from bench.cli.train_progress import Console as Training
from bench.eval.score import Step
from bench.train.log import Speed
from prep.shard_tasks import PrepProgress


def terminal(width: int) -> Console:
    return Console(
        width=width, force_terminal=True, file=io.StringIO(), color_system=None, legacy_windows=False
    )


def shown(console: Console) -> str:
    """Everything that was printed, without control codes."""
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue()).replace("\r", "\n")


def render(bars: Bars) -> list[str]:
    """The lines of bars as they are now."""
    console = terminal(bars.console.width)
    console.print(bars.get_renderable())
    return shown(console).splitlines()


@pytest.fixture(params=[40, 80, 200])
def console(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Console:
    made = terminal(request.param)
    monkeypatch.setattr(progress, "console", made)
    return made


def test_bar_steps_and_time_left_stay_at_any_width(console: Console) -> None:
    now = [0.0]
    bars = Bars(console)
    bars.get_time = lambda: now[0]  # type: ignore[method-assign]
    task = bars.add("a step with a name that is too long for forty columns", 147_839)
    lines = []
    for done in (20_000, 40_000, 40_001):
        now[0] += 5.0
        bars.update(task, completed=done, details="loss 0.1234  " * 5)
        line, *details = render(bars)
        assert len(line) <= console.width and re.search("[━╸]", line)
        assert f"{done}/147839" in line
        assert re.search(r"--:--$" if done == 20_000 else r"\d:\d\d$", line.rstrip())
        assert " ".join(" ".join(details).split()).count("loss 0.1234") == 5
        lines.append(line)
    assert len(set(lines)) == 3


def test_the_bar_moves_at_every_step_of_training(console: Console) -> None:
    with Training(console) as training:
        training.begin("landmark", 100, 250)
        for step in (101, 102, 103):
            training.advance("landmark", step)
            assert training._bar is not None
            assert f"{step}/250" in render(training._bar)[0]
        training.step("landmark", 103, 0.5, {"L": 1.0}, Speed(12.3, 0.25, 0.1))
        first, *details = render(training._bar)
        assert "103/250" in first and "L 1" in " ".join(details) and "12.3 samples/s" in " ".join(details)


def test_prep_and_eval_count_below_the_bar(console: Console) -> None:
    with progress.prep_progress(47_839, 300) as notify:
        notify(PrepProgress(clips=1200, frames=30_000, failures=34, shards=6))
    with progress.eval_progress() as score:
        score(Step(clips=3, frames=75, failures=1, total=12))
    with progress.steps_progress() as step:
        step("reading the face", 12, 1234)
    words = " ".join(shown(console).split())
    for part in ("1234/47839", "34 failures", "6/300 shards", "3/12", "1 incomplete"):
        assert part in words
    assert re.search(r"12/1234", words)


def test_nothing_is_drawn_into_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr(progress, "console", console)
    with progress.simple_progress("videos") as notify:
        notify(1, 2)
    assert shown(console) == ""
