"""The engine on one clip: what is decoded how often, what metrics see, and what failures cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.clips.inputs import from_folders, with_trivial
from bench.clips.job import Candidate, Job, Take
from bench.common.errors import Unscorable
from bench.eval.engine import Engine
from bench.eval.faces import Wanted
from bench.eval.parts import PartRow
from bench.metrics.base import Batch, ClipInfo, Context, Meter, Metric, Output, Score, Spec
from bench.weights.store import WeightStore
from models.registry import Registry
from prep.errors import ClipError
from prep.views import VIEWS, map_points
from tests.bench.eval.videos import drifting, write_lossless
from tests.prep.fakes import fake_clip

HEIGHT, WIDTH, N = 64, 48, 10
CONTEXT = Context(WeightStore({}, []))


class Seen(Meter):
    """What one metric saw of one candidate."""

    log: list[Seen]

    def __init__(self, clip: ClipInfo) -> None:
        self.clip = clip
        self.batches: list[Batch] = []
        self.closed = False
        Seen.log.append(self)

    def update(self, batch: Batch) -> None:
        self.batches.append(batch)

    def finish(self) -> Score:
        return Score({"": float(sum(len(batch.pred) for batch in self.batches))})

    def close(self) -> None:
        self.closed = True

    @property
    def pred(self) -> np.ndarray:
        return np.concatenate([batch.pred.array for batch in self.batches])

    @property
    def truth(self) -> np.ndarray:
        return np.concatenate([batch.truth.array for batch in self.batches if batch.truth])


def _spec(name: str, needs: set[str], regions: bool) -> Spec:
    output = Output("", "X", "none")
    return Spec(name, "", (output,), {}, "", "", needs=frozenset(needs), regions=regions, paired=False)


class Compare(Metric):
    spec = _spec("compare", {"truth"}, True)

    def meter(self, clip: ClipInfo) -> Meter:
        return Seen(clip)


class Alone(Compare):
    spec = _spec("alone", set(), False)


class Marks(Compare):
    spec = _spec("marks", {"truth", "landmarks", "truth_landmarks"}, False)


class AloneMarks(Compare):
    spec = _spec("alone_marks", {"landmarks"}, False)


class _Fails(Seen):
    def update(self, batch: Batch) -> None:
        super().update(batch)
        if batch.start:
            raise Unscorable("too dark") if self.clip.n_frames % 2 == 0 else ZeroDivisionError("by nought")


class Fails(Compare):
    spec = _spec("fails", {"truth"}, True)

    def meter(self, clip: ClipInfo) -> Meter:
        return _Fails(clip)


REGISTRY = Registry(
    {kind.spec.name: f"{__name__}:{kind.__name__}" for kind in (Compare, Alone, Marks, AloneMarks, Fails)}
)


class FoundFaces:
    """Stands in for the detector: a face that was drawn up before, in some frames."""

    def __init__(self, detector: str, device: str) -> None:
        pass

    points = fake_clip("face", 40, width=WIDTH, height=HEIGHT).landmarks
    gone: Sequence[int] = ()

    def of_truth(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        found = self.points[: len(list(frames))].copy()
        found[list(self.gone)] = np.nan
        return found

    def of_predictions(self, wanted: Sequence[Wanted]) -> list[np.ndarray]:
        return [np.zeros((len(one.frames), 478, 3), np.float32) for one in wanted]


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.metrics.METRICS", REGISTRY)
    monkeypatch.setattr("bench.eval.engine.Faces", FoundFaces)
    monkeypatch.setattr(FoundFaces, "gone", ())
    Seen.log = []


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Folder of a video → frames of it that were decoded."""
    from bench.clips.inputs.reading import take_frames

    count: Counter[str] = Counter()

    def counted(take: Take) -> Iterator[np.ndarray]:
        for frame in take_frames(take):
            count[take.path.parent.name] += 1
            yield frame

    monkeypatch.setattr("bench.eval.truth.take_frames", counted)
    monkeypatch.setattr("bench.eval.video.take_frames", counted)
    return count


def job(folder: Path, lengths: dict[str, int] | None = None, truth: int = N, **changes: object) -> Job:
    """A clip whose predictions have frames of their own; ``lengths`` are theirs."""
    size = changes.pop("size", (HEIGHT, WIDTH))
    write_lossless(folder / "truth" / "c.mp4", drifting(truth, HEIGHT, WIDTH))
    lengths = {"a": N, "b": N} if lengths is None else lengths
    for seed, (method, n) in enumerate(lengths.items(), 1):
        write_lossless(folder / method / "c.mp4", drifting(n, *size, seed))
    (found,) = from_folders({method: folder / method for method in lengths}, folder / "truth").jobs
    return replace(found, **changes)


def engine(*metrics: str, regions: Sequence[str] = ("full",), batch: int = 4) -> Engine:
    return Engine(metrics, regions, CONTEXT, batch)


def figures(rows: Iterable[PartRow]) -> dict[tuple[str, str, str], tuple[float | None, str]]:
    """(method, metric, region) → value and reason."""
    return {(r.method, r.metric, r.region): (r.value, r.reason) for r in rows if r.kind == "figure"}


def test_every_video_is_decoded_once_for_all_metrics_and_regions(
    tmp_path: Path, decoded: Counter[str]
) -> None:
    rows = engine("compare", "alone", "marks", regions=("full", "face", "mouth")).score(job(tmp_path))
    assert decoded == {"truth": N, "a": N, "b": N}
    found = figures(rows)
    assert len(found) == 2 * (3 + 1 + 1) and set(found.values()) == {(10.0, "")}
    assert all(meter.closed for meter in Seen.log)


def test_metrics_see_the_frames_in_order_in_batches_of_the_size_asked_for(tmp_path: Path) -> None:
    one = job(tmp_path)
    engine("compare", batch=4).score(one)
    first, second = Seen.log
    assert [(batch.start, len(batch.pred)) for batch in first.batches] == [(0, 4), (4, 4), (8, 2)]
    for meter, seed in ((first, 1), (second, 2)):
        np.testing.assert_array_equal(meter.pred, drifting(N, HEIGHT, WIDTH, seed))
        np.testing.assert_array_equal(meter.truth, drifting(N, HEIGHT, WIDTH))
        assert (meter.clip.n_frames, meter.clip.width, meter.clip.height) == (N, WIDTH, HEIGHT)


def test_methods_share_the_truths_pictures(tmp_path: Path) -> None:
    engine("compare", batch=16).score(job(tmp_path))
    first, second = Seen.log
    assert first.batches[0].truth is second.batches[0].truth


def test_the_truths_own_rows_are_the_truths_pictures(tmp_path: Path, decoded: Counter[str]) -> None:
    inputs = with_trivial(from_folders({}, _truth(tmp_path)), ("ground_truth",))
    engine("compare", batch=16).score(inputs.jobs[0])
    assert decoded == {"truth": N}
    assert Seen.log[0].batches[0].pred is Seen.log[0].batches[0].truth


def _truth(folder: Path) -> Path:
    write_lossless(folder / "truth" / "c.mp4", drifting(N, HEIGHT, WIDTH))
    return folder / "truth"


def test_a_truth_that_is_needed_twice_is_held_where_it_fits_in(
    tmp_path: Path, decoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (still,) = with_trivial(from_folders({}, _truth(tmp_path)), ("still",)).jobs
    held = figures(engine("compare").score(still))
    assert decoded == {"truth": N}
    decoded.clear()
    monkeypatch.setattr("bench.eval.truth.FRAME_BUDGET", N * HEIGHT * WIDTH * 3 - 1)
    assert figures(engine("compare").score(still)) == held
    # A frame to see how large it is, then the video beside the row, and for the row.
    assert decoded == {"truth": 1 + N + N}
    for meter in Seen.log:
        assert (meter.pred == meter.truth[0]).all()


@pytest.mark.parametrize(("n", "scored"), [(N - 2, N - 2), (N + 2, N)])
def test_two_frames_more_or_less_are_let_pass(tmp_path: Path, n: int, scored: int) -> None:
    found = figures(engine("compare", "alone").score(job(tmp_path, {"a": n})))
    assert set(found.values()) == {(float(scored), "")}


@pytest.mark.parametrize("n", [N - 3, N + 3])
def test_three_frames_more_or_less_are_not_scored(tmp_path: Path, n: int) -> None:
    rows = engine("compare").score(job(tmp_path, {"a": n, "b": N}))
    found = figures(rows)
    assert found["a", "compare", "full"] == (None, "more than 2 frames longer or shorter than the truth")
    assert found["b", "compare", "full"] == (N, "")
    (row,) = (row for row in rows if row.kind == "figure" and row.method == "a")
    assert (row.frames, row.pred_frames, row.truth_frames) == (0, n, N)


def test_unpaired_what_compares_sees_what_both_have_and_the_rest_sees_all(tmp_path: Path) -> None:
    found = figures(engine("compare", "alone").score(job(tmp_path, {"a": 17, "b": 5}, paired=False)))
    assert {key[:2]: value for key, (value, _) in found.items()} == {
        ("a", "compare"): N,
        ("a", "alone"): 17,
        ("b", "compare"): 5,
        ("b", "alone"): 5,
    }
    longer = next(meter for meter in Seen.log if meter.clip.n_frames == 17)
    np.testing.assert_array_equal(longer.pred, drifting(17, HEIGHT, WIDTH, 1))


def test_landmarks_of_a_prediction_do_not_end_with_the_truth(tmp_path: Path) -> None:
    """For what compares they do: with the truth's last frame."""
    engine("alone_marks", "marks", "alone").score(job(tmp_path, {"a": 17}, paired=False))
    for meter in Seen.log:
        pictures = [batch.pred for batch in meter.batches]
        n = N if meter.clip.landmarks is not None and meter.clip.n_frames == N else 17
        assert sum(map(len, pictures)) == n
        assert all(p.landmarks is not None and len(p.landmarks) == len(p) for p in pictures)
    Seen.log.clear()
    engine("alone_marks").score(job(tmp_path, {"a": 6}, paired=False, truth=N))
    (meter,) = Seen.log
    assert [len(batch.pred.landmarks) for batch in meter.batches] == [4, 2]


@pytest.mark.parametrize(("n", "reason"), [(10, "too dark"), (9, "ZeroDivisionError: by nought")])
def test_a_metric_that_fails_costs_only_itself(tmp_path: Path, n: int, reason: str) -> None:
    found = figures(engine("fails", "compare").score(job(tmp_path, {"a": n, "b": 10}, truth=n)))
    assert found["a", "compare", "full"] == (n, "")
    value, why = found["a", "fails", "full"]
    assert value is None and reason in why
    failed = [meter for meter in Seen.log if isinstance(meter, _Fails)]
    assert len(failed[0].batches) == 2 and all(meter.closed for meter in failed)


def test_a_prediction_of_another_size_is_not_scored(tmp_path: Path) -> None:
    found = figures(engine("compare").score(job(tmp_path, {"a": N}, size=(HEIGHT, WIDTH + 2))))
    reason = "the prediction is 50×64, the truth 48×64: write it at the truth's size"
    assert found["a", "compare", "full"] == (None, reason)


def test_the_row_and_column_that_make_an_odd_size_even_are_cut(tmp_path: Path) -> None:
    truth = [frame[:-1, :-1] for frame in drifting(N, HEIGHT, WIDTH)]
    write_lossless(tmp_path / "truth" / "c.mp4", truth)
    write_lossless(tmp_path / "a" / "c.mp4", drifting(N, HEIGHT, WIDTH))
    (odd,) = from_folders({"a": tmp_path / "a"}, tmp_path / "truth").jobs
    engine("compare").score(odd)
    np.testing.assert_array_equal(Seen.log[0].pred, truth)


def test_a_truth_without_a_face_has_no_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FoundFaces, "gone", range(N))
    found = figures(engine("compare", regions=("full", "face")).score(job(tmp_path, {"a": N})))
    assert found["a", "compare", "full"] == (N, "")
    assert found["a", "compare", "face"] == (None, "no face in the truth")


def test_landmarks_come_with_the_pictures_they_belong_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FoundFaces, "gone", (3,))
    engine("marks", batch=4).score(job(tmp_path, {"a": N}))
    (meter,) = Seen.log
    expected = FoundFaces.points[:N].copy()
    expected[3] = np.nan
    truth = np.concatenate([batch.truth.landmarks for batch in meter.batches])
    np.testing.assert_array_equal(truth, expected)
    np.testing.assert_array_equal(meter.clip.landmarks, expected)
    assert all((batch.pred.landmarks == 0).all() for batch in meter.batches)


def test_in_a_view_landmarks_are_those_of_the_view(tmp_path: Path) -> None:
    one = replace(job(tmp_path, {"a": N}), output="face96")
    engine("marks", "compare", regions=("full", "mouth")).score(one)
    view = VIEWS["face96"]
    points = FoundFaces.points[:N]
    matrices = view.transforms(points, np.ones(N, bool), WIDTH, HEIGHT)
    marks = next(meter for meter in Seen.log if meter.clip.region == "clip")
    np.testing.assert_allclose(marks.clip.landmarks, map_points(points, matrices), atol=1e-3)
    assert (marks.clip.width, marks.clip.height) == (96, 96)
    cut = [view.crop(f, m) for f, m in zip(drifting(N, HEIGHT, WIDTH, 1), matrices, strict=True)]
    np.testing.assert_array_equal(marks.pred, cut)
    mouth = next(meter for meter in Seen.log if meter.clip.region == "mouth")
    assert mouth.pred.shape[1] < 96 and mouth.pred.shape[2] < 96


def test_in_a_view_frames_beyond_the_truth_are_cut_as_its_last(tmp_path: Path) -> None:
    engine("alone").score(replace(job(tmp_path, {"a": 14}, paired=False), output="box128"))
    view = VIEWS["box128"]
    last = view.transforms(FoundFaces.points[:N], np.ones(N, bool), WIDTH, HEIGHT)[-1]
    beyond = drifting(14, HEIGHT, WIDTH, 1)[N:]
    np.testing.assert_array_equal(Seen.log[0].pred[N:], [view.crop(frame, last) for frame in beyond])


def test_a_truth_that_cannot_be_read_is_the_reason_of_all(tmp_path: Path) -> None:
    one = job(tmp_path)
    (tmp_path / "truth" / "c.mp4").write_bytes(b"not a video")
    found = figures(engine("compare").score(one))
    assert {reason for _, reason in found.values()} == {
        "the true video cannot be read: damaged, or not a media file"
    }
    assert set(figures(engine("compare").failed(one, "killed")).values()) == {(None, "killed")}


@pytest.mark.parametrize("regions", [("full",), ("full", "face")], ids=["beside the rows", "before them"])
def test_a_truth_that_breaks_off_is_the_reason_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, regions: tuple[str, ...]
) -> None:
    def broken(take: Take) -> Iterator[np.ndarray]:
        yield from drifting(6, HEIGHT, WIDTH)
        raise ClipError("video", "damaged after a while")

    one = job(tmp_path)
    monkeypatch.setattr("bench.eval.truth.take_frames", broken)
    found = figures(engine("compare", regions=regions).score(one))
    assert set(found.values()) == {(None, "the true video cannot be read: damaged after a while")}
    assert all(meter.closed for meter in Seen.log)


def test_a_candidate_with_a_problem_is_not_opened(tmp_path: Path, decoded: Counter[str]) -> None:
    one = job(tmp_path, {"a": N})
    broken = Candidate("gone", problem="no such file")
    found = figures(engine("compare").score(replace(one, candidates=(*one.candidates, broken))))
    assert found["gone", "compare", "full"] == (None, "no such file")
    assert decoded == {"truth": N, "a": N}


def test_previews_are_of_the_truth_and_of_every_method(tmp_path: Path) -> None:
    rows = [row for row in engine("compare").score(job(tmp_path)) if row.kind == "preview"]
    places = sorted({int(N * share) for share in (1 / 6, 1 / 2, 5 / 6)})
    assert sorted((row.method, row.frame) for row in rows) == [
        (method, place) for method in ("a", "b", "truth") for place in places
    ]
