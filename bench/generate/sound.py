"""The sound that drives a face, as :class:`models.base.Speech`."""

from __future__ import annotations

import numpy as np

from prep.names import known
from prep.rates import SAMPLES_PER_FRAME
from prep.sample_spec import Sound
from prep.sound.features import FEATURES, chunk
from prep.sound.mel import melspectrogram


class DrivingSound:
    """The sound as :class:`models.base.Speech`.

    Args:
        samples: (n,) int16, mono, 16 kHz, at least one.
        n_frames: of the footage; sound beyond it is cut, what lacks is silence.
        padding: of the mel spectrogram, see :func:`prep.sound.mel.melspectrogram`.

    Attributes:
        samples: (640 n_frames,) int16.
    """

    def __init__(self, samples: np.ndarray, n_frames: int, padding: str = "constant") -> None:
        wanted = n_frames * SAMPLES_PER_FRAME
        self.samples = np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))
        self._features = {"mel": melspectrogram(self.samples, padding)}

    def feature(self, name: str) -> np.ndarray:
        """Return a feature of :data:`prep.sound.features.FEATURES`, of the whole sound: (columns, ...) float32.

        Raises:
            PrepError: there is no such feature.
        """
        if name not in self._features:
            (name,) = known("feature of sound", [name], FEATURES)
            self._features[name] = FEATURES[name].compute(self.samples, 0, None)
        return self._features[name]

    def chunk(self, frame: int, sound: Sound) -> np.ndarray:
        """Return what is heard with a frame, (..., ``sound.columns``) float32; silence beyond the ends.

        Raises:
            PrepError: there is no such feature.
        """
        values, feature = self.feature(sound.feature), FEATURES[sound.feature]
        return chunk(values, frame, sound, feature.rate, feature.silence)
