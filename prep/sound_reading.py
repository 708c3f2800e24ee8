"""Reads sound through PyAV: every track becomes 16 kHz mono, with the time of the video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from av.audio.resampler import AudioResampler
from av.stream import Disposition

from prep.containers import MAX_GAP, decoded, opened, read_packets
from prep.errors import ClipError
from prep.rates import SAMPLE_RATE
from prep.video_reading import timeline_of

#: Largest drift of sound timestamps in seconds before samples are inserted or cut. The jitter of containers that
#: round to #: milliseconds is smaller; a viewer does not notice half a frame.
SOUND_TOLERANCE = 0.02


@dataclass(frozen=True)
class SoundTrack:
    """A whole sound track, with the time of the video.

    Attributes:
        samples: int16 (n,), mono, 16 kHz; ``samples[0]`` belongs to the first frame of the video.
        starts: seconds from the first frame to the first decoded sample, before silence was added there (positive) or
            samples were cut there (negative).
        duration: seconds of decoded sound, before padding and cutting.
    """

    samples: np.ndarray
    starts: float
    duration: float


def sound(path: Path) -> SoundTrack:
    """Decode the first sound track to 16 kHz mono, with the time of the video.

    libswresample resamples and mixes in float: stereo becomes sqrt(1/2) (left + right), 3 dB louder than FFmpeg's ``-ac
    1`` on int16. If a mix exceeds full scale, the whole track is scaled down. int16 mono at 16 kHz is not changed.
    Samples are placed by their timestamps: a gap of more than 20 ms becomes silence, overlapping samples are cut.
    Without a video stream, time zero is the first sample.

    Raises:
        ClipError: step ``audio``; no file, no audio stream, damaged, nothing decodable, or timestamps that jump by more
            than 10 s. Step ``video`` if the video, whose first frame is time zero, cannot be read.
    """
    path = Path(path)
    with opened(path, "audio") as container:
        if not container.streams.audio:
            raise ClipError("audio", "no audio stream")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise ClipError("audio", "uses a coding that is not supported")
        stream.codec_context.thread_count = 1
        pictured = any(not video.disposition & Disposition.attached_pic for video in container.streams.video)
        origin = None
        if pictured:
            timeline = timeline_of(path)
            origin = float(int(timeline.times[0]) * timeline.time_base)
        track = _Track(origin)
        for frame in decoded(read_packets(container, stream), stream, "audio"):
            track.add(frame)
        return track.finish()


class _Track:
    """Segments of sound without a gap, each resampled separately and placed at its first timestamp."""

    def __init__(self, origin: float | None) -> None:
        self.origin = origin
        self.starts: float | None = None
        self.duration = 0.0  # of the runs that have ended
        self.form: tuple[str, str, int] | None = None
        self.resampler: Any = None
        self.mixed = False
        self.time = 0.0  # when the current run starts
        self.taken = 0  # samples that went into it
        self.parts: list[np.ndarray] = []
        self.runs: list[tuple[int, np.ndarray]] = []

    def add(self, frame: Any) -> None:
        """Add the next decoded frame."""
        if not 1000 <= frame.sample_rate <= 768_000:
            raise ClipError("audio", f"sample rate of {frame.sample_rate} Hz")
        if self.starts is None:
            first = frame.time or 0.0
            self.origin = first if self.origin is None else self.origin
            self.starts = self.time = first - self.origin
            if self.starts > MAX_GAP:
                raise ClipError("audio", f"the sound starts {self.starts:.0f} s after the picture")
        expected = self.time + (self.taken / self.form[2] if self.form else 0.0)
        time = expected if frame.time is None or self.origin is None else frame.time - self.origin
        if abs(time - expected) > MAX_GAP:
            raise ClipError(
                "audio", f"timestamps jump by {abs(time - expected):.0f} s, more than {MAX_GAP} s"
            )
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self.form or abs(time - expected) > SOUND_TOLERANCE:
            self.end_run()
            # Mixing in float keeps swresample's gains; clipping is handled in finish().
            self.resampler = AudioResampler("flt", "mono", SAMPLE_RATE)
            self.mixed = self.mixed or frame.layout.nb_channels > 1
            self.form, self.time, self.taken = form, time, 0
        self.parts.extend(part.to_ndarray()[0] for part in self.resampler.resample(frame))
        self.taken += frame.samples

    def end_run(self) -> None:
        """Flush the resampler and place the segment."""
        if self.form is not None:
            self.parts.extend(
                part.to_ndarray()[0] for part in self.resampler.resample(None) if part is not None
            )
            # Damaged float sound may contain any values.
            run = np.nan_to_num(np.concatenate(self.parts), copy=False, posinf=1.0, neginf=-1.0)
            self.runs.append((round(self.time * SAMPLE_RATE), run))
            self.duration += self.taken / self.form[2]
            self.parts = []

    def finish(self) -> SoundTrack:
        """Combine the segments, from time zero on."""
        self.end_run()
        if self.starts is None:
            raise ClipError("audio", "no sound can be decoded")
        loudest = max((float(np.abs(run).max()) for _, run in self.runs if run.size), default=0.0)
        # swresample mixes with constant power, so the sum of loud channels can exceed full scale: it is scaled
        # down, not # clipped. No channel layout gives a sum of more than 4; larger values are damage.
        scale = 32767 / min(loudest, 4.0) if self.mixed and loudest > 1 else 32768
        samples = np.zeros(max(0, *(position + len(run) for position, run in self.runs)), np.int16)
        end = 0
        for position, run in self.runs:
            cut = max(0, end - position)
            if cut < len(run):
                end = position + len(run)
                samples[position + cut : end] = np.rint(run[cut:] * scale).clip(-32768, 32767)
        if not end:
            raise ClipError("audio", "the sound ends before the picture starts")
        return SoundTrack(samples, self.starts, self.duration)
