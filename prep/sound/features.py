"""Features of sound by name, and which of their columns belong to a frame.

A method requests sound as a :class:`prep.sample_spec.Sound`. A new feature is a line in :data:`FEATURES`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from prep.rates import FPS, SAMPLE_RATE
from prep.sample_spec import Sound
from prep.sound import mel, mfcc
from prep.sound.samples import as_float


@dataclass(frozen=True)
class Feature:
    """A feature of sound: columns over time.

    Attributes:
        name: its key in :data:`FEATURES`.
        rate: columns per second.
        shape: of a column.
        summary: one descriptive line.
        compute: ``(samples (n,) int16, start, stop) -> (columns, *shape) float32``, columns ``start`` to ``stop``
            (exclusive; None: the end) of the columns of all samples, 16 kHz mono.
        count: number of samples → number of columns.
        stored: the column of the shards that holds it; None: it is computed from the stored sound.
    """

    name: str
    rate: float
    shape: tuple[int, ...]
    summary: str
    compute: Callable[[np.ndarray, int, int | None], np.ndarray] = field(repr=False)
    count: Callable[[int], int] = field(repr=False)
    stored: str | None = None

    @cached_property
    def silence(self) -> np.ndarray:
        """A column of silence: the first column for samples that are all 0; ``shape`` float32."""
        column: np.ndarray = self.compute(np.zeros(SAMPLE_RATE, np.int16), 0, 1)[0]
        return column


def _mel(samples: np.ndarray, start: int, stop: int | None) -> np.ndarray:
    return mel.melspectrogram(samples)[start:stop]


def _waveform(samples: np.ndarray, start: int, stop: int | None) -> np.ndarray:
    return as_float(samples)[start:stop, None].astype(np.float32)


#: All features that are computed from the samples only, by name.
FEATURES: dict[str, Feature] = {
    feature.name: feature
    for feature in (
        Feature(
            "mel", mel.RATE, (80,), "Wav2Lip's mel spectrogram, -4 to 4", _mel, mel.mel_columns, stored="mel"
        ),
        Feature("mfcc", mfcc.RATE, (13,), "MFCC as SyncNet takes it", mfcc.mfcc, mfcc.mfcc_rows),
        Feature(
            "mfcc_padded",
            mfcc.RATE,
            (13,),
            "MFCC of ATVGnet, EAMM and AudioDVP: frame k takes columns 4k to 4k + 28",
            mfcc.mfcc_padded,
            mfcc.mfcc_padded_rows,
        ),
        Feature(
            "mfcc12",
            mfcc.RATE,
            (12,),
            "the same without coefficient 0: prep.sample_spec.MFCC_28X12 is the window of a frame",
            mfcc.mfcc12,
            mfcc.mfcc_padded_rows,
        ),
        Feature("waveform", SAMPLE_RATE, (1,), "the samples themselves, -1 to 1", _waveform, int),
    )
}


def first_column(frame: int, sound: Sound, rate: float) -> int:
    """First column of the sound of a 25 fps frame; negative if it would begin before the sound.

    Args:
        frame: its index.
        sound: the requested sound.
        rate: columns per second of ``sound.feature``.
    """
    first = frame + sound.offset
    if sound.clamp:
        first = max(0, first)
    # Truncated towards zero, as by int() in the official code of Wav2Lip and of methods based on it.
    return int(rate * first / FPS) - sound.lead


def chunk(
    values: np.ndarray, frame: int, sound: Sound, rate: float, silence: np.ndarray | None = None
) -> np.ndarray:
    """The sound input of a method for one frame.

    Args:
        values: (columns, *shape), time first.
        frame: index at 25 fps.
        sound: the requested sound.
        rate: columns per second.
        silence: (*shape), value beyond both ends; None: no padding.

    Returns:
        (*shape, sound.columns), time last as networks expect it, C-contiguous, of ``values``' type.

    Raises:
        IndexError: the chunk is not inside ``values``, and there is no ``silence``.
    """
    start = first_column(frame, sound, rate)
    stop = start + sound.columns
    if start >= 0 and stop <= len(values):
        return time_last(values[start:stop])
    if silence is None:
        raise IndexError(f"frame {frame} needs columns {start} to {stop} of {len(values)}")
    columns = np.empty((sound.columns, *values.shape[1:]), values.dtype)
    columns[:] = silence
    low, high = max(0, start), min(len(values), stop)
    if low < high:
        columns[low - start : high - start] = values[low:high]
    return time_last(columns)


def time_last(columns: np.ndarray) -> np.ndarray:
    """(n, *shape) → (*shape, n), C-contiguous."""
    # Without np.moveaxis, which takes longer than copying a chunk.
    turned = columns.T if columns.ndim == 2 else columns.transpose(*range(1, columns.ndim), 0)
    return np.ascontiguousarray(turned)


def valid_frames(n_columns: int, sound: Sound, rate: float) -> range:
    """The frames, from 0 on, whose chunk is inside ``n_columns`` columns."""
    # From here on, the chunks of frames extend beyond the end.
    end = max(0, math.ceil(FPS * (n_columns + sound.lead + 1) / rate) - sound.offset + 1)

    def first(frame: int) -> int:
        return first_column(frame, sound, rate)

    stop = bisect_right(range(end), n_columns - sound.columns, key=first)
    return range(min(bisect_left(range(end), 0, key=first), stop), stop)
