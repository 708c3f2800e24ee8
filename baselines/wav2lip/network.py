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
#: A map of each size of an encoder of faces, the last one 1×1.
Maps = list[Tensor]


class Generator(nn.Module):
    """Generates the masked lower half of a face, from the sound and another picture of the face.

    A U-Net with the embedding of the sound at its bottleneck; with ``width=1`` its keys are the official ones.

    Args:
        width: factor on the channels of every layer; 1 is the official size.
        least: the smallest number of channels of a layer, except those of the sound: two or four cannot carry colours.
        residual: what is painted is added, as logits, to the frame's upper and the reference's lower half, which the
            untrained network returns. The official network adds nothing.
        side: of the faces, pixels, a multiple of 32; officially 96. The layers that meet the smallest map, 3×3
            officially, have its size.

    Attributes:
        code: length of what the decoder begins with.
    """

    def __init__(self, width: float = 1.0, least: int = 1, residual: bool = False, side: int = SIZE) -> None:
        super().__init__()
        self.residual, self.code = residual, max(least, round(512 * width))
        c16, c32, c64, c128, c256, c384, c512 = (
            max(least, round(c * width)) for c in (16, 32, 64, 128, 256, 384, 512)
        )
        self.face_encoder_blocks = nn.ModuleList(
            [
                nn.Sequential(ConvBlock(6, c16, 7, 1, 3)),
                halved(c16, c32, residuals=2),
                halved(c32, c64, residuals=3),
                *deep_blocks(c64, c128, c256, c512, side),
            ]
        )
        self.audio_encoder = audio_encoder(width)
        # Each input is the block before it and the encoder's map of the same size.
        self.face_decoder_blocks = nn.ModuleList(
            [
                nn.Sequential(ConvBlock(c512, c512, 1, 1, 0)),
                nn.Sequential(_UpBlock(c512 + c512, c512, side // 32, 1, 0, 0), _residual(c512)),
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
            faces: (B, 6, S, S) in [0, 1], BGR: the frame with its lower half black, then the reference.

        Returns:
            (B, 3, S, S) in [0, 1], BGR.
        """
        return self.paint(self.hear(mels), self.look(faces), faces)

    def look(self, faces: Tensor) -> Maps:
        """(B, 6, S, S) faces → their maps, the largest first."""
        maps, x = [], faces
        for block in self.face_encoder_blocks:
            x = block(x)
            maps.append(x)
        return maps

    def hear(self, mels: Tensor) -> Tensor:
        """(B, 80, 16) in [-4, 4] → (B, 512 width, 1, 1)."""
        return self.audio_encoder(mels.unsqueeze(1))

    def paint(self, code: Tensor, maps: Maps, faces: Tensor) -> Tensor:
        """Decode.

        Args:
            code: (B, code, 1, 1): what is to be painted.
            maps: of :meth:`look`; they are not changed.
            faces: (B, 6, S, S) in [0, 1], BGR, which ``residual`` adds to.

        Returns:
            (B, 3, S, S) in [0, 1], BGR.
        """
        x = code
        for block, seen in zip(self.face_decoder_blocks, reversed(maps), strict=True):
            x = torch.cat([block(x), seen], dim=1)
        if not self.residual:
            return self.output_block(x)
        half = faces.shape[2] // 2
        under = torch.cat([faces[:, :3, :half], faces[:, 3:, half:]], dim=2)
        # Far enough from black and white for moderate logits and useful gradients.
        return (self.output_block[:2](x) + under.clamp(0.02, 0.98).logit()).sigmoid()


def see(frames: Tensor, references: Tensor) -> Tensor:
    """What the generator sees of frames: their upper halves, and whole references.

    Args:
        frames: (N, 3, S, S) float in [0, 1], RGB.
        references: (N, 3, S, S) float in [0, 1], RGB, of the same person.

    Returns:
        (N, 6, S, S), BGR.
    """
    masked = frames.clone()
    masked[:, :, frames.shape[2] // 2 :] = 0
    return torch.cat([masked.flip(1), references.flip(1)], dim=1)


class _UpBlock(nn.Module):
    """Transposed convolution, batch normalisation, ReLU."""

    def __init__(
        self, cin: int, cout: int, kernel_size: int, stride: int, padding: int, output_padding: int
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ConvTranspose2d(cin, cout, kernel_size, stride, padding, output_padding), nn.BatchNorm2d(cout)
        )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv_block(x))


def _residual(channels: int) -> ConvBlock:
    return ConvBlock(channels, channels, 3, 1, 1, residual=True)


def halved(cin: int, cout: int, residuals: int) -> nn.Sequential:
    """Half the size, then so many residual convolutions: (B, cin, 2 h, 2 w) → (B, cout, h, w)."""
    return nn.Sequential(ConvBlock(cin, cout, 3, 2, 1), *(_residual(cout) for _ in range(residuals)))


def deep_blocks(c64: int, c128: int, c256: int, c512: int, side: int) -> list[nn.Sequential]:
    """The encoder of faces from a quarter of their side on, (B, c64, S/4, S/4), to (B, c512, 1, 1)."""
    return [
        halved(c64, c128, residuals=2),
        halved(c128, c256, residuals=2),
        halved(c256, c512, residuals=1),
        nn.Sequential(ConvBlock(c512, c512, side // 32, 1, 0), ConvBlock(c512, c512, 1, 1, 0)),
    ]


def _up(cin: int, cout: int) -> nn.Sequential:
    """Twice the size."""
    return nn.Sequential(_UpBlock(cin, cout, 3, 2, 1, 1), _residual(cout), _residual(cout))
