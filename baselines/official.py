"""Reading official checkpoints: tables of tensors, often wrapped, whose keys are those of the networks here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def official_state(
    content: Mapping[str, Any], networks: Mapping[str, Callable[[], nn.Module]], what: str
) -> dict[str, dict[str, Tensor]]:
    """Find out which network a checkpoint is of, and unwrap it.

    Args:
        content: what the file holds: a state dict, or a dict with one as its ``state_dict``. Keys may start with
            ``module.``.
        networks: name → what builds the network at its official size.
        what: such files in general, for the error.

    Returns:
        The name of the network whose keys fit best → its state dict.

    Raises:
        ValueError: it fits none; names the first key that is missing, unknown or of another shape.
    """
    inner = content.get("state_dict", content)
    if not isinstance(inner, dict):
        raise ValueError(f"not {what}: its state_dict is no table of tensors")
    found = {key.removeprefix("module."): value for key, value in inner.items()}
    with torch.device("meta"):
        expected = {name: build().state_dict() for name, build in networks.items()}
    name = max(expected, key=lambda name: len(expected[name].keys() & found.keys()))
    for key, value in expected[name].items():
        if key not in found:
            raise ValueError(f"not {what}: the {name} misses {key}")
        if not isinstance(found[key], Tensor) or found[key].shape != value.shape:
            shape = tuple(getattr(found[key], "shape", ()))
            raise ValueError(f"not {what}: {key} of the {name} is {shape}, not {tuple(value.shape)}")
    for key in found:
        if key not in expected[name]:
            raise ValueError(f"not {what}: the {name} has no {key}")
    return {name: found}
