from __future__ import annotations

import pytest
import torch

from models.lipformer.augment import augmented


def test_without_strength_pictures_are_mirrored_at_most() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(64, 3, 16, 16)
    found = augmented(pictures, 0.0)
    same = ((found - pictures).abs().amax((1, 2, 3)) < 1e-5).tolist()
    mirrored = ((found - pictures.flip(3)).abs().amax((1, 2, 3)) < 1e-5).tolist()
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 16 < sum(mirrored) < 48


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_pictures_differ_and_stay_pictures(strength: float) -> None:
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 32), indexing="ij")
    picture = torch.stack([x, y, (x + y) / 2])
    found = augmented(picture.expand(32, 3, 32, 32), strength)
    assert found.shape == (32, 3, 32, 32)
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    apart = (found[:, None] - found[None]).abs().mean((2, 3, 4)) + torch.eye(32)
    assert float(apart.min()) > 0.005
    # Colours move by about as much as the strength says.
    moved = (found.mean((2, 3)) - picture.mean((1, 2))).abs()
    assert 0.04 * strength < float(moved.mean()) < 0.2 * strength


def test_pairs_are_changed_alike() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(4, 3, 16, 16)
    first, second = augmented(torch.cat([pictures, pictures]), 1.0, alike=2).chunk(2)
    torch.testing.assert_close(first, second)
    assert float((first[0] - augmented(pictures, 1.0)[0]).abs().mean()) > 0.01


def test_it_follows_torchs_generator() -> None:
    pictures = torch.rand(4, 3, 16, 16)
    torch.manual_seed(3)
    first = augmented(pictures, 1.0)
    torch.manual_seed(3)
    torch.testing.assert_close(augmented(pictures, 1.0), first, rtol=0, atol=0)


def test_autocast_changes_nothing() -> None:
    pictures = torch.rand(4, 3, 64, 64)
    torch.manual_seed(3)
    first = augmented(pictures, 1.0)
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        second = augmented(pictures, 1.0)
    torch.testing.assert_close(second, first, rtol=0, atol=0)
