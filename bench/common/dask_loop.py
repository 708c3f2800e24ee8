"""Sharing tasks among processes: this one, local ones, or those of a Dask cluster."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
B = TypeVar("B")
R = TypeVar("R")

#: Why a task whose worker died has no result.
KILLED = "its worker was killed: too little memory, or a decoder that crashed"


def share(
    tasks: Sequence[T],
    build: Callable[[], B],
    work: Callable[[T, B], R],
    killed: Callable[[T, str], R],
    *,
    built: B | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    ordered: bool = False,
) -> Generator[R, None, None]:
    """Do all tasks and yield their results: in order if done in this process, else as they are completed.

    Args:
        tasks: small and picklable.
        build: makes what every task needs and what is slow to make, such as networks on their device. It is called
            once in each worker process; picklable, such as a method of a frozen dataclass.
        work: does one task with the result of ``build``; picklable. Its exceptions end the loop.
        killed: gives the result of a task whose worker died, from the task and the reason (:data:`KILLED`); called
            in this process.
        built: the result of ``build`` for this process, if it exists already.
        workers: number of local processes, each with one thread. With 1, or with a single task, all is done in this
            process.
        scheduler: address of a running Dask scheduler to use instead.
        ordered: in order in any case. At most two tasks for each worker are begun and not yet yielded, so that large
            results do not pile up.
    """
    if not tasks:
        return
    workers = min(workers, len(tasks))
    if scheduler is None and workers <= 1:
        mine = build() if built is None else built
        for task in tasks:
            yield work(task, mine)
        return
    from distributed import Client, KilledWorker, as_completed

    from prep.cluster import open_cluster

    with open_cluster(workers, scheduler) as address, Client(address) as client:
        # Sent with every task, not scattered: scattered data is lost if the workers that hold it die.
        shared = _Work(build, work, secrets.token_hex(8))

        def submit(task: T) -> Any:
            return client.submit(_in_worker, task, shared, pure=False, key=None)

        def result(future: Any, task: T) -> R:
            try:
                return future.result()
            except KilledWorker:
                return killed(task, KILLED)
            finally:
                future.release()

        if ordered:
            ahead = 2 * max(1, len(client.scheduler_info()["workers"]))
            begun: deque[tuple[Any, T]] = deque()
            for task in tasks:
                begun.append((submit(task), task))
                if len(begun) == ahead:
                    yield result(*begun.popleft())
            while begun:
                yield result(*begun.popleft())
            return
        futures = {submit(task): task for task in tasks}
        for future in as_completed(list(futures)):
            yield result(future, futures.pop(future))


@dataclass(frozen=True)
class _Work(Generic[T, B, R]):
    """What a worker does with a task. ``token`` distinguishes two loops that use the same workers."""

    build: Callable[[], B]
    work: Callable[[T, B], R]
    token: str


_built: dict[str, Any] = {}


def _in_worker(task: T, shared: _Work[T, B, R]) -> R:
    """Runs in a Dask worker. The result of ``build`` stays in the process until another loop starts."""
    if shared.token not in _built:
        import cv2
        import torch

        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        _built.clear()
        _built[shared.token] = shared.build()
    return shared.work(task, _built[shared.token])
