"""A table from trained methods in one call: from Python and from the command line, whole and in part."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result as Shown
from typer.testing import CliRunner

from bench.cli.app import app
from bench.clips.generation_record import GenerationRecord
from bench.common.errors import BenchError
from bench.report import Incomplete, Watcher, reproduce
from bench.report.definitions import load_tables
from bench.report.model import Table
from bench.report.reproduction import table_metrics
from bench.results import Result, read_result
from prep.shards import MANIFEST, write_json
from prep.video_writing import write_video
from tests.bench.fake_method import make_run, numbered, run
from tests.prep.fakes import fake_clip, write_fake_dataset

__all__ = ["run"]

#: Its columns that can be measured are PSNR and SSIM of faces: no network is needed.
TABLE = "lipformer-table3"
LENGTHS = {"s0/a": 12, "s0/b": 10, "s1/c": 14}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    clips = [fake_clip(name, n, split="test") for name, n in LENGTHS.items()]
    write_fake_dataset(folder / "data", clips, clips_per_shard=2)
    for clip in clips:
        path = folder / "corpus" / clip.source
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, [numbered(i) for i in range(clip.n_frames)], samples=clip.audio)
    manifest = json.loads((folder / "data" / MANIFEST).read_text())
    write_json(folder / "data" / MANIFEST, {**manifest, "root": str(folder / "corpus")})
    return folder


@pytest.fixture
def data(prepared: Path) -> Path:
    return prepared / "data"


class Told(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.outcomes: list[tuple[object, Path]] = []
        self.notes: list[str] = []

    def begin(self, command: Sequence[str]) -> None:
        self.commands.append(list(command))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def done(self, outcome: object, out: Path) -> None:
        self.outcomes.append((outcome, out))


def bench(*words: object) -> Shown:
    return CliRunner().invoke(app, list(map(str, words)))


def after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_it_generates_scores_and_fills_the_table(run: Path, data: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "out", Told()
    second = make_run(tmp_path / "runs" / "second", weights=1)
    made = reproduce(TABLE, data, out, runs={"fake": run, "mine": second}, watcher=told)
    assert made.videos == {name: out / "videos" / name for name in ("fake", "mine")}
    assert made.result == read_result(out / "result") and made.page is None
    assert [m.method for m in made.result.methods[:2]] == ["fake", "mine"]
    assert [metric.name for metric in made.result.metrics] == ["psnr.frame", "ssim.wang11"]
    figure = made.result.figure("fake", "psnr.frame", "face")
    assert figure is not None and figure.scored == figure.asked == len(LENGTHS)
    assert made.result.data.split == "test" and made.result.method("still").kind == "trivial"
    labels = [row.label for block in made.table.blocks for row in block.rows]
    assert "LipFormer" in labels and "mine" in labels
    assert [words[1] for words in told.commands] == ["generate", "generate", "eval", "report"]
    kinds = (GenerationRecord, GenerationRecord, Result, Table)
    assert all(isinstance(outcome, kind) for (outcome, _), kind in zip(told.outcomes, kinds, strict=True))
    assert [path for _, path in told.outcomes] == [*made.videos.values(), out / "result", out / "result"]
    record = json.loads((made.videos["mine"] / "generation.json").read_text())
    assert record["command"] == shlex.join(told.commands[1])


def test_the_printed_commands_do_the_same(run: Path, data: Path, tmp_path: Path) -> None:
    """Run again by hand, each finds its own work done, and refuses none of it."""
    out, theirs = tmp_path / "our table", tmp_path / "theirs"
    common = ["--data", data, "--limit", 2, "--device", "cpu"]
    assert bench("generate", "fake", "--run", run, "--out", theirs, *common).exit_code == 0
    words = ["--run", run, "--videos", theirs, "--out", out, "--site", tmp_path / "site"]
    shown = bench("reproduce", TABLE, *common, *words)
    assert shown.exit_code == 0, shown.exception
    commands = [shlex.split(line[2:]) for line in shown.stdout.splitlines() if line.startswith("$ bench")]
    assert [command[1] for command in commands] == ["generate", "eval", "report"]
    videos = {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")}
    result = (out / "result" / "result.json").read_bytes()
    assert len(videos) == 2
    for command in commands:
        again = bench(*command[1:])
        assert again.exit_code == 0, again.exception
        assert again.stdout.strip() in shown.stdout or command[1] != "report"  # the table, once
    assert videos == {path: path.stat().st_mtime_ns for path in videos}
    assert (out / "result" / "result.json").read_bytes() == result


def test_an_interrupted_one_goes_on(run: Path, data: Path, tmp_path: Path) -> None:
    class Leaves(Told):
        def done(self, outcome: object, out: Path) -> None:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        reproduce(TABLE, data, out, runs={"fake": run}, watcher=Leaves())
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")}
    assert len(before) == len(LENGTHS) and not (out / "result").exists()
    assert reproduce(TABLE, data, out, runs={"fake": run}).result.methods
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_what_is_missing_ends_it(run: Path, prepared: Path, tmp_path: Path) -> None:
    corpus, out, told = tmp_path / "corpus", tmp_path / "out", Told()
    for name in ("s0/a", "s1/c"):
        path = corpus / f"{name}.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes((prepared / "corpus" / f"{name}.mp4").read_bytes())
    with pytest.raises(Incomplete, match=r"videos/fake: 1 of 3 videos are missing"):
        reproduce(TABLE, prepared / "data", out, runs={"fake": run}, root=corpus, watcher=told)
    assert [words[1] for words in told.commands] == ["generate"]
    words = ["reproduce", TABLE, "--data", prepared / "data", "--root", corpus, "--run", run, "--out", out]
    shown = bench(*words)
    assert shown.exit_code == 3 and "1 of 3 videos are missing" in shown.stderr
    shown = bench(*words, "--allow-partial")
    assert shown.exit_code == 0, shown.exception
    figure = read_result(out / "result").figure("fake", "psnr.frame", "face")
    assert figure is not None and (figure.scored, figure.asked) == (2, 3)


def test_options_go_to_the_steps_that_have_them(data: Path, tmp_path: Path) -> None:
    told = Told()
    options: dict[str, Any] = {"split": "test", "limit": 1, "device": "cpu", "weights_dir": tmp_path}
    made = reproduce("default", data, tmp_path / "out", allow_partial=True, watcher=told, **options)
    scored, printed = told.commands
    assert [after(scored, f"--{name}") for name in ("split", "limit", "device")] == ["test", "1", "cpu"]
    assert after(scored, "--weights-dir") == str(tmp_path) and "--allow-partial" in scored
    assert "--metrics" not in scored and "--with-trivial" in scored
    assert printed == ["bench", "report", str(tmp_path / "out" / "result"), "--table", "default"]
    assert made.result.regions == ["full", "face", "mouth"] and made.result.data.clips == 1


@pytest.mark.parametrize("table", sorted(load_tables()))
def test_metrics_of_tables(table: str) -> None:
    definition = load_tables()[table]
    if definition.protocol == "user-study":
        with pytest.raises(BenchError, match="asks people"):
            table_metrics(table)
    elif not definition.paper:
        assert table_metrics(table) == []
    else:
        found = table_metrics(table)
        assert found and len(set(found)) == len(found)


def test_metrics_of_a_papers_table() -> None:
    expected = ["psnr.frame", "ssim.wang11", "lmd.chen_sum20", "lse.lrs"]
    assert table_metrics("lipformer-table1") == expected
    assert table_metrics("iplap-table3") == ["landmark_error"]


def test_a_folder_that_is_no_run_is_named(data: Path, tmp_path: Path) -> None:
    found = bench("reproduce", "default", "--data", data, "--out", tmp_path / "out", "--run", tmp_path)
    assert isinstance(found.exception, BenchError) and str(tmp_path) in str(found.exception)
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_given_twice_is_refused(run: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="both name fake"):
        reproduce("default", data, tmp_path / "out", runs={"fake": run}, videos={"fake": tmp_path})
    assert not (tmp_path / "out").exists()
