"""Convolutions whose input is normalised and then modulated: by maps (SPADE) or by a vector (AdaIN).

Keys are those of IP-LAP's official checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from models.layers.narrow import Conv2d, RepeatingConv2d, conv2d

# Of LeakyReLU, and what is added to a variance.
_SLOPE, _EPSILON = 0.2, 1e-5


class Modulation(NamedTuple):
    """What a normalised input is multiplied with, and what is added: (B, C, H, W) or (B, C, 1, 1) float."""

    scale: Tensor
    shift: Tensor


def modulate(x: Tensor, by: Modulation | None) -> Tensor:
    """Instance normalisation, modulation, LeakyReLU of slope 0.2.

    Args:
        x: (..., C, H, W) float; broadcast together with ``by``.
        by: None: normalised only, and x is (B, C, H, W).
    """
    if by is None:
        return F.leaky_relu(F.instance_norm(x), _SLOPE, inplace=True)
    return cast(Tensor, _Modulated.apply(x, *by))


class _Modulated(torch.autograd.Function):
    """:func:`modulate` by maps. What is normalised is made again in the backward pass instead of being kept, which
    is a sixth of what IP-LAP's renderer keeps."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        # Instance normalisation is batch normalisation of as many channels as there are maps.
        maps = x.reshape(1, -1, *x.shape[-2:])
        normal, mean, deviation = _batch_norm(maps)
        found = torch.addcmul(shift, normal.view(x.shape), scale)
        F.leaky_relu(found, _SLOPE, inplace=True)
        ctx.save_for_backward(x, scale, mean, deviation, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, scale, mean, deviation, found = ctx.saved_tensors
        gradient = torch.ops.aten.leaky_relu_backward(gradient, found, _SLOPE, True)
        maps = x.reshape(1, -1, *x.shape[-2:])
        of_scale = (gradient * _batch_norm(maps)[0].view(x.shape)).sum_to_size(scale.shape)
        of_normal = (gradient * scale).sum_to_size(x.shape).reshape(maps.shape)
        of_x, _, _ = torch.ops.aten.native_batch_norm_backward(
            of_normal, maps, None, None, None, mean, deviation, True, _EPSILON, [True, False, False]
        )
        return of_x.view(x.shape), of_scale, gradient.sum_to_size(scale.shape)


def _batch_norm(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised maps, their means, and what deviations from it are multiplied with."""
    return torch.native_batch_norm(maps, None, None, None, None, True, 0.0, _EPSILON)


class SpadeMaps(nn.Module):
    """From a modulating picture to scale and shift of each pixel (Park et al., CVPR 2019, as in IP-LAP).

    Unlike the original there is no activation after the first convolution. Both convolutions are therefore one of
    5 x 5, which is computed instead where it takes less than half of the multiplications: in all but one block of
    IP-LAP's renderer, where a sixth of them is left.

    Args:
        channels: of what is modulated.
        modulating: channels of the modulating picture.
        hidden: channels between the two convolutions.
        threes: of each three channels of the picture, which are equal, one may be given.
    """

    def __init__(self, channels: int, modulating: int, hidden: int, threes: bool = False) -> None:
        super().__init__()
        self.conv1 = (
            RepeatingConv2d(0, modulating // 3, hidden, 3, padding=1)
            if threes
            else Conv2d(modulating, hidden, 3, padding=1)
        )
        self.gamma = Conv2d(hidden, channels, 3, padding=1)
        self.beta = Conv2d(hidden, channels, 3, padding=1)
        # Half of the multiplications at most: the borders cost some, and many small operations.
        self.as_one = 2 * 25 * modulating * 2 * channels < 9 * hidden * (modulating + 2 * channels)

    def forward(self, picture: Tensor) -> Modulation:
        """(B, modulating or a third of it, H, W) float → scale and shift (B, channels, H, W) float."""
        assert self.gamma.bias is not None and self.beta.bias is not None
        # The 1 of 1 + gamma is in the bias.
        weight = torch.cat([self.gamma.weight, self.beta.weight])
        bias = torch.cat([self.gamma.bias + 1, self.beta.bias])
        if self.as_one:
            return Modulation(*_convolved_twice(picture, self.conv1, weight, bias))
        hidden = self.conv1(picture)
        return Modulation(*(conv2d(hidden, *half, padding=(1, 1)) for half in _halves(weight, bias)))


def _convolved_twice(
    picture: Tensor, first: nn.Conv2d, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """``conv2d(first(picture), weight, bias, padding=1)`` by one convolution of 5 x 5, equal up to rounding.

    Between the two, the padding of the second convolution puts a ring of zeros around the picture. The convolution
    of 5 x 5 has there what the first makes of the picture's own padding; that is taken off again, line by line.

    Args:
        picture: (B, C, H, W) float.
        first: 3 x 3, padding 1, C to M channels.
        weight: (N, M, 3, 3) float.
        bias: (N,) float.

    Returns:
        Two halves, (B, N / 2, H, W) float. They share no memory: the backward pass needs scales, but no shifts.
    """
    inner, inner_bias = first.weight, first.bias
    if isinstance(first, RepeatingConv2d):
        inner = first.weight_for(picture, inner)
    assert inner_bias is not None
    # Weights are combined in full precision.
    with torch.autocast(picture.device.type, enabled=False):
        taps = weight.permute(0, 2, 3, 1).flatten(0, 2) @ inner.flatten(1)
        both = F.fold(taps.unflatten(0, (len(weight), 9)).transpose(1, 2), 5, 3)
        both_bias = bias + weight.sum((2, 3)) @ inner_bias

    def outside(line: Tensor, one: Tensor, two: Tensor, corners: int) -> Tensor:
        """What a line of the ring adds to the picture's line beside it, both (B, channels, length)."""
        hidden = F.conv1d(line, one, inner_bias, padding=1 + corners)
        return F.conv1d(hidden, two, padding=1 - corners)

    # The corners of the ring belong to its upper and its lower line.
    top = outside(picture[:, :, 0], inner[:, :, 2], weight[:, :, 0], corners=1)
    bottom = outside(picture[:, :, -1], inner[:, :, 0], weight[:, :, 2], corners=1)
    left = outside(picture[..., 0], inner[..., 2], weight[..., 0], corners=0)
    right = outside(picture[..., -1], inner[..., 0], weight[..., 2], corners=0)
    ring = zip(
        torch.stack([top, bottom], 2).chunk(2, 1), torch.stack([left, right], 3).chunk(2, 1), strict=True
    )

    def half(weight: Tensor, bias: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        made = conv2d(picture, weight, bias, padding=(2, 2))
        first_and_last = torch.arange(2, device=made.device)
        y, x = (first_and_last * (n - 1) for n in made.shape[2:])
        # Unlike arithmetic on slices, these copy nothing of the picture's size, here or in the backward pass.
        return made.index_add_(2, y, rows, alpha=-1).index_add_(3, x, columns, alpha=-1)

    scale, shift = (half(*of, *lines) for of, lines in zip(_halves(both, both_bias), ring, strict=True))
    return scale, shift


def _halves(weight: Tensor, bias: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Of the weights and biases of a convolution, by its outputs."""
    return zip(weight.chunk(2), bias.chunk(2), strict=True)


class SpadeBlock(nn.Module):
    """Twice: normalise, modulate by a picture, convolve.

    The maps depend on the modulating picture alone, so they are made apart: :meth:`maps` once, :meth:`forward`
    for every input that the same picture modulates.

    Args:
        channels: of input and output.
        modulating: channels of the modulating picture.
        hidden: channels inside :class:`SpadeMaps`.
        threes: as in :class:`SpadeMaps`.
    """

    def __init__(self, channels: int, modulating: int, hidden: int, threes: bool = False) -> None:
        super().__init__()
        self.conv_1 = Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = Conv2d(channels, channels, 3, padding=1)
        self.spade_layer_1 = SpadeMaps(channels, modulating, hidden, threes)
        self.spade_layer_2 = SpadeMaps(channels, modulating, hidden, threes)

    def maps(self, picture: Tensor) -> tuple[Modulation, Modulation]:
        """(B, modulating, H, W) float → what :meth:`forward` takes."""
        return self.spade_layer_1(picture), self.spade_layer_2(picture)

    def forward(self, x: Tensor, maps: tuple[Modulation, Modulation]) -> Tensor:
        """(..., channels, H, W) float → the same, of the leading dimensions that it and the maps broadcast to."""
        x = _of_each(self.conv_1, modulate(x, maps[0]))
        return _of_each(self.conv_2, modulate(x, maps[1]))


def _of_each(conv: nn.Module, x: Tensor) -> Tensor:
    """A convolution of (..., C, H, W) float."""
    return cast(Tensor, conv(x.flatten(0, -4))).unflatten(0, x.shape[:-3])


class AdaInVector(nn.Module):
    """From a modulating vector to scale and shift of each channel (Huang and Belongie, ICCV 2017).

    Args:
        channels: of what is modulated.
        modulating: elements of the vector.
        hidden: units between the two layers.
    """

    def __init__(self, channels: int, modulating: int, hidden: int) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Linear(modulating, hidden), nn.ReLU())
        self.mlp_gamma = nn.Linear(hidden, channels)
        self.mlp_beta = nn.Linear(hidden, channels)

    def forward(self, vector: Tensor) -> Modulation:
        """(B, modulating) float → scale and shift (B, channels, 1, 1) float."""
        hidden = self.mlp_shared(vector)
        return Modulation(1 + self.mlp_gamma(hidden)[..., None, None], self.mlp_beta(hidden)[..., None, None])


class AdaInBlock(nn.Module):
    """Twice: normalise, modulate by a vector, convolve.

    Args:
        channels: of input and output.
        modulating: elements of the vector; 0: there is none, and inputs are only normalised.
        hidden: units inside :class:`AdaInVector`.
    """

    def __init__(self, channels: int, modulating: int, hidden: int) -> None:
        super().__init__()
        self.conv_1 = Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = Conv2d(channels, channels, 3, padding=1)
        if modulating:
            self.adain_layer_1 = AdaInVector(channels, modulating, hidden)
            self.adain_layer_2 = AdaInVector(channels, modulating, hidden)

    def forward(self, x: Tensor, vector: Tensor | None) -> Tensor:
        """(B, channels, H, W) float and (B, modulating) float, or None where 0 → (B, channels, H, W) float."""
        x = self.conv_1(modulate(x, None if vector is None else self.adain_layer_1(vector)))
        return self.conv_2(modulate(x, None if vector is None else self.adain_layer_2(vector)))
