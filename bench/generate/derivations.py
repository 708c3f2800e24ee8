"""Derived columns of one clip: read from a file beside its shard, or computed now by the same function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from bench.clips.job import Job
from bench.common.errors import first_line
from bench.generate.footage import VideoFootage
from bench.generate.sound import DrivingSound, Hear
from bench.generate.talkers import Loaded
from bench.train.derivations import derived_specs
from models.base import Derivation
from prep.derived import STEP, wanted_shape
from prep.derived_reading import DerivedSet, find
from prep.errors import ClipError
from prep.sample_spec import Column
from prep.shards import MANIFEST


def compute(derivation: Derivation, footage: VideoFootage) -> dict[str, np.ndarray]:
    """Run a derivation over one clip.

    Args:
        derivation: what is computed.
        footage: the unchanged clip, with its own sound.

    Returns:
        Column → array, with the declared types and shapes.

    Raises:
        ClipError: it is not possible for this clip, or the result differs from the declared columns.
    """
    if derivation.compute is None:
        return hear(derivation, footage.speech)
    return _run(derivation, partial(derivation.compute, footage), footage.n_frames)


def hear(derivation: Derivation, speech: DrivingSound) -> dict[str, np.ndarray]:
    """Run a derivation over a sound without a clip; otherwise as :func:`compute`.

    Raises:
        ClipError: as there, or the derivation also needs a clip's frames.
    """
    if derivation.hear is None:
        raise ClipError(STEP, f"{derivation.name} is derived from a clip, and there is a sound alone")
    return _run(derivation, partial(derivation.hear, speech), 0)


def _run(
    derivation: Derivation, work: Callable[[], Mapping[str, np.ndarray]], n_frames: int
) -> dict[str, np.ndarray]:
    import torch

    try:
        with torch.inference_mode():
            values = work()
    except (ValueError, RuntimeError, ArithmeticError) as error:
        reason = first_line(error) or type(error).__name__
        raise ClipError(STEP, f"{derivation.name}: {reason}") from error
    _check(derivation, n_frames, values)
    return dict(values)


def _check(derivation: Derivation, n_frames: int, values: Mapping[str, np.ndarray]) -> None:
    columns = {column.name: column for column in derivation.columns}
    if values.keys() != columns.keys():
        raise ClipError(STEP, f"{derivation.name} gives {sorted(values)}, and declares {sorted(columns)}")
    for name, column in columns.items():
        array = values[name]
        shape = wanted_shape(column, n_frames, array)
        if array.dtype != column.dtype or array.shape != shape:
            raise ClipError(
                STEP,
                f"{derivation.name}.{name} is {array.dtype} {array.shape}, and declares {column.dtype} "
                f"{shape}",
            )


def derivation_keys(loaded: Loaded) -> dict[str, str]:
    """Derivation → its key, for all derivations of a talker."""
    return {
        name: spec.key
        for name, spec in derived_specs(loaded.talker, loaded.assets, loaded.config.sound).items()
    }


class ClipDeriver:
    """Returns the derived columns of one clip, as :data:`bench.generate.footage.Derive`.

    Args:
        loaded: the talker that derives them.
        job: the clip of a data set; None: a video outside of data sets, without stored columns.
    """

    def __init__(self, loaded: Loaded, job: Job | None = None) -> None:
        self._derivations = loaded.talker.derivations
        self._specs = (
            derived_specs(loaded.talker, loaded.assets, loaded.config.sound) if self._derivations else {}
        )
        self._job = job
        self._values: dict[str, dict[str, np.ndarray]] = {}

    def __call__(self, footage: VideoFootage, name: str) -> tuple[Column, np.ndarray]:
        """The column and its values for the unchanged clip.

        Raises:
            ClipError: it could not be computed for this clip.
            KeyError: the method derives no such column.
        """
        derivation, _, wanted = name.partition(".")
        columns = {column.name: column for column in self._derivations[derivation].columns}
        column = columns[wanted]
        if derivation not in self._values:
            self._values[derivation] = self._stored(derivation) or compute(
                self._derivations[derivation], footage
            )
        values = self._values[derivation][wanted]
        return column, values[: footage.n_frames] if column.per == "frame" else values

    def _stored(self, derivation: str) -> dict[str, np.ndarray] | None:
        """What `bench derive` stored beside the data set; None if it was not run."""
        if self._job is None or self._job.shard is None:
            return None
        shard, _ = self._job.shard
        data = shard.parent.parent
        spec = self._specs[derivation]
        if not (spec.folder(data) / MANIFEST).is_file():
            return None
        try:
            return _found(data, spec.name, spec.key).read(shard.name, self._job.clip_id)
        except KeyError:
            raise ClipError(STEP, f"{derivation} could not be derived; see its manifest.json") from None


@lru_cache(maxsize=64)
def _found(data: Path, name: str, key: str) -> DerivedSet:
    return find(data, name, key)


def sound_deriver(loaded: Loaded) -> Hear:
    """A function that computes derived features of a driving sound, for
    :class:`bench.generate.sound.DrivingSound`."""

    def heard(speech: DrivingSound, name: str) -> tuple[Column, np.ndarray]:
        derivation, _, wanted = name.partition(".")
        found = loaded.talker.derivations[derivation]
        (column,) = (column for column in found.columns if column.name == wanted)
        return column, hear(found, speech)[wanted]

    return heard
