"""MFCC: the sound input of SyncNet, and the padded form of ATVGnet, EAMM and AudioDVP.

It is implemented here, without python_speech_features, so that a number never depends on the installed release.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import dct, rfft
from scipy.sparse import csr_array

from prep.rates import SAMPLE_RATE
from prep.sound.samples import BATCH, as_float, emphasised

#: Rows per second, and coefficients per row.
RATE = 100
COEFFICIENTS = 13

_LENGTH, _HOP, _N_FFT, _LIFTER = 400, 160, 512, 22
# Number of zeros that the padded form adds on both sides.
_PADDING = 1920


def mfcc(samples: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
    """The MFCC used by SyncNet: python_speech_features 0.6 with its defaults.

    25 ms rectangular windows every 10 ms, 512-point power spectrum, 26 mel bands from 0 to 8000 Hz, 13 liftered
    coefficients, the first replaced by the log energy (Chung and Zisserman 2016, ``syncnet_python``).

    Args:
        samples: (n,) mono at 16 kHz. SyncNet's weights expect int16 values, not scaled to -1 … 1.
        start: first row.
        stop: row after the last one, or None for the end.

    Returns:
        float32 (rows, 13), 100 per second; transpose them for SyncNet. The values do not depend on the span.

    Raises:
        ValueError: there are no samples.
    """
    if not len(samples):
        raise ValueError("there are no samples")
    count = mfcc_rows(len(samples))
    start, stop = min(start, count), count if stop is None else min(stop, count)
    result = np.empty((max(0, stop - start), COEFFICIENTS), np.float32)
    if not len(result):
        return result
    # A row depends on its samples and on the sample before them; beyond the end there are zeros.
    first, end = _HOP * start, _HOP * (stop - 1) + _LENGTH
    before = min(first, 1)
    signal = emphasised(np.asarray(samples[first - before : end], np.float64))[before:]
    signal = np.pad(signal, (0, end - first - len(signal)))
    windows = sliding_window_view(signal, _LENGTH)[::_HOP]
    lift = 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / _LIFTER)
    basis = csr_array(_basis())
    tiny = np.finfo(float).eps
    for at in range(0, len(result), BATCH):
        power = np.abs(rfft(windows[at : at + BATCH], _N_FFT)) ** 2 / _N_FFT
        bands = (basis @ power.T).T
        energy = power.sum(axis=1)
        rows = dct(np.log(np.where(bands == 0, tiny, bands)), axis=1, norm="ortho")[:, :COEFFICIENTS] * lift
        rows[:, 0] = np.log(np.where(energy == 0, tiny, energy))
        result[at : at + BATCH] = rows
    return result


def mfcc_padded(samples: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
    """The MFCC of ATVGnet, EAMM and AudioDVP: of the float signal with 1920 zeros on both sides.

    Frame ``k`` of 25 fps uses rows ``4 k`` to ``4 k + 28`` and columns 1 to 12.

    Args:
        samples: (n,) mono at 16 kHz; int16, or float in -1 … 1.
        start: first row.
        stop: row after the last one, or None for the end.

    Returns:
        float32 (rows, 13), 100 per second.

    Raises:
        ValueError: there are no samples.
    """
    return mfcc(np.pad(as_float(samples), _PADDING), start, stop)


def mfcc12(samples: np.ndarray, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Coefficients 1 to 12 of :func:`mfcc_padded`, float32 (rows, 12). Arguments and errors as there.

    A frame of 25 fps has 28 rows, :data:`prep.sample_spec.MFCC_28X12`: what AT-net of ATVGnet, and with it EAMM,
    AudioDVP and Meta Talk, take (``audio[:, 4 * k : 4 * k + 28, 1:]`` of 13 coefficients).
    """
    return mfcc_padded(samples, start, stop)[:, 1:]


def mfcc_rows(n_samples: int) -> int:
    """Number of rows of :func:`mfcc` of ``n_samples`` samples, at least one."""
    return 1 + max(0, ceil((n_samples - _LENGTH) / _HOP))


def mfcc_padded_rows(n_samples: int) -> int:
    """Number of rows of :func:`mfcc_padded` of ``n_samples`` samples, at least one."""
    return mfcc_rows(n_samples + 2 * _PADDING)


@lru_cache(maxsize=1)
def _basis() -> np.ndarray:
    """26 triangular bands on the HTK mel scale, with corners rounded down to bins; float64 (26, 257)."""
    mels = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), 28)
    edges = np.floor((_N_FFT + 1) * 700 * (10 ** (mels / 2595) - 1) / SAMPLE_RATE)[:, None]
    bins = np.arange(_N_FFT // 2 + 1)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    basis: np.ndarray = np.maximum(0, np.minimum(rising, falling))
    return basis
