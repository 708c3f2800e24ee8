"""The sound that drives a face, as :class:`models.base.Speech`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prep.names import known
from prep.rates import SAMPLES_PER_FRAME
from prep.sample_spec import Column, Sound, is_derived
from prep.sound.features import FEATURES, chunk
from prep.sound.mel import melspectrogram

#: A sound and ``<derivation>.<column>`` → the column and its values.
Hear = Callable[["DrivingSound", str], tuple[Column, np.ndarray]]


class DrivingSound:
    """The sound as :class:`models.base.Speech`.

    Args:
        samples: (n,) int16, mono, 16 kHz, at least one.
        n_frames: of the footage; longer sound is cut, shorter sound is padded with silence.
        padding: of the mel spectrogram, see :func:`prep.sound.mel.melspectrogram`.
        derive: returns derived features.
        name: the id of its clip, or the absolute path of its file without suffix.

    Attributes:
        samples: (640 n_frames,) int16.
        name: as given.
        length: n.
    """

    def __init__(
        self,
        samples: np.ndarray,
        n_frames: int,
        padding: str = "constant",
        derive: Hear | None = None,
        name: str = "",
    ) -> None:
        self.name = name
        self.length = len(samples)
        wanted = n_frames * SAMPLES_PER_FRAME
        self.samples = np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))
        self._features = {"mel": melspectrogram(self.samples, padding)}
        self._derive = derive
        self._columns: dict[str, Column] = {}

    def feature(self, name: str) -> np.ndarray:
        """Return a feature of the whole sound: (columns, ...) float32.

        Args:
            name: of :data:`prep.sound.features.FEATURES`, or ``<derivation>.<column>`` of a derivation of sound.

        Raises:
            ClipError: it cannot be derived from this sound.
            KeyError: the method derives no such column.
            PrepError: there is no such feature.
        """
        if is_derived(name) and name not in self._features:
            if self._derive is None:
                raise KeyError(name)
            self._columns[name], self._features[name] = self._derive(self, name)
        if name not in self._features:
            (name,) = known("feature of sound", [name], FEATURES)
            self._features[name] = FEATURES[name].compute(self.samples, 0, None)
        return self._features[name]

    def chunk(self, frame: int, sound: Sound) -> np.ndarray:
        """Return the sound at a frame, (..., ``sound.columns``) float32; silence beyond the ends.

        Raises:
            PrepError: there is no such feature.
        """
        values = self.feature(sound.feature)
        if is_derived(sound.feature):
            rate = self._columns[sound.feature].rate
            assert rate is not None
            return chunk(values, frame, sound, rate, np.zeros(values.shape[1:], values.dtype))
        feature = FEATURES[sound.feature]
        return chunk(values, frame, sound, feature.rate, feature.silence)
