"""The mel spectrogram of Wav2Lip.

It is implemented here, without librosa, so that a number never depends on the installed release: librosa 0.9
changed the padding at the edges, so the padding is an option here.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import rfft
from scipy.sparse import csr_array

from prep.rates import SAMPLE_RATE
from prep.sound.samples import BATCH, as_float, emphasised

#: Columns per second.
RATE = 80

_N_FFT = 800
_HOP = 200
_BANDS = 80
_FMIN, _FMAX = 55.0, 7600.0
PADDINGS = ("constant", "reflect")


def melspectrogram(samples: np.ndarray, padding: str = "constant") -> np.ndarray:
    """The mel spectrogram of Wav2Lip, also used by IP-LAP and VideoReTalking.

    Pre-emphasis 0.97, 800-sample Hann windows every 200 samples, magnitudes in 80 Slaney bands from 55 to 7600 Hz;
    decibels minus 20, with -100 to 0 mapped to -4 to 4 (Prajwal et al. 2020, ``audio.py``).

    Args:
        samples: (n,) mono at 16 kHz; int16, or float in -1 … 1.
        padding: the signal beyond both ends. ``constant``: zeros (librosa from 0.9 on, as used by IP-LAP and
            VideoReTalking); ``reflect``: the mirrored signal (librosa 0.7, as used by Wav2Lip). Only the first two
            and last two columns differ.

    Returns:
        float32 (1 + n // 200, 80), time first; column ``t`` is centred on sample ``200 t``.

    Raises:
        ValueError: there are no samples, or the padding is unknown.
    """
    if padding not in PADDINGS:
        raise ValueError(f"padding is {padding!r}; known are: {', '.join(PADDINGS)}")
    signal = np.pad(emphasised(as_float(samples)), _N_FFT // 2, mode=padding)  # type: ignore[call-overload]
    windows = sliding_window_view(signal, _N_FFT)[::_HOP]
    mel = np.empty((len(windows), _BANDS), np.float32)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_N_FFT) / _N_FFT)
    # Sparse, since the bands contain few bins; and the rounding of BLAS depends on its number of threads.
    basis = csr_array(mel_basis().astype(np.float64))
    for at in range(0, len(windows), BATCH):
        # Float64 throughout: with float32, a quiet band beside a loud one has an error of more than 1e-4.
        bands = (basis @ np.abs(rfft(windows[at : at + BATCH] * hann)).T).T
        decibels = 20 * np.log10(np.maximum(1e-5, bands)) - 20
        mel[at : at + BATCH] = np.clip(8 * (decibels + 100) / 100 - 4, -4, 4)
    return mel


@lru_cache(maxsize=1)
def mel_basis() -> np.ndarray:
    """Triangular bands of unit area on Slaney's mel scale: ``librosa.filters.mel`` with Wav2Lip's parameters.

    Returns:
        float32 (80, 401), read-only: bands by bins of an 800-point transform.
    """
    # Slaney's scale (Auditory Toolbox, 1998): linear up to 1000 Hz, 15 mels; then logarithmic, 27 steps for a
    # factor of # 6.4.
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


def mel_columns(n_samples: int) -> int:
    """Number of columns of the spectrogram of ``n_samples`` samples."""
    return 1 + n_samples // _HOP
