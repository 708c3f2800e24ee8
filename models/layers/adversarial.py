"""One pass of a discriminator over generated pictures, for the generator's loss and for its own.

A step of a generative adversarial network judges the generated pictures twice: the generator's loss needs the gradient
by the pictures, the discriminator's that by its weights. In between only the generator's weights change, so both losses
may be taken from the same forward pass. The generator's loss, however, must not hold on to that pass when its gradient
is taken, and the discriminator's must not reach into the generator. So the discriminator sees a copy,
:func:`apart`, and :func:`handed_on` brings the gradient of the generator's loss from the copy to the pictures::

    seen = apart(made)
    judged = discriminator(seen)
    loss = likeness + handed_on(F.softplus(-judged).mean(), seen, made)   # the generator's
    ...                                                                    # its gradient, its step
    loss = F.softplus(judged).mean() + F.softplus(-discriminator(truth)).mean()   # the discriminator's

Losses and gradients are those of two passes. In units of one pass (forward, backward by inputs, backward by weights
cost about the same) a generated and a true picture cost 7 together instead of 8, or instead of 9 where the generator's
loss is also differentiated by the discriminator's weights, as in most official code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from models.layers.precision import full

#: The logit below which :func:`logistic_losses` bounds the derivative of the discriminator's loss.
_LEAST = -40.0


def apart(made: Tensor) -> Tensor:
    """Generated pictures of any shape, for a discriminator alone: the same values, a gradient of their own."""
    return made.detach().requires_grad_()


def handed_on(loss: Tensor, seen: Tensor, made: Tensor) -> Tensor:
    """A loss on pictures that were set apart, as a loss on the pictures themselves.

    The graph of ``loss`` is kept when the gradient is taken, so that another loss may be taken from the same pass of
    the discriminator; the graph that made the pictures is freed. Its gradient is taken with the factor that stands
    before it, that of the scaling of losses in half precision among them.

    Args:
        loss: () float, which depends on ``seen``.
        seen: what :func:`apart` gave for ``made``.
        made: generated pictures.

    Returns:
        () float of the same value. Its gradient by ``made`` is that of ``loss`` by ``seen``; it has none by the
        weights of the discriminator.
    """

    def gradient(factor: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, seen, factor, retain_graph=True)

    handed: Tensor = _Later.apply(loss.detach(), gradient, made)
    return handed


def logistic_losses(
    logits: Tensor, seen: Tensor, made: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The logistic losses of generated pictures that a discriminator judged one by one; a pair of passes costs 6.

    Where no picture has an influence on the logit of another (no batch normalisation, no minibatch deviation), the
    gradients of the two losses by anything that a picture became on its way differ by one factor a picture, that of
    their derivatives by its logit l: -sigmoid(-l) / sigmoid(l) = -exp(-l). So a single backward pass, that of the
    discriminator's loss, gives the gradient by the weights and, times these factors, the one by the pictures. It is
    made when the first of the two gradients is taken, and the other is kept until it is taken too.

    Below a logit of -40 the discriminator's derivative is taken for 4e-18 instead of less, lest it vanish where the
    generator's is to be had from it. Of ``float32`` and ``bfloat16`` that is well within the range; ``float16`` cannot
    hold such numbers, so that under its autocast each loss has a backward pass of its own.

    Args:
        logits: (N,) float32 or float64, of ``seen``.
        seen: (N, ...) float, what :func:`apart` gave for ``made``.
        made: (N, ...) float, generated pictures.
        weights: of the discriminator.

    Returns:
        The generator's loss, the mean of softplus(-l), with a gradient by ``made`` alone; the discriminator's, the
        mean of softplus(l), with a gradient by ``weights`` alone. () float each. The gradient of each may be taken
        once; a second time raises ``RuntimeError``, as torch does where a graph was freed.
    """
    of_generator, of_discriminator = F.softplus(-logits).mean(), F.softplus(logits).mean()
    device = logits.device.type
    if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
        return handed_on(of_generator, seen, made), of_discriminator
    once = _OnePass(logits, seen, tuple(weights))
    return (
        _Later.apply(of_generator.detach(), partial(once.take, "pictures"), made),
        _Later.apply(of_discriminator.detach(), partial(once.take, "weights"), *weights),
    )


def least_squares(scores: Tensor, real: bool) -> Tensor:
    """The mean squared distance of scores of any shape from 1, or from 0: () float32 (Mao et al., ICCV 2017)."""
    return (full(scores) - float(real)).square().mean()


class _OnePass:
    """The one backward pass of :func:`logistic_losses`, made when the first of its two gradients is taken."""

    def __init__(self, logits: Tensor, seen: Tensor, weights: tuple[Tensor, ...]) -> None:
        self._graph: tuple[Tensor, Tensor, tuple[Tensor, ...]] | None = (logits, seen, weights)
        self._found: dict[str, tuple[Tensor, ...]] = {}

    def take(self, by: str, factor: Tensor) -> tuple[Tensor, ...]:
        """``factor`` times the gradient ``by`` pictures or weights, which is not kept any longer."""
        if self._graph is not None:
            (logits, seen, weights), self._graph = self._graph, None
            rising = logits.detach().clamp_min(_LEAST).sigmoid()
            falling = -(-logits.detach()).sigmoid()
            by_seen, *by_weights = torch.autograd.grad(logits, [seen, *weights], rising / len(logits))
            ratio = (falling / rising).view(-1, *[1] * (seen.dim() - 1)).to(by_seen.dtype)
            self._found = {"pictures": (ratio * by_seen,), "weights": tuple(by_weights)}
        if by not in self._found:
            raise RuntimeError(f"the gradient by {by} was taken before, and there is one for each loss")
        return tuple(factor * one for one in self._found.pop(by))


class _Later(Function):
    """A loss whose gradient by ``inputs`` is asked for when it is needed, with the factor before the loss."""

    # The loss has no edge to the graph that it was computed with: a backward pass would go there and free it.
    @staticmethod
    def forward(
        ctx: Any, value: Tensor, gradient: Callable[[Tensor], tuple[Tensor, ...]], *inputs: Tensor
    ) -> Tensor:
        ctx.gradient = gradient
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.gradient(factor)
