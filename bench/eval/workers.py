"""Sharing the clips of an evaluation among processes: this one, local ones, or a Dask cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.clips.job import Job
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
    if scheduler is None and min(workers, len(pending)) <= 1:
        for job in pending:
            yield score_job(job, engine, folder)
    elif pending:
        yield from _with_dask(pending, folder, plan, engine, min(workers, len(pending)), scheduler)


_built: dict[str, Engine] = {}


def _task(job: Job, plan: Plan, token: str, folder: Path) -> Step:
    """What a Dask worker runs. The engine of an evaluation stays in the process: its networks take seconds to load."""
    if token not in _built:
        import cv2
        import torch

        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        _built.clear()
        _built[token] = plan.build()
    engine = _built[token]
    if engine.missing:
        lack = engine.missing[0]
        raise BenchError(f"a worker cannot compute {lack.metric}: {lack.reason}; {lack.remedy}")
    return score_job(job, engine, folder)


def _with_dask(
    jobs: Sequence[Job], folder: Path, plan: Plan, engine: Engine, workers: int, scheduler: str | None
) -> Iterator[Step]:
    import secrets

    from distributed import Client, KilledWorker, as_completed

    from prep.cluster import open_cluster

    token = secrets.token_hex(8)
    with open_cluster(workers, scheduler) as address, Client(address) as client:
        shared = client.scatter(plan, broadcast=True, hash=False)
        futures = {
            client.submit(_task, job, shared, token, folder, pure=False, key=None): job for job in jobs
        }
        for future in as_completed(list(futures)):
            job = futures.pop(future)
            try:
                yield future.result()
            except KilledWorker:
                log.warning("%s ended its worker", job.clip_id)
                rows = engine.failed(
                    job, "its worker was killed: too little memory, or a decoder that crashed"
                )
                write_part(part_path(folder, job.clip_id), rows)
                yield _step(rows)
            future.release()
