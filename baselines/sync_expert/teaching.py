"""What landmarks teach an expert that looks at pictures, and how pictures and sound are varied meanwhile."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.sync_cca.features import LIPS, RIGID
from models.base import Section

#: The landmarks of a sample.
LANDMARKS = "mesh478"
_RIGID, _LIPS = torch.from_numpy(RIGID), torch.from_numpy(LIPS)
# The first 32 of the rigid points are the eyes.
_RIGHT, _LEFT = _RIGID[:16], _RIGID[16:32]
# Both rings of the lips begin at a corner: 11 points of the upper lip up to the other corner, then 9 of the lower back.
_RING = torch.cat([torch.arange(11).flip(0), torch.arange(11, 20).flip(0)])
_MIRRORED = torch.cat([_RING, 20 + _RING])


class TeachConfig(Section):
    """The table ``[expert.teach]``: landmarks teach the expert. None of it is in the official code.

    Attributes:
        weight: of the error of the landmarks in the loss; the contrast has ``expert.contrast``.
        entropy: weight of the cross-entropy of single windows, which makes a cosine a probability.
        first: steps with this error alone.
        averages: the contrast compares scores that are means over so many consecutive windows; its mean over all
            these lengths is taken.
        nearest: frames between right and wrong sound in the contrast, at least: one frame is not told apart, because
            clips are that much off.
        vary: how much pictures and sound are varied; 0: not at all, 1: see :func:`varied` and :func:`other_sound`.
    """

    weight: float = Field(4.0, gt=0)
    entropy: float = Field(1.0, ge=0)
    first: int = Field(150, ge=0)
    averages: tuple[int, ...] = (10, 20)
    nearest: int = Field(2, ge=1)
    vary: float = Field(1.0, ge=0, le=2)


class LipReader(nn.Module):
    """Lip landmarks from a frame's features; used in training only.

    Args:
        size: F, of the features.
    """

    covariance: Tensor
    seen: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        # A constant would be lost with the mean.
        self.read = nn.Linear(size, 2 * len(LIPS), bias=False)
        self.register_buffer("covariance", torch.eye(2 * len(LIPS)))
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, features: Tensor, lips: Tensor) -> Tensor:
        """How far the landmarks that are found are from those of the lips; both without their means over the sample.

        A face's own shape is in the means: only movement counts. It is measured in units of how much lips move: with
        their covariance C and its largest eigenvalue λ, movement is multiplied by (C + λ/10)^(-1/2), so that directions
        in which lips move little count nearly as much as others. C is gathered in training as a running mean.

        Args:
            features: (B, T, F).
            lips: (B, T, 80) of :func:`aligned_lips`.

        Returns:
            () float32: 0: right; 1: as wrong as if no movement were found.
        """
        moved = lips - lips.mean(dim=1, keepdim=True)
        if self.training:
            flat = moved.flatten(0, 1)
            # A tensor: a number would have to be waited for.
            share = (1 / (self.seen + 1)).clamp(min=0.02)
            self.covariance.lerp_(flat.T @ flat / len(flat), share)
            self.seen += 1
        spread, directions = torch.linalg.eigh(self.covariance)
        weight = (spread.clamp(min=0) + spread[-1] / 10).rsqrt()
        even = (directions * weight) @ directions.T
        found = self.read(features)
        error = found - found.mean(dim=1, keepdim=True) - moved @ even
        return error.square().sum(dim=2).mean() / (spread.clamp(min=0) * weight.square()).sum()


def aligned_lips(points: Tensor) -> Tensor:
    """Lips without the movement of the head.

    Every frame is turned, scaled and shifted in the plane until its eyes and nose lie, by least squares, on their mean
    over the frames, in which the eyes are level and the points have a root mean square distance of 1 from their centre.

    Args:
        points: (B, T, 478, 2) float, pixels.

    Returns:
        (B, T, 80) float32: x of the 40 points of :data:`baselines.sync_cca.features.LIPS`, then y.
    """
    plane = torch.complex(points[..., 0].double(), points[..., 1].double())
    centre = plane[..., _RIGID].mean(dim=-1, keepdim=True)
    plane = plane - centre
    rigid = plane[..., _RIGID]
    level = plane[..., _LEFT].mean(dim=-1, keepdim=True) - plane[..., _RIGHT].mean(dim=-1, keepdim=True)
    size = rigid.abs().square().mean(dim=-1, keepdim=True).sqrt()
    mean = (rigid * (level.conj() / level.abs() / size)).mean(dim=1, keepdim=True)
    turn = (rigid.conj() * mean).sum(dim=-1, keepdim=True) / rigid.abs().square().sum(dim=-1, keepdim=True)
    lips = plane[..., _LIPS] * turn
    return torch.cat([lips.real, lips.imag], dim=-1).float()


def mirrored_lips(lips: Tensor) -> Tensor:
    """What :func:`aligned_lips` gives of the mirrored face: (…, 80) → (…, 80)."""
    across, down = lips.unflatten(-1, (2, -1)).unbind(-2)
    return torch.cat([-across[..., _MIRRORED], down[..., _MIRRORED]], dim=-1)


def varied(frames: Tensor, strength: float, mirror: bool) -> tuple[Tensor, Tensor]:
    """Pictures that another camera could have taken; all frames of a sample in the same way.

    With a strength of 1, each by chance and evenly distributed: height and width change by up to 10 % each, the picture
    turns by up to 5 degrees and moves by up to 4 % of its width and 6 % of its height; contrast changes by a factor of
    up to 1.5, brightness by 0.2, that of each colour by 0.1.

    Args:
        frames: (B, T, 3, h, w) float in [0, 1].
        strength: of all changes.
        mirror: whether half of the samples are mirrored.

    Returns:
        (B, T, 3, h, w) float, and (B,) bool: which of them are mirrored.
    """
    n, device = len(frames), frames.device

    def chance(*shape: int) -> Tensor:
        return (torch.rand(n, *shape, device=device) * 2 - 1) * strength

    flipped = torch.rand(n, device=device) < (0.5 if mirror else 0.0)
    if not strength:
        return torch.where(flipped[:, None, None, None, None], frames.flip(-1), frames), flipped
    height, width = frames.shape[-2:]
    across = torch.exp(0.1 * chance()) * torch.where(flipped, -1.0, 1.0)
    down, turn = torch.exp(0.1 * chance()), 0.09 * chance()
    # Of a grid in [-1, 1] both ways.
    ratio = height / width
    rows = [
        torch.stack([across * turn.cos(), -down * turn.sin() * ratio, 0.08 * chance()], dim=1),
        torch.stack([across * turn.sin() / ratio, down * turn.cos(), 0.12 * chance()], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [n, 1, height, width], align_corners=False)
    moved = F.grid_sample(frames.flatten(1, 2), grid, align_corners=False, padding_mode="border")
    moved = moved.view_as(frames)
    grey = moved.mean(dim=(1, 2, 3, 4), keepdim=True)
    moved = (moved - grey) * torch.exp(0.4 * chance(1, 1, 1, 1)) + grey
    return moved + 0.1 * chance(1, 3, 1, 1) + 0.2 * chance(1, 1, 1, 1), flipped


def other_sound(mels: Tensor, strength: float) -> Tensor:
    """Sound that another microphone could have recorded: louder or softer, and coloured.

    With a strength of 1, the level of a sample changes by a Gaussian of 0.6, that of each band by one of 0.3.

    Args:
        mels: (B, N, 80, 16) in [-4, 4].
        strength: of the change.

    Returns:
        The same shape.
    """
    n, bands, device = len(mels), mels.shape[2], mels.device
    level = 0.6 * torch.randn(n, 1, 1, 1, device=device) + 0.3 * torch.randn(n, 1, bands, 1, device=device)
    return mels + strength * level
