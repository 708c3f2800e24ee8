"""Losses of IP-LAP's rendering stage (section 3.2.3), each () float32 at least and 0 for equal pictures."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.patchgan import Maps
from models.layers.precision import full
from models.layers.vgg import VGG19, normalised

#: How pictures are given to VGG-19. ``iplap``: as the official code does, which takes BGR in [0, 1] for RGB in
#: [-1, 1]; the paper does not mention it, and its loss weights were found with it. ``imagenet``: as VGG-19 was trained.
Reading = Literal["iplap", "imagenet"]


def vgg_features(vgg: VGG19, pictures: Tensor, reading: Reading = "iplap") -> Maps:
    """What VGG-19 makes of pictures at full and at half resolution.

    Args:
        vgg: weights must not ask for a gradient.
        pictures: (B, 3, H, W) float, BGR in [0, 1]; H and W at least 32.
        reading: see :data:`Reading`.

    Returns:
        For each of the two resolutions the five maps of :class:`~models.layers.vgg.VGG19`.
    """
    pictures = normalised((pictures + 1) / 2 if reading == "iplap" else pictures.flip(1))
    return [vgg(pictures), vgg(F.avg_pool2d(pictures, 2))]


def perceptual_loss(found: Maps, wanted: Maps) -> Tensor:
    """Equations 17 and 18: the mean absolute difference of each map, summed over maps and resolutions."""
    return _total([_difference(*pair) for pair in _pairs(found, wanted)])


def style_loss(found: Maps, wanted: Maps) -> Tensor:
    """Equation 19: of Gram matrices. Of the full resolution alone, as in the official code."""
    return _total([F.l1_loss(gram(a), gram(b)) for a, b in _pairs(found[:1], wanted[:1])])


def gram(features: Tensor) -> Tensor:
    """Gram matrices by C H W: (B, C, H, W) float → (B, C, C) float32."""
    # Sums over all pixels overflow half precision.
    with torch.autocast(features.device.type, enabled=False):
        flat = features.float().flatten(2)
        return flat @ flat.transpose(1, 2) / flat[0].numel()


def gan_loss(scores: Maps, real: bool) -> Tensor:
    """Least squares to 1 or 0 of the last map, summed over scales (Mao et al., ICCV 2017)."""
    wanted = float(real)
    return _total([(full(maps[-1]) - wanted).square().mean() for maps in scores])


def feature_matching_loss(fake: Maps, real: Maps) -> Tensor:
    """Mean absolute difference of each map but the scores, summed over layers, averaged over scales."""
    pairs = _pairs([maps[:-1] for maps in fake], [maps[:-1] for maps in real])
    return _total([_difference(*pair) for pair in pairs]) / len(fake)


def pixel_loss(found: Tensor, wanted: Tensor, scales: int = 3) -> Tensor:
    """Replaces the losses by VGG-19 where its weights are not available; not in the paper.

    The mean absolute difference of (B, C, H, W) float pictures, summed over ``scales`` resolutions, each half
    the one before.
    """
    losses = [F.l1_loss(found, wanted)]
    for _ in range(scales - 1):
        found, wanted = F.avg_pool2d(found, 2), F.avg_pool2d(wanted, 2)
        losses.append(F.l1_loss(found, wanted))
    return _total(losses)


def _difference(found: Tensor, wanted: Tensor) -> Tensor:
    """The mean absolute difference of two maps, added up in float32 at least.

    Unlike of ``F.l1_loss`` under autocast, the gradient needs no copy of maps in float32, but one in their own type.
    """
    return (found - wanted).abs().mean(dtype=torch.promote_types(found.dtype, torch.float32))


def _pairs(found: Maps, wanted: Maps) -> list[tuple[Tensor, Tensor]]:
    return [pair for a, b in zip(found, wanted, strict=True) for pair in zip(a, b, strict=True)]


def _total(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).sum()
