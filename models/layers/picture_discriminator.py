"""The discriminator of DINet (Zhang et al., AAAI 2023), of pictures and of windows of them; G4G has it too."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


class PictureDiscriminator(nn.Module):
    """Scores overlapping patches of a picture, for a least-squares loss; with ``width=1`` its keys are official.

    Its convolutions have no padding: a face of 104×80 gets 7×4 scores, one of 416×320 gets 46×34.

    Args:
        cin: channels of what is judged: 3 of a picture; 15 of five frames, one after the other, for DINet's D_V.
        width: factor on the channels of every layer; 1 is the official size.
    """

    def __init__(self, cin: int = 3, width: float = 1.0) -> None:
        super().__init__()
        c128, c256 = (max(1, round(c * width)) for c in (128, 256))
        sizes = (cin, c128, c256, c256, c256)
        self.down_blocks = nn.ModuleList(_Block(*pair) for pair in pairwise(sizes))
        self.conv = nn.Conv2d(c256, 1, 1)

    def features(self, pictures: Tensor) -> Tensor:
        """(B, cin, H, W) in [0, 1] → (B, 256 width, h, w): the last map before the scores."""
        first, *others = self.down_blocks
        x = first(pictures)
        for block in others:
            x = block(F.avg_pool2d(x, 2))
        return x

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, cin, H, W) in [0, 1], RGB → (B, 1, h, w) scores: 1 is real, 0 is generated."""
        return self.conv(self.features(pictures))


class _Block(nn.Module):
    """Convolution and LeakyReLU."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 4)

    def forward(self, x: Tensor) -> Tensor:
        # In place: of two large maps, the backward pass needs one.
        return F.leaky_relu(self.conv(x), 0.2, inplace=True)
