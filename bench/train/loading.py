"""Data sets and data loaders for the samples of a stage."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from bench.clips.clip_lists import read_clips
from bench.train.prefetching import Ahead
from models.base import Batch, Stage
from prep.dataset import StillDataset, WindowDataset
from prep.order import WindowStream
from prep.sample_spec import SampleSpec

if TYPE_CHECKING:
    from bench.train.config import RunConfig

#: Splits that a data set may have.
SPLITS = ("train", "val", "test", "pretrain")
#: What clips of a run are used for.
Part = Literal["train", "val"]
PARTS: tuple[Part, ...] = ("train", "val")


def part_clips(config: RunConfig, part: Part) -> tuple[tuple[str, ...], frozenset[str] | None]:
    """The clips that a run uses for training or for validation.

    Returns:
        Splits of its data sets, and ids of the clips in them (None: all).

    Raises:
        BenchError: its list of clips cannot be read.
    """
    if config.person is not None:
        return SPLITS, frozenset(config.person.train if part == "train" else config.person.val)
    if part == "train" and config.clips is not None:
        return (part,), read_clips(config.clips)
    return (part,), None


def open_part(
    config: RunConfig, part: Part, stage: Stage, derived: Mapping[str, str] | None = None
) -> WindowDataset:
    """The data set of a stage for training or for validation. Raises as :func:`part_clips` and :func:`open_dataset`.

    Persons have the numbers that they have in the training clips.

    Args:
        config: of the run.
        part: which of the two.
        stage: that uses the samples.
        derived: derivation → the key of the columns to use.
    """
    splits, clips = part_clips(config, part)
    known = None
    if part == "val" and isinstance(stage.sample, SampleSpec) and stage.sample.identity:
        known = open_part(config, "train", stage, derived).identities
    return open_dataset(config.data, splits, stage, config.runner.seed, clips, derived, known)


def open_dataset(
    data: Sequence[Path],
    split: str | Sequence[str],
    stage: Stage,
    seed: int,
    clips: Collection[str] | None = None,
    derived: Mapping[str, str] | None = None,
    known: Sequence[str] | None = None,
) -> WindowDataset:
    """The data set for the samples of a stage, see :class:`prep.dataset.WindowDataset`.

    Raises:
        PrepError: it is missing, lacks a column, or has no sample in this split.
    """
    spec = stage.sample
    if isinstance(spec, SampleSpec):
        return WindowDataset(data, split, spec, seed, clips, derived, known)
    return StillDataset(data, split, spec.view, spec.landmarks, seed, clips, spec.size)


class _PreparedStream(IterableDataset[Batch]):
    def __init__(self, stream: WindowStream, stage: Stage) -> None:
        self._stream = stream
        self._prepare = stage.prepare

    def __iter__(self) -> Iterator[Batch]:
        return map(self._prepare, self._stream)


class _PreparedSlice(Dataset[Batch]):
    """Prepared samples by their position in the sequence of all epochs, each epoch in the order of the shards."""

    def __init__(self, dataset: WindowDataset, stage: Stage, places: range) -> None:
        self._dataset = dataset
        self._prepare = stage.prepare
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Batch:
        return self._prepare(self._dataset.sample(*divmod(self._places[index], len(self._dataset))))


def training_loader(
    stream: WindowStream, stage: Stage, *, workers: int, pin_memory: bool = False
) -> DataLoader[Batch]:
    """Batches of an endless stream, completed by :meth:`~models.base.Stage.prepare` in the worker processes."""
    return _loader(
        _PreparedStream(stream, stage), stage.train.batch_size, workers=workers, pin_memory=pin_memory
    )


def validation_loader(
    dataset: WindowDataset,
    stage: Stage,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    limit: int | None = None,
) -> DataLoader[Batch]:
    """This process's share of the first ``limit`` samples, in order: the same every time.

    If there are fewer clips than ``limit``, each gives several windows. None: each clip gives one.
    """
    places = range(rank, limit or len(dataset), world_size)
    return _loader(_PreparedSlice(dataset, stage, places), stage.train.batch_size, workers=workers)


def _loader(
    dataset: Dataset[Batch], batch_size: int, *, workers: int, pin_memory: bool = False
) -> DataLoader[Batch]:
    return DataLoader(
        dataset,
        batch_size,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals,
        # A separate generator: making a loader must not draw a number from the generator of training.
        generator=torch.Generator(),
        collate_fn=None if workers else _collate,
        # Workers must share the memory of decoded pictures.
        multiprocessing_context="fork" if workers else None,
    )


def _collate(samples: list[Batch]) -> Batch:
    """What torch's function makes. But that computes in the threads of the training step, which then wait for it."""
    return {
        key: torch.from_numpy(np.stack([sample[key].numpy() for sample in samples]))
        if isinstance(value, torch.Tensor)
        else default_collate([sample[key] for sample in samples])
        for key, value in samples[0].items()
    }


def workers_of(workers: Literal["auto"] | int, processes: int) -> int:
    """Number of worker processes of each data loader.

    With two cores or fewer a process that trains, ``auto`` is 0: samples are read in a thread of it, which needs less
    of the processor than passing them from one process to another.

    Args:
        workers: ``runner.workers``.
        processes: that train.
    """
    if workers != "auto":
        return workers
    each = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    return 0 if each <= 2 else min(4, each // 2)


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _leave_signals(_: int) -> None:
    # Schedulers and terminals send signals to the whole process group. The runner saves first, then ends its
    # workers.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def reading(loader: DataLoader[Batch], device: torch.device, ahead: int = 1) -> Iterator[Iterator[Batch]]:
    """The batches of a loader on a device, so many ``ahead`` of their use. At the end, also after an error, the
    loader's worker processes are ended.

    They ignore the signal by which Python would end them when it exits: it would wait for them forever.
    """

    source = iter(loader)
    try:
        with closing(Ahead(source, device, ahead)) as batches:
            yield batches
    finally:
        # An error that is still handled keeps the iterator, and so its workers.
        if shut_down := getattr(source, "_shutdown_workers", None):
            shut_down()
