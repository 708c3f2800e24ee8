"""LPIPS and FID's features against the packages that define them, on the CPU (run with ``--benchmark-only``).

Weights are generated, which does not change the arithmetic. Frames are 256², one method beside its truth; both sides
use all cores that PyTorch takes by itself. The rounds of both sides take turns, since the machine's speed drifts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from bench.metrics.base import ClipInfo, Context, Metric
from bench.metrics.fid import FidPytorchFid
from bench.metrics.lpips import LpipsAlex
from tests.bench.metrics.generated import (
    cut,
    feed,
    fid_package,
    lpips_package,
    noisy,
    pictures,
    score,
    state_dict,
    weight_store,
)

SIDE, BATCH, ROUNDS = 256, 16, 7


def in_turn(runs: dict[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of every run, once each in every round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if i:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> float:
    """Median of how many times longer the one took than the other, pair by pair."""
    return median(a / b for a, b in zip(slow, fast, strict=True))


def score_all(metric: Metric, preds: list[np.ndarray], truth: np.ndarray) -> None:
    """Several methods beside one truth, as the engine feeds them."""
    batches = cut(truth, BATCH)
    for pred in preds:
        feed(metric.meter(ClipInfo("clip", len(truth), SIDE, SIDE, "full")), cut(pred, BATCH), batches)


def test_lpips_is_faster_than_a_loop_over_the_package(benchmark: Any, tmp_path: Path) -> None:
    truth = pictures(2 * BATCH, SIDE, SIDE)
    pred = noisy(truth, 15)
    metric = LpipsAlex(Context(weight_store(tmp_path, "alexnet")))
    package = lpips_package("alex", state_dict("alexnet"))

    def loop(predicted: np.ndarray = pred) -> list[float]:
        with torch.no_grad():
            tensors = (torch.from_numpy(frames).permute(0, 3, 1, 2) for frames in (predicted, truth))
            a, b = ([frame[None].float() / 127.5 - 1 for frame in frames] for frames in tensors)
            return [package(x, y).item() for x, y in zip(a, b, strict=True)]

    np.testing.assert_allclose(loop(), score(metric, pred, truth).series[""], rtol=0, atol=1e-5)
    four = [noisy(truth, 15, seed=i) for i in range(4)]
    seconds = in_turn(
        {
            "package": loop,
            "ours": lambda: score_all(metric, [pred], truth),
            "package, 4 methods": lambda: [loop(p) for p in four],
            "ours, 4 methods": lambda: score_all(metric, four, truth),
        }
    )
    one = ratio(seconds["package"], seconds["ours"])
    more = ratio(seconds["package, 4 methods"], seconds["ours, 4 methods"])
    benchmark.extra_info.update(
        {"ratio": one, "ratio, 4 methods": more}
        | {f"{name}, s": round(median(values), 3) for name, values in seconds.items()}
    )
    benchmark.pedantic(score_all, args=(metric, [pred], truth), rounds=3)
    assert one >= 1.3, seconds
    assert more >= 1.3, seconds


def test_fid_features_are_faster_than_the_packages_batching(benchmark: Any, tmp_path: Path) -> None:
    """Against its function over PNG files, and against its network alone on frames that are in memory."""
    pytest.importorskip("pytorch_fid")
    from pytorch_fid.fid_score import get_activations

    frames = pictures(50, SIDE, SIDE)
    files = []
    for i, frame in enumerate(frames):
        files.append(str(tmp_path / f"{i:03d}.png"))
        cv2.imwrite(files[-1], frame[..., ::-1])
    metric = FidPytorchFid(Context(weight_store(tmp_path, "fid_inception")))
    package = fid_package(state_dict("fid_inception"))
    batches = [frames[at : at + BATCH] for at in range(0, len(frames), BATCH)]

    def ours() -> np.ndarray:
        return np.concatenate([metric.features(batch) for batch in batches])

    def from_files() -> np.ndarray:
        with redirect_stderr(StringIO()):  # its progress bar
            features: np.ndarray = get_activations(files, package, batch_size=50)
        return features

    def network_alone() -> np.ndarray:
        with torch.no_grad():
            x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
            features: np.ndarray = package(x)[0][:, :, 0, 0].numpy()
        return features

    expected = from_files()
    np.testing.assert_allclose(ours(), expected, rtol=1e-5, atol=1e-5 * expected.max())
    seconds = in_turn({"files": from_files, "ours": ours, "network": network_alone}, rounds=3)
    against_files, against_network = (ratio(seconds[name], seconds["ours"]) for name in ("files", "network"))
    benchmark.extra_info.update(
        {"ratio": against_files, "ratio to its network alone": against_network}
        | {f"{name}, s": round(median(values), 3) for name, values in seconds.items()}
    )
    benchmark.pedantic(ours, rounds=2)
    assert against_files >= 1.2, seconds
    assert against_network >= 1.2, seconds
