"""Definitions of distances between landmarks, and which frames have landmarks to compare; functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bench.common.errors import Unscorable
from bench.metrics.base import Batch, Pictures
from prep.landmark_sets import FACE_131, FACE_131_CONTENT, LIPS, MESH_TO_68

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

#: How every metric of landmarks or identity treats missing faces.
MISSING_FACES = "a frame without a face in either video is left out; more than half of them: no value"

#: Name of a set of points → FaceMesh's numbers of them.
POINTS: dict[str, npt.NDArray[np.int64]] = {
    "mouth20": MESH_TO_68[48:],
    "ibug68": MESH_TO_68,
    "lips40": LIPS,
    "content57": FACE_131_CONTENT,
}


@dataclass(frozen=True)
class Definition:
    """The definition of a distance: the parameters of a variant's specification.

    Attributes:
        detector: ``FaceMesh``: the detector of 478 points that the result names, on both videos; or ``dlib68``: dlib's
            68-point predictor, on both videos in the square given by the truth's mesh.
        points: ``mouth20``: 300-W's points 48 to 67; ``ibug68``: all of 300-W's; ``lips40``: FaceMesh's lips;
            ``content57``: IP-LAP's jaw and lips.
        centred: in each frame, the mean of the points is subtracted.
        norm: of a point's difference: ``l2``, or ``l1``: the mean of both absolute differences.
        over_points: ``sum`` or ``mean``.
        unit: ``frame``: pixels of the frame; ``face height``: pixels of a frame scaled such that the truth's face is
            ``size`` high (median over the clip); ``face box``: pixels of the face box of each frame resized to
            ``size`` × ``size``. The face's box is that of IP-LAP's 131 points of the truth, without a margin.
        size: see ``unit``; 1 for ``frame``.
        over_frames: always ``mean``, then the mean over clips.
        missing: what happens to frames without a face.
    """

    points: Literal["mouth20", "ibug68", "lips40", "content57"]
    centred: bool
    over_points: Literal["sum", "mean"]
    unit: Literal["frame", "face height", "face box"]
    size: float
    norm: Literal["l2", "l1"] = "l2"
    detector: Literal["FaceMesh", "dlib68"] = "FaceMesh"
    over_frames: Literal["mean"] = "mean"
    missing: str = MISSING_FACES


def landmark_distance(
    pred: npt.ArrayLike, truth: npt.ArrayLike, box: npt.ArrayLike, what: Definition
) -> Float:
    """The distance of each frame's landmarks.

    Args:
        pred: (n, k, 2), pixels of the frame.
        truth: (n, k, 2).
        box: (n, 2), width and height of the truth's face box in pixels.
        what: the distance.

    Returns:
        (n,) float64, ≥ 0; NaN where a point is NaN.
    """
    difference: Float = np.asarray(pred, np.float64) - np.asarray(truth, np.float64)
    if what.centred:
        difference -= difference.mean(axis=1, keepdims=True)
    difference /= _unit(np.asarray(box, np.float64), what)[:, None]
    points = np.hypot(*difference.T).T if what.norm == "l2" else np.abs(difference).mean(axis=2)
    result: Float = points.sum(axis=1) if what.over_points == "sum" else points.mean(axis=1)
    return result


def _unit(box: Float, what: Definition) -> Float:
    """Size of one unit in pixels of the frame, horizontally and vertically: (n, 2)."""
    if what.unit == "frame":
        return np.ones_like(box)
    if what.unit == "face height":
        return np.full_like(box, np.nanmedian(box[:, 1]) / what.size)
    return box / what.size


def face_boxes(landmarks: npt.ArrayLike) -> Float:
    """Width and height (n, 2) float64 of the box of IP-LAP's 131 points, of landmarks (n, 478, 2 or 3)."""
    points = np.asarray(landmarks, np.float64)[:, FACE_131, :2]
    return np.asarray(points.max(axis=1) - points.min(axis=1))


def has_face(landmarks: npt.NDArray[Any]) -> Bool:
    """(n,) bool: for which frames the landmarks (n, k, 2 or 3) are not NaN."""
    return np.isfinite(landmarks[:, 0, 0])


def scored_frames(pred: Bool, truth: Bool) -> Bool:
    """Which frames count: those in which both videos show a face.

    Args:
        pred: (n,), whether the prediction's frame shows one.
        truth: (n,), whether the truth's does.

    Raises:
        Unscorable: fewer than half of the frames count.
    """
    if not len(truth):
        raise Unscorable("no frames")
    both = pred & truth
    if not truth.any():
        raise Unscorable("no face in the truth")
    if not pred.any():
        raise Unscorable("no face in the prediction")
    if 2 * both.sum() < len(both):
        raise Unscorable(f"a face in {both.sum()} of {len(both)} frames")
    return both


def faces_of(batch: Batch) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Pictures]:
    """FaceMesh's landmarks (n, 478, 3) of prediction and truth of a batch, and the truth's frames.

    Raises:
        Unscorable: there is no truth, or there are no landmarks.
    """
    if batch.truth is None:
        raise Unscorable("no truth")
    if batch.truth.landmarks is None or batch.pred.landmarks is None:
        raise Unscorable("no landmarks")
    return batch.pred.landmarks, batch.truth.landmarks, batch.truth
