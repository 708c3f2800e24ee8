"""What a method is given to generate from: the video that is to speak, made as long as the sound, and the sound.

Both stream: a video is decoded as it is needed, forwards or backwards, and no more than :data:`BLOCK_FRAMES` frames
are held at a time. In memory stand landmarks and mel spectrogram alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from bench.clips.inputs.reading import take_frames
from bench.clips.job import Job, Take
from models.base import Shot
from prep.errors import ClipError
from prep.landmark_sets import LANDMARK_SETS
from prep.landmarks import FaceMesh, detect_clip
from prep.mel import CHUNK, mel_start, melspectrogram
from prep.names import known
from prep.rates import SAMPLES_PER_FRAME
from prep.shards import open_shard, read_clip
from prep.video_reading import probe
from prep.views import VIEWS, View, landmark_box

#: Where the sound is longer than the video. ``bounce``: the video goes on backwards, then forwards, its ends shown
#: once each time; ``loop``: it starts again; ``cut``: the sound ends with the video.
LongerAudio = Literal["bounce", "loop", "cut"]
#: Where the sound is shorter. ``cut``: the video ends with the sound; ``pad``: silence follows.
ShorterAudio = Literal["cut", "pad"]

#: Frames decoded at once to be shown backwards, and the bytes that they may take.
BLOCK_FRAMES = 50
BLOCK_BYTES = 256 << 20
#: Frames between two that are picked, up to which decoding goes on instead of seeking.
_NEAR = 50
#: What the mel spectrogram of silence is made of.
_SILENCE = -4.0

Order = npt.NDArray[np.int64]
#: Frames ``start`` to ``stop`` (exclusive) of a video.
Read = Callable[[int, int], Iterator[np.ndarray]]


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


class VideoFootage:
    """A span of a video as :class:`models.base.Footage`.

    Args:
        read: gives its frames, (height, width, 3) uint8 RGB.
        landmarks: (S, 478, 2 or 3), full-frame pixels, of its first S frames; NaN where no face was found.
        transforms: (S, 2, 3) full-frame to view pixels, NaN where there is no crop; None without a view.
        view: what shots show as their crop, or None.
        n_frames: of the footage.
        fit: how the S frames fill them.
        width: pixels.
        height: pixels.
    """

    def __init__(
        self,
        read: Read,
        landmarks: np.ndarray,
        transforms: np.ndarray | None,
        view: View | None,
        *,
        n_frames: int,
        fit: Fit,
        width: int,
        height: int,
    ) -> None:
        self.n_frames = n_frames
        self.n_unique = min(len(landmarks), n_frames)
        self.width = width
        self.height = height
        self._read = read
        self._view = view
        self._order = fit.order(len(landmarks), n_frames)
        found = np.isfinite(landmarks[..., :2]).all(axis=(1, 2))
        if transforms is not None:
            found &= np.isfinite(transforms).all(axis=(1, 2))
        self._landmarks = np.array(landmarks[..., :2], np.float32)
        self._landmarks[~found] = np.nan
        self._transforms = None if transforms is None else np.asarray(transforms, np.float64)
        self._found = found
        self.detected = found[self._order]

    def landmarks(self, name: str) -> np.ndarray:
        """Return (n_frames, P, 2) float32, full-frame pixels; NaN where no face was found.

        Raises:
            PrepError: no set of :data:`prep.landmark_sets.LANDMARK_SETS` is called so.
        """
        (name,) = known("landmark set", [name], LANDMARK_SETS)
        return self._landmarks[:, LANDMARK_SETS[name]][self._order]

    def boxes(self, landmarks: np.ndarray, margin: float) -> np.ndarray:
        """Return boxes around landmarks, in pixels, clipped to the frame: see :func:`prep.views.landmark_box`.

        Args:
            landmarks: (n, P, 2) float, full-frame pixels.
            margin: pixels added on each side.

        Returns:
            (n, 4) float64 x0, y0, x1, y1; NaN where a landmark is.
        """
        return landmark_box(landmarks.astype(np.float64), (self.width, self.height), margin)

    def shots(self) -> Iterator[Shot]:
        """Read all frames in order; at most a block of them is held.

        Raises:
            ClipError: the video cannot be decoded to its end.
        """
        index = 0
        for run in _runs(self._order):
            for frame in self._frames(run):
                yield self._shot(index, frame)
                index += 1

    def pick(self, indices: Sequence[int]) -> list[Shot]:
        """Read some frames, in the order asked for; each is decoded once.

        Raises:
            ClipError: the video cannot be decoded as far.
            IndexError: an index is outside of the footage.
        """
        places: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            if not 0 <= index < self.n_frames:
                raise IndexError(f"frame {index} of {self.n_frames}")
            places.setdefault(int(self._order[index]), []).append(place)
        shots: dict[int, Shot] = {}
        for source, frame in self._scattered(sorted(places)):
            for place in places[source]:
                own = frame if place == places[source][-1] else frame.copy()
                shots[place] = self._shot(int(indices[place]), own)
        return [shots[place] for place in range(len(indices))]

    def _shot(self, index: int, frame: np.ndarray) -> Shot:
        source = int(self._order[index])
        if self._view is None or self._transforms is None or not self._found[source]:
            return Shot(index, frame)
        matrix = self._transforms[source]
        return Shot(index, frame, self._view.crop(frame, matrix), matrix)

    def _frames(self, run: Order) -> Iterator[np.ndarray]:
        """The frames of a part that :func:`_runs` made."""
        first, last = int(run[0]), int(run[-1])
        if first > last:
            size = max(1, min(BLOCK_FRAMES, BLOCK_BYTES // (3 * self.width * self.height)))
            for stop in range(first + 1, last, -size):
                block = list(_all_of(self._read, max(last, stop - size), stop))
                while block:
                    yield block.pop()
        elif first < last:
            yield from _all_of(self._read, first, last + 1)
        else:
            (frame,) = _all_of(self._read, first, first + 1)
            for _ in run:
                yield frame.copy()

    def _scattered(self, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Frames of ascending numbers, near ones in one pass."""
        begin = 0
        for end in range(1, len(wanted) + 1):
            if end < len(wanted) and wanted[end] - wanted[end - 1] <= _NEAR:
                continue
            group = set(wanted[begin:end])
            start, stop = wanted[begin], wanted[end - 1] + 1
            for number, frame in enumerate(_all_of(self._read, start, stop), start):
                if number in group:
                    yield number, frame
            begin = end


def _runs(order: Order) -> Iterator[Order]:
    """``order`` in parts that rise by one, fall by one or stay, each as long as can be."""
    begin = 0
    while begin < len(order):
        steps = np.diff(order[begin:])
        # A jump ends a part of one frame.
        other = np.flatnonzero((steps != steps[0]) | (abs(steps) > 1)) if len(steps) else steps
        end = begin + 1 + (int(other[0]) if len(other) else len(steps))
        yield order[begin:end]
        begin = end


def _all_of(read: Read, start: int, stop: int) -> Iterator[np.ndarray]:
    number = start
    for frame in read(start, stop):
        number += 1
        yield frame
    if number < stop:
        raise ClipError("video", f"frame {number} cannot be decoded")


def clip_footage(job: Job, view: str | None, sound: int, fit: Fit) -> VideoFootage:
    """A clip of a prepared data set, with the landmarks and crops that preparation found.

    A view that the data set does not store is cut by the same rule, from the stored landmarks.

    Args:
        job: a clip of :func:`bench.clips.inputs.from_dataset`, whose source video is there.
        view: a key of :data:`prep.views.VIEWS`, or None.
        sound: frames of the driving sound.
        fit: how video and sound come together.

    Raises:
        ClipError: the shard does not hold the clip's landmarks.
        PrepError: the shard is none, or there is no such view.
    """
    if job.truth is None or job.shard is None:
        raise ClipError("source", "the clip has no source video")
    path, row_group = job.shard
    file = open_shard(path)
    stored = f"{view}_transform" in file.schema_arrow.names
    columns = ["landmarks", "detected", *([f"{view}_transform"] if stored else [])]
    clip = read_clip(file, row_group, columns)
    geometry = None if view is None else VIEWS[known("view", [view], VIEWS)[0]]
    transforms = None
    if view is not None and geometry is not None:
        transforms = (
            clip.transforms[view]
            if stored
            else geometry.transforms(clip.landmarks, clip.detected, clip.width, clip.height)
        )
    return VideoFootage(
        partial(_read_take, job.truth),
        clip.landmarks,
        transforms,
        geometry,
        n_frames=fit.frames(clip.n_frames, sound),
        fit=fit,
        width=clip.width,
        height=clip.height,
    )


def file_footage(
    path: Path,
    view: str | None,
    sound: int,
    fit: Fit,
    *,
    tracking: bool = False,
    on_frame: Callable[[int, int], None] | None = None,
) -> VideoFootage:
    """Any video file; its landmarks are detected here, as ``bench prep`` does it, in a pass over what is needed of it.

    Args:
        path: the file.
        view: a key of :data:`prep.views.VIEWS`, or None.
        sound: frames of the driving sound.
        fit: how video and sound come together.
        tracking: follow the face from frame to frame instead of looking afresh in each.
        on_frame: called after every frame with the number of those searched, and of all.

    Raises:
        ClipError: the video cannot be read to its end, or shows no human face.
        PrepError: there is no such view.
    """
    geometry = None if view is None else VIEWS[known("view", [view], VIEWS)[0]]
    info = probe(path)
    needed = min(info.n_frames, fit.frames(info.n_frames, sound))
    read = partial(_read_take, Take(path))

    def watched() -> Iterator[np.ndarray]:
        for number, frame in enumerate(_all_of(read, 0, needed), 1):
            yield frame
            if on_frame is not None:
                on_frame(number, needed)

    with FaceMesh(tracking=tracking) as mesh:
        found = detect_clip(mesh, watched())
    if not found.detected.any():
        frames = "1 frame" if needed == 1 else f"{needed} frames"
        like = ", only something like one" if found.n_faces.any() else ""
        raise ClipError("landmarks", f"no human face in {frames}{like}")
    points = found.landmarks[..., :2]
    return VideoFootage(
        read,
        points,
        None if geometry is None else geometry.transforms(points, found.detected, info.width, info.height),
        geometry,
        n_frames=fit.frames(info.n_frames, sound),
        fit=fit,
        width=info.width,
        height=info.height,
    )


def _read_take(take: Take, start: int, stop: int) -> Iterator[np.ndarray]:
    return take_frames(replace(take, start=take.start + start, stop=take.start + stop))


class DrivingSound:
    """The sound as :class:`models.base.Speech`.

    Args:
        samples: (n,) int16, mono, 16 kHz, at least one.
        n_frames: of the footage; sound beyond it is cut, what lacks is silence.
        padding: of the mel spectrogram, see :func:`prep.mel.melspectrogram`.

    Attributes:
        samples: (640 n_frames,) int16.
    """

    def __init__(self, samples: np.ndarray, n_frames: int, padding: str = "constant") -> None:
        wanted = n_frames * SAMPLES_PER_FRAME
        self.samples = np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))
        self._mel = melspectrogram(self.samples, padding)

    def chunk(self, frame: int, rule: str) -> np.ndarray:
        """Return (80, 16) float32 in [-4, 4] by a rule of :data:`prep.mel.MEL_RULES`; silence beyond the ends.

        Raises:
            KeyError: unknown rule.
        """
        start = mel_start(frame, rule)
        columns = np.full((CHUNK, self._mel.shape[1]), _SILENCE, np.float32)
        low, high = max(0, start), min(len(self._mel), start + CHUNK)
        if low < high:
            columns[low - start : high - start] = self._mel[low:high]
        return np.ascontiguousarray(columns.T)
