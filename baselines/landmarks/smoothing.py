"""Filters over time for landmarks, by name."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.signal import savgol_filter

#: ``none``; ``mean3``, ``mean5``: the mean over so many frames; ``savgol5``, ``savgol15``, ``savgol31``: Savitzky and
#: Golay's filter of order 3 over so many (MakeItTalk's code smooths lips by the first, faces by the second, and what
#: the speaker adds by the third).
Filter = Literal["none", "mean3", "mean5", "savgol5", "savgol15", "savgol31"]
_ORDER = 3


def smoothed(values: np.ndarray, name: Filter) -> np.ndarray:
    """Smooth values over time.

    Args:
        values: (T, ...) float, a row a frame.
        name: of the filter.

    Returns:
        Of the same shape and type. Means are taken of the frames that are there; Savitzky and Golay's polynomial at
        the ends is that of the outermost window. Where there are fewer frames than a filter is long, it takes the
        longest odd number of them; one that is no longer than its order changes nothing.
    """
    if name == "none" or len(values) < 2:
        return values
    if name.startswith("mean"):
        reach = int(name.removeprefix("mean")) // 2
        count = len(values)
        total = np.concatenate(
            [np.zeros_like(values[:1], np.float64), np.cumsum(values, axis=0, dtype=np.float64)]
        )
        low, high = np.arange(count) - reach, np.arange(count) + reach + 1
        low, high = low.clip(min=0), high.clip(max=count)
        widths = (high - low).reshape(-1, *[1] * (values.ndim - 1))
        return ((total[high] - total[low]) / widths).astype(values.dtype)
    length = min(int(name.removeprefix("savgol")), len(values) - 1 + len(values) % 2)
    if length <= _ORDER:
        return values
    return savgol_filter(values, length, _ORDER, axis=0, mode="interp").astype(values.dtype)
