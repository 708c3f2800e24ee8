"""Networks with batch normalisation folded into their convolutions against the same networks without
(``--benchmark-only``), processor time, in turns in one run.

Measured on one core, official sizes: the expert with the gradient of its picture 1.04 to 1.07, IP-LAP's encoder of
references 1.15 to 1.21, which a video needs once. IP-LAP's renderer as a whole 0.99 to 1.00, Wav2Lip's generator 0.92
to 1.02: their time goes into other layers, and the transposed convolutions of the latter are not folded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import quantiles

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from baselines.sync_expert.network import SyncNet
from models.ipl.renderer import Renderer
from models.layers import folding

ROUNDS = 6


def _expert() -> tuple[nn.Module, Callable[[], object]]:
    network, mels, lips = SyncNet(), torch.rand(8, 80, 16), torch.rand(8, 15, 48, 96, requires_grad=True)

    def step() -> object:
        heard, seen = network(mels, lips)
        return torch.autograd.grad((heard * seen).sum(), lips)

    return network, step


def _references() -> tuple[nn.Module, Callable[[], object]]:
    network, given = Renderer(), (torch.rand(1, 10, 3, 128, 128), torch.rand(1, 10, 3, 128, 128))
    return network, lambda: network.encode_references(*given)


@pytest.mark.parametrize("which", [_expert, _references])
def test_folding_pays(
    benchmark: BenchmarkFixture, which: Callable[[], tuple[nn.Module, Callable[[], object]]]
) -> None:
    torch.manual_seed(0)
    network, work = which()
    network.eval().requires_grad_(False)

    def timed() -> float:
        begun = time.process_time()
        work()
        return time.process_time() - begun

    def plainly() -> float:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(folding, "foldable", lambda norm, sources: False)
            return timed()

    def turns() -> list[tuple[float, float]]:
        pairs = []
        for _ in range(ROUNDS):
            plain = plainly()
            work()  # Weights are folded again.
            pairs.append((plain, timed()))
        return pairs

    pairs = benchmark.pedantic(turns, rounds=1)
    plain, folded = (quantiles(side, n=4)[0] for side in zip(*pairs, strict=True))
    benchmark.extra_info.update(ratio=plain / folded, pairs=pairs)
    assert plain / folded > 1
