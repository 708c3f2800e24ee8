"""Layers of DINet against the same written plainly (``--benchmark-only``): processor time, one thread.

Forward and backward pass at the paper's size, faces of 416×320, of one frame; the fastest of rounds in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from models.layers.adaat import turned
from models.layers.doubling import DoublingConv2d
from tests.models.layers.test_adaat import official
from tests.models.layers.test_doubling import plain

ROUNDS = 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def compared(benchmark: BenchmarkFixture, ours: Callable[[], Tensor], theirs: Callable[[], Tensor]) -> float:
    """How many times as fast ours is."""

    def turns() -> list[float]:
        taken: list[list[float]] = [[], []]
        for _ in range(ROUNDS):
            for times, function in zip(taken, (ours, theirs), strict=True):
                begun = time.process_time()
                function().sum().backward()
                times.append(time.process_time() - begun)
        return [min(times) for times in taken]

    seconds, others = benchmark.pedantic(turns, rounds=1)
    benchmark.extra_info.update(ratio=others / seconds, seconds=seconds)
    return others / seconds


def given() -> tuple[Tensor, ...]:
    sizes = (1, 256, 104, 80), (1, 256), (1, 256), (1, 256, 2)
    return tuple(torch.rand(size, requires_grad=True) for size in sizes)


def test_a_doubling_convolution(benchmark: BenchmarkFixture) -> None:
    """Against a convolution of the enlarged map."""
    conv, x = DoublingConv2d(128, 128), torch.randn(1, 128, 208, 160, requires_grad=True)
    assert compared(benchmark, lambda: conv(x), lambda: plain(conv, x)) > 1.3


def test_the_official_form_of_adaat(benchmark: BenchmarkFixture) -> None:
    """Against the official sampling of a volume, whose neighbouring channels are mixed."""
    of = given()
    assert compared(benchmark, lambda: turned(*of, mixed=True), lambda: official(*of)) > 1.5


def test_the_papers_form_of_adaat(benchmark: BenchmarkFixture) -> None:
    """Against torch's own grid of each channel."""
    features, scale, angle, shift = given()

    def by_grids() -> Tensor:
        cos, sin = scale * angle.cos(), scale * angle.sin()
        rows = torch.stack([cos, -sin, shift[..., 0], sin, cos, shift[..., 1]], dim=-1)
        grid = F.affine_grid(rows.view(-1, 2, 3), [256, 1, 104, 80], align_corners=True)
        return F.grid_sample(features.view(256, 1, 104, 80), grid, align_corners=True)

    assert compared(benchmark, lambda: turned(features, scale, angle, shift), by_grids) > 1.2
