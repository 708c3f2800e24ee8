"""How a video and a sound of different lengths are combined: which frame of the video is used at each position."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from prep.names import known
from prep.rates import SAMPLES_PER_FRAME

#: If the sound is longer than the video. ``bounce``: the video continues backwards, then forwards, without
#: repeating its first and last frame; ``loop``: it starts again; ``cut``: the sound ends with the video.
LongerAudio = Literal["bounce", "loop", "cut"]
#: If the sound is shorter. ``cut``: the video ends with the sound; ``pad``: silence follows.
ShorterAudio = Literal["cut", "pad"]

#: Number of frames decoded at once to be used backwards, and the largest number of bytes for them.
BLOCK_FRAMES = 50
BLOCK_BYTES = 256 << 20

Order = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fit:
    """How a video and a sound of different lengths are combined."""

    longer: LongerAudio = "bounce"
    shorter: ShorterAudio = "cut"

    @classmethod
    def named(cls, longer: str, shorter: str) -> Fit:
        """From the names used in a command. Raises PrepError for an unknown name."""
        known("--longer-audio", [longer], get_args(LongerAudio))
        known("--shorter-audio", [shorter], get_args(ShorterAudio))
        return cls(cast("LongerAudio", longer), cast("ShorterAudio", shorter))

    def frames(self, video: int, sound: int) -> int:
        """Number of frames of the result, from those of the video and of the sound, all at 25 fps."""
        if sound > video:
            return video if self.longer == "cut" else sound
        return sound if self.shorter == "cut" else video

    def order(self, video: int, wanted: int) -> Order:
        """Index of the frame, of a video of ``video`` frames, at each of the ``wanted`` positions: (wanted,)
        int64."""
        places = np.arange(wanted, dtype=np.int64)
        if self.longer != "bounce":
            return places % video
        period = max(1, 2 * (video - 1))
        places %= period
        return np.minimum(places, period - places)


def heard_frames(samples: np.ndarray) -> int:
    """Number of frames at 25 fps that contain any sample of the sound (n,), 16 kHz."""
    return math.ceil(len(samples) / SAMPLES_PER_FRAME)


def block_frames(width: int, height: int) -> int:
    """How many frames of a size, in pixels, are decoded at once to be used backwards."""
    return max(1, min(BLOCK_FRAMES, BLOCK_BYTES // (3 * width * height)))


def in_blocks(numbers: Sequence[int], longest: int) -> Iterator[Sequence[int]]:
    """Split ``numbers`` into parts that do not fall, of any length, and parts that fall, of ``longest`` at most."""
    begin = 0
    while begin < len(numbers):
        end = begin + 1
        falls = end < len(numbers) and numbers[end] < numbers[begin]
        while end < len(numbers) and (numbers[end] < numbers[end - 1]) == falls:
            if falls and end - begin == longest:
                break
            end += 1
        yield numbers[begin:end]
        begin = end


def runs(order: Order) -> Iterator[Order]:
    """Split ``order`` into the longest possible parts that increase by one, decrease by one or stay constant."""
    begin = 0
    while begin < len(order):
        steps = np.diff(order[begin:])
        # After a jump, a part has a single frame.
        other = np.flatnonzero((steps != steps[0]) | (abs(steps) > 1)) if len(steps) else steps
        end = begin + 1 + (int(other[0]) if len(other) else len(steps))
        yield order[begin:end]
        begin = end
