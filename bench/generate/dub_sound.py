"""The sound of a dubbed film: that of its file, at its own rate and with its own channels."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from prep.sound_reading import film_sound
from prep.video_writing import AAC_RATES, LAYOUTS


@dataclass(frozen=True)
class WrittenSound:
    """The sound as it is written.

    Attributes:
        samples: int16 (n, channels), from the first frame to the end of the last one.
        sample_rate: Hz.
        notes: what differs from the file, and why; one line each.
    """

    samples: np.ndarray
    sample_rate: int
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """How many there are."""
        return int(self.samples.shape[1])


def written_sound(path: Path, track: int | None, seconds: Fraction) -> WrittenSound:
    """The sound of a file, cut to a length or followed by silence.

    Args:
        path: a sound file, or a video with sound.
        track: which sound track, from 0; None: see :func:`prep.containers.audio_stream`.
        seconds: how long.

    Raises:
        ClipError: it cannot be read.
    """
    found = film_sound(path, track)
    samples, rate, notes = found.samples, found.sample_rate, []
    samples = samples[: round(seconds * rate)]
    if samples.shape[1] not in LAYOUTS:
        notes.append(f"the {samples.shape[1]} channels of {path.name} became one: AAC has no such layout")
        samples = np.rint(samples.mean(axis=1, keepdims=True)).astype(np.int16)
    if rate not in AAC_RATES:
        # The next higher one loses nothing.
        wanted = min((known for known in AAC_RATES if known > rate), default=AAC_RATES[-1])
        notes.append(
            f"the sound of {path.name} was resampled from {rate} to {wanted} Hz: AAC has no such rate"
        )
        samples, rate = _resampled(samples, rate, wanted), wanted
    length = round(seconds * rate)
    samples = np.pad(samples[:length], ((0, max(0, length - len(samples))), (0, 0)))
    return WrittenSound(samples, rate, tuple(notes))


def _resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """By libswresample."""
    layout = LAYOUTS[samples.shape[1]]
    resampler = AudioResampler("s16", layout, wanted)
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), "s16", layout)
    frame.sample_rate = rate
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate(
        [part.to_ndarray().reshape(-1, samples.shape[1]) for part in parts if part is not None]
    )
