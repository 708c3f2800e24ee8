"""The Dask cluster: a local one with settings for landmark detection, or an existing one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Dask's settings for local workers. The last seven save a fifth of all processor time on two cores.
_CONFIG: dict[str, Any] = {
    # A shard that kills its worker is tried again as a whole, then clip by clip.
    "distributed.scheduler.allowed-failures": 1,
    # A worker holds only the task that it runs: others would also count as causes if it dies.
    "distributed.scheduler.worker-saturation": 1.0,
    # Ctrl-C also reaches the workers, but the client's process must stop them.
    "distributed.worker.preload": ["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
    # A worker has one thread for tasks, and FaceMesh has its own threads.
    "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": 1,
    "distributed.nanny.pre-spawn-environ.MKL_NUM_THREADS": 1,
    "distributed.nanny.pre-spawn-environ.OPENBLAS_NUM_THREADS": 1,
    # Dask makes the allocator return memory as often as possible; then frames cost a page fault for every 4 KiB.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 28,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 28,
    # Tasks take seconds to minutes, so monitoring every 20 ms is not needed.
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.tick.interval": "500ms",
}


@contextmanager
def open_cluster(workers: int, scheduler: str | None, profile: bool = False) -> Iterator[Any]:
    """Yield a cluster or an address for a Dask ``Client``.

    Args:
        workers: local processes, one thread each.
        scheduler: address of a running scheduler; then nothing is started or stopped.
        profile: enable the profiler of local workers, for a performance report.
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
            # None would be Dask's usual port, with a warning where another cluster has it.
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster
