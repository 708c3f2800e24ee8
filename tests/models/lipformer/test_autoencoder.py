"""The face encoder and decoder: shapes, halves, normalisation and attention."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.lipformer.autoencoder import AttentionBlock, FaceDecoder, FaceEncoder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("attention", [False, True])
def test_shapes(attention: bool) -> None:
    channels = (4, 8, 12)
    encoder = FaceEncoder(channels, 6, 1, attention)
    decoder = FaceDecoder(channels, 6, 1, attention)
    assert encoder.factor == 4
    features = encoder(torch.rand(2, 3, 16, 32))
    assert features.shape == (2, 6, 4, 8)
    assert decoder(features, features).shape == (2, 3, 32, 32)


def test_patches_are_pixels_of_the_highest_resolution() -> None:
    encoder = FaceEncoder((8, 12), 6, 1, False, patch=4)
    decoder = FaceDecoder((8, 12), 6, 1, False, patch=4)
    assert encoder.factor == 8
    features = encoder(torch.rand(2, 3, 16, 32))
    assert features.shape == (2, 6, 2, 4)
    assert decoder(features, features).shape == (2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"\(20, 32\) is no multiple of 8"):
        encoder(torch.rand(1, 3, 20, 32))


def test_a_patch_goes_in_and_out_the_same_way() -> None:
    """With all layers taken away, the picture comes back: pixels of a patch keep their places."""
    encoder, decoder = FaceEncoder((4,), 12, 0, False, patch=2), FaceDecoder((4,), 12, 0, False, patch=2)
    encoder.layers = decoder.layers = nn.Sequential()
    picture = torch.rand(1, 3, 4, 6)
    features = encoder(picture)
    # Unit length is all that has been done to it.
    length = nn.functional.pixel_unshuffle(picture * 2 - 1, 2).norm(dim=1, keepdim=True)
    made = decoder(features[:, :, :1] * length[:, :, :1], features[:, :, 1:] * length[:, :, 1:])
    torch.testing.assert_close(made, picture)


def test_features_are_of_unit_length() -> None:
    features = FaceEncoder((4, 8), 6, 1)(torch.rand(1, 3, 8, 8))
    torch.testing.assert_close(features.norm(dim=1), torch.ones(1, 4, 4))
    assert features.std() > 0.1


def test_a_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(10, 8\) is no multiple of 4"):
        FaceEncoder((4, 4, 4), 6, 1)(torch.rand(1, 3, 10, 8))


def test_the_upper_half_is_above() -> None:
    decoder = FaceDecoder((4, 4), 6, blocks=0, attention=False)
    for norm in [module for module in decoder.modules() if isinstance(module, nn.GroupNorm)]:
        # What it is for aside, it carries a change anywhere to everywhere.
        norm.forward = lambda x: x  # type: ignore[method-assign]
    halves = torch.rand(2, 1, 6, 8, 16)
    before = decoder(*halves)
    halves[0, :, :, 0] += 1
    changed = (decoder(*halves) - before).abs().sum((0, 1, 3)) > 1e-6
    assert changed[0] and not changed[16:].any()


def test_made_pictures_start_about_grey() -> None:
    """The scale: what the network gives as -1 to 1 is 0 to 1 outside."""
    decoder = FaceDecoder((4, 4), 6, 1)
    last = decoder.layers[-1]
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, 0.5)
    made = decoder(torch.rand(1, 6, 2, 4), torch.rand(1, 6, 2, 4))
    torch.testing.assert_close(made, torch.full((1, 3, 8, 8), 0.75))


def test_groups_are_those_of_vqgan() -> None:
    """At VQGAN's 128 channels and more 32 groups; never fewer than four channels each, where there are four."""
    groups = {
        width: FaceEncoder((width, width), 4, 1, False).layers[1].layers[0].num_groups
        for width in (2, 4, 8, 20, 96, 128, 256)
    }
    assert groups == {2: 1, 4: 1, 8: 2, 20: 5, 96: 24, 128: 32, 256: 32}


def test_attention_by_hand() -> None:
    block = AttentionBlock(8)
    x = torch.randn(2, 8, 3, 5)
    mapped = block.norm(x).flatten(2).transpose(1, 2) @ block.project_in.weight[:, :, 0, 0].T
    query, key, value = (mapped + block.project_in.bias).split(8, dim=2)
    shares = (query @ key.transpose(1, 2) / 8**0.5).softmax(dim=2)
    mixed = shares @ value @ block.project_out.weight[:, :, 0, 0].T + block.project_out.bias
    torch.testing.assert_close(block(x), x + mixed.transpose(1, 2).view(2, 8, 3, 5))


def test_attention_sits_at_the_lowest_resolution_alone() -> None:
    for network in (FaceEncoder((4, 8, 12), 6, 1, True), FaceDecoder((4, 8, 12), 6, 1, True)):
        blocks = [module for module in network.modules() if isinstance(module, AttentionBlock)]
        assert [block.project_out.out_channels for block in blocks] == [12]
    plain = FaceEncoder((4, 8, 12), 6, 1, False)
    assert not any(isinstance(module, AttentionBlock) for module in plain.modules())


def test_every_parameter_is_used() -> None:
    encoder, decoder = FaceEncoder((4, 8), 6, 1), FaceDecoder((4, 8), 6, 1)
    upper, lower = encoder(torch.rand(2, 3, 8, 16)), encoder(torch.rand(2, 3, 8, 16))
    decoder(upper, lower).square().sum().backward()
    for network in (encoder, decoder):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
