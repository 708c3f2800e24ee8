"""AdaAT of DINet (Zhang et al., AAAI 2023): each channel of a feature map is turned, scaled and shifted by itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.precision import full

#: What the official code takes for pi.
_PI = 3.14159


class AdaAT(nn.Module):
    """Adaptive affine transformation: predicts an angle, a scale and a shift for each channel, and applies them.

    The keys are the official ones. The official code departs from the paper in two ways, which its weights expect and
    ``mixed`` turns on: see :func:`turned`.

    Args:
        code: length of what it predicts from; officially 256.
        channels: of the feature map; officially 256.
        mixed: the official form; else the paper's.
    """

    def __init__(self, code: int, channels: int, mixed: bool = False) -> None:
        super().__init__()
        self.mixed = mixed
        # Sequences, for their official keys, of which one is misspelt.
        self.commn_linear = nn.Sequential(nn.Linear(code, code), nn.ReLU())
        self.scale = nn.Sequential(nn.Linear(code, channels), nn.Sigmoid())
        self.rotation = nn.Sequential(nn.Linear(code, channels), nn.Tanh())
        self.translation = nn.Sequential(nn.Linear(code, 2 * channels), nn.Tanh())

    def forward(self, features: Tensor, code: Tensor) -> Tensor:
        """Deform features.

        Args:
            features: (B, channels, H, W) float.
            code: (B, code) float.

        Returns:
            (B, channels, H, W) float, of the type of ``features``.
        """
        # In bfloat16 a place at the edge of a map of 100 columns would be 0.2 of them off.
        with torch.autocast(code.device.type, enabled=False):
            common = self.commn_linear(full(code))
            scale = 2 * self.scale(common)
            angle = _PI * self.rotation(common)
            shift = self.translation(common).unflatten(1, (-1, 2))
        return turned(features, scale, angle, shift, self.mixed)


def turned(features: Tensor, scale: Tensor, angle: Tensor, shift: Tensor, mixed: bool = False) -> Tensor:
    """Turn, scale and shift each channel, with bilinear sampling and zeros outside of the map.

    A point of the result at (x, y) shows the point of the channel at ``scale R(angle) (x, y) + shift``, where x and y
    run from -1 to 1 over columns and rows: between the centres of the outermost pixels. So 1, 0 and (0, 0) change
    nothing, a scale below 1 enlarges, and where H and W differ, a turn also shears.

    The official code samples one three-dimensional volume, with the channel as the third coordinate. It takes -1 and
    1 for the centres of the outermost pixels and channels when it makes the coordinates, and for the outer edges when
    it samples. So its 1, 0 and (0, 0) enlarge the map by W / (W - 1) and H / (H - 1) around its middle, and every
    channel c has a share of its neighbour: ``0.5 - c / (C - 1)`` of the one before it where that is above 0, else
    ``c / (C - 1) - 0.5`` of the one after it, with zeros beyond the first and the last. ``mixed`` is that function, up
    to rounding, at the cost of the other.

    Args:
        features: (B, C, H, W) float.
        scale: (B, C) float.
        angle: (B, C) float, radians.
        shift: (B, C, 2) float, x and y, in halves of the width and the height.
        mixed: the official form.

    Returns:
        (B, C, H, W) float, of the type of ``features``.
    """
    batch, channels, height, width = features.shape
    values, scale, angle, shift = (full(each) for each in (features, scale, angle, shift))
    with torch.autocast(features.device.type, enabled=False):
        if mixed:
            values = _with_neighbours(values)
        cos, sin = scale * angle.cos(), scale * angle.sin()
        rows = torch.stack([cos, -sin, shift[..., 0], sin, cos, shift[..., 1]], dim=-1)
        x = torch.linspace(-1, 1, width, device=values.device, dtype=rows.dtype).expand(height, width)
        y = torch.linspace(-1, 1, height, device=values.device, dtype=rows.dtype)[:, None].expand_as(x)
        points = torch.stack([x, y, torch.ones_like(x)]).flatten(1)
        # One product for all channels; one each, as affine_grid makes it, takes as long as the sampling.
        places = (rows.view(-1, 3) @ points).view(-1, 2, height, width).permute(0, 2, 3, 1)
        flat = values.reshape(-1, 1, height, width)
        found = F.grid_sample(flat, places.to(values.dtype), align_corners=not mixed)
    return found.view(batch, channels, height, width).to(features.dtype)


def _with_neighbours(values: Tensor) -> Tensor:
    """(B, C, H, W) → the same channels with the shares of their neighbours."""
    place = torch.linspace(-0.5, 0.5, values.shape[1], device=values.device, dtype=values.dtype)
    before, after = (-place).clamp_min(0)[:, None, None], place.clamp_min(0)[:, None, None]
    padded = F.pad(values, (0, 0, 0, 0, 1, 1))
    return values * (1 - before - after) + padded[:, :-2] * before + padded[:, 2:] * after
