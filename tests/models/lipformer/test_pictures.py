from __future__ import annotations

import pytest
import torch

from models.lipformer.pictures import of_lips, of_mouth, pixel_loss, with_lips


def test_the_mouth_counts_where_it_has_a_weight() -> None:
    found, wanted = torch.zeros(2, 3, 100, 100), torch.zeros(2, 3, 100, 100)
    # All of the mouth, and nothing else.
    found[:, :, 64:92, 30:70] = 0.5
    everywhere = 0.25 * 28 * 40 / 100**2
    assert float(pixel_loss(found, wanted, 0.0)) == pytest.approx(everywhere)
    assert float(pixel_loss(found, wanted, 2.0)) == pytest.approx(everywhere + 2 * 0.25)


def test_its_gradient_is_that_of_differences() -> None:
    torch.manual_seed(0)
    found, wanted = torch.rand(2, 3, 8, 8, dtype=torch.float32), torch.rand(2, 3, 8, 8)
    found.requires_grad_()
    (gradient,) = torch.autograd.grad(pixel_loss(found, wanted, 1.5), found)
    at, step = (1, 2, 6, 4), 1e-2
    ends = []
    for sign in (1, -1):
        moved = found.detach().clone()
        moved[at] += sign * step
        ends.append(float(pixel_loss(moved, wanted, 1.5)))
    assert float(gradient[at]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-2)


def test_lips_are_the_cells_of_the_mouths_pixels() -> None:
    face = torch.zeros(100, 100)
    of_mouth(face)[:] = 1
    # Half a face of 25 × 50 cells, 2 × 2 pixels each.
    cells = torch.zeros(25, 50)
    of_lips(cells)[:] = 1
    assert torch.equal(cells, face[50:].unfold(0, 2, 2).unfold(1, 2, 2).amax((2, 3)))
    assert of_lips(torch.zeros(2, 16, 32)).shape == (2, 9, 12)
    assert of_lips(torch.zeros(1, 2)).shape == (1, 1)


def test_codes_of_the_mouth_count_where_it_has_a_weight() -> None:
    error = torch.full((2, 25, 50), 0.5)
    assert float(with_lips(error, 2.0)) == pytest.approx(3 * 0.5)
    # None but at the mouth.
    error[:] = 0
    of_lips(error)[:] = 0.5
    share = of_lips(error).numel() / error.numel()
    assert float(with_lips(error, 0.0)) == pytest.approx(share * 0.5)
    assert float(with_lips(error, 2.0)) == pytest.approx((share + 2) * 0.5)
