"""The perceptual loss of DINet (Zhang et al., AAAI 2023), which G4G takes over: VGG-19 at two resolutions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from models.layers.vgg import VGG19, normalised


def two_scale_loss(vgg: VGG19, made: Tensor, truth: Tensor) -> Tensor:
    """The mean absolute difference of VGG-19's five maps, at full and at half resolution: the mean of ten.

    As in ``train_DINet_frame.py`` of the official code, the halves are not made in one way: that of a generated picture
    by means over 3×3 pixels around every second one (those beyond the edge do not count), that of a true picture by
    means over 2×2 pixels, which is what its bilinear interpolation is.

    Args:
        vgg: its weights must not ask for a gradient.
        made: (B, 3, H, W) float in [0, 1], RGB; H and W even, and at least 32.
        truth: of the same shape; it gets no gradient.

    Returns:
        () float32 at least.

    Raises:
        ValueError: H or W is odd, so that the halves would differ in size.
    """
    if made.shape[-2] % 2 or made.shape[-1] % 2:
        raise ValueError(f"pictures of {made.shape[-2]}×{made.shape[-1]} pixels: they cannot be halved")
    with torch.no_grad():
        goals = vgg(normalised(truth)) + vgg(normalised(_half_of_truth(truth)))
    found = vgg(normalised(made)) + vgg(normalised(_half_of_made(made)))
    # Added up in float32, without a copy of half-precision maps in it.
    differences = [
        (a - b).abs().mean(dtype=torch.promote_types(a.dtype, torch.float32))
        for a, b in zip(found, goals, strict=True)
    ]
    return torch.stack(differences).mean()


def _half_of_made(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(pictures, 3, 2, 1, count_include_pad=False)


def _half_of_truth(pictures: Tensor) -> Tensor:
    return F.interpolate(pictures, scale_factor=0.5, mode="bilinear", align_corners=False)
