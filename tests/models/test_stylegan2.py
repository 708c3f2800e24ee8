"""StyleGAN2's discriminator and its losses: hand-computed cases, finite differences, the official size."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from models.layers.stylegan2 import (
    StyleGAN2Discriminator,
    batch_deviation,
    discriminator_loss,
    generator_loss,
    r1_penalty,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def tiny() -> StyleGAN2Discriminator:
    """Four channels everywhere, 8 × 8 pixels, float64."""
    return StyleGAN2Discriminator(8, 1 / 128).double()


def pictures(batch: int) -> Tensor:
    return torch.rand(batch, 3, 8, 8, dtype=torch.float64, requires_grad=True)


def test_the_official_size() -> None:
    """29,012,513 parameters at 1024 × 1024, as its training prints."""
    with torch.device("meta"):
        network = StyleGAN2Discriminator(1024)
    assert sum(parameter.numel() for parameter in network.parameters()) == 29_012_513


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("batch", [1, 3, 4, 6, 8])
def test_one_logit_a_picture(size: int, batch: int) -> None:
    logits = StyleGAN2Discriminator(size, 1 / 64)(torch.rand(batch, 3, size, size))
    assert logits.shape == (batch,) and logits.isfinite().all()


@pytest.mark.parametrize("size", [4, 24, 100])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"not {size}"):
        StyleGAN2Discriminator(size)


def test_every_parameter_is_used() -> None:
    network = tiny()
    network(pictures(4)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_variance_stays_through_depth() -> None:
    """What the scales of weights, activations and sums are for: no resolution is louder than another."""
    network = StyleGAN2Discriminator(64, 1 / 8)
    x = network.first(torch.randn(4, 3, 64, 64))
    for block in network.blocks:
        # Low-passing takes variance from noise, so each block is given noise anew.
        level = float(block(torch.randn_like(x)).detach().std())
        assert 0.1 < level < 1
        x = block(x)


def test_halving_filters_and_keeps_its_place() -> None:
    """A ramp along x, halved by a 1 × 1 convolution that weighs 1, is the ramp at every other pixel's border."""
    shortcut = tiny().blocks[0].shortcut
    torch.nn.init.zeros_(shortcut.weight)
    # By 1 / √(4 channels), and by the 1 / √2 of the sum that it is a part of.
    shortcut.weight.data[0, 0] = 2 * math.sqrt(2)
    ramp = torch.arange(8.0, dtype=torch.float64).expand(1, 4, 8, 8)
    made = shortcut(ramp)[0, 0]
    assert made.shape == (4, 4)
    # Between pixels 2 and 3 the ramp is 2.5: the filter is even and its middle lies between two pixels.
    assert made[1:3, 1:3].tolist() == [[2.5, 4.5], [2.5, 4.5]]


def test_deviation_of_a_batch_by_hand() -> None:
    x = torch.zeros(2, 2, 1, 3)
    x[1, 0] = 2.0
    # Channel 0 deviates by 1, channel 1 not at all.
    expected = (1 + math.sqrt(1e-8)) / 2
    found = batch_deviation(x)
    assert found.shape == (2, 1, 1, 3)
    torch.testing.assert_close(found, torch.full((2, 1, 1, 3), expected))


def test_deviations_are_of_groups_of_four() -> None:
    """Of eight pictures every other one is a group, so 0, 2, 4, 6 and 1, 3, 5, 7."""
    x = torch.zeros(8, 1, 1, 1)
    x[2] = x[4] = 2.0
    found = batch_deviation(x).flatten()
    torch.testing.assert_close(found, torch.tensor([1.0, 1e-4] * 4))


def test_losses_by_hand() -> None:
    zero, sure = torch.zeros(3), torch.full((3,), 30.0)
    assert float(generator_loss(zero)) == pytest.approx(math.log(2))
    assert float(generator_loss(sure)) == pytest.approx(0, abs=1e-9)
    assert float(generator_loss(-sure)) == pytest.approx(30)
    assert float(discriminator_loss(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(discriminator_loss(sure, -sure)) == pytest.approx(0, abs=1e-9)
    assert float(discriminator_loss(-sure, zero)) == pytest.approx(30 + math.log(2))


def test_r1_by_hand() -> None:
    """Logits that are 2 Σ x have a gradient of 2 in [0, 1] and of 1 in [-1, 1], at each of 12 values."""
    x = torch.rand(5, 3, 2, 2, requires_grad=True)
    assert float(r1_penalty(x, 2 * x.sum((1, 2, 3))).detach()) == pytest.approx(12)


def test_gradient_of_the_generators_loss() -> None:
    network = tiny()
    assert gradcheck(lambda x: generator_loss(network(x)), (pictures(2),))


def test_gradient_of_the_discriminators_loss() -> None:
    network, real, fake = tiny(), pictures(2), pictures(2)
    assert gradcheck(lambda a, b: discriminator_loss(network(a), network(b)), (real, fake))
    parameters = (network.hidden.weight, network.blocks[0].first.bias)
    assert gradcheck(lambda *_: discriminator_loss(network(real), network(fake)), parameters)


def test_gradient_of_r1() -> None:
    """A second derivative: by the weights, of a gradient by the pictures."""
    network, real = tiny(), pictures(2)
    parameters = (network.first.weight, network.blocks[0].shortcut.weight, network.score.weight)
    assert gradcheck(lambda *_: r1_penalty(real, network(real)), parameters)


def test_it_learns_to_tell() -> None:
    network = StyleGAN2Discriminator(16, 1 / 32)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3, (0.0, 0.99))
    for _ in range(30):
        real, fake = torch.rand(8, 3, 16, 16) * 0.5 + 0.5, torch.rand(8, 3, 16, 16)
        loss = discriminator_loss(network(real), network(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5
