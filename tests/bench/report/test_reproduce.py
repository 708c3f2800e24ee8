from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bench.cli import app
from bench.cli import steps as steps_module
from bench.common.errors import BenchError
from bench.report.definitions import load_tables
from bench.train.config import load_config


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would run."""
    words: list[list[str]] = []
    monkeypatch.setattr(steps_module, "step", lambda *step: words.append(list(step)))
    return words


def a_run(folder: Path, method: str) -> Path:
    folder.mkdir(parents=True)
    load_config(method, "tiny", [], [Path("data")], folder).save(folder)
    return folder


def after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_it_generates_scores_and_prints(tmp_path: Path, said: list[list[str]]) -> None:
    ours, theirs = a_run(tmp_path / "runs" / "ipl", "ipl"), a_run(tmp_path / "runs" / "second", "wav2lip")
    out = tmp_path / "out"
    words = ["reproduce", "lipformer-table1", "--data", "toy", "--out", str(out), "--limit", "3"]
    words += ["--run", str(ours), "--run", f"mine={theirs}", "--videos", f"other={tmp_path}"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    first, second, scored, printed = said
    assert first[:2] == ["generate", "ipl"] and after(first, "--out") == str(out / "videos" / "ipl")
    assert second[:2] == ["generate", "wav2lip"] and after(second, "--run") == str(theirs)
    assert after(second, "--protocol") == "reconstruction" and after(second, "--limit") == "3"
    assert scored[:4] == [
        "eval",
        f"ipl={out / 'videos' / 'ipl'}",
        f"mine={out / 'videos' / 'mine'}",
        f"other={tmp_path}",
    ]
    assert after(scored, "--metrics") == "psnr.frame,ssim.wang11,lmd.chen_sum20,lse.lrs"
    assert after(scored, "--region") == load_tables()["lipformer-table1"].region
    assert "--with-trivial" in scored
    assert printed == ["report", str(out / "result"), "--table", "lipformer-table1"]


def test_the_default_table_takes_the_default_metrics(tmp_path: Path, said: list[list[str]]) -> None:
    words = ["reproduce", "default", "--data", "toy", "--out", str(tmp_path), "--sync-expert", "runs/e"]
    assert CliRunner().invoke(app, [*words, "--site", "page"]).exit_code == 0
    scored, printed = said
    assert "--metrics" not in scored and after(scored, "--sync-expert") == "runs/e"
    assert printed[-2:] == ["--site", "page"]


def test_the_expert_joins_a_papers_metrics(tmp_path: Path, said: list[list[str]]) -> None:
    words = ["reproduce", "iplap-table3", "--data", "toy", "--out", str(tmp_path)]
    assert CliRunner().invoke(app, [*words, "--sync-expert", "runs/e"]).exit_code == 0
    assert after(said[0], "--metrics") == "landmark_error,lse.expert"


@pytest.mark.parametrize("table", sorted(load_tables()))
def test_every_table_can_be_asked_for(table: str, tmp_path: Path, said: list[list[str]]) -> None:
    found = CliRunner().invoke(app, ["reproduce", table, "--data", "toy", "--out", str(tmp_path)])
    if load_tables()[table].protocol == "user-study":
        assert isinstance(found.exception, BenchError) and "asks people" in str(found.exception)
        assert said == []
    else:
        assert found.exit_code == 0
        assert [words[0] for words in said] == ["eval", "report"]


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, said: list[list[str]]) -> None:
    words = ["reproduce", "default", "--data", "toy", "--out", str(tmp_path), "--run", str(tmp_path)]
    found = CliRunner().invoke(app, words)
    assert isinstance(found.exception, BenchError) and str(tmp_path) in str(found.exception)
    assert said == []


def test_a_name_that_is_given_twice_is_refused(tmp_path: Path, said: list[list[str]]) -> None:
    run = a_run(tmp_path / "ipl", "ipl")
    (tmp_path / "v").mkdir()
    words = ["reproduce", "default", "--data", "toy", "--out", str(tmp_path), "--run", str(run)]
    found = CliRunner().invoke(app, [*words, "--videos", f"ipl={tmp_path / 'v'}"])
    assert isinstance(found.exception, BenchError) and "both name ipl" in str(found.exception)
    assert said == []


def test_a_step_that_fails_ends_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the command of an evaluation in which clips are missing ends.
    monkeypatch.setattr("bench.cli.app", lambda words, standalone_mode: 3)
    with pytest.raises(typer.Exit) as raised:
        steps_module.step("eval", "a b")
    assert raised.value.exit_code == 3
    assert "$ bench eval 'a b'" in capsys.readouterr().out


def test_a_step_runs_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    steps_module.step("ls", "views")
    text = capsys.readouterr().out
    assert "$ bench ls views" in text and "face96" in text
