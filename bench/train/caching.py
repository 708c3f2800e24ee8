"""Decides whether a stage keeps its decoded pictures in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from prep.dataset import WindowDataset
from prep.memory import free_memory

#: The share of the free memory that ``auto`` takes: the rest is for the networks, and for others.
SHARE = 0.25

_MIB = 1 << 20


@contextmanager
def keeping_pictures(
    cache: Literal["auto", "off"] | int,
    train: WindowDataset,
    held_out: WindowDataset,
    validated: int | None,
    processes: int,
) -> Iterator[str]:
    """Inside this context, the data sets of a stage keep their decoded pictures, if all of a data set fit.

    Where those of training do not fit, those of validation may: they are fewer, and the same every time. At the end
    the memory is given back: the next stage has other pictures.

    Args:
        cache: ``runner.cache``.
        train: the training windows.
        held_out: the windows of validation.
        validated: number of samples of a validation, or None for one of each clip.
        processes: that train; those on this machine share its memory.

    Yields:
        What to tell the user: what is kept and how large it is, or that the given memory is too little; or "".
    """
    datasets = {"val": held_out, "train": train}
    needs = {"val": held_out.picture_bytes(validated or len(held_out)), "train": train.picture_bytes()}
    free = free_memory()
    room = _room(cache, free, processes)
    kept = []
    try:
        for name, dataset in datasets.items():
            if 0 < needs[name] <= room and _keep(dataset):
                kept.append(name)
                room -= needs[name]
        yield _report(cache, {name: need for name, need in needs.items() if need}, kept, free)
    finally:
        for dataset in datasets.values():
            dataset.forget_pictures()


def _room(cache: Literal["auto", "off"] | int, free: int, processes: int) -> int:
    """Bytes that this process may use."""
    if cache == "off":
        return 0
    if cache != "auto":
        return cache * _MIB
    return int(free * SHARE / int(os.environ.get("LOCAL_WORLD_SIZE", processes)))


def _keep(dataset: WindowDataset) -> bool:
    try:
        dataset.keep_pictures()
    except OSError:  # a limit on address space, or of the system on what may be promised
        return False
    return True


def _report(cache: Literal["auto", "off"] | int, needs: dict[str, int], kept: list[str], free: int) -> str:
    lines = []
    if kept:
        shown = " and ".join(f"{_mib(needs[name])} for {name}" for name in kept)
        lines.append(f"decoded pictures stay in memory: {shown}; {_mib(free)} are free")
    lacking = " and ".join(f"{_mib(need)} for {name}" for name, need in needs.items() if name not in kept)
    if lacking and isinstance(cache, int):
        lines.append(f"runner.cache={cache} is too little for decoded pictures, which need {lacking}")
    return "; ".join(lines)


def _mib(size: int) -> str:
    return f"{-(-size // _MIB):,} MiB"
