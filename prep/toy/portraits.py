"""The two portraits that the toy corpus starts from: photographs by NASA and the US Navy, in the public domain."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prep.errors import PrepError
from prep.facemesh.detector import FaceMesh
from prep.facemesh.person import person
from prep.installing import install
from prep.warping import warp

NEEDS = f"bench toy needs an optional extra: {install('toy')}"

#: The portraits lie inside the wheels of scikit-image and Matplotlib; neither package is imported.
_FILES = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}

#: Forehead and chin of the FaceMesh.
_TOP, _CHIN = 10, 152
_EYES = ((33, 133), (362, 263))
#: In a stage (the unit square of the picture to come, with a margin all around) the face, from the forehead's to the
#: chin's landmark, has this height and this centre.
FACE_HEIGHT = 0.57
FACE_CENTRE = (0.5, 0.52)
MARGIN = 0.12


@dataclass(frozen=True)
class Portrait:
    """A face on a stage: upright, of standard size, cut out from its background.

    Attributes:
        rgb: uint8 (n, n, 3); the stage runs from -MARGIN to 1 + MARGIN in both directions.
        matte: float32 (n, n), how much of a pixel the person covers, 0 to 1.
        points: float64 (468, 3) FaceMesh points; x, y in stage units, z in the same scale, growing away from us.
    """

    rgb: NDArray[np.uint8]
    matte: NDArray[np.float32]
    points: NDArray[np.float64]


def portrait_file(name: str) -> Path:
    """Where the package's portrait lies; PrepError if the package, or the file in it, is missing."""
    package, inside = _FILES[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise PrepError(NEEDS)
    path = Path(spec.origin).parent / inside
    if not path.is_file():
        raise PrepError(f"{package} is installed without {inside}; {NEEDS}")
    return path


def load_portrait(name: str, side: int, mirror: bool = False) -> Portrait:
    """Read ``astronaut`` or ``hopper``, find the face and the person, and put them on a stage of ``side`` pixels.

    A mirrored portrait is mirrored before the mesh is found, so that every mesh point keeps its meaning.

    The mesh and the matte come from MediaPipe's FaceMesh and selfie segmentation, run by :mod:`prep.facemesh`.

    Raises:
        PrepError: a package of the extra ``toy`` is missing, or the picture in it shows no face.
    """
    path = portrait_file(name)
    picture = np.asarray(Image.open(path).convert("RGB"))
    if mirror:
        picture = np.ascontiguousarray(picture[:, ::-1])
    points = _mesh(picture, path.name)

    right, left = (points[list(pair), :2].mean(0) for pair in _EYES)
    angle = np.arctan2(*(left - right)[::-1])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    upright = points[:, :2] @ turn.T
    unit = (upright[_CHIN, 1] - upright[_TOP, 1]) / FACE_HEIGHT
    centre = (upright[_TOP] + upright[_CHIN]) / 2
    xy = (upright - centre) / unit + FACE_CENTRE
    stage_points = np.concatenate([xy, points[:, 2:] / unit], axis=1)

    # Picture coordinates to stage pixels, with OpenCV's integer pixel centres on both sides.
    scale = side / (1 + 2 * MARGIN)
    linear = turn / unit * scale
    offset = (np.array(FACE_CENTRE) + MARGIN - centre / unit) * scale
    matrix = np.column_stack([linear, offset + linear @ [0.5, 0.5] - 0.5])
    # A stage much smaller than the photograph would alias: blur by the reduction first.
    reduction = unit / scale
    sharp = cv2.GaussianBlur(picture, (0, 0), 0.45 * reduction) if reduction > 1.2 else picture
    rgb, person = (
        warp(x, matrix, (side, side), cubic=True, border=cv2.BORDER_REFLECT)
        for x in (sharp, _person(picture, centre @ turn, 0.9 * unit))
    )
    return Portrait(rgb, _matte(rgb, person, stage_points), stage_points)


def _mesh(picture: NDArray[np.uint8], name: str) -> NDArray[np.float64]:
    """FaceMesh's points in pixels, z in the scale of x, without the irises; float64 (468, 3)."""
    with FaceMesh() as detector:
        faces = detector.detect(picture)
    if not len(faces):
        raise PrepError(f"no face was found in {name}")
    return faces[0, :468]


def _person(picture: NDArray[np.uint8], centre: NDArray[np.float64], reach: float) -> NDArray[np.float32]:
    """Roughly where the person is, looking at what is within ``reach`` pixels of the face; float32 (h, w), 0 to 1."""
    height, width = picture.shape[:2]
    left, top = np.maximum(np.rint(centre - reach).astype(int), 0)
    right, bottom = np.minimum(np.rint(centre + reach).astype(int), (width, height))
    found = np.zeros((height, width), np.float32)
    found[top:bottom, left:right] = person(picture[top:bottom, left:right])
    return found


def _matte(
    rgb: NDArray[np.uint8], rough: NDArray[np.float32], points: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Coverage of each pixel: the rough one with its edges moved to the picture's own; float32 (n, n)."""
    # Guided filter (He et al., PAMI 2013).
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    side = int(len(rgb) * 0.02) | 1

    def mean(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.blur(x, (side, side))

    m_grey, m_rough = mean(grey), mean(rough)
    slope = (mean(grey * rough) - m_grey * m_rough) / (mean(grey * grey) - m_grey**2 + 1e-3)
    fine = mean(slope) * grey + mean(m_rough - slope * m_grey)
    # Doubtful pixels count as background: a halo of the old background is worse than a slightly tight cut.
    matte = np.clip((np.minimum(fine, rough + 0.15) - 0.45) / 0.45, 0, 1)
    # Beside mouth and chin, so does what is as red as a flag: both portraits have one behind the head.
    red, green, blue = cv2.split(rgb.astype(np.float32) + 1)
    flag = np.clip((red / np.maximum(green, blue) - 2.0) * 2, 0, 1) * np.clip((red - 60) / 30, 0, 1)
    at = (np.arange(len(rgb)) + 0.5) * ((1 + 2 * MARGIN) / len(rgb)) - MARGIN
    beside = (at < points[:, 0].min()) | (at > points[:, 0].max())
    level = (at > points[14, 1] - 0.03) & (at < points[_CHIN, 1] + 0.03)
    return (matte * (1 - flag * (beside[None] & level[:, None]))).astype(np.float32)
