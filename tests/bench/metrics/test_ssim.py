"""SSIM against scikit-image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from bench.common.errors import Unscorable
from bench.metrics import ssim
from bench.metrics.base import Batch, ClipInfo, Context, Pictures
from bench.weights.store import WeightStore


def _pictures() -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (60, 75, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    flat = np.full_like(noise, 255)
    other = np.clip(smooth + random.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
    return [
        (smooth, other),
        (noise, smooth),
        (flat, flat - 1),
        (np.zeros_like(flat), flat),
        (np.zeros_like(flat), np.full_like(flat, 3)),
        ((noise > 127).astype(np.uint8) * 255, (noise > 60).astype(np.uint8) * 255),
    ]


@pytest.mark.parametrize("pair", range(6))
def test_equals_scikit_image(pair):
    similarity = pytest.importorskip("skimage.metrics").structural_similarity
    pred, truth = _pictures()[pair]
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = similarity(truth, pred, data_range=255, channel_axis=2, **wang)
    assert ssim.ssim_gaussian(pred[None], truth[None])[0] == pytest.approx(expected, abs=1e-9)
    expected = similarity(truth, pred, data_range=255, channel_axis=2)
    assert ssim.ssim_uniform(pred[None], truth[None])[0] == pytest.approx(expected, abs=1e-9)
    grey = pred[..., 0], truth[..., 0]
    expected = similarity(*grey, data_range=255, **wang)
    assert ssim.ssim_gaussian(grey[0][None], grey[1][None])[0] == pytest.approx(expected, abs=1e-9)


def test_identical_pictures_are_exactly_one():
    for pred, _ in _pictures():
        assert ssim.ssim_gaussian(pred[None], pred[None])[0] == 1
        assert ssim.ssim_uniform(pred[None], pred[None])[0] == 1


@pytest.mark.parametrize("kind", [ssim.SsimWang11, ssim.SsimSkimage7, ssim.SsimGrey, ssim.SsimPiq])
def test_batches_move_nothing_and_noise_lowers(kind):
    truth = np.stack([_pictures()[0][0]] * 5)

    def score(sigma: float, size: int) -> float:
        pred = np.clip(truth + np.random.default_rng(2).normal(0, sigma, truth.shape), 0, 255).astype(
            np.uint8
        )
        meter = kind(Context(WeightStore({}, []))).meter(ClipInfo("c", 5, 75, 60, "full"))
        for i in range(0, 5, size):
            meter.update(Batch(i, Pictures(pred[i : i + size]), Pictures(truth[i : i + size])))
        found = meter.finish()
        assert len(found.series[""]) == 5
        return found.values[""]

    assert score(10, 1) == pytest.approx(score(10, 5), abs=1e-12) == pytest.approx(score(10, 2), abs=1e-12)
    assert 1 > score(2, 5) > score(10, 5) > score(40, 5)


def test_down_sampling_moves_a_large_picture_only():
    random = np.random.default_rng(3)
    large = cv2.GaussianBlur(random.integers(0, 256, (1, 512, 520, 3), dtype=np.uint8)[0], (0, 0), 2)[None]
    noisy = np.clip(large + random.normal(0, 10, large.shape), 0, 255).astype(np.uint8)
    shrunk = ssim.ssim_gaussian(ssim.shrunk(noisy), ssim.shrunk(large))[0]
    assert abs(shrunk - ssim.ssim_gaussian(noisy, large)[0]) > 0.02
    assert ssim.shrunk(large).shape == (1, 256, 260, 3)
    small = large[:, :200, :200]
    assert ssim.shrunk(small) is small


@pytest.mark.parametrize(("height", "width"), [(512, 520), (401, 899)])
def test_down_sampling_is_that_of_piq(height, width):
    similarity = pytest.importorskip("skimage.metrics").structural_similarity
    random = np.random.default_rng(4)
    truth = cv2.GaussianBlur(random.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 2)
    pred = cv2.GaussianBlur(truth, (0, 0), 2)

    def pooled(picture: np.ndarray) -> np.ndarray:
        planes = torch.from_numpy(picture).double().permute(2, 0, 1)
        return torch.nn.functional.avg_pool2d(planes, 2).permute(1, 2, 0).numpy()

    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = similarity(pooled(truth), pooled(pred), data_range=255, channel_axis=2, **wang)
    found = ssim.ssim_gaussian(ssim.shrunk(pred[None]), ssim.shrunk(truth[None]))[0]
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "size", [(11, 11), (11, 300), (40, 86), (40, 95), (40, 96), (40, 97), (12, 181), (90, 266)]
)
def test_equals_scikit_image_at_any_size(size):
    """Columns are taken in blocks: 85 pixels and a third fill one."""
    similarity = pytest.importorskip("skimage.metrics").structural_similarity
    pred, truth = np.random.default_rng(5).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    pred[:, ::2] = truth[:, ::2]
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = similarity(truth, pred, data_range=255, channel_axis=2, **wang)
    assert ssim.ssim_gaussian(pred[None], truth[None])[0] == pytest.approx(expected, abs=1e-9)
    expected = similarity(truth[..., 0], pred[..., 0], data_range=255, **wang)
    found = ssim.ssim_gaussian(pred[None, ..., 0], truth[None, ..., 0])[0]
    assert found == pytest.approx(expected, abs=1e-9)


def test_a_flat_region_beside_a_bright_one_loses_no_digit():
    """E[x²] − E[x]² is where rounding shows: level pictures with a grain that cancels in their sum."""
    similarity = pytest.importorskip("skimage.metrics").structural_similarity
    random = np.random.default_rng(6)
    base = np.zeros((96, 96, 3), np.int64)
    base[48:] = 247
    grain = random.integers(-3, 4, base.shape)
    pred, truth = (np.clip(base + sign * grain, 0, 255).astype(np.uint8) for sign in (1, -1))
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = similarity(truth, pred, data_range=255, channel_axis=2, **wang)
    assert ssim.ssim_gaussian(pred[None], truth[None])[0] == pytest.approx(expected, abs=1e-9)


def test_pictures_below_the_window_are_refused():
    tiny = np.zeros((1, 10, 30, 3), np.uint8)
    with pytest.raises(Unscorable, match="30×10"):
        ssim.ssim_gaussian(tiny, tiny)
