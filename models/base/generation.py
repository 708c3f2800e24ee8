"""What a method is to generation: it turns footage and speech into frames.

Pictures are RGB, (H, W, 3) uint8, unless a docstring says otherwise.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from torch.optim import Optimizer

from models.base.training import Trainable, Update
from prep.sample_spec import Sound

#: Where the head's pose comes from: the footage itself, another video, or it is left still.
PoseKind = Literal["footage", "video", "still"]
#: :attr:`Talker.output` of a talker that paints into the frames of the footage.
FULL = "full"


@dataclass(frozen=True)
class Shot:
    """One frame of footage.

    Attributes:
        index: its place in the footage.
        frame: (H, W, 3) uint8 RGB, the whole frame. It may be written to.
    """

    index: int
    frame: np.ndarray


@dataclass(frozen=True)
class Crop:
    """What a view shows of a frame.

    Attributes:
        picture: (h, w, 3) uint8 RGB.
        transform: (2, 3) float64, full-frame to crop pixels.
    """

    picture: np.ndarray
    transform: np.ndarray


class Speech(Protocol):
    """A sound, as long as the footage that it belongs to.

    Attributes:
        samples: (640 n_frames,) int16, mono, 16 kHz.
        name: the id of the clip whose sound it is; of a file, its absolute path without suffix.
        length: samples that it had before it was cut, or padded with silence, to the length of the footage.
    """

    samples: np.ndarray
    name: str
    length: int

    def feature(self, name: str) -> np.ndarray:
        """Return (columns, ...) float32: a feature of the whole sound.

        Args:
            name: of :data:`prep.sound.features.FEATURES`, or ``<derivation>.<column>`` of a derivation that hears.
        """
        ...

    def chunk(self, frame: int, sound: Sound) -> np.ndarray:
        """Return (..., ``sound.columns``) float32: what is heard with a frame; silence beyond the ends."""
        ...


class Footage(Protocol):
    """The video that is to speak, as long as the driving sound; it can be gone through several times.

    Attributes:
        n_frames: at 25 a second.
        n_unique: the first so many frames differ; what follows repeats them, to fill the driving sound.
        width: pixels of a frame.
        height: pixels of a frame.
        detected: (n_frames,) bool: a face was found, and has a place in each of :attr:`Talker.views`.
    """

    n_frames: int
    n_unique: int
    width: int
    height: int
    detected: np.ndarray

    @property
    def speech(self) -> Speech:
        """Its own sound, of its first ``n_unique`` frames; silence where it has none."""
        ...

    def landmarks(self, name: str, depth: bool = False) -> np.ndarray:
        """Return (n_frames, P, 2) float32 landmarks of a named set, full-frame pixels; NaN where no face was found.

        With ``depth`` (n_frames, P, 3), z scaled like x.
        """
        ...

    def boxes(self, landmarks: np.ndarray, margin: float) -> np.ndarray:
        """Return (n, 4) float64 x0, y0, x1, y1 in the frame: (n, P, 2) landmarks and ``margin`` pixels around."""
        ...

    def transforms(self, view: str) -> np.ndarray:
        """Return (n_frames, 2, 3) float64, full-frame to view pixels; NaN where there is no face in the view."""
        ...

    def crop(self, view: str, shot: Shot) -> Crop | None:
        """Cut a view out of a frame as it is now; None where there is no face in it."""
        ...

    def derived(self, name: str) -> np.ndarray:
        """Return a derived column, ``<derivation>.<column>``: per frame (n_frames, …), per clip or sound as stored."""
        ...

    def shots(self) -> Iterator[Shot]:
        """Read all frames in order, from the beginning, few at a time."""
        ...

    def pick(self, indices: Sequence[int]) -> list[Shot]:
        """Read some frames, in the order asked for."""
        ...


@dataclass(frozen=True)
class Drive:
    """All that one video is generated from.

    Attributes:
        footage: who speaks.
        speech: what is said, ``footage.n_frames`` long.
        pose: whose head's pose is taken, as long: the footage itself, the footage of another video, or None: the head
            is left still.
    """

    footage: Footage
    speech: Speech
    pose: Footage | None


class Talker(Trainable):
    """A method that makes videos.

    Attributes:
        views: crops that :meth:`generate` takes from the footage.
        output: ``full``: it paints into the frames of the footage; else the view that it paints, whose size its
            frames have. Scoring cuts the truth in the same way.
        poses: kinds of pose that it can take.
        animates_pictures: whether a single picture can be its footage, repeated for as long as the sound lasts.
    """

    views: tuple[str, ...] = ()
    output: ClassVar[str] = FULL
    poses: ClassVar[frozenset[PoseKind]] = frozenset({"footage"})
    animates_pictures: ClassVar[bool] = False

    @abstractmethod
    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        """Make the face of the footage say the speech.

        Networks are in evaluation mode, on the device where inference is to run; gradients are off.

        Yields:
            ``footage.n_frames`` frames, uint8 RGB: (H, W, 3) full frames, in which a frame without a face is its
            own; or, where :attr:`output` is a view, (h, w, 3) of that view's size.
        """

    @property
    def adapts(self) -> bool:
        """Whether :meth:`adapt` fine-tunes; options may decide it."""
        return False

    def adapt_optimizers(self) -> dict[str, Optimizer]:
        """Build the optimizers of :meth:`adapt`, each over parameters of :attr:`Trainable.networks`."""
        return {}

    def adapt(self, drive: Drive) -> Iterator[Update]:
        """Fine-tune on one person before generating: yield the optimizer steps, in order.

        The steps are made by the runner's own code. Networks are in evaluation mode; gradients are on; a stage's
        randomness rules hold. The bench keeps the adapted weights for each person, and puts the trained ones back.

        Args:
            drive: a clip of the person with its own sound.
        """
        yield from ()
