"""Where the face of a footage is, frame by frame: boxes, landmarks in them, and which frames are used as references."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from models.base import Footage

#: The landmarks that generation asks footage for.
LANDMARKS = "face131"
# Positions of the midpoints of the upper and the lower lip, vertices 0 and 17 of the mesh.
_LIPS = (96, 106)


class Track:
    """IP-LAP's boxes and landmarks of a footage; small beside its pictures.

    Args:
        footage: whose landmarks, pose before content, are taken.
        margin: pixels around the landmarks, on every side.
        over: ``box``: landmarks count in [0, 1] over the box as it is, as in training; ``crop``: over its
            integer part, which is what is cut out, as at IP-LAP's inference.
        smoothing: odd number of frames, centred, over which landmarks are averaged first; 1: none.

    Attributes:
        found: (n,) bool: there is a face, and a part of it lies in the frame.
        boxes: (n, 4) int64, x0, y0, x1, y1 of what is cut out; zeros where not ``found``.
        nearest: (n,) int64: the frame itself where ``found``, or the nearest that is, the earlier of two. Empty
            where there is none.
        openness: (n,) float64: distance of the lips' midpoints, x over the width and y over the height of the
            frame; NaN where not ``found``.
    """

    def __init__(
        self,
        footage: Footage,
        margin: float,
        over: Literal["box", "crop"] = "box",
        smoothing: int = 1,
    ) -> None:
        landmarks = footage.landmarks(LANDMARKS)
        found = np.asarray(footage.detected, bool) & np.isfinite(landmarks).all(axis=(1, 2))
        self._landmarks = smooth(landmarks, found, smoothing)
        spans = np.zeros((len(landmarks), 4))
        spans[found] = footage.boxes(self._landmarks[found], margin)
        boxes = spans.astype(np.int64)
        self.found = found & (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
        self.boxes = np.where(self.found[:, None], boxes, 0)
        self._spans = spans if over == "box" else self.boxes.astype(np.float64)
        self.nearest = _nearest(self.found)
        lips = np.subtract(*(self._landmarks[:, point].astype(np.float64) for point in _LIPS))
        lips /= [footage.width, footage.height]
        self.openness = np.where(self.found, np.hypot(*lips.T), np.nan)

    def points(self, frames: np.ndarray) -> np.ndarray:
        """(...,) frames that are ``found`` → (..., 131, 2) float32 landmarks in [0, 1] over their boxes."""
        spans = self._spans[frames][..., None, :]
        low, high = spans[..., :2], spans[..., 2:]
        return ((self._landmarks[frames] - low) / (high - low)).astype(np.float32)

    def sizes(self, frames: np.ndarray) -> np.ndarray:
        """(...,) frames → (..., 2) float64, width and height of the boxes that :meth:`points` counts over."""
        spans = self._spans[frames]
        return spans[..., 2:] - spans[..., :2]

    def pixels(self, frame: int) -> np.ndarray:
        """(131, 2) float32 landmarks of a frame, full-frame pixels, smoothed."""
        return self._landmarks[frame]

    def ranked(self, count: int, end: int) -> np.ndarray:
        """Frames at equal ranks of :attr:`openness`, the least open first, as IP-LAP picks its references.

        Args:
            count: of frames; some come twice where there are fewer.
            end: only frames before it count.

        Returns:
            (count,) int64, all ``found``; empty where there are none.
        """
        candidates = np.flatnonzero(self.found[:end])
        if not len(candidates):
            return candidates
        order = candidates[np.argsort(self.openness[candidates], kind="stable")]
        return order[torch.linspace(0, len(order) - 1, count).long().numpy()]


def smooth(landmarks: np.ndarray, found: np.ndarray, frames: int) -> np.ndarray:
    """Average landmarks over the frames with a face among ``frames`` around each.

    Args:
        landmarks: (n, P, 2) float32.
        found: (n,) bool; other frames stay as they are.
        frames: odd; at the ends the window is cut on both sides, so that nothing is drawn inwards.

    Returns:
        (n, P, 2) float32; ``landmarks`` itself where ``frames`` is 1.
    """
    if frames == 1:
        return landmarks
    smoothed = landmarks.copy()
    for i in np.flatnonzero(found).tolist():
        reach = min(frames // 2, i, len(landmarks) - 1 - i)
        window = np.s_[i - reach : i + reach + 1]
        smoothed[i] = landmarks[window][found[window]].mean(axis=0)
    return smoothed


def _nearest(found: np.ndarray) -> np.ndarray:
    places = np.flatnonzero(found)
    if not len(places):
        return places
    frames = np.arange(len(found))
    after = np.searchsorted(places, frames).clip(max=len(places) - 1)
    before = (after - 1).clip(min=0)
    earlier = np.abs(places[before] - frames) <= np.abs(places[after] - frames)
    return np.where(earlier, places[before], places[after])
