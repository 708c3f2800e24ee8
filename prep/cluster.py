"""Where the tasks run: a local cluster tuned for landmark detection, or one that is already there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Dask's settings for local workers. The last seven are worth a fifth of all processor time on two cores.
_CONFIG: dict[str, Any] = {
    # A shard that kills its worker is tried once more whole, then clip by clip.
    "distributed.scheduler.allowed-failures": 1,
    # A worker holds the task it runs and no other, which would be taken for the cause of its death as well.
    "distributed.scheduler.worker-saturation": 1.0,
    # Ctrl-C reaches the workers as well, but it is for the client's process to stop them.
    "distributed.worker.preload": ["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
    # A worker has one thread of ours, and FaceMesh has its own.
    "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": 1,
    "distributed.nanny.pre-spawn-environ.MKL_NUM_THREADS": 1,
    "distributed.nanny.pre-spawn-environ.OPENBLAS_NUM_THREADS": 1,
    # Dask has the allocator give memory back at every chance; frames then cost a page fault for every 4 KiB.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 28,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 28,
    # Tasks take seconds to minutes: there is nothing to watch every 20 ms.
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.tick.interval": "500ms",
}


@contextmanager
def open_cluster(workers: int, scheduler: str | None, profile: bool = False) -> Iterator[Any]:
    """Yield what a Dask ``Client`` connects to.

    Args:
        workers: local processes, one thread each.
        scheduler: address of a running scheduler; nothing is started, and nothing stopped.
        profile: let the local workers sample their own stacks, for a performance report.
    """
    if scheduler:
        yield scheduler
        return
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set({**_CONFIG, "distributed.worker.profile.enabled": profile}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster
