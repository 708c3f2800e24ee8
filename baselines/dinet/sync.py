"""How far painted mouths are from their sound, for the clip stages of DINet (Zhang et al., AAAI 2023) and of methods
that build on it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from baselines.sync_expert.network import FrameEncoder, SyncNet
from baselines.sync_expert.score_network import ScoreNet, squared_error
from baselines.wav2lip import losses
from models.layers.mouth_square import MouthSquare

#: What either kind of expert looks at.
VIEW = "mouth416x320"


def sync_loss(expert: SyncNet | ScoreNet, sounds: Tensor, frames: Tensor, square: MouthSquare) -> Tensor:
    """How far five painted frames are from their sound, to an expert.

    Args:
        expert: trained. DINet's own sees the square at the size at which it is painted; a :class:`SyncNet` of the view
            ``mouth416x320`` sees what lies there at its own resolution.
        sounds: of the windows: (B, channels, columns) as :meth:`ScoreNet.hear` takes them: 9 columns of logits that
            begin two before the first frame; or (B, 80, 16) in [-4, 4]: mel from the first frame on.
        frames: (B, 5, 3, H, W) in [0, 1], RGB: whole faces of ``square``'s size.
        square: where the mouth was painted.

    Returns:
        () float32. DINet's own: mean squared distance of the scores from 1 (``train_DINet_clip.py``); a
        :class:`SyncNet`: cross-entropy of the cosines against 1.

    Raises:
        ValueError: the frames are not of the square's size.
    """
    mouths = square.cut(frames)
    if isinstance(expert, ScoreNet):
        return squared_error(expert(mouths.flatten(1, 2), sounds), 1)
    return losses.sync_loss(expert, sounds, in_view(expert, frames))


def in_view(expert: SyncNet, frames: Tensor) -> Tensor:
    """(B, 5, 3, H, W) faces of any size of a :class:`MouthSquare` → as the expert's :meth:`SyncNet.lips` takes them."""
    if isinstance(expert.face_encoder, FrameEncoder) or expert.seen.view == frames.shape[-2:]:
        return frames
    large = F.interpolate(frames.flatten(0, 1), expert.seen.view, mode="bilinear", align_corners=False)
    return large.unflatten(0, frames.shape[:2])
