"""ATVGnet on the embedded corpus from end to end: its three stages, videos of a view, and a picture that speaks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.generate.over_data import generate
from bench.generate.pairing import GenerateOptions
from bench.train.training import train
from prep import shards
from prep.options import PrepOptions
from prep.pipeline import prepare
from prep.sources import get_source
from prep.video_reading import frames

#: Steps that show that it works, not that it learns.
SHORT = (
    "runner.device=cpu",
    "runner.workers=0",
    "at.train.steps=2",
    "at.train.batch_size=2",
    "vg.train.steps=2",
    "vg.train.batch_size=2",
)


@pytest.mark.slow
def test_it_trains_generates_and_lets_a_picture_speak(toy_corpus: Path, tmp_path: Path) -> None:
    data, run, videos = tmp_path / "data", tmp_path / "run", tmp_path / "videos"
    refs = list(get_source("lrs2").list_clips(toy_corpus))
    prepare(refs, toy_corpus, data, PrepOptions("lrs2", "toy", ("atvg128",)), workers=2)
    done = train("atvg", [data], preset="tiny", overrides=SHORT, run=run)
    assert list(done.best) == ["space", "at", "vg"]
    # Of persons whom it was not fitted to, six modes hold most of how faces move.
    assert done.best["space"]["held_out"] > 0.5
    generate("atvg", run, data, videos, GenerateOptions(pose="still", device="cpu"))
    clip = next(shards.read(data, split="test"))
    made = np.stack(list(frames(videos / f"{clip.clip_id}.mp4")))
    assert made.shape == (clip.n_frames, 128, 128, 3)
    source = toy_corpus / "mvlrs_v1" / "main" / f"{clip.clip_id}.mp4"
    cv2.imwrite(str(tmp_path / "face.png"), next(iter(frames(source)))[..., ::-1])
    words = ["dub", "atvg", "--run", run, "--image", tmp_path / "face.png", "--audio", source]
    spoken = CliRunner().invoke(
        app, [*map(str, words), "--out", str(tmp_path / "out.mp4"), "--device", "cpu"]
    )
    assert spoken.exit_code == 0, spoken.exception
    assert "128x128" in spoken.stdout and (tmp_path / "out.sheet.jpg").is_file()
    portrait = np.stack(list(frames(tmp_path / "out.mp4")))
    # As long as the sound, which is a frame longer or shorter than its clip. The same picture, from a file and a video.
    assert abs(len(made) - len(portrait)) <= 1
    assert np.abs(portrait[0].astype(int) - made[0]).mean() < 4
