"""How fast a method trains on this machine, and how long its schedule takes: ``bench train --throughput``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from typing_extensions import Unpack

from bench.train.measuring import WARM_UP, MeasuredStage, Options, Part, TooLarge, measured_stages, unheard

#: Seconds in which a stage is measured, without its first steps.
SECONDS = 20.0
#: Steps that are measured at least, of each part of its schedule.
FEWEST = 3
#: On a GPU, steps are measured in groups that take about so many seconds: it need not be waited for after each step.
_GROUP_SECONDS = 0.5
#: A step that takes more seconds is announced.
_SLOW = 10.0
DAY = 86_400


@dataclass(frozen=True)
class PartSpeed:
    """The speed in a part of a stage's schedule.

    Attributes:
        part: which steps it has.
        measured: number of steps.
        seconds: mean of a step, without the long ones.
        fastest: seconds of the fastest step; on a GPU, of a step of the fastest group of steps.
        slowest: the same of the slowest.
        long_seconds: of a step whose number is a multiple of ``long_step_every``; None: there are none.
        data_wait: share of the time, 0 to 1, in which the loop waited for a batch.
    """

    part: Part
    measured: int
    seconds: float
    fastest: float
    slowest: float
    long_seconds: float | None
    data_wait: float


@dataclass(frozen=True)
class StageSpeed:
    """The speed of a stage.

    Attributes:
        stage: its name.
        samples: of a step.
        clips: of an epoch.
        precision: of the forward passes.
        device: ``cpu`` or ``cuda``.
        threads: of torch on the CPU.
        total: steps of its schedule; None: no end is set.
        may_end_early: whether it ends earlier where validations get no better (``patience``).
        long_step_every: see :attr:`models.base.Stage.long_step_every`.
        parts: of the schedule, one or more; those before a problem.
        peak: largest memory, bytes, see :class:`bench.train.measuring.MeasuredStage`.
        problem: why it could not be measured; empty otherwise.
    """

    stage: str
    samples: int
    clips: int
    precision: str
    device: str
    threads: int
    total: int | None
    may_end_early: bool
    long_step_every: int
    parts: tuple[PartSpeed, ...] = field(default=())
    peak: int | None = None
    problem: str = ""

    def mean_seconds(self, part: PartSpeed) -> float:
        """Mean of all steps of a part, with the long ones."""
        extra = 0.0 if part.long_seconds is None else part.long_seconds - part.seconds
        return part.seconds + extra / self.long_step_every

    @property
    def days(self) -> float | None:
        """For all steps of the schedule, without validations and checkpoints; None: no end is set, or a problem."""
        if self.problem or self.total is None:
            return None
        return sum(self.mean_seconds(part) * (part.part.steps or 0) for part in self.parts) / DAY


def throughput(
    method: str,
    data: Sequence[Path],
    *,
    seconds: float | None = None,
    **options: Unpack[Options],
) -> Iterator[StageSpeed]:
    """Measure some steps of each stage, in each part of its schedule; nothing is written. ``options`` say what
    is measured, see :class:`bench.train.measuring.Options`.

    A stage that does not fit into memory has a :attr:`StageSpeed.problem`, and the next one is measured.

    Args:
        seconds: for each stage, None: :data:`SECONDS`; longer where steps are slow: at least :data:`FEWEST` are made.

    Raises:
        BenchError: an option or a data set is not usable, or a loss is not finite.
        PrepError: a folder is not a data set, or lacks what a stage needs.
    """
    note = options.get("note", unheard)
    with measured_stages(method, data, **options) as measured:
        for stage in measured:
            yield _stage_speed(stage, SECONDS if seconds is None else seconds, note)


def _stage_speed(measured: MeasuredStage, seconds: float, note: Callable[[str], None]) -> StageSpeed:
    parts: list[PartSpeed] = []
    peak, problem = None, ""
    try:
        with measured.ready():
            for part in measured.parts:
                parts.append(_part_speed(measured, part, seconds / len(measured.parts), note))
            peak = measured.peak
    except TooLarge as error:
        problem = str(error)
    stage = measured.stage
    return StageSpeed(
        stage=stage.name,
        samples=measured.samples,
        clips=measured.clips,
        precision=measured.precision,
        device=measured.device.type,
        threads=torch.get_num_threads(),
        total=measured.total,
        may_end_early=stage.train.patience is not None,
        long_step_every=stage.long_step_every,
        parts=tuple(parts),
        peak=peak,
        problem=problem,
    )


def _part_speed(
    measured: MeasuredStage, part: Part, seconds: float, note: Callable[[str], None]
) -> PartSpeed:
    every = measured.stage.long_step_every
    at = measured.ordinary(part)

    def make(step: int, n: int, left: int) -> float:
        taken = measured.make(step, n)
        if taken > _SLOW:
            more = f"; {left} more" if left else ""
            note(f"{measured.stage.name}, from step {part.begin:,}: a step took {taken:.0f} s{more}")
        return taken

    last = 0 if every == 1 else 2
    for i in range(WARM_UP):
        warm = make(at, 1, WARM_UP - 1 - i + FEWEST + last)
    group = max(1, round(_GROUP_SECONDS / warm)) if measured.device.type == "cuda" else 1
    if every > 1:
        group = min(group, every - 1)
    measured.clock.seconds.clear()
    taken: list[float] = []
    while len(taken) < FEWEST or sum(taken) * group < seconds:
        taken.append(make(measured.ordinary(part, group), group, max(0, FEWEST - len(taken) - 1) + last))
    data_wait = measured.clock.seconds["data"] / (sum(taken) * group)
    long_seconds = None
    if every > 1:
        # The step before the ordinary ones; twice, because the first is slower.
        long_seconds = [make(at - 1, 1, left) for left in (1, 0)][1]
    return PartSpeed(
        part=part,
        measured=len(taken) * group,
        seconds=sum(taken) / len(taken),
        fastest=min(taken),
        slowest=max(taken),
        long_seconds=long_seconds,
        data_wait=data_wait,
    )
