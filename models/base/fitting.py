"""Stages without gradient steps: what is learnt follows from sums over clips, such as first and second moments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import nn

from models.base.config import Section

#: Name → float64 or int64 array, or number; sums of two clips are added name by name.
Sums = Mapping[str, np.ndarray]


class FitConfig(Section):
    """Options that every fit stage has.

    Attributes:
        folds: groups into which the persons of the training clips are divided; with fewer persons, each is a group.
    """

    folds: int = Field(default=5, ge=2)


@dataclass(frozen=True)
class FitClip:
    """What a fit stage reads of a clip: T frames at 25 a second.

    Attributes:
        clip_id: its name.
        person: who speaks, ``<corpus>/<speaker>``.
        landmarks: (T, 478, 3) float32, pixels of the full frame; NaN rows where no face was found.
        mel: (C, 80) float32, 80 columns a second.
    """

    clip_id: str
    person: str
    landmarks: np.ndarray
    mel: np.ndarray


@dataclass(frozen=True)
class Pass:
    """One pass over clips.

    Attributes:
        name: as messages call it.
        part: over the training clips, in folds of persons, or over those of validation, in one group.
    """

    name: str
    part: Literal["train", "val"]


@dataclass(frozen=True)
class Group:
    """The clips of some persons in a pass.

    Attributes:
        persons: whose clips gave something.
        clips: that gave something.
        sums: over these clips.
    """

    persons: int
    clips: int
    sums: Sums


class Unfit(ValueError):
    """A clip gives nothing to the sums, and why, in a few words that are the same for all such clips."""


class FitStage(ABC):
    """One problem of a method that is solved from sums over clips. It touches no device, no file and no progress bar.

    The runner makes one pass over the data after the other. In each, :meth:`sums` is called for every clip, in any
    process, and must be a pure function of the clip and of what :meth:`take` has set before. Sums are added in an order
    that depends on the data alone, so that the number of processes changes no bit of the result. At no time more than
    the sums of each group and a few more are in memory.

    Attributes:
        name: its key in :attr:`models.base.Trainable.stages`, in logs and folders.
        config: its options.
        passes: in order; the last one decides on the figures of the run.
        networks: name → module, whose buffers :meth:`take` sets, and which are saved. They must not change in
            :meth:`sums`.
        frozen: as of :class:`models.base.Stage`.
    """

    name: str
    config: FitConfig
    passes: ClassVar[tuple[Pass, ...]]
    networks: dict[str, nn.Module]
    frozen: dict[str, nn.Module]

    @abstractmethod
    def sums(self, number: int, clip: FitClip) -> Sums:
        """What a clip adds in a pass; the same names and shapes for all clips.

        Args:
            number: of the pass, from 0.
            clip: of the pass's part.

        Raises:
            Unfit: the clip has nothing to add.
        """

    @abstractmethod
    def take(self, number: int, groups: Sequence[Group]) -> dict[str, float]:
        """Take over the sums of a whole pass: set what the next pass needs, or what is learnt.

        Args:
            number: of the pass, from 0.
            groups: folds of persons, at least two; of validation one.

        Returns:
            Figures for the log.

        Raises:
            ValueError: nothing can be learnt from these sums; one line.
        """

    def about(self) -> dict[str, object]:
        """What is written into the file of the networks, as JSON can hold it, such as the set of landmarks."""
        return {}
