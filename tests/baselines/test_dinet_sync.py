"""DINet's expert, and how both kinds of expert measure painted mouths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from baselines.dinet.sync import sync_loss
from baselines.sync_expert.network import SyncNet, cosine_bce
from baselines.sync_expert.score_network import MEL, ScoreNet
from models.layers.mouth_square import MouthSquare
from tests.baselines import official

SYSTEM = "dinet_syncnet"


def test_scores_and_embeddings_are_the_official_ones() -> None:
    network = official.loaded(SYSTEM, ScoreNet())
    assert isinstance(network, ScoreNet)
    given, expected = official.inputs(SYSTEM), official.outputs(SYSTEM)
    with torch.no_grad():
        made = {
            "score": network(given["image"], given["audio"]),
            "image_embedding": network.see(given["image"]),
            "audio_embedding": network.hear(given["audio"]),
        }
    for name, value in made.items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-4)


@pytest.mark.parametrize("mouth", [64, 128])
def test_a_place_of_the_map_is_32_pixels(mouth: int) -> None:
    network = ScoreNet(width=0.05, hears=MEL)
    with torch.no_grad():
        scores = network(torch.rand(2, 15, mouth, mouth), torch.rand(2, 80, 16))
    assert scores.shape == (2, 1, mouth // 32, mouth // 32)


def test_its_loss_is_the_distance_of_the_scores_of_the_square_from_1() -> None:
    torch.manual_seed(0)
    network, square = ScoreNet(width=0.05).eval(), MouthSquare(64)
    frames, sounds = torch.rand(2, 5, 3, 104, 80, requires_grad=True), torch.randn(2, 29, 9)
    loss = sync_loss(network, sounds, frames, square)
    mouths = frames[..., 32:96, 8:72].flatten(1, 2)
    torch.testing.assert_close(loss, (network(mouths, sounds) - 1).square().mean())
    (gradient,) = torch.autograd.grad(loss, frames)
    assert (gradient != 0).any()
    assert not square.hide(gradient).any()


@pytest.mark.parametrize("coarse", [False, True])
def test_an_expert_of_single_frames_sees_small_faces_as_it_sees_large_ones(coarse: bool) -> None:
    torch.manual_seed(0)
    expert = SyncNet("mouth416x320", 0.05, coarse, apart=True).eval()
    large = torch.rand(2, 5, 3, 416, 320)
    small = F.avg_pool2d(large.flatten(0, 1), 4).unflatten(0, (2, 5))
    sounds = torch.rand(2, 80, 16)
    losses = [sync_loss(expert, sounds, x, MouthSquare(m)) for x, m in ((large, 256), (small, 64))]
    torch.testing.assert_close(losses[0], losses[1])


def test_small_faces_are_enlarged_for_an_expert_of_whole_windows() -> None:
    torch.manual_seed(0)
    expert = SyncNet("mouth416x320", 0.05).eval()
    small, sounds = torch.rand(2, 5, 3, 104, 80, requires_grad=True), torch.rand(2, 80, 16)
    loss = sync_loss(expert, sounds, small, MouthSquare(64))
    large = F.interpolate(small.flatten(0, 1), scale_factor=4, mode="bilinear").unflatten(0, (2, 5))
    heard, seen = expert(sounds, expert.lips(large))
    torch.testing.assert_close(loss, cosine_bce((heard * seen).sum(dim=1), 1))
    loss.backward()
    assert small.grad is not None and small.grad[..., 40:90, 16:60].any()


def test_faces_of_another_size_than_the_square_are_refused() -> None:
    with pytest.raises(ValueError, match="104×80"):
        sync_loss(ScoreNet(width=0.05), torch.randn(1, 29, 9), torch.rand(1, 5, 3, 208, 160), MouthSquare(64))
