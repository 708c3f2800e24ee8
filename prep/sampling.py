"""The windows that qualify for a sample, the random choice of one, and the order of clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prep.derived_reading import DerivedColumns
from prep.errors import PrepError
from prep.index import ClipIndex
from prep.landmark_sets import LANDMARK_SETS
from prep.rates import SAMPLES_PER_FRAME
from prep.sample_spec import SampleSpec, Sound, is_derived
from prep.sound.features import FEATURES, valid_frames
from prep.views import VIEWS

#: Why clips are left out that no text is known of.
NO_TEXT = "no text"
#: The name for the 68 points from the corpus or detector.
LANDMARKS68 = "landmarks68"


def check_spec(spec: SampleSpec) -> None:
    """Check that names exist and that fields are consistent. Whether derived columns exist is not checked here.

    Raises:
        ValueError: names the field and the known names.
    """
    _one_of("reference_mode", spec.reference_mode, ("random", "run", "first"))
    _one_of("normalise", spec.normalise, ("frame", "view", "box"))
    for field in ("frame_sounds", "window_sounds", "clip_sounds"):
        for sound in getattr(spec, field):
            if not is_derived(sound.feature):
                _one_of(field, sound.feature, tuple(FEATURES))
    for name in spec.derived:
        if not is_derived(name):
            raise ValueError(f"derived is {name!r}, not <derivation>.<column>")
    _one_of("view", spec.view, (None, *VIEWS))
    _one_of("landmarks", spec.landmarks, (None, LANDMARKS68, *LANDMARK_SETS))
    if spec.normalise == "view" and spec.view is None:
        raise ValueError("normalise='view' needs a view")
    if spec.normalise == "box" and spec.landmarks in (None, LANDMARKS68):
        raise ValueError("normalise='box' needs landmarks of the mesh")
    if spec.depth and (spec.landmarks in (None, LANDMARKS68) or spec.normalise == "box"):
        raise ValueError("depth needs landmarks of the mesh, and normalise='frame' or 'view'")


def columns_of(spec: SampleSpec) -> list[str]:
    """Columns of the shards that a sample needs."""
    names = []
    if spec.view is not None:
        names.append(spec.view)
    if spec.landmarks is not None:
        names.append(LANDMARKS68 if spec.landmarks == LANDMARKS68 else "landmarks")
        if spec.normalise == "view":
            names.append(f"{spec.view}_transform")
    stored = {FEATURES[s.feature].stored or "audio" for s in spec.sounds if not is_derived(s.feature)}
    return names + sorted(stored)


@dataclass(frozen=True)
class Windows:
    """The possible starts of windows of a :class:`SampleSpec`, for a :class:`~prep.index.ClipIndex`.

    Attributes:
        clips: (m,) int64, positions of the clips that have at least one window.
        starts: (F,) bool for all frames of the index: whether a window can start here.
        excluded: reason → number of clips left out for it; a clip counts once.
    """

    clips: np.ndarray
    starts: np.ndarray
    excluded: dict[str, int]


#: Feature → columns per second, and (n,) number of columns of each clip of an index.
Heard = dict[str, tuple[float, np.ndarray]]


def heard_columns(index: ClipIndex, features: Iterable[str]) -> Heard:
    """Rates and numbers of columns of features of the sound samples; 0 columns for a clip without sound."""
    found: Heard = {}
    samples, of = np.unique(np.diff(index.first) * SAMPLES_PER_FRAME, return_inverse=True)
    for name in features:
        feature = FEATURES[name]
        counts = index.mel_columns
        if name != "mel":
            each = np.array([feature.count(int(n)) for n in samples], np.int64)
            counts = np.where(index.mel_columns > 0, each[of], 0)
        found[name] = feature.rate, counts
    return found


def derived_sounds(derived: DerivedColumns, spec: SampleSpec) -> Heard:
    """Rates and numbers of columns of the derived features of a spec.

    Raises:
        PrepError: a column is requested in the wrong field of the spec.
    """
    found: Heard = {}
    for name, column in derived.columns.items():
        if name in spec.derived and column.per == "sound":
            raise PrepError(f"{name} is derived per sound: request it in frame_sounds or window_sounds")
        if any(sound.feature == name for sound in spec.sounds):
            if column.rate is None:
                raise PrepError(f"{name} is derived per {column.per}: request it in derived")
            found[name] = column.rate, derived.counts[name]
    return found


def find_windows(
    index: ClipIndex,
    spec: SampleSpec,
    derived: Mapping[str, np.ndarray] | None = None,
    derived_sounds: Heard | None = None,
) -> Windows:
    """Find every complete window, so that no later draw can fail.

    Args:
        index: n clips.
        spec: the content of a sample.
        derived: derivation → (n,) bool, whether it has the clip.
        derived_sounds: of the derived features of ``spec``.
    """
    sounds = heard_columns(index, {s.feature for s in spec.sounds if not is_derived(s.feature)})
    sounds |= derived_sounds or {}
    clips = [np.empty(0, np.int64)]
    starts = [np.empty(0, bool)]
    excluded: Counter[str] = Counter()
    # In blocks, because a large corpus has tens of millions of frames, and each step makes arrays of that length.
    for begin in range(0, len(index), _BLOCK):
        block = _Block(index, begin, min(begin + _BLOCK, len(index)), sounds)
        for name, there in (derived or {}).items():
            block.keep(there[block.begin : block.end], f"nothing of {name}")
        if spec.text:
            said = [bool(text) for text in index.texts[block.begin : block.end]]
            block.keep(np.array(said, bool), NO_TEXT)
        block.search(spec)
        clips.append(begin + np.flatnonzero(block.alive))
        starts.append(block.starts)
        excluded.update(block.excluded)
    return Windows(np.concatenate(clips), np.concatenate(starts), dict(excluded))


_BLOCK = 4096


class _Block:
    """The search in consecutive clips: n clips with f frames in total, one after the other."""

    def __init__(self, index: ClipIndex, begin: int, end: int, sounds: Heard) -> None:
        self.begin, self.end, self.sounds = begin, end, sounds
        self.first = index.first[begin : end + 1] - index.first[begin]
        self.detected = index.detected[index.first[begin] : index.first[end]]
        self.mel_columns = index.mel_columns[begin:end]
        self.has_landmarks68 = index.has_landmarks68[begin:end]
        self.clip = np.repeat(np.arange(end - begin), np.diff(self.first))
        self.frame = np.arange(len(self.detected)) - self.first[self.clip]
        self.alive = np.ones(end - begin, bool)
        self.starts = np.ones(len(self.detected), bool)
        self.excluded: Counter[str] = Counter()

    def search(self, spec: SampleSpec) -> None:
        t, n = spec.window, spec.references
        found = self.count(self.detected)
        self.keep(found >= spec.min_frames, f"fewer than {spec.min_frames} frames with a face")
        if spec.landmarks == LANDMARKS68:
            self.keep(self.has_landmarks68, "no 68 landmarks")
        if any(not is_derived(sound.feature) for sound in spec.sounds):
            self.keep(self.mel_columns > 0, "no sound")
        self.narrow(self.runs(t), f"no {t} consecutive frames with a face")
        covered = np.ones(len(self.frame), bool)
        for sound in spec.frame_sounds:
            low, high = self.heard(sound)
            covered &= (self.frame >= low) & (self.frame + t <= high)
        for sound in spec.window_sounds:
            low, high = self.heard(sound)
            at = self.frame + spec.window_sound_frame
            covered &= (at >= low) & (at < high)
        self.narrow(covered, "the sound does not cover what a window hears")
        for sound in spec.clip_sounds:
            counts = self.sounds[sound.feature][1][self.begin : self.end]
            self.keep(counts > 0, "no sound")
            self.keep(counts <= sound.columns, f"more than {sound.columns} columns of {sound.feature}")
        if n and spec.reference_mode == "run":
            self.narrow(
                self.elsewhere(self.runs(n), before=n, after=t), f"no {n} consecutive frames beside a window"
            )
        elif n:
            self.keep(found >= t + n, f"fewer than {n} frames beside a window")
        if gap := spec.negative_gap:
            self.narrow(self.elsewhere(self.starts, gap, gap), f"no second window {gap} frames away")

    def keep(self, good: np.ndarray, reason: str) -> None:
        """Keep only clips where ``good``, (n,) bool, is True."""
        if dropped := int((self.alive & ~good).sum()):
            self.excluded[reason] += dropped
        self.alive &= good
        self.starts &= good[self.clip]

    def narrow(self, good: np.ndarray, reason: str) -> None:
        """Keep only starts where ``good``, (f,) bool, is True, and leave out clips without a start."""
        self.starts &= good
        self.keep(self.count(self.starts) > 0, reason)

    def count(self, flags: np.ndarray) -> np.ndarray:
        """(n,) number of frames of each clip where ``flags`` holds."""
        return np.bincount(self.clip[flags], minlength=len(self.alive))

    def runs(self, length: int) -> np.ndarray:
        """(f,) bool: a face was found in this frame and the ``length - 1`` after it, all of the same clip."""
        total = np.concatenate([[0], np.cumsum(self.detected)])
        stop = np.arange(len(self.detected)) + length
        inside = stop <= self.first[1:][self.clip]
        return inside & (total[np.minimum(stop, len(self.detected))] - total[:-1] == length)

    def heard(self, sound: Sound) -> tuple[np.ndarray, np.ndarray]:
        """For each of f frames, the first frame and the end of the part of its clip for which ``sound`` is
        complete."""
        rate, counts = self.sounds[sound.feature]
        columns, of = np.unique(counts[self.begin : self.end], return_inverse=True)
        valid = [valid_frames(int(c), sound, rate) for c in columns]
        low, high = np.array([(r.start, r.stop) for r in valid]).T
        return low[of][self.clip], high[of][self.clip]

    def elsewhere(self, starts: np.ndarray, before: int, after: int) -> np.ndarray:
        """(f,) bool: ``starts`` is also True somewhere at least ``before`` frames earlier or ``after`` later."""
        far = 1 << 30
        earliest = np.full(len(self.alive), far)
        latest = np.full(len(self.alive), -far)
        np.minimum.at(earliest, self.clip[starts], self.frame[starts])
        np.maximum.at(latest, self.clip[starts], self.frame[starts])
        return (earliest[self.clip] <= self.frame - before) | (latest[self.clip] >= self.frame + after)


@dataclass(frozen=True)
class Draw:
    """The frames of one sample: ``start`` of the window, (N,) ``references``, ``negative`` start or None."""

    start: int
    references: np.ndarray
    negative: int | None


def draw(spec: SampleSpec, starts: np.ndarray, detected: np.ndarray, numbers: Sequence[float]) -> Draw:
    """Choose a window, its references and its negative.

    Args:
        spec: the content of a sample.
        starts: (n_frames,) bool, from :func:`find_windows`.
        detected: (n_frames,) bool.
        numbers: this clip's row of :func:`epoch_numbers`; they determine the result.
    """
    t, n = spec.window, spec.references
    possible = np.flatnonzero(starts)
    start = int(possible[int(numbers[0] * len(possible))])
    negative = None
    if spec.negative_gap:
        others = possible[np.abs(possible - start) >= spec.negative_gap]
        negative = int(others[int(numbers[1] * len(others))])
    if n == 0:
        return Draw(start, np.empty(0, np.int64), negative)
    if spec.reference_mode == "run":
        total = np.concatenate([[0], np.cumsum(detected)])
        runs = np.flatnonzero(total[n:] - total[:-n] == n)
        runs = runs[(runs + n <= start) | (runs >= start + t)]
        return Draw(start, runs[int(numbers[2] * len(runs))] + np.arange(n), negative)
    outside = detected.copy()
    outside[start : start + t] = False
    candidates = np.flatnonzero(outside).tolist()
    if spec.reference_mode == "random":
        # The first n steps of the Fisher-Yates shuffle.
        for i, number in enumerate(numbers[2:]):
            j = i + int(number * (len(candidates) - i))
            candidates[i], candidates[j] = candidates[j], candidates[i]
    return Draw(start, np.array(candidates[:n]), negative)


def epoch_numbers(n: int, spec: SampleSpec, seed: int, epoch: int) -> np.ndarray:
    """(n, 2 + N) float32 in [0, 1): the random numbers of an epoch for each of ``n`` clips.

    They are drawn for all clips at once, since seeding a generator takes longer than using it.
    """
    return np.random.default_rng([seed, epoch, 1]).random((n, 2 + spec.references), np.float32)


def epoch_order(n: int, seed: int, epoch: int, shuffle: bool) -> np.ndarray:
    """(n,) int64, the items 0 … n - 1 in the order of an epoch."""
    return np.random.default_rng([seed, epoch, 2]).permutation(n) if shuffle else np.arange(n)


def _one_of(field: str, value: object, known: Sequence[object]) -> None:
    if value not in known:
        raise ValueError(f"{field} is {value!r}; known are: {', '.join(map(str, known))}")
