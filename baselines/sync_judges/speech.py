"""Which frames have speech: a rule of the level of the sound."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

#: The rule's name, for records. Another rule gets another name.
RULE = "level25"
#: The rule in words, for specifications.
RULE_TEXT = (
    "level25: a frame has speech if its level is at most 25 dB below the clip's 95th percentile, and at least -60 dB; "
    "a window counts if at least half of its frames have speech"
)
#: Share of a window's frames that have speech where the window counts.
SHARE = 0.5

# Columns of the mel spectrogram in a frame: 80 a second, 25 frames a second.
_COLUMNS = 3.2
_BELOW, _LEAST = 25.0, -60.0


def frame_levels(mel: npt.NDArray[np.floating[Any]], n_frames: int) -> Float:
    """The level of the sound of each frame.

    Args:
        mel: (N, 80) Wav2Lip's mel spectrogram, -4 … 4 for -80 … 20 dB, column c centred on c / 80 s.
        n_frames: at 25 a second.

    Returns:
        (n_frames,) float64, decibels: the mean power over the bands, and over the columns whose centres lie in the
        frame; minus infinity where there are none. Speech at usual levels is at -45 to -20 dB, digital silence at -80.
    """
    power = (10 ** ((np.asarray(mel, np.float64) + 4) * 1.25 - 8)).mean(axis=1)
    edges = np.minimum(np.ceil(_COLUMNS * np.arange(n_frames + 1) - 1e-9).astype(np.int64), len(power))
    sums, counts = np.concatenate([[0.0], np.cumsum(power)]), np.diff(edges)
    with np.errstate(divide="ignore"):
        levels: Float = 10 * np.log10(np.where(counts > 0, np.diff(sums[edges]) / np.maximum(counts, 1), 0))
    return levels


def speech_frames(mel: npt.NDArray[np.floating[Any]], n_frames: int) -> npt.NDArray[np.bool_]:
    """Which frames have speech, by the rule ``level25`` (:data:`RULE_TEXT`).

    The rule knows levels only: steady noise and music count as speech.

    Args:
        mel: (N, 80) Wav2Lip's mel spectrogram, -4 … 4, 80 columns a second.
        n_frames: at 25 a second.

    Returns:
        (n_frames,) bool; False beyond the end of the sound.
    """
    levels = frame_levels(mel, n_frames)
    heard = levels[np.isfinite(levels)]
    if not len(heard):
        return np.zeros(n_frames, np.bool_)
    spoken: npt.NDArray[np.bool_] = levels >= max(float(np.percentile(heard, 95)) - _BELOW, _LEAST)
    return spoken
