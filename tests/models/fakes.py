"""Footage and sound for tests of generation: a real, moving face on noise, and mel chunks that name their frame."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from models.base import Shot
from prep.sample_spec import Sound
from prep.views import landmark_box

IPLAP = np.load(Path(__file__).parents[1] / "parity" / "ip_lap_prep" / "landmarks.npz")


def mesh(side: int) -> np.ndarray:
    """(25, 478, 2) float32 landmarks of a real clip, as if its frames were so many pixels wide and high."""
    return (IPLAP["raw_mediapipe"][..., :2].astype(np.float64) * side).astype(np.float32)


def points131(side: int) -> np.ndarray:
    """(25, 131, 2) float32, in the order of IP-LAP's networks."""
    order = np.concatenate([IPLAP["pose_order"], IPLAP["content_order"]])
    return mesh(side)[:, order]


class FakeFootage:
    """As :class:`models.base.Footage`.

    Attributes:
        live: shots that are alive now.
        most: the most that ever were alive at once.
        read: indices in the order in which they were read.
    """

    def __init__(
        self,
        n_frames: int,
        side: int = 160,
        missing: Sequence[int] = (),
        n_unique: int | None = None,
        landmarks: np.ndarray | None = None,
    ) -> None:
        self.n_frames = n_frames
        self.n_unique = n_frames if n_unique is None else n_unique
        self.width = self.height = side
        self.detected = ~np.isin(np.arange(n_frames), missing)
        places = np.arange(n_frames) % self.n_unique % 25
        self._points = points131(side)[places] if landmarks is None else landmarks
        self._points = np.where(self.detected[:, None, None], self._points, np.nan).astype(np.float32)
        self.live = self.most = 0
        self.read: list[int] = []

    def landmarks(self, name: str) -> np.ndarray:
        assert name == "face131"
        return self._points.copy()

    def boxes(self, landmarks: np.ndarray, margin: float) -> np.ndarray:
        return landmark_box(landmarks.astype(np.float64), (self.width, self.height), margin)

    def frame(self, index: int) -> np.ndarray:
        """What frame ``index`` shows."""
        rng = np.random.default_rng(index % self.n_unique)
        return rng.integers(0, 256, (self.height, self.width, 3), np.uint8)

    def shot(self, index: int) -> Shot:
        shot = Shot(index, self.frame(index))
        self.read.append(index)
        self.live += 1
        self.most = max(self.most, self.live)
        weakref.finalize(shot, self._gone)
        return shot

    def _gone(self) -> None:
        self.live -= 1

    def shots(self) -> Iterator[Shot]:
        for index in range(self.n_frames):
            yield self.shot(index)

    def pick(self, indices: Sequence[int]) -> list[Shot]:
        return [self.shot(index) for index in indices]


class FakeSpeech:
    """As :class:`models.base.Speech`; all values of a chunk are its frame / 100."""

    def __init__(self) -> None:
        self.asked: set[tuple[int, Sound]] = set()

    def chunk(self, frame: int, sound: Sound) -> np.ndarray:
        self.asked.add((frame, sound))
        return np.full((80, 16), frame / 100, np.float32)
