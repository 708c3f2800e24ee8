"""What `bench prep` says of the files that it finds, and the commands that it proposes, which must work."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.cli.hints import after_eval, after_generate, after_prep, after_train
from prep.shards import read_manifest
from prep.video_writing import write_video
from tests.prep.trees import plant


def prep(*words: str | Path) -> str:
    """The output of a command that succeeds."""
    done = CliRunner().invoke(app, ["prep", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def refusal(*words: str | Path) -> str:
    done = CliRunner().invoke(app, ["prep", *map(str, words)])
    assert done.exit_code != 0
    return f"{done.output}{done.exception}"


def test_a_dry_run_says_who_is_held_out_and_what_is_left_out(tmp_path: Path) -> None:
    plant(tmp_path / "in", *(f"p{n}/{clip}.MTS" for n in range(6) for clip in "ab"), "x.rm", "y.heic")
    said = prep("folder", tmp_path / "in", "--out", tmp_path / "out", "--holdout", "0.1", "--dry-run")
    assert "held out by speaker, seed 0: speakers: train 4, val 1, test 1" in said
    assert "left out: 1 .heic, 1 .rm" in said
    assert [line.split()[0] for line in said.splitlines()[3:6]] == ["test", "train", "val"]
    assert "landmarks by facemesh, static" in said
    assert not (tmp_path / "out").exists()
    words = ("folder", tmp_path / "in", "--out", tmp_path / "out", "--dry-run", "--detector", "mediapipe")
    assert "landmarks by mediapipe, tracking" in prep(*words, "--tracking")


def test_a_share_that_is_none_and_lists_that_are_there(tmp_path: Path) -> None:
    plant(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    words = ("folder", tmp_path, "--out", tmp_path / "out")
    assert "write 10% or 0.1" in refusal(*words, "--holdout", "10")
    (tmp_path / "test.txt").write_text("a\n")
    assert "leave --holdout out" in refusal(*words, "--holdout", "10%")
    assert "give --holdout too" in refusal(*words, "--seed", "1")
    assert "unknown detector 'facemsh': did you mean facemesh?" in refusal(*words, "--detector", "facemsh")
    assert "unknown pixels 'opncv': did you mean opencv?" in refusal(*words, "--pixels", "opncv")
    assert "left out: 2 videos are in no list (test.txt): 2 .mp4" in prep(*words, "--dry-run")


def manifest(root: Path, *splits: str, **listing: object) -> dict[str, object]:
    options = {
        "source": "folder",
        "name": "folder",
        "views": ["face96"],
        "detector": "facemesh",
        "clip_seconds": 4.0,
        "audio_track": 0,
    }
    counts = {split: {"clips": 1, "frames": 9, "failures": 0} for split in splits}
    return {"root": str(root), "options": options, "splits": counts, "listing": listing}


def test_a_set_that_cannot_be_trained_on_is_followed_by_a_command_that_makes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = plant(tmp_path / "my videos", "a/1.mp4", "b/1.mp4", "c/1.mp4")
    after_prep(manifest(root, "test", left_out={}, limit=1), tmp_path / "data")
    said = capsys.readouterr().out
    assert said.startswith("for training: hold some speakers out: bench prep folder ")
    words = shlex.split(said.partition("out: ")[2])
    assert words[-2:] == ["--holdout", "10%"] and "--limit" not in words
    assert words[6:12] == ["--views", "face96", "--clip-seconds", "4.0", "--audio-track", "0"]
    assert f"would write {tmp_path}/data-split" in prep(*words[2:], "--dry-run").replace("\n", "")


def test_a_set_that_can_be_trained_on_is_followed_by_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after_prep(manifest(tmp_path, "train", "val", "test"), Path("data/my set"))
    assert capsys.readouterr().out == "next: bench train ipl --data 'data/my set' (--preset tiny for a try)\n"
    after_train("ipl", Path("runs/mine"), [Path("data/mine")])
    after_train("sync-expert", Path("runs/expert"), [Path("data/mine")])
    after_generate("ipl", Path("data/mine"), None, Path("videos/ipl"))
    after_eval(Path("results/ipl"))
    assert capsys.readouterr().out.splitlines() == [
        "next: bench generate ipl --run runs/mine --data data/mine --out videos/ipl",
        "next: bench eval ipl=videos/ipl --data data/mine --out results/ipl",
        "next: bench report results/ipl --site page",
    ]


@pytest.mark.parametrize(
    ("splits", "listing", "said"),
    [
        (["test"], {"split": "test"}, ""),
        ([], {}, ""),
        (
            ["test"],
            {"clips": 2},
            "for training: train on one person: bench train ipl --data data --per speaker",
        ),
        (
            ["pretrain", "train", "test"],
            {},
            "name its clips in lists in {root} (train.txt, val.txt), then: bench prep",
        ),
        (
            ["train", "test"],
            {"holdout": {"share": 0.1, "seed": 0}},
            "none of the clips held out could be used, hold out others: bench prep folder {root} --out data-seed1 "
            "--views face96 --clip-seconds 4.0 --audio-track 0 --holdout 10% --seed 1",
        ),
    ],
)
def test_a_set_that_cannot_be_split_gets_another_remedy(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    splits: list[str],
    listing: dict[str, object],
    said: str,
) -> None:
    after_prep(manifest(tmp_path, *splits, **listing), Path("data"))
    found = capsys.readouterr().out
    assert said.format(root=tmp_path) in found and bool(said) == bool(found)


def test_where_lists_are_no_speakers_are_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test.txt").touch()
    after_prep(manifest(tmp_path, "test"), Path("data"))
    assert "name its clips in lists in" in capsys.readouterr().out


def test_the_manifest_keeps_what_was_listed_and_missing_sound_is_a_failure(tmp_path: Path) -> None:
    root, out = plant(tmp_path / "in", "left.rm"), tmp_path / "out"
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_video(root / name, np.zeros((10, 64, 64, 3), np.uint8))
    (tmp_path / "wav").mkdir()
    words = [
        "folder",
        root,
        "--out",
        out,
        "--holdout",
        "10%",
        "--sound-root",
        tmp_path / "wav",
        "--workers",
        "1",
    ]
    refusal(*words)  # no clip can be used
    listing = read_manifest(out)["listing"]
    assert listing["left_out"] == {"rm": 1} and listing["sound_root"] == str(tmp_path / "wav")
    assert listing["holdout"]["units"] == {"test": 1, "val": 1, "train": 1}
    reasons = pq.read_table(out / "failures.parquet").to_pylist()
    assert sorted(row["reason"] for row in reasons) == [
        f"its sound {tmp_path}/wav/{name}.wav is missing, also with another suffix of sound" for name in "abc"
    ]
    # Files that come later change nothing in a finished set.
    before = json.loads((out / "manifest.json").read_text())
    plant(root, "later.rm")
    refusal(*words)
    assert json.loads((out / "manifest.json").read_text()) == before
