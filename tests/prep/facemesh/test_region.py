"""Regions of frames: the square about a face, its matrix, and points back in the frame."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from prep.facemesh import region


def at(matrix: np.ndarray, column: float, row: float) -> np.ndarray:
    x, y, w = matrix @ (column, row, 1)
    return np.array([x, y]) / w


@pytest.mark.parametrize("seed", range(6))
def test_the_matrix_is_that_of_opencv(seed):
    rng = np.random.default_rng(seed)
    x, y, side = rng.uniform(-50, 2000), rng.uniform(-50, 2000), rng.uniform(1, 1500)
    turn = rng.uniform(-math.pi, math.pi) * (seed > 0)
    square = np.array([x, y, side, side, turn], np.float32)
    corners = cv2.boxPoints(((square[0], square[1]), (square[2], square[3]), math.degrees(square[4])))
    places = np.array([[0, 192], [0, 0], [192, 0], [192, 192]], np.float32)
    expected = np.linalg.inv(cv2.getPerspectiveTransform(corners, places))
    found = region.matrix(square, 192)
    np.testing.assert_allclose(found / found[2, 2], expected / expected[2, 2], rtol=1e-5, atol=1e-7 * side)
    for place, corner in zip(places, corners, strict=True):
        np.testing.assert_allclose(at(found, *place), corner, rtol=0, atol=1e-3)


def test_a_letterbox_holds_the_whole_frame():
    for width, height in ((640, 480), (480, 640), (1, 1), (7, 1000)):
        whole = region.letterbox(width, height)
        side = max(width, height)
        np.testing.assert_array_equal(whole, np.array([width / 2, height / 2, side, side, 0], np.float32))
        matrix = region.matrix(whole, 128)
        np.testing.assert_allclose(at(matrix, 0, 0), [(width - side) / 2, (height - side) / 2], atol=1e-3)
        np.testing.assert_allclose(at(matrix, 64, 64), [width / 2, height / 2], atol=1e-3)


def test_detections_move_from_the_letterbox_to_the_frame():
    width, height = 640, 480
    faces = np.linspace(0.1, 0.9, 32, dtype=np.float32).reshape(2, 16)
    moved = region.in_frame(faces, region.letterbox(width, height), width, height)
    pixels = faces * 640.0
    pixels[:, 1::2] -= 80
    np.testing.assert_allclose(moved[:, 0::2] * width, pixels[:, 0::2], atol=1e-3)
    np.testing.assert_allclose(moved[:, 1::2] * height, pixels[:, 1::2], atol=1e-3)


def test_the_square_about_a_face_is_half_as_large_again_and_turned_with_the_eyes():
    width, height = 400, 200
    box = np.array([0.25, 0.25, 0.5, 0.75], np.float32)  # 100 × 100 pixels about (150, 100)
    for degrees in (0, 30, -90, 179, -150):
        step = np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]) * 20
        start = (np.array([150, 100]) / (width, height)).astype(np.float32)
        end = ((np.array([150, 100]) + step) / (width, height)).astype(np.float32)
        found = region.in_pixels(region.about(box, start, end, width, height), width, height)
        np.testing.assert_allclose(found[:4], [150, 100, 150, 150], rtol=1e-5)
        assert math.degrees(found[4]) == pytest.approx(degrees, abs=1e-3)
    wide = region.about(np.array([0.2, 0.4, 0.6, 0.5], np.float32), box[:2], box[2:], width, height)
    np.testing.assert_allclose(wide[2] * width, wide[3] * height, rtol=1e-5)
    assert wide[2] * width == pytest.approx(0.4 * width * 1.5)
    kept = region.about(np.array([0.2, 0.4, 0.6, 0.5], np.float32), box[:2], box[2:], width, height, False)
    np.testing.assert_allclose(kept[:4], [0.4, 0.45, 0.6, 0.15], rtol=1e-5)
    assert kept[4] == wide[4]


def face(x: float, y: float, side: float) -> np.ndarray:
    """Of 16 values, with level eyes."""
    eyes = [x + 0.3 * side, y + 0.4 * side, x + 0.7 * side, y + 0.4 * side]
    return np.array([x, y, x + side, y + side, *eyes, *[0] * 8], np.float32)


def test_of_two_regions_on_each_other_the_later_one_stays():
    faces = np.stack([face(0.1, 0.1, 0.2), face(0.6, 0.1, 0.2), face(0.11, 0.11, 0.2)])
    every = region.regions(faces, 300, 300)
    np.testing.assert_allclose(every[:, 0], [0.2, 0.7, 0.21], rtol=1e-5)
    found = region.distinct(every)
    assert len(found) == 2
    np.testing.assert_allclose(found[:, 0], [0.7, 0.21], rtol=1e-5)
    # With an intersection over union of less than a half both stay.
    faces = np.stack([face(0.1, 0.1, 0.2), face(0.22, 0.1, 0.2)])
    assert len(region.distinct(region.regions(faces, 300, 300))) == 2
    assert region.distinct(region.regions(faces[:0], 300, 300)).shape == (0, 5)


def test_points_go_where_the_matrix_says():
    width, height, side = 640, 360, 192
    square = np.array([0.4, 0.6, 150 / width, 150 / height, 0.7], np.float32)
    points = np.random.default_rng(0).uniform(-10, 200, (30, 3)).astype(np.float32)
    found = region.project(points / np.float32(side), square)
    matrix = region.matrix(region.in_pixels(square, width, height), side)
    for (x, y, z), moved in zip(points, found, strict=True):
        np.testing.assert_allclose(moved[:2] * (width, height), at(matrix, x, y), atol=2e-3)
        assert moved[2] * width == pytest.approx(z / side * 150, abs=1e-3)
