from __future__ import annotations

import json
import sys
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from bench.common.methods import METHODS
from models.base import DataInfo, Drive
from models.ipl.method import IPL, IPLConfig
from prep.sample_spec import Sound
from tests.models.fakes import FakeFootage, FakeSpeech

PARITY = Path(__file__).resolve().parents[2] / "parity"
PRESETS = ("paper", "tiny")


def preset(name: str, **changes: Any) -> dict[str, Any]:
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    table = toml.loads((resources.files("models.ipl") / f"{name}.toml").read_text("utf-8"))
    for key, value in changes.items():
        section, _, field = key.partition("_")
        table[section][field] = value
    return table


def method(name: str, **changes: Any) -> IPL:
    return IPL(IPLConfig.model_validate(preset(name, **changes)), DataInfo())


def official(system: str) -> dict[str, Tensor]:
    """A state dict of official keys and shapes, without values."""
    entries = json.loads((PARITY / system / "spec.json").read_text())["state_dict"]
    return {key: torch.empty(shape, device="meta") for key, shape, _ in entries}


def test_the_registry_knows_it():
    assert METHODS["ipl"] is IPL


@pytest.mark.parametrize("name", PRESETS)
def test_presets_make_whole_methods(name):
    with torch.device("meta"):
        made = method(name)
    assert list(made.stages) == ["landmark", "render"]
    adversarial = {"discriminator"} if name == "paper" else set()
    assert set(made.networks) == {"landmark", "renderer"} | adversarial
    assert made.needed_networks == ("landmark", "renderer")
    for stage_name, stage in made.stages.items():
        assert stage.name == stage_name
        assert all(made.networks[key] is network for key, network in stage.networks.items())
    trained = [key for stage in made.stages.values() for key in stage.networks]
    assert sorted(trained) == sorted(made.networks)


def test_the_paper_spells_out_every_setting():
    spelt = preset("paper")
    resolved = IPLConfig.model_validate(spelt)
    for section in ("landmark", "render", "generate"):
        fields = set(type(getattr(resolved, section)).model_fields)
        bounds = {"warp_only_steps", "lambda_warp_pixels", "lambda_face_pixels"}  # of other trainings
        assert fields - set(spelt[section]) <= bounds


def test_the_paper_has_the_official_size():
    with torch.device("meta"):
        made = method("paper")
    for network, system in (("landmark", "ip_lap_landmark"), ("renderer", "ip_lap_renderer")):
        state = made.networks[network].state_dict()
        expected = {key: value for key, value in official(system).items() if "perceptual" not in key}
        assert {key: value.shape for key, value in state.items()} == {
            key: value.shape for key, value in expected.items()
        }


def test_vgg_comes_from_elsewhere_or_not_at_all():
    with torch.device("meta"):
        paper, tiny = method("paper"), method("tiny")
    (needed,) = paper.assets.values()
    assert needed.weights == "vgg19"
    assert needed.module is paper.stages["render"].frozen["vgg"]
    section, _, value = needed.without.partition("=")
    assert section == "render.perceptual"
    settings = preset("paper", render_perceptual=value)
    settings["render"]["train"]["monitor"] = "loss"
    with torch.device("meta"):
        assert not IPL(IPLConfig.model_validate(settings), DataInfo()).assets
    assert not tiny.assets


def test_without_a_discriminator():
    with torch.device("meta"):
        made = method("tiny", render_lambda_g=0.0, render_lambda_f=0.0)
    assert set(made.networks) == {"landmark", "renderer"}


@pytest.mark.parametrize("key", ["render_lr", "generate_magrin", "landmark_widht"])
def test_unknown_keys_are_errors(key):
    with pytest.raises(ValidationError):
        IPLConfig.model_validate(preset("tiny", **{key: 1}))


def test_generation_is_deterministic_and_speaks_with_the_sound():
    torch.manual_seed(0)
    # A residual network says nothing before it is trained.
    made = method(
        "tiny", landmark_residual=False, render_residual=False, landmark_references=4, render_width=0.0625
    )
    for network in made.networks.values():
        network.eval()

    class Other(FakeSpeech):
        def chunk(self, frame: int, sound: Sound) -> np.ndarray:
            return -super().chunk(frame, sound) - 1

    def say(speech: FakeSpeech) -> list[np.ndarray]:
        with torch.no_grad():
            footage = FakeFootage(3, missing=[1])
            return list(made.generate(Drive(footage, speech, footage)))

    first, again, other = say(FakeSpeech()), say(FakeSpeech()), say(Other())
    for i in range(3):
        np.testing.assert_array_equal(first[i], again[i])
        assert np.array_equal(first[i], other[i]) == (i == 1)


# Official checkpoints --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "network"), [("ip_lap_landmark", "landmark"), ("ip_lap_renderer", "renderer")]
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_official_checkpoints_are_told_apart(system, network, wrapped):
    state = official(system)
    given = (
        {"state_dict": {f"module.{k}": v for k, v in state.items()}, "optimizer": {}} if wrapped else state
    )
    sorted_out = IPL.from_official(given)  # type: ignore[arg-type]
    kept = {key: value for key, value in state.items() if not key.startswith("perceptual.")}
    assert list(sorted_out) == [network]
    assert sorted_out[network].keys() == kept.keys()
    assert all(sorted_out[network][key] is value for key, value in kept.items())


@pytest.mark.parametrize("system", ["ip_lap_landmark", "ip_lap_renderer"])
def test_an_incomplete_checkpoint_names_the_first_key_missing(system):
    state = official(system)
    keys = [key for key in state if not key.startswith("perceptual.")]
    del state[keys[40]], state[keys[7]]
    with pytest.raises(ValueError, match=f"misses {keys[7]}$"):
        IPL.from_official(state)


@pytest.mark.parametrize("system", ["wav2lip", "ip_lap_disc"])
def test_other_checkpoints_are_refused(system):
    with pytest.raises(ValueError, match="not a checkpoint of IP-LAP"):
        IPL.from_official(official(system))


def test_what_does_not_fit_is_refused():
    state = official("ip_lap_landmark")
    with pytest.raises(ValueError, match="has no surplus"):
        IPL.from_official({**state, "surplus": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"Norm.weight of the landmark network is \(3,\), not \(512,\)"):
        IPL.from_official({**state, "Norm.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="no table of tensors"):
        IPL.from_official({"state_dict": torch.zeros(1)})
