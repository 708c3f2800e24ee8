"""VGG-19 as a measure of similarity (Simonyan and Zisserman, ICLR 2015; Johnson et al., ECCV 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

#: Places of relu_1_1, relu_2_1, relu_3_1, relu_4_1 and relu_5_1 among torchvision's ``vgg19().features``.
TAPS = (1, 6, 11, 20, 29)

#: What ImageNet's networks of torchvision expect: RGB in [0, 1] less the mean, by the deviation.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalised(pictures: Tensor) -> Tensor:
    """(..., 3, H, W) float in [0, 1], RGB → what :class:`VGG19` was trained with."""
    mean, std = (pictures.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (pictures - mean) / std


class VGG19(nn.Module):
    """Torchvision's layers up to relu_5_1, under its keys (``features.N.weight``).

    :meth:`load_state_dict` takes torchvision's whole file and leaves out what comes after.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        cin = 3
        for cout, convolutions in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 1)):
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(convolutions):
                layers += [nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU(inplace=True)]
                cin = cout
        self.features = nn.Sequential(*layers)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """(B, 3, H, W) float, normalised → the five maps of :data:`TAPS`, (B, C, h, w) float."""
        maps = []
        for place, layer in enumerate(self.features):
            pictures = layer(pictures)
            if place in TAPS:
                maps.append(pictures)
        return maps

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As :meth:`torch.nn.Module.load_state_dict`, of this network's file or of the whole VGG-19."""
        unused = ("classifier.", *(f"features.{place}." for place in range(len(self.features), 37)))
        used = {key: value for key, value in state_dict.items() if not key.startswith(unused)}
        return super().load_state_dict(used, strict, assign)
