"""LipFormer's adaptive face warping (Wang et al., CVPR 2023, section 3.2, equations 6 and 7, figure 3).

Head and mouth move together, so the motion of the upper half of the face from the reference to the target shows how to
move the reference's lower half. Everything happens in the latent space of the codebooks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.precision import in_full


class KeypointExtractor(nn.Module):
    """F_e: heat maps of k key points, which are learnt without labels (equation 6).

    Args:
        dim: d, elements of an encoding.
        keypoints: k.
        hidden: channels of the layers between.
    """

    def __init__(self, dim: int, keypoints: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(dim, hidden, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(hidden, keypoints, 3, padding=1),
        )

    def forward(self, encodings: Tensor) -> Tensor:
        """Quantised encodings of an upper half (B, dim, h', w') float → heat maps (B, k, h', w') float32.

        Each map is a softmax over its positions: positive, with sum 1.
        """
        # In half precision the displacement, a difference of two such maps, would mostly be rounding.
        maps = in_full(self.layers[-1], self.layers[:-1](encodings))
        return maps.flatten(2).softmax(dim=2).view_as(maps)


class OffsetRegressor(nn.Module):
    """F_d: from the displacement of heat maps to offsets (equation 7).

    An hourglass: motion in the upper half is needed everywhere in the lower half. The last layer starts at zero, so
    that the warp starts as the identity.

    Args:
        keypoints: k.
        hidden: channels of its layers.
    """

    def __init__(self, keypoints: int, hidden: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(keypoints, hidden, 3, padding=1)
        self.middle = nn.Conv2d(hidden, hidden, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(hidden, hidden, 3, stride=2, padding=1)
        self.whole = nn.Linear(hidden, hidden)
        self.middle_up = nn.Conv2d(2 * hidden, hidden, 3, padding=1)
        self.fine_up = nn.Conv2d(2 * hidden, hidden, 3, padding=1)
        self.offsets = nn.Conv2d(hidden, 2, 3, padding=1)
        nn.init.zeros_(self.offsets.weight)
        assert self.offsets.bias is not None
        nn.init.zeros_(self.offsets.bias)

    def forward(self, displacement: Tensor) -> Tensor:
        """K_TU - K_RU (B, k, h', w') float → G_RB (B, 2, h', w') float32: x and y, cells to the right and down."""
        # In units of a uniform map, for a softmax over many positions is small everywhere.
        displacement = displacement * (displacement.shape[2] * displacement.shape[3])
        fine = F.silu(self.fine(displacement))
        middle = F.silu(self.middle(fine))
        coarse = F.silu(self.coarse(middle))
        coarse = coarse + self.whole(coarse.mean(dim=(2, 3)))[:, :, None, None]
        middle = F.silu(self.middle_up(torch.cat([_enlarged(coarse, middle), middle], dim=1)))
        fine = F.silu(self.fine_up(torch.cat([_enlarged(middle, fine), fine], dim=1)))
        return in_full(self.offsets, fine)


class FaceWarp(nn.Module):
    """M: the reference's lower encodings, moved to the target's pose.

    Args:
        dim: d, elements of an encoding.
        keypoints: k, heat maps of F_e.
        hidden: channels of the layers of F_e and F_d.
    """

    def __init__(self, dim: int, keypoints: int = 16, hidden: int = 64) -> None:
        super().__init__()
        self.keypoints = KeypointExtractor(dim, keypoints, hidden)
        self.regressor = OffsetRegressor(keypoints, hidden)

    def offsets(self, target_upper: Tensor, reference_upper: Tensor) -> Tensor:
        """H_TU and H_RU (B, dim, h', w') float → G_RB (B, 2, h', w') float32, cells to the right and down."""
        return self.regressor(self.keypoints(target_upper) - self.keypoints(reference_upper))

    def forward(self, target_upper: Tensor, reference_upper: Tensor, reference_lower: Tensor) -> Tensor:
        """H_TU, H_RU and H_RB, each (B, dim, h', w') float → the warped H_RB, of the same shape."""
        return sample(reference_lower, self.offsets(target_upper, reference_upper))


def sample(source: Tensor, offsets: Tensor) -> Tensor:
    """Bilinear sampling (figure 3): each cell of the result comes from its own place plus its offset.

    Unlike in :func:`models.layers.warp.warp`, offsets of 0 are the identity, and beyond the border its cells repeat.

    Args:
        source: (B, C, H, W) float.
        offsets: (B, 2, H, W) float: x and y, cells to the right and down.

    Returns:
        (B, C, H, W) float.
    """
    height, width = source.shape[-2:]
    # Places are too coarse in half precision.
    exact = torch.promote_types(source.dtype, torch.float32)
    offsets = offsets.to(exact)
    x = torch.arange(width, device=offsets.device) + offsets[:, 0]
    y = torch.arange(height, device=offsets.device)[:, None] + offsets[:, 1]
    # The borders of the outermost cells are -1 and 1, their centres half a cell within.
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    return F.grid_sample(source.to(exact), grid, padding_mode="border", align_corners=False).to(source.dtype)


def _enlarged(x: Tensor, to: Tensor) -> Tensor:
    return F.interpolate(x, size=to.shape[-2:], mode="bilinear", align_corners=False)
