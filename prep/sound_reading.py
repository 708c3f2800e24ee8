"""Reads sound through PyAV: a track as 16 kHz mono or as it is stored, with the time of the video.

**The mix.** Several channels become their mean, as in librosa, with which Wav2Lip and IP-LAP were trained, and as in
``ffmpeg -ac 1`` for stereo, with which SyncNet is fed. So one voice has one level, in mono as in stereo, whatever else
is in the file; sound in one of n channels only becomes 1/n as loud. Samples beyond full scale, which float formats may
hold, are clipped.

**Channels that cancel.** The power of the mean of n uncorrelated channels is 1/n of the channels' mean power, and the
same holds if one channel speaks and the others are silent. If it is less than a tenth of that over the whole track, the
channels are each other's negative (a balanced plug in a stereo socket), and the loudest one alone is taken. Parts of a
file with another number of channels are judged separately.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.stream import Disposition

from prep.containers import MAX_GAP, audio_stream, decoded, opened, read_packets
from prep.errors import ClipError
from prep.rates import SAMPLE_RATE
from prep.timeline import timeline_of

#: Largest drift of sound timestamps in seconds before samples are inserted or cut. The jitter of containers that
#: round to milliseconds is smaller; a viewer does not notice half a frame.
SOUND_TOLERANCE = 0.02
#: Channels cancel if the power of their mean is less than this share of what uncorrelated channels leave (-10 dB).
CANCELLED = 0.1
#: Samples of float formats are limited to this before channels are mixed; larger values are damage.
_LOUDEST = 4.0
#: Samples that are mixed at once.
_BLOCK = 1 << 16
#: Planes of a frame that PyAV 17 and 18 read safely: at 8 and more, it reads behind the last one and crashes.
_PLANES = 7


@dataclass(frozen=True)
class SoundTrack:
    """A whole sound track, with the time of the video.

    Attributes:
        samples: int16 (n,), mono, 16 kHz; ``samples[0]`` belongs to the first frame of the video.
        starts: seconds from the first frame to the first decoded sample, before silence was added there (positive) or
            samples were cut there (negative).
        duration: seconds of decoded sound, before padding and cutting.
        track: which sound stream of the file, from 0.
        channels: how many the file has there; the most, if that changes.
        mix: ``mono``; ``mean`` of the channels; or, where they cancel, the one taken: ``channel 2``, from 1.
    """

    samples: np.ndarray
    starts: float
    duration: float
    track: int = 0
    channels: int = 1
    mix: str = "mono"


@dataclass(frozen=True)
class FilmSound:
    """A whole sound track as it is stored, with the time of the video.

    Attributes:
        samples: int16 (n, channels); ``samples[0]`` belongs to the first frame of the video.
        sample_rate: Hz.
        starts: seconds from the first frame to the first decoded sample, as in :class:`SoundTrack`.
    """

    samples: np.ndarray
    sample_rate: int
    starts: float


def sound(path: Path, track: int | None = None) -> SoundTrack:
    """Decode a sound track to 16 kHz mono, with the time of the video.

    Channels are mixed in float32 before libswresample changes the rate, see the module. int16 mono at 16 kHz is not
    changed. Samples are placed by their timestamps: a gap of more than 20 ms becomes silence, overlapping samples are
    cut. Without a video stream, time zero is the first sample.

    Args:
        path: the file.
        track: which sound stream, from 0, as in ``ffmpeg -map 0:a:N``; None: see
            :func:`prep.containers.audio_stream`.

    Raises:
        ClipError: step ``audio``; no file, no such stream, damaged, nothing decodable, or timestamps that jump by more
            than 10 s. Step ``video`` if the video, whose first frame is time zero, cannot be read.
    """
    mixer = _Mixer({})
    number, placed = _read(Path(path), track, mixer)
    if chosen := mixer.cancelling():
        mixer = _Mixer(chosen)
        number, placed = _read(Path(path), track, mixer)
    samples = placed.samples()[:, 0]
    return SoundTrack(samples, placed.starts, placed.duration, number, mixer.channels, mixer.name)


def film_sound(path: Path, track: int | None = None) -> FilmSound:
    """Decode a sound track at its own rate and with its own channels, with the time of the video.

    Sound of more than 16 bits is rounded; float beyond full scale is clipped. If rate or channels change inside the
    file, what follows is converted to those of the beginning: resampled, and the mean of its channels in each channel.
    Arguments, placing and errors are those of :func:`sound`.
    """
    keeper = _Keeper()
    _, placed = _read(Path(path), track, keeper)
    return FilmSound(placed.samples(), keeper.rate, placed.starts)


def _read(path: Path, track: int | None, maker: _Maker) -> tuple[int, _Placed]:
    """Decode a track; returns which one it is, and what ``maker`` made of it."""
    with opened(path, "audio") as container:
        stream = audio_stream(container, track)
        pictured = any(not video.disposition & Disposition.attached_pic for video in container.streams.video)
        origin = None
        if pictured:
            timeline = timeline_of(path)
            origin = float(int(timeline.times[0]) * timeline.time_base)
        placed = _Placed(origin, maker)
        for frame in decoded(read_packets(container, stream), stream, "audio"):
            placed.add(frame)
        placed.end_run()
        return container.streams.audio.index(stream), placed


class _Maker:
    """Makes the samples of frames that follow each other without a gap: mixed, then resampled, then int16."""

    rate = SAMPLE_RATE
    layout = "mono"

    def __init__(self) -> None:
        self._resampler: AudioResampler | None = None
        self._held: list[np.ndarray] = []  # samples of the current run, as stored
        self._held_rate = 0

    def begin(self, frame: Any) -> None:
        """A frame follows that does not continue the one before it, or has another form."""
        same = frame.sample_rate == self.rate
        self._resampler = None if same else AudioResampler("flt", self.layout, self.rate)

    def make(self, frame: Any) -> Iterator[np.ndarray]:
        """Samples that became ready, each int16 (n, channels)."""
        self._held.append(_stored(frame))
        self._held_rate = frame.sample_rate
        if sum(block.shape[1] for block in self._held) >= _BLOCK:
            yield from self._made()

    def end(self) -> Iterator[np.ndarray]:
        """What is still held, here and in the resampler."""
        if self._held:
            yield from self._made()
        if self._resampler is not None:
            yield from (_int16(_stored(part)) for part in self._resampler.resample(None) if part is not None)

    def mix(self, planes: np.ndarray) -> np.ndarray:
        """float32 (channels of the source, n) → (channels, n)."""
        raise NotImplementedError

    def _made(self) -> Iterator[np.ndarray]:
        planes = self.mix(_float(np.concatenate(self._held, axis=1)))
        self._held.clear()
        if self._resampler is None:
            yield _int16(planes)
            return
        frame = av.AudioFrame.from_ndarray(planes.T.reshape(1, -1), "flt", self.layout)
        frame.sample_rate = self._held_rate
        yield from (_int16(_stored(part)) for part in self._resampler.resample(frame))


class _Mixer(_Maker):
    """Makes 16 kHz mono: the mean of the channels, or one of them.

    Args:
        chosen: number of channels → the one to take, from 0; the mean if there is none.
    """

    def __init__(self, chosen: dict[int, int]) -> None:
        super().__init__()
        self.chosen = chosen
        # number of channels → the energy of their mean, and of each
        self.energies: dict[int, tuple[float, np.ndarray]] = {}

    def mix(self, planes: np.ndarray) -> np.ndarray:
        """One channel."""
        n = len(planes)
        of_mean, of_each = self.energies.get(n, (0.0, np.zeros(n)))
        if n in self.chosen:
            mono = planes[self.chosen[n] :][:1]
        else:
            mono = planes.mean(axis=0, keepdims=True)
            if n > 1:
                of_mean += float(mono[0] @ mono[0])
                of_each = of_each + [float(plane @ plane) for plane in planes]
        self.energies[n] = of_mean, of_each
        return mono

    def cancelling(self) -> dict[int, int]:
        """For each number of channels that cancel, the loudest channel."""
        return {
            n: int(of_each.argmax())
            for n, (of_mean, of_each) in self.energies.items()
            if n > 1 and n * of_mean < CANCELLED * float(of_each.mean())
        }

    @property
    def channels(self) -> int:
        """The largest number of channels."""
        return max(self.energies)

    @property
    def name(self) -> str:
        """The ``mix`` of :class:`SoundTrack`."""
        if self.chosen:
            return f"channel {self.chosen[max(self.chosen)] + 1}"
        return "mono" if self.channels == 1 else "mean"


class _Keeper(_Maker):
    """Keeps rate and channels of the first frame; another number of channels becomes their mean, in each."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = 0

    def begin(self, frame: Any) -> None:
        """As of :class:`_Maker`."""
        if not self.channels:
            self.rate, self.layout, self.channels = (
                frame.sample_rate,
                frame.layout.name,
                frame.layout.nb_channels,
            )
        super().begin(frame)

    def mix(self, planes: np.ndarray) -> np.ndarray:
        """As many channels as at the beginning."""
        return (
            planes if len(planes) == self.channels else np.repeat(planes.mean(axis=0)[None], self.channels, 0)
        )


class _Placed:
    """Segments of sound without a gap, each made separately and placed at its first timestamp."""

    def __init__(self, origin: float | None, maker: _Maker) -> None:
        self.origin = origin
        self.maker = maker
        self.starts = 0.0
        self.duration = 0.0  # of the runs that have ended
        self.form: tuple[str, str, int] | None = None
        self.time = 0.0  # when the current run starts
        self.taken = 0  # samples that went into it
        self.parts: list[np.ndarray] = []
        self.runs: list[tuple[float, np.ndarray]] = []

    def add(self, frame: Any) -> None:
        """Add the next decoded frame."""
        if not 1000 <= frame.sample_rate <= 768_000:
            raise ClipError("audio", f"sample rate of {frame.sample_rate} Hz")
        if self.form is None:
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
            self.maker.begin(frame)
            self.form, self.time, self.taken = form, time, 0
        self.parts.extend(self.maker.make(frame))
        self.taken += frame.samples

    def end_run(self) -> None:
        """Finish the segment."""
        if self.form is not None:
            self.parts.extend(self.maker.end())
            self.runs.append((self.time, np.concatenate(self.parts)))
            self.duration += self.taken / self.form[2]
            self.parts, self.taken = [], 0

    def samples(self) -> np.ndarray:
        """All segments, from time zero on: int16 (n, channels)."""
        if not self.runs:
            raise ClipError("audio", "no sound can be decoded")
        runs = [(round(time * self.maker.rate), run) for time, run in self.runs]
        length = max(0, *(position + len(run) for position, run in runs))
        samples = np.zeros((length, runs[0][1].shape[1]), np.int16)
        end = 0
        for position, run in runs:
            cut = max(0, end - position)
            if cut < len(run):
                end = position + len(run)
                samples[position + cut : end] = run[cut:]
        if not end:
            raise ClipError("audio", "the sound ends before the picture starts")
        return samples


def _stored(frame: Any) -> np.ndarray:
    """The samples of a frame: (channels, n), as they are stored."""
    if frame.format.name.startswith("s64"):  # PyAV has no array for it
        (frame,) = AudioResampler("dbl").resample(frame)
    channels = frame.layout.nb_channels
    if frame.format.is_planar and channels > _PLANES:
        (frame,) = AudioResampler(frame.format.packed.name).resample(frame)
    values: np.ndarray = frame.to_ndarray()
    return values if frame.format.is_planar else values.reshape(-1, channels).T


def _float(values: np.ndarray) -> np.ndarray:
    """Samples as float32, full scale is 1."""
    if values.dtype.kind == "f":
        # Damaged sound may hold anything.
        if values.size and not -_LOUDEST <= values.min() <= values.max() <= _LOUDEST:
            values = np.clip(np.nan_to_num(values), -_LOUDEST, _LOUDEST)
        return values.astype(np.float32, copy=False)
    if values.dtype.kind == "u":
        return (values.astype(np.float32) - 128) / 128
    return values.astype(np.float32) * np.float32(2.0 ** (1 - 8 * values.dtype.itemsize))


def _int16(planes: np.ndarray) -> np.ndarray:
    """float (channels, n) → int16 (n, channels), clipped to full scale."""
    scaled: np.ndarray = planes * np.float32(32768)
    np.rint(scaled, out=scaled)
    return np.clip(scaled, -32768, 32767, out=scaled).astype(np.int16).T
