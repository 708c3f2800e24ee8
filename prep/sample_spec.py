"""What a stage of training asks for: the contract between methods and the data that is prepared.

Pure standard library: methods import this module and nothing else of ``prep``. Whether the names in a request
exist (views, sets of landmarks, features of sound) is checked where a data set is opened,
by :func:`prep.sampling.check_spec`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Sound:
    """What is heard with a frame: consecutive columns of a named feature.

    For frame f, at 25 a second, they begin at column ``int(rate * (f + offset) / 25) - lead``, truncated towards
    zero.

    Attributes:
        feature: a name of :data:`prep.sound.features.FEATURES`, or ``<derivation>.<column>``.
        columns: how many.
        offset: frames by which the chunk begins later than its frame.
        lead: columns by which it begins earlier.
        clamp: whether f + offset counts as 0 where it is negative.
    """

    feature: str
    columns: int = 16
    offset: int = 0
    lead: int = 0
    clamp: bool = False

    def __post_init__(self) -> None:
        if self.columns < 1:
            raise ValueError(f"{self.columns} columns of {self.feature}")


@dataclass(frozen=True)
class SampleSpec:
    """What one training sample must hold. Frames count from the start of their clip; T and N are below.

    Attributes:
        window: T, consecutive frames, a face found in each.
        references: N, frames outside the window, a face found in each.
        reference_mode: ``random``: any N frames, in random order, none twice (IP-LAP); ``run``: N consecutive
            frames (Wav2Lip's "wrong window"); ``first``: the first N frames of the clip outside the window.
        view: crop geometry whose pictures are wanted, or None.
        view_frames: frames of the window, from 0, whose pictures are wanted; all where None. To decode them is
            most of the work: IP-LAP's renderer sees the landmarks of 5 frames, but the picture of one.
        landmarks: a name of :data:`prep.landmark_sets.LANDMARK_SETS`, or ``landmarks68``, or None.
        depth: whether landmarks of the mesh come with their z, scaled like x.
        normalise: ``frame``: landmarks in pixels of the full frame; ``view``: in pixels of ``view``;
            ``box``: in [0, 1] over the box of the set ``face131`` with 5 px around it, which is delivered as
            ``boxes`` (IP-LAP's).
        frame_sounds: what every frame of the window hears.
        window_sounds: what the window as a whole hears.
        window_sound_frame: the frame of the window, from 0, that ``window_sounds`` are those of.
        negative_gap: where not 0, ``window_sounds`` are delivered a second time, wrong ones of another window at
            least so many frames away (for sync experts; Wav2Lip's own takes 1).
        derived: columns that ``bench derive`` has stored, ``<derivation>.<column>``; of the window's and the
            references' frames, or of the clip.
        identity: whether the sample says whose clip it is.
        min_frames: clips with fewer frames in which a face was found are left out (IP-LAP: 25).
    """

    window: int = 5
    references: int = 0
    reference_mode: Literal["random", "run", "first"] = "random"
    view: str | None = None
    view_frames: tuple[int, ...] | None = None
    landmarks: str | None = None
    depth: bool = False
    normalise: Literal["frame", "view", "box"] = "frame"
    frame_sounds: tuple[Sound, ...] = ()
    window_sounds: tuple[Sound, ...] = ()
    window_sound_frame: int = 0
    negative_gap: int = 0
    derived: tuple[str, ...] = ()
    identity: bool = False
    min_frames: int = 0

    def __post_init__(self) -> None:
        if self.window < 1 or self.references < 0 or self.negative_gap < 0:
            raise ValueError(
                f"window {self.window}, references {self.references}, negative_gap {self.negative_gap}"
            )
        for frame in (self.window_sound_frame, *(self.view_frames or ())):
            if not 0 <= frame < self.window:
                raise ValueError(f"frame {frame} lies outside a window of {self.window}")
        if self.view_frames == ():
            raise ValueError("view_frames is empty")
        if self.negative_gap and not self.window_sounds:
            raise ValueError("negative_gap needs window_sounds")
        for sounds in (self.frame_sounds, self.window_sounds):
            features = [sound.feature for sound in sounds]
            if len(set(features)) < len(features):
                raise ValueError(f"one feature is asked for twice: {', '.join(features)}")

    @property
    def sounds(self) -> tuple[Sound, ...]:
        """All that is heard."""
        return self.frame_sounds + self.window_sounds


@dataclass(frozen=True)
class StillSpec:
    """One picture a sample, of clips and of still images alike: see :class:`prep.dataset.StillDataset`.

    Attributes:
        view: crop geometry.
        landmarks: a name of :data:`prep.landmark_sets.LANDMARK_SETS`, or ``landmarks68``, or None.
    """

    view: str
    landmarks: str | None = None


@dataclass(frozen=True)
class Column:
    """One column that a method derives from a clip, kept beside the shards (:mod:`prep.derived`).

    Attributes:
        name: within its derivation; without a dot.
        per: what its first axis counts: ``frame``: frames of the clip; ``sound``: steps of sound, ``rate`` a second,
            which samples ask for as a :class:`Sound`; ``clip``: it has none, there is one value a clip.
        shape: of the axes after that.
        dtype: numpy's name of a number type.
        rate: with ``sound``: steps a second; else None.
    """

    name: str
    per: Literal["frame", "clip", "sound"]
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    rate: float | None = None

    def __post_init__(self) -> None:
        if not self.name or "." in self.name:
            raise ValueError(f"a derived column cannot be called {self.name!r}")
        if self.per not in ("frame", "clip", "sound"):
            raise ValueError(f"column {self.name} is per {self.per!r}; known are: frame, clip, sound")
        if (self.per == "sound") != (self.rate is not None):
            raise ValueError(f"column {self.name}: a rate belongs to columns per sound, and to no others")


def is_derived(name: str) -> bool:
    """Whether a name is one of a derived column, ``<derivation>.<column>``."""
    return "." in name
