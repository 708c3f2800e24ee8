"""Warping pictures and features by a motion field."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.precision import full


def motion_grid(motion: Tensor) -> Tensor:
    """Where each pixel of the result comes from, as :func:`warp` takes it.

    -1 and 1 are the centres of the outermost pixels here, but the borders of the picture in :func:`warp`. So a
    field of zeros is not the identity: it shrinks the picture by (size - 1) / size around its centre. IP-LAP,
    DINet, VideoReTalking and EAMM were all trained so, and their weights expect it.

    Args:
        motion: (B, 2, H, W) float, pixels to the right and down.

    Returns:
        (B, 2, H, W) float32, or float64 as ``motion``, x and y.
    """
    # bfloat16 has 8 bits: at 128 pixels the grid alone would be up to 0.31 pixels off.
    motion = full(motion)
    height, width = motion.shape[-2:]
    x = torch.linspace(-1, 1, width, device=motion.device, dtype=motion.dtype)
    y = torch.linspace(-1, 1, height, device=motion.device, dtype=motion.dtype)
    still = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
    pixel = motion.new_tensor([2 / (width - 1), 2 / (height - 1)]).view(2, 1, 1)
    return torch.addcmul(still, motion, pixel)


def warp(source: Tensor, grid: Tensor) -> Tensor:
    """Sample bilinearly; outside the source there are zeros.

    Args:
        source: (B, C, h, w) float.
        grid: (B, 2, H, W) float32 or float64, from :func:`motion_grid`; resized where the source has another size.

    Returns:
        (B, C, h, w) float, of the type of ``source``.
    """
    if grid.shape[-2:] != source.shape[-2:]:
        grid = F.interpolate(grid, size=source.shape[-2:], mode="bilinear", align_corners=False)
    exact = torch.promote_types(source.dtype, grid.dtype)
    places = grid.permute(0, 2, 3, 1).to(exact)
    return F.grid_sample(source.to(exact), places, align_corners=False).to(source.dtype)
