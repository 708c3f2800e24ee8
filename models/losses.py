"""Losses on landmarks, the L1 and the continuity loss of IP-LAP (Zhong et al., CVPR 2023, equations 10, 11); PSNR."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def point_l1(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of coordinates.

    IP-LAP's code has this mean; its equation 10 has the sum over a frame's coordinates, 2 P times as much.

    Args:
        predicted: (B, T, P, 2) float.
        truth: of the same shape.

    Returns:
        () float32.

    Raises:
        ValueError: the shapes differ.
    """
    _alike(predicted, truth)
    return F.l1_loss(predicted.float(), truth.float())


def continuity(predicted: Tensor, truth: Tensor, groups: Sequence[int] | None = None) -> Tensor:
    """Error of the movement from frame to frame: Euclidean norm over points, mean over pairs of frames.

    IP-LAP's code takes one norm over all points; its equation 11 adds one of the jaw and one of the lips.

    Args:
        predicted: (B, T, P, 2) float, consecutive frames, T at least 2.
        truth: of the same shape.
        groups: sizes of consecutive groups of points that get a norm each, to be added; one group where None.

    Returns:
        () float32.

    Raises:
        ValueError: the shapes differ, there is one frame only, or the groups do not add up to P.
    """
    _alike(predicted, truth)
    if predicted.shape[1] < 2:
        raise ValueError("continuity needs at least two frames")
    points = predicted.shape[2]
    if groups is not None and sum(groups) != points:
        raise ValueError(f"groups of {list(groups)} points are not the {points} points given")
    off = (predicted.float() - truth.float()).diff(dim=1)
    # The official function's shift of every coordinate keeps the gradient finite where the error is 0.
    shifted = off + 1e-6
    parts = shifted.split(list(groups) if groups is not None else [points], dim=2)
    return sum((part.flatten(2).norm(dim=2).mean() for part in parts), start=predicted.new_zeros(()).float())


def psnr(found: Tensor, wanted: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of (B, C, H, W) float pictures in [0, 1]: dB, the mean over pictures.

    Equal pictures count 100 dB, so that the mean stays finite.
    """
    error = (found.float() - wanted.float()).square().mean((1, 2, 3))
    return -10 * error.clamp(min=1e-10).log10().mean()


def _alike(predicted: Tensor, truth: Tensor) -> None:
    if predicted.shape != truth.shape or predicted.ndim != 4:
        raise ValueError(
            f"predicted {tuple(predicted.shape)} and true {tuple(truth.shape)} are not both (B, T, P, 2)"
        )
