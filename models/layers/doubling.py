"""A convolution of a picture at twice its size, computed from the picture itself."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from models.layers.narrow import Conv2d


class DoublingConv2d(Conv2d):
    """A 3×3 convolution of each pixel repeated twice in both directions: ``Conv2d`` after ``Upsample(scale_factor=2)``.

    The nine weights meet four pixels only, so they are added up first, and the picture at twice its size is neither
    made nor kept for the backward pass; 16 multiplications remain of 36. Equal up to rounding; keys are those of the
    convolution.

    Args:
        cin: input channels.
        cout: output channels.
    """

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__(cin, cout, 3, padding=1)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(B, cin, H, W) float → (B, cout, 2 H, 2 W) float."""
        # The sums over neighbours are the weights that the pixels of a transposed convolution are scattered with.
        wide = F.pad(weight, (1, 1, 1, 1))
        wide = wide[..., 1:, :] + wide[..., :-1, :]
        wide = wide[..., 1:] + wide[..., :-1]
        return F.conv_transpose2d(input, wide.flip(2, 3).transpose(0, 1), bias, stride=2, padding=1)
