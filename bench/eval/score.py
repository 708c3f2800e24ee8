"""The second step of an evaluation: every clip is scored, in this process or in several, and its part is
written."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.clips.job import Job
from bench.common.dask_loop import share
from bench.eval.engine import Engine
from bench.eval.parts import PartRow, part_path, write_part
from bench.eval.plan import EvalPlan
from bench.results import is_failure

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """The progress that a finished clip makes.

    Attributes:
        clips: always 1.
        frames: number of scored frames of all candidates; 0 for a clip that was scored before an interruption.
        failures: 1 if a figure is missing.
        total: number of clips of the evaluation.
    """

    clips: int = 1
    frames: int = 0
    failures: int = 0
    total: int = 0


def score_clips(
    plan: EvalPlan,
    folder: Path,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    on_progress: Callable[[Step], None] | None = None,
) -> list[Path]:
    """Score the clips that have no part yet.

    Args:
        plan: clips and metrics.
        folder: existing folder of the parts; workers on other machines must have it at the same path.
        workers: local processes; with 1 everything is done in this process.
        scheduler: address of a running Dask scheduler to use instead.
        on_progress: called for every clip, also for those already done.

    Returns:
        The parts of all clips, in the order of the clips.
    """
    jobs = plan.inputs.jobs
    paths = [part_path(folder, job.clip_id) for job in jobs]
    pending = [job for job, path in zip(jobs, paths, strict=True) if not path.is_file()]
    notify = on_progress or (lambda _: None)
    for _ in range(len(jobs) - len(pending)):
        notify(Step(total=len(jobs)))
    for step in share(
        pending,
        plan.setup.build_whole,
        partial(score_job, folder=folder),
        lambda job, reason: _give_up(job, reason, plan.engine, folder),
        built=plan.engine,
        workers=workers,
        scheduler=scheduler,
    ):
        notify(replace(step, total=len(jobs)))
    return paths


def score_job(job: Job, engine: Engine, folder: Path) -> Step:
    """Score one clip and write its part to ``folder``."""
    rows = engine.score(job)
    write_part(part_path(folder, job.clip_id), rows)
    return _step(rows)


def _give_up(job: Job, reason: str, engine: Engine, folder: Path) -> Step:
    """Write a part without figures for a clip that could not be scored at all."""
    log.warning("%s: %s", job.clip_id, reason)
    rows = engine.failed(job, reason)
    write_part(part_path(folder, job.clip_id), rows)
    return _step(rows)


def _step(rows: Sequence[PartRow]) -> Step:
    figures = [row for row in rows if row.kind == "figure"]
    frames = {row.method: row.frames for row in figures}
    return Step(1, sum(frames.values()), int(any(is_failure(row.reason) for row in figures)))


def default_workers(device: str, clips: int) -> int:
    """One process on a GPU, since it uses all of it. On a CPU one per core, if there are enough clips to make the start
    of processes worthwhile."""
    return 1 if device.startswith("cuda") or clips < 8 else os.cpu_count() or 1
