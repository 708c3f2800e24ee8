"""How far the landmarks of a detector move when a picture changes as little as pictures do on their way: the figures
of docs/metrics.md.

``python -m tests.bench.metrics.detector_limits CLIPS`` prints the table for the folder of real clips.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from baselines.trivial import shifted, shifted_back
from bench.metrics.landmark_distance import face_boxes
from prep.facemesh.detector import FaceMesh
from prep.landmark_sets import LIPS
from prep.landmarks import Detector, choose_face
from prep.toy.portraits import portrait_file
from prep.video_reading import frames

Image = npt.NDArray[np.uint8]
Float = npt.NDArray[Any]

#: Side in pixels of the pictures, and the frames of a clip that are used.
SIDE, STRIDE, LAST = 512, 8, 96
PORTRAITS = ("astronaut", "hopper")
#: Red, green, blue → luma: ITU-R BT.601, section 2.5.1, and BT.709, section 3.2.
LUMA = {"bt601": (0.299, 0.587, 0.114), "bt709": (0.2126, 0.7152, 0.0722)}


@dataclass(frozen=True)
class Change:
    """A small change of a picture.

    Attributes:
        name: as in the table.
        picture: (H, W, 3) uint8, RGB → the changed picture of the same shape.
        back: landmarks (n, 3) in pixels of the changed picture → in those of the picture.
    """

    name: str
    picture: Callable[[Image], Image]
    back: Callable[[Float], Float] = lambda points: points


@dataclass(frozen=True)
class Moves:
    """What a change does to the landmarks in the pictures of one clip.

    Attributes:
        box: (n, 478) distances in units of the face box: x in its widths, y in its heights, as in LipLMD.
        pixels: (n, 478) distances in pixels.
        lost: pictures whose face is not detected after the change.
    """

    box: Float
    pixels: Float
    lost: int


def jpeg(picture: Image) -> Image:
    """OpenCV's JPEG of quality 95 (chroma 4:2:0) and back."""
    coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])


def to_ycc(matrix: str) -> Float:
    """(3, 3): R'G'B' → Y', C'B, C'R, all of one scale."""
    red, green, blue = LUMA[matrix]
    return np.array(
        [
            [red, green, blue],
            [-red / (2 - 2 * blue), -green / (2 - 2 * blue), 0.5],
            [0.5, -green / (2 - 2 * red), -blue / (2 - 2 * red)],
        ]
    )


def other_matrix(picture: Image) -> Image:
    """The picture, coded by BT.709 and decoded by BT.601: what a reader that ignores the tag makes of HD video."""
    turned = np.linalg.inv(to_ycc("bt601")) @ to_ycc("bt709")
    return np.clip(np.rint(picture @ turned.T), 0, 255).astype(np.uint8)


CHANGES = (
    Change("shifted by one pixel and back", lambda picture: next(shifted([picture])), shifted_back),
    Change("JPEG, quality 95", jpeg),
    Change("BT.709 decoded by BT.601", other_matrix),
)


def moves(detector: Detector, pictures: Sequence[Image], change: Change) -> Moves:
    """How a change moves the largest face's landmarks; pictures without a face are left out."""
    before, after = [], []
    for picture in pictures:
        faces = detector.detect(picture)
        if not len(faces):
            continue
        before.append(faces[choose_face(faces)])
        found = detector.detect(change.picture(picture))
        missing = np.full(detector.shape, np.nan)
        after.append(change.back(found[choose_face(found, before[-1])]) if len(found) else missing)
    seen = np.isfinite(np.array(after)[:, 0, 0])
    truth, pred = np.array(before)[seen], np.array(after)[seen]
    away = (pred - truth)[..., :2]
    boxes = face_boxes(truth)[:, None]
    return Moves(
        np.hypot(*np.moveaxis(away / boxes, 2, 0)),
        np.hypot(*np.moveaxis(away, 2, 0)),
        int((~seen).sum()),
    )


def square(width: int, height: int, face: Float) -> tuple[int, int, int, int]:
    """The largest square of a frame with the face as near to its middle as can be: x, y, width, height."""
    side = min(width, height)
    middle = (face[:, :2].min(axis=0) + face[:, :2].max(axis=0)) / 2
    x, y = (
        int(np.clip(round(m - side / 2), 0, size - side))
        for m, size in zip(middle, (width, height), strict=True)
    )
    return x, y, side, side


def of_clip(detector: Detector, path: Path) -> list[Image]:
    """Every eighth of the first 96 frames, as squares of 512² with the face."""
    for frame in frames(path, stop=LAST):
        faces = detector.detect(frame)
        if len(faces):
            height, width = frame.shape[:2]
            crop = square(width, height, faces[choose_face(faces)])
            return list(frames(path, stop=LAST, crop=crop, size=SIDE))[::STRIDE]
    raise ValueError(f"{path} shows no face")


def of_portrait(detector: Detector, name: str) -> list[Image]:
    """A public-domain portrait as a square of 512² with the face."""
    picture = cv2.imread(str(portrait_file(name)), cv2.IMREAD_COLOR)[..., ::-1]
    height, width = picture.shape[:2]
    faces = detector.detect(picture)
    x, y, side, _ = square(width, height, faces[choose_face(faces)])
    cut = np.ascontiguousarray(picture[y : y + side, x : x + side])
    way = cv2.INTER_AREA if side > SIDE else cv2.INTER_LINEAR
    return [np.asarray(cv2.resize(cut, (SIDE, SIDE), interpolation=way), np.uint8)]


def clips_of(folder: Path) -> list[Path]:
    """The clips that are measured: those of the folder itself, and those of the split ``test`` of its ``real``."""
    with (folder / "real" / "index.csv").open(newline="") as source:
        listed = [folder / "real" / row["file"] for row in csv.DictReader(source) if row["split"] == "test"]
    return [*sorted(folder.glob("*.mp4")), *listed]


def row(first: Sequence[str], found: Sequence[Moves]) -> str:
    """One row of the table: median, 95th percentile and largest distance of all points, and of the lips alone; LipLMD,
    its mean and range over clips."""
    cells = [*first]
    for points in (slice(None), LIPS):
        for unit, scale, digits in (("box", 100, 2), ("pixels", 1, 2)):
            away = np.concatenate([getattr(one, unit)[:, points].ravel() for one in found]) * scale
            figures = (*np.percentile(away, (50, 95)), away.max())
            cells.append(" / ".join(f"{value:.{digits}f}" for value in figures))
    lips = [one.box[:, LIPS].mean() for one in found]
    span = f" ({min(lips):.4f} to {max(lips):.4f})" if len(lips) > 1 else ""
    cells.append(f"{np.mean(lips):.4f}{span}")
    return f"| {' | '.join(cells)} |"


def rows(folder: Path) -> Iterator[str]:
    """All rows, of the clips in a folder and of the portraits.

    Raises:
        ValueError: a clip shows no face, or a change loses one, which the table has no place for.
    """
    with FaceMesh() as detector:
        clips = [of_clip(detector, path) for path in clips_of(folder)]
        portraits = [of_portrait(detector, name) for name in PORTRAITS]
        pictures = sum(map(len, clips))
        for what, material in (
            (f"{len(clips)} clips, {pictures} frames", clips),
            (f"{len(portraits)} portraits", portraits),
        ):
            for change in CHANGES:
                found = [moves(detector, one, change) for one in material]
                if lost := sum(one.lost for one in found):
                    raise ValueError(f"{what}: {change.name}: the face is lost in {lost} pictures")
                yield row((what, change.name), found)


if __name__ == "__main__":
    print(*rows(Path(sys.argv[1])), sep="\n")
