"""What detectors of 478 points share: small faces, and the confirmation that a face is human."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from prep.warping import warp

Float = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

#: Points of a face and values of a point.
POINTS = (478, 3)
#: Largest number of faces in a frame.
MOST_FACES = 4
#: Side in pixels of the input of the full-range detector.
INPUT = 192
#: Side in pixels of the square in which a mesh sees a small face.
CLOSE_UP = 384


class MeshDetector(ABC):
    """A :class:`prep.landmarks.Detector` of 478 points.

    FaceMesh also accepts faces of dogs. For confirmation, MediaPipe's other, full-range face detector must detect a
    face in the middle of a crop of three times the size. Of 19 images of a dog and two cats that FaceMesh had
    accepted, it confirmed none; of 201 variants of human faces (80 px, blurred, noisy, turned, dark, half covered …)
    all except 2.
    """

    shape = POINTS

    @abstractmethod
    def detect_batch(self, frames: Sequence[Image]) -> Iterator[Float]:
        """Detect faces.

        Args:
            frames: (H, W, 3) uint8 RGB each, sizes may differ.

        Returns:
            Of each frame (F, 478, 3) float64, the most certain face first, F from 0 to 4: x and y in full-frame pixels
            (they may lie outside of the frame), z in the same unit, smaller is nearer, 0 at the head's centre.

        Raises:
            ValueError: not such a picture.
        """

    @abstractmethod
    def _full_range(self, picture: Image) -> Float:
        """Faces (F, 4) that the full-range detector sees in a picture: x0, y0, x1, y1 in pixels, the most certain
        first."""

    @abstractmethod
    def _still(self) -> MeshDetector:
        """The detector of single pictures: this one, or another if this one tracks faces."""

    def detect(self, frame: Image) -> Float:
        """As :meth:`detect_batch`, in one frame."""
        (faces,) = self.detect_batch([frame])
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
        # The border is added last: the crop of a large face can be much larger than the frame.
        scale = INPUT / side
        size = [max(1, round(length * scale)) for length in (part.shape[1], part.shape[0])]
        beyond = (-y0, y1 - frame.shape[0], -x0, x1 - frame.shape[1])
        top, bottom, left, right = (max(0, round(length * scale)) for length in beyond)
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        small = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_REPLICATE)
        middles = self._full_range(small).reshape(-1, 2, 2).mean(axis=1) / small.shape[1::-1]
        return bool((np.abs(middles - 0.5).max(axis=1) < 0.5 / times).any())

    def search(self, frame: Image) -> Float:
        """Find faces that are small in the frame, about 1/18 of its shorter side and more.

        The full-range detector sees the whole frame and then, if there is no face, overlapping squares of it, each
        made as small as its input. The mesh then sees a square of twice the size of each face, enlarged to
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
            enlarged = self._full_range(small) / (np.array(size * 2) / (across, down, across, down))
            for box in enlarged + np.array((x, y, x, y)):
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
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        size, edge = (CLOSE_UP, CLOSE_UP), cv2.BORDER_REPLICATE
        picture = warp(frame, matrix, size, cubic=bool(scale > 1), border=edge)
        faces = self._still().detect(picture)
        if not len(faces):
            return []
        low, high = faces[..., :2].min(axis=1), faces[..., :2].max(axis=1)
        nearest = int(np.abs(low + high - CLOSE_UP).max(axis=1).argmin())
        face = faces[nearest] / scale + (*corner, 0)
        return [face] if self._sees(frame, face, 3) and self._sees(frame, face, 2) else []

    @abstractmethod
    def reset(self) -> None:
        """Forget the track; does nothing without tracking."""

    @abstractmethod
    def close(self) -> None:
        """Free the networks; the detector cannot be used afterwards."""

    def __enter__(self) -> MeshDetector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _bounds(face: Float) -> tuple[Float, Float]:
    return face[:, :2].min(axis=0), face[:, :2].max(axis=0)


def check_picture(frame: Image) -> None:
    """Refuse what is not a picture.

    Raises:
        ValueError: not (H, W, 3) uint8, or empty.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise ValueError(f"not an RGB picture: {frame.dtype} of shape {frame.shape}")


def regions(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """The whole frame, then squares along its longer side that overlap by half or more: x, y, width, height."""
    side, length = min(width, height), max(width, height)
    whole = (0, 0, width, height)
    if side == length:
        return [whole]
    # A strip is not cut into hundreds of squares.
    number = min(math.ceil(2 * (length - side) / side), 6) + 1
    places = [i * (length - side) // (number - 1) for i in range(number)]
    return [
        whole,
        *((place, 0, side, side) if width > height else (0, place, side, side) for place in places),
    ]
