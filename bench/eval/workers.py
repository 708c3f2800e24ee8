"""Sharing the clips of an evaluation among processes: this one, local ones, or a Dask cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.clips.job import Job
from bench.common.dask_loop import share
from bench.common.errors import BenchError
from bench.eval.parts import Row, part_path, write_part

if TYPE_CHECKING:
    from bench.eval.engine import Engine
    from bench.metrics.lse_expert import ExpertFile
    from bench.weights.store import WeightStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What an engine is built from; small and picklable."""

    metrics: tuple[str, ...]
    regions: tuple[str, ...]
    device: str
    batch: int
    weights: WeightStore
    sync_expert: ExpertFile | None = None

    def build(self) -> Engine:
        """An engine of this process."""
        from bench.eval.engine import Engine
        from bench.metrics.base import Context

        context = Context(self.weights, self.device, self.sync_expert)
        return Engine(self.metrics, self.regions, context, self.batch)

    def build_whole(self) -> Engine:
        """An engine of this process that has all the metrics. Raises BenchError: one cannot be computed here."""
        engine = self.build()
        if engine.missing:
            lack = engine.missing[0]
            raise BenchError(f"a worker cannot compute {lack.metric}: {lack.reason}; {lack.remedy}")
        return engine


@dataclass(frozen=True)
class Step:
    """What a finished clip adds to the progress."""

    clips: int = 1
    frames: int = 0
    failures: int = 0


def score_job(job: Job, engine: Engine, folder: Path) -> Step:
    """Score one clip and leave its part in ``folder``."""
    rows = engine.score(job)
    write_part(part_path(folder, job.clip_id), rows)
    return _step(rows)


def _step(rows: Sequence[Row]) -> Step:
    figures = [row for row in rows if row.kind == "figure"]
    frames = {row.method: row.frames for row in figures}
    return Step(1, sum(frames.values()), int(any(row.reason for row in figures)))


def run(
    jobs: Sequence[Job], folder: Path, plan: Plan, engine: Engine, workers: int, scheduler: str | None
) -> Iterator[Step]:
    """Score the jobs whose part is not there yet; yields a step for every clip, also for those already done."""
    pending = []
    for job in jobs:
        if part_path(folder, job.clip_id).is_file():
            yield Step()
        else:
            pending.append(job)
    yield from share(
        pending,
        plan.build_whole,
        partial(score_job, folder=folder),
        lambda job, reason: _give_up(job, reason, engine, folder),
        built=engine,
        workers=workers,
        scheduler=scheduler,
    )


def _give_up(job: Job, reason: str, engine: Engine, folder: Path) -> Step:
    """Leave a part without figures for a clip that could not be scored at all."""
    log.warning("%s: %s", job.clip_id, reason)
    rows = engine.failed(job, reason)
    write_part(part_path(folder, job.clip_id), rows)
    return _step(rows)
