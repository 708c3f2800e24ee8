"""Reading official checkpoints: tables of tensors, often wrapped, whose keys are those of the networks here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def official_state(
    content: Mapping[str, Any],
    networks: Mapping[str, Callable[[], nn.Module]],
    what: str,
    without: Sequence[str] = (),
) -> dict[str, dict[str, Tensor]]:
    """Find out which network a checkpoint is of, and unwrap it.

    Args:
        content: what the file holds: a state dict, or a dict with one as its ``state_dict``. Keys may start with
            ``module.``.
        networks: name → what builds the network at its official size.
        what: such files in general, for the error.
        without: beginnings of keys that are left out: networks that the official file holds beside its own.

    Returns:
        The name of the network whose keys fit best → its state dict.

    Raises:
        ValueError: it fits none; names the first key that is missing, unknown or of another shape.
    """
    inner = content.get("state_dict", content)
    if not isinstance(inner, dict):
        raise ValueError(f"not {what}: its state_dict is no table of tensors")
    named = {key.removeprefix("module."): value for key, value in inner.items()}
    found = {key: value for key, value in named.items() if not key.startswith(tuple(without))}
    with torch.device("meta"):
        expected = {name: build().state_dict() for name, build in networks.items()}
    name = max(expected, key=lambda name: len(expected[name].keys() & found.keys()))
    for key, value in expected[name].items():
        if key not in found:
            raise ValueError(f"not {what}: the {name} network misses {key}")
        if not isinstance(found[key], Tensor) or found[key].shape != value.shape:
            shape = tuple(getattr(found[key], "shape", ()))
            raise ValueError(f"not {what}: {key} of the {name} network is {shape}, not {tuple(value.shape)}")
    for key in found:
        if key not in expected[name]:
            raise ValueError(f"not {what}: the {name} network has no {key}")
    return {name: found}
