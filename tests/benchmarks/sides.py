"""The two sides of a comparison of training steps, each in a process of its own, which take turns.

What one side sets for its whole process, such as the allocator, then does nothing for the other.
"""

from __future__ import annotations

import gc
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch

from bench.common.methods import get_method
from bench.train import runner, stage_run
from bench.train.config import load_config
from bench.train.loading import open_dataset, training_loader
from bench.train.log import Speed
from models.base import Batch, DataInfo, Stage
from prep.order import WindowStream
from tests.bench.fake_training import Recorder
from tests.benchmarks.official_steps import generic_step, plain_step, render_step

#: ``runner``: as ``bench train``; ``official``: see :mod:`tests.benchmarks.official_steps`; ``script``: the renderer's,
#: whose SPADE maps are computed anew for each reference too; ``generic``: a loop over the stage's own losses.
Kind = Literal["runner", "official", "script", "generic"]


@dataclass(frozen=True)
class Case:
    """A stage at a size.

    Attributes:
        method: its name.
        stage: its name.
        options: over the preset ``paper``.
        steps: of each side, in addition to a first one that does not count.
    """

    method: str
    stage: str
    options: tuple[str, ...] = ()
    steps: int = 4


@dataclass(frozen=True)
class Step:
    """What a side tells of a step.

    Attributes:
        seconds: processor time.
        losses: name → figure.
        grown: MiB by which the largest resident memory up to here is above that before the first step.
    """

    seconds: float
    losses: Mapping[str, float]
    grown: float


def built(case: Case, data: Path, run: Path, *overrides: str) -> tuple[Any, Any, Batch]:
    """The configuration, the method with generated weights, and a batch of the stage."""
    name = case.stage
    fixed = (
        "runner.device=cpu",
        "runner.tensorboard=false",
        "runner.log_every=1",
        f"{name}.train.validate_samples=2",
        f"{name}.train.sample_every=0",
        f"{name}.train.steps={case.steps + 1}",
    )
    config = load_config(case.method, "paper", [*fixed, *case.options, *overrides], [data], run)
    torch.manual_seed(0)
    method = get_method(case.method)(config.method_config, DataInfo())
    stage = method.stages[name]
    stage.validated({"sync": 0.0})  # from here on Wav2Lip's expert takes part
    stream = WindowStream(open_dataset([data], "train", stage, 0), stage.train.batch_size)
    return config, method, next(iter(training_loader(stream, stage, workers=0)))


@contextmanager
def side(kind: Kind, case: Case, data: Path, precision: str = "no") -> Iterator[Callable[[], Step]]:
    """Start one side. What is given makes one step and tells of it."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, kind, case, data, precision), daemon=True)
    process.start()
    theirs.close()

    def step() -> Step:
        ours.send(True)
        return ours.recv()

    try:
        ours.recv()
        yield step
    finally:
        process.kill()  # the runner would take a milder signal for a wish to stop after the step
        process.join()


def turns(kinds: Sequence[tuple[Kind, str]], case: Case, data: Path) -> list[list[Step]]:
    """Several sides, a step each in turn, without the first; each a kind and ``runner.precision``."""
    with ExitStack() as stack:
        sides = [stack.enter_context(side(kind, case, data, precision)) for kind, precision in kinds]
        rounds = [[step() for step in sides] for _ in range(case.steps + 1)]
    return [list(steps) for steps in zip(*rounds[1:], strict=True)]


def _work(pipe: Connection, kind: Kind, case: Case, data: Path, precision: str) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        config, method, batch = built(case, data, run, f"runner.precision={precision}")
        gc.collect()
        if kind == "runner":
            stage_run.training_loader = lambda *_, **__: iter(lambda: batch, None)  # type: ignore[assignment]
            runner.train_stages(config, method, [case.stage], run, False, _Turn(pipe))
        else:
            _plain(pipe, kind, case.method, method.stages[case.stage], batch)


def _plain(pipe: Connection, kind: Kind, method: str, stage: Stage, batch: Batch) -> None:
    made = {
        "official": lambda: plain_step(method, stage),
        "script": lambda: render_step(stage, maps_once=False),
        "generic": lambda: generic_step(stage),
    }[kind]()
    turn = _Turn(pipe)
    number = 0
    while True:
        turn.done(made(batch, number))
        number += 1


class _Turn(Recorder):
    """Tells of each step and waits until the next is asked for."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe
        # The largest resident memory is counted from now on.
        Path("/proc/self/clear_refs").write_text("5")
        self._before = _peak()
        self._pipe.send(True)
        self._wait()

    def step(self, stage: str, step: int, epoch: float, logs: Mapping[str, float], speed: Speed) -> None:
        self.done(logs)

    def done(self, losses: Mapping[str, float]) -> None:
        seconds = time.process_time() - self._begun
        self._pipe.send(Step(seconds, dict(losses), _peak() - self._before))
        self._wait()

    def _wait(self) -> None:
        try:
            self._pipe.recv()
        except EOFError:  # the other end needs no further steps
            raise SystemExit from None
        self._begun = time.process_time()


def _peak() -> float:
    """The largest resident memory of this process, MiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found.group(1)) / 1024
