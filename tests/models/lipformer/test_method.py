from __future__ import annotations

import sys
from importlib import import_module, resources
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from bench.common.methods import METHODS
from models.base import Crop, DataInfo, Drive, Footage, Shot
from models.layers.stylegan2 import StyleGAN2Discriminator
from models.lipformer.inference import SIDE, VIEW
from models.lipformer.method import LipFormer, LipFormerMethodConfig
from prep.sample_spec import Sound
from tests.models.fakes import FakeFootage, FakeSpeech

PRESETS = ("paper", "tiny")
GENERATE = {"encoder", "upper", "lower", "decoder", "audio", "warp", "transformer"}


def preset(name: str, **changes: Any) -> dict[str, Any]:
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    table = toml.loads((resources.files("models.lipformer") / f"{name}.toml").read_text("utf-8"))
    for key, value in changes.items():
        section, _, field = key.partition("_")
        table[section][field] = value
    return table


def method(name: str, **changes: Any) -> LipFormer:
    with torch.device("meta"):
        return LipFormer(LipFormerMethodConfig.model_validate(preset(name, **changes)), DataInfo())


def test_the_registry_knows_it():
    assert METHODS["lipformer"] is LipFormer


@pytest.mark.parametrize("name", PRESETS)
def test_presets_make_whole_methods(name):
    made = method(name)
    assert list(made.stages) == ["codebook", "lipformer"]
    adversarial = {"discriminator"} if name == "paper" else set()
    assert set(made.networks) == GENERATE | adversarial
    assert set(made.needed_networks) == GENERATE
    for stage_name, stage in made.stages.items():
        assert stage.name == stage_name
        assert all(made.networks[key] is network for key, network in stage.networks.items())
    second = made.stages["lipformer"]
    # The decoder is trained on; encoder and codebooks stay.
    assert set(second.networks) == {"audio", "warp", "transformer", "decoder"} | adversarial
    assert set(second.frozen) == {"encoder", "upper", "lower"} | ({"vgg"} if name == "paper" else set())
    assert all(made.networks[key] is second.frozen[key] for key in ("encoder", "upper", "lower"))


@pytest.mark.parametrize(("name", "grid"), [("paper", (8, 16)), ("tiny", (16, 32))])
def test_presets_have_a_grid_of_codes(name, grid):
    made = method(name, lipformer_residual=False)  # its distances need a real device
    config = made.config.codebook
    assert (config.rows, config.columns) == grid
    with torch.device("meta"):
        half = torch.zeros(2, 3, config.size // 2, config.size)
        features = made.lips.encoder(half)
        assert features.shape == (2, config.dim, *grid)
        assert made.lips.decoder(features, features).shape == (2, 3, config.size, config.size)
        logits = made.lips.predict(features, torch.zeros(2, 80, 16))
    assert logits.shape == (2, config.lower_codes, *grid)


def test_the_paper_spells_out_every_setting():
    spelt = preset("paper")
    resolved = LipFormerMethodConfig.model_validate(spelt)
    for section in ("codebook", "lipformer", "generate"):
        assert set(type(getattr(resolved, section)).model_fields) == set(spelt[section])


def test_the_paper_has_the_papers_figures():
    config = LipFormerMethodConfig.model_validate(preset("paper"))
    for stage in (config.codebook, config.lipformer):
        assert (stage.learning_rate, stage.betas) == (1e-4, (0.9, 0.95))
        assert (stage.pixel_weight, stage.perceptual_weight, stage.adversarial_weight) == (1.0, 0.1, 0.1)
    assert config.lipformer.transformer_learning_rate == 8e-5
    assert config.lipformer.cross_entropy_weight == 0.5
    assert config.codebook.beta == 0.25
    assert config.codebook.size == 512


def test_vgg_comes_from_elsewhere_or_not_at_all():
    made = method("paper")
    (needed,) = made.assets.values()
    assert needed.weights == "vgg19"
    assert all(stage.frozen["vgg"] is needed.module for stage in made.stages.values())
    # The options that the message names do away with it.
    changes = {}
    for words in needed.without.split(" --set "):
        key, _, value = words.partition("=")
        changes[key.replace(".", "_", 1)] = float(value)
    assert not method("paper", **changes).assets
    (left,) = method("paper", codebook_perceptual_weight=0.0).assets.values()
    assert left.without == "lipformer.perceptual_weight=0"
    assert not method("tiny").assets


def test_one_discriminator_for_both_stages_or_for_one():
    both = method("paper")
    assert (
        both.stages["codebook"].networks["discriminator"]
        is both.stages["lipformer"].networks["discriminator"]
    )
    second = method("paper", codebook_adversarial_weight=0.0)
    assert "discriminator" not in second.stages["codebook"].networks
    assert isinstance(second.networks["discriminator"], StyleGAN2Discriminator)


@pytest.mark.parametrize(
    ("changes", "missing"), [({"lipformer_warping": False}, {"warp"}), ({"lipformer_gumbel": False}, set())]
)
def test_ablations_are_options(changes, missing):
    made = method("tiny", **changes)
    assert set(made.networks) == GENERATE - missing
    assert set(made.needed_networks) == GENERATE - missing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lipformer_heads": 5}, "codebook.dim 64 is not a multiple of lipformer.heads 5"),
        ({"codebook_sise": 64}, "sise"),
        ({"generate_feahter": 0.1}, "feahter"),
    ],
)
def test_options_that_make_no_sense(changes, message):
    table = preset("tiny")
    table.setdefault("generate", {})
    for key, value in changes.items():
        section, _, field = key.partition("_")
        table[section][field] = value
    with pytest.raises(ValidationError, match=message):
        LipFormerMethodConfig.model_validate(table)


class Faces(FakeFootage):
    def crop(self, view: str, shot: Shot) -> Crop | None:
        assert view == VIEW
        if not self.detected[shot.index]:
            return None
        rng = np.random.default_rng(shot.index)
        crop = np.repeat(np.repeat(rng.integers(0, 256, (8, 8, 3), np.uint8), 64, axis=0), 64, axis=1)
        return Crop(crop, np.array([[SIDE / 64, 0, 0], [0, SIDE / 64, 0]]))


def test_generation_is_deterministic_and_speaks_with_the_sound():
    torch.manual_seed(0)
    # A residual transformer says nothing before it is trained.
    table = preset("tiny", lipformer_residual=False)
    made = LipFormer(LipFormerMethodConfig.model_validate(table), DataInfo())
    for network in made.networks.values():
        network.eval()
    # As much of the sound as training would let in.
    for layer in made.lips.transformer.layers:
        torch.nn.init.normal_(layer.norm.modulation.weight)

    class Other(FakeSpeech):
        def chunk(self, frame: int, sound: Sound) -> np.ndarray:
            return -super().chunk(frame, sound) - 1

    def say(speech: FakeSpeech) -> list[np.ndarray]:
        footage: Footage = Faces(3, side=64, missing=[1])
        with torch.no_grad():
            return list(made.generate(Drive(footage, speech, footage)))

    first, again, other = say(FakeSpeech()), say(FakeSpeech()), say(Other())
    for i in range(3):
        np.testing.assert_array_equal(first[i], again[i])
        assert np.array_equal(first[i], other[i]) == (i == 1)
        np.testing.assert_array_equal(first[i][:32], other[i][:32])
