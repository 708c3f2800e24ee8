"""The convolution blocks of Wav2Lip's code, which IP-LAP's audio encoders are made of too."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers.folding import normalised
from models.layers.narrow import Conv2d


class ConvBlock(nn.Module):
    """Convolution, batch normalisation, optional residual, ReLU.

    Keys are those of the official checkpoints (``conv_block.0`` convolution, ``conv_block.1`` normalisation).

    Args:
        cin: input channels.
        cout: output channels; equal to ``cin`` where ``residual``.
        kernel_size: as :class:`torch.nn.Conv2d` takes it.
        stride: as :class:`torch.nn.Conv2d` takes it.
        padding: as :class:`torch.nn.Conv2d` takes it.
        residual: add the input before the activation.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int],
        padding: int | tuple[int, int],
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(Conv2d(cin, cout, kernel_size, stride, padding), nn.BatchNorm2d(cout))
        self.act = nn.ReLU()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, H, W) float → (B, cout, H', W') float."""
        conv, norm = self.conv_block
        out = normalised(conv, norm, x)  # type: ignore[arg-type]
        return self.act(out + x if self.residual else out)


def audio_encoder(width: float = 1.0) -> nn.Sequential:
    """Wav2Lip's encoder of a mel chunk: (B, 1, 80, 16) in [-4, 4] → (B, 512 width, 1, 1).

    The official layers of Wav2Lip's ``audio_encoder`` (Prajwal et al., MM 2020) and of IP-LAP's ``mel_encoder``,
    whose last activation is Tanh in the landmark generator.

    Args:
        width: factor on the channels of every layer; 1 is the official size.
    """
    c32, c64, c128, c256, c512 = (max(1, round(c * width)) for c in (32, 64, 128, 256, 512))
    return nn.Sequential(
        ConvBlock(1, c32, 3, 1, 1),
        ConvBlock(c32, c32, 3, 1, 1, residual=True),
        ConvBlock(c32, c32, 3, 1, 1, residual=True),
        ConvBlock(c32, c64, 3, (3, 1), 1),
        ConvBlock(c64, c64, 3, 1, 1, residual=True),
        ConvBlock(c64, c64, 3, 1, 1, residual=True),
        ConvBlock(c64, c128, 3, 3, 1),
        ConvBlock(c128, c128, 3, 1, 1, residual=True),
        ConvBlock(c128, c128, 3, 1, 1, residual=True),
        ConvBlock(c128, c256, 3, (3, 2), 1),
        ConvBlock(c256, c256, 3, 1, 1, residual=True),
        ConvBlock(c256, c512, 3, 1, 0),
        ConvBlock(c512, c512, 1, 1, 0),
    )
