"""The offset of the sound of a whole clip, by a trained expert: how many frames, and with which confidence.

The rule is SyncNet's (Chung and Zisserman, 2016), with cosines for distances. Clips whose sound is off are
harmful for training, and a half-trained expert finds them: train, filter, train again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.sync_expert.network import FRAMES, SyncNet


@dataclass(frozen=True)
class Offset:
    """By how much the sound of a clip is off.

    Attributes:
        frames: the sound that fits the lips best comes so many frames late; negative: early.
        cosine: mean over windows at that offset, 0 … 1.
        confidence: how far that is above the median over offsets, 0 … 1.
    """

    frames: int
    cosine: float
    confidence: float

    def in_sync(self, most: int = 1, confidence: float = 0.05) -> bool:
        """Whether the clip is fit for training: at most ``most`` frames off, with enough confidence."""
        return abs(self.frames) <= most and self.confidence >= confidence


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


def find_offset(lips: Tensor, sounds: Tensor, reach: int = 15, starts: Tensor | None = None) -> Offset:
    """Compare lips with sound that is shifted.

    An offset counts over the windows for which there is sound at it, and only if they are half of all.

    Args:
        lips: (W, D) of :func:`embed_lips`.
        sounds: (N, D) of :func:`embed_sounds`: ``sounds[t]`` starts with frame t.
        reach: frames by which sound is shifted at most, either way.
        starts: (W,) int64, the first frame of each window, where a clip has frames without a face; None: 0 … W - 1.

    Raises:
        ValueError: there is no window, or sound for less than half of them.
    """
    first = torch.arange(len(lips), device=lips.device) if starts is None else starts.to(lips.device)
    means = {}
    for shift in range(-reach, reach + 1):
        heard = first + shift
        there = (heard >= 0) & (heard < len(sounds))
        if 2 * int(there.sum()) >= len(lips) > 0:
            means[shift] = float((lips[there] * sounds[heard[there]]).sum(dim=1).mean())
    if not means:
        raise ValueError(f"{len(lips)} windows of lips and {len(sounds)} chunks of sound cannot be compared")
    # Of equals, the smallest offset.
    best = max(means, key=lambda shift: (means[shift], -abs(shift)))
    median = float(torch.tensor(list(means.values())).median())
    return Offset(best, means[best], means[best] - median)
