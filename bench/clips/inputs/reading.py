"""Reads the files of the jobs: frames, their number, and sound."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bench.clips.job import Take, Voice
from prep.errors import ClipError


def take_frames(take: Take) -> Iterator[np.ndarray]:
    """The frames of a take at 25 fps, through :func:`prep.video_reading.frames`.

    Yields:
        uint8 (H, W, 3), RGB.

    Raises:
        ClipError: the video cannot be read.
    """
    from prep import video_reading

    return video_reading.frames(take.path, take.start, take.stop, crop=take.crop, size=take.size)


def count_frames(take: Take) -> int:
    """The expected number of frames of a take; a damaged video yields fewer.

    Raises:
        ClipError: the video cannot be read.
    """
    from prep import video_reading

    there = video_reading.probe(take.path).n_frames
    return max(0, min(there if take.stop is None else take.stop, there) - take.start)


def voice_samples(voice: Voice) -> npt.NDArray[np.int16]:
    """The samples of a span of sound, from its first frame on; fewer if the sound ends earlier.

    Returns:
        (n,) int16, mono, 16 kHz.

    Raises:
        ClipError: there is no sound, or it cannot be read.
        PrepError: the file is not a shard.
    """
    from prep.rates import SAMPLES_PER_FRAME

    samples = _track(voice)
    stop = None if voice.stop is None else voice.stop * SAMPLES_PER_FRAME
    return samples[voice.start * SAMPLES_PER_FRAME : stop]


def _track(voice: Voice) -> npt.NDArray[np.int16]:
    if voice.row_group is None:
        from prep.sound_reading import sound

        return sound(voice.path).samples
    from prep.shards import open_shard, read_clip

    samples = read_clip(open_shard(voice.path), voice.row_group, ["audio"]).audio
    if samples is None:
        raise ClipError("audio", "no sound in the data set")
    # A copy, because the array is used after the shard's memory map is closed.
    return samples.astype(np.int16)
