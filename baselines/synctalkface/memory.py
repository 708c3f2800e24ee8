"""The audio-lip memory of SyncTalkFace (Park et al., AAAI 2022): slots of lips, found by sound or by lips."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: The standard deviation with which keys and values begin.
SPREAD = 0.5


class Recall(NamedTuple):
    """What a memory of S slots and D dimensions gives for N features.

    Attributes:
        address: (N, S) float32, logarithms of weights whose sum over the slots is 1.
        value: (N, D) float32, the sum of the values with these weights.
    """

    address: Tensor
    value: Tensor


class AudioLipMemory(nn.Module):
    """Pairs of a key, which sound is compared with, and a value, which lips are compared with and which is recalled.

    An address is the softmax over the slots of ``sharpness`` times the cosine of an embedded feature with each key, or
    with each value. What is recalled is a sum of values either way.

    Args:
        sounds: length of a feature of sound.
        lips: length of a feature of lips.
        slots: S, pairs (code: 96).
        dim: D, length of a key and of a value (code: 512).
        sharpness: of the softmax (code: 16).
    """

    def __init__(
        self, sounds: int, lips: int, slots: int = 96, dim: int = 512, sharpness: float = 16.0
    ) -> None:
        super().__init__()
        self.keys = nn.Parameter(SPREAD * torch.randn(slots, dim))
        self.values = nn.Parameter(SPREAD * torch.randn(slots, dim))
        self.embed_sound = nn.Linear(sounds, dim)
        self.embed_lips = nn.Linear(lips, dim)
        self.sharpness = sharpness

    def forward(
        self, sounds: Tensor, lips: Tensor | None = None
    ) -> tuple[Recall, Recall | None, Tensor | None]:
        """Recall lips by sound and, where lips are given too, by these.

        Args:
            sounds: (N, sounds) float.
            lips: (N, lips) float, or None.

        Returns:
            What the sounds recall; what the lips recall; the embedded lips, (N, D). The last two are None without lips.
        """
        heard = self._recall(self.embed_sound(sounds), self.keys)
        if lips is None:
            return heard, None, None
        embedded = self.embed_lips(lips)
        return heard, self._recall(embedded, self.values), embedded

    def _recall(self, queries: Tensor, addressed: Tensor) -> Recall:
        cosines = F.normalize(queries, dim=1) @ F.normalize(addressed, dim=1).T
        address = (self.sharpness * cosines).log_softmax(dim=1)
        return Recall(address, address.exp() @ self.values)


def store_loss(recalled: Tensor, lips: Tensor) -> Tensor:
    """How far the lips that are recalled by lips, (N, D), are from these, (N, D), which get no gradient: MSE, ()."""
    return F.mse_loss(recalled, lips.detach())


def address_loss(
    sounds: Tensor, lips: Tensor, divergence: Literal["key-value", "value-key"] = "key-value"
) -> Tensor:
    """How far sound addresses other slots than lips, whose addresses get no gradient.

    Args:
        sounds: (N, S) logarithms of the weights of the keys.
        lips: (N, S) logarithms of the weights of the values.
        divergence: ``key-value``: KL(key ‖ value), the mean over the keys' weights of log key - log value;
            ``value-key``: KL(value ‖ key).

    Returns:
        () float, the mean over N.
    """
    first, second = sounds, lips.detach()
    if divergence == "value-key":
        first, second = second, first
    return (first.exp() * (first - second)).sum(dim=1).mean()


def slots_used(address: Tensor) -> Tensor:
    """How many slots N addresses, (N, S) logarithms of weights, use together: 1 to S, () float.

    The exponential of the entropy of the mean weights: the number of slots where all are used equally often, 1 where
    every feature finds the same slot. A memory that has collapsed shows at once.
    """
    mean = address.exp().mean(dim=0)
    return torch.special.entr(mean).sum().exp()
