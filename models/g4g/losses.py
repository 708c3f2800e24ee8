"""G4G's losses (section 3.3), each () float32.

L_p (equation 20) is :mod:`models.layers.two_scale`, L_GAN (equation 21) least squares of
:mod:`models.layers.picture_discriminator`, equations 6 to 10 are :mod:`models.g4g.contrast`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from models.g4g.contrast import cross_entropy, similarities
from models.layers.precision import full


def attribute_loss(source: Tensor, landmark: Tensor) -> Tensor:
    """Equation 19, L_v: one minus the cosine, mean over frames; 0 to 2.

    Args:
        source: (B, D) float, ī_s as a vector.
        landmark: (B, D) float, l_r.
    """
    return 1 - F.cosine_similarity(full(source), full(landmark), dim=1).mean()


def reconstruction_loss(found: Tensor, wanted: Tensor, regions: Tensor) -> Tensor:
    """Equation 22, L_r, read as an L1 loss of pictures under masks of N sizes: mean over sizes of the mean difference.

    Args:
        found: (B, 3, H, W) float in [0, 1].
        wanted: of the same shape.
        regions: (N, 1, H, W) float, 1 where a size looks, else 0; none is empty.
    """
    off = (full(found) - full(wanted)).abs().mean(dim=(0, 1))
    areas = regions[:, 0].to(off.dtype)
    return ((areas * off).sum(dim=(1, 2)) / areas.sum(dim=(1, 2))).mean()


def expert_contrast(seen: Tensor, heard: Tensor, temperature: float) -> Tensor:
    """Equation 23, L_con: contrast of generated windows with their sounds, as a frozen sync expert embeds them.

    Args:
        seen: (N, D) float, of N windows of five generated frames; :meth:`~baselines.sync_expert.network.SyncNet.see`.
        heard: (N, D) float, of their sounds; :meth:`~baselines.sync_expert.network.SyncNet.hear`.
        temperature: τ.

    Returns:
        Half of the cross-entropies of both directions; ln N where nothing is told apart.
    """
    similar = similarities(seen, heard)
    return (cross_entropy(similar, temperature) + cross_entropy(similar.T, temperature)) / 2
