"""Modulated normalisation, against its plain definition."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from models.layers.spade import AdaInBlock, SpadeBlock, SpadeMaps


def test_maps_are_one_plus_gamma_and_beta() -> None:
    torch.manual_seed(0)
    maps, picture = SpadeMaps(4, 3, 6), torch.rand(2, 3, 8, 8)
    scale, shift = maps(picture)
    hidden = maps.conv1(picture)
    assert torch.allclose(scale, 1 + maps.gamma(hidden), atol=1e-6)
    assert torch.allclose(shift, maps.beta(hidden), atol=1e-6)


def test_spade_normalises_modulates_and_convolves_twice() -> None:
    torch.manual_seed(0)
    block, x, picture = SpadeBlock(4, 3, 6), torch.rand(2, 4, 8, 8), torch.rand(2, 3, 8, 8)
    wanted = x
    for layer, conv in ((block.spade_layer_1, block.conv_1), (block.spade_layer_2, block.conv_2)):
        scale, shift = layer(picture)
        deviation = wanted.std((2, 3), correction=0, keepdim=True)
        normal = (wanted - wanted.mean((2, 3), keepdim=True)) / deviation
        wanted = conv(F.leaky_relu(normal * scale + shift, 0.2))
    # The norm adds 1e-5 to the variance.
    assert torch.allclose(block(x, block.maps(picture)), wanted, atol=1e-3)


def test_one_input_serves_a_batch_of_modulations() -> None:
    torch.manual_seed(0)
    block, x, picture = SpadeBlock(4, 3, 6), torch.rand(1, 4, 8, 8), torch.rand(3, 3, 8, 8)
    maps = block.maps(picture)
    assert torch.allclose(block(x, maps), block(x.expand(3, -1, -1, -1), maps), atol=1e-6)


def test_adain_normalises_modulates_and_convolves_twice() -> None:
    torch.manual_seed(0)
    block, x, vector = AdaInBlock(4, 5, 6), torch.rand(2, 4, 8, 8), torch.rand(2, 5)
    wanted = x
    for layer, conv in ((block.adain_layer_1, block.conv_1), (block.adain_layer_2, block.conv_2)):
        hidden = layer.mlp_shared(vector)
        scale, shift = 1 + layer.mlp_gamma(hidden), layer.mlp_beta(hidden)
        normal = F.instance_norm(wanted)
        wanted = conv(F.leaky_relu(normal * scale[..., None, None] + shift[..., None, None], 0.2))
    assert torch.allclose(block(x, vector), wanted, atol=1e-5)


def test_adain_without_a_vector_only_normalises() -> None:
    torch.manual_seed(0)
    block, x = AdaInBlock(4, 0, 0), torch.rand(2, 4, 8, 8)
    wanted = x
    for conv in (block.conv_1, block.conv_2):
        wanted = conv(F.leaky_relu(F.instance_norm(wanted), 0.2))
    assert torch.allclose(block(x, None), wanted)
    assert {key.split(".")[0] for key in block.state_dict()} == {"conv_1", "conv_2"}
