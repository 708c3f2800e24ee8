"""Alignment of the visual feature by the landmark feature (section 3.1.1, equation 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.layers.conv import ConvBlock
from models.layers.spade import AdaInVector, modulate


class VisualAlignment(nn.Module):
    """A residual block, then AdaIN, whose scale and shift fully connected layers make of the landmark feature.

    After equation 5 comes LeakyReLU, as after every AdaIN of :mod:`models.layers.spade`.

    Args:
        channels: of the maps.
        vector: elements of the landmark feature.
    """

    def __init__(self, channels: int, vector: int) -> None:
        super().__init__()
        self.block = residual_block(channels)
        self.adain = AdaInVector(channels, vector, vector)

    def forward(self, joined: Tensor, landmark: Tensor) -> Tensor:
        """(B, channels, H, W) float and (B, vector) float → (B, channels, H, W) float."""
        return modulate(self.block(joined), self.adain(landmark))


class PlainConvolutions(nn.Module):
    """What replaces the alignment in the ablation "w/o alignment": convolutions, and no landmarks.

    Args:
        channels: of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = residual_block(channels)
        self.last = ConvBlock(channels, channels, 3, 1, 1)

    def forward(self, joined: Tensor) -> Tensor:
        """(B, channels, H, W) float → the same shape."""
        made: Tensor = self.last(self.block(joined))
        return made


def residual_block(channels: int) -> nn.Sequential:
    """Two convolutions, each of which adds its input."""
    return nn.Sequential(*(ConvBlock(channels, channels, 3, 1, 1, residual=True) for _ in range(2)))


class Summary(nn.Module):
    """From maps to one vector: four times half the size, then the mean of what is left.

    The paper calls its features vectors, and concatenates and deforms maps; it does not say how one becomes the other.
    The layers are DINet's (``trans_conv``), of equal width.

    Args:
        channels: of the maps, and elements of the vector.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        halvings = [
            nn.Sequential(ConvBlock(channels, channels, 3, 1, 1), ConvBlock(channels, channels, 3, 2, 1))
            for _ in range(4)
        ]
        self.layers = nn.Sequential(*halvings)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, H, W) float → (B, channels) float."""
        vector: Tensor = self.layers(maps).mean(dim=(2, 3))
        return vector


def vector_of(maps: Tensor) -> Tensor:
    """(B, C, H, W) → (B, C): the mean over all places, for equation 19."""
    return torch.mean(maps, dim=(2, 3))
