from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines.dinet.network import LOGITS, MEL, Generator, official_networks
from bench.weights.tensors import load_state_dict
from models.layers.mouth_square import MouthSquare
from models.layers.picture_discriminator import PictureDiscriminator
from tests.baselines import official


def small(**changes: Any) -> Generator:
    torch.manual_seed(0)
    return Generator(**{"width": 0.05, "references": 2, **changes}).eval()


def given(frames: int = 2, references: int = 2, hears: tuple[int, int] = LOGITS) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(1)
    shapes = (frames, 3, 52, 40), (frames, 3 * references, 52, 40), (frames, *hears)
    return tuple(torch.rand(*shape, generator=rng) for shape in shapes)


def test_pictures_are_the_official_ones() -> None:
    network = official.loaded("dinet", Generator())
    inputs, expected = official.inputs("dinet"), official.outputs("dinet")
    with torch.no_grad():
        image = network(inputs["source_img"], inputs["ref_img"], inputs["audio_feature"])
    np.testing.assert_allclose(image, expected["image"], rtol=0, atol=1e-4)


def test_the_papers_form_of_adaat_paints_other_pictures() -> None:
    """The parity above sees which form is in use."""
    values = given()
    with torch.no_grad():
        assert (small(mixed=True)(*values) - small(mixed=False)(*values)).abs().max() > 1e-3


@pytest.mark.parametrize("hears", [LOGITS, MEL])
@pytest.mark.parametrize("references", [1, 5])
@pytest.mark.parametrize("width", [0.25, 0.03, 0.0001])
def test_networks_of_any_width(width: float, references: int, hears: tuple[int, int]) -> None:
    network = small(width=width, references=references, hears=hears)
    with torch.no_grad():
        painted = network(*given(references=references, hears=hears))
    assert painted.shape == (2, 3, 52, 40)
    assert 0 <= float(painted.min()) <= float(painted.max()) <= 1


def test_references_serve_consecutive_frames() -> None:
    network = small()
    sources, references, sounds = given(6)
    references = references[:2]
    with torch.no_grad():
        found = network(sources, references, sounds)
        one_by_one = [
            network(sources[i : i + 1], references[i // 3 : i // 3 + 1], sounds[i : i + 1]) for i in range(6)
        ]
        seen_before = network.paint(sources, network.look(references), sounds)
    torch.testing.assert_close(found, torch.cat(one_by_one), atol=1e-5, rtol=0)
    assert torch.equal(found, seen_before)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_pictures_depend_on_source_references_and_sound(part: int, mixed: bool) -> None:
    # In training mode, in which the normalisation of an untrained network lets the code through.
    network = small(width=0.25, mixed=mixed).train()
    values = list(given())
    with torch.no_grad():
        before = network(*values)
        values[part] = 1 - values[part]
        assert (network(*values) - before).abs().max() > 1e-3


def test_all_weights_learn() -> None:
    network = small().train()
    network(*given(4)).square().mean().backward()
    without = {name for name, weights in network.named_parameters() if not weights.grad.abs().sum()}
    assert not without


# Official checkpoints -----------------------------------------------------------------------------------------------


def saved(folder: Path, networks: dict[str, nn.Module], inner: str = "module.") -> Path:
    """As the authors' training writes its checkpoints."""
    states = {
        name: {f"{inner}{key}": value for key, value in network.state_dict().items()}
        for name, network in networks.items()
    }
    path = folder / "netG_model_epoch_1.pth"
    torch.save({"epoch": 1, "state_dict": states, "optimizer": {"net_g": {"state": {}}}}, path)
    return path


@pytest.mark.parametrize("inner", ["module.", ""])
def test_the_networks_of_the_authors_checkpoints(tmp_path: Path, inner: str) -> None:
    networks = {
        "net_g": Generator(),
        "net_dI": PictureDiscriminator(),
        "net_dV": PictureDiscriminator(15),
    }
    found = official_networks(load_state_dict(saved(tmp_path, networks, inner)))
    assert list(found) == ["generator", "discriminator", "clip_discriminator"]
    for state, network in zip(found.values(), networks.values(), strict=True):
        expected = network.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in state)


def test_a_generator_alone(tmp_path: Path) -> None:
    state = Generator().state_dict()
    wrapped = load_state_dict(saved(tmp_path, {"net_g": Generator()}))
    assert list(official_networks(wrapped)) == list(official_networks(state)) == ["generator"]


@pytest.mark.parametrize(
    ("networks", "error"),
    [
        ({"net_g": PictureDiscriminator()}, "the generator network misses source_in_conv.0.conv.weight"),
        ({"net_dV": PictureDiscriminator()}, r"the clip_discriminator network is \(128, 3, 4, 4\), not"),
        ({"other": nn.Linear(1, 1)}, "the generator network misses source_in_conv.0.conv.weight"),
        ({"net_g": Generator(references=3)}, r"ref_in_conv.0.conv.weight .* \(64, 9, 7, 7\), not \(64, 15"),
    ],
)
def test_other_checkpoints(tmp_path: Path, networks: dict[str, nn.Module], error: str) -> None:
    with pytest.raises(ValueError, match=f"not a checkpoint of DINet: .*{error}"):
        official_networks(load_state_dict(saved(tmp_path, networks)))


def test_the_residual_generator_begins_with_the_face_and_its_first_picture() -> None:
    sources, references, sounds = given(4, hears=MEL)
    sources, references = 0.1 + 0.8 * sources, 0.1 + 0.8 * references[:2]
    square = MouthSquare(32)
    with torch.no_grad():
        painted = small(hears=MEL, residual=True)(square.hide(sources), references, sounds)
    expected = sources.clone()
    square.cut(expected)[:] = square.cut(references[[0, 0, 1, 1], :3])
    torch.testing.assert_close(painted, expected)
