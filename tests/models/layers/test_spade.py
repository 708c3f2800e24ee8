"""Modulated normalisation, against its plain definition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.spade import AdaInBlock, Modulation, SpadeBlock, SpadeMaps, modulate


def test_maps_are_one_plus_gamma_and_beta() -> None:
    torch.manual_seed(0)
    maps, picture = SpadeMaps(4, 3, 6), torch.rand(2, 3, 8, 8)
    scale, shift = maps(picture)
    hidden = maps.conv1(picture)
    assert torch.allclose(scale, 1 + maps.gamma(hidden), atol=1e-6)
    assert torch.allclose(shift, maps.beta(hidden), atol=1e-6)


def two_steps(maps: SpadeMaps, picture: Tensor) -> Tensor:
    """(B, 2 channels, H, W): scale and shift as they are defined."""
    hidden = maps.conv1(picture)
    return torch.cat([1 + maps.gamma(hidden), maps.beta(hidden)], dim=1)


def test_one_convolution_where_it_takes_less_than_half_of_the_multiplications() -> None:
    assert all(SpadeMaps(64, modulating, 256).as_one for modulating in (3, 15, 32))
    assert SpadeMaps(256, 15, 256).as_one
    assert not SpadeMaps(256, 256, 256).as_one


@pytest.mark.parametrize("modulating", [2, 12], ids=["one convolution", "two convolutions"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 3), (4, 9), (5, 4), (6, 7), (8, 1), (17, 33)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_maps_and_their_gradients_at_every_size(
    modulating: int, size: tuple[int, int], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    maps = SpadeMaps(4, modulating, 12).to(dtype)
    assert maps.as_one == (modulating == 2)
    picture = torch.rand(2, modulating, *size, dtype=dtype, requires_grad=True)
    factors = torch.randn(2, 8, *size, dtype=dtype)

    def with_gradients(made: Tensor) -> list[Tensor]:
        return [made, *torch.autograd.grad(made, [picture, *maps.parameters()], factors)]

    found = with_gradients(torch.cat(maps(picture), dim=1))
    wanted = with_gradients(two_steps(maps, picture))
    for one, other in zip(found, wanted, strict=True):
        error = (one - other).abs().max() / other.abs().max()
        assert error < (1e-13 if dtype == torch.float64 else 1e-5)


def test_maps_in_half_precision() -> None:
    torch.manual_seed(0)
    maps, picture = SpadeMaps(4, 3, 16), torch.rand(2, 3, 9, 7)
    assert maps.as_one
    with torch.autocast("cpu", torch.bfloat16):
        found = maps(picture)
    assert {part.dtype for part in found} == {torch.bfloat16}
    made = torch.cat(found, dim=1).float()
    made.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in maps.parameters())
    assert (made - two_steps(maps, picture)).abs().max() < 0.02


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("size", "of"),
    [((2, 3, 5, 4), (2, 3, 5, 4)), ((1, 3, 5, 4), (2, 3, 5, 4)), ((2, 3, 5, 4), (2, 3, 1, 1))],
    ids=["maps", "one input", "vectors"],
)
def test_gradients_of_modulation(size: tuple[int, ...], of: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, scale, shift = (torch.randn(s, dtype=dtype, requires_grad=True) for s in (size, of, of))
    found = modulate(x, Modulation(scale, shift))
    wanted = F.leaky_relu(F.instance_norm(x) * scale + shift, 0.2)
    factors = torch.randn_like(wanted)
    pairs = zip(
        (found, *torch.autograd.grad(found, (x, scale, shift), factors)),
        (wanted, *torch.autograd.grad(wanted, (x, scale, shift), factors)),
        strict=True,
    )
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]
    for one, other in pairs:
        assert one.dtype == dtype
        assert one.shape == other.shape
        assert (one - other).abs().max() <= tolerance * other.abs().max()


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
