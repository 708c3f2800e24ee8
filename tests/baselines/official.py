"""Outputs of the official code, and networks with the weights that they were made with."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.parity.fill import fill_state, make_input

_PARITY = Path(__file__).resolve().parents[1] / "parity"


def spec(system: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_PARITY / system / "spec.json").read_text())
    return found


@lru_cache(maxsize=1)
def weights(system: str) -> dict[str, Tensor]:
    """A state dict in official order; not to be written to."""
    known = spec(system)
    state = fill_state(known["state_dict"], known["gain"], known["keep"], known["sn_iters"])
    return {key: torch.from_numpy(state[key]) for key, *_ in known["state_dict"]}


def loaded(system: str, module: nn.Module) -> nn.Module:
    """``module`` with these weights, in evaluation mode."""
    assert list(module.state_dict()) == list(weights(system))
    module.load_state_dict(weights(system))
    return module.eval()


def inputs(system: str) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(make_input(name, given["shape"], given["low"], given["high"]))
        for name, given in spec(system)["inputs"].items()
    }


def outputs(system: str) -> dict[str, np.ndarray]:
    with np.load(_PARITY / system / "expected.npz") as expected:
        return dict(expected)
