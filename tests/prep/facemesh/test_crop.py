"""Squares of frames against an exact calculation in whole numbers, and against OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from prep.facemesh import crop, region, torch_form

OPENCV = tuple(int(part) for part in cv2.__version__.split(".")[:2])


def exact(frame: np.ndarray, rows: list[list[int]], size: int, edge: bool) -> np.ndarray:
    """Bytes of an affine sample; the matrix is ``rows`` / 64, so that nothing is rounded before 1/32 pixel."""
    height, width = frame.shape[:2]
    out = np.zeros((size, size, 3), np.int64)
    for row in range(size):
        for column in range(size):
            # In 1/64 pixel; a half of 1/32 goes to the even one.
            place = [a * column + b * row + c for a, b, c in rows]
            x, y = (whole // 2 if whole % 2 == 0 else (whole // 2 + whole // 2 % 2) for whole in place)
            total = np.zeros(3, np.int64)
            for j, across in ((x // 32, 32 - x % 32), (x // 32 + 1, x % 32)):
                for i, down in ((y // 32, 32 - y % 32), (y // 32 + 1, y % 32)):
                    if edge:
                        pixel = frame[min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
                    else:
                        inside = 0 <= i < height and 0 <= j < width
                        pixel = frame[i, j] if inside else np.zeros(3, np.uint8)
                    total += across * down * pixel.astype(np.int64)
            out[row, column] = (total + 512) // 1024
    return out


def sample(frame: np.ndarray, matrix: np.ndarray, size: int, edge: bool) -> np.ndarray:
    """Bytes by the code under test."""
    out = np.full((size, size, 3), np.nan, np.float32)
    crop.cut(frame, matrix, out, 0, 255, edge=edge)
    np.testing.assert_array_equal(out, np.rint(out))
    return out.astype(np.int64)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("edge", [True, False])
@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((40, 50), [[64, 0, 0], [0, 64, 0]]),  # pixels themselves
        ((40, 50), [[65, 0, 31], [0, 63, 33]]),  # every second lies half way between two steps
        ((31, 17), [[33, 9, -300], [-9, 33, 200]]),  # turned, partly outside
        ((17, 31), [[-129, 3, 3000], [5, -127, 1500]]),  # mirrored, made smaller
        ((40, 50), [[64, 0, 64 * 500], [0, 64, 0]]),  # all outside
        ((1, 1), [[3, 0, -40], [0, 3, -40]]),
        ((1, 9), [[20, 1, -64], [1, 4, -64]]),
        ((2, 2), [[5, 0, -30], [0, 5, -30]]),
    ],
)
def test_it_equals_whole_numbers(shape, rows, edge):
    frame = noise(*shape)
    matrix = np.array([*rows, [0, 0, 64]], np.float64) / 64
    np.testing.assert_array_equal(sample(frame, matrix, 19, edge), exact(frame, rows, 19, edge))


@pytest.mark.parametrize("edge", [True, False])
@pytest.mark.skipif(OPENCV >= (4, 12), reason="later releases of OpenCV round otherwise")
def test_it_equals_opencv(edge):
    rng = np.random.default_rng(1)
    for seed in range(12):
        height, width = (int(length) for length in rng.integers(3, 500, 2))
        frame = noise(height, width, seed)
        square = [width * rng.uniform(-0.2, 1.2), height * rng.uniform(-0.2, 1.2)]
        square += [rng.uniform(2, 2 * max(height, width))] * 2 + [rng.uniform(-3.2, 3.2) * (seed % 3 > 0)]
        matrix = region.matrix(np.array(square, np.float32), 192)
        border = cv2.BORDER_REPLICATE if edge else cv2.BORDER_CONSTANT
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        expected = cv2.warpPerspective(frame, matrix, (192, 192), flags=flags, borderMode=border)
        np.testing.assert_array_equal(sample(frame, matrix, 192, edge), expected)


@pytest.mark.parametrize("edge", [True, False])
def test_torch_cuts_the_same_square(edge):
    for shape, square in (((90, 70), [30, 40, 80, 80, 0.4]), ((70, 90), [35, 45, 300, 300, 0.0])):
        frame = noise(*shape)
        matrix = region.matrix(np.array(square, np.float32), 128)
        out = np.empty((128, 128, 3), np.float32)
        crop.cut(frame, matrix, out, -1, 1, edge=edge)
        other = torch_form.square(torch.from_numpy(frame), torch.from_numpy(matrix), 128, -1, edge)
        np.testing.assert_allclose(out, other.permute(1, 2, 0).numpy(), rtol=0, atol=1e-6)


def test_bytes_become_numbers_of_a_range():
    frame = np.array([[[0, 51, 255]] * 4] * 4, np.uint8)
    out = np.empty((3, 3, 3), np.float32)
    crop.cut(frame, np.eye(3), out, -1, 1, edge=True)
    np.testing.assert_allclose(out, np.broadcast_to([-1, -0.6, 1], (3, 3, 3)), atol=1e-6)
