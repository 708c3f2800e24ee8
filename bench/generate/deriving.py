"""Computes the derived columns of a method for whole data sets, and stores them beside the shards.

It can be resumed like preparation: a shard's columns are written completely or not at all, and the same command
continues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.clips.inputs.dataset import clip_jobs
from bench.clips.job import Job
from bench.common.dask_loop import share
from bench.common.device import pick_device
from bench.common.errors import BenchError
from bench.common.lock import exclusive
from bench.common.methods import get_method
from bench.generate.derivations import compute
from bench.generate.fit import Fit
from bench.generate.footage import clip_footage
from bench.train.assets import load_assets
from bench.train.config import RunConfig, load_config
from bench.train.derivations import derived_specs
from bench.train.inputs import build_method
from bench.train.run_options import SoundConfig
from bench.train.sound import data_sound
from bench.weights.store import WeightStore
from models.base import Trainable
from prep.derived import (
    DERIVED,
    STEP,
    DerivedSpec,
    SidecarTask,
    finish_derivation,
    open_derivation,
    write_sidecar,
)
from prep.errors import ClipError
from prep.schema import Clip


@dataclass(frozen=True)
class Derived:
    """The derived columns of one data set.

    Attributes:
        folder: of the columns.
        name: of the derivation.
        clips: number of clips that have them.
        failures: clip id → why it has none.
    """

    folder: Path
    name: str
    clips: int
    failures: Mapping[str, str]


@dataclass(frozen=True)
class MethodSource:
    """Everything needed to build a method with the assets for deriving; small and picklable."""

    config: RunConfig
    device: str
    store: WeightStore

    def open(self) -> tuple[Trainable, dict[str, str]]:
        """The method on its device, and the digests of the assets."""
        method = build_method(self.config)
        return method, load_assets(method, {"derive"}, self.store, device=self.device)


def derive(
    method: str,
    data: Sequence[Path],
    *,
    run: Path | None = None,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    root: Path | None = None,
    device: str = "auto",
    workers: int = 1,
    scheduler: str | None = None,
    weights_dir: Path | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> list[Derived]:
    """Compute the derived columns of a method for every clip of some data sets.

    Args:
        method: its name.
        data: prepared data sets.
        run: a run whose configuration is used; None: that of ``preset`` and ``overrides``.
        preset: as for training; None: ``paper``.
        overrides: ``key=value`` over the preset.
        root: folder of the source videos, if one data set is given; None: the folder recorded at preparation.
        device: of torch.
        workers: local processes.
        scheduler: address of a running Dask scheduler to use instead.
        weights_dir: folder of weights that is searched first.
        on_progress: called after every shard with the derivation's name, the shards done and all of them.

    Returns:
        One entry for each data set and derivation.

    Raises:
        BenchError: the method derives nothing, an asset or the source video of a clip is missing, options do not go
            together, a worker was killed, or something cannot be written.
        PrepError: a folder is not a complete data set.
    """
    get_method(method)
    if not data:
        raise BenchError("nothing to derive from: name a prepared data set with --data")
    if root is not None and len(data) > 1:
        raise BenchError("--root works with one data set only: give one --data with it")
    if run is not None and (preset is not None or overrides):
        raise BenchError(f"{run} has its own configuration: leave --preset and --set out, or --run")
    config = (
        load_config(method, preset or "paper", overrides, data, Path())
        if run is None
        else RunConfig.load(run)
    )
    if config.method != method:
        raise BenchError(f"{run} is a run of {config.method}, not of {method}: give another --run")
    if run is None:
        config = config.model_copy(update={"sound": data_sound(data)})
    source = MethodSource(config, pick_device(device), WeightStore.default(weights_dir))
    built = source.open()
    specs = derived_specs(*built, config.sound)
    if not specs:
        raise BenchError(f"{method} derives no columns: it needs none before it is trained")
    found = []
    for folder in data:
        for spec in specs.values():
            notify = partial(on_progress, spec.name) if on_progress is not None else None
            try:
                (folder / DERIVED).mkdir(exist_ok=True)
                with exclusive(folder / DERIVED, "bench derive"):
                    found.append(_derive(folder, spec, source, built, root, workers, scheduler, notify))
            except OSError as error:
                where = error.filename or folder / DERIVED
                raise BenchError(f"{where}: {error.strerror or error}; the same command continues") from error
    return found


def _derive(
    data: Path,
    spec: DerivedSpec,
    source: MethodSource,
    built: tuple[Trainable, dict[str, str]],
    root: Path | None,
    workers: int,
    scheduler: str | None,
    on_progress: Callable[[int, int], None] | None,
) -> Derived:
    tasks = open_derivation(data.absolute(), spec)
    jobs: dict[str, list[Job]] = {}
    for job in clip_jobs(data, root):
        assert job.shard is not None
        jobs.setdefault(job.shard[0].name, []).append(job)
    pairs = [(task, jobs.get(task.shard.name, [])) for task in tasks]
    work = partial(_derive_shard, name=spec.name, sound=source.config.sound)
    done = share(pairs, source.open, work, _killed, built=built, workers=workers, scheduler=scheduler)
    for number, _ in enumerate(done, 1):
        if on_progress is not None:
            on_progress(number, len(tasks))
    manifest = finish_derivation(data.absolute(), spec)
    failures = {failure["clip_id"]: failure["reason"] for failure in manifest["failures"]}
    return Derived(spec.folder(data), spec.name, manifest["clips"], failures)


def _derive_shard(
    pair: tuple[SidecarTask, list[Job]],
    built: tuple[Trainable, dict[str, str]],
    name: str,
    sound: SoundConfig,
) -> None:
    """Derive the clips of one shard."""
    task, jobs = pair
    method, digests = built
    derivation = method.derivations[name]
    by_id = {job.clip_id: job for job in jobs}

    def derive_clip(clip: Clip) -> Mapping[str, np.ndarray]:
        job = by_id.get(clip.clip_id)
        if job is None:
            raise ClipError(STEP, "it is not in the shard any more: prepare the data set anew")
        footage = clip_footage(job, (), 0, Fit(shorter="pad"), padding=sound.mel_padding)
        try:
            return compute(derivation, footage)
        except ClipError as error:
            if job.truth is not None:
                raise
            # Not a failure of the clip: with the right folder it can be derived.
            raise BenchError(f"{clip.clip_id}: {error.reason}") from None

    write_sidecar(
        task, derived_specs(method, digests, sound)[name], derive_clip, ["clip_id", "split", "source"]
    )


def _killed(pair: tuple[SidecarTask, list[Job]], reason: str) -> None:
    raise BenchError(f"{pair[0].shard}: {reason}; the same command continues, use fewer --workers")
