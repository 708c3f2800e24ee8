"""The precision of forward passes: autocast, and the choice of ``runner.precision=auto``."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from bench.common.errors import BenchError
from models.base import Stage

if TYPE_CHECKING:
    from bench.train.config import RunConfig

Precision = Literal["no", "bf16", "fp16"]

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
#: bfloat16 is used where it is so many times as fast as float32. A processor without instructions for it emulates it,
#: which takes longer than float32; one with them takes about half the time. Nothing was seen between.
_GAIN = 1.25
#: Seconds after which no further round is measured, and the largest number of rounds.
_SECONDS, _ROUNDS = 0.8, 6


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Autocast for forward passes; does nothing for ``no``."""
    if precision == "no":
        return nullcontext()
    return torch.autocast(device.type, _TYPES[precision])


def stage_precision(config: RunConfig, stage: Stage) -> Precision:
    """The precision of a stage: its own, else that of the runner.

    Raises:
        BenchError: float16 is requested without CUDA.
    """
    chosen, key = stage.train.precision, f"{stage.name}.train.precision"
    if chosen is None:
        assert config.runner.precision != "auto", "see resolve"
        chosen, key = config.runner.precision, "runner.precision"
    if chosen == "fp16" and (config.runner.device == "cpu" or not torch.cuda.is_available()):
        raise BenchError(f"{key}=fp16: only CUDA trains in float16; use bf16 or no")
    return chosen


def resolve(config: RunConfig) -> tuple[RunConfig, str]:
    """Replace ``auto`` by what is fast on this device. All processes must call it; the first one measures.

    Returns:
        The configuration, and a line about the choice; ``""`` if the precision was given.
    """
    if config.runner.precision != "auto":
        return config, ""
    state = PartialState(cpu=config.runner.device == "cpu")
    found: list[float] = [bf16_gain(state.device) if state.is_main_process else 0.0]
    (gain,) = broadcast_object_list(found)
    chosen: Precision = "bf16" if gain >= _GAIN else "no"
    runner = config.runner.model_copy(update={"precision": chosen})
    said = "bfloat16" if chosen == "bf16" else "float32"
    line = f"precision: {said}; on this device bfloat16 is {gain:.1f} times as fast as float32"
    return config.model_copy(update={"runner": runner}), line


def bf16_gain(device: torch.device) -> float:
    """How many times as fast as in float32 a small convolutional network is trained in bfloat16; takes about a second.

    Forward and backward pass of four convolutions with 64 channels at 64², two pictures. The fastest of several rounds
    in turns counts. On a CPU it is the processor time of one thread, since other work on the machine adds little to it.
    """
    threads = torch.get_num_threads()
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        return _gain(device)
    finally:
        torch.set_num_threads(threads)


def _gain(device: torch.device) -> float:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network = nn.Sequential(*(nn.Conv2d(64, 64, 3, padding=1) for _ in range(4))).to(device)
        pictures = torch.randn(2, 64, 64, 64, device=device)
    best = {"no": float("inf"), "bf16": float("inf")}
    begun = time.perf_counter()
    for number in range(_ROUNDS + 1):
        for precision in ("no", "bf16"):
            seconds = _pass(network, pictures, "bf16" if precision == "bf16" else "no")
            if number:  # the first round prepares kernels and memory
                best[precision] = min(best[precision], seconds)
        if number and time.perf_counter() - begun > _SECONDS:
            break
    return best["no"] / best["bf16"]


def _pass(network: nn.Module, pictures: Tensor, precision: Precision) -> float:
    """Seconds of a forward and a backward pass; on a CPU, of this process."""
    clock = time.process_time if pictures.device.type == "cpu" else time.perf_counter
    _wait(pictures.device)
    begun = clock()
    with autocast(pictures.device, precision):
        made = network(pictures)
    made.float().square().mean().backward()
    _wait(pictures.device)
    return clock() - begun


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
