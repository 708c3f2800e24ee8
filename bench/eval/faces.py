"""Landmarks of the scored videos, for the face that the truth shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.common.errors import Unavailable
from prep.errors import PrepError
from prep.landmarks import Detector, choose_face, detect_clip


class Faces:
    """The detector of this process, created when landmarks are first needed: of the truth and of all predictions.

    Args:
        detector: one of :data:`prep.detectors.DETECTORS`.
        device: of torch.

    Raises:
        Unavailable: a package or file that the detector needs is missing.
    """

    def __init__(self, detector: str, device: str = "cpu") -> None:
        from prep.detectors import create

        try:
            self._mesh = create(detector, device=device)
        except PrepError as error:
            raise Unavailable(f"landmarks cannot be found: {error}") from None

    def of_truth(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """(T, 478, 3) float32 of one face in all frames of a clip, NaN where there is none, as in preparation."""
        return detect_clip(self._mesh, frames).landmarks.astype(np.float32)

    def of_predictions(self, wanted: Sequence[Wanted]) -> list[np.ndarray]:
        """Landmarks of several predictions, all in one batch.

        Returns:
            for each (n, 478, 3) float32 of its frames, NaN where there is no face.
        """
        return follow(self._mesh, wanted)


class Follower:
    """The face of one prediction. If it shows several faces, that at the position of the truth's."""

    def __init__(self) -> None:
        self._previous: np.ndarray | None = None
        self._frame: np.ndarray | None = None
        self._found = np.empty((0, 0))

    def new(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Those of the next frames that are not the same array object as the one before."""
        before = [self._frame, *frames]
        return [frame for last, frame in zip(before, frames, strict=False) if frame is not last]

    def take(
        self,
        mesh: Detector,
        frames: Sequence[np.ndarray],
        truth: np.ndarray | None,
        found: Iterator[np.ndarray],
    ) -> np.ndarray:
        """The landmarks of the next frames.

        Args:
            mesh: searches where no face was found.
            frames: the next frames.
            truth: (m, 478, 3), m ≤ n, the truth's landmarks in the first m of these, or None.
            found: the faces in each frame of :meth:`new`, which are taken from there.
        """
        rows = []
        for i, frame in enumerate(frames):
            if frame is not self._frame:
                faces = next(found)
                if not len(faces):
                    faces = mesh.search(frame)
                self._found = self._chosen(
                    faces, mesh.shape, None if truth is None or i >= len(truth) else truth[i]
                )
                self._frame = frame
            rows.append(self._found)
        return np.stack(rows)

    def _chosen(self, faces: np.ndarray, shape: tuple[int, int], truth: np.ndarray | None) -> np.ndarray:
        if not len(faces):
            return np.full(shape, np.nan, np.float32)
        anchor = truth if truth is not None and np.isfinite(truth[0, 0]) else self._previous
        self._previous = faces[choose_face(faces, anchor)]
        return self._previous.astype(np.float32)


@dataclass(frozen=True)
class Wanted:
    """Frames of one prediction whose landmarks are wanted.

    Attributes:
        follower: of the prediction.
        frames: its next frames, (H, W, 3) uint8 each; at least one.
        truth: (m, 478, 3), m ≤ n, the truth's landmarks in the first m of these, or None.
    """

    follower: Follower
    frames: Sequence[np.ndarray]
    truth: np.ndarray | None


def follow(mesh: Detector, wanted: Sequence[Wanted]) -> list[np.ndarray]:
    """See :meth:`Faces.of_predictions`."""
    new = [frame for one in wanted for frame in one.follower.new(one.frames)]
    found = iter(mesh.detect_batch(new) if new else ())
    return [one.follower.take(mesh, one.frames, one.truth, found) for one in wanted]
