from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.layers.paste import paste
from prep.views import VIEWS
from tests.models.fakes import mesh

SIDE = 200


def smooth_frame(side: int = SIDE) -> np.ndarray:
    """A picture without detail that resampling could lose."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def box_transform(x0: int, y0: int, x1: int, y1: int, size: int) -> np.ndarray:
    scale_x, scale_y = size / (x1 - x0), size / (y1 - y0)
    return np.array([[scale_x, 0, -x0 * scale_x], [0, scale_y, -y0 * scale_y]])


def turned(degrees: float, scale: float, centre: tuple[float, float], size: int) -> np.ndarray:
    """Full frame to a crop around ``centre``, turned and scaled."""
    linear = scale * cv2.getRotationMatrix2D((0, 0), degrees, 1)[:, :2]
    return np.column_stack([linear, size / 2 - linear @ centre])


def cut(frame: np.ndarray, transform: np.ndarray, size: int) -> np.ndarray:
    centred = transform.copy()
    centred[:, 2] += transform[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(frame, centred, (size, size), borderMode=cv2.BORDER_REPLICATE)


def soft(size: int) -> np.ndarray:
    """1 in the middle, 0 at the edges."""
    ramp = np.clip(1.2 - np.abs(np.linspace(-1.4, 1.4, size)), 0, 1)
    return np.outer(ramp, ramp).astype(np.float32)


def test_a_crop_of_the_same_size_comes_back_to_the_bit():
    frame = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    pasted = frame.copy()
    paste(pasted, frame[20:148, 30:158], box_transform(30, 20, 158, 148, 128), soft(128))
    np.testing.assert_array_equal(pasted, frame)


@pytest.mark.parametrize(
    "name", ["box128", "face96", "aligned512", "mouth416x320", "lower512", "face128", "atvg128"]
)
def test_an_unmodified_crop_of_any_view_changes_next_to_nothing(name):
    frame, view = smooth_frame(), VIEWS[name]
    transform = view.transforms(mesh(SIDE)[:1], [True], SIDE, SIDE)[0]
    for stored in (transform, transform.astype(np.float32)):
        pasted = frame.copy()
        paste(pasted, view.crop(frame, transform), stored, np.ones((8, 8), np.float32))
        difference = np.abs(pasted.astype(int) - frame)
        assert difference.max() <= 6
        assert difference.mean() < 0.5


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1.3), (25, 0.7), (-40, 2.5), (180, 1)])
def test_turned_crops_come_back_to_their_place(degrees, scale):
    frame = smooth_frame()
    transform = turned(degrees, scale, (110, 90), 128)
    pasted = frame.copy()
    paste(pasted, cut(frame, transform, 128), transform, soft(128))
    assert np.abs(pasted.astype(int) - frame).max() <= 3


@pytest.mark.parametrize("transform", [box_transform(30, 20, 130, 150, 64), turned(30, 0.6, (100, 90), 64)])
def test_nothing_changes_outside_of_the_mask(transform):
    frame = np.random.default_rng(0).integers(1, 255, (SIDE, SIDE, 3), np.uint8)
    mask = np.zeros((64, 64), np.float32)
    mask[24:40, 24:40] = 1
    white = np.full((64, 64, 3), 255, np.uint8)
    pasted = frame.copy()
    paste(pasted, white, transform, mask)
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    x, y = np.einsum("ij,jhw->ihw", transform[:, :2], np.stack([columns, rows])) + transform[:, 2, None, None]
    far = (np.abs(x - 32) > 9) | (np.abs(y - 32) > 9)
    inside = (np.abs(x - 32) < 7) & (np.abs(y - 32) < 7)
    np.testing.assert_array_equal(pasted[far], frame[far])
    assert inside.any()
    assert (pasted[inside] == 255).all()


def test_the_mask_is_the_share_of_the_crop():
    frame = np.full((40, 40, 3), 100, np.uint8)
    paste(
        frame,
        np.full((20, 20, 3), 200, np.uint8),
        box_transform(10, 10, 30, 30, 20),
        np.full((5, 5), 0.25, np.float32),
    )
    expected = np.full((40, 40, 3), 100)
    expected[10:30, 10:30] = 125
    np.testing.assert_array_equal(frame, expected)


def test_a_soft_mask_leaves_no_seam():
    frame = np.full((SIDE, SIDE, 3), 100, np.uint8)
    for transform in (box_transform(40, 50, 140, 150, 128), turned(20, 1.1, (100, 100), 128)):
        pasted = frame.copy()
        paste(pasted, np.full((128, 128, 3), 160, np.uint8), transform, soft(128))
        steps = [np.abs(np.diff(pasted.astype(int), axis=axis)).max() for axis in (0, 1)]
        assert max(steps) <= 60 * 0.06
        assert pasted.max() == 160


@pytest.mark.parametrize(("x0", "y0"), [(-30, -20), (150, 160), (-300, 10), (10, 500)])
@pytest.mark.parametrize("degrees", [0, 10])
def test_crops_that_leave_the_frame(x0, y0, degrees):
    frame = smooth_frame()
    transform = box_transform(x0, y0, x0 + 100, y0 + 100, 64)
    if degrees:
        transform = turned(degrees, 0.64, (x0 + 50, y0 + 50), 64)
    pasted = frame.copy()
    paste(pasted, np.zeros((64, 64, 3), np.uint8), transform, np.ones((64, 64), np.float32))
    meets = -100 < x0 < SIDE and -100 < y0 < SIDE
    assert (pasted != frame).any() == meets
    if meets:
        assert not pasted[(0 if y0 < 0 else -1), (0 if x0 < 0 else -1)].any()


@pytest.mark.parametrize("transform", [np.full((2, 3), np.nan), np.zeros((2, 3))])
def test_transforms_that_lead_nowhere(transform):
    with pytest.raises(ValueError, match="cannot be pasted"):
        paste(
            np.zeros((9, 9, 3), np.uint8),
            np.zeros((4, 4, 3), np.uint8),
            transform,
            np.ones((4, 4), np.float32),
        )
