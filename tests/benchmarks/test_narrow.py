"""Narrow convolutions against torch's own on contiguous pictures (``--benchmark-only``): processor time, one thread."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from models.layers.narrow import conv2d

#: Inputs, outputs and kernel of IP-LAP's renderer in the preset ``tiny``, which sees four pictures of 64².
SHAPES = [(8, 4, 7), (8, 2, 7), (4, 8, 5), (8, 8, 3)]
ROUNDS = 15


@pytest.mark.parametrize(("precision", "at_least"), [(torch.float32, 1.1), (torch.bfloat16, 1.5)])
def test_narrow_convolutions_are_faster(
    benchmark: BenchmarkFixture, precision: torch.dtype, at_least: float
) -> None:
    """Forward and backward pass of all shapes together, the fastest of rounds in turns."""
    if precision == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no instructions for bfloat16")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours, plain = benchmark.pedantic(_fastest, (precision,), rounds=1)
    finally:
        torch.set_num_threads(threads)
    benchmark.extra_info.update(ratio=plain / ours, seconds=ours)
    assert plain / ours >= at_least


def _fastest(precision: torch.dtype) -> tuple[float, float]:
    def narrow(x: Tensor, weight: Tensor, padding: int) -> Tensor:
        return conv2d(x, weight, padding=(padding, padding))

    def plain(x: Tensor, weight: Tensor, padding: int) -> Tensor:
        return F.conv2d(x, weight, padding=padding)

    taken: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for times, function in zip(taken, (narrow, plain), strict=True):
            times.append(sum(_seconds(function, *shape, precision) for shape in SHAPES))
    return min(taken[0]), min(taken[1])


def _seconds(
    function: Callable[[Tensor, Tensor, int], Tensor],
    cin: int,
    cout: int,
    kernel: int,
    precision: torch.dtype,
) -> float:
    x = torch.randn(4, cin, 64, 64, dtype=precision, requires_grad=True)
    weight = torch.randn(cout, cin, kernel, kernel, dtype=precision, requires_grad=True)
    gradient = torch.randn(4, cout, 64, 64, dtype=precision)
    begun = time.process_time()
    function(x, weight, kernel // 2).backward(gradient)
    return time.process_time() - begun
