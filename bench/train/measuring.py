"""Steps of a stage that are made to measure them: as in a run, but without a run, and nothing is written.

Networks have random weights, those of assets and of earlier stages too: the time of a step does not depend on them.
"""

from __future__ import annotations

import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

import torch
from accelerate import Accelerator
from typing_extensions import Unpack

from bench.common.errors import BenchError
from bench.train.config import RunConfig
from bench.train.finite import NotFinite
from bench.train.log import Several
from bench.train.one_run import check_run
from bench.train.precision import autocast
from bench.train.runner import prepared
from bench.train.stage_run import StageRun
from bench.train.stopping import Stop
from bench.train.training import new_config
from bench.weights.store import WeightStore
from models.base import Batch, FitStage, Stage
from prep.memory import free_memory

#: Steps before the measured ones: the first are slower.
WARM_UP = 2
#: Share of the free memory that a stage may take on a CPU: the system ends a process that takes more.
_MOST = 0.95
_NO_MEMORY = re.compile(r"out of memory|not enough memory|allocate memory|bad_alloc|create a memory", re.I)


class Options(TypedDict, total=False):
    """What is measured; each may be left out.

    Attributes:
        preset: as for :func:`bench.train.train`, as are those that follow.
        overrides: see there.
        clips: see there.
        stages: see there.
        weights_dir: see there.
        note: receives lines about what is measured, and about slow steps.
    """

    preset: str | None
    overrides: Sequence[str]
    clips: Path | None
    stages: Sequence[str]
    weights_dir: Path | None
    note: Callable[[str], None]


def unheard(_: str) -> None:
    """The ``note`` of :class:`Options` where none is given."""


class TooLarge(BenchError):
    """A stage does not fit into memory."""


@dataclass(frozen=True)
class Part:
    """A part of a stage's schedule, in which all steps compute the same.

    Attributes:
        begin: its first step.
        end: the first step after it; None: no end is set.
    """

    begin: int
    end: int | None

    @property
    def steps(self) -> int | None:
        """How many there are."""
        return None if self.end is None else self.end - self.begin


class Clock:
    """Seconds of wall-clock time by the names of the parts of a step, as :data:`bench.train.stepping.Phases`.

    Args:
        device: that computes.
        exact: wait for the device before and after each part, so that each has its own time. Else only ``data`` is
            right on a GPU, where the other parts merely begin.

    Attributes:
        seconds: by name.
        current: the part that runs, the innermost; empty between them.
    """

    def __init__(self, device: torch.device, *, exact: bool = False) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.current = ""
        self._device = device
        self._exact = exact

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measure what runs inside."""
        around, self.current = self.current, name
        begun = self._now()
        with torch.profiler.record_function(name):
            yield
        self.seconds[name] += self._now() - begun
        self.current = around

    def _now(self) -> float:
        if self._exact:
            synchronise(self._device)
        return time.perf_counter()


class MeasuredStage(StageRun):
    """A stage whose steps are made one by one.

    Args:
        config: of a run.
        stage: one of its method.
        accelerator: processes, device and precision.
        derived: derivation → the key of the derived columns to use.
        note: receives a line about what is measured.
        exact: as of :class:`Clock`.

    Attributes:
        stage: the stage.
        device: that computes.
        precision: of the forward passes, as ``runner.precision``.
        clock: seconds by the names of the parts of a step.
        parts: of the schedule.
        clips: of an epoch.
        total: steps; None: no end is set.
        samples: of a step.
        peak: largest memory until now, bytes: on a GPU what torch allocated there, else resident memory of the process.
            None where the system does not tell.
    """

    def __init__(
        self,
        config: RunConfig,
        stage: Stage,
        accelerator: Accelerator,
        derived: Mapping[str, str],
        note: Callable[[str], None],
        *,
        exact: bool = False,
    ) -> None:
        self.clock = Clock(accelerator.device, exact=exact)
        super().__init__(
            config, stage, config.out, accelerator, Several(), Stop(), derived, phases=self.clock
        )
        self.stage = stage
        self.device = accelerator.device
        self.precision = self._precision
        self._note = note

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Load data, build optimizers and begin to read, as before the first step of a run.

        Raises:
            TooLarge: from here or from within, the stage does not fit into memory.
            PrepError: the data set lacks what the stage needs.
        """
        with _limited(self.stage.name, self.stage.train.batch_size, self.device):
            self._has_peak = _forget_peak(self.device)
            self._open_data()
            self._seed()
            self._build()
            self.samples = self._batch
            self.clips, self.total = self._clips, self._total
            self.parts = _parts(self.stage.changes(self._clips / self._batch), self._total)
            with self._reading() as self._batches:
                self._switch_on(self._next(self._batches)[0])
                yield

    def make(self, step: int, n: int = 1) -> float:
        """Make ``n`` steps, the first of which is number ``step`` of the schedule. Returns the seconds that each took.

        Raises:
            BenchError: a loss is not finite.
        """
        self._stream.advance((step - self._counters.step) * self.samples)
        self._counters.step = step
        begun = time.perf_counter()
        for _ in range(n):
            self._step(self._next(self._batches))
        synchronise(self.device)
        return (time.perf_counter() - begun) / n

    def ordinary(self, part: Part, n: int = 1) -> int:
        """A step of a part from which ``n`` can be made of which none takes longer than the others, if that can be."""
        every = self.stage.long_step_every
        return part.begin if every <= n else part.begin - part.begin % every + every + 1

    @property
    def peak(self) -> int | None:
        """See the class."""
        if not self._has_peak:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        found = re.search(r"VmHWM:\s+(\d+) kB", _status())
        return int(found.group(1)) * 1024 if found else None

    def _switch_on(self, batch: Batch) -> None:
        """Show the stage the best validation, so that all takes part that waits for one."""
        if type(self.stage).validated is Stage.validated:
            return
        before = self.stage.state_dict()
        for network in self.stage.networks.values():
            network.eval()
        with torch.no_grad(), autocast(self.device, self._precision):
            figures = self.stage.validate(batch)
        self.stage.validated(dict.fromkeys(figures, 0.0))
        changed = {key: now for key, now in self.stage.state_dict().items() if before.get(key) != now}
        if changed:
            text = ", ".join(f"{key}={now}" for key, now in changed.items())
            self._note(
                f"{self.stage.name}: measured with {text}, as from a good validation on; before, a step takes less"
            )

    def _failed(self, problem: NotFinite) -> BenchError:
        return BenchError(f"stage {self.stage.name}: {problem}; measure it with another runner.precision")


@contextmanager
def measured_stages(
    method: str, data: Sequence[Path], *, exact: bool = False, **options: Unpack[Options]
) -> Iterator[list[MeasuredStage]]:
    """The stages of a new run that is not made.

    Args:
        method: as for :func:`bench.train.train`.
        data: as there.
        exact: as of :class:`Clock`.
        options: see :class:`Options`.

    Raises:
        BenchError: an option or a data set is not usable, or several processes measure.
        PrepError: a folder is not a data set, or lacks what a stage needs.
    """
    with TemporaryDirectory(prefix="bench-measured-") as folder:
        config = new_config(
            method,
            options.get("preset"),
            options.get("overrides", ()),
            data,
            options.get("clips"),
            Path(folder) / method,
            None,
        )
        weights = WeightStore.default(options.get("weights_dir"))
        checked = check_run(config, options.get("stages", ()), weights, weights=False)
        measured = [stage for name, stage in checked.method.stages.items() if name in checked.stages]
        fitted = [stage.name for stage in measured if isinstance(stage, FitStage)]
        unmeasured = (
            f"stage {', '.join(fitted)} of {method} has no steps to measure: "
            "bench train says how long its passes took"
        )
        if len(fitted) == len(measured):
            raise BenchError(unmeasured)
        config, chosen, accelerator = prepared(config)
        note = options.get("note", unheard)
        if chosen:
            note(chosen)
        if fitted:
            note(unmeasured)
        if accelerator.num_processes > 1:
            raise BenchError("one process is measured, not several: leave the launcher out")
        yield [
            MeasuredStage(config, stage, accelerator, checked.derived, note, exact=exact)
            for stage in measured
            if isinstance(stage, Stage)
        ]


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _parts(changes: Sequence[int], total: int | None) -> tuple[Part, ...]:
    begins = [0, *(step for step in sorted(set(changes)) if step > 0 and (total is None or step < total))]
    return tuple(Part(begin, end) for begin, end in zip(begins, [*begins[1:], total], strict=True))


def _status() -> str:
    """What Linux says of this process; empty elsewhere."""
    path = Path("/proc/self/status")
    return path.read_text() if path.is_file() else ""


def _forget_peak(device: torch.device) -> bool:
    """Begin to measure the peak of memory anew. Returns whether the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5")  # see proc_pid_clear_refs(5)
    except OSError:
        return False
    return True


@contextmanager
def _limited(stage: str, batch_size: int, device: torch.device) -> Iterator[None]:
    """Turn too large an allocation into one line. On a CPU it is refused, before the system ends the process."""
    try:
        if device.type == "cuda" or sys.platform != "linux":
            yield
            return
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        found = re.search(r"VmData:\s+(\d+) kB", _status())
        taken = int(found.group(1)) * 1024 if found else 0
        limit = taken + int(free_memory() * _MOST)
        resource.setrlimit(resource.RLIMIT_DATA, (limit if soft < 0 else min(soft, limit), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        raise TooLarge(
            f"{stage}: {batch_size} samples do not fit into the memory: try a smaller "
            f"--set {stage}.train.batch_size, and for the same step as many more --set {stage}.train.accumulate"
        ) from error
