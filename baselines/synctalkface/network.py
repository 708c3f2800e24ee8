"""SyncTalkFace's generator (Park et al., AAAI 2022): Wav2Lip's, whose code is the sound and the lips it recalls."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from baselines.synctalkface.memory import AudioLipMemory, Recall
from baselines.wav2lip.network import Generator as Painter
from baselines.wav2lip.network import Maps, deep_blocks, halved

#: Frames that the lips of one frame are seen in, itself in the middle.
CONTEXT = 5


class Painted(NamedTuple):
    """What the generator makes of N frames in training: twice the frames, and how the lips of each were found.

    Attributes:
        by_sound: (N, 3, S, S) in [0, 1], BGR: with the lips that the sound recalls, as in generation.
        by_lips: (N, 3, S, S) in [0, 1], BGR: with the lips that the true lips recall.
        heard: what the sounds recall.
        seen: what the true lips recall.
        embedded: (N, D) float: the true lips as the memory stores them.
        features: (N, L) float: the true lips.
    """

    by_sound: Tensor
    by_lips: Tensor
    heard: Recall
    seen: Recall
    embedded: Tensor
    features: Tensor


class LipEncoder(nn.Module):
    """One vector of the lower half of five frames: a convolution over time, then Wav2Lip's blocks.

    Args:
        width: factor on the channels of every layer; 1 is the code's size.
        least: the smallest number of channels of a layer.
        side: of the faces, pixels, a multiple of 32 (code: 128).

    Attributes:
        length: L, of the vector; 512 where ``width`` is 1.
    """

    def __init__(self, width: float = 1.0, least: int = 1, side: int = 128) -> None:
        super().__init__()
        c64, c128, c256, c512 = (max(least, round(c * width)) for c in (64, 128, 256, 512))
        self.length = c512
        # All five frames become one map.
        self.first = nn.Sequential(
            nn.Conv3d(3, c64, (CONTEXT, 7, 7), 2, (0, 3, 3)), nn.BatchNorm3d(c64), nn.ReLU()
        )
        self.blocks = nn.Sequential(halved(c64, c64, residuals=3), *deep_blocks(c64, c128, c256, c512, side))

    def forward(self, windows: Tensor) -> Tensor:
        """(N, 3, 5, S, S) of :func:`lips_of` → (N, L)."""
        return self.blocks(self.first(windows).squeeze(2)).flatten(1)


class Generator(nn.Module):
    """Generates the masked lower half of a face, from the sound, the lips that it recalls, and another picture.

    Wav2Lip's encoders and decoder, :class:`baselines.wav2lip.network.Generator`. Inside, pictures are in [-1, 1], where
    the masked half is 0: a middle grey. The code's tanh is the sigmoid here, whose pictures are in [0, 1] at once; the
    two differ by a factor of 2 before them.

    Args:
        width: factor on the channels of every layer; 1 is the code's size.
        least: the smallest number of channels of a layer, except those of the sound.
        residual: as in Wav2Lip's generator.
        side: of the faces, pixels, a multiple of 32 (code: 128).
        slots: of the memory (code: 96).
        sharpness: of its addresses (code: 16).
        dropout: before the layer that joins sound and lips (code: 0.5).
    """

    def __init__(
        self,
        width: float = 1.0,
        least: int = 1,
        residual: bool = False,
        side: int = 128,
        slots: int = 96,
        sharpness: float = 16.0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        sound = dim = max(1, round(512 * width))
        self.painter = Painter(width, least, residual, side)
        self.lip_encoder = LipEncoder(width, least, side)
        self.memory = AudioLipMemory(sound, self.lip_encoder.length, slots, dim, sharpness)
        self.fusion = nn.Sequential(nn.Dropout(dropout), nn.Linear(sound + dim, self.painter.code))

    def forward(self, mels: Tensor, faces: Tensor, lips: Tensor | None = None) -> Tensor | Painted:
        """Paint single frames.

        Args:
            mels: (N, 80, 16) in [-4, 4], one chunk a frame.
            faces: (N, 6, S, S) in [0, 1], BGR: the frame with any lower half, which is masked, then the reference.
            lips: (N, 3, 5, S, S) of :func:`lips_of`, the true ones, in training; None in generation.

        Returns:
            Without lips (N, 3, S, S) in [0, 1], BGR, painted with what the sound recalls; else a :class:`Painted`.
        """
        sounds = self.painter.hear(mels)
        maps = self.painter.look(_signed(faces))
        if lips is None:
            heard, *_ = self.memory(sounds.flatten(1))
            return self._paint(sounds, heard, maps, faces)
        features = self.lip_encoder(lips)
        heard, seen, embedded = self.memory(sounds.flatten(1), features)
        by_sound = self._paint(sounds, heard, maps, faces)
        by_lips = self._paint(sounds, seen, maps, faces)
        return Painted(by_sound, by_lips, heard, seen, embedded, features)

    def _paint(self, sounds: Tensor, recall: Recall, maps: Maps, faces: Tensor) -> Tensor:
        code = self.fusion(torch.cat([sounds.flatten(1), recall.value], dim=1))
        return self.painter.paint(code[:, :, None, None], maps, faces)


def lips_of(frames: Tensor) -> Tensor:
    """The lips of every frame that has two others on both sides.

    Args:
        frames: (B, T, 3, S, S) in [0, 1], RGB, consecutive.

    Returns:
        (B · (T - 4), 3, 5, S, S) in [-1, 1], BGR: five frames each, whose upper halves are 0.
    """
    lips = 2 * frames.flip(2) - 1
    half = frames.shape[-2] // 2
    lips = torch.cat([torch.zeros_like(lips[..., :half, :]), lips[..., half:, :]], dim=-2)
    return lips.unfold(1, CONTEXT, 1).movedim(-1, 3).flatten(0, 1)


def _signed(faces: Tensor) -> Tensor:
    """What :func:`baselines.wav2lip.network.see` gives, in [-1, 1], with a mask of 0."""
    half = faces.shape[2] // 2
    frames, references = (2 * faces - 1).chunk(2, dim=1)
    masked = torch.cat([frames[:, :, :half], torch.zeros_like(frames[:, :, half:])], dim=2)
    return torch.cat([masked, references], dim=1)
