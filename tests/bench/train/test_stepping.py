"""Optimizer steps made from updates, without data and without a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.optim import SGD

from bench.train.finite import NotFinite
from bench.train.stepping import Stepper
from models.base import Update


def linear(value: float) -> nn.Linear:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(value)
    return network


def test_each_loss_moves_its_own_parameters_before_the_next_one_is_computed() -> None:
    first, second = linear(1.0), linear(2.0)
    stepper = Stepper({"a": SGD(first.parameters(), 0.5), "b": SGD(second.parameters(), 0.5)})
    seen = []

    def updates() -> Iterator[Update]:
        # d(w v)/dw = v: the second network's weight has a share in the loss and must stay.
        yield Update((first.weight * second.weight).sum(), "a")
        seen.append((first.weight.item(), second.weight.item(), second.weight.grad))
        yield Update((first.weight * second.weight).sum(), "b")
        seen.append((first.weight.item(), second.weight.item(), first.weight.grad))

    made = [update.optimizer for update in stepper.steps(updates())]
    assert made == ["a", "b"]
    # a: 1 - 0.5 * 2 = 0; b: 2 - 0.5 * 0 = 2.
    assert seen == [(0.0, 2.0, None), (0.0, 2.0, None)]


def test_the_mean_gradient_of_several_parts_makes_one_step() -> None:
    network = linear(1.0)
    stepper = Stepper({"a": SGD(network.parameters(), 1.0)})
    for slope, last in ((1.0, False), (3.0, True)):
        before = network.weight.item()
        (update,) = stepper.steps(iter([Update(slope * network.weight.sum(), "a")]), parts=2, last=last)
        assert update.loss.item() == slope * before
    assert network.weight.item() == 1.0 - (1.0 + 3.0) / 2


def test_gradients_are_clipped_and_schedules_advance_at_their_own_optimizer() -> None:
    network, other = linear(1.0), linear(1.0)
    optimizers = {"a": SGD(network.parameters(), 1.0), "b": SGD(other.parameters(), 1.0)}
    schedules = {
        name: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1) for name, optimizer in optimizers.items()
    }
    stepper = Stepper(optimizers, schedules, clip_norm=0.25)
    assert len(list(stepper.steps(iter([Update(8 * network.weight.sum(), "a")])))) == 1
    assert network.weight.item() == pytest.approx(0.75)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers.values()]
    assert rates == pytest.approx([0.1, 1.0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_moves_nothing(value: float) -> None:
    network = linear(1.0)
    stepper = Stepper({"a": SGD(network.parameters(), 1.0)})
    with pytest.raises(NotFinite, match=r"the loss of a is (nan|inf)") as caught:
        list(stepper.steps(iter([Update(network.weight.sum() * value, "a")])))
    assert caught.value.optimizer == "a"
    assert network.weight.item() == 1.0 and network.weight.grad is None
