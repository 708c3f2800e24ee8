"""Saves and restores everything that changes while a stage is trained: a resumed run gives the same bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from bench.train.averages import Averages
from bench.train.checkpoint import (
    Checkpoints,
    load_into,
    pack_optimizers,
    read_state,
    read_tensors,
    read_training,
    unpack_optimizers,
)
from bench.train.parallel import average_statistics
from bench.train.stepping import Stepper
from models.base import Stage
from prep.order import WindowStream


@dataclass
class Counters:
    """The progress of a stage.

    Attributes:
        step: optimizer steps made.
        best: figures of the best validation, and its ``step``; empty before the first.
        since_best: validations since then.
        logged: name → sum and number of values since the last line of the log.
    """

    step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    since_best: int = 0
    logged: dict[str, tuple[Tensor | float, int]] = field(default_factory=dict)


class StageState:
    """The content of a checkpoint of a stage.

    Args:
        stage: with its networks on their device.
        stepper: its optimizers, schedules and loss scaling.
        averages: of its networks, or None.
        stream: its position in the training data.
        checkpoints: where they are written.
        accelerator: of the run.
    """

    def __init__(
        self,
        stage: Stage,
        stepper: Stepper,
        averages: Averages | None,
        stream: WindowStream,
        checkpoints: Checkpoints,
        accelerator: Accelerator,
    ) -> None:
        self._stage = stage
        self._stepper = stepper
        self._averages = averages
        self._stream = stream
        self._checkpoints = checkpoints
        self._accelerator = accelerator

    def save(
        self, counters: Counters, *, best: bool = False, name: str | None = None, last: bool = True
    ) -> Path:
        """Write a checkpoint; all processes must call it.

        Args:
            counters: the progress of the stage.
            best: whether it is the best so far.
            name: of its folder; ``step-…`` by default.
            last: whether to resume from it.

        Raises:
            BenchError: it cannot be written.
        """
        accelerator, stepper = self._accelerator, self._stepper
        average_statistics(accelerator, self._stage.networks.values())
        generators = gather_object([generator_states(accelerator.device)])
        name = name or f"step-{counters.step:08d}"
        if not accelerator.is_main_process:
            accelerator.wait_for_everyone()
            return self._checkpoints.folder / name
        networks = {stem: network.state_dict() for stem, network in self._stage.networks.items()}
        if self._averages is not None:
            networks |= self._averages.state_dicts()
        tensors, optimizers = pack_optimizers(stepper.optimizers)
        for rank, states in enumerate(generators):
            tensors |= {f"random/{rank}/{key}": value for key, value in states.items()}
        state = {
            "step": counters.step,
            "epoch": self._stream.epoch,
            "best": counters.best,
            "since_best": counters.since_best,
            "stream": self._stream.state_dict(),
            "stage": self._stage.state_dict(),
            "optimizers": optimizers,
            "schedulers": {key: scheduler.state_dict() for key, scheduler in stepper.schedulers.items()},
            "scaler": stepper.scaler.state_dict() if stepper.scaler is not None else None,
            "averaged_steps": self._averages.steps if self._averages is not None else 0,
            "logged": {key: [float(total), count] for key, (total, count) in counters.logged.items()},
        }
        place = self._checkpoints.save(name, networks, tensors, state, best=best, last=last)
        accelerator.wait_for_everyone()
        return place

    def restore(self, place: Path) -> tuple[Counters, bool]:
        """Load a checkpoint.

        Returns:
            The progress of the stage; and whether the random generators were restored. They are not if another number
            of processes saved the checkpoint.

        Raises:
            BenchError: it is damaged, or contains other networks.
        """
        state, tensors = read_state(place), read_training(place)
        for stem, network in self._stage.networks.items():
            path = place / f"{stem}.safetensors"
            load_into(network, read_tensors(path), path)
        if self._averages is not None:
            self._averages.load(place, state["averaged_steps"])
        stepper = self._stepper
        unpack_optimizers(stepper.optimizers, tensors, state["optimizers"])
        for key, scheduler in stepper.schedulers.items():
            scheduler.load_state_dict(state["schedulers"][key])
        if stepper.scaler is not None and state["scaler"] is not None:
            stepper.scaler.load_state_dict(state["scaler"])
        self._stage.load_state_dict(state["stage"])
        self._stream.load_state_dict(state["stream"])
        logged: dict[str, tuple[Tensor | float, int]] = {
            key: (total, count) for key, (total, count) in state["logged"].items()
        }
        counters = Counters(state["step"], state["best"], state["since_best"], logged)
        return counters, _restore_generators(tensors, self._accelerator)


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's default generators: ``cpu`` and, on a CUDA device, ``cuda``."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_generators(states: dict[str, Tensor], device: torch.device) -> None:
    """Restore torch's default generators to what :func:`generator_states` returned."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _restore_generators(tensors: dict[str, Tensor], accelerator: Accelerator) -> bool:
    saved = {key.split("/")[1] for key in tensors if key.startswith("random/")}
    if len(saved) != accelerator.num_processes:
        return False
    prefix = f"random/{accelerator.process_index}/"
    states = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    set_generators(states, accelerator.device)
    return True
