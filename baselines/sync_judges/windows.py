"""Judging windows of a clip: does the right sound score above wrong sound, and which shift scores best?"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from baselines.sync_judges.scores import Array, Bool, Float, shifted_scores, window_means
from baselines.sync_judges.speech import SHARE

# Means that differ by less than this share of the largest one are equal: they differ by rounding.
_TIE = 1e-9


@dataclass(frozen=True)
class Windows:
    """Which windows are judged, and which sound is wrong; all in frames.

    Attributes:
        window: of a window.
        step: from the start of a window to that of the next.
        nearest: least shift of wrong sound, either way.
        furthest: greatest shift of wrong sound.
    """

    window: int = 25
    step: int = 5
    nearest: int = 8
    furthest: int = 40


@dataclass(frozen=True)
class Ranked:
    """How often the right sound scored above wrong sound in a clip.

    Attributes:
        share: of the pairs, 0 … 1; equal scores count half. 0.5 is chance. NaN if there is no pair.
        windows: that were judged.
        pairs: of a window and a shift of wrong sound.
        starts: (windows,) int64, their first frames.
        shares: (windows,) float64, the share of the pairs of each.
    """

    share: float
    windows: int
    pairs: int
    starts: npt.NDArray[np.int64] = field(compare=False)
    shares: Float = field(compare=False)


def right_above_wrong(
    lips: Array, sounds: Array, speech: Bool | None = None, windows: Windows | None = None
) -> Ranked:
    """The share of pairs of a window and wrong sound in which the right sound has the higher mean score.

    Args:
        lips: (T, D), a row a frame; NaN where there are none. Windows with such a frame are left out.
        sounds: (N, D), a row a frame.
        speech: (T,) bool of :func:`baselines.sync_judges.speech.speech_frames`: windows without speech are left
            out. None: every window counts.
        windows: which windows, and which shifts of wrong sound. A shift counts where there is sound for the whole
            window.

    Raises:
        ValueError: lips, sounds and speech do not fit together.
    """
    windows = windows or Windows()
    reach = windows.furthest
    starts, means = window_means(shifted_scores(lips, sounds, reach), windows.window, windows.step)
    right = means[:, reach, None]
    wrong = means[:, np.abs(np.arange(-reach, reach + 1)) >= windows.nearest]
    pairs = np.isfinite(right) & np.isfinite(wrong)
    judged = _spoken(speech, starts, windows.window, len(lips)) & pairs.any(axis=1)
    starts, right, wrong, pairs = starts[judged], right[judged], wrong[judged], pairs[judged]
    if not len(starts):
        return Ranked(float("nan"), 0, 0, starts, np.zeros(0))
    least = _TIE * max(float(np.abs(right).max()), float(np.abs(wrong[pairs]).max()))
    better = ((right - wrong > least) & pairs).sum(axis=1) - ((wrong - right > least) & pairs).sum(axis=1)
    n = pairs.sum(axis=1)
    total = int(n.sum())
    share = 0.5 + int(better.sum()) / (2 * total)
    return Ranked(share, len(starts), total, starts, 0.5 + better / (2 * n))


def window_offsets(
    lips: Array,
    sounds: Array,
    speech: Bool | None = None,
    window: int = 50,
    step: int = 5,
    reach: int = 15,
) -> npt.NDArray[np.int64]:
    """The offset of each window that has lips in all frames, and sound at all shifts.

    Args:
        lips: (T, D), a row a frame; NaN where there are none.
        sounds: (N, D), a row a frame.
        speech: (T,) bool: windows without speech are left out. None: every window counts.
        window: frames of a window.
        step: frames from the start of a window to that of the next.
        reach: frames by which the sound is shifted at most, either way.

    Returns:
        (n,) int64, frames, -reach … reach; positive where the video is late. Of equals, the smallest offset.

    Raises:
        ValueError: lips, sounds and speech do not fit together.
    """
    starts, means = window_means(shifted_scores(lips, sounds, reach), window, step)
    means = means[_spoken(speech, starts, window, len(lips)) & np.isfinite(means).all(axis=1)]
    return -nearest_best(means)


def nearest_best(means: Float) -> npt.NDArray[np.int64]:
    """The shift with the highest score in each row; of equals, the smallest.

    Args:
        means: (n, 2 reach + 1), column ``reach + d`` for shift d; NaN: not judged. Each row has a number.

    Returns:
        (n,) int64, -reach … reach.
    """
    reach = means.shape[1] // 2
    shifts = np.array(sorted(range(-reach, reach + 1), key=abs), np.int64)
    if not len(means):
        return np.zeros(0, np.int64)
    ordered = np.where(np.isnan(means), -np.inf, means)[:, shifts + reach]
    # The first of those that equal the highest but for rounding.
    highest = ordered.max(axis=1, keepdims=True)
    found: npt.NDArray[np.int64] = shifts[np.argmax(ordered >= highest - _TIE * np.abs(highest), axis=1)]
    return found


def _spoken(speech: Bool | None, starts: npt.NDArray[np.int64], window: int, n_frames: int) -> Bool:
    """Which windows count: at least half of their frames have speech."""
    if speech is None:
        return np.ones(len(starts), np.bool_)
    if len(speech) != n_frames:
        raise ValueError(f"speech is said of {len(speech)} frames, lips are given of {n_frames}")
    counts = np.concatenate([[0], np.cumsum(speech)])
    spoken: Bool = counts[starts + window] - counts[starts] >= SHARE * window
    return spoken
