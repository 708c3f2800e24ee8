"""Exponential moving averages (EMA) of weights, used instead of the weights in validation and generation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.common.errors import BenchError
from bench.train.checkpoint import ema_name, read_tensors


class Averages:
    """Averages of networks: each step, a ← d a + (1 - d) w. Tensors that are not floating-point are copied.

    Args:
        networks: name → module, on its device.
        decay: d, in (0, 1). After n steps d is at most (1 + n) / (10 + n), which matters in the first steps only.

    Attributes:
        steps: n.
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay: float) -> None:
        self._networks = networks
        self._decay = decay
        self.steps = 0
        self._averages = {name: _copy(network.state_dict()) for name, network in networks.items()}
        # Making a state dict takes longer than averaging small networks.
        places = [
            (tensors, key, self._averages[name][full])
            for name, network in networks.items()
            for full, tensors, key in _places(network)
            if full in self._averages[name]
        ]
        self._moving = [place for place in places if place[2].is_floating_point()]
        self._copied = [place for place in places if not place[2].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages with the networks' current weights."""
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        torch._foreach_lerp_(
            [averaged for _, _, averaged in self._moving],
            [tensors[key] for tensors, key, _ in self._moving],
            1 - decay,
        )
        for tensors, key, averaged in self._copied:
            averaged.copy_(tensors[key])

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the networks' weights and the averages."""
        for name, network in self._networks.items():
            averaged = self._averages[name]
            for key, value in network.state_dict().items():
                held = value.clone()
                value.copy_(averaged[key])
                averaged[key].copy_(held)

    def state_dicts(self) -> dict[str, dict[str, Tensor]]:
        """File stem → tensors, as stored in a checkpoint."""
        return {ema_name(name): averaged for name, averaged in self._averages.items()}

    def load(self, checkpoint: Path, steps: int) -> None:
        """Load the averages of a checkpoint after ``steps`` steps. Raises :class:`BenchError` if it has none."""
        self.steps = steps
        for name, averaged in self._averages.items():
            path = checkpoint / f"{ema_name(name)}.safetensors"
            tensors = read_tensors(path)
            if tensors.keys() != averaged.keys():
                raise BenchError(
                    f"{path}: not the average of this network; resume with the run's own options"
                )
            for key, value in tensors.items():
                averaged[key].copy_(value)


def _places(network: nn.Module) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Where a network keeps its tensors: key of the state dict, and the dict and the key by which a module has it."""
    for name, module in network.named_modules():
        for tensors in (module._parameters, module._buffers):
            for key, tensor in tensors.items():
                if tensor is not None:
                    yield f"{name}.{key}" if name else key, tensors, key


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in state.items()}
