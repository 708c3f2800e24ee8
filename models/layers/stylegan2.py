"""StyleGAN2's discriminator and losses (Karras et al., CVPR 2020), in plain layers."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.precision import full

#: Channels of the official network: so many at 64 × 64 and below, half as many with every doubling above.
_WIDEST = 512
_BASE = 32768

#: Pictures that share a standard deviation, and how many such figures there are.
_GROUP = 4

#: Of leaky ReLU, and what it is multiplied by so that the variance stays.
_SLOPE, _ROOT = 0.2, math.sqrt(2)


class StyleGAN2Discriminator(nn.Module):
    """The residual discriminator: how real a picture looks.

    Every resolution is a block of two convolutions beside a shortcut, both halved behind a binomial filter; at 4 × 4
    the deviation within the batch is a further channel. Weights are drawn from the unit normal and scaled where
    they are used ("equalised learning rate").

    Args:
        size: S, of the pictures' edges; a power of two, at least 8.
        width: factor on the channels of every layer; 1 is the official size.

    Raises:
        ValueError: ``size`` is no such number.
    """

    def __init__(self, size: int, width: float = 1.0) -> None:
        super().__init__()
        if size < 8 or size & (size - 1):
            raise ValueError(f"StyleGAN2's discriminator takes sizes 8, 16, 32, …, not {size}")
        sizes = [size >> level for level in range(size.bit_length() - 2)]
        channels = [max(1, round(min(_BASE // one, _WIDEST) * width)) for one in sizes]
        self.first = _Convolution(3, channels[0], 1)
        self.blocks = nn.ModuleList(DiscriminatorBlock(*pair) for pair in pairwise(channels))
        self.last = _Convolution(channels[-1] + 1, channels[-1], 3)
        self.hidden = _Linear(channels[-1] * 16, channels[-1], activated=True)
        self.score = _Linear(channels[-1], 1, activated=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, S, S) float in [0, 1], RGB → (B,) float logits."""
        x = self.first(pictures * 2 - 1)
        for block in self.blocks:
            x = block(x)
        x = self.last(torch.cat([x, batch_deviation(x)], dim=1))
        return self.score(self.hidden(x.flatten(1))).squeeze(1)


def batch_deviation(x: Tensor) -> Tensor:
    """How different the pictures of a batch are, for a discriminator to see (Karras et al., ICLR 2018).

    Args:
        x: (B, C, H, W) float. Groups are of 4 pictures, of the largest divisor of B below where 4 is none.

    Returns:
        (B, 1, H, W) float: the standard deviation of each feature within its group, the mean over features.
    """
    batch = x.shape[0]
    group = next(n for n in range(min(_GROUP, batch), 0, -1) if batch % n == 0)
    # Squares may overflow half precision.
    grouped = x.to(torch.promote_types(x.dtype, torch.float32)).view(group, -1, *x.shape[1:])
    deviation = (grouped.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    return deviation.to(x.dtype).repeat(group).view(batch, 1, 1, 1).expand(-1, 1, *x.shape[2:])


def generator_loss(logits: Tensor) -> Tensor:
    """The non-saturating loss of generated pictures: (B,) logits → () float32."""
    return F.softplus(-full(logits)).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The logistic loss of (B,) logits of true and of generated pictures: () float32."""
    return F.softplus(-full(real)).mean() + F.softplus(full(fake)).mean()


def r1_penalty(pictures: Tensor, logits: Tensor) -> Tensor:
    """R1 (Mescheder et al., ICML 2018): the squared norm of the logits' gradient, the mean over pictures.

    It is weighted with γ / 2. The gradient is with respect to pictures in [-1, 1], for which StyleGAN2's γ is meant.

    Args:
        pictures: (B, 3, S, S) float in [0, 1], true ones, which require a gradient.
        logits: (B,) float, what the discriminator made of them.

    Returns:
        () float, which can be differentiated.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return (gradient / 2).square().sum((1, 2, 3)).mean()


def judge(
    discriminator: nn.Module, real: Tensor, on_fake: Tensor, r1_weight: float, r1_every: int, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The discriminator's loss on a batch, with R1 in every so many steps, where it counts for as many.

    StyleGAN2, appendix B: "lazy regularisation".

    Args:
        discriminator: to be trained.
        real: (B, 3, S, S) float in [0, 1].
        on_fake: (B,) float logits of generated pictures, see :func:`models.layers.adversarial.apart`.
        r1_weight: γ; 0: no regularisation.
        r1_every: steps between two regularised ones.
        step: optimizer steps made so far.

    Returns:
        () float to be minimised; its parts before weighting, ``discriminator`` and, where it is taken, ``r1``.
    """
    regularised = r1_weight > 0 and step % r1_every == 0
    real = real.detach().requires_grad_(regularised)
    on_real = discriminator(real)
    loss = discriminator_loss(on_real, on_fake)
    logs = {"discriminator": loss}
    if regularised:
        logs["r1"] = r1_penalty(real, on_real)
        loss = loss + r1_weight / 2 * r1_every * logs["r1"]
    return loss, logs


class DiscriminatorBlock(nn.Module):
    """Two convolutions beside a shortcut: half the resolution.

    Args:
        cin: input channels.
        cout: output channels.
    """

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.first = _Convolution(cin, cin, 3)
        # Their sum is divided by √2, so that the variance stays: here in their gains, √2 and 1 otherwise.
        self.second = _Convolution(cin, cout, 3, halve=True, gain=1)
        self.shortcut = _Convolution(cin, cout, 1, halve=True, plain=True, gain=1 / _ROOT)

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, H, W) float → (B, cout, H / 2, W / 2) float."""
        return self.second(self.first(x)) + self.shortcut(x)


class _Convolution(nn.Module):
    """Convolution, behind a binomial filter and of stride 2 where ``halve``; leaky ReLU unless ``plain``.

    The result is by ``gain``. It stands before weights and biases, which leaky ReLU permits, and not before the maps,
    which are many times larger.
    """

    filter: Tensor

    def __init__(
        self, cin: int, cout: int, kernel: int, halve: bool = False, plain: bool = False, gain: float = _ROOT
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(cout, cin, kernel, kernel))
        self.bias = None if plain else nn.Parameter(torch.zeros(cout))
        self.gain = gain
        self.scale = gain / math.sqrt(cin * kernel * kernel)
        self.kernel, self.halve = kernel, halve
        binomial = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("filter", torch.outer(binomial, binomial), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        bias = None if self.bias is None else self.bias * self.gain
        if not self.halve:
            x = F.conv2d(x, weight, bias, padding=self.kernel // 2)
        else:
            x = F.conv2d(self._filtered(x), weight, bias, stride=1 if self.kernel == 1 else 2)
        return x if bias is None else F.leaky_relu(x, _SLOPE, inplace=True)

    def _filtered(self, x: Tensor) -> Tensor:
        """Low-passed, with the borders that a convolution without padding needs; halved where it is 1 × 1."""
        channels = x.shape[1]
        kernel = self.filter.to(x.dtype).expand(channels, 1, 4, 4)
        padding = self.kernel // 2 + 1
        stride = 2 if self.kernel == 1 else 1
        return F.conv2d(x, kernel, stride=stride, padding=padding, groups=channels)


class _Linear(nn.Module):
    def __init__(self, cin: int, cout: int, activated: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(cout, cin))
        self.bias = nn.Parameter(torch.zeros(cout))
        # As in convolutions.
        self.gain = _ROOT if activated else 1.0
        self.scale = self.gain / math.sqrt(cin)
        self.activated = activated

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.weight * self.scale, self.bias * self.gain)
        return F.leaky_relu(x, _SLOPE, inplace=True) if self.activated else x
