"""Losses, against plain computations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.g4g.contrast import Pairs, Projections, contrast
from models.g4g.losses import attribute_loss, expert_contrast, reconstruction_loss
from models.g4g.masks import regions
from models.layers.mouth_square import MouthSquare


def plain_direction(one: Tensor, other: Tensor, temperature: float) -> float:
    """One direction of equations 6 to 10, pair by pair."""
    total = 0.0
    for i in range(len(one)):
        cosines = [
            float(one[i] @ other[j] / (one[i].norm() * other[j].norm())) / temperature
            for j in range(len(other))
        ]
        total -= math.log(math.exp(cosines[i]) / sum(math.exp(c) for c in cosines))
    return total / len(one)


def test_contrast_pair_by_pair() -> None:
    torch.manual_seed(0)
    pairs = Pairs(*(torch.randn(5, 7) for _ in range(4)))
    wanted = plain_direction(pairs.visual, pairs.other_sound, 0.3)
    wanted += plain_direction(pairs.sound, pairs.other_visual, 0.3)
    assert float(contrast(pairs, 0.3)) == pytest.approx(wanted / 2, rel=1e-5)


def test_expert_contrast_pair_by_pair() -> None:
    torch.manual_seed(0)
    seen, heard = torch.rand(4, 6), torch.rand(4, 6)
    wanted = plain_direction(seen, heard, 0.1) + plain_direction(heard, seen, 0.1)
    assert float(expert_contrast(seen, heard, 0.1)) == pytest.approx(wanted / 2, rel=1e-5)


def test_contrast_of_pairs_that_belong_together_and_of_equal_ones() -> None:
    own = torch.eye(4)
    assert float(expert_contrast(own, own, 0.07)) < 1e-4
    same = torch.ones(4, 4)
    assert float(expert_contrast(same, same, 0.07)) == pytest.approx(math.log(4), rel=1e-5)
    assert float(expert_contrast(own, own.roll(1, 0), 0.07)) > 10


def test_contrast_can_be_learned() -> None:
    torch.manual_seed(0)
    projections = Projections(8)
    visual, sound = torch.randn(6, 8), torch.randn(6, 8)
    optimizer = torch.optim.Adam(projections.parameters(), 0.02)
    for _ in range(60):
        loss = contrast(projections(visual, sound), 0.07)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 * math.log(6)


def test_shared_projections_have_no_others() -> None:
    own, shared = Projections(8), Projections(8, "shared")
    pairs = shared(torch.randn(2, 8), torch.randn(2, 8))
    assert pairs.visual is pairs.other_visual and pairs.sound is pairs.other_sound
    assert len(list(own.parameters())) == 2 * len(list(shared.parameters()))


def test_attribute_loss_by_hand() -> None:
    one = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    other = torch.tensor([[5.0, 0.0], [-3.0, -4.0], [7.0, 0.0]])
    assert float(attribute_loss(one, other)) == pytest.approx((0 + 2 + 1) / 3)


def test_reconstruction_is_the_mean_over_sizes() -> None:
    torch.manual_seed(0)
    square = MouthSquare(32)
    names = ["face", "half", "square", "lips"]
    looked = regions(square, names)  # type: ignore[arg-type]
    found, wanted = torch.rand(2, 2, 3, square.height, square.width)
    each = [(found - wanted).abs()[:, :, looked[i, 0] > 0].mean() for i in range(len(names))]
    assert float(reconstruction_loss(found, wanted, looked)) == pytest.approx(float(sum(each)) / 4, rel=1e-5)


def test_half_precision_is_added_up_in_float32() -> None:
    square = MouthSquare(64)
    found = torch.full((1, 3, square.height, square.width), 0.5)
    looked = regions(square, ["face"])
    narrow = reconstruction_loss(found.bfloat16(), (found + 0.25).bfloat16(), looked)
    assert narrow.dtype == torch.float32
    assert float(narrow) == 0.25
    with torch.autocast("cpu", torch.bfloat16):
        same = expert_contrast(torch.ones(3, 4), torch.ones(3, 4), 0.07)
    assert same.dtype == torch.float32
    assert float(same) == pytest.approx(math.log(3), rel=1e-5)
