"""Lip codes drawn from logits, with gradient, and the cross-entropy of the true ones (section 3.2, equation 11).

Logits have n elements at each position, a thousand for every element of an encoding, and are most of what LipFormer's
own loss computes; the passes over them are therefore written out here, those of the gradient too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Sample(NamedTuple):
    """What :func:`sample_codes` gives.

    Attributes:
        values: (..., d) float, the encodings for the decoder.
        error: (...) float, cross-entropy of the true code at each position, nats.
    """

    values: Tensor
    error: Tensor


def sample_codes(logits: Tensor, codes: Tensor, truth: Tensor, temperature: float, hard: bool) -> Sample:
    """Sample by Gumbel-softmax (Jang et al., ICLR 2017, equation 2) and compare with the truth.

    The shares of codes are softmax((logits + noise) / τ); noise is drawn by torch's default generator. No gradient is
    taken for ``codes``, nor a second one.

    Args:
        logits: (..., n) float32 or float64.
        codes: (n, d) float.
        truth: (...) int64 in [0, n).
        temperature: τ, above 0.
        hard: a value is the code of the largest share, with the gradient of the mixture ("straight-through");
            otherwise it is the mixture of codes by their shares.
    """
    values, error = _Sampled.apply(
        logits.flatten(0, -2), codes.detach().to(logits.dtype), truth.flatten(), temperature, hard
    )
    return Sample(values.view(*truth.shape, -1), error.view(truth.shape))


def largest(values: Tensor) -> Tensor:
    """(R, n) float without NaN → (R,) int64, the place of the largest value in each row, of several the first.

    ``argmax`` takes a processor four times as long as ``amax``; so it looks only at one group of each row.
    """
    size = _group(values.shape[1])
    groups = values.unflatten(1, (-1, size))
    best = groups.amax(2).argmax(1)
    first = torch.arange(0, groups[..., 0].numel(), groups.shape[1], device=values.device)
    return best * size + groups.flatten(0, 1).index_select(0, first + best).argmax(1)


def _group(n: int) -> int:
    """The largest divisor of n that is at most its root."""
    return next(size for size in range(int(n**0.5), 0, -1) if n % size == 0)


class _Sampled(torch.autograd.Function):
    """(R, n) logits, (n, d) codes, (R,) truth, τ, hard → (R, d) values and (R,) cross-entropies."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, codes: Tensor, truth: Tensor, temperature: float, hard: bool
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(logits.device.type, enabled=False):
            shares = _uniform(logits).log_().neg_().log_()
            torch.sub(logits, shares, out=shares)
            if temperature != 1:
                shares.div_(temperature)
            values = codes[largest(shares)] if hard else None
            shares = shares.softmax(1)
            if values is None:
                values = shares @ codes
            probabilities = logits.softmax(1)
            # The logarithm of the softmax's denominator, from its largest element.
            denominator = logits.amax(1) - probabilities.amax(1).log()
            error = denominator - logits.gather(1, truth[:, None])[:, 0]
        ctx.save_for_backward(shares, probabilities, codes, truth)
        ctx.temperature = temperature
        return values, error

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_values: Tensor, of_error: Tensor) -> tuple[Tensor, None, None, None, None]:
        shares, probabilities, codes, truth = ctx.saved_tensors
        with torch.autocast(of_values.device.type, enabled=False):
            gradient = (of_values / ctx.temperature) @ codes.T
            gradient = torch.ops.aten._softmax_backward_data(gradient, shares, 1, shares.dtype)
            gradient.addcmul_(probabilities, of_error[:, None])
            gradient.scatter_add_(1, truth[:, None], -of_error[:, None])
        return gradient, None, None, None, None


def _uniform(like: Tensor) -> Tensor:
    """Numbers above 0 and below 1, of the same shape and type."""
    return torch.rand_like(like).clamp_(min=torch.finfo(like.dtype).tiny)
