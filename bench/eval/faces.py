"""Landmarks of the scored videos: FaceMesh, for the face that the truth shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bench.common.errors import Unavailable
from prep.installing import explain


class Faces:
    """The FaceMesh of this process, created when landmarks are first needed.

    Raises:
        Unavailable: MediaPipe is not installed.
    """

    def __init__(self) -> None:
        try:
            from prep.facemesh.detector import FaceMesh

            self._mesh: Any = FaceMesh()
        except ImportError as error:
            raise Unavailable(
                "landmarks need MediaPipe, which cannot be imported", explain(error) or str(error)
            ) from None

    def of_truth(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """(T, 478, 3) float32 of one face in all frames of a clip, NaN where there is none, as in preparation."""
        from prep.landmarks import detect_clip

        return detect_clip(self._mesh, frames).landmarks.astype(np.float32)

    def follow(self) -> Follower:
        """An object that finds the landmarks of one prediction, batch after batch."""
        return Follower(self._mesh)


class Follower:
    """Landmarks of a prediction. If it shows several faces, those of the face at the position of the truth's."""

    def __init__(self, mesh: Any) -> None:
        self._mesh = mesh
        self._previous: np.ndarray | None = None
        self._frame: np.ndarray | None = None
        self._found = np.full((478, 3), np.nan, np.float32)

    def detect(self, frames: Sequence[np.ndarray], truth: np.ndarray | None) -> np.ndarray:
        """Landmarks (n, 478, 3) float32 of frames (H, W, 3), NaN where there is no face.

        Args:
            frames: the next frames; detection is skipped for a frame that is the same array object as the one
                before.
            truth: (n, 478, 3), the truth's landmarks, or None.
        """
        found = []
        for i, frame in enumerate(frames):
            if frame is not self._frame:
                self._found = self._one(frame, None if truth is None else truth[i])
                self._frame = frame
            found.append(self._found)
        return np.stack(found)

    def _one(self, frame: np.ndarray, truth: np.ndarray | None) -> np.ndarray:
        from prep.landmarks import choose_face

        faces = self._mesh.detect(frame)
        if not len(faces):
            faces = self._mesh.search(frame)
        if not len(faces):
            return np.full((478, 3), np.nan, np.float32)
        anchor = truth if truth is not None and np.isfinite(truth[0, 0]) else self._previous
        self._previous = faces[choose_face(faces, anchor)]
        return self._previous.astype(np.float32)
