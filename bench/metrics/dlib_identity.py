"""dlib's face networks, from two packages: ``dlib-bin`` and ``face-recognition-models``.

The second one contains the files of https://github.com/davisking/dlib-models. It cannot always be imported (it needs
``pkg_resources``), so it is only read as data. A file is used after its SHA-256 matched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bench.common.errors import Unavailable
from prep.installing import install
from prep.landmark_sets import FACE_131

Float = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

EXTRA = "dlib"
FEATURES = 128
RECOGNITION = "dlib_face_recognition_resnet_model_v1"
POINTS_5 = "shape_predictor_5_face_landmarks"
POINTS_68 = "shape_predictor_68_face_landmarks"
SHA256 = {
    RECOGNITION: "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    POINTS_5: "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    POINTS_68: "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
}
#: The square of dlib's frontal detector relative to the landmarks' box: its side divided by the geometric mean of
#: the #: box's sides, and the height of its centre above the box's centre, in heights of the box. Measured on
#: talking faces #: (standard deviations 0.05 and 0.04).
RECTANGLE_SIDE, RECTANGLE_RISE = 1.08, 0.075
_REMEDY = install(EXTRA)


class DlibFaces:
    """dlib's predictors of landmarks and its identity network (ResNet-29, 128 values; King 2017).

    Args:
        names: the files to load, of :data:`SHA256`.

    Raises:
        Unavailable: a package is not installed, or a file is not dlib's own.
    """

    def __init__(self, names: Sequence[str]) -> None:
        try:
            self._dlib = import_module("dlib")
        except ImportError:
            raise Unavailable("dlib is not installed", _REMEDY) from None
        self.models = {name: load_model(name) for name in names}

    def points68(self, frame: Image, face: npt.ArrayLike) -> Float:
        """The 68 points of a face, from the grey image.

        Args:
            frame: (H, W, 3) uint8 RGB.
            face: (478, 2 or 3), FaceMesh's landmarks, in pixels of the frame, that tell where the face is.

        Returns:
            (68, 2) float64 in continuous pixels of the frame; all are centres of pixels.
        """
        grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
        found = self.models[POINTS_68](grey, self._rectangle(face))
        return np.array([(p.x, p.y) for p in found.parts()], np.float64) + 0.5

    def identity(self, frame: Image, face: npt.ArrayLike) -> Float:
        """The identity vector of a face, aligned by dlib's own five points: 150² with a padding of 0.25.

        Args:
            frame: (H, W, 3) uint8 RGB.
            face: (478, 2 or 3), FaceMesh's landmarks, in pixels of the frame, that tell where the face is.

        Returns:
            (128,) float64, not normalised.
        """
        frame = np.ascontiguousarray(frame)
        shape = self.models[POINTS_5](frame, self._rectangle(face))
        chip = self._dlib.get_face_chip(frame, shape, size=150, padding=0.25)
        return np.array(self.models[RECOGNITION].compute_face_descriptor(chip), np.float64)

    def _rectangle(self, face: npt.ArrayLike) -> Any:
        return self._dlib.rectangle(*rectangle(face))


def rectangle(face: npt.ArrayLike) -> tuple[int, int, int, int]:
    """The square in which dlib's frontal detector would have found a face.

    Args:
        face: (478, 2 or 3), FaceMesh's landmarks in continuous pixels.

    Returns:
        Left, top, right, bottom: indices of pixels, all inside; they may lie beyond the frame.
    """
    points = np.asarray(face, np.float64)[FACE_131, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    width, height = high - low
    side = round(RECTANGLE_SIDE * float(np.sqrt(width * height)))
    x, y = (low + high) / 2 - [0, RECTANGLE_RISE * height]
    left, top = round(x - side / 2), round(y - side / 2)
    return left, top, left + side - 1, top + side - 1


@cache
def load_model(name: str) -> Any:
    """The loaded file of that name, once per process. dlib must be installed."""
    package = find_spec("face_recognition_models")
    if package is None or package.origin is None:
        raise Unavailable("face-recognition-models is not installed", _REMEDY)
    path = Path(package.origin).parent / "models" / f"{name}.dat"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        found = "none"
    if found != SHA256[name]:
        raise Unavailable(
            f"{path} is not dlib's: sha256 {found[:12]}, not {SHA256[name][:12]}",
            "pip install --force-reinstall face-recognition-models",
        )
    dlib = import_module("dlib")
    kind = dlib.face_recognition_model_v1 if name == RECOGNITION else dlib.shape_predictor
    return kind(str(path))
