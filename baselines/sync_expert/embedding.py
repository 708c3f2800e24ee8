"""A whole clip as a trained expert embeds it: every window of pictures, and the sounds beside them.

What follows from the embeddings, such as the offset of the sound, is the same for every judge of lip sync:
:mod:`baselines.sync_judges`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.sync_expert.network import FRAMES, SyncNet


@torch.no_grad()
def embed_lips(expert: SyncNet, frames: Tensor, batch_size: int = 64) -> Tensor:
    """Embed every window of a clip.

    Args:
        expert: in evaluation mode.
        frames: (T, 3, H, W) uint8, RGB, consecutive crops of the expert's view, on any device.
        batch_size: windows at once.

    Returns:
        (T - 4, D) float32, on the expert's device: windows by their first frames.

    Raises:
        ValueError: fewer than 5 frames.
    """
    if len(frames) < FRAMES:
        raise ValueError(f"{len(frames)} frames are no window of {FRAMES}")
    device = next(expert.parameters()).device
    windows = frames.unfold(0, FRAMES, 1).movedim(-1, 1)
    return torch.cat([expert.see(expert.lips(w.to(device).float() / 255)) for w in windows.split(batch_size)])


@torch.no_grad()
def embed_sounds(expert: SyncNet, mels: Tensor, batch_size: int = 256) -> Tensor:
    """Embed the sounds of a clip, each a ``SOUND``: (T, 80, 16) → (T, D) float32 on the expert's device."""
    device = next(expert.parameters()).device
    return torch.cat([expert.hear(m.to(device)) for m in mels.split(batch_size)])
