"""Landmark detectors, the choice between several faces, and the track of one face in a clip.

All points are in continuous pixels of the full frame: pixel (column j, row i) covers [j, j+1) × [i, i+1).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from prep.errors import ClipError
from prep.full_range import INPUT, FullRange, regions
from prep.quiet import silence
from prep.shots import marked

Float = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]


class Detector(Protocol):
    """A landmark detector: :class:`FaceMesh` or :class:`prep.fan.Fan68`."""

    #: Points of a face and values of a point.
    shape: tuple[int, int]

    def detect(self, frame: Image) -> Float:
        """Landmarks (F, *shape) of all faces in a frame (H, W, 3) uint8 RGB; F may be 0."""
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


def detect_clip(detector: Detector, frames: Iterable[Image], choose: FaceChoice = LARGEST) -> ClipLandmarks:
    """Track one face in a clip; only a few frames are held at a time.

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

    for frame, cut in marked(frames):
        if cut:
            end_shot()
            detector.reset()
            shot, previous, confirmed = len(rows), None, False
            cuts.append(shot)
        faces = detector.detect(frame)
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


# A serialised landmark list is 478 times: field 1, 15 bytes; fields 1, 2, 3 as 32-bit floats x, y, z.
_POINT = np.dtype({"names": ["x", "y", "z"], "formats": ["<f4"] * 3, "offsets": [3, 8, 13], "itemsize": 17})
_TAG_PLACES, _TAGS = [0, 1, 2, 7, 12], np.array([0x0A, 15, 0x0D, 0x15, 0x1D], np.uint8)


def _parse(message: Any) -> Float:
    """Points (N, 3) of a ``NormalizedLandmarkList``, read from its bytes instead of single attributes."""
    data = np.frombuffer(message.SerializeToString(), np.uint8)
    points = np.empty((len(message.landmark), 3))
    if data.size == 17 * len(points) and (data.reshape(-1, 17)[:, _TAG_PLACES] == _TAGS).all():
        records = data.view(_POINT)
        points[:, 0], points[:, 1], points[:, 2] = records["x"], records["y"], records["z"]
    else:  # Another layout: optional fields are set, or this is another version of the format.
        points[:] = [(point.x, point.y, point.z) for point in message.landmark]
    return points


def _bounds(face: Float) -> tuple[Float, Float]:
    return face[:, :2].min(axis=0), face[:, :2].max(axis=0)


#: Largest number of faces in a frame.
MOST_FACES = 4
#: Side in pixels of the square in which FaceMesh sees a small face.
CLOSE_UP = 384


class FaceMesh:
    """MediaPipe's legacy FaceMesh with refined lips and irises: 478 points, as IP-LAP used it.

    By default every frame is treated as a still image: the points of a frame do not depend on earlier frames, and up to
    4 faces are detected. With ``tracking`` the face is tracked from frame to frame. This is faster and smoother,
    handles a single face, and differs from the reference.

    FaceMesh also accepts faces of dogs. For confirmation, MediaPipe's other, full-range face detector must detect a
    face in the middle of a crop of three times the size. Of 19 images of a dog and two cats that FaceMesh had
    accepted, it confirmed none; of 201 variants of human faces (80 px, blurred, noisy, turned, dark, half covered …)
    all except 2.
    """

    shape = (478, 3)

    def __init__(self, *, tracking: bool = False) -> None:
        self._tracking = tracking
        self._full_range = FullRange()
        self._still: FaceMesh | None = None
        with silence():
            solution = importlib.import_module("mediapipe.python.solutions.face_mesh")
            self._mesh = solution.FaceMesh(
                static_image_mode=not tracking,
                max_num_faces=1 if tracking else MOST_FACES,
                refine_landmarks=True,
                min_detection_confidence=0.5,
            )
            self._warm_up()

    def _warm_up(self) -> None:
        # Native threads write to stderr until the first image is processed; the first face causes more lines.
        self._mesh.process(np.zeros((64, 64, 3), np.uint8))
        self._chatty = True

    def detect(self, frame: Image) -> Float:
        """Detect faces.

        Args:
            frame: (H, W, 3) uint8 RGB.

        Returns:
            (F, 478, 3) float64, the most certain face first, F from 0 to 4: x and y in full-frame pixels (they may lie
            outside of the frame), z in the same unit, smaller is nearer, 0 at the head's centre.

        Raises:
            ValueError: not such a picture.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise ValueError(f"not an RGB picture: {frame.dtype} of shape {frame.shape}")
        # MediaPipe copies an array that is writable.
        frame = np.ascontiguousarray(frame).view()
        frame.flags.writeable = False
        with silence() if self._chatty else nullcontext():
            found = self._mesh.process(frame).multi_face_landmarks or []
        if found:
            self._chatty = False
        height, width = frame.shape[:2]
        faces = np.empty((len(found), *self.shape))
        for face, message in zip(faces, found, strict=True):
            np.multiply(_parse(message), (width, height, width), out=face)
        return faces

    def confirms(self, frame: Image, face: Float) -> bool:
        """Whether the full-range detector also detects a face at the position of the mesh; see the class."""
        return self._sees(frame, face, 3)

    def _sees(self, frame: Image, face: Float, times: int) -> bool:
        """Whether it does in a crop of some times the size."""
        low, high = _bounds(face)
        side = times * (high - low).max()
        (x0, y0), (x1, y1) = (low + high - side) / 2, (low + high + side) / 2
        part = frame[max(0, int(y0)) : max(0, int(y1)), max(0, int(x0)) : max(0, int(x1))]
        if not part.size:
            return False
        # The network's input is 192². The border is added last: the crop of a large face can be much larger than
        # the frame.
        scale = INPUT / side
        size = [max(1, round(length * scale)) for length in (part.shape[1], part.shape[0])]
        beyond = (-y0, y1 - frame.shape[0], -x0, x1 - frame.shape[1])
        top, bottom, left, right = (max(0, round(length * scale)) for length in beyond)
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        small = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_REPLICATE)
        middles = self._full_range.boxes(small)[:, :4].reshape(-1, 2, 2).mean(axis=1) / small.shape[1::-1]
        return bool((np.abs(middles - 0.5).max(axis=1) < 0.5 / times).any())

    def search(self, frame: Image) -> Float:
        """Find faces that are small in the frame, about 1/18 of its shorter side and more.

        The full-range detector sees the whole frame and then, if there is no face, overlapping squares of it, each
        made as small as its input. FaceMesh then sees a square of twice the size of each face, enlarged to
        :data:`CLOSE_UP` pixels. Only faces count that are confirmed, in crops of two and of three times their size.

        Args:
            frame: (H, W, 3) uint8 RGB.

        Returns:
            As ``detect``.
        """
        faces: list[Float] = []
        for number, (x, y, across, down) in enumerate(regions(*frame.shape[1::-1])):
            if number == 1 and faces:
                break
            scale = INPUT / max(across, down)
            size = (max(1, round(across * scale)), max(1, round(down * scale)))
            small = cv2.resize(frame[y : y + down, x : x + across], size, interpolation=cv2.INTER_AREA)
            for box in self._full_range.boxes(small) / (np.array(size * 2) / (across, down, across, down)) + (
                x,
                y,
                x,
                y,
            ):
                middle = (box[:2] + box[2:]) / 2
                known = any(
                    (low < middle).all() and (middle < high).all() for low, high in map(_bounds, faces)
                )
                if len(faces) < MOST_FACES and not known:
                    faces += self._close_up(frame, box)
        return np.array(faces).reshape(-1, *self.shape)

    def _close_up(self, frame: Image, box: Float) -> list[Float]:
        """The confirmed mesh of the face in a box, if there is one."""
        side = 2 * (box[2:] - box[:2]).max()
        scale, corner = CLOSE_UP / side, (box[:2] + box[2:] - side) / 2
        # Of centres of pixels, as OpenCV counts.
        shift = (0.5 - corner) * scale - 0.5
        picture = cv2.warpAffine(
            frame,
            np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]),
            (CLOSE_UP, CLOSE_UP),
            flags=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        if self._tracking and self._still is None:
            self._still = FaceMesh()
        faces = (self._still or self).detect(picture)
        if not len(faces):
            return []
        low, high = faces[..., :2].min(axis=1), faces[..., :2].max(axis=1)
        nearest = int(np.abs(low + high - CLOSE_UP).max(axis=1).argmin())
        face = faces[nearest] / scale + (*corner, 0)
        return [face] if self._sees(frame, face, 3) and self._sees(frame, face, 2) else []

    def reset(self) -> None:
        """Forget the track; does nothing without ``tracking``."""
        if self._tracking:
            with silence():
                self._mesh.reset()
                self._warm_up()

    def close(self) -> None:
        """Free the networks."""
        self._mesh.close()
        self._full_range.close()
        if self._still is not None:
            self._still.close()

    def __enter__(self) -> FaceMesh:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
