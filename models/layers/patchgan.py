"""The multi-scale patch discriminator of pix2pixHD (Wang et al., CVPR 2018)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

#: Of each scale, from the full resolution down: the map of every layer; the last holds the scores.
Maps = list[list[Tensor]]


class PatchGAN(nn.Module):
    """Scores of overlapping patches, on a picture and its halvings.

    Keys are the official ones: ``scale<s>_layer<l>``, where the highest ``s`` sees the full resolution.

    Args:
        cin: channels of a picture.
        width: factor on the channels of every layer; 1 is the official size.
        layers: layers between the first convolution and the scores; all but the last of them halve the size.
        scales: resolutions looked at.
    """

    def __init__(self, cin: int = 3, width: float = 1.0, layers: int = 3, scales: int = 2) -> None:
        super().__init__()
        self.scales = scales
        self.depth = layers + 2
        channels = [max(1, round(min(64 << level, 512) * width)) for level in range(layers + 1)]
        for scale in range(scales):
            for layer, block in enumerate(_blocks([cin, *channels])):
                self.add_module(f"scale{scale}_layer{layer}", block)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def forward(self, pictures: Tensor) -> Maps:
        """(B, cin, H, W) float → the maps of each scale and layer, (B, C, h, w) float."""
        found: Maps = []
        for scale in range(self.scales):
            if scale:
                pictures = F.avg_pool2d(pictures, 3, stride=2, padding=1, count_include_pad=False)
            x, maps = pictures, []
            for layer in range(self.depth):
                x = self.get_submodule(f"scale{self.scales - 1 - scale}_layer{layer}")(x)
                maps.append(x)
            found.append(maps)
        return found


def _blocks(channels: list[int]) -> list[nn.Sequential]:
    """The layers of one scale; ``channels`` of the picture and of every layer but the scores."""
    blocks = [nn.Sequential(nn.Conv2d(channels[0], channels[1], 4, 2, 2), nn.LeakyReLU(0.2, inplace=True))]
    for i in range(1, len(channels) - 1):
        stride = 1 if i == len(channels) - 2 else 2
        blocks.append(
            nn.Sequential(
                nn.Conv2d(channels[i], channels[i + 1], 4, stride, 2),
                nn.InstanceNorm2d(channels[i + 1]),
                nn.LeakyReLU(0.2, inplace=True),
            )
        )
    blocks.append(nn.Sequential(nn.Conv2d(channels[-1], 1, 4, 1, 2)))
    return blocks
