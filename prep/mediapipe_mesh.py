"""FaceMesh by the package MediaPipe, 0.10.21 or before: the reference."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from prep.mesh_search import MOST_FACES, MeshDetector, check_picture
from prep.quiet import silence

Float = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

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


class MediaPipeMesh(MeshDetector):
    """MediaPipe's legacy FaceMesh with refined lips and irises: 478 points, as IP-LAP used it.

    By default every frame is treated as a still image: the points of a frame do not depend on earlier frames, and up to
    4 faces are detected. With ``tracking`` the face is tracked from frame to frame. This is faster and smoother,
    handles a single face, and differs from the reference.

    Raises:
        ImportError: the package is not installed, or is a release without FaceMesh.
    """

    def __init__(self, *, tracking: bool = False) -> None:
        self._tracking = tracking
        self._other: MediaPipeMesh | None = None
        self._detection: Any = None
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

    def detect_batch(self, frames: Sequence[Image]) -> Iterator[Float]:
        """See :class:`~prep.mesh_search.MeshDetector`; the package takes one frame after the other."""
        return map(self._one, frames)

    def _one(self, frame: Image) -> Float:
        check_picture(frame)
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

    def _full_range(self, picture: Image) -> Float:
        """See :class:`~prep.mesh_search.MeshDetector`; the network is loaded when it is first asked."""
        with silence() if self._detection is None else nullcontext():
            if self._detection is None:
                solution = importlib.import_module("mediapipe.python.solutions.face_detection")
                self._detection = solution.FaceDetection(model_selection=1, min_detection_confidence=0.5)
            found = self._detection.process(picture).detections or []
        boxes = [detection.location_data.relative_bounding_box for detection in found]
        corners = [(box.xmin, box.ymin, box.xmin + box.width, box.ymin + box.height) for box in boxes]
        return np.array(corners, np.float64).reshape(-1, 4) * (picture.shape[1::-1] * 2)

    def _still(self) -> MeshDetector:
        """See :class:`~prep.mesh_search.MeshDetector`."""
        if self._tracking and self._other is None:
            self._other = MediaPipeMesh()
        return self._other or self

    def reset(self) -> None:
        """Forget the track; does nothing without ``tracking``."""
        if self._tracking:
            with silence():
                self._mesh.reset()
                self._warm_up()

    def close(self) -> None:
        """Free the networks."""
        self._mesh.close()
        if self._detection is not None:
            self._detection.close()
        if self._other is not None:
            self._other.close()
