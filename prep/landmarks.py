"""Landmark detectors, the choice between several faces, and the track of one face in a clip.

All points are in continuous pixels of the full frame: pixel (column j, row i) covers [j, j+1) × [i, i+1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from prep.errors import ClipError
from prep.shots import marked

Float = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]


class Detector(Protocol):
    """A landmark detector: those of :mod:`prep.detectors`, and :class:`prep.fan.Fan68`."""

    #: Points of a face and values of a point.
    shape: tuple[int, int]

    def detect(self, frame: Image) -> Float:
        """Landmarks (F, *shape) of all faces in a frame (H, W, 3) uint8 RGB; F may be 0."""
        ...

    def detect_batch(self, frames: Sequence[Image]) -> Iterator[Float]:
        """As ``detect``, of several frames at once: the faces of each in turn."""
        ...

    def search(self, frame: Image) -> Float:
        """As ``detect``, for the small faces that it overlooks; asked where it detects none."""
        ...

    def confirms(self, frame: Image, face: Float) -> bool:
        """Whether ``face`` (*shape), detected in ``frame``, is certainly human."""
        ...

    def reset(self) -> None:
        """Forget earlier frames; the next frame begins a clip."""
        ...

    def close(self) -> None:
        """Free the networks; the detector cannot be used afterwards."""
        ...


@dataclass(frozen=True)
class ClipLandmarks:
    """One face in all frames of a clip.

    Attributes:
        landmarks: (T, N, D) float64, full-frame pixels, NaN where no face was detected.
        detected: (T,) bool.
        n_faces: (T,) uint8, number of faces in the frame, of which one was chosen.
        confirmed: whether a human face was confirmed in some frame. If False, ``detected`` is all False: nothing was
            found, or something like the face of an animal.
        small: (T,) bool, the face was found only by :meth:`Detector.search`.
        cuts: the frames with which a new shot begins, ascending; 0 is none of them.
    """

    landmarks: Float
    detected: npt.NDArray[np.bool_]
    n_faces: npt.NDArray[np.uint8]
    confirmed: bool
    small: npt.NDArray[np.bool_]
    cuts: tuple[int, ...] = ()

    def part(self, start: int, stop: int) -> ClipLandmarks:
        """Frames ``start`` to ``stop`` (exclusive) of one shot."""
        frames = slice(start, stop)
        detected = self.detected[frames]
        return ClipLandmarks(
            self.landmarks[frames], detected, self.n_faces[frames], bool(detected.any()), self.small[frames]
        )


def choose_face(faces: Float, previous: Float | None = None) -> int:
    """Index of the face that continues a track, or else of the largest face.

    Args:
        faces: (F, N, 2 or 3), F > 0.
        previous: (N, 2 or 3), the face last chosen; None at the start of a track.

    Returns:
        The face whose bounding box has the largest intersection over union with that of ``previous``; if none
        overlaps, the face with the largest box. If several are equal, the first.
    """
    if len(faces) == 1:
        return 0
    low, high = faces[..., :2].min(axis=1), faces[..., :2].max(axis=1)
    area = (high - low).prod(axis=1)
    if previous is not None:
        start, end = previous[:, :2].min(axis=0), previous[:, :2].max(axis=0)
        shared = np.clip(np.minimum(high, end) - np.maximum(low, start), 0, None).prod(axis=1)
        if shared.any():
            return int(np.argmax(shared / (area + (end - start).prod() - shared)))
    return int(np.argmax(area))


@dataclass(frozen=True)
class FaceChoice:
    """Which of several people a track begins with; without arguments the one with the largest face.

    It is made in the first frame that shows a face, among the faces that the detector finds there (FaceMesh: at most
    4). From there on the chosen face is followed, see :func:`choose_face`. After a cut it is made again, of the largest
    face if there are too few.

    Attributes:
        number: the N-th face from left to right, by the middles of their boxes; 1 is the leftmost.
        at: x and y in full-frame pixels: the face whose box contains this point or is the nearest to it.
    """

    number: int | None = None
    at: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.number is not None and (self.at is not None or self.number < 1):
            raise ValueError("a face is chosen by a number from 1, or by a point, or not at all")

    def first(self, faces: Float) -> int:
        """Index of the face of ``faces`` (F, N, 2 or 3), F > 0, with which the track begins.

        Raises:
            ClipError: there are fewer than ``number`` faces; the message says how many there are and where.
        """
        low, high = faces[..., :2].min(axis=1), faces[..., :2].max(axis=1)
        middles = (low + high) / 2
        if self.at is not None:
            away = np.maximum(np.maximum(low - self.at, self.at - high), 0)
            distances = np.hypot(*away.T), np.hypot(*(middles - self.at).T)
            return int(np.lexsort(distances[::-1])[0])
        if self.number is None:
            return choose_face(faces)
        order = np.argsort(middles[:, 0], kind="stable")
        if self.number > len(faces):
            places = " and ".join(f"({x:.0f}, {y:.0f})" for x, y in middles[order])
            there = f"is 1 face, at {places}" if len(faces) == 1 else f"are {len(faces)} faces, at {places}"
            where = f"in the first frame with a face there {there}"
            raise ClipError("landmarks", f"there is no face {self.number}: {where}")
        return int(order[self.number - 1])


#: The usual choice.
LARGEST = FaceChoice()
#: Frames that are detected together.
BATCH = 4


def detect_clip(detector: Detector, frames: Iterable[Image], choose: FaceChoice = LARGEST) -> ClipLandmarks:
    """Track one face in a clip; only a few frames are held at a time, and detected together.

    Where the detector detects no face, it searches for small ones. After a cut (:mod:`prep.shots`) the track begins
    anew. Detectors sometimes detect the face of a dog. So the detector must confirm the chosen face in at least one
    frame of a shot, the first for which it can. A shot without such a frame counts as one without a face. Apart from
    this, the detector's output is used unchanged.

    Args:
        detector: of landmarks.
        frames: (H, W, 3) uint8 RGB each.
        choose: which of several people.

    Raises:
        ClipError: there is no face that ``choose`` asks for.
    """
    detector.reset()
    previous: Float | None = None
    rows: list[Float] = []
    n_faces, small, cuts, shot, confirmed = [], [], [], 0, False
    missing = np.full(detector.shape, np.nan)

    def end_shot() -> None:
        if not confirmed:
            rows[shot:] = [missing] * (len(rows) - shot)

    for batch, cut in _batches(marked(frames)):
        if cut:
            end_shot()
            detector.reset()
            shot, previous, confirmed = len(rows), None, False
            cuts.append(shot)
        for frame, faces in zip(batch, detector.detect_batch(batch), strict=True):
            small.append(not len(faces))
            if not len(faces):
                faces = detector.search(frame)
            n_faces.append(len(faces))
            if len(faces):
                if previous is None:
                    few = shot > 0 and choose.number is not None and choose.number > len(faces)
                    chosen = (LARGEST if few else choose).first(faces)
                else:
                    chosen = choose_face(faces, previous)
                previous = faces[chosen]
                confirmed = confirmed or detector.confirms(frame, previous)
            rows.append(previous if previous is not None and len(faces) else missing)
    end_shot()
    landmarks = np.array(rows, np.float64).reshape(-1, *detector.shape)
    detected = np.isfinite(landmarks[:, 0, 0])
    return ClipLandmarks(
        landmarks,
        detected,
        np.array(n_faces, np.uint8),
        bool(detected.any()),
        np.array(small, bool) & detected,
        tuple(cuts),
    )


def _batches(frames: Iterable[tuple[Image, bool]]) -> Iterator[tuple[list[Image], bool]]:
    """Up to :data:`BATCH` frames of one shot, and whether the first of them begins a new one."""
    batch: list[Image] = []
    begins = False
    for frame, cut in frames:
        if batch and (cut or len(batch) == BATCH):
            yield batch, begins
            batch, begins = [], False
        begins = begins or cut
        batch.append(frame)
    if batch:
        yield batch, begins
