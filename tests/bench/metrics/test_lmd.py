"""Landmark distances against values that can be worked out by hand, and what happens where faces are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.common.errors import Unavailable, Unscorable
from bench.metrics import METRICS, get_metric
from bench.metrics.base import Batch, ClipInfo, Context, Metric, Pictures, Score
from bench.metrics.landmark_distance import Definition, face_boxes, landmark_distance, scored_frames
from bench.metrics.lmd import (
    LandmarkError,
    LandmarkMetric,
    LmdChenDlib,
    LmdChenMean,
    LmdChenSum20,
    LmdLipNorm,
    LmdMean68,
    LmdViCo,
)
from bench.weights.store import WeightStore
from prep.landmark_sets import FACE_131, FACE_131_CONTENT, LIPS, MESH_TO_68

CONTEXT = Context(WeightStore({}, []))
FACEMESH: list[type[LandmarkMetric]] = [
    LmdChenSum20,
    LmdChenMean,
    LmdMean68,
    LmdLipNorm,
    LmdViCo,
    LandmarkError,
]
WIDTH, HEIGHT = 60.0, 80.0
#: Two points that widen the face's box and are in no set that is measured.
CORNERS = np.setdiff1d(FACE_131, np.concatenate([MESH_TO_68, LIPS, FACE_131_CONTENT]))[:2]


def fake_faces(n: int, width: float = WIDTH, height: float = HEIGHT, seed: int = 0) -> np.ndarray:
    """(n, 478, 3) float32: points strewn over a box of that size that moves about, its corners among the 131."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0.1, 0.9, (n, 478, 3))
    points[:, CORNERS[0], :2], points[:, CORNERS[1], :2] = 0, 1
    corner = rng.integers(20, 60, (n, 1, 3))
    return (corner + points * [width, height, width]).astype(np.float32)


def pictures(landmarks: np.ndarray | None, array: np.ndarray | None = None) -> Pictures:
    if array is None:
        assert landmarks is not None
        array = np.zeros((len(landmarks), 8, 8, 3), np.uint8)
    return Pictures(array, landmarks)


def score(
    metric: Metric,
    pred: tuple[np.ndarray | None, np.ndarray | None],
    truth: tuple[np.ndarray | None, np.ndarray | None] | None = None,
    batch: int = 1000,
) -> Score:
    """The score of landmarks and frames; ``pred`` is the truth itself where no other is given."""
    n = len(next(part for part in pred if part is not None))
    meter = metric.meter(ClipInfo("clip", n, 256, 256, "clip"))

    def cut(video: tuple[np.ndarray | None, np.ndarray | None], at: int) -> Pictures:
        return pictures(*(None if part is None else part[at : at + batch] for part in video))

    for at in range(0, n, batch):
        mine = cut(pred, at)
        meter.update(Batch(at, mine, mine if truth is None else cut(truth, at)))
    return meter.finish()


def value(kind: type[LandmarkMetric], pred: np.ndarray, truth: np.ndarray) -> float:
    return float(score(kind(CONTEXT), (pred, None), (truth, None)).values[""])


def moved(landmarks: np.ndarray, x: float, y: float) -> np.ndarray:
    return landmarks.astype(np.float64) + np.array([x, y, 0])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (LmdChenSum20, 0.0),
        (LmdChenMean, 0.0),
        (LmdMean68, 5 * 128 / HEIGHT),
        (LmdLipNorm, np.hypot(3 / WIDTH, 4 / HEIGHT)),
        (LmdViCo, 3.5),
        (LandmarkError, 128 * np.hypot(3 / WIDTH, 4 / HEIGHT)),
    ],
)
def test_a_face_three_right_and_four_down(kind: type[LandmarkMetric], expected: float) -> None:
    truth = fake_faces(9)
    assert value(kind, moved(truth, 3, 4), truth) == pytest.approx(expected, abs=1e-5)


def test_a_mouth_opened_by_some_pixels() -> None:
    truth = fake_faces(5).astype(np.float64)
    lower, k = MESH_TO_68[[55, 56, 57, 58, 59, 65, 66, 67]], 6.0  # 8 of the 20 points
    pred = truth.copy()
    pred[:, lower, 1] += k
    # The mouth's mean goes down by 8/20 k: 8 points are off by 12/20 k and 12 points by 8/20 k.
    total = (8 * 12 + 12 * 8) / 20 * k * 128 / HEIGHT
    assert value(LmdChenSum20, pred, truth) == pytest.approx(total, rel=1e-6)
    assert value(LmdChenMean, pred, truth) == pytest.approx(total / 20, rel=1e-6)
    assert value(LmdMean68, pred, truth) == pytest.approx(8 / 68 * k * 128 / HEIGHT, rel=1e-6)
    assert value(LmdLipNorm, pred, truth) == pytest.approx(8 / 40 * k / HEIGHT, rel=1e-6)
    assert value(LmdViCo, pred, truth) == pytest.approx(8 / 20 * k / 2, rel=1e-6)
    assert value(LandmarkError, pred, truth) == pytest.approx(8 / 57 * k * 128 / HEIGHT, rel=1e-6)


@pytest.mark.parametrize("kind", FACEMESH)
def test_the_size_of_the_video_does_not_matter_except_to_vico(kind: type[LandmarkMetric]) -> None:
    truth, pred = fake_faces(7).astype(np.float64), fake_faces(7, seed=1).astype(np.float64)
    factor = 3 if kind is LmdViCo else 1
    assert value(kind, 3 * pred, 3 * truth) == pytest.approx(factor * value(kind, pred, truth), rel=1e-9)


@pytest.mark.parametrize("kind", FACEMESH)
def test_equal_landmarks_give_exactly_nothing(kind: type[LandmarkMetric]) -> None:
    truth = fake_faces(6)
    assert value(kind, truth.copy(), truth) == 0
    assert score(kind(CONTEXT), (truth, None)).values[""] == 0


@pytest.mark.parametrize("kind", FACEMESH)
def test_the_batch_does_not_matter(kind: type[LandmarkMetric]) -> None:
    truth, pred = fake_faces(23), fake_faces(23, width=50, seed=4)
    pred[[2, 11]] = np.nan
    truth[20] = np.nan
    whole = score(kind(CONTEXT), (pred, None), (truth, None))
    for batch in (1, 7):
        parts = score(kind(CONTEXT), (pred, None), (truth, None), batch)
        assert parts.values[""] == pytest.approx(whole.values[""], rel=1e-12)
        np.testing.assert_array_equal(parts.series[""], whole.series[""])
        assert parts.notes == whole.notes


def test_frames_without_a_face_are_left_out_and_counted() -> None:
    truth = fake_faces(8)
    pred = moved(truth, 6, 0)
    pred[1] = truth[2] = truth[5] = np.nan
    pred[7] = moved(truth[7], 9, 0)
    found = score(LmdMean68(CONTEXT), (pred, None), (truth, None))
    assert found.notes == {"frames_without_face": 3}
    assert found.values[""] == pytest.approx((4 * 6 + 9) / 5 * 128 / HEIGHT, rel=1e-6)
    series = found.series[""]
    assert series.dtype == np.float32 and series.shape == (8,)
    assert np.flatnonzero(np.isnan(series)).tolist() == [1, 2, 5]


def test_half_of_the_faces_are_enough_and_fewer_are_not() -> None:
    truth, pred = fake_faces(6), fake_faces(6, seed=2)
    pred[:3] = np.nan
    assert score(LmdLipNorm(CONTEXT), (pred, None), (truth, None)).notes == {"frames_without_face": 3}
    truth[5] = np.nan
    with pytest.raises(Unscorable, match=r"^a face in 2 of 6 frames$"):
        score(LmdLipNorm(CONTEXT), (pred, None), (truth, None))


def test_no_face_at_all_is_named() -> None:
    faces, none = fake_faces(4), np.full((4, 478, 3), np.nan, np.float32)
    with pytest.raises(Unscorable, match=r"^no face in the truth$"):
        score(LmdLipNorm(CONTEXT), (faces, None), (none, None))
    with pytest.raises(Unscorable, match=r"^no face in the prediction$"):
        score(LmdLipNorm(CONTEXT), (none, None), (faces, None))
    with pytest.raises(Unscorable, match="no frames"):
        LmdLipNorm(CONTEXT).meter(ClipInfo("clip", 0, 8, 8, "clip")).finish()
    with pytest.raises(Unscorable, match="no frames"):
        scored_frames(np.zeros(0, bool), np.zeros(0, bool))
    with pytest.raises(Unscorable, match="no truth"):
        LmdLipNorm(CONTEXT).meter(ClipInfo("clip", 4, 8, 8, "clip")).update(Batch(0, pictures(faces), None))


def test_the_scale_is_the_truths_median_face() -> None:
    """A prediction's size, its gaps, and a single odd frame of the truth leave the scale alone."""
    truth = np.concatenate([fake_faces(4), fake_faces(1, height=400)])
    pred = moved(truth, 0, 2)
    pred[0] = np.nan
    pred[:, CORNERS[1], :2] += 300
    assert value(LmdMean68, pred, truth) == pytest.approx(2 * 128 / HEIGHT, rel=1e-5)
    # LipLMD is in units of each frame's own box.
    assert value(LmdLipNorm, pred, truth) == pytest.approx((3 * 2 / HEIGHT + 2 / 400) / 4, rel=1e-5)


def test_boxes_are_those_of_the_131_points() -> None:
    faces = fake_faces(3, width=30, height=50)
    faces[:, np.setdiff1d(np.arange(478), FACE_131)] += 1000
    np.testing.assert_allclose(face_boxes(faces), [[30, 50]] * 3, rtol=1e-5)


def test_the_core_takes_any_set_of_points() -> None:
    truth = np.zeros((2, 4, 2))
    pred = truth + np.array([3, 4])
    what = Definition("ibug68", centred=False, over_points="sum", unit="frame", size=1)
    assert landmark_distance(pred, truth, np.ones((2, 2)), what).tolist() == [20, 20]


def test_variants_can_be_compared_key_by_key() -> None:
    specs = [kind.spec for kind in (*FACEMESH, LmdChenDlib)]
    assert len({tuple(spec.parameters) for spec in specs}) == 1
    assert len({spec.hash for spec in specs}) == len(specs)
    for spec in specs:
        assert spec.paired and not spec.regions
        assert spec.needs == {"truth", "landmarks"}
    assert [spec.name for spec in specs if spec.quirk] == ["lmd.chen_mean", "lmd.vico_l1"]
    for name in METRICS:
        if name.startswith(("lmd.", "landmark_error")):
            assert get_metric(name).spec.name == name


@pytest.fixture(scope="module")
def talk(clips_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and frames of 24 frames of a clip."""
    return read_clip(clips_dir / "talk5.mp4", 24)


def read_clip(path: Path, n: int, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (m, 478, 3) and frames (m, H, W, 3) of every ``step``-th of a clip's first ``n`` frames."""
    from prep.facemesh.detector import FaceMesh
    from prep.landmarks import detect_clip
    from prep.video_reading import frames

    taken = [np.ascontiguousarray(f) for i, f in enumerate(frames(path, stop=n)) if i % step == 0]
    with FaceMesh() as mesh:
        return detect_clip(mesh, taken).landmarks.astype(np.float32), np.stack(taken)


def shifted(video: tuple[np.ndarray, np.ndarray], frames: int) -> tuple[Any, Any]:
    """The video and itself some frames later, both as long as what they share."""
    landmarks, array = video
    n = len(array) - frames
    return (landmarks[frames:].copy(), array[frames:]), (landmarks[:n].copy(), array[:n])


@pytest.mark.clips
@pytest.mark.parametrize("kind", FACEMESH)
def test_a_later_moment_is_farther_away(
    kind: type[LandmarkMetric], talk: tuple[np.ndarray, np.ndarray]
) -> None:
    metric = kind(CONTEXT)
    near, far = (score(metric, *shifted(talk, by)).values[""] for by in (1, 8))
    assert 0 < near < far


@pytest.mark.clips
def test_liplmd_has_the_size_of_iplaps_table_1(talk: tuple[np.ndarray, np.ndarray]) -> None:
    """Its best method has 0.013, the displaced faces 0.05 to 0.31: neither pixels nor shares of the frame."""
    jitter = score(LmdLipNorm(CONTEXT), *shifted(talk, 1)).values[""]
    other = score(LmdLipNorm(CONTEXT), *shifted(talk, 8)).values[""]
    assert 0.001 < jitter < 0.02 < other < 0.3


@pytest.mark.clips
def test_dlibs_points_measure_what_facemeshs_do(talk: tuple[np.ndarray, np.ndarray]) -> None:
    pytest.importorskip("dlib", reason="the extra `dlib` is not installed")
    ours, theirs = LmdChenSum20(CONTEXT), LmdChenDlib(CONTEXT)
    assert score(theirs, talk).values[""] == 0
    for by in (4, 8):
        a, b = (score(metric, *shifted(talk, by)).values[""] for metric in (ours, theirs))
        assert 0.5 < a / b < 2
    pred, truth = shifted(talk, 4)
    pred[0][3], truth[0][5] = np.nan, np.nan
    whole, parts = (score(theirs, pred, truth, batch) for batch in (1000, 3))
    assert whole.notes == {"frames_without_face": 2}
    np.testing.assert_array_equal(parts.series[""], whole.series[""])


def test_without_dlib_its_variant_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dlib", None)
    with pytest.raises(Unavailable, match=r"dlib is not installed; .*pip install .*\[dlib\]"):
        LmdChenDlib(CONTEXT)
