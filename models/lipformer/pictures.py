"""What both stages do with pictures: scale them, and measure the error of a generated one."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.precision import full
from models.layers.vgg import VGG19, normalised
from models.losses import psnr


def scaled(picture: Tensor | np.ndarray, size: int) -> Tensor:
    """Scale a picture as data sets do it for training (``size`` of a :class:`prep.sample_spec.SampleSpec`).

    Args:
        picture: (3, H, W) uint8 tensor or (H, W, 3) uint8 array.
        size: S.

    Returns:
        (3, S, S) uint8: means over the area of each pixel; the picture itself where it has that size.
    """
    array = picture if isinstance(picture, np.ndarray) else picture.permute(1, 2, 0).numpy()
    if array.shape[:2] != (size, size):
        array = cv2.resize(array, (size, size), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


#: Rows and columns of the view ``aligned512`` within which mouths lie, as shares of its size.
MOUTH_ROWS, MOUTH_COLUMNS = (0.64, 0.92), (0.3, 0.7)


def as_float(stored: Tensor) -> Tensor:
    """(B, 3, S, S) uint8 → float32 in [0, 1]; float64 in [0, 255] → float64."""
    return full(stored) / 255


def of_mouth(faces: Tensor) -> Tensor:
    """(..., S, S) of the view ``aligned512`` scaled to S → its rows and columns within which mouths lie."""
    size = faces.shape[-1]
    rows, columns = (slice(*(round(size * at) for at in part)) for part in (MOUTH_ROWS, MOUTH_COLUMNS))
    return faces[..., rows, columns]


def of_lips(cells: Tensor) -> Tensor:
    """(..., h', w') of the lower half of such a face → cells within which mouths lie, at least one."""
    height, width = cells.shape[-2:]
    first, last = (round(height * (2 * at - 1)) for at in MOUTH_ROWS)
    left, right = (round(width * at) for at in MOUTH_COLUMNS)
    return cells[..., first : max(last, first + 1), left : max(right, left + 1)]


def likeness_figures(made: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """PSNR between (B, 3, S, S) float generated and true faces at validation, in dB, () float32 each.

    ``psnr`` of the whole face, ``psnr_lower`` of its lower half, ``psnr_mouth`` of the mouth region; a generated
    face is clipped to [0, 1] first.
    """
    shown, half = made.clamp(0, 1), made.shape[-2] // 2
    return {
        "psnr": psnr(shown, truth),
        "psnr_lower": psnr(shown[:, :, half:], truth[:, :, half:]),
        "psnr_mouth": psnr(of_mouth(shown), of_mouth(truth)),
    }


def pixel_loss(found: Tensor, wanted: Tensor, mouth_weight: float) -> Tensor:
    """ℓ2 as a mean over pixels and channels, and ``mouth_weight`` times that over the mouth: () float32.

    Args:
        found: (B, 3, S, S) float, faces of the view ``aligned512`` scaled to S.
        wanted: the true faces, of the same shape.
        mouth_weight: not below 0; the papers have none.
    """
    error = (full(found) - full(wanted)).square()
    return error.mean() + mouth_weight * of_mouth(error).mean() if mouth_weight else error.mean()


def with_lips(error: Tensor, mouth_weight: float) -> Tensor:
    """The mean of an error over positions, and ``mouth_weight`` times that over the mouth: () float.

    Args:
        error: (B, h', w') float, of the lower halves of such faces.
        mouth_weight: not below 0; the paper has none.
    """
    return error.mean() + mouth_weight * of_lips(error).mean() if mouth_weight else error.mean()


def perceptual_loss(vgg: VGG19, found: Tensor, wanted: Tensor) -> Tensor:
    """Squared distance of VGG-19's features, which are of unit length at every pixel: () float32.

    LPIPS (Zhang et al., CVPR 2018, which the paper cites) without its learned weights: the mean over the five maps
    stands in their place.

    Args:
        vgg: its weights must not ask for a gradient.
        found: (B, 3, H, W) float in [0, 1], RGB; H and W at least 16.
        wanted: the true faces, of the same shape; no gradient is taken for them.
    """
    with torch.no_grad():
        goals = _features(vgg, wanted)
    pairs = zip(_features(vgg, found), goals, strict=True)
    # Added up in float32, without a copy of half-precision maps in it.
    parts = [
        (a - b).square().sum(1, dtype=torch.promote_types(a.dtype, torch.float32)).mean() for a, b in pairs
    ]
    return torch.stack(parts).mean()


def _features(vgg: VGG19, pictures: Tensor) -> list[Tensor]:
    # A length near 0 would let the gradient overflow half precision.
    return [F.normalize(features, dim=1, eps=1e-3) for features in vgg(normalised(pictures))]
