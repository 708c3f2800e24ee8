"""The visual quality discriminator of Wav2Lip + GAN (Prajwal et al., ACM MM 2020, section 3.4)."""

from __future__ import annotations

from torch import Tensor, nn

from baselines.wav2lip.network import SIZE


class QualityDiscriminator(nn.Module):
    """Distinguishes generated lower halves from real ones, frame by frame; the keys are official with ``width=1``.

    Args:
        width: factor on the channels of every layer; 1 is the official size.
        side: of the faces, pixels; officially 96. Larger ones are halved once more until at most 3×3 are left.
    """

    def __init__(self, width: float = 1.0, side: int = SIZE) -> None:
        super().__init__()
        c32, c64, c128, c256, c512 = (max(1, round(c * width)) for c in (32, 64, 128, 256, 512))
        deeper, left = [], side // 32
        while left > 3:
            deeper.append(nn.Sequential(_Block(c512, c512, 3, 2, 1), _Block(c512, c512, 3, 1, 1)))
            left = (left + 1) // 2
        self.face_encoder_blocks = nn.ModuleList(
            [
                nn.Sequential(_Block(3, c32, 7, 1, 3)),
                nn.Sequential(_Block(c32, c64, 5, (1, 2), 2), _Block(c64, c64, 5, 1, 2)),
                nn.Sequential(_Block(c64, c128, 5, 2, 2), _Block(c128, c128, 5, 1, 2)),
                nn.Sequential(_Block(c128, c256, 5, 2, 2), _Block(c256, c256, 5, 1, 2)),
                nn.Sequential(_Block(c256, c512, 3, 2, 1), _Block(c512, c512, 3, 1, 1)),
                nn.Sequential(_Block(c512, c512, 3, 2, 1), _Block(c512, c512, 3, 1, 1)),
                *deeper,
                nn.Sequential(_Block(c512, c512, left, 1, 0), _Block(c512, c512, 1, 1, 0)),
            ]
        )
        # A sequence of one, for its official key; the official sigmoid after it is part of the loss here.
        self.binary_pred = nn.Sequential(nn.Conv2d(c512, 1, 1))

    def features(self, frames: Tensor) -> Tensor:
        """(N, 3, S, S) in [0, 1], BGR → (N, 512 width, 1, 1) of the lower halves."""
        x = frames[:, :, frames.shape[2] // 2 :]
        for block in self.face_encoder_blocks:
            x = block(x)
        return x

    def forward(self, frames: Tensor) -> Tensor:
        """(N, 3, S, S) in [0, 1], BGR → (N,) logits: above 0 where a frame looks real."""
        return self.binary_pred(self.features(frames)).flatten()


class _Block(nn.Module):
    """Convolution and LeakyReLU."""

    def __init__(
        self, cin: int, cout: int, kernel_size: int, stride: int | tuple[int, int], padding: int
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(nn.Conv2d(cin, cout, kernel_size, stride, padding))
        self.act = nn.LeakyReLU(0.01)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv_block(x))
