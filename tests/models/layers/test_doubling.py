from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.doubling import DoublingConv2d
from models.layers.folding import normalised


def plain(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(F.interpolate(x, scale_factor=2), conv.weight, conv.bias, padding=1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 4), (6, 9)])
def test_it_is_a_convolution_of_repeated_pixels(height: int, width: int) -> None:
    torch.manual_seed(0)
    conv = DoublingConv2d(3, 5).double()
    x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    found, wanted = conv(x), plain(conv, x)
    assert found.shape == (2, 5, 2 * height, 2 * width)
    torch.testing.assert_close(found, wanted)
    of = (x, conv.weight, conv.bias)
    by = torch.randn_like(wanted)
    torch.testing.assert_close(torch.autograd.grad(found, of, by), torch.autograd.grad(wanted, of, by))


def test_it_is_folded_with_its_normalisation() -> None:
    torch.manual_seed(0)
    conv, norm = DoublingConv2d(3, 5), nn.BatchNorm2d(5).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 5, 4)
    conv.requires_grad_(False)
    norm.requires_grad_(False)
    torch.testing.assert_close(normalised(conv, norm, x), norm(plain(conv, x)))
