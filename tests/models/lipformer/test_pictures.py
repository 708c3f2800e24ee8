from __future__ import annotations

import pytest
import torch

from models.lipformer.pictures import pixel_loss


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
