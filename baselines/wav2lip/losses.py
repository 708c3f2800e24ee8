"""What painted faces are measured by (Prajwal et al., ACM MM 2020, section 3.4), also in methods that build on it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from baselines.sync_expert.network import SyncNet, cosine_bce
from baselines.wav2lip.network import MOUTH, SIZE


def likeness(truth: Tensor, painted: Tensor, mouth: bool) -> dict[str, Tensor]:
    """``L1`` over the faces; with ``mouth``, also that within the mouth region.

    Args:
        truth: (..., S, S) float32 in [0, 1].
        painted: of the same shape.
        mouth: whether the second is asked for; the region is :data:`baselines.wav2lip.network.MOUTH`, scaled to S.
    """
    figures = {"L1": F.l1_loss(painted, truth)}
    if mouth:
        side = truth.shape[-1]
        rows, columns = (slice(part.start * side // SIZE, part.stop * side // SIZE) for part in MOUTH)
        figures["mouth"] = F.l1_loss(painted[..., rows, columns], truth[..., rows, columns])
    return figures


def sync_loss(expert: SyncNet, mels: Tensor, painted: Tensor) -> Tensor:
    """How far five painted frames are from their sound, to an expert.

    Args:
        expert: trained.
        mels: (B, 80, 16) in [-4, 4], of the windows.
        painted: (B, 5, 3, S, S) in [0, 1], RGB, of the expert's view.

    Returns:
        () float32: the binary cross-entropy of the cosines against 1.
    """
    sounds, lips = expert(mels, expert.lips(painted))
    return cosine_bce((sounds * lips).sum(dim=1), 1)


def lower_psnr(truth: Tensor, painted: Tensor) -> Tensor:
    """PSNR of the painted halves of (B, T, 3, S, S) frames in [0, 1], decibels: mean over the windows, () float32."""
    half = truth.shape[-2] // 2
    error = (painted - truth)[..., half:, :].square().mean(dim=(1, 2, 3, 4))
    return -10 * error.clamp_min(1e-10).log10().mean()
