"""Contrast of the aligned visual feature with the sound's over the pairs of a batch (section 3.1.2, equations 6 to 10).

Equations 8 and 9 divide a similarity by the temperature in the numerator and multiply it in the denominator, which
then is not the numerator's sum; equation 10 divides a probability by the sum of the others' once more. What is meant
is taken from what the paper cites (CLIP, Radford et al., 2021; ALBEF, Li et al., 2021): the softmax over a row of
similarities divided by the temperature, and the mean over both directions of the negative logarithm of its diagonal.
As there, projections have length 1.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.precision import full

#: ``own``: the other modality of a similarity has projections of its own, g', as equations 6 and 7 print them;
#: ``shared``: g' is g, as in CLIP.
Others = Literal["own", "shared"]


class Pairs(NamedTuple):
    """The projections of N pairs of picture and sound.

    Attributes:
        visual: (N, D) float, g_v of the aligned visual feature.
        sound: (N, D) float, g_a of the sound.
        other_visual: (N, D) float, g'_v of the aligned visual feature.
        other_sound: (N, D) float, g'_a of the sound.
    """

    visual: Tensor
    sound: Tensor
    other_visual: Tensor
    other_sound: Tensor


class Projections(nn.Module):
    """g_v, g_a, g'_v and g'_a: linear layers, as in the two papers that are cited.

    Args:
        channels: D, of either feature and of the projections.
        others: see :data:`Others`.
    """

    def __init__(self, channels: int, others: Others = "own") -> None:
        super().__init__()
        self.visual = nn.Linear(channels, channels)
        self.sound = nn.Linear(channels, channels)
        if others == "own":
            self.other_visual = nn.Linear(channels, channels)
            self.other_sound = nn.Linear(channels, channels)
        self.others = others

    def forward(self, visual: Tensor, sound: Tensor) -> Pairs:
        """(N, D) float of each → their projections."""
        seen, heard = self.visual(visual), self.sound(sound)
        if self.others == "shared":
            return Pairs(seen, heard, seen, heard)
        return Pairs(seen, heard, self.other_visual(visual), self.other_sound(sound))


def similarities(one: Tensor, other: Tensor) -> Tensor:
    """The matrix whose diagonal holds the matching pairs: the cosines of (N, D) and (N, D) float, (N, N) float32."""
    with torch.autocast(one.device.type, enabled=False):
        return F.normalize(full(one), dim=1) @ F.normalize(full(other), dim=1).T


def cross_entropy(similar: Tensor, temperature: float) -> Tensor:
    """Of the softmax over each row, whose right answer is the diagonal: () float32.

    Args:
        similar: (N, N) float32.
        temperature: what similarities are divided by.
    """
    return F.cross_entropy(similar / temperature, torch.arange(len(similar), device=similar.device))


def contrast(pairs: Pairs, temperature: float) -> Tensor:
    """Equations 6 to 10: () float32; ln N where nothing is told apart.

    Args:
        pairs: of the batch.
        temperature: τ.
    """
    by_picture = similarities(pairs.visual, pairs.other_sound)
    by_sound = similarities(pairs.sound, pairs.other_visual)
    return (cross_entropy(by_picture, temperature) + cross_entropy(by_sound, temperature)) / 2
