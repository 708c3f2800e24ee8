"""The view of Meta Talk: a square around jaw and lips."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from prep.landmark_sets import FACE_131_CONTENT
from prep.views.geometry import BoxView, Float, Int


def lower_side(landmarks: npt.ArrayLike, frame_width: int, frame_height: int) -> int:
    """Side in pixels of Meta Talk's crop for a clip.

    The paper uses 512, 768 or 1024 px "adapted to the face resolution" and does not say how. Here it is the
    smallest of them that contains the whole face if centred on the face's lower half, which needs 1.5 face heights;
    or 1024 if none does. It is never more than the shorter side of the frame, so small sources (LRS2 has 160²) are
    enlarged instead of getting a border.

    Args:
        landmarks: (T, 478, 2 or 3), T > 0, full-frame pixels, detected frames only. The median height is used.
        frame_width: pixels.
        frame_height: pixels.
    """
    height = float(np.median(np.ptp(np.asarray(landmarks)[..., 1], axis=1)))
    side = next((side for side in (512, 768) if side >= 1.5 * height), 1024)
    return min(side, frame_width, frame_height)


def _boxes(points: Float, frame_width: int, frame_height: int) -> Int:
    """Crop of Meta Talk: a square of the clip's :func:`lower_side` around jaw and lips.

    It is centred in each frame, in whole pixels: a side of 512 is copied without interpolation. If it would extend
    beyond the frame, it is moved inside, so no pixel is invented; a face completely outside has no crop.
    """
    side = lower_side(points, frame_width, frame_height)
    lower = points[:, FACE_131_CONTENT]
    corner = np.round((lower.min(axis=1) + lower.max(axis=1) - side) / 2).astype(np.int64)
    frame = np.array([frame_width, frame_height])
    meets = ((corner < frame) & (corner > -side)).all(axis=1, keepdims=True)
    corner = np.where(meets, np.clip(corner, 0, frame - side), corner)
    return np.concatenate([corner, corner + side], axis=1)


VIEW = BoxView(
    "lower512", 512, 512, "Meta Talk: 512-1024 px around the lower face, 512²", _boxes, antialias=True
)
