"""Names of devices."""

from __future__ import annotations

import pytest
import torch

from bench.common.device import pick_device
from bench.common.errors import BenchError


@pytest.mark.parametrize(("there", "picked"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_gpu_where_there_is_one(there: bool, picked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert pick_device("auto") == picked == pick_device()


def test_names_are_kept() -> None:
    assert pick_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["cuda:77", "gpu"])
def test_a_device_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(BenchError, match=f"there is no device '{name}' here: use --device cpu") as error:
        pick_device(name)
    assert "\n" not in str(error.value)
