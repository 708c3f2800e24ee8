"""Landmarks of predictions: whose face, and how many frames the detector sees at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.common.errors import Unavailable
from bench.eval.faces import Faces, Follower, Wanted, follow
from bench.metrics.base import Context
from prep.errors import PrepError
from tests.bench.eval import test_engine as engines

SHAPE = (478, 3)


def face(x: float, size: float = 20) -> np.ndarray:
    """A face (478, 3) in a box."""
    points = np.random.default_rng(0).uniform(0, size, SHAPE)
    return points + np.array([x, 0, 0])


class Scripted:
    """A detector that sees in a frame what its first pixel tells: nothing, nothing without a search, one, two."""

    shape = SHAPE
    SEEN = ((), (), (10,), (10, 60))

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.log: list[str] = []

    def detect_batch(self, frames: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        self.batches.append(len(frames))
        for frame in frames:
            self.log.append(f"detect {frame[0, 0, 1]}")
            yield np.array([face(x) for x in self.SEEN[frame[0, 0, 0]]]).reshape(-1, *SHAPE)

    def detect(self, frame: np.ndarray) -> np.ndarray:
        return next(self.detect_batch([frame]))

    def search(self, frame: np.ndarray) -> np.ndarray:
        self.log.append(f"search {frame[0, 0, 1]}")
        return np.array([face(5, 3)] * int(frame[0, 0, 0] == 1)).reshape(-1, *SHAPE)

    def confirms(self, frame: np.ndarray, face: np.ndarray) -> bool:
        return True

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass


def frame(seen: int, number: int = 0) -> np.ndarray:
    array = np.zeros((4, 4, 3), np.uint8)
    array[0, 0, :2] = seen, number
    return array


def x_of(points: np.ndarray) -> list[float]:
    """Left edges of the faces found."""
    return [float(np.round(one[:, 0].min())) for one in points]


def test_all_predictions_are_detected_in_one_batch_and_searched_in_their_turn() -> None:
    mesh, first, second = Scripted(), Follower(), Follower()
    a, b = [frame(2, 0), frame(0, 1), frame(1, 2)], [frame(2, 3), frame(2, 4)]
    found = follow(mesh, [Wanted(first, a, None), Wanted(second, b, None)])
    assert mesh.batches == [5]
    assert mesh.log == ["detect 0", "detect 1", "search 1", "detect 2", "search 2", "detect 3", "detect 4"]
    assert [array.shape for array in found] == [(3, *SHAPE), (2, *SHAPE)]
    assert found[0].dtype == np.float32
    assert x_of(found[0][[0, 2]]) == [10, 5] and np.isnan(found[0][1]).all()
    assert x_of(found[1]) == [10, 10]


def test_a_frame_that_is_the_one_before_is_detected_once_also_in_the_next_batch() -> None:
    mesh, follower, still, other = Scripted(), Follower(), frame(2), frame(3)
    first = follow(mesh, [Wanted(follower, [still] * 4, None)])
    second = follow(mesh, [Wanted(follower, [still, still, other, still], None)])
    assert mesh.batches == [1, 2]
    assert x_of(first[0]) == [10] * 4 and x_of(second[0]) == [10] * 4
    follow(mesh, [Wanted(follower, [still], None)])
    assert mesh.batches == [1, 2], "there was nothing to detect"


def test_of_several_faces_that_of_the_truth_is_followed() -> None:
    truth = np.array([face(60), face(60), np.full(SHAPE, np.nan), face(10)])
    (found,) = follow(Scripted(), [Wanted(Follower(), [frame(3) for _ in range(4)], truth)])
    # Where the truth shows none: the one before.
    assert x_of(found) == [60, 60, 60, 10]
    (found,) = follow(Scripted(), [Wanted(Follower(), [frame(3) for _ in range(4)], truth[:2])])
    assert x_of(found) == [60] * 4, "beyond the truth's end: the one before"
    follower = Follower()
    follow(Scripted(), [Wanted(follower, [frame(3)], truth[:1])])
    assert x_of(follow(Scripted(), [Wanted(follower, [frame(3)], None)])[0]) == [60]


def test_a_detector_that_is_missing_makes_metrics_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str, **options: object) -> None:
        raise PrepError(f"no {name}: install it")

    monkeypatch.setattr("prep.detectors.create", none)
    with pytest.raises(Unavailable, match="landmarks cannot be found: no mediapipe: install it"):
        Faces("mediapipe")


def test_the_detector_of_an_evaluation_is_made_once_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr("prep.detectors.create", lambda name, **options: made.append((name, options)))
    Faces("mediapipe", "cuda:1")
    assert made == [("mediapipe", {"device": "cuda:1"})]


@pytest.mark.parametrize(("held", "batches"), [(1 << 26, [8, 8, 4]), (1, [4, 4, 4, 4, 2, 2])])
def test_the_engine_detects_the_frames_of_all_methods_together_as_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, batches: list[int]
) -> None:
    mesh = Scripted()

    def numbers(frames: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        mesh.batches.append(len(frames))
        return iter([np.full((1, *SHAPE), one[0, 0, 0], float) for one in frames])

    monkeypatch.setattr(mesh, "detect_batch", numbers)
    monkeypatch.setattr("bench.metrics.METRICS", engines.REGISTRY)
    monkeypatch.setattr("prep.detectors.create", lambda name, **options: mesh)
    monkeypatch.setattr("bench.eval.engine.HELD", held)
    monkeypatch.setattr(
        Faces, "of_truth", lambda self, frames: np.ones((len(list(frames)), *SHAPE), np.float32)
    )
    engines.Seen.log = []
    one = engines.job(tmp_path)
    engine = engines.Engine(("marks",), ("full",), Context(engines.WeightStore({}, [])), 4)
    rows = engine.score(one)
    assert mesh.batches == batches
    assert set(engines.figures(rows).values()) == {(float(engines.N), "")}
    for seed, meter in enumerate(engines.Seen.log, 1):
        expected = [
            picture[0, 0, 0] for picture in engines.drifting(engines.N, engines.HEIGHT, engines.WIDTH, seed)
        ]
        found = np.concatenate([batch.pred.landmarks for batch in meter.batches])
        assert found[:, 0, 0].tolist() == expected, "each method has its own"
