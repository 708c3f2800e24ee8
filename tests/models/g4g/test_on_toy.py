"""G4G on a small embedded corpus: a few steps of every stage, held-out clips generated, a video dubbed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.sync_expert.network import SyncNet
from bench.common.errors import BenchError
from bench.generate import dub, generate
from bench.train import train
from bench.train.checkpoint import write_networks
from prep.errors import PrepError
from prep.pipeline import prepare
from prep.shards import read
from prep.video_reading import frames
from tests.prep.test_pipeline import OPTIONS, refs_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("g4g") / "data"
    prepare(refs_of(toy_corpus), toy_corpus, out, replace(OPTIONS, views=("mouth416x320",)), workers=2)
    return out


def few_steps(folder: Path) -> list[str]:
    """Options of two steps a stage, with an expert that knows nothing."""
    torch.manual_seed(0)
    expert = SyncNet("mouth416x320", 0.25, coarse=True, apart=True)
    write_networks(folder / "expert", "expert", {"expert": expert.state_dict()}, "test")
    steps = [
        f"{s}.train.{key}=2" for s in ("frame64", "clip") for key in ("steps", "validate_every", "batch_size")
    ]
    return [
        "runner.device=cpu",
        f"g4g.expert={folder}/expert",
        "g4g.expert_rank=0",
        "g4g.lambda_gan=1",
        *steps,
    ]


def test_it_trains_generates_and_dubs(data: Path, toy_corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("g4g", [data], preset="tiny", overrides=few_steps(tmp_path), run=run)
    made = generate("g4g", run, data, tmp_path / "videos")
    clips = list(read(data, "test"))
    assert made.clips == len(clips) > 0 and not made.failures
    clip = clips[0]
    found = np.stack(list(frames(tmp_path / "videos" / f"{clip.clip_id}.mp4")))
    truth = np.stack(list(frames(toy_corpus / clip.source)))
    assert found.shape == truth.shape
    off = np.abs(found.astype(int) - truth).mean(axis=(1, 2, 3))
    assert off.max() < 20, "the face is far from the true one"

    done = dub("g4g", run, toy_corpus / clip.source, toy_corpus / clips[-1].source, tmp_path / "out.mp4")
    # As long as its sound: a part of a frame counts as one.
    assert 0 <= done.generated - clips[-1].n_frames <= 1 and done.faceless == 0


def test_a_data_set_without_the_view_is_one_line(toy_corpus: Path, tmp_path: Path) -> None:
    prepare(refs_of(toy_corpus, limit=1), toy_corpus, tmp_path / "data", OPTIONS, workers=1)
    with pytest.raises((BenchError, PrepError), match="mouth416x320") as raised:
        train("g4g", [tmp_path / "data"], preset="tiny", overrides=few_steps(tmp_path), run=tmp_path / "run")
    assert "\n" not in str(raised.value) and "--add-view" in str(raised.value)
