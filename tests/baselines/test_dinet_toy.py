"""DINet on the embedded corpus from end to end: a few steps of both stages, generated videos, one dubbed film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.generate.dubbing import dub
from bench.generate.over_data import generate
from bench.train.training import train
from prep.options import PrepOptions
from prep.pipeline import prepare
from prep.sources import get_source
from prep.video_reading import frames

#: Steps that show that it works, not that it learns.
SHORT = (
    "runner.device=cpu",
    "runner.workers=0",
    "frame64.train.steps=2",
    "frame64.train.batch_size=2",
    "clip.train.steps=2",
    "clip.train.batch_size=2",
    "clip.sync_weight=0",
)


@pytest.mark.slow
def test_it_trains_generates_and_dubs(toy_corpus: Path, tmp_path: Path) -> None:
    data, run, videos = tmp_path / "data", tmp_path / "run", tmp_path / "videos"
    refs = list(get_source("lrs2").list_clips(toy_corpus))
    prepare(refs, toy_corpus, data, PrepOptions("lrs2", "toy", ("mouth416x320",)), workers=2)
    train("dinet", [data], preset="tiny", overrides=SHORT, run=run)
    assert {path.name for path in run.iterdir()} >= {"frame64", "clip"}
    generate("dinet", run, data, videos)
    (first, *_) = sorted(videos.rglob("*.mp4"))
    source = toy_corpus / "mvlrs_v1" / "main" / first.relative_to(videos)
    # Above the face it is the source's picture, but for the codec; where the mouth is it is not.
    apart = [
        np.abs(made.astype(int) - true) for made, true in zip(frames(first), frames(source), strict=True)
    ]
    assert np.mean([difference[:20].mean() for difference in apart]) < 3
    assert max(difference.mean(axis=2).max() for difference in apart) > 30
    dub("dinet", run, source, source, tmp_path / "out.mp4", device="cpu")
    spoken = list(frames(tmp_path / "out.mp4"))
    # The film is as long as the sound, which is no whole number of frames.
    assert abs(len(apart) - len(spoken)) <= 1 and spoken[0].shape == next(iter(frames(source))).shape
