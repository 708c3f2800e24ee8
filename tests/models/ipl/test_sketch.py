from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from models.ipl.sketch import EDGES, draw_sketches
from prep.landmark_sets import FACE_131, FACE_131_EDGES
from prep.views import landmark_box, over_box
from tests.models.fakes import IPLAP

PARITY = Path(__file__).resolve().parents[2] / "parity" / "ip_lap_prep"
SIDE = int(IPLAP["frame_hw"][0])


def official(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Points and sizes of the three official sketches of ``train`` or ``inference``."""
    mesh = IPLAP["raw_mediapipe"][:3].astype(np.float64) * SIDE
    points = mesh[:, FACE_131, :2]
    box = landmark_box(points, (SIDE, SIDE), 5 if kind == "train" else 25)
    box = box if kind == "train" else box.astype(np.int64)
    return over_box(points, box), box[:, 2:] - box[:, :2]


def drawn_plainly(points: np.ndarray, width: float, height: float) -> np.ndarray:
    """Edge by edge, as the rule is worded, on a canvas of floats."""
    shorter = min(width, height)
    w, h = int(width * 128 / shorter), int(height * 128 / shorter)
    canvas = np.zeros((h, w))
    for edge in EDGES:
        ends = points[edge]
        if (ends >= 0).all() and (ends <= 1).all():
            (ax, ay), (bx, by) = np.minimum(np.floor(ends * (w, h)), (w - 1, h - 1)).astype(int).tolist()
            cv2.line(canvas, (ax, ay), (bx, by), 224, 1)
    return np.rint(cv2.resize(canvas, (128, 128)))


def test_edges_are_those_that_prep_lists():
    ours, theirs = (np.sort(edges, axis=1).tolist() for edges in (FACE_131[EDGES], FACE_131_EDGES))
    assert sorted(ours) == sorted(theirs)
    assert len(EDGES) == 125


@pytest.mark.parametrize("kind", ["train", "inference"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sketches_are_the_official_ones(kind, dtype):
    points, sizes = official(kind)
    for i, sketch in enumerate(draw_sketches(points.astype(dtype), sizes)):
        expected = cv2.imread(str(PARITY / f"{kind}_sketch_{i}.png"))
        np.testing.assert_array_equal(np.repeat(sketch[..., None], 3, axis=2), expected)


def test_any_box_and_points_outside_of_it():
    rng = np.random.default_rng(0)
    sizes = rng.uniform(20, 400, (60, 2))
    points = np.concatenate([rng.uniform(0, 1, (30, 131, 2)), rng.normal(0.5, 0.3, (30, 131, 2))])
    points[0, :8] = [0, 1]
    for sketch, at, (width, height) in zip(draw_sketches(points, sizes), points, sizes, strict=True):
        np.testing.assert_array_equal(sketch, drawn_plainly(at, width, height))


def test_a_point_without_a_place_takes_its_edges_along():
    points, sizes = official("train")
    points, whole = points[:1], draw_sketches(points[:1], sizes[:1])
    points[0, 28:42] = np.nan  # the nose
    points[0, 91:131] = -0.001  # the lips
    bare = draw_sketches(points, sizes[:1])
    assert 0 < (bare > 0).sum() < (whole > 0).sum()
    points[:] = 2
    assert not draw_sketches(points, sizes[:1]).any()


def test_no_sketches():
    assert draw_sketches(np.empty((0, 131, 2)), np.empty((0, 2))).shape == (0, 128, 128)


@pytest.mark.parametrize(
    ("points", "sizes", "message"),
    [
        ((1, 68, 2), [[10, 10]], "not \\(n, 131, 2\\)"),
        ((2, 131, 2), [[10, 10]], "not \\(n, 131, 2\\)"),
        ((1, 131, 2), [[10, 0]], "empty"),
        ((1, 131, 2), [[10, np.nan]], "empty"),
    ],
)
def test_what_is_no_sketch(points, sizes, message):
    with pytest.raises(ValueError, match=message):
        draw_sketches(np.zeros(points), sizes)
