"""Scores of lips with sound that is shifted, and their means over windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

# Frames whose scores are computed by one product of matrices.
_BLOCK = 128


def shifted_scores(lips: Array, sounds: Array, reach: int) -> Float:
    """Scores of every frame's lips with the sound up to ``reach`` frames away.

    Args:
        lips: (T, D), a row a frame; NaN where there are none.
        sounds: (N, D), a row a frame.
        reach: frames by which the sound is shifted at most, either way, ≥ 0.

    Returns:
        (T, 2 reach + 1) float64: column ``reach + d`` holds the products of ``lips[t]`` and ``sounds[t + d]``; NaN
        where there is no such sound, or where lips or sound are NaN.

    Raises:
        ValueError: lips and sounds are not of one width.
    """
    if lips.ndim != 2 or sounds.ndim != 2 or lips.shape[1] != sounds.shape[1]:
        raise ValueError(f"lips of shape {lips.shape} and sounds of shape {sounds.shape} have no product")
    frames, columns = len(lips), 2 * reach + 1
    padded = np.full((frames + 2 * reach, lips.shape[1]), np.nan)
    heard = min(len(sounds), frames + reach)
    padded[reach : reach + heard] = sounds[:heard]
    scores = np.empty((frames, columns))
    for start in range(0, frames, _BLOCK):
        seen = lips[start : start + _BLOCK].astype(np.float64)
        table = seen @ padded[start : start + len(seen) + 2 * reach].T
        rows, step = table.strides
        scores[start : start + len(seen)] = np.lib.stride_tricks.as_strided(
            table, (len(seen), columns), (rows + step, step)
        )
    return scores


def window_means(scores: Float, window: int, step: int) -> tuple[npt.NDArray[np.int64], Float]:
    """Means of scores over windows of successive frames.

    Args:
        scores: (T, S), of :func:`shifted_scores`.
        window: frames of a window, ≥ 1.
        step: frames from the start of a window to that of the next, ≥ 1.

    Returns:
        (W,) the first frames of the windows; and (W, S) float64, NaN where one of the frames has no score.
    """
    starts = np.arange(0, len(scores) - window + 1, step)
    there = np.isfinite(scores)
    sums = np.cumsum(np.where(there, scores, 0), axis=0)
    counts = np.cumsum(there, axis=0)
    # A row of zeros in front: the sum before the first frame.
    sums, counts = (np.concatenate([np.zeros_like(x[:1]), x]) for x in (sums, counts))
    means = (sums[starts + window] - sums[starts]) / window
    means[counts[starts + window] - counts[starts] < window] = np.nan
    return starts, means
