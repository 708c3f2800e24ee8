"""Windows that follow the truth's landmarks."""

from __future__ import annotations

import numpy as np

from bench.metrics.regions import cut, windows
from prep.landmark_sets import LIPS


def _landmarks(n: int = 6, width: int = 200, height: int = 160) -> np.ndarray:
    random = np.random.default_rng(0)
    points = np.stack([random.uniform(60, 110, 478), random.uniform(40, 100, 478), np.zeros(478)], axis=1)
    moved = points[None] + np.arange(n)[:, None, None] * np.array([3.0, 1.0, 0.0])
    return moved.astype(np.float32)


def test_window_keeps_its_size_and_holds_the_points():
    landmarks = _landmarks()
    width, height, corners = windows("face", landmarks, 200, 160)
    assert len(corners) == 6 and (corners >= 0).all()
    assert (corners[:, 0] + width <= 200).all() and (corners[:, 1] + height <= 160).all()
    assert corners[-1, 0] - corners[0, 0] == 15  # three pixels a frame, the window follows


def test_mouth_window_holds_the_lips():
    landmarks = _landmarks()
    width, height, corners = windows("mouth", landmarks, 200, 160)
    lips = landmarks[:, LIPS, :2]
    assert (lips.min(axis=1) >= corners - 1).all()
    assert (lips.max(axis=1) <= corners + [width, height] + 1).all()


def test_frames_without_a_face_lie_between_their_neighbours():
    landmarks = _landmarks()
    whole = windows("face", landmarks, 200, 160)
    landmarks[2] = np.nan
    holed = windows("face", landmarks, 200, 160)
    assert whole[:2] == holed[:2]
    np.testing.assert_array_equal(whole[2], holed[2])


def test_no_face_at_all_gives_no_window():
    assert windows("face", np.full((3, 478, 3), np.nan, np.float32), 64, 64) is None


def test_window_never_leaves_a_small_frame():
    width, height, corners = windows("face", _landmarks(), 70, 50)
    assert width <= 70 and height <= 50
    assert (
        (corners >= 0).all() and (corners[:, 0] + width <= 70).all() and (corners[:, 1] + height <= 50).all()
    )


def test_cut_takes_exact_pixels():
    frames = np.random.default_rng(1).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    corners = np.array([[0, 0], [5, 3], [10, 8]])
    cuts = cut(frames, 12, 9, corners)
    assert cuts.shape == (3, 9, 12, 3) and cuts.flags.c_contiguous
    np.testing.assert_array_equal(cuts[1], frames[1, 3:12, 5:17])
