"""Modules that stay in float32 under autocast."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from models.layers.precision import full, keep_full, kept_full


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no")


def test_a_kept_module_is_exact_amid_half_precision() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    x = torch.randn(4, 8)
    undo = keep_full(network[1])
    with torch.autocast("cpu", torch.bfloat16):
        half = network[0](x)
        kept = network[1](half)
        assert half.dtype == network[2](kept).dtype == torch.bfloat16
    assert kept.dtype == torch.float32
    assert torch.equal(kept, network[1](half.float()))
    undo()
    with torch.autocast("cpu", torch.bfloat16):
        assert network[1](half).dtype == torch.bfloat16


def test_half_precision_goes_on_after_an_error() -> None:
    failing, layer = Fails(), nn.Linear(2, 2)
    with kept_full(iter([failing])), torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError, match="no"):
            failing(torch.ones(1, 2))
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16


def test_weights_get_gradients_and_copies_are_independent() -> None:
    layer = nn.Linear(3, 1)
    undo = keep_full(layer)
    with torch.autocast("cpu", torch.bfloat16):
        made = layer(torch.ones(2, 3, dtype=torch.bfloat16))
    made.sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
    other = copy.deepcopy(layer)
    undo()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(2, 3)).dtype == torch.bfloat16
        assert other(torch.ones(2, 3)).dtype == torch.float32


def test_full_leaves_what_is_exact() -> None:
    for dtype in (torch.float32, torch.float64):
        values = torch.ones(2, dtype=dtype)
        assert full(values) is values
    assert full(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.float32
    assert full(torch.ones(2, dtype=torch.uint8)).dtype == torch.float32
