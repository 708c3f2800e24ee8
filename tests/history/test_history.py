"""What commit b5fadfd wrote still opens: a data set, runs, videos, a result.

The folder beside this file was made with that commit, from three clips of `bench toy` (``--size 128 --seconds 1.1
--seed 1``): views box128 and face96, networks as narrow as their options allow, two steps of training each. What the
tests compare with was printed, logged or written by that commit.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bench.cli.app import app
from bench.clips.inputs import from_dataset
from bench.generate.external import read_external
from bench.generate.record import read_generation
from bench.results import read_result
from bench.train.checkpoint import load_run
from prep.shards import open_shard, read_clip, read_manifest, sha256, shard_paths
from prep.video_reading import frames

FOLDER = Path(__file__).parent
VAL = "9000000000000000003/00001"
METHODS = ("sync-expert", "wav2lip", "ipl")
#: Method, stage → figures that were logged after two steps more, from training (``step``) or ``validation``.
GOES_ON = {
    ("sync-expert", "expert"): ("validation", {"loss": 0.83221245, "cosine_sync": 0.74416351}),
    ("wav2lip", "wav2lip"): ("step", {"L1": 0.022213645, "mouth": 0.040873401, "sync": 0.10462119}),
    ("ipl", "landmark"): ("validation", {"L1": 0.012331977, "lip_distance": 0.023358319}),
    ("ipl", "render"): ("validation", {"warp_pixels": 0.11694403, "psnr": 25.589088}),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, as the working folder: its paths are relative."""
    copy = tmp_path / "history"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.chdir(copy)
    return copy


def run(*words: object) -> str:
    """Run a command that succeeds; what it printed."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.exception or done.output
    return done.stdout


def test_the_data_set_is_read(here: Path) -> None:
    manifest = read_manifest(here / "data")
    assert manifest["complete"] and manifest["options"]["views"] == ["box128", "face96"]
    for info in manifest["shards"]:
        assert sha256(here / "data" / "shards" / info["name"]) == info["sha256"]
    for split in ("train", "val"):
        (path,) = shard_paths(here / "data", split)
        clip = read_clip(open_shard(path), 0)
        assert clip.n_frames == 27 and all(clip.detected)
        assert clip.landmarks.shape == (27, 478, 3) and np.isfinite(clip.landmarks).all()
        assert list(clip.images) == ["box128", "face96"]
        assert all(len(jpegs) == 27 and jpegs[0][:2] == b"\xff\xd8" for jpegs in clip.images.values())
        # What version 1 of the schema does not say.
        assert (clip.video_track, clip.audio_track, clip.audio_mix, clip.matrix) == (-1, -1, "", "")
        assert (clip.light, clip.sample_aspect, clip.deinterlaced, clip.small_faces) == ("sdr", 1.0, False, 0)
        assert read_clip(open_shard(path), 0, ["audio", "audio_mix"]).audio_mix == ""
    shown = run("inspect", here / "data")
    assert "box128" in shown and "face96" in shown
    assert "schema version 1: stereo sound is up to 3 dB louder" in " ".join(shown.split())


def test_clips_are_found_and_have_the_identity_that_was_recorded(here: Path) -> None:
    inputs = from_dataset({"wav2lip": here / "videos" / "wav2lip"}, here / "data", "val")
    (job,) = inputs.jobs
    assert job.clip_id == VAL and inputs.problems == {} and job.candidates[0].problem == ""
    assert inputs.manifest_sha256 == read_result(here / "result").data.manifest_sha256


@pytest.mark.parametrize("name", METHODS)
def test_runs_open(here: Path, name: str) -> None:
    config, method = load_run(Path("runs", name))
    assert config.method == name and tuple(config.data) == (Path("data"),)
    assert {stage for called, stage in GOES_ON if called == name} == set(method.stages)
    for network in method.networks.values():
        assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())


@pytest.mark.parametrize("name", ["wav2lip", pytest.param("ipl", marks=pytest.mark.slow)])
def test_runs_generate_what_they_did(here: Path, name: str) -> None:
    words = ["--run", f"runs/{name}", "--data", "data", "--split", "val", "--device", "cpu"]
    run("generate", name, *words, "--out", "new", "--crf", "30")
    new, old = (list(frames(folder / f"{VAL}.mp4")) for folder in (here / "new", here / "videos" / name))
    assert len(new) == len(old) == 27
    # Means of 16x16 pixels, in levels of 255, without the encoder's noise. The old frames were rounded down when they
    # were read and written, by about 1.3 levels.
    blocks = (np.array(new, np.float32) - np.array(old, np.float32)).reshape(27, 8, 16, 8, 16, 3).mean((2, 4))
    assert np.abs(blocks).mean() < 2 and np.abs(blocks).max() < 10
    record = read_generation(here / "new")
    assert record.weights == read_generation(here / "videos" / name).weights


@pytest.mark.parametrize("name", METHODS)
def test_runs_go_on(here: Path, name: str) -> None:
    stages = {stage: logged for (called, stage), logged in GOES_ON.items() if called == name}
    words = [word for stage in stages for word in ("--set", f"{stage}.train.steps=4")]
    run("train", name, "--run", f"runs/{name}", "--resume", "--device", "cpu", *words)
    for stage, (kind, figures) in stages.items():
        folder = here / "runs" / name / stage
        lines = map(json.loads, (folder / "log.jsonl").read_text("utf-8").splitlines())
        logged = {
            line["step"]: line.get("figures", line.get("logs")) for line in lines if line["kind"] == kind
        }
        assert list(logged) == [2, 4]
        assert {key: logged[4][key] for key in figures} == pytest.approx(figures, rel=2e-2)
        assert (folder / "checkpoints" / "last").read_text().strip() == "step-00000004"


def test_records_of_videos_are_read(here: Path) -> None:
    for name in ("wav2lip", "ipl"):
        record = read_generation(here / "videos" / name)
        assert (record.complete, record.method, record.run) == (True, name, f"runs/{name}")
        assert (record.clips, record.made, record.frames, record.crf) == (1, 1, 27, 30)
    record = read_external(here / "videos" / "copied")
    assert (record.complete, record.method, record.made) == (True, "copied", 1)
    assert record.command_template == "test -s {audio} && cp {video} {out}" and record.shell


def test_the_result_prints_the_same_table(here: Path) -> None:
    assert run("report", "result", "--format", "md") == (here / "report.md").read_text("utf-8")


@pytest.mark.slow
def test_the_result_becomes_a_page_and_plots(here: Path) -> None:
    run("report", "result", "--site", "page", "--plots", "plots")
    assert (here / "page" / "index.html").stat().st_size > 10_000
    assert any((here / "plots").iterdir())
