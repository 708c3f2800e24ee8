"""Codebooks: vectors that replace features (van den Oord et al., NeurIPS 2017; LipFormer, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.precision import full
from models.lipformer.sampling import largest

_NEVER = 1 << 40


def _alone(tensor: Tensor) -> Tensor:
    return tensor


class Quantized(NamedTuple):
    """Features and the codes that replace them.

    Attributes:
        values: (B, d, h, w) float, the codes' vectors; a gradient passes them as if they were the features.
        codes: (B, h, w) int64 in [0, n).
        loss: () float32, this half's two terms of equation 3, each a mean over elements as in VQGAN.
    """

    values: Tensor
    codes: Tensor
    loss: Tensor


class Codebook(nn.Module):
    """C of section 3.1: n vectors, of which the nearest one replaces a feature.

    It remembers for how long each code has not been chosen. It learns that from :meth:`note`, and it is the same in
    all processes that train together, as long as each gives its functions to :meth:`note` and :meth:`restart`.

    Args:
        n: number of codes.
        dim: d, elements of a code.
        beta: β of equation 3.

    Attributes:
        codes: (n, d) float parameter.
        idle: (n,) int64 buffer, calls of :meth:`note` since a code was last chosen; very many where it never was.
    """

    idle: Tensor

    def __init__(self, n: int, dim: int, beta: float = 0.25) -> None:
        super().__init__()
        self.beta = beta
        # As the encoder's features: of about unit length.
        self.codes = nn.Parameter(F.normalize(torch.randn(n, dim), dim=1))
        self.register_buffer("idle", torch.full((n,), _NEVER))

    def forward(self, features: Tensor) -> Quantized:
        """(B, d, h, w) float → their nearest codes."""
        codes = self.nearest(features)
        found = self.look_up(codes)
        loss = F.mse_loss(found, features.detach()) + self.beta * F.mse_loss(features, found.detach())
        return Quantized(features + (found - features).detach(), codes, loss)

    @torch.no_grad()
    def nearest(self, features: Tensor) -> Tensor:
        """(B, d, h, w) float → (B, h, w) int64, the codes at the least Euclidean distance."""
        with torch.autocast(features.device.type, enabled=False):
            flat, codes = full(_flat(features)), full(self.codes)
            # Half the squared distance, negated, less what all codes have in common.
            closeness = torch.addmm(codes.square().sum(1) / -2, flat, codes.T)
            return largest(closeness).view(features.shape[0], *features.shape[2:])

    def look_up(self, codes: Tensor) -> Tensor:
        """(B, h, w) int64 → (B, d, h, w) float, with a gradient for :attr:`codes`."""
        return F.embedding(codes, self.codes).permute(0, 3, 1, 2)

    @torch.no_grad()
    def note(self, codes: Tensor, add_up: Callable[[Tensor], Tensor] = _alone) -> None:
        """Take note of the codes that a step has chosen, in all processes together.

        Args:
            codes: int64, of any shape, of this process.
            add_up: :attr:`models.base.Progress.sum`; by default this process is the only one.
        """
        chosen = add_up(torch.bincount(codes.flatten(), minlength=len(self.idle)))
        self.idle.add_(1).masked_fill_(chosen > 0, 0)

    def usage(self, steps: int) -> Tensor:
        """Share of the codes that were chosen in the last ``steps`` calls of :meth:`note`: () float32 in [0, 1]."""
        return (self.idle < steps).float().mean()

    @torch.no_grad()
    def restart(self, features: Tensor, unused: Tensor, first: Callable[[Tensor], Tensor] = _alone) -> None:
        """Set codes to randomly drawn features, the same in all processes.

        :attr:`idle` stays as it is until such a code is chosen.

        Args:
            features: (B, d, h, w) float; if there are too few, some are used several times.
            unused: (n,) bool, the codes to replace; the same in all processes.
            first: :attr:`models.base.Progress.first`; by default this process is the only one.
        """
        flat = _flat(features)
        count = int(unused.sum())
        # Without repetition where there are enough: codes at the same place are of no use.
        order = torch.randperm(len(flat)).repeat(-(-count // len(flat)))[:count]
        self.codes[unused] = first(flat[order.to(flat.device)].to(self.codes.dtype))


def _flat(features: Tensor) -> Tensor:
    """(B, d, h, w) → (B h w, d)."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)
