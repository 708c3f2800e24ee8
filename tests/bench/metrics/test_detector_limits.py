"""The figures of docs/metrics.md on the landmark detector: how they are measured, and that they still hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from bench.report.metric_docs import PAGE
from prep.conversion import Converter
from prep.landmark_sets import LIPS
from tests.bench.metrics import detector_limits as limits
from tests.bench.metrics.test_lmd import fake_faces

PICTURES = list(np.random.default_rng(0).integers(0, 256, (3, 64, 80, 3), np.uint8))


class Follows:
    """A face whose place depends on the picture: ``gain`` times that of its brightest pixel."""

    shape = (478, 3)

    def __init__(self, gain: float, blind: Sequence[int] = ()) -> None:
        self.gain, self.blind, self.asked = gain, blind, 0

    def detect(self, frame: np.ndarray) -> np.ndarray:
        self.asked += 1
        if self.asked in self.blind:
            return np.empty((0, 478, 3))
        face = fake_faces(1).astype(np.float64)
        y, x = np.unravel_index(frame.sum(axis=2).argmax(), frame.shape[:2])
        return face + self.gain * np.array([x, y, 0])


def change(name: str) -> limits.Change:
    (found,) = (one for one in limits.CHANGES if name in one.name)
    return found


@pytest.mark.parametrize("gain", [1.0, 0.25, 0.0])
def test_a_shift_counts_as_far_as_the_detector_does_not_follow(gain: float) -> None:
    found = limits.moves(Follows(gain), PICTURES, change("shifted"))
    lacking = 1 - gain
    np.testing.assert_allclose(found.pixels, np.hypot(lacking, lacking), atol=1e-6)
    np.testing.assert_allclose(found.box, np.hypot(lacking / 60, lacking / 80), atol=1e-6)
    assert found.lost == 0 and found.box.shape == (3, 478)


def test_lost_faces_are_counted_and_pictures_without_one_are_left_out() -> None:
    # Asked for each picture and, where there is a face, for the changed one: 1 2, 3 4, 5.
    found = limits.moves(Follows(1, blind=(4, 5)), PICTURES, change("shifted"))
    assert found.lost == 1 and len(found.box) == 1


def test_the_other_matrix_is_that_of_a_reader_that_ignores_the_tag() -> None:
    colours = np.random.default_rng(1).integers(60, 190, (8, 8, 3), np.uint8)
    picture = np.repeat(np.repeat(colours, 8, 0), 8, 1)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format="yuv444p", dst_colorspace="ITU709"
    )
    tagged, ignored = (Converter("exact", matrix)(frame) for matrix in ("bt709", "bt601"))
    assert np.abs(tagged.astype(int) - picture).max() <= 2
    assert np.abs(ignored.astype(int) - limits.other_matrix(picture)).max() <= 3
    assert np.abs(ignored.astype(int) - picture).max() > 8


def test_jpeg_of_high_quality_is_near() -> None:
    grain = np.random.default_rng(2).integers(100, 110, (64, 64, 1), np.uint8).repeat(3, 2)
    coded = limits.jpeg(grain)
    assert coded.shape == grain.shape and coded.flags.c_contiguous
    assert 0 < np.abs(coded.astype(int) - grain).mean() < 2
    red = np.full((16, 16, 3), (200, 30, 40), np.uint8)
    np.testing.assert_allclose(limits.jpeg(red)[0, 0], (200, 30, 40), atol=4)


@pytest.mark.parametrize(("middle", "x"), [(50, 0), (200, 140), (395, 280)])
def test_the_square_has_the_face_in_the_middle_if_it_can(middle: float, x: int) -> None:
    face = np.array([[middle - 5.0, 40, 0], [middle + 5, 90, 0]])
    assert limits.square(400, 120, face) == (x, 0, 120, 120)


def test_a_row_has_median_percentile_and_largest() -> None:
    box = np.zeros((1, 478))
    box[:, LIPS] = 0.02
    far = np.zeros((1, 478))
    far[0, 474] = 9
    cells = (
        limits.row(("a", "b"), [limits.Moves(box, far, 0), limits.Moves(2 * box, far, 0)])
        .strip("| ")
        .split(" | ")
    )
    assert cells == [
        "a", "b", "0.00 / 2.00 / 4.00", "0.00 / 0.00 / 9.00", "3.00 / 4.00 / 4.00", "0.00 / 0.00 / 0.00",
        "0.0300 (0.0200 to 0.0400)",
    ]  # fmt: skip


def figures(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+\.\d+", line.split(" | ", 2)[2])]


@pytest.mark.clips
@pytest.mark.slow
def test_the_page_has_the_figures_that_are_measured(clips_dir: Path) -> None:
    page = PAGE.read_text("utf-8")
    rows = list(limits.rows(clips_dir))
    assert len(rows) == 6
    for row in rows:
        start = " | ".join(row.split(" | ", 2)[:2])
        (there,) = (line for line in page.splitlines() if line.startswith(start))
        # Kernels in float16 differ from processor to processor, and the largest distance is that of a single point.
        for printed, found in zip(figures(there), figures(row), strict=True):
            assert found == pytest.approx(printed, rel=0.3, abs=0.02), row
