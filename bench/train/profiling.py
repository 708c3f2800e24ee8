"""Where the time of a training step goes: ``bench train --profile``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn
from typing_extensions import Unpack

from bench.common.errors import BenchError
from bench.train.compiling import runs_compiled
from bench.train.measuring import WARM_UP, Clock, MeasuredStage, Options, Part, measured_stages

#: Steps that are measured.
STEPS = 5


@dataclass(frozen=True)
class StageProfile:
    """Where the time of a stage's steps goes.

    Attributes:
        stage: its name.
        samples: of a step.
        steps: that were measured, without the first ones.
        part: the part of the schedule that they are of: the longest, or the last where no end is set.
        long_step_every: every so many steps one takes longer, which is not among these; 1: none does.
        precision: of the forward passes.
        device: ``cpu`` or ``cuda``.
        threads: of torch on the CPU.
        seconds: mean of a step.
        parts: what a step consists of → mean seconds, in the order of the step; their sum is ``seconds``.
        peak: largest memory, bytes, see :class:`bench.train.measuring.MeasuredStage`.
        trace: one more step, as a Chrome trace, in which the parts have their names.
    """

    stage: str
    samples: int
    steps: int
    part: Part
    long_step_every: int
    precision: str
    device: str
    threads: int
    seconds: float
    parts: dict[str, float]
    peak: int | None
    trace: Path


def profile(
    method: str,
    data: Sequence[Path],
    *,
    traces: Path = Path(),
    steps: int = STEPS,
    **options: Unpack[Options],
) -> Iterator[StageProfile]:
    """Measure the parts of some steps of each stage; only traces are written. ``options`` say what is
    measured, see :class:`bench.train.measuring.Options`.

    On a GPU, each part is measured until the GPU has finished it, so that a step takes longer than in training.

    Args:
        traces: folder for ``profile-METHOD-STAGE.json.gz``.
        steps: to measure.

    Raises:
        BenchError: an option or a data set is not usable, memory is too small, or a trace cannot be written.
        PrepError: a folder is not a data set, or lacks what a stage needs.
    """
    with measured_stages(method, data, exact=True, **options) as measured:
        for stage in measured:
            with stage.ready():
                trace = traces / f"profile-{method}-{stage.stage.name}.json.gz"
                found = _profile(stage, steps, trace)
            yield found


def _profile(measured: MeasuredStage, steps: int, trace: Path) -> StageProfile:
    stage, clock = measured.stage, measured.clock
    part = max(measured.parts, key=lambda part: (part.steps is None, part.steps or 0))
    at = measured.ordinary(part)
    for _ in range(WARM_UP):
        measured.make(at)
    networks = {**stage.networks, **stage.frozen}
    with by_network(networks, clock):
        clock.seconds.clear()
        seconds = sum(measured.make(at) for _ in range(steps)) / steps
        parts = _parts(
            {name: total / steps for name, total in clock.seconds.items()}, list(networks), seconds
        )
        peak = measured.peak
        _record(lambda: measured.make(at), trace)
    return StageProfile(
        stage=stage.name,
        samples=measured.samples,
        steps=steps,
        part=part,
        long_step_every=stage.long_step_every,
        precision=measured.precision,
        device=measured.device.type,
        threads=torch.get_num_threads(),
        seconds=seconds,
        parts=parts,
        peak=peak,
        trace=trace,
    )


def _parts(found: dict[str, float], networks: Sequence[str], seconds: float) -> dict[str, float]:
    """Seconds by what a user reads, in the order of a step."""
    inside = {_forward(name): found.get(_forward(name), 0.0) for name in networks}
    parts = {
        "waiting for data": found["data"],
        **inside,
        "forward: losses and other": found["forward"] - sum(inside.values()),
    }
    for kind, title in (("backward", "backward"), ("step", "optimizer step")):
        parts |= {
            f"{title}: {key.partition(' ')[2]}": s for key, s in found.items() if key.startswith(f"{kind} ")
        }
    return {**parts, "other": seconds - sum(parts.values())}


def _forward(network: str) -> str:
    return f"forward: {network}"


def _record(step: Callable[[], object], path: Path) -> None:
    """Make a step and write its Chrome trace."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.profiler.profile(activities=activities) as recorded:
            step()
        recorded.export_chrome_trace(str(path))
    except OSError as error:
        raise BenchError(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def by_network(networks: dict[str, nn.Module], clock: Clock) -> Iterator[None]:
    """Measure the time in modules of each network as ``forward: NAME``, wherever a stage calls them.

    A stage may call a method of a network that is not ``forward``, which calls parts of it. So all modules are watched,
    and the outermost that runs counts. What a backward pass computes again counts as backward.
    """
    running: list[AbstractContextManager[None]] = []
    depth, here = 0, threading.get_ident()

    def watched() -> bool:
        # Threads that compute shares of the batch beside this one are not measured.
        return clock.current.startswith("forward") and threading.get_ident() == here

    def enter(name: str, *_: object) -> None:
        nonlocal depth
        if not watched():
            return
        depth += 1
        if depth == 1:
            running.append(clock(_forward(name)))
            running[0].__enter__()

    def leave(*_: object) -> None:
        nonlocal depth
        if not watched():
            return
        depth -= 1
        if depth == 0:
            running.pop().__exit__(None, None, None)

    with ExitStack() as hooks:
        seen: set[nn.Module] = set()
        for name, network in networks.items():
            for module in _watched(network):
                if module not in seen:
                    seen.add(module)
                    hooks.enter_context(module.register_forward_pre_hook(partial(enter, name)))
                    hooks.enter_context(module.register_forward_hook(leave))
        yield


def _watched(module: nn.Module) -> Iterator[nn.Module]:
    """A module and all inside it; of a compiled one nothing inside, which would be compiled again with its hooks."""
    yield module
    if not runs_compiled(module):
        for child in module.children():
            yield from _watched(child)
