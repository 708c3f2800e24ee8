"""VGG-19 up to relu_5_1: layers, keys and loading of the whole file."""

from __future__ import annotations

import pytest
import torch

from models.layers.vgg import VGG19


@pytest.fixture(scope="module")
def vgg() -> VGG19:
    return VGG19().eval().requires_grad_(False)


def test_layers_are_torchvisions(vgg: VGG19) -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        whole = torchvision.models.vgg19()
    own = [str(layer) for layer in vgg.features]
    assert own == [str(layer) for layer in whole.features[:30]]
    shapes = {key: value.shape for key, value in whole.state_dict().items()}
    assert all(shapes[key] == value.shape for key, value in vgg.state_dict().items())


def test_maps_are_taken_after_activations(vgg: VGG19) -> None:
    picture = torch.randn(1, 3, 32, 32)
    maps = vgg(picture)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
        (512, 2, 2),
    ]
    assert torch.equal(maps[0], vgg.features[0](picture).relu())
    assert all((m >= 0).all() for m in maps)


def test_the_whole_file_loads(vgg: VGG19) -> None:
    state = vgg.state_dict()
    whole = {**state, "features.30.weight": torch.zeros(1), "classifier.6.bias": torch.zeros(1)}
    VGG19().load_state_dict(whole)
    with pytest.raises(RuntimeError, match=r"features\.0\.weight"):
        VGG19().load_state_dict({key: value for key, value in whole.items() if key != "features.0.weight"})
    with pytest.raises(RuntimeError, match="stranger"):
        VGG19().load_state_dict({**whole, "stranger": torch.zeros(1)})
