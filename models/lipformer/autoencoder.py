"""LipFormer's face encoder and decoder (Wang et al., CVPR 2023, section 3.1).

The paper names no layers. These are VQGAN's (Esser et al., CVPR 2021), which it follows: residual blocks with group
normalisation and SiLU, halved by strided convolutions, doubled by repeating pixels, self-attention at the lowest
resolution alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Group normalisation, as in VQGAN at its full width: so many groups at most, so many channels in one at least.
_GROUPS = 32
_GROUP_CHANNELS = 4


class FaceEncoder(nn.Module):
    """Enc of equation 1: half a face to features.

    Features are of unit length at every position (as in Yu et al., ICLR 2022), so that the codes of a codebook need
    not follow their scale, which nothing else would fix.

    Args:
        channels: of each resolution, the highest first; f = patch * 2 ** (len(channels) - 1).
        dim: d, channels of the features.
        blocks: residual blocks a resolution.
        attention: self-attention at the lowest resolution.
        patch: pixels along an edge that the first layer takes as one, all their colours its channels; 1 in VQGAN.

    Attributes:
        factor: f, pixels of a position along an edge.
    """

    def __init__(
        self, channels: Sequence[int], dim: int, blocks: int, attention: bool = True, patch: int = 1
    ) -> None:
        super().__init__()
        self.factor = patch * 2 ** (len(channels) - 1)
        self.patch = patch
        layers: list[nn.Module] = [nn.Conv2d(3 * patch**2, channels[0], 3, padding=1)]
        width = channels[0]
        for level, wanted in enumerate(channels):
            if level:
                layers.append(nn.Conv2d(width, wanted, 3, stride=2, padding=1))
            layers += [ResidualBlock(wanted) for _ in range(blocks)]
            width = wanted
        layers += [*_middle(width, attention), *_activated_conv(width, dim)]
        self.layers = nn.Sequential(*layers)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, h, w) float in [0, 1] RGB, h and w multiples of f → (B, dim, h / f, w / f) float.

        Raises:
            ValueError: h or w is no multiple of f.
        """
        if pictures.shape[-2] % self.factor or pictures.shape[-1] % self.factor:
            raise ValueError(f"a picture of {tuple(pictures.shape[-2:])} is no multiple of {self.factor}")
        return F.normalize(self.layers(F.pixel_unshuffle(pictures * 2 - 1, self.patch)), dim=1)


class FaceDecoder(nn.Module):
    """Dec of equation 2: the encodings of both halves to the whole face.

    Args:
        channels: as in :class:`FaceEncoder`, also the arguments below.
        dim: d.
        blocks: residual blocks a resolution.
        attention: self-attention at the lowest resolution.
        patch: pixels along an edge that the last layer makes of one position.
    """

    def __init__(
        self, channels: Sequence[int], dim: int, blocks: int, attention: bool = True, patch: int = 1
    ) -> None:
        super().__init__()
        self.patch = patch
        width = channels[-1]
        layers: list[nn.Module] = [nn.Conv2d(dim, width, 3, padding=1), *_middle(width, attention)]
        for level, wanted in enumerate(reversed(channels)):
            if level:
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, wanted, 3, padding=1)]
            layers += [ResidualBlock(wanted) for _ in range(blocks)]
            width = wanted
        layers += _activated_conv(width, 3 * patch**2)
        self.layers = nn.Sequential(*layers)

    def forward(self, upper: Tensor, lower: Tensor) -> Tensor:
        """(B, dim, h', w') float each, one above the other → (B, 3, 2 f h', f w') float, RGB.

        About in [0, 1], but not clipped to it.
        """
        return (F.pixel_shuffle(self.layers(torch.cat([upper, lower], dim=2)), self.patch) + 1) / 2


class ResidualBlock(nn.Module):
    """Twice: group normalisation, SiLU, convolution; added to the input.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_activated_conv(channels, channels), *_activated_conv(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) float → the same shape."""
        return x + self.layers(x)


class AttentionBlock(nn.Module):
    """Self-attention of one head over all positions, added to the input.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _normalisation(channels)
        self.project_in = nn.Conv2d(channels, 3 * channels, 1)
        self.project_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) float → the same shape."""
        # (B, H W, channels) each.
        query, key, value = self.project_in(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return x + self.project_out(mixed.transpose(1, 2).reshape(x.shape))


def _middle(channels: int, attention: bool) -> list[nn.Module]:
    """What VQGAN has at the lowest resolution, on either side of the codes."""
    if not attention:
        return [ResidualBlock(channels)]
    return [ResidualBlock(channels), AttentionBlock(channels), ResidualBlock(channels)]


def _activated_conv(cin: int, cout: int) -> list[nn.Module]:
    return [_normalisation(cin), nn.SiLU(), nn.Conv2d(cin, cout, 3, padding=1)]


def _normalisation(channels: int) -> nn.GroupNorm:
    groups = min(_GROUPS, max(1, channels // _GROUP_CHANNELS))
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels, eps=1e-6)
