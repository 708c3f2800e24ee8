"""The perceptual loss at two resolutions, against a plain computation in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.layers.two_scale import two_scale_loss
from models.layers.vgg import MEAN, STD, TAPS, VGG19


@pytest.fixture(scope="module")
def vgg() -> VGG19:
    torch.manual_seed(0)
    return VGG19().eval().requires_grad_(False)


def _faces(seed: int) -> Tensor:
    return torch.rand(2, 3, 52, 40, generator=torch.Generator().manual_seed(seed))


def _mean_of_neighbours(pictures: np.ndarray) -> np.ndarray:
    """Around every second pixel, over those of its 3×3 neighbours that exist."""
    height, width = pictures.shape[-2:]
    out = np.empty((*pictures.shape[:2], height // 2, width // 2))
    for i in range(height // 2):
        for j in range(width // 2):
            near = pictures[..., max(2 * i - 1, 0) : 2 * i + 2, max(2 * j - 1, 0) : 2 * j + 2]
            out[..., i, j] = near.mean(axis=(2, 3))
    return out


def _maps(vgg: VGG19, pictures: np.ndarray) -> list[np.ndarray]:
    """Layer by layer, in float64."""
    x = torch.from_numpy((pictures - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1)))
    found = []
    for place, layer in enumerate(vgg.features):
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None
            x = nn.functional.conv2d(x, layer.weight.double(), layer.bias.double(), padding=1)
        else:
            x = x.clamp_min(0) if isinstance(layer, nn.ReLU) else nn.functional.max_pool2d(x, 2)
        if place in TAPS:
            found.append(x.numpy())
    return found


def test_it_is_the_mean_of_ten_differences(vgg: VGG19) -> None:
    made, truth = _faces(1), _faces(2)
    a, b = made.double().numpy(), truth.double().numpy()
    half_a, half_b = _mean_of_neighbours(a), b.reshape(2, 3, 26, 2, 20, 2).mean(axis=(3, 5))
    pairs = [*zip(_maps(vgg, a), _maps(vgg, b), strict=True)]
    pairs += zip(_maps(vgg, half_a), _maps(vgg, half_b), strict=True)
    wanted = np.mean([np.abs(x - y).mean() for x, y in pairs])
    assert len(pairs) == 10
    assert two_scale_loss(vgg, made, truth).item() == pytest.approx(wanted, rel=1e-5)


def test_only_what_is_made_gets_a_gradient(vgg: VGG19) -> None:
    made, truth = _faces(1).requires_grad_(), _faces(2).requires_grad_()
    two_scale_loss(vgg, made, truth).backward()
    assert made.grad is not None and made.grad.abs().min() > 0
    assert truth.grad is None


def test_flat_equal_pictures_cost_nothing_and_odd_ones_are_refused(vgg: VGG19) -> None:
    grey = torch.full((1, 3, 32, 32), 0.5)
    # Both halves of a flat picture are flat; of others they differ, so that equal pictures cost a little.
    assert two_scale_loss(vgg, grey, grey).item() == pytest.approx(0, abs=1e-6)
    assert two_scale_loss(vgg, _faces(1), _faces(1)) > 1e-3
    with pytest.raises(ValueError, match="33×32"):
        two_scale_loss(vgg, torch.zeros(1, 3, 33, 32), torch.zeros(1, 3, 33, 32))
