"""A loss that is not finite, noticed without waiting for the device in every step."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.utils._python_dispatch import TorchDispatchMode

from bench.train.finite import DeferredCheck, NotFinite, can_defer
from bench.train.fused import fused
from bench.train.stepping import Stepper
from models.base import Progress, Update
from tests import every_stage


def linear(value: float) -> nn.Linear:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(value)
    return network


def test_from_the_first_bad_loss_on_nothing_moves_until_it_is_read() -> None:
    first, second = linear(1.0), linear(2.0)
    optimizers = {"a": fused(Adam(first.parameters(), 0.5)), "b": fused(SGD(second.parameters(), 0.5))}
    check = DeferredCheck(optimizers, torch.device("cpu"), None)
    stepper = Stepper(optimizers, deferred=check)

    def step(factor: float) -> None:
        def updates() -> Iterator[Update]:
            yield Update(first.weight.sum(), "a")
            yield Update(second.weight.sum() * factor, "b")

        assert [update.optimizer for update in stepper.steps(updates())] == ["a", "b"]

    step(1.0)
    check.read()
    assert (first.weight.item(), second.weight.item()) == (pytest.approx(0.5), 1.5)
    step(float("inf"))
    moved = first.weight.item()
    assert moved < 0.5, "the first loss of the bad step is finite, so its step is made"
    step(1.0)
    step(1.0)
    assert (first.weight.item(), second.weight.item()) == (moved, 1.5)
    assert float(optimizers["a"].state[first.weight]["step"]) == 2
    with pytest.raises(NotFinite, match="the loss of b is inf") as caught:
        check.read()
    assert (caught.value.optimizer, caught.value.steps_ago) == ("b", 2)
    step(1.0)
    check.read()
    assert first.weight.item() < moved and second.weight.item() == 1.0, "the flag is cleared"


def test_only_fused_optimizers_can_wait() -> None:
    network = linear(1.0)
    assert can_defer([fused(Adam(network.parameters()))])
    assert not can_defer([fused(Adam(network.parameters())), Adam(linear(1.0).parameters())])


class Reads(TorchDispatchMode):
    """Counts what makes the host wait for a device: values and shapes that depend on them."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "item", "is_nonzero", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition("::")[2].partition(".")[0]
        if name in self.WAITING and not in_packed_rnn():
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def in_packed_rnn() -> bool:
    """Whether a recurrent layer of torch asks: the batch sizes of packed sequences lie on the host on every device."""
    return any(frame.filename.endswith("torch/nn/modules/rnn.py") for frame in traceback.extract_stack())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_stage.generated_data(tmp_path_factory.mktemp("finite") / "data")


@pytest.mark.parametrize(("method", "stage"), every_stage.stages())
def test_no_value_is_read_within_a_step(method: str, stage: str, data: Path) -> None:
    """On a GPU each such value would stop the device; a CPU shows the same operators."""
    small = every_stage.small(method, stage, data)
    optimizers = {name: fused(optimizer) for name, optimizer in small.stage.optimizers().items()}
    assert can_defer(optimizers.values())
    check = DeferredCheck(optimizers, torch.device("cpu"), None)
    stepper = Stepper(optimizers, deferred=check)
    with Reads() as reads:
        # Neither at the first step nor where unused codes are looked for, which may read something.
        for _ in stepper.steps(small.stage.updates(small.batches[0], Progress(1_000_001, 1_000.0))):
            pass
    assert reads.found == []
    check.read()
    with Reads() as reads:
        bool(torch.ones(1))
    assert reads.found, "what is this test for?"
