"""Columns that a method computes once a clip: fits of face models, deep speech features, face parsing, poses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.base.generation import Footage, Speech
from prep.sample_spec import Column


@dataclass(frozen=True)
class Derivation:
    """How some columns of a clip are computed.

    `bench derive` runs it over a data set and keeps the columns beside the shards; `bench dub` runs the same function
    for its one video. Columns are kept apart by ``name``, ``columns``, ``parameters`` and the digests of the assets'
    weights: whatever else ``compute`` depends on must stand in ``parameters``.

    Attributes:
        name: such as ``fit``; its columns are asked for as ``fit.expression``.
        columns: what it gives.
        compute: a clip with its own sound (:attr:`models.base.Footage.speech`) → column → array of the declared
            shape: (n_frames, *shape) for ``per="frame"``, shape for ``per="clip"``, (n, *shape) for ``per="sound"``.
            Gradients are off. None: ``hear`` does it.
        hear: a sound alone → the same, with columns ``per="sound"`` only. So derived, a feature can be asked of any
            driving sound: ``speech.feature("<derivation>.<column>")``. None: ``compute`` does it.
        parameters: what decides the values, as JSON can hold it, with a version of the code.
        assets: names in :attr:`models.base.Trainable.assets` whose networks it runs.

    Raises:
        ValueError: neither or both of ``compute`` and ``hear`` are given, or columns do not suit; raised by one of
            these two: this clip cannot be done, in one line; it becomes a failure of its own.
    """

    name: str
    columns: tuple[Column, ...]
    compute: Callable[[Footage], Mapping[str, np.ndarray]] | None = None
    hear: Callable[[Speech], Mapping[str, np.ndarray]] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    assets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.compute is None) == (self.hear is None):
            raise ValueError(f"the derivation {self.name} needs one of compute and hear")
        if self.hear is not None and any(column.per != "sound" for column in self.columns):
            raise ValueError(f"the derivation {self.name} hears a sound: its columns are per sound")
