"""The fusion network ("blend net", section 3.2): from the composite to the final face."""

from __future__ import annotations

from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.narrow import Conv2d

#: ``direct``: the network's output is the face ("unlike traditional methods that predict the pixel residual");
#: ``residual``: it is added to the composite before the sigmoid, and is 0 at first.
Blend = Literal["direct", "residual"]

#: Colours nearer to 0 and 1 than this count as so near, for logits to stay finite.
MARGIN = 0.02


class FusionNetwork(nn.Module):
    """A U-Net of one halving. The paper gives no layers.

    There is no normalisation in it: that of a batch or of a picture would change the colours that it must keep.

    Args:
        channels: of the layers at full size; twice as many at half.
        blend: see :data:`Blend`.
    """

    def __init__(self, channels: int, blend: Blend = "direct") -> None:
        super().__init__()
        self.blend = blend
        self.first = Conv2d(4, channels, 5, padding=2)
        self.down = Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.inner = nn.ModuleList(Conv2d(2 * channels, 2 * channels, 3, padding=1) for _ in range(2))
        self.up = Conv2d(3 * channels, channels, 3, padding=1)
        self.last = Conv2d(channels, 3, 5, padding=2)
        if blend == "residual":
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(cast(Tensor, self.last.bias))

    def forward(self, composite: Tensor, share: Tensor) -> Tensor:
        """Blend.

        Args:
            composite: (B, 3, H, W) float in [0, 1].
            share: (B or 1, 1, H, W) float in [0, 1], where it is painted.

        Returns:
            (B, 3, H, W) float in [0, 1].
        """
        shown = torch.cat([composite, share.to(composite.dtype).expand(len(composite), -1, -1, -1)], dim=1)
        fine = _bent(self.first(shown))
        x = _bent(self.down(fine))
        for layer in self.inner:
            x = x + _bent(layer(x))
        x = F.interpolate(x, size=fine.shape[-2:], mode="nearest")
        made = self.last(_bent(self.up(torch.cat([x, fine], dim=1))))
        if self.blend == "residual":
            made = made + logits(composite)
        return torch.sigmoid(made)


def logits(pictures: Tensor) -> Tensor:
    """What a sigmoid makes the pictures of again, up to :data:`MARGIN` from black and white; any shape, in [0, 1]."""
    return torch.logit(pictures.float().clamp(MARGIN, 1 - MARGIN))


def _bent(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
