"""Reads the files of the jobs: frames, their number, and sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bench.clips.job import Candidate, Take, Voice
from prep.errors import ClipError
from prep.pixels import Matrix

#: The matrices other than BT.601 by which tagged files are decoded.
OTHERS: dict[str, Matrix] = {"bt709": "bt709", "bt2020": "bt2020"}


def take_frames(take: Take) -> Iterator[np.ndarray]:
    """The frames of a take at 25 fps, through :func:`prep.video_reading.frames`.

    Yields:
        uint8 (H, W, 3), RGB.

    Raises:
        ClipError: the video cannot be read.
    """
    from prep import video_reading

    return video_reading.frames(
        take.path,
        take.start,
        take.stop,
        crop=take.crop,
        size=take.size,
        pixels=take.pixels,
        matrix=take.matrix,
    )


def tagged_matrix(take: Take) -> Matrix | None:
    """The matrix other than BT.601 that a video is tagged with; None: there is none.

    Raises:
        ClipError: the video cannot be read.
    """
    from prep import video_reading

    info = video_reading.probe(take.path)
    matrix = OTHERS.get(info.matrix)
    return matrix if info.matrix_tagged else None


def decoded_as(candidate: Candidate, truth: Take | None) -> Take | None:
    """The video of a candidate, with the matrix by which it is decoded: an untagged one perhaps by that of its truth.

    Raises:
        ClipError: a video cannot be read.
    """
    from prep import video_reading

    take = candidate.video
    if take is None or truth is None or candidate.untagged == "rule":
        return take
    matrix = None if video_reading.probe(take.path).matrix_tagged else tagged_matrix(truth)
    return take if matrix is None else replace(take, matrix=matrix)


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
