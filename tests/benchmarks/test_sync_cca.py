"""The linear sync judge against plain code of the same figures (``--benchmark-only``), processor time, in one run.

Real time is the length of the video at 25 frames a second: 80 times real time are 2,000 frames a second, and 48 times
are 24,000 frames in 20 seconds. One thread.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from pytest_benchmark.fixture import BenchmarkFixture

from baselines.sync_cca.features import LIPS, RIGID
from baselines.sync_cca.model import CcaJudge
from baselines.sync_judges.scores import shifted_scores
from bench.common.methods import get_method
from bench.train import train
from bench.train.config import load_config
from models.base import DataInfo
from tests.prep.fakes import write_fake_dataset
from tests.prep.talking import talking_clip, talking_clips

#: Frames a second, in units of those of the video.
JUDGING, FITTING = 80, 48
#: What a plain loop over frames takes, in units of the suite's time.
LOOP = 3
FRAMES = 24_000
#: Clips of a person, and MiB by which the peak of memory may differ; all features of the many clips are 630 MiB.
FEW, MANY, ALLOWED = 2, 25, 60

_FIT = """
import sys
from pathlib import Path
from bench.train import train
data, run = map(Path, sys.argv[1:])
train("sync-cca", [data], overrides=["runner.workers=1", "runner.tensorboard=false"], run=run)
print(Path("/proc/self/status").read_text())
"""


def seconds(do: Callable[[], Any]) -> float:
    """Processor time of all threads."""
    begun = time.process_time()
    do()
    return time.process_time() - begun


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(True)


def judge_of(preset: str = "paper") -> CcaJudge:
    """A judge with random maps: the time does not depend on them."""
    torch.manual_seed(0)
    config = load_config("sync-cca", preset, [], [], Path("run"))
    judge = get_method("sync-cca")(config.method_config, DataInfo()).networks["judge"]
    for buffer in (judge.shape, judge.lip_basis, judge.sound_basis):
        buffer.normal_()
    judge.canonical.fill_(0.3)
    return judge


def plainly(judge: CcaJudge, points: np.ndarray, mel: np.ndarray, reach: int) -> np.ndarray:
    """(T, 2 reach + 1): the same scores, frame after frame as one writes them down first."""
    recipe, frames = judge.recipe, len(points)
    shape, rho = judge.shape.numpy(), judge.canonical.numpy().astype(np.float64)
    lips = np.empty((frames, len(LIPS), 3))
    for t in range(frames):
        plain = points[t].astype(np.float64)
        centre = plain[RIGID].mean(axis=0)
        u, s, vt = np.linalg.svd((plain[RIGID] - centre).T @ shape)
        flip = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
        scale = (s * np.diag(flip)).sum() / np.square(plain[RIGID] - centre).sum()
        lips[t] = scale * (plain[LIPS] - centre) @ u @ flip @ vt
    lips -= lips.mean(axis=0)
    bands = (mel - mel.mean(axis=0)) / (mel.std(axis=0) + 1e-3)
    x, y = [], []
    for t in range(frames):
        near = np.clip(np.arange(t - recipe.lip_context, t + recipe.lip_context + 1), 0, frames - 1)
        x.append((lips[near].reshape(-1) - judge.lip_mean.numpy()) @ judge.lip_basis.numpy())
        first = int((t + 0.5 + recipe.sound_lag) * 3.2) - recipe.sound_columns // 2
        columns = np.clip(np.arange(first, first + recipe.sound_columns), 0, len(mel) - 1)
        y.append((bands[columns].reshape(-1) - judge.sound_mean.numpy()) @ judge.sound_basis.numpy())
    scores = np.full((frames, 2 * reach + 1), np.nan)
    for t in range(frames):
        for shift in range(-reach, reach + 1):
            if 0 <= t + shift < frames:
                a, b = x[t], y[t + shift]
                each = (rho * a * b - rho**2 * (a * a + b * b) / 2) / (1 - rho**2) - np.log(1 - rho**2) / 2
                scores[t, reach + shift] = each.sum()
    return scores


def test_judging_is_faster_than_2000_frames_a_second(benchmark: BenchmarkFixture) -> None:
    judge, clip, reach = judge_of(), talking_clip("anna", n_frames=250), 15

    def ours() -> np.ndarray:
        return shifted_scores(judge.see(clip.landmarks), judge.hear(clip.mel, clip.n_frames), reach)

    scores = plainly(judge, clip.landmarks, clip.mel, reach)
    np.testing.assert_allclose(ours(), scores, rtol=2e-3, atol=2e-2 * np.nanstd(scores))
    mine, theirs = [], []
    for _ in range(5):
        mine.append(seconds(ours))
        theirs.append(seconds(lambda: plainly(judge, clip.landmarks, clip.mel, reach)))
    benchmark.pedantic(ours, rounds=5)
    real_time, loop = clip.n_frames / 25 / min(mine), min(theirs) / min(mine)
    benchmark.extra_info.update(
        frames_per_second=clip.n_frames / min(mine), times_real_time=real_time, loop=loop
    )
    assert real_time > JUDGING and loop > LOOP


def test_24000_frames_are_fitted_in_20_seconds(
    benchmark: BenchmarkFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clips = talking_clips(20, 4, 2, n_frames=300)
    write_fake_dataset(tmp_path / "data", clips, clips_per_shard=16)
    frames = sum(clip.n_frames for clip in clips if clip.split == "train")
    assert frames == FRAMES
    options = ["runner.workers=1", "runner.tensorboard=false"]
    taken = seconds(
        lambda: benchmark.pedantic(
            train,
            ("sync-cca", [tmp_path / "data"]),
            {"overrides": options, "run": tmp_path / "run"},
            rounds=1,
        )
    )
    real_time = frames / 25 / taken
    benchmark.extra_info.update(seconds=taken, times_real_time=real_time)
    assert real_time > FITTING


def test_memory_does_not_grow_with_the_number_of_clips(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    def peak(clips: int) -> float:
        data, run = tmp_path / f"data{clips}", tmp_path / f"run{clips}"
        write_fake_dataset(data, talking_clips(6, clips, 2, n_frames=500), clips_per_shard=16)
        done = subprocess.run(
            [sys.executable, "-c", _FIT, str(data), str(run)], check=True, capture_output=True, text=True
        )
        found = re.search(r"VmHWM:\s+(\d+)", done.stdout)
        assert found is not None
        return int(found.group(1)) / 1024

    few = peak(FEW)
    many = benchmark.pedantic(peak, args=(MANY,), rounds=1)
    benchmark.extra_info["peak_mib"] = {f"{6 * FEW} clips": round(few), f"{6 * MANY} clips": round(many)}
    assert many < few + ALLOWED
