"""Dask computes tasks that each write one shard: progress, and what happens when a worker dies."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

from prep.cluster import open_cluster
from prep.errors import PrepError
from prep.shards import ShardInfo

log = logging.getLogger(__name__)

Info = TypeVar("Info", bound=ShardInfo)

#: Topic of the workers' progress messages.
TOPIC = "prep-progress"


@dataclass(frozen=True)
class PrepProgress:
    """Progress since the last message: clips done, frames written, clips failed, shards complete."""

    clips: int = 0
    frames: int = 0
    failures: int = 0
    shards: int = 0

    def __add__(self, other: PrepProgress) -> PrepProgress:
        return PrepProgress(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: PrepProgress) -> PrepProgress:
        return PrepProgress(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


def send_progress(shard: str, progress: PrepProgress) -> None:
    """Tell the process that waits for this worker what was done of a shard since the last message."""
    from distributed import get_worker

    # Outside a worker there is no receiver.
    with suppress(ValueError):
        get_worker().log_event(TOPIC, {"shard": shard, "progress": asdict(progress)})


class _Tally:
    """Corrects the progress of each shard such that its sum equals the final content of the shard.

    This is needed because messages of a worker that died are also counted, and some arrive after their shard is
    complete.
    """

    def __init__(self, notify: Callable[[PrepProgress], None]) -> None:
        self._notify = notify
        self._lock = Lock()
        self._told: dict[str, PrepProgress] = {}
        self._complete: set[str] = set()

    def message(self, shard: str, step: PrepProgress) -> None:
        with self._lock:
            if shard not in self._complete:
                self._told[shard] = self._told.get(shard, PrepProgress()) + step
                self._notify(step)

    def complete(self, info: ShardInfo) -> None:
        with self._lock:
            self._complete.add(info.name)
            whole = PrepProgress(info.clips, info.frames, info.failures, 1)
            self._notify(whole - self._told.get(info.name, PrepProgress()))


@dataclass(frozen=True)
class ShardTask(Generic[Info]):
    """What a worker does for one shard.

    Attributes:
        name: of the shard.
        clips: how many; the largest shards are begun first.
        run: writes the shard; can be pickled.
        alone: does the same if clips kill their worker: each is first tried in a process of its own; None: no such way.
    """

    name: str
    clips: int
    run: Callable[[], Info]
    alone: Callable[[], Info] | None = None


def compute(
    tasks: Sequence[ShardTask[Info]],
    workers: int | None,
    scheduler: str | None,
    report: Path | None,
    notify: Callable[[PrepProgress], None],
) -> Iterator[Info]:
    """Yield the result of each task as it is done, by Dask workers. Arguments as for :func:`prepare`.

    Raises:
        PrepError: of a task, or a shard ends its worker again and again.
    """
    from distributed import Client, KilledWorker, as_completed, performance_report

    with (
        open_cluster(workers or os.cpu_count() or 1, scheduler, profile=report is not None) as address,
        Client(address) as client,
    ):
        tally = _Tally(notify)
        client.subscribe_topic(
            TOPIC, lambda event: tally.message(event[1]["shard"], PrepProgress(**event[1]["progress"]))
        )

        def submit(run: Callable[[], Info]) -> Any:
            return client.submit(run, pure=False, key=None)

        with performance_report(filename=str(report)) if report else nullcontext():
            # The largest first, so that all workers finish at about the same time.
            waiting = {submit(task.run): task for task in sorted(tasks, key=lambda task: -task.clips)}
            queue = as_completed(list(waiting))
            for future in queue:
                task = waiting.pop(future)
                try:
                    info: Info = future.result()
                except KilledWorker:
                    if task.alone is None:
                        raise PrepError(
                            f"{task.name}: workers die on it again and again; give the workers more memory and run the "
                            "same command again"
                        ) from None
                    log.warning(
                        "%s ended its worker several times: its clips are now tried one by one", task.name
                    )
                    again = submit(task.alone)
                    waiting[again] = replace(task, alone=None)
                    queue.add(again)
                    continue
                tally.complete(info)
                yield info
                future.release()
