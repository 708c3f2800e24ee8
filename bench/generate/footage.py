"""The footage: the video in which a talker generates, made as long as the sound, as :class:`models.base.Footage`.

Frames are streamed: the video is decoded when needed, forwards or backwards, and at most
:data:`bench.generate.fit.BLOCK_FRAMES` frames are in memory at a time. Only landmarks are always in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from bench.clips.inputs.dataset import NO_SOURCE
from bench.clips.inputs.reading import take_frames, voice_samples
from bench.clips.job import Job, Take, Voice
from bench.generate.dub_inputs import Picked
from bench.generate.fit import Fit, Order, block_frames, runs
from bench.generate.people import OnePerson
from bench.generate.sound import DrivingSound
from models.base import Crop, Shot
from prep.detectors import DEFAULT as DETECTOR
from prep.detectors import create
from prep.errors import ClipError
from prep.landmark_sets import LANDMARK_SETS
from prep.landmarks import LARGEST, FaceChoice, detect_clip
from prep.names import known
from prep.sample_spec import Column
from prep.shards import open_shard, read_clip
from prep.sound_reading import sound
from prep.stills import image
from prep.views import VIEWS, landmark_box

#: Up to this distance between two picked frames, decoding continues; beyond it, the decoder seeks.
_NEAR = 50
#: Frames ``start`` to ``stop`` (exclusive) of a video.
Read = Callable[[int, int], Iterator[np.ndarray]]
#: Footage of an unchanged clip, and name of a derived column → the column and its values for that clip.
Derive = Callable[["VideoFootage", str], tuple[Column, np.ndarray]]


class VideoFootage:
    """A span of a video as :class:`models.base.Footage`.

    Args:
        read: returns its frames, (height, width, 3) uint8 RGB.
        landmarks: (S, 478, 3), full-frame pixels, of its first S frames; NaN where no face was found.
        n_frames: of the footage.
        fit: how the S frames are extended to ``n_frames``.
        width: pixels.
        height: pixels.
        views: of :data:`prep.views.VIEWS`; a frame for which one of them is not defined counts as one without a face.
        stored: view → (S, 2, 3) full-frame to view pixels, for views stored by preparation.
        own_sound: returns its own sound, (n,) int16, mono, 16 kHz, from the first frame on; raises ClipError if there
            is none.
        padding: of the mel spectrogram, see :func:`prep.sound.mel.melspectrogram`.
        derive: returns derived columns.
        name: the id of the clip, or the absolute path of the file without suffix.
        people: how many faces the first frame with a face shows.
        cuts: the frames of the span with which a new shot begins.

    Attributes:
        order: (n_frames,) int64, the frame of the span at each place.
        source_landmarks: (S, 478, 3), as given.
    """

    def __init__(
        self,
        read: Read,
        landmarks: np.ndarray,
        *,
        n_frames: int,
        fit: Fit,
        width: int,
        height: int,
        views: Sequence[str] = (),
        stored: Mapping[str, np.ndarray] | None = None,
        own_sound: Callable[[], np.ndarray] | None = None,
        padding: str = "constant",
        derive: Derive | None = None,
        name: str = "",
        people: int = 1,
        cuts: Sequence[int] = (),
    ) -> None:
        self.n_frames = n_frames
        self.n_unique = min(len(landmarks), n_frames)
        self.width = width
        self.height = height
        self.people = people
        self.cuts = tuple(cuts)
        self.views = known("view", views, VIEWS)
        self._read = read
        self._own_sound = own_sound
        self._padding = padding
        self._derive = derive
        self._name = name
        self.order = fit.order(len(landmarks), n_frames)
        # Of the S frames, with all faces: some views depend on the whole clip.
        self._detected = np.isfinite(landmarks[..., :2]).all(axis=(1, 2))
        self.source_landmarks = landmarks
        self._transforms = dict(stored or {})
        self._found = self._detected.copy()
        for view in self.views:
            self._found &= np.isfinite(self._source_transforms(view)).all(axis=(1, 2))
        self.detected = self._found[self.order]

    @property
    def speech(self) -> DrivingSound:
        """Its own sound, of its first ``n_unique`` frames; silence if it has none."""
        try:
            samples = self._own_sound() if self._own_sound is not None else np.empty(0, np.int16)
        except ClipError:
            samples = np.empty(0, np.int16)
        return DrivingSound(samples, self.n_unique, self._padding, name=self._name)

    @property
    def alone(self) -> VideoFootage:
        """The first ``n_unique`` frames of the video, without extension."""
        return VideoFootage(
            self._read,
            self.source_landmarks[: self.n_unique],
            n_frames=self.n_unique,
            fit=Fit(),
            width=self.width,
            height=self.height,
            views=self.views,
            stored={view: matrices[: self.n_unique] for view, matrices in self._transforms.items()},
            own_sound=self._own_sound,
            padding=self._padding,
            derive=self._derive,
            name=self._name,
        )

    def landmarks(self, name: str, depth: bool = False) -> np.ndarray:
        """Return (n_frames, P, 2) float32, full-frame pixels; NaN where no face was found.

        Args:
            name: of :data:`prep.landmark_sets.LANDMARK_SETS`.
            depth: as (n_frames, P, 3), z scaled like x.

        Raises:
            PrepError: the set is unknown.
        """
        (name,) = known("landmark set", [name], LANDMARK_SETS)
        points = self.source_landmarks[:, LANDMARK_SETS[name], : 3 if depth else 2].astype(np.float32)
        points[~self._found] = np.nan
        return points[self.order]

    def transforms(self, view: str) -> np.ndarray:
        """Return (n_frames, 2, 3) float64, full-frame to view pixels; NaN where there is no face in the view.

        Raises:
            PrepError: no view is called so.
        """
        matrices = self._source_transforms(view).copy()
        matrices[~self._found] = np.nan
        return matrices[self.order]

    def _source_transforms(self, view: str) -> np.ndarray:
        """(S, 2, 3) float64 of the video's own frames."""
        if view not in self._transforms:
            (view,) = known("view", [view], VIEWS)
            self._transforms[view] = VIEWS[view].transforms(
                self.source_landmarks, self._detected, self.width, self.height
            )
        return np.asarray(self._transforms[view], np.float64)

    def crop(self, view: str, shot: Shot) -> Crop | None:
        """Crop a view from a frame in its current state; None if the view has no face in this frame.

        Raises:
            PrepError: the view is unknown.
        """
        source = int(self.order[shot.index])
        matrix = self._source_transforms(view)[source]
        if not self._found[source] or not np.isfinite(matrix).all():
            return None
        return Crop(VIEWS[view].crop(shot.frame, matrix), matrix)

    def derived(self, name: str) -> np.ndarray:
        """Return a derived column: (n_frames, …) if per frame; as stored if per clip or of the sound.

        Raises:
            ClipError: it could not be computed for this clip.
            KeyError: the method derives no such column.
        """
        if self._derive is None:
            raise KeyError(name)
        column, values = self._derive(self.alone, name)
        return values[self.order] if column.per == "frame" else values

    def boxes(self, landmarks: np.ndarray, margin: float) -> np.ndarray:
        """Return boxes around landmarks, in pixels, clipped to the frame: see :func:`prep.views.landmark_box`.

        Args:
            landmarks: (n, P, 2) float, full-frame pixels.
            margin: pixels added on each side.

        Returns:
            (n, 4) float64 x0, y0, x1, y1; NaN where a landmark is NaN.
        """
        return landmark_box(landmarks.astype(np.float64), (self.width, self.height), margin)

    def shots(self) -> Iterator[Shot]:
        """Read all frames in order; at most one block of them is in memory.

        Raises:
            ClipError: the video cannot be decoded to its end.
        """
        index = 0
        for run in runs(self.order):
            for frame in self._frames(run):
                yield Shot(index, frame)
                index += 1

    def pick(self, indices: Sequence[int]) -> list[Shot]:
        """Read some frames, in the order of ``indices``; each is decoded once.

        Raises:
            ClipError: the video cannot be decoded up to a needed frame.
            IndexError: an index is outside the footage.
        """
        places: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            if not 0 <= index < self.n_frames:
                raise IndexError(f"frame {index} of {self.n_frames}")
            places.setdefault(int(self.order[index]), []).append(place)
        shots: dict[int, Shot] = {}
        for source, frame in self._scattered(sorted(places)):
            for place in places[source]:
                own = frame if place == places[source][-1] else frame.copy()
                shots[place] = Shot(int(indices[place]), own)
        return [shots[place] for place in range(len(indices))]

    def _frames(self, run: Order) -> Iterator[np.ndarray]:
        """The frames of a part of the order, see :func:`bench.generate.fit.runs`."""
        first, last = int(run[0]), int(run[-1])
        if first > last:
            size = block_frames(self.width, self.height)
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
        """Frames with increasing numbers; close ones are decoded in one pass."""
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


def _all_of(read: Read, start: int, stop: int) -> Iterator[np.ndarray]:
    number = start
    for frame in read(start, stop):
        number += 1
        yield frame
    if number < stop:
        raise ClipError("video", f"frame {number} cannot be decoded")


def clip_footage(
    job: Job,
    views: Sequence[str],
    sound: int,
    fit: Fit,
    *,
    padding: str = "constant",
    derive: Derive | None = None,
) -> VideoFootage:
    """A clip of a prepared data set, with the landmarks and crops that preparation found.

    A view that the data set does not store is computed by the same rule from the stored landmarks.

    Args:
        job: a clip of :func:`bench.clips.inputs.from_dataset`; without its source video it has no frames.
        views: keys of :data:`prep.views.VIEWS`.
        sound: frames of the driving sound.
        fit: how video and sound are combined.
        padding: of the mel spectrogram of its own sound.
        derive: returns derived columns.

    Raises:
        ClipError: the shard does not hold the clip's landmarks.
        PrepError: the file is not a shard, or a view is unknown.
    """
    if job.shard is None:
        raise ClipError("source", "the clip is in no data set")
    path, row_group = job.shard
    file = open_shard(path)
    stored = [view for view in views if f"{view}_transform" in file.schema_arrow.names]
    columns = ["landmarks", "detected", *(f"{view}_transform" for view in stored)]
    clip = read_clip(file, row_group, columns)
    return VideoFootage(
        _no_source if job.truth is None else partial(_read_take, job.truth),
        clip.landmarks,
        n_frames=fit.frames(clip.n_frames, sound),
        fit=fit,
        width=clip.width,
        height=clip.height,
        views=views,
        stored={view: clip.transforms[view] for view in stored},
        own_sound=partial(voice_samples, Voice(path, row_group=row_group)),
        padding=padding,
        derive=derive,
        name=job.clip_id,
    )


def file_footage(
    picked: Picked,
    views: Sequence[str],
    sound_frames: int,
    fit: Fit,
    *,
    detector: str = DETECTOR,
    tracking: bool = False,
    device: str = "cpu",
    padding: str = "constant",
    derive: Derive | None = None,
    on_frame: Callable[[int, int], None] | None = None,
    choose: FaceChoice = LARGEST,
    track: int | None = None,
) -> VideoFootage:
    """Any video file or picture. Landmarks are detected as in ``bench prep``, in one pass over the needed frames.

    Args:
        picked: the file. A picture lasts as long as the sound.
        views: keys of :data:`prep.views.VIEWS`.
        sound_frames: of the driving sound.
        fit: how video and sound are combined.
        detector: what finds the landmarks, one of :data:`prep.detectors.DETECTORS`.
        tracking: track the face from frame to frame instead of detecting it in each.
        device: of torch, for the detector.
        padding: of the mel spectrogram of its own sound.
        derive: returns derived columns.
        on_frame: called after every frame with the number of frames done and the total.
        choose: which of several people.
        track: which of its sound tracks is its own sound, from 0; None: see :func:`prep.containers.audio_stream`.

    Raises:
        ClipError: the video cannot be read to its end, shows no human face, or not the one that ``choose`` asks for.
        PrepError: a view or the detector is unknown, or a package or file that the detector needs is missing.
    """
    known("view", views, VIEWS)
    info, path = picked.info, picked.path
    if info is None:
        picture = image(path)
        read, n_frames, (height, width) = partial(_read_picture, picture), 1, picture.shape[:2]
        fit = Fit("loop", "cut")
    else:
        read, n_frames, width, height = (
            partial(_read_take, Take(path)),
            info.n_frames,
            info.width,
            info.height,
        )
    needed = min(n_frames, fit.frames(n_frames, sound_frames))

    def watched() -> Iterator[np.ndarray]:
        for number, frame in enumerate(_all_of(read, 0, needed), 1):
            yield frame
            if on_frame is not None:
                on_frame(number, needed)

    person = OnePerson(create(detector, tracking=tracking, device=device), choose)
    try:
        found = detect_clip(person, watched())
    finally:
        person.close()
    if not found.detected.any():
        frames = "1 frame" if needed == 1 else f"{needed} frames"
        like = ", only something like one" if found.n_faces.any() else ""
        raise ClipError("landmarks", f"no human face in {frames}{like}")
    return VideoFootage(
        read,
        found.landmarks,
        n_frames=fit.frames(n_frames, sound_frames),
        fit=fit,
        width=width,
        height=height,
        views=views,
        own_sound=None if info is None else lambda: sound(path, track).samples,
        padding=padding,
        derive=derive,
        name=str(path.absolute().with_suffix("")),
        people=person.people,
        cuts=found.cuts,
    )


def _read_picture(picture: np.ndarray, start: int, stop: int) -> Iterator[np.ndarray]:
    return (picture.copy() for _ in range(start, stop))


def _no_source(start: int, stop: int) -> Iterator[np.ndarray]:
    raise ClipError("source", NO_SOURCE)


def _read_take(take: Take, start: int, stop: int) -> Iterator[np.ndarray]:
    return take_frames(replace(take, start=take.start + start, stop=take.start + stop))
