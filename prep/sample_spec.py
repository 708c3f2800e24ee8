"""The content of training samples: the contract between methods and prepared data.

It needs the standard library only: methods import this module and nothing else of ``prep``. Whether the names in a spec
exist (views, landmark sets, features of sound) is checked when a data set is opened, by
:func:`prep.sampling.check_spec`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Sound:
    """The sound of a frame: consecutive columns of a named feature.

    For frame f, at 25 fps, they begin at column ``int(rate * (f + offset) / 25) - lead``, truncated towards zero.

    Attributes:
        feature: a name of :data:`prep.sound.features.FEATURES`, or ``<derivation>.<column>``.
        columns: number of columns.
        offset: number of frames by which the chunk begins later than its frame.
        lead: number of columns by which it begins earlier.
        clamp: whether a negative f + offset is replaced by 0.
    """

    feature: str
    columns: int = 16
    offset: int = 0
    lead: int = 0
    clamp: bool = False

    def __post_init__(self) -> None:
        if self.columns < 1:
            raise ValueError(f"{self.columns} columns of {self.feature}")


#: What ATVGnet, EAMM, AudioDVP and Meta Talk hear with a frame: rows 4k to 4k + 28 of the padded MFCC, columns 1 to 12.
#: A chunk is (12, 28), time last as of every sound; their networks take it transposed, (28, 12).
MFCC_28X12 = Sound("mfcc12", columns=28)


@dataclass(frozen=True)
class SampleSpec:
    """The content of one training sample. Frames are counted from the start of their clip; T and N are defined below.

    Attributes:
        window: T, number of consecutive frames, each with a detected face. 0: the sample has no frames, only what
            belongs to the whole clip, in which no face need be found.
        references: N, number of frames outside the window, each with a detected face.
        reference_mode: ``random``: any N frames, in random order, none twice (IP-LAP); ``run``: N consecutive
            frames (Wav2Lip's "wrong window"); ``first``: the first N frames of the clip outside the window.
        view: view whose crops the sample contains, or None.
        view_frames: frames of the window, from 0, whose crops it contains; None: all. Decoding crops is most of the
            work: IP-LAP's renderer uses the landmarks of 5 frames, but the crop of one.
        size: to which crops are scaled, by means over the area of each pixel: pixels of a side, or height and width;
            None: that of the view. Landmarks are not scaled.
        landmarks: a name of :data:`prep.landmark_sets.LANDMARK_SETS`, or ``landmarks68``, or None.
        depth: whether landmarks of the mesh include z, scaled like x.
        normalise: ``frame``: landmarks in pixels of the full frame; ``view``: in pixels of ``view``; ``box``: in [0, 1]
            relative to the box of the set ``face131`` with a margin of 5 px, which is then part of the sample as
            ``boxes`` (as in IP-LAP).
        frame_sounds: the sounds for every frame of the window.
        window_sounds: the sounds for the whole window.
        window_sound_frame: the frame of the window, from 0, to which ``window_sounds`` belong.
        clip_sounds: the sounds of the whole clip, from its first column on: at most ``columns`` of them. Clips with
            more are left out; behind the end of shorter ones the sample has zeros.
        negative_gap: if not 0, the sample also contains ``window_sounds`` of another window, at least this many frames
            away, as negatives (for sync experts; Wav2Lip's expert uses 1).
        derived: derived columns stored by ``bench derive``, ``<derivation>.<column>``; for the frames of the window and
            the references, or for the clip.
        identity: whether the sample contains the identity of the speaker.
        text: whether the sample contains what is said in the clip; clips without text are left out.
        min_frames: clips with fewer frames with a detected face are left out (IP-LAP: 25).
    """

    window: int = 5
    references: int = 0
    reference_mode: Literal["random", "run", "first"] = "random"
    view: str | None = None
    view_frames: tuple[int, ...] | None = None
    size: int | tuple[int, int] | None = None
    landmarks: str | None = None
    depth: bool = False
    normalise: Literal["frame", "view", "box"] = "frame"
    frame_sounds: tuple[Sound, ...] = ()
    window_sounds: tuple[Sound, ...] = ()
    window_sound_frame: int = 0
    clip_sounds: tuple[Sound, ...] = ()
    negative_gap: int = 0
    derived: tuple[str, ...] = ()
    identity: bool = False
    text: bool = False
    min_frames: int = 0

    def __post_init__(self) -> None:
        if self.window < 0 or self.references < 0 or self.negative_gap < 0:
            raise ValueError(
                f"window {self.window}, references {self.references}, negative_gap {self.negative_gap}"
            )
        for frame in (self.window_sound_frame, *(self.view_frames or ())):
            if self.window and not 0 <= frame < self.window:
                raise ValueError(f"frame {frame} lies outside a window of {self.window}")
        framed = (self.references, self.view, self.landmarks, self.frame_sounds, self.window_sounds)
        if self.window == 0 and any(framed):
            raise ValueError(
                "a sample without a window has no references, view, landmarks or sounds of frames"
            )
        sides = (self.size,) if isinstance(self.size, int) else self.size
        if sides is not None and (min(sides) < 1 or self.view is None):
            raise ValueError(f"size {self.size} of view {self.view}")
        if self.view_frames == ():
            raise ValueError("view_frames is empty")
        if self.negative_gap and not self.window_sounds:
            raise ValueError("negative_gap needs window_sounds")
        if any(sound != Sound(sound.feature, sound.columns) for sound in self.clip_sounds):
            raise ValueError("clip_sounds begin with the clip: they have no offset, lead or clamp")
        for sounds in (self.frame_sounds, self.window_sounds, self.clip_sounds):
            features = [sound.feature for sound in sounds]
            if len(set(features)) < len(features):
                raise ValueError(f"one feature is asked for twice: {', '.join(features)}")

    @property
    def sounds(self) -> tuple[Sound, ...]:
        """All sounds of the sample."""
        return self.frame_sounds + self.window_sounds + self.clip_sounds


@dataclass(frozen=True)
class StillSpec:
    """One image per sample, from clips and from still images: see :class:`prep.dataset.StillDataset`.

    Attributes:
        view: name of the view.
        landmarks: a name of :data:`prep.landmark_sets.LANDMARK_SETS`, or ``landmarks68``, or None.
        size: pixels of a side to which images are scaled; None: that of the view. Landmarks are not scaled.
    """

    view: str
    landmarks: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Column:
    """One column that a method derives from a clip, stored beside the shards (:mod:`prep.derived`).

    Attributes:
        name: within its derivation; without a dot.
        per: meaning of the first axis: ``frame``: frames of the clip; ``sound``: steps of sound, ``rate`` per second,
            which samples contain as a :class:`Sound`; ``clip``: there is no such axis, but one value per clip.
        shape: of the remaining axes.
        dtype: NumPy's name of a number type.
        rate: with ``sound``: steps per second; else None.
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
    """Whether a name is that of a derived column, ``<derivation>.<column>``."""
    return "." in name
