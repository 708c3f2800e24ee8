from __future__ import annotations

import sys
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from bench.common.errors import BenchError
from bench.common.methods import METHODS
from bench.train.assets import load_assets
from bench.train.checkpoint import Checkpoints
from bench.train.config import load_config
from bench.weights.store import WeightStore
from models.base import DataInfo
from models.g4g.method import G4G, G4GMethodConfig
from models.g4g.stages import G4GStage

PRESETS = ("paper", "tiny")
#: The rows of the paper's Table 2 → the option that makes them.
ABLATIONS = {"alignment": "landmark_summary", "fusion": "fusion_network", "supervision": None}


def preset(name: str) -> dict[str, Any]:
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    table: dict[str, Any] = toml.loads((resources.files("models.g4g") / f"{name}.toml").read_text("utf-8"))
    return table


def method(name: str, *options: str, device: str = "meta") -> G4G:
    config: Any = load_config("g4g", name, options, [], Path("run")).method_config
    with torch.device(device):
        return G4G(config, DataInfo())


def test_the_registry_knows_it() -> None:
    assert METHODS["g4g"] is G4G


@pytest.mark.parametrize("name", PRESETS)
def test_presets_make_whole_methods(name: str) -> None:
    made = method(name)
    frames = ["frame64", "frame128", "frame256"] if name == "paper" else ["frame64"]
    assert list(made.stages) == [*frames, "clip"]
    judges = {"discriminator", "clip_discriminator"} if name == "paper" else set()
    assert set(made.networks) == {"generator"} | judges
    assert set(made.assets) == ({"vgg", "expert"} if name == "paper" else {"expert"})
    for stage_name, stage in made.stages.items():
        assert isinstance(stage, G4GStage) and stage.name == stage_name
        assert stage.networks["generator"] is made.generator
        for module in (*stage.float32, *(stage.compiled or ()), *stage.recomputed):
            stage.module(module)
    assert made.needed_networks == ("generator",)
    trained = {name for stage in made.stages.values() for name in getattr(stage, "networks", {})}
    assert trained == set(made.networks)


def test_the_paper_spells_out_every_setting() -> None:
    spelt = preset("paper")
    resolved = G4GMethodConfig.model_validate(spelt)
    of_other_experts = {"expert_coarse", "expert_apart"}
    for section in spelt:
        fields = set(type(getattr(resolved, section)).model_fields)
        assert fields - set(spelt[section]) <= of_other_experts, section


def test_the_papers_weights_and_sizes() -> None:
    config = G4GMethodConfig.model_validate(preset("paper"))
    common = config.g4g
    weights = (common.lambda_v, common.lambda_p, common.lambda_gan, common.lambda_r, common.lambda_con)
    assert weights == (1, 2, 3, 4, 5) and common.lambda_sync == 5
    assert common.references == 5
    assert config.clip is not None
    assert (config.clip.mouth, config.clip.train.batch_size, config.clip.learning_rate) == (256, 3, 1e-4)
    made = method("paper")
    deformed = made.generator.deform.rotation[0].out_features
    assert deformed == 256


@pytest.mark.parametrize("option", ABLATIONS)
@pytest.mark.parametrize("name", PRESETS)
def test_ablations_are_options(name: str, option: str) -> None:
    whole, without = method(name), method(name, f"g4g.{option}=false")
    part = ABLATIONS[option]
    if part is not None:
        assert any(key.startswith(part) for key in whole.generator.state_dict())
        assert not any(key.startswith(part) for key in without.generator.state_dict())
    else:
        assert len(whole.config.g4g.hidden_regions) > 1 and len(whole.config.g4g.supervised_regions) > 1
        assert without.config.g4g.hidden_regions == without.config.g4g.supervised_regions == ("square",)
        assert whole.generator.state_dict().keys() == without.generator.state_dict().keys()


def test_what_is_not_weighed_is_not_needed() -> None:
    made = method("paper", "g4g.lambda_p=0", "g4g.lambda_sync=0", "g4g.lambda_gan=0")
    assert not made.assets and set(made.networks) == {"generator"}
    assert all(not stage.frozen for stage in made.stages.values())


def test_a_missing_expert_is_one_line_with_its_remedy(tmp_path: Path) -> None:
    made = method("tiny", f"g4g.expert={tmp_path}/none")
    with pytest.raises(BenchError) as raised:
        load_assets(made, {"train"}, WeightStore({}, []))
    message = str(raised.value)
    assert "\n" not in message and f"{tmp_path}/none" in message
    assert "bench train sync-expert --data DATA --set expert.view=mouth416x320" in message
    assert "g4g.lambda_sync=0" in message


def test_an_expert_that_knows_little_is_refused_unless_it_is_asked_for(tmp_path: Path) -> None:
    state = method("tiny", device="cpu").assets["expert"].module.state_dict()
    found = {"step": 9, "rank": 0.52}
    Checkpoints(tmp_path / "expert" / "checkpoints").save(
        "step-00000009", {"expert": state}, {}, {"step": 9, "best": found}, best=True
    )
    run = f"g4g.expert={tmp_path}"
    with pytest.raises(BenchError, match=r"rank is 0\.520 on held-out clips; .* --set g4g\.expert_rank=0"):
        load_assets(method("tiny", run), {"train"}, WeightStore({}, []))
    anyway = method("tiny", run, "g4g.expert_rank=0", device="cpu")
    assert load_assets(anyway, {"train"}, WeightStore({}, []))


@pytest.mark.parametrize("key", ["g4g.lamda_r", "clip.mouths", "generate.feather"])
def test_unknown_keys_are_errors(key: str) -> None:
    with pytest.raises(BenchError, match=key.partition(".")[2]):
        load_config("g4g", "tiny", [f"{key}=1"], [], Path("run"))


def test_a_mouth_of_another_size_is_refused() -> None:
    tables = preset("tiny")
    tables["clip"]["mouth"] = 96
    with pytest.raises(ValidationError, match="mouth"):
        G4GMethodConfig.model_validate(tables)
