"""What features do to samples first."""

from __future__ import annotations

import numpy as np

#: Windows that are transformed at once: bounds the memory for an hour of sound, and stays in the cache.
BATCH = 512

_PREEMPHASIS = 0.97


def as_float(samples: np.ndarray) -> np.ndarray:
    """(n,) int16, or float in -1 … 1 → float64 in -1 … 1. Raises ValueError: there are no samples."""
    if not len(samples):
        raise ValueError("there are no samples")
    if np.issubdtype(samples.dtype, np.integer):
        return samples / 32768
    return samples.astype(np.float64)


def emphasised(signal: np.ndarray) -> np.ndarray:
    """y[t] = x[t] - 0.97 x[t - 1], the first sample as it is; (n,) float64."""
    result = signal.copy()
    result[1:] -= _PREEMPHASIS * signal[:-1]
    return result
