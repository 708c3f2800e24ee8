"""Modules that are computed again in the backward pass."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.layers.recompute import names_of, recomputed
from models.layers.stylegan2 import DiscriminatorBlock, StyleGAN2Discriminator, r1_penalty


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def both(module: nn.Module, work: Callable[[nn.Module], object], *again: str) -> tuple[nn.Module, nn.Module]:
    """A module, and its copy in which parts are computed again, after the same work."""
    other = copy.deepcopy(module)
    torch.manual_seed(1)
    plain = work(module)
    with recomputed(other.get_submodule(name) for name in again):
        torch.manual_seed(1)
        found = work(other)
    assert plain is None or torch.equal(plain, found)  # type: ignore[arg-type]
    assert "forward" not in other.__dict__
    return module, other


def same(one: nn.Module, other: nn.Module) -> None:
    for (name, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert a.grad is not None and torch.equal(a.grad, b.grad), name  # type: ignore[arg-type]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_statistics_are_noted_once_and_dropout_is_the_same(momentum: float | None) -> None:
    norm = nn.BatchNorm1d(5, momentum=momentum)
    net = nn.Sequential(nn.Linear(4, 5), norm, nn.Dropout(0.5), nn.ReLU(), nn.Linear(5, 3))
    x = torch.randn(6, 4)

    def work(module: nn.Module) -> None:
        for _ in range(3):
            module(x).square().sum().backward()

    one, other = both(net, work, "")
    same(one, other)
    assert one[1].num_batches_tracked == other[1].num_batches_tracked == 3  # type: ignore[index]
    assert other[1].momentum == momentum  # type: ignore[index]


def test_the_second_derivative_of_r1() -> None:
    network = StyleGAN2Discriminator(16, 1 / 32)
    x = torch.rand(3, 3, 16, 16, requires_grad=True)

    def work(module: nn.Module) -> None:
        r1_penalty(x, module(x)).backward(inputs=list(module.first.parameters()))  # type: ignore[union-attr]

    blocks = [f"blocks.{n}" for n in range(len(network.blocks))]
    one, other = both(network, work, *blocks)
    assert torch.equal(one.first.weight.grad, other.first.weight.grad)  # type: ignore[union-attr]


def test_several_backward_passes_through_one_graph() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    x = torch.randn(6, 4)

    def work(module: nn.Module) -> None:
        out = module(x)
        out.sum().backward(retain_graph=True)
        out.square().sum().backward()

    same(*both(net, work, "1", "2"))


def test_half_precision_is_the_same_the_second_time() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5), nn.GELU(), nn.Linear(5, 3))

    def work(module: nn.Module) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            out = module(torch.ones(6, 4))
        # The backward pass runs outside.
        out.float().square().sum().backward()
        return out

    same(*both(net, work, "1", "2"))


def test_without_gradients_nothing_is_kept_and_nothing_computed_twice() -> None:
    calls = []

    class Counted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(torch.is_grad_enabled())
            return super().forward(x).tanh().square()

    module = Counted(3, 3)
    with recomputed([module]):
        with torch.no_grad():
            module(torch.ones(1, 3))
        module(torch.ones(1, 3)).sum().backward()
    assert calls == [False, True, True]


def test_names_are_those_that_a_stage_uses() -> None:
    networks = {"d": StyleGAN2Discriminator(16, 1 / 32), "block": DiscriminatorBlock(2, 3)}
    assert names_of(networks, DiscriminatorBlock) == ("d.blocks.0", "d.blocks.1", "block")
