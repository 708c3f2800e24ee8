"""PSNR and MSE."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from bench.metrics import psnr
from bench.metrics.base import Batch, ClipInfo, Context, Pictures
from bench.weights.store import WeightStore


def _pair(sigma: float, n: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 256, (n, 40, 56, 3), dtype=np.uint8)
    return np.clip(truth + random.normal(0, sigma, truth.shape), 0, 255).astype(np.uint8), truth


def _score(kind, pred, truth, size=3):
    meter = kind(Context(WeightStore({}, []))).meter(ClipInfo("c", len(pred), 56, 40, "full"))
    for i in range(0, len(pred), size):
        meter.update(Batch(i, Pictures(pred[i : i + size]), Pictures(truth[i : i + size])))
    return meter.finish()


@pytest.mark.parametrize("sigma", [1, 10, 60])
def test_equals_scikit_image(sigma):
    metrics = pytest.importorskip("skimage.metrics")
    pred, truth = _pair(sigma)
    expected = [
        metrics.peak_signal_noise_ratio(t, p, data_range=255) for p, t in zip(pred, truth, strict=True)
    ]
    score = _score(psnr.PsnrFrame, pred, truth)
    assert score.values[""] == pytest.approx(np.mean(expected), abs=1e-6)
    np.testing.assert_allclose(score.series[""], expected, rtol=1e-6)
    error = [metrics.mean_squared_error(t / 255, p / 255) for p, t in zip(pred, truth, strict=True)]
    assert _score(psnr.Mse, pred, truth).values[""] == pytest.approx(np.mean(error), rel=1e-9)
    video = metrics.peak_signal_noise_ratio(truth, pred, data_range=255)
    assert _score(psnr.PsnrVideo, pred, truth).values[""] == pytest.approx(video, abs=1e-6)


def test_identical_videos_are_infinite():
    _, truth = _pair(0)
    assert _score(psnr.PsnrFrame, truth, truth).values[""] == math.inf
    assert _score(psnr.PsnrVideo, truth, truth).values[""] == math.inf
    assert _score(psnr.Mse, truth, truth).values[""] == 0


def test_one_identical_frame_counts_as_the_cap():
    pred, truth = _pair(20)
    series = _score(psnr.PsnrFrame, pred, truth).series[""]
    pred[0] = truth[0]
    expected = (psnr.CAP + series[1:].sum()) / 5
    assert _score(psnr.PsnrFrame, pred, truth).values[""] == pytest.approx(expected, abs=1e-5)
    # One grey level in one pixel is 101 dB: above the cap, and not more than no error at all.
    pred = truth.copy()
    pred[:, 0, 0, 0] ^= 1
    assert _score(psnr.PsnrFrame, pred, truth).values[""] == psnr.CAP


def test_wrapping_arithmetic_flatters_noise():
    pred, truth = _pair(20)
    true, wrapped = (_score(kind, pred, truth).values[""] for kind in (psnr.PsnrFrame, psnr.PsnrUint8))
    assert true == pytest.approx(22.5, abs=0.3)
    assert wrapped > true + 5


def test_grey_is_the_psnr_of_luma_without_wrapping():
    metrics = pytest.importorskip("skimage.metrics")
    pred, truth = _pair(20)
    grey = [[cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video] for video in (truth, pred)]
    expected = [metrics.peak_signal_noise_ratio(t, p, data_range=255) for t, p in zip(*grey, strict=True)]
    np.testing.assert_allclose(_score(psnr.PsnrGrey, pred, truth).series[""], expected, rtol=1e-6)
    # Small errors do not wrap: then the arithmetic alone moves nothing.
    near = truth.copy()
    near[..., 1] ^= 1
    plain, wrapped = (_score(kind, near, truth).values[""] for kind in (psnr.PsnrGrey, psnr.PsnrUint8))
    assert plain == pytest.approx(wrapped, abs=1e-9)


@pytest.mark.parametrize("kind", [psnr.PsnrFrame, psnr.PsnrVideo, psnr.Mse, psnr.PsnrGrey, psnr.PsnrUint8])
def test_batches_move_nothing(kind):
    pred, truth = _pair(15, n=7)
    whole = _score(kind, pred, truth, 7).values[""]
    assert all(
        _score(kind, pred, truth, size).values[""] == pytest.approx(whole, abs=1e-9) for size in (1, 2, 5)
    )


def test_specification_is_hashed_without_its_words():
    from dataclasses import replace

    spec = psnr.PsnrFrame.spec
    assert replace(spec, summary="other words", traps=()).hash == spec.hash
    assert replace(spec, parameters={**spec.parameters, "cap": 100.0}).hash != spec.hash
    assert psnr.PsnrVideo.spec.hash != spec.hash
    assert replace(spec, revision=2).hash != spec.hash
