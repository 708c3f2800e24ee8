"""The sound that drives a face, as :class:`models.base.Speech`."""

from __future__ import annotations

import numpy as np

from prep.mel import CHUNK, mel_start, melspectrogram
from prep.rates import SAMPLES_PER_FRAME

#: What the mel spectrogram of silence is made of.
_SILENCE = -4.0


class DrivingSound:
    """The sound as :class:`models.base.Speech`.

    Args:
        samples: (n,) int16, mono, 16 kHz, at least one.
        n_frames: of the footage; sound beyond it is cut, what lacks is silence.
        padding: of the mel spectrogram, see :func:`prep.mel.melspectrogram`.

    Attributes:
        samples: (640 n_frames,) int16.
    """

    def __init__(self, samples: np.ndarray, n_frames: int, padding: str = "constant") -> None:
        wanted = n_frames * SAMPLES_PER_FRAME
        self.samples = np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))
        self._mel = melspectrogram(self.samples, padding)

    def chunk(self, frame: int, rule: str) -> np.ndarray:
        """Return (80, 16) float32 in [-4, 4] by a rule of :data:`prep.mel.MEL_RULES`; silence beyond the ends.

        Raises:
            KeyError: unknown rule.
        """
        start = mel_start(frame, rule)
        columns = np.full((CHUNK, self._mel.shape[1]), _SILENCE, np.float32)
        low, high = max(0, start), min(len(self._mel), start + CHUNK)
        if low < high:
            columns[low - start : high - start] = self._mel[low:high]
        return np.ascontiguousarray(columns.T)
