"""How a video and a sound of another length come together: which frame of the video stands at each place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from prep.names import known
from prep.rates import SAMPLES_PER_FRAME

#: Where the sound is longer than the video. ``bounce``: the video goes on backwards, then forwards, its ends shown
#: once each time; ``loop``: it starts again; ``cut``: the sound ends with the video.
LongerAudio = Literal["bounce", "loop", "cut"]
#: Where the sound is shorter. ``cut``: the video ends with the sound; ``pad``: silence follows.
ShorterAudio = Literal["cut", "pad"]

Order = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fit:
    """How a video and a sound of another length come together."""

    longer: LongerAudio = "bounce"
    shorter: ShorterAudio = "cut"

    @classmethod
    def named(cls, longer: str, shorter: str) -> Fit:
        """From the words of a command. Raises PrepError for one that is not known."""
        known("--longer-audio", [longer], get_args(LongerAudio))
        known("--shorter-audio", [shorter], get_args(ShorterAudio))
        return cls(cast("LongerAudio", longer), cast("ShorterAudio", shorter))

    def frames(self, video: int, sound: int) -> int:
        """Frames of the result, of the video's and the sound's, all at 25 a second."""
        if sound > video:
            return video if self.longer == "cut" else sound
        return sound if self.shorter == "cut" else video

    def order(self, video: int, wanted: int) -> Order:
        """Which frame of a video of ``video`` frames stands at each of the ``wanted`` places: (wanted,) int64."""
        places = np.arange(wanted, dtype=np.int64)
        if self.longer != "bounce":
            return places % video
        period = max(1, 2 * (video - 1))
        places %= period
        return np.minimum(places, period - places)


def heard_frames(samples: np.ndarray) -> int:
    """Frames at 25 a second in which there is any of the sound (n,), 16 kHz."""
    return math.ceil(len(samples) / SAMPLES_PER_FRAME)


def runs(order: Order) -> Iterator[Order]:
    """``order`` in parts that rise by one, fall by one or stay, each as long as can be."""
    begin = 0
    while begin < len(order):
        steps = np.diff(order[begin:])
        # A jump ends a part of one frame.
        other = np.flatnonzero((steps != steps[0]) | (abs(steps) > 1)) if len(steps) else steps
        end = begin + 1 + (int(other[0]) if len(other) else len(steps))
        yield order[begin:end]
        begin = end
