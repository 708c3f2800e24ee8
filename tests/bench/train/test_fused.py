"""The fused form of optimizers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer

from bench.train.checkpoint import pack_optimizers, unpack_optimizers
from bench.train.fused import fused


def trained(optimizer: Optimizer, network: nn.Module, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        loss = network(torch.randn(4, 3, generator=generator)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 5)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Adam, {"lr": 0.1, "betas": (0.5, 0.9)}),
        (AdamW, {"lr": 0.1, "weight_decay": 0.1}),
        (SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    ],
)
def test_it_makes_the_same_steps(kind: type[Optimizer], options: dict[str, float]) -> None:
    plain, other = network(), network()
    optimizer = fused(kind(other.parameters(), **options))
    assert type(optimizer) is kind and optimizer.param_groups[0]["fused"]
    trained(kind(plain.parameters(), **options), plain, 20)
    trained(optimizer, other, 20)
    assert torch.allclose(plain.weight, other.weight, rtol=1e-5, atol=1e-6)
    assert not torch.equal(network().weight, other.weight)


def test_groups_keep_their_own_options() -> None:
    first, second = network(), network()
    groups = [{"params": list(first.parameters()), "lr": 0.5}, {"params": list(second.parameters())}]
    optimizer = fused(Adam(groups, lr=0.1, betas=(0.9, 0.95)))
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1]
    assert all(group["betas"] == (0.9, 0.95) for group in optimizer.param_groups)


def test_others_stay_as_they_are() -> None:
    own = LBFGS(network().parameters())
    double = Adam(network().double().parameters())
    assert fused(own) is own and fused(double) is double


def test_a_state_of_earlier_versions_is_continued() -> None:
    plain, other = network(), network()
    before = Adam(plain.parameters(), lr=0.1)
    trained(before, plain, 5)
    other.load_state_dict(plain.state_dict())
    after = fused(Adam(other.parameters(), lr=0.1))
    tensors, rest = pack_optimizers({"a": before})
    # As from a file: nothing is shared.
    unpack_optimizers({"a": after}, {key: value.clone() for key, value in tensors.items()}, rest)
    assert after.param_groups[0]["fused"]
    trained(before, plain, 3)
    trained(after, other, 3)
    assert torch.allclose(plain.weight, other.weight, rtol=1e-5, atol=1e-6)
