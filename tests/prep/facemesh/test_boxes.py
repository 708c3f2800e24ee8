"""Anchors, decoding and weighted non-maximum suppression against a plain implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prep.facemesh import boxes
from prep.facemesh.blazeface import LAYERS


def test_anchors_are_the_middles_of_cells():
    for name, count in (("short_range", 896), ("full_range", 2304)):
        anchors = boxes.anchors(LAYERS[name])
        assert anchors.shape == (count, 2) and anchors.dtype == np.float32
    small = boxes.anchors(((2, 2), (1, 1)))
    expected = (
        [(0.25, 0.25)] * 2 + [(0.75, 0.25)] * 2 + [(0.25, 0.75)] * 2 + [(0.75, 0.75)] * 2 + [(0.5, 0.5)]
    )
    np.testing.assert_array_equal(small, np.array(expected, np.float32))


def plain(raw, logits, middles, side, least, limit):
    """The same in double precision, with lists."""
    found = []
    for values, logit, middle in zip(raw.tolist(), logits.tolist(), middles.tolist(), strict=True):
        score = 1 / (1 + math.exp(-min(max(logit, -100), 100)))
        x, y, w, h = (v / side for v in values[:4])
        x, y = x + middle[0], y + middle[1]
        if score >= least and w >= 0 and h >= 0:
            points = [v / side + middle[k % 2] for k, v in enumerate(values[4:])]
            found.append((score, [x - w / 2, y - h / 2, x + w / 2, y + h / 2, *points]))
    found.sort(key=lambda entry: -entry[0])
    result = []
    while found:
        best = found[0][1]
        same = [entry for entry in found if shared(best, entry[1]) > limit]
        total = sum(score for score, _ in same)
        result.append([sum(score * box[k] for score, box in same) / total for k in range(16)])
        found = [entry for entry in found if shared(best, entry[1]) <= limit]
    return result


def shared(a, b) -> float:
    """Intersection over union."""
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(across, 0) * max(down, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.parametrize("seed", range(8))
def test_faces_equal_a_plain_implementation(seed):
    rng = np.random.default_rng(seed)
    middles = boxes.anchors(LAYERS["short_range"])
    raw = rng.normal(0, 10, (896, 16)).astype(np.float32)
    raw[:, 2:4] = rng.uniform(-2, 50, (896, 2))
    logits = rng.normal(-3, 2, 896).astype(np.float32)
    expected = [plain(raw, logits, middles, 128, 0.5, limit) for limit in (0.3, 0.5)]
    assert len(expected[1]) > len(expected[0]) > 5
    for limit, faces in zip((0.3, 0.5), expected, strict=True):
        found = boxes.faces(raw, logits, middles, 128, 0.5, limit)
        np.testing.assert_allclose(found, np.array(faces), rtol=0, atol=1e-5)


def test_no_box_is_no_face():
    middles = boxes.anchors(LAYERS["short_range"])
    raw, logits = np.ones((896, 16), np.float32), np.full(896, -5, np.float32)
    assert boxes.faces(raw, logits, middles, 128, 0.5).shape == (0, 16)
    logits[:] = -1000
    assert boxes.faces(raw, logits, middles, 128, 0.5).shape == (0, 16)


def test_the_smallest_probability_counts():
    middles = boxes.anchors(((2, 1),))
    raw, logits = np.full((4, 16), 10, np.float32), np.array([0, -1e-3, -9, -9], np.float32)
    np.testing.assert_allclose(
        boxes.faces(raw, logits, middles, 128, 0.5)[0, 4:6], 10 / 128 + 0.25, rtol=1e-6
    )
    assert len(boxes.faces(raw, logits, middles, 128, 0.51)) == 0


def test_boxes_of_equal_probability_keep_their_order():
    middles = boxes.anchors(((4, 1),))
    raw, logits = np.full((16, 16), 5, np.float32), np.full(16, 3, np.float32)
    found = boxes.faces(raw, logits, middles, 128, 0.5)
    np.testing.assert_allclose(found[:, 4:6], middles + 5 / 128, rtol=1e-5)


def test_boxes_without_area_and_of_values_that_are_no_numbers():
    middles = boxes.anchors(((4, 1),))
    raw, logits = np.full((16, 16), 5, np.float32), np.full(16, -9, np.float32)
    # A box without area overlaps not even itself: it is a face, and the search ends, as in the package.
    raw[3, 2:4], logits[3], logits[9] = 0, 4, 2
    assert len(boxes.faces(raw, logits, middles, 128, 0.5)) == 1
    # A negative size, and what is no number, is no box.
    for value in (-3, np.nan):
        raw[3, 2:4] = value
        np.testing.assert_allclose(
            boxes.faces(raw, logits, middles, 128, 0.5)[:, 4:6], middles[[9]] + 5 / 128
        )
    raw[3, 2:4], logits[3] = 5, np.nan
    assert len(boxes.faces(raw, logits, middles, 128, 0.5)) == 1
    raw[3], logits[3] = np.nan, np.inf
    assert len(boxes.faces(raw, logits, middles, 128, 0.5)) == 1
    raw[3] = np.inf  # the middle is no number
    assert len(boxes.faces(raw, logits, middles, 128, 0.5)) == 1
