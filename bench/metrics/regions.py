"""The regions of the frame in which metrics are computed: boxes from the truth's landmarks, the same for every method.

A region is a window of one size for the whole clip that follows the face in whole pixels. Nothing is resampled, so a
region's PSNR is that of its original pixels, and frames of a clip can be scored in batches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from prep.landmark_sets import FACE_131, LIPS
from prep.views import landmark_box

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

#: Pixels around the face's box, as in IP-LAP's preprocessing.
FACE_MARGIN = 5.0
#: Side of the mouth's window divided by that of the lips' box: it includes the creases at the corners and some
#: chin.
MOUTH_SCALE = 1.6


def _face(landmarks: Float, width: int, height: int) -> Float:
    return np.asarray(landmark_box(landmarks[:, FACE_131, :2], (width, height), FACE_MARGIN), np.float64)


def _mouth(landmarks: Float, width: int, height: int) -> Float:
    points = landmarks[:, LIPS, :2].astype(np.float64)
    low, high = points.min(axis=1), points.max(axis=1)
    centre, half = (low + high) / 2, MOUTH_SCALE * (high - low) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


_BOXES: dict[str, Callable[[Float, int, int], Float]] = {"face": _face, "mouth": _mouth}

#: Name → one line.
REGIONS: dict[str, str] = {
    "full": "the whole frame",
    "face": f"box of IP-LAP's 131 landmarks with {FACE_MARGIN:g} px around it, the clip's largest, centred per frame",
    "mouth": f"box of the lips times {MOUTH_SCALE:g}, the clip's largest, centred per frame",
}


def windows(region: str, landmarks: Float, width: int, height: int) -> tuple[int, int, Int] | None:
    """The window of a region through a clip.

    Args:
        region: ``face`` or ``mouth``.
        landmarks: (T, 478, 2 or 3), the truth's, full-frame pixels, NaN where there is no face.
        width: of the frame, pixels.
        height: of the frame, pixels.

    Returns:
        Width, height, and the (T, 2) int64 corners x, y of windows that lie inside the frame. Between frames with
        a face the centre is interpolated. None if no frame has a face.
    """
    seen = np.isfinite(landmarks[:, 0, 0])
    if not seen.any():
        return None
    boxes = _BOXES[region](landmarks[seen].astype(np.float64), width, height)
    size = np.minimum(np.ceil((boxes[:, 2:] - boxes[:, :2]).max(axis=0)), [width, height]).astype(np.int64)
    size = np.maximum(size, 1)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    frames, known = np.arange(len(landmarks)), np.flatnonzero(seen)
    track = np.stack([np.interp(frames, known, centres[:, axis]) for axis in (0, 1)], axis=1)
    corners = np.clip(np.rint(track - size / 2).astype(np.int64), 0, np.array([width, height]) - size)
    return int(size[0]), int(size[1]), corners


def cut(frames: npt.NDArray[np.uint8], width: int, height: int, corners: Int) -> npt.NDArray[np.uint8]:
    """Crop windows (n, height, width, 3) from frames (n, H, W, 3), with (n, 2) corners x, y; a contiguous copy."""
    return np.stack([f[y : y + height, x : x + width] for f, (x, y) in zip(frames, corners, strict=True)])
