"""Puts a generated mouth into a frame of another moment: where a method changed its frame, and moved as the face moved.

A method generates frame ``g`` from frame ``s`` of the source. A frame ``n`` of the source that was taken a few
milliseconds earlier or later gets the region in which ``g`` differs from ``s``; all its other pixels stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from prep.landmark_sets import LANDMARK_SETS
from prep.views.geometry import similarities
from prep.warping import warp

#: Differences of a colour up to this are not a change: rounding.
_UNCHANGED = 3
#: Width of the soft edge outside of the changed region, as a share of the region's size, and its least, in pixels.
_SOFT, _LEAST = 0.04, 3
#: Movements up to this many pixels are left out, since resampling softens pictures.
_STILL = 0.05
#: A head that moves by more than this share of its size, or grows by more, between two moments is another one: a cut.
_JUMP = 0.2
#: Mean difference of grey levels in the region from which on two frames are of different shots, and the side in
#: pixels of the pictures that are compared.
_OTHER_SHOT, _SMALL = 25, 32
# What moves with the head, and what the original speech moves.
_HEAD = LANDMARK_SETS["face131_pose"]
_MOUTH = LANDMARK_SETS["lips_outer"]


@dataclass(frozen=True)
class Patch:
    """The region of a generated frame that goes into other frames.

    Attributes:
        x: left edge in the frame, pixels.
        y: upper edge.
        picture: (h, w, 3) uint8 RGB.
        share: (h, w) float32 in [0, 1]: 1 where the method changed the frame, falling to 0 outside.
    """

    x: int
    y: int
    picture: np.ndarray
    share: np.ndarray


def patch(original: np.ndarray, generated: np.ndarray, mouths: np.ndarray) -> Patch | None:
    """The region that a method changed: the convex hull of all changes and of the mouth.

    The mouth belongs to it although a part may be unchanged: otherwise the original's lips would show beside generated
    ones.

    Args:
        original: (H, W, 3) uint8 RGB.
        generated: of the same size.
        mouths: (n, 2) float, pixels: points of the lips, here and in the frames that the patch is for; may be NaN.

    Returns:
        None if nothing changed.
    """
    changed = cv2.bitwise_not(cv2.inRange(cv2.absdiff(original, generated), (0,) * 3, (_UNCHANGED,) * 3))
    changed = cv2.morphologyEx(changed, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    points = cv2.findNonZero(changed)
    if points is None:
        return None
    known = mouths[np.isfinite(mouths).all(axis=1)].round()
    # (n, 1, 2) before OpenCV 5, (n, 2) since then.
    hull = cv2.convexHull(np.concatenate([points.reshape(-1, 2), known]).astype(np.int32))
    soft = max(_LEAST, round(_SOFT * cv2.contourArea(hull) ** 0.5))
    x, y, width, height = cv2.boundingRect(hull)
    room = 3 * soft
    x0, y0 = max(0, x - room), max(0, y - room)
    x1, y1 = min(original.shape[1], x + width + room), min(original.shape[0], y + height + room)
    share = np.zeros((y1 - y0, x1 - x0), np.float32)
    outline = hull - np.array([x0, y0], np.int32)
    cv2.fillConvexPoly(share, outline, 1.0)
    # The blur reaches `soft` pixels along both axes, less than 3/2 of it diagonally, so the hull itself keeps its 1.
    cv2.polylines(share, [outline], True, 1.0, thickness=2 * round(1.5 * soft) + 1)
    share = cv2.GaussianBlur(share, (2 * soft + 1,) * 2, 0, borderType=cv2.BORDER_REPLICATE)
    return Patch(x0, y0, generated[y0:y1, x0:x1], share)


def same_shot(patch: Patch, original: np.ndarray, frame: np.ndarray) -> bool:
    """Whether a frame continues the one for which a patch was made: False if the video is cut between the two.

    Args:
        patch: says where to look.
        original: (H, W, 3) uint8 RGB, the frame from which the method generated.
        frame: of the same size.
    """
    height, width = patch.share.shape
    here = np.s_[patch.y : patch.y + height, patch.x : patch.x + width]
    small = [
        cv2.resize(
            cv2.cvtColor(picture[here], cv2.COLOR_RGB2GRAY), (_SMALL, _SMALL), interpolation=cv2.INTER_AREA
        )
        for picture in (original, frame)
    ]
    return float(cv2.absdiff(*small).mean()) < _OTHER_SHOT


def put(patch: Patch, frame: np.ndarray, motion: np.ndarray) -> None:
    """Put a patch into a frame.

    Args:
        patch: see :func:`patch`.
        frame: (H, W, 3) uint8 RGB, changed in place.
        motion: (2, 3) float, from pixels of the patch's frame to those of this one.
    """
    picture, share, x, y = patch.picture, patch.share, patch.x, patch.y
    height, width = share.shape
    corners = np.array([[x, y, 1], [x + width, y, 1], [x, y + height, 1], [x + width, y + height, 1]], float)
    if np.abs(corners @ motion.T - corners[:, :2]).max() > _STILL:
        # Between places in the patch; OpenCV's pixel centres have whole coordinates, ours are half a pixel further.
        local = motion.copy()
        middle = np.array([x + 0.5, y + 0.5])
        local[:, 2] = motion[:, :2] @ middle + motion[:, 2] - middle
        size, edge = (width, height), cv2.BORDER_REPLICATE
        picture = warp(picture, local, size, cubic=True, border=edge)
        share = warp(share, local, size, border=edge)
    part = frame[y : y + height, x : x + width]
    mixed = part + share[..., None] * (picture.astype(np.float32) - part)
    part[:] = np.rint(mixed)


class HeadMotion:
    """How the head moves between two moments of a source, from its landmarks.

    Args:
        landmarks: (S, 478, 2 or more) float, full-frame pixels; NaN where no face was found.
        times: (S,) float, their seconds, not falling.
    """

    def __init__(self, landmarks: np.ndarray, times: np.ndarray) -> None:
        # A frame that fills several slots is there several times.
        first = np.flatnonzero(np.diff(times, prepend=-1.0) > 0)
        self._times = times[first]
        points = landmarks[first][..., :2].astype(np.float64)
        self._head, self._mouth = points[:, _HEAD], points[:, _MOUTH]

    def between(self, begin: float, end: float) -> np.ndarray:
        """The similarity, (2, 3) float64, from pixels at ``begin`` to those at ``end``.

        Rest if a face is missing, or if the video is cut to another face in between.
        """
        before, after = _at(self._times, self._head, begin), _at(self._times, self._head, end)
        if not (np.isfinite(before).all() and np.isfinite(after).all()):
            return np.eye(2, 3)
        size = float(np.hypot(*np.ptp(before, axis=0)))
        jump = float(np.hypot(*(after.mean(axis=0) - before.mean(axis=0))))
        growth = abs(float(np.hypot(*np.ptp(after, axis=0))) - size)
        return np.eye(2, 3) if max(jump, growth) > _JUMP * size else similarity(before, after)

    def mouth(self, time: float) -> np.ndarray:
        """(20, 2) float64, the outer lips at a time; NaN where no face was found."""
        return _at(self._times, self._mouth, time)


def _at(times: np.ndarray, points: np.ndarray, time: float) -> np.ndarray:
    """Linear interpolation of (S, P, 2) points; before the first and after the last time they rest."""
    place = float(np.interp(time, times, np.arange(len(times))))
    low = int(place)
    share = place - low
    if share == 0:
        return points[low]
    return (1 - share) * points[low] + share * points[low + 1]


def similarity(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The similarity transform, (2, 3) float64, that maps (P, 2) points nearest to others, by least squares.

    Where all points are one, it only shifts. See :func:`prep.views.geometry.similarities`.
    """
    if not np.ptp(before, axis=0).any():
        return np.column_stack([np.eye(2), after.mean(axis=0) - before.mean(axis=0)])
    return similarities(before[None], after)[0]
