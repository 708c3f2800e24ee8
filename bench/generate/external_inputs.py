"""The input files of an external command: one video and one sound of equal length."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.clips.inputs.reading import count_frames, take_frames, voice_samples
from bench.generate.external_options import ExternalOptions
from bench.generate.fit import heard_frames
from bench.generate.footage import VideoFootage
from bench.generate.pairing import Task
from prep.errors import ClipError
from prep.rates import SAMPLE_RATE, SAMPLES_PER_FRAME
from prep.video_reading import probe
from prep.video_writing import write_video


@dataclass(frozen=True)
class Given:
    """The input files of a command: a video without sound, and the sound that drives it.

    Attributes:
        video: an MP4 at 25 frames a second.
        audio: a WAV, 16 kHz, mono, 16 bit.
        width: pixels of the video; even, as required by H.264.
        height: pixels of the video; even.
        n_frames: of the video.
    """

    video: Path
    audio: Path
    width: int
    height: int
    n_frames: int


def write_inputs(task: Task, folder: Path, options: ExternalOptions) -> Given:
    """Write the input files for a pair: video and sound of equal length, then ``options.silence``.

    Raises:
        ClipError: the video or the sound cannot be read.
        PrepError: the file is not a shard.
        ValueError: there is no frame to write.
        OSError: the files cannot be written.
    """
    take = task.job.truth
    if take is None:
        raise ClipError("source", "the clip has no source video")
    samples = voice_samples(task.voice)
    n_frames = task.job.n_frames or count_frames(take)
    info = probe(take.path)
    width, height = (
        (take.size, take.size) if take.size else (take.crop or (0, 0, info.width, info.height))[2:]
    )

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        return take_frames(replace(take, start=take.start + start, stop=take.start + stop))

    fit = options.fit
    footage = VideoFootage(
        read,
        np.empty((n_frames, 0, 2), np.float32),
        n_frames=fit.frames(n_frames, heard_frames(samples)),
        fit=fit,
        width=width,
        height=height,
    )
    given = Given(
        folder / "video.mp4", folder / "audio.wav", width + width % 2, height + height % 2, footage.n_frames
    )
    write_video(given.video, (shot.frame for shot in footage.shots()), crf=options.crf)
    samples = samples[: given.n_frames * SAMPLES_PER_FRAME]
    wanted = (given.n_frames + options.silence) * SAMPLES_PER_FRAME
    samples = np.pad(samples, (0, wanted - len(samples)))
    with wave.open(str(given.audio), "wb") as sink:
        sink.setparams((1, 2, SAMPLE_RATE, len(samples), "NONE", "not compressed"))
        sink.writeframes(samples.astype("<i2").tobytes())
    return given
