"""What `bench demo` prints last: one table that fits, the places of videos and page, commands that work."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from bench.cli.app import app
from bench.cli.console_tables import print_short
from bench.cli.demo import SHOWN
from bench.report.model import Table
from bench.report.reproduction import Reproduction
from bench.report.tables import build_table
from bench.results import Result
from tests.bench.report.factory import method, result

FIGURES = {
    "psnr.frame": 31.5, "ssim.wang11": 0.94, "lpips.alex": None, "fid.pytorch_fid": None, "mse": 0.002,
    "csim.arcface_aligned": 0.9, "lmd.lip_norm": 0.0179, "lse.lrs.d": 7.0, "lse.lrs.c": 6.0,
}  # fmt: skip


@pytest.fixture
def scored() -> Result:
    names = ("ground_truth", "reencoded", "still", "wrong_audio", "wav2lip", "ipl")
    return result([method(name, FIGURES) for name in names])


@pytest.fixture
def table(scored: Result) -> Table:
    return build_table("default", [scored])


@pytest.mark.parametrize("width", [60, 80, 200])
def test_one_table_without_intervals_fits_the_terminal(table: Table, width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    print_short(table, console, SHOWN)
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert len(lines) == 7 and max(map(len, lines)) <= width
    assert "PSNR" in lines[0] and "SSIM" in lines[0] and "n/a" not in "".join(lines)
    assert "LipLMD" in lines[0] or width < 80
    assert all("31.50" in line for line in lines[1:])


def test_it_names_videos_and_page_and_commands_that_can_be_typed(
    scored: Result, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tmp_path / "toy" / "main" / "a b" / "1.mp4"
    clip.parent.mkdir(parents=True)
    clip.touch()
    videos = {name: tmp_path / "videos" / name for name in ("wav2lip", "ipl")}
    page = tmp_path / "site" / "index.html"
    monkeypatch.setattr("bench.report.demo", lambda *_, **__: Reproduction(table, scored, videos, page))
    done = CliRunner().invoke(app, ["demo", str(tmp_path)])
    assert done.exit_code == 0, done.exception
    for place in (*videos.values(), page):
        assert str(place) in done.stdout
    commands = [shlex.split(line) for line in done.stdout.splitlines() if line.startswith("  ")]
    assert {words[1] for words in commands} == {"report", "explain", "dub", "ls"}
    group = typer.main.get_command(app)
    for program, name, *words in commands:
        assert program == "bench"
        command = group.commands[name]  # type: ignore[attr-defined]
        command.make_context(name, words)
    assert str(clip) in commands[2]
