"""Wav2Lip's generator (Prajwal et al., ACM MM 2020, section 3.3)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from models.layers.conv import ConvBlock, audio_encoder

#: Side of the face, and the first row of the half that is painted, in pixels.
SIZE, HALF = 96, 48
#: Rows and columns of the mouth region.
MOUTH = (slice(56, 88), slice(24, 72))


class Generator(nn.Module):
    """Generates the masked lower half of a face, from the sound and another picture of the face.

    A U-Net with the embedding of the sound at its bottleneck; with ``width=1`` its keys are the official ones.

    Args:
        width: factor on the channels of every layer; 1 is the official size.
        least: the smallest number of channels of a layer, except those of the sound: two or four cannot carry colours.
        residual: what is painted is added, as logits, to the frame's upper and the reference's lower half, which the
            untrained network returns. The official network adds nothing.
    """

    def __init__(self, width: float = 1.0, least: int = 1, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        c16, c32, c64, c128, c256, c384, c512 = (
            max(least, round(c * width)) for c in (16, 32, 64, 128, 256, 384, 512)
        )
        self.face_encoder_blocks = nn.ModuleList(
            [
                nn.Sequential(ConvBlock(6, c16, 7, 1, 3)),
                _down(c16, c32, residuals=2),
                _down(c32, c64, residuals=3),
                _down(c64, c128, residuals=2),
                _down(c128, c256, residuals=2),
                _down(c256, c512, residuals=1),
                nn.Sequential(ConvBlock(c512, c512, 3, 1, 0), ConvBlock(c512, c512, 1, 1, 0)),
            ]
        )
        self.audio_encoder = audio_encoder(width)
        # Each input is the block before it and the encoder's map of the same size.
        self.face_decoder_blocks = nn.ModuleList(
            [
                nn.Sequential(ConvBlock(c512, c512, 1, 1, 0)),
                nn.Sequential(_UpBlock(c512 + c512, c512, 1, 0, 0), _residual(c512)),
                _up(c512 + c512, c512),
                _up(c512 + c256, c384),
                _up(c384 + c128, c256),
                _up(c256 + c64, c128),
                _up(c128 + c32, c64),
            ]
        )
        last = nn.Conv2d(c32, 3, 1)
        self.output_block = nn.Sequential(ConvBlock(c64 + c16, c32, 3, 1, 1), last, nn.Sigmoid())
        if residual:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(cast(Tensor, last.bias))

    def forward(self, mels: Tensor, faces: Tensor) -> Tensor:
        """Paint single frames.

        Args:
            mels: (B, 80, 16) in [-4, 4], one chunk a frame.
            faces: (B, 6, 96, 96) in [0, 1], BGR: the frame with its lower half black, then the reference.

        Returns:
            (B, 3, 96, 96) in [0, 1], BGR.
        """
        maps = []
        x = faces
        for block in self.face_encoder_blocks:
            x = block(x)
            maps.append(x)
        x = self.audio_encoder(mels.unsqueeze(1))
        for block in self.face_decoder_blocks:
            x = torch.cat([block(x), maps.pop()], dim=1)
        if not self.residual:
            return self.output_block(x)
        under = torch.cat([faces[:, :3, :HALF], faces[:, 3:, HALF:]], dim=2)
        # Far enough from black and white for moderate logits and useful gradients.
        return (self.output_block[:2](x) + under.clamp(0.02, 0.98).logit()).sigmoid()


def see(frames: Tensor, references: Tensor) -> Tensor:
    """What the generator sees of frames: their upper halves, and whole references.

    Args:
        frames: (N, 3, 96, 96) float in [0, 1], RGB.
        references: (N, 3, 96, 96) float in [0, 1], RGB, of the same person.

    Returns:
        (N, 6, 96, 96), BGR.
    """
    masked = frames.clone()
    masked[:, :, HALF:] = 0
    return torch.cat([masked.flip(1), references.flip(1)], dim=1)


class _UpBlock(nn.Module):
    """Transposed convolution 3×3, batch normalisation, ReLU."""

    def __init__(self, cin: int, cout: int, stride: int, padding: int, output_padding: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ConvTranspose2d(cin, cout, 3, stride, padding, output_padding), nn.BatchNorm2d(cout)
        )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv_block(x))


def _residual(channels: int) -> ConvBlock:
    return ConvBlock(channels, channels, 3, 1, 1, residual=True)


def _down(cin: int, cout: int, residuals: int) -> nn.Sequential:
    """Half the size."""
    return nn.Sequential(ConvBlock(cin, cout, 3, 2, 1), *(_residual(cout) for _ in range(residuals)))


def _up(cin: int, cout: int) -> nn.Sequential:
    """Twice the size."""
    return nn.Sequential(_UpBlock(cin, cout, 2, 1, 1), _residual(cout), _residual(cout))
