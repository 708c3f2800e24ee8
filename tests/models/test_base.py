from __future__ import annotations

import pytest
from pydantic import ValidationError

import models.base
from models.base import Section, TrainConfig
from models.registry import Registry


def test_a_misspelt_method_is_told_the_nearest() -> None:
    registry = Registry({"ipl": "models.nowhere:IPL", "dinet": "models.nowhere:DINet"})
    with pytest.raises(KeyError, match=r"no method is called dinett; did you mean dinet\?"):
        registry["dinett"]


def test_an_unlike_name_is_told_all() -> None:
    registry = Registry({"ipl": "models.nowhere:IPL", "dinet": "models.nowhere:DINet"})
    with pytest.raises(KeyError, match="there are: dinet, ipl"):
        registry["wav2lip"]


def test_methods_are_imported_when_asked_for() -> None:
    registry = Registry({"here": "models.base:Talker", "broken": "models.nowhere:Talker"})
    assert list(registry) == ["here", "broken"]
    assert "broken" in registry
    assert registry["here"] is models.base.Talker
    with pytest.raises(ModuleNotFoundError):
        registry["broken"]


def test_a_section_refuses_unknown_keys_and_changes() -> None:
    class Stage(Section):
        train: TrainConfig

    with pytest.raises(ValidationError, match="batchsize"):
        Stage.model_validate({"train": {"batch_size": 4, "batchsize": 4}})
    stage = Stage.model_validate({"train": {"batch_size": 4}})
    with pytest.raises(ValidationError, match="frozen"):
        stage.train.batch_size = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"batch_size": 0},
        {"batch_size": "many"},
        {"batch_size": 1, "ema": 1.0},
        {"batch_size": 1, "mode": "low"},
    ],
)
def test_training_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainConfig.model_validate(wrong)
