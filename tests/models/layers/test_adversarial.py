"""One pass of a discriminator for two losses: the losses and gradients of two passes, and what is kept of graphs."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.adversarial import apart, handed_on, least_squares, logistic_losses


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


Losses = Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]


def generator() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 3, 1)).double()


def discriminator(gain: float = 1.0) -> nn.Module:
    """One logit a picture, (N, 3, 6, 6) → (N,)."""
    made = nn.Sequential(nn.Conv2d(3, 5, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(80, 1), nn.Flatten(0))
    with torch.no_grad():
        made[3].weight.mul_(gain)
    return made.double()


def two_passes(judge: nn.Module, made: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy as official code has it: the pictures judged once for each loss."""
    with torch.no_grad():
        true, false = torch.ones(len(made)).to(made), torch.zeros(len(made)).to(made)
    return (
        F.binary_cross_entropy_with_logits(judge(made), true),
        F.binary_cross_entropy_with_logits(judge(made.detach()), false),
    )


def one_forward(judge: nn.Module, made: Tensor) -> tuple[Tensor, Tensor]:
    seen = apart(made)
    logits = judge(seen)
    return handed_on(F.softplus(-logits).mean(), seen, made), F.softplus(logits).mean()


def one_of_each(judge: nn.Module, made: Tensor) -> tuple[Tensor, Tensor]:
    seen = apart(made)
    return logistic_losses(judge(seen), seen, made, list(judge.parameters()))


def results(
    losses: Losses, judge: nn.Module, painter: nn.Module, x: Tensor, scale: float = 1.0
) -> list[Tensor]:
    """Both losses, then the gradients of the generator's weights and of the discriminator's.

    Of ``scale`` times the losses, as the runner takes them: each by the weights of its own network.
    """
    made = painter(x)
    first, second = losses(judge, made)
    # A loss of the same pictures beside it: the generator's graph has more than one way back.
    total = 0.25 * first + made.square().mean()
    by_painter = torch.autograd.grad(scale * total, list(painter.parameters()))
    return [total, second, *by_painter, *torch.autograd.grad(scale * second, list(judge.parameters()))]


@pytest.mark.parametrize("losses", [one_forward, one_of_each])
@pytest.mark.parametrize("gain", [1.0, 20.0])
@pytest.mark.parametrize("scale", [1.0, 2.0**16])
def test_losses_and_gradients_are_those_of_two_passes(losses: Losses, gain: float, scale: float) -> None:
    judge, painter, x = discriminator(gain), generator(), torch.randn(4, 2, 8, 8).double()
    expected = results(two_passes, judge, painter, x, scale)
    assert len(expected) == 10 and all(one.abs().max() > 0 for one in expected)
    for found, wanted in zip(results(losses, judge, painter, x, scale), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10 * float(wanted.detach().abs().max()))


@pytest.mark.parametrize("losses", [one_forward, one_of_each])
def test_the_order_of_the_gradients_does_not_matter(losses: Losses) -> None:
    judge, made = discriminator(), torch.rand(3, 3, 6, 6).double().requires_grad_()
    first, second = two_passes(judge, made)
    weights = list(judge.parameters())
    expected = [*torch.autograd.grad(second, weights), *torch.autograd.grad(first, made)]
    first, second = losses(judge, made)
    found = [*torch.autograd.grad(second, weights, retain_graph=True), *torch.autograd.grad(first, made)]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [-300.0, -100.0, -41.0, -20.0, 20.0, 100.0, 300.0])
def test_logits_far_from_zero(dtype: torch.dtype, level: float) -> None:
    """A discriminator that is sure leaves the generator its gradient; one picture beside it is undecided."""
    made = torch.tensor([[level], [0.5]], dtype=dtype, requires_grad=True)
    weight = torch.tensor([[1.0]], dtype=dtype, requires_grad=True)
    seen = apart(made)
    first, second = logistic_losses((seen @ weight).squeeze(1), seen, made, [weight])
    first.backward()
    second.backward()
    exact = torch.tensor([level, 0.5], dtype=torch.float64)
    torch.testing.assert_close(first.detach().double(), F.softplus(-exact).mean(), rtol=1e-6, atol=0)
    torch.testing.assert_close(second.detach().double(), F.softplus(exact).mean(), rtol=1e-6, atol=0)
    assert made.grad is not None and weight.grad is not None
    by_made, by_weight = -(-exact).sigmoid() / 2, (exact.sigmoid() * exact).sum() / 2
    torch.testing.assert_close(made.grad.double().squeeze(1), by_made, rtol=1e-5, atol=1e-37)
    torch.testing.assert_close(weight.grad.double().squeeze(), by_weight, rtol=1e-5, atol=1e-14)


def test_the_generators_loss_leaves_the_discriminator_alone() -> None:
    """Even where the gradient is taken for everything that asks for one."""
    for losses in (one_forward, one_of_each):
        judge, painter = discriminator(), generator()
        first, second = losses(judge, painter(torch.randn(2, 2, 8, 8).double()))
        first.backward()
        assert all(p.grad is None for p in judge.parameters())
        second.backward()
        assert all(p.grad is not None for p in judge.parameters())


def test_each_gradient_is_taken_once() -> None:
    judge, made = discriminator(), torch.rand(3, 3, 6, 6).double().requires_grad_()
    first, _ = one_of_each(judge, made)
    first.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="by pictures was taken before"):
        first.backward()


class Counting(nn.Module):
    """Squares a picture; counts the backward passes by its input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.5))
        self.backwards = 0

    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures * self.weight
        if x.requires_grad:
            x.register_hook(self._count)
        return x.square().flatten(1).sum(1)

    def _count(self, gradient: Tensor) -> None:
        self.backwards += 1


@pytest.mark.parametrize(("losses", "passes"), [(two_passes, 2), (one_forward, 2), (one_of_each, 1)])
def test_backward_passes_are_counted(losses: Losses, passes: int) -> None:
    judge, made = Counting(), torch.rand(2, 3, requires_grad=True)
    first, second = losses(judge, made)
    first.backward(inputs=[made])
    second.backward(inputs=[judge.weight])
    assert judge.backwards == passes


class Kept:
    """A tensor that a graph keeps."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@pytest.mark.parametrize("losses", [one_forward, one_of_each])
def test_the_generators_graph_is_freed_by_its_backward_pass(losses: Losses) -> None:
    judge, painter, kept = discriminator(), generator(), list[Any]()

    def keep(tensor: Tensor) -> Kept:
        one = Kept(tensor)
        kept.append(weakref.ref(one))
        return one

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one.tensor):
        made = painter(torch.randn(2, 2, 8, 8).double())
    first, second = losses(judge, made)
    assert kept and all(one() is not None for one in kept)
    first.backward()
    assert all(one() is None for one in kept)
    second.backward()


def test_float16_has_a_backward_pass_for_each_loss() -> None:
    """Where the discriminator is sure, float16 could not hold the derivative that both gradients are made from."""
    judge, made = Counting(), torch.rand(2, 3, requires_grad=True)
    with torch.autocast("cpu", torch.float16):
        first, second = one_of_each(judge, made)
    first.backward(inputs=[made])
    second.backward(inputs=[judge.weight])
    assert judge.backwards == 2


def test_least_squares_is_a_mean_in_float32() -> None:
    scores = torch.tensor([[3.0, -1.0], [0.5, 1.0]], dtype=torch.bfloat16)
    assert least_squares(scores, real=True).item() == (4 + 4 + 0.25 + 0) / 4
    assert least_squares(scores, real=False).item() == (9 + 1 + 0.25 + 1) / 4
    assert least_squares(scores, real=True).dtype == torch.float32
