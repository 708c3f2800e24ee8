"""Common first steps of features on the samples."""

from __future__ import annotations

import numpy as np

#: Number of windows transformed at once: this limits the memory for an hour of sound, and fits into the cache.
BATCH = 512

_PREEMPHASIS = 0.97


def as_float(samples: np.ndarray) -> np.ndarray:
    """(n,) int16, or float in -1 … 1 → float64 in -1 … 1. Raises ValueError if there are no samples."""
    if not len(samples):
        raise ValueError("there are no samples")
    if np.issubdtype(samples.dtype, np.integer):
        return samples / 32768
    return samples.astype(np.float64)


def emphasised(signal: np.ndarray) -> np.ndarray:
    """Pre-emphasis: y[t] = x[t] - 0.97 x[t - 1], the first sample unchanged; (n,) float64."""
    result = signal.copy()
    result[1:] -= _PREEMPHASIS * signal[:-1]
    return result
