"""The command as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from prep.video_writing import write_video


def bench(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *map(str, words)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def faceless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faceless")
    frames = np.zeros((10, 64, 64, 3), np.uint8)
    write_video(root / "black.mp4", frames, samples=np.zeros(6400, np.int16))
    return root


def test_help_and_version() -> None:
    assert "prep" in bench("--help").stdout
    assert bench("--version").stdout.startswith("talking-face-bench ")


def test_demo_knows_its_methods_before_it_starts(tmp_path: Path) -> None:
    done = bench("demo", tmp_path / "demo", "--method", "lipfromer", code=1)
    assert "lipfromer" in done.stderr
    assert not (tmp_path / "demo").exists()


def test_ls_names_what_there_is() -> None:
    out = bench("ls").stdout
    for word in ("lrs2", "hdtf", "box128", "lower512", "face131", "mfcc_padded"):
        assert word in out
    assert "box128" not in bench("ls", "sources").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prep", "lsr2", ".", "--out", "x"], "lrs2"),
        (["prep", "folder", ".", "--out", "x", "--views", "box129"], "did you mean box128?"),
        (["prep", "folder", ".", "--out", "x", "--encoding", "gif"], "there are jpeg, png, webp"),
        (["prep", "folder", "no-such-folder", "--out", "x"], "no-such-folder"),
        (["prep", "--out", "x"], "name the layout of a corpus and its folder"),
        (["prep", "--out", "x", "--add-view", "face96"], "x is not a prepared data set"),
        (
            ["prep", "--out", "x", "--add-view", "face96", "--quality", "80"],
            "--quality is the data set's own",
        ),
        (["ls", "vews"], "did you mean views?"),
        (["inspect", "no-such-folder"], "is not a prepared data set"),
    ],
)
def test_mistakes_are_one_line_with_a_remedy(words: list[str], message: str) -> None:
    done = bench(*words, code=1)
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert message in done.stderr


def test_dry_run_writes_nothing(faceless: Path, tmp_path: Path) -> None:
    out = bench("prep", "folder", faceless, "--out", tmp_path / "data", "--dry-run").stdout
    assert "test" in out and "box128, face96" in out
    assert not (tmp_path / "data").exists()


def test_nothing_usable_is_exit_code_1_with_the_reason_shown(faceless: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    bench("prep", "folder", faceless, "--out", out, "--workers", "1", code=1)
    done = bench("inspect", out, code=1)
    assert "no face in 10 frames" in done.stdout
    assert "no clips to draw" in done.stderr


def test_toy_prep_inspect(toy_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    report = tmp_path / "report.html"
    words = ["prep", "lrs2", toy_corpus, "--out", out, "--split", "test", "--workers", "1"]
    shown = bench(*words, "--performance-report", report).stdout
    assert "test" in shown and "train" not in shown
    assert "dask" in report.read_text("utf-8").lower()
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    assert manifest["complete"] and list(manifest["splits"]) == ["test"]
    shown = bench("inspect", out, "--verify").stdout
    sheet = out / "manifest.json" / "sheet.png"
    assert bench("inspect", out, "--sheet", sheet, code=1).stderr == (
        f"error: cannot write {sheet}: Not a directory; name another file with `bench inspect --sheet`\n"
    )
    assert "landmarks" in shown and "shards match the manifest" in shown
    sheet = cv2.imread(str(out / "contact-sheet.png"))
    assert sheet is not None and min(sheet.shape[:2]) > 150
    assert sheet.std() > 20


def test_verify_names_a_changed_shard(toy_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    bench("prep", "lrs2", toy_corpus, "--out", out, "--split", "test", "--workers", "1")
    shard = next((out / "shards").glob("*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    done = bench("inspect", out, "--verify", code=1)
    assert shard.name in done.stderr and "differs from the manifest" in done.stderr
    shard.unlink()
    assert "is missing" in bench("inspect", out, "--verify", code=1).stderr


def test_the_scheduler_of_a_running_cluster_is_used(toy_corpus: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        words = ["prep", "lrs2", toy_corpus, "--out", tmp_path / "data", "--split", "test"]
        bench(*words, "--scheduler", cluster.scheduler_address)
        assert cluster.scheduler.workers
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text("utf-8"))
    assert manifest["complete"]


def test_a_terminal_without_the_letters_gets_question_marks() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "ls", "metrics"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "PSNR ?" in done.stdout or "PSNR?" in done.stdout
