"""Warped pictures: the same bytes with every version of OpenCV."""

from __future__ import annotations

import zlib

import cv2
import numpy as np
import pytest

from prep.warping import sample, warp

#: (cubic, border) → CRC-32 of what OpenCV 4.11 makes of :func:`picture`, and of its first channel as float32.
FROZEN = {
    (False, cv2.BORDER_CONSTANT): (1775204771, 91715805),
    (False, cv2.BORDER_REPLICATE): (3095269600, 3196390891),
    (False, cv2.BORDER_REFLECT_101): (608471907, 579784435),
    (True, cv2.BORDER_REPLICATE): (660824016, None),  # sums of floats in another order
    (True, cv2.BORDER_REFLECT): (2306568051, None),
}
MATRIX = np.array([[0.9, 0.2, -7.3], [-0.25, 1.1, 11.6]])
SIZE = (90, 70)


def picture() -> np.ndarray:
    """(60, 80, 3) uint8: smooth in one part, noise in the other."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    y, x = np.mgrid[:60, :80]
    noise[:, :40] = np.stack([3 * x, 4 * y, (x * y) % 256], axis=-1)[:, :40]
    return noise


def exact(values: np.ndarray, x: np.ndarray, y: np.ndarray, cubic: bool) -> np.ndarray:
    """Interpolation in float64, written tap by tap; the edge is repeated."""

    def kernel(t: np.ndarray) -> np.ndarray:
        t = np.abs(t)
        if not cubic:
            return np.maximum(1 - t, 0)
        a = -0.75
        near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
        return np.where(t <= 1, near, np.where(t < 2, far, 0))

    total = np.zeros((*x.shape, *values.shape[2:]))
    for j in range(-2, 4):
        for i in range(-2, 4):
            column, row = np.floor(x).astype(int) + i, np.floor(y).astype(int) + j
            weight = kernel(x - column) * kernel(y - row)
            tap = values[np.clip(row, 0, len(values) - 1), np.clip(column, 0, values.shape[1] - 1)]
            total += weight.reshape(*x.shape, *[1] * (values.ndim - 2)) * tap
    return total


def places() -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the result lies in the picture, in float64."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]].astype(float)
    (a, b, c), (d, e, f), _ = np.linalg.inv(np.vstack([MATRIX, [0, 0, 1]]))
    return a * x + b * y + c, d * x + e * y + f


def crc(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


@pytest.mark.parametrize(("cubic", "border"), FROZEN)
def test_the_bytes_are_those_of_opencv_4(cubic: bool, border: int):
    bytes_, floats = FROZEN[cubic, border]
    warped = warp(picture(), MATRIX, SIZE, cubic=cubic, border=border)
    assert (warped.shape, warped.dtype) == ((70, 90, 3), np.uint8) and crc(warped) == bytes_
    grey = warp(picture()[..., 0].astype(np.float32), MATRIX, SIZE, cubic=cubic, border=border)
    assert (grey.shape, grey.dtype) == ((70, 90), np.float32)
    assert floats is None or crc(grey) == floats
    if cv2.__version__.startswith("4."):
        flags = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
        assert (cv2.warpAffine(picture(), MATRIX, SIZE, flags=flags, borderMode=border) == warped).all()


@pytest.mark.parametrize("cubic", [False, True])
def test_positions_are_rounded_to_a_32nd_of_a_pixel(cubic: bool):
    x, y = (np.round(at * 32) / 32 for at in places())
    expected = np.clip(exact(picture().astype(float), x, y, cubic), 0, 255)
    warped = warp(picture(), MATRIX, SIZE, cubic=cubic, border=cv2.BORDER_REPLICATE)
    far = np.abs(warped - expected).max(axis=2) > 0.51
    # Rows and columns are rounded one by one before they are added, which can lead to the neighbouring 32nd.
    assert far.mean() < 0.05
    at = np.stack([x, y], axis=-1).astype(np.float32)
    assert np.abs(sample(picture(), at, cubic=cubic) - expected).max() <= 0.51


@pytest.mark.parametrize("cubic", [False, True])
def test_whole_pixels_are_only_moved(cubic: bool):
    moved = warp(
        picture(), np.array([[1.0, 0, 5], [0, 1, -3]]), (80, 60), cubic=cubic, border=cv2.BORDER_REPLICATE
    )
    assert (moved[:57, 5:] == picture()[3:, :75]).all() and (moved[:57, :5] == picture()[3:, :1]).all()


def test_a_border_is_black_repeated_or_mirrored():
    matrix = np.array([[1.0, 0, 20], [0, 1, 0]])
    black, repeated, mirrored = (
        warp(picture(), matrix, (80, 60), border=border)[:, :20]
        for border in (cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101)
    )
    assert not black.any() and (repeated == picture()[:, :1]).all()
    assert (mirrored == picture()[:, 20:0:-1]).all()
    cubic = warp(picture(), matrix, (80, 60), cubic=True, border=cv2.BORDER_REFLECT)[:, :20]
    assert (cubic == picture()[:, 19::-1]).all()


def test_a_field_of_two_floats_is_sampled():
    field = np.dstack(np.mgrid[:9, :7][::-1]).astype(np.float32)
    at = np.array([[[1.5, 2.25], [-3, 8.5]]], np.float32)
    assert (sample(field, at) == [[[1.5, 2.25], [0, 8]]]).all()
