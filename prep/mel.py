"""The sound features that the methods are fed with: the Wav2Lip mel spectrogram and SyncNet's MFCC.

Both are written out here, without librosa and python_speech_features, so that a number never depends on which
release of those is installed: librosa 0.9 changed the padding at the edges, which is why it has a name here.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import dct, rfft
from scipy.sparse import csr_array

SAMPLE_RATE = 16_000
FPS = 25
#: Columns of the mel spectrogram a second, and columns that a method looks at for one frame.
COLUMNS_PER_SECOND = 80
CHUNK = 16

_N_FFT = 800
_HOP = 200
_BANDS = 80
_FMIN, _FMAX = 55.0, 7600.0
_PREEMPHASIS = 0.97
PADDINGS = ("constant", "reflect")
# Windows that are transformed at once: bounds the memory for an hour of sound, and stays in the cache.
_BATCH = 512

#: By how many frames the 16-column chunk of a frame starts after the frame, in the official code of
#: ``wav2lip``            Wav2Lip's expert training and its inference, VideoReTalking
#: ``wav2lip-generator``  Wav2Lip's generator training
#: ``iplap``              IP-LAP's training
#: ``iplap-inference``    IP-LAP's inference: as ``iplap``, but frames 0 and 1 take the chunk of frame 2
MEL_RULES: dict[str, int] = {"wav2lip": 0, "wav2lip-generator": -1, "iplap": -2, "iplap-inference": -2}
_CLAMPED = frozenset({"iplap-inference"})


def melspectrogram(samples: np.ndarray, padding: str = "constant") -> np.ndarray:
    """The mel spectrogram of Wav2Lip, which IP-LAP and VideoReTalking took over.

    Pre-emphasis 0.97, 800-sample Hann windows every 200 samples, magnitudes in 80 Slaney bands of 55 to
    7600 Hz; decibels less 20, of which -100 to 0 become -4 to 4 (Prajwal et al. 2020, ``audio.py``).

    Args:
        samples: (n,) mono at 16 kHz; int16, or float in -1 … 1.
        padding: what is assumed beyond both ends. ``constant``: zeros (librosa from 0.9 on, as IP-LAP and
            VideoReTalking ran it); ``reflect``: the signal mirrored (librosa 0.7, as Wav2Lip ran it). Only
            the first two and last two columns differ.

    Returns:
        float32 (1 + n // 200, 80), time first; column ``t`` is centred on sample ``200 t``.

    Raises:
        ValueError: no samples, or an unknown padding.
    """
    if padding not in PADDINGS:
        raise ValueError(f"padding is {padding!r}; known are: {', '.join(PADDINGS)}")
    signal = np.pad(_emphasised(_as_float(samples)), _N_FFT // 2, mode=padding)  # type: ignore[call-overload]
    windows = sliding_window_view(signal, _N_FFT)[::_HOP]
    mel = np.empty((len(windows), _BANDS), np.float32)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_N_FFT) / _N_FFT)
    # Sparse: the bands hold few bins, and BLAS would round by its number of threads.
    basis = csr_array(mel_basis().astype(np.float64))
    for at in range(0, len(windows), _BATCH):
        # Float64 throughout: beside a loud band, float32 is wrong by more than 1e-4 in a quiet one.
        bands = (basis @ np.abs(rfft(windows[at : at + _BATCH] * hann)).T).T
        decibels = 20 * np.log10(np.maximum(1e-5, bands)) - 20
        mel[at : at + _BATCH] = np.clip(8 * (decibels + 100) / 100 - 4, -4, 4)
    return mel


@lru_cache(maxsize=1)
def mel_basis() -> np.ndarray:
    """Triangular bands of unit area on Slaney's mel scale: ``librosa.filters.mel`` with Wav2Lip's figures.

    Returns:
        float32 (80, 401), read-only: bands by bins of an 800-point transform.
    """
    # Slaney's scale (Auditory Toolbox, 1998): linear to 1000 Hz, 15 mels; from there on logarithmic, 27 steps
    # for a factor of 6.4.
    corner, step = 1000.0, np.log(6.4) / 27

    def to_mel(hertz: float) -> float:
        return hertz * 3 / 200 if hertz < corner else 15 + float(np.log(hertz / corner)) / step

    mels = np.linspace(to_mel(_FMIN), to_mel(_FMAX), _BANDS + 2)
    edges = np.where(mels < 15, mels * 200 / 3, corner * np.exp(step * (mels - 15)))[:, None]
    bins = np.linspace(0, SAMPLE_RATE / 2, _N_FFT // 2 + 1)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    basis = (np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])).astype(np.float32)
    basis.flags.writeable = False
    return basis


def mel_start(frame: int, rule: str) -> int:
    """First column of the chunk of a 25 fps frame; negative where the chunk would begin before the sound.

    Truncated towards zero, as ``int()`` does in the official code.

    Raises:
        KeyError: unknown rule.
    """
    first = frame + MEL_RULES[rule]
    if rule in _CLAMPED:
        first = max(0, first)
    return int(COLUMNS_PER_SECOND * first / FPS)


def mel_chunk(mel: np.ndarray, frame: int, rule: str) -> np.ndarray:
    """What a method hears for one frame.

    Args:
        mel: (T, 80), time first.
        frame: index at 25 fps.
        rule: one of :data:`MEL_RULES`.

    Returns:
        (80, 16), bands first as the networks take it, C-contiguous, of ``mel``'s type.

    Raises:
        IndexError: the chunk leaves the spectrogram.
        KeyError: unknown rule.
    """
    start = mel_start(frame, rule)
    if start < 0 or start + CHUNK > len(mel):
        raise IndexError(f"frame {frame} needs columns {start} to {start + CHUNK} of {len(mel)}")
    return np.ascontiguousarray(mel[start : start + CHUNK].T)


def valid_frames(n_columns: int, rule: str) -> range:
    """The frames whose chunk lies within ``n_columns`` columns of mel.

    Raises:
        KeyError: unknown rule.
    """
    offset = MEL_RULES[rule]
    # floor(16 k / 5) <= n - 16 holds for k < 5 (n - 15) / 16
    stop = ceil(FPS * (n_columns - CHUNK + 1) / COLUMNS_PER_SECOND) - offset if n_columns >= CHUNK else 0
    return range(min(0 if rule in _CLAMPED else -offset, stop), stop)


def mfcc(samples: np.ndarray) -> np.ndarray:
    """The MFCC that SyncNet listens to: python_speech_features 0.6 with its defaults.

    25 ms rectangular windows every 10 ms, 512-point power spectrum, 26 mel bands of 0 to 8000 Hz, 13
    liftered coefficients of which the first is replaced by the log energy (Chung and Zisserman 2016,
    ``syncnet_python``).

    Args:
        samples: (n,) mono at 16 kHz. SyncNet's weights expect int16 values, not scaled to -1 … 1.

    Returns:
        float32 (frames, 13), 100 a second; transpose before feeding SyncNet.

    Raises:
        ValueError: no samples.
    """
    if not len(samples):
        raise ValueError("there are no samples")
    length, hop, n_fft, kept, lifter = 400, 160, 512, 13, 22
    signal = _emphasised(np.asarray(samples, np.float64))
    count = 1 + max(0, ceil((len(signal) - length) / hop))
    signal = np.pad(signal, (0, (count - 1) * hop + length - len(signal)))
    windows = sliding_window_view(signal, length)[::hop]
    lift = 1 + lifter / 2 * np.sin(np.pi * np.arange(kept) / lifter)
    basis = csr_array(_mfcc_basis(n_fft))
    tiny = np.finfo(float).eps
    result = np.empty((count, kept), np.float32)
    for at in range(0, count, _BATCH):
        power = np.abs(rfft(windows[at : at + _BATCH], n_fft)) ** 2 / n_fft
        bands = (basis @ power.T).T
        energy = power.sum(axis=1)
        rows = dct(np.log(np.where(bands == 0, tiny, bands)), axis=1, norm="ortho")[:, :kept] * lift
        rows[:, 0] = np.log(np.where(energy == 0, tiny, energy))
        result[at : at + _BATCH] = rows
    return result


def mfcc_padded(samples: np.ndarray) -> np.ndarray:
    """The MFCC of ATVGnet, EAMM and AudioDVP: of the float signal with 1920 zeros on both sides.

    Frame ``k`` of 25 fps uses rows ``4 k`` to ``4 k + 28`` and columns 1 to 12.

    Args:
        samples: (n,) mono at 16 kHz; int16, or float in -1 … 1.

    Returns:
        float32 (frames, 13), 100 a second.

    Raises:
        ValueError: no samples.
    """
    return mfcc(np.pad(_as_float(samples), 1920))


@lru_cache(maxsize=1)
def _mfcc_basis(n_fft: int) -> np.ndarray:
    """26 triangles on the HTK mel scale, their corners rounded down to bins; float64 (26, n_fft // 2 + 1)."""
    mels = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), 28)
    edges = np.floor((n_fft + 1) * 700 * (10 ** (mels / 2595) - 1) / SAMPLE_RATE)[:, None]
    bins = np.arange(n_fft // 2 + 1)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    basis: np.ndarray = np.maximum(0, np.minimum(rising, falling))
    return basis


def _as_float(samples: np.ndarray) -> np.ndarray:
    """Float64 in -1 … 1."""
    if not len(samples):
        raise ValueError("there are no samples")
    if np.issubdtype(samples.dtype, np.integer):
        return samples / 32768
    return samples.astype(np.float64)


def _emphasised(signal: np.ndarray) -> np.ndarray:
    """y[t] = x[t] - 0.97 x[t - 1], the first sample as it is."""
    result = signal.copy()
    result[1:] -= _PREEMPHASIS * signal[:-1]
    return result
