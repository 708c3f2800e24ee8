"""Landmark pictures."""

from __future__ import annotations

import numpy as np
import pytest

from models.g4g.landmarks import draw_landmarks


def points(*at: tuple[float, float]) -> np.ndarray:
    """68 points, all at (5, 5) but the last ones."""
    found = np.full((1, 68, 2), 5.0, np.float32)
    found[0, 68 - len(at) :] = at
    return found


def test_a_closed_line_by_hand() -> None:
    corners = [(2, 1), (6, 1), (6, 4), (2, 4)]
    # The eight points of the inner lips, each corner twice; everything else is one pixel outside.
    found = points(*(corner for corner in corners for _ in range(2)))
    found[0, :60] = -3
    (picture,) = draw_landmarks(found, 8, 10)[0]
    wanted = np.zeros((8, 10), np.uint8)
    wanted[1:5, 2:7] = 255
    wanted[2:4, 3:6] = 0
    assert np.array_equal(picture, wanted)


def test_fractions_fall_on_the_pixel_that_holds_them() -> None:
    found = np.full((1, 68, 2), (3.9, 2.1), np.float32)
    picture = draw_landmarks(found, 5, 6)[0, 0]
    assert np.argwhere(picture).tolist() == [[2, 3]]


def test_upper_lines_do_not_tell_what_the_mouth_does() -> None:
    rng = np.random.default_rng(0)
    one = rng.uniform(0, 40, (3, 68, 2))
    other = one.copy()
    mouth_and_jaw = [*range(17), *range(48, 68)]
    other[:, mouth_and_jaw] = rng.uniform(0, 40, (3, len(mouth_and_jaw), 2))
    assert np.array_equal(draw_landmarks(one, 52, 40, "upper"), draw_landmarks(other, 52, 40, "upper"))
    assert not np.array_equal(draw_landmarks(one, 52, 40), draw_landmarks(other, 52, 40))
    other[:, 30] += 9
    assert not np.array_equal(draw_landmarks(one, 52, 40, "upper"), draw_landmarks(other, 52, 40, "upper"))


def test_points_far_outside() -> None:
    found = np.full((1, 68, 2), 1e30)
    found[0, ::2] = -1e30
    assert draw_landmarks(found, 8, 8).shape == (1, 1, 8, 8)


def test_no_pictures_and_wrong_shapes() -> None:
    assert draw_landmarks(np.empty((0, 68, 2)), 8, 8).shape == (0, 1, 8, 8)
    with pytest.raises(ValueError, match=r"\(1, 67, 2\) are not \(n, 68, 2\)"):
        draw_landmarks(np.zeros((1, 67, 2)), 8, 8)
