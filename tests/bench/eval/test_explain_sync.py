"""Sync judges compared: what they say of videos whose offset is known, and what stands beside their figures."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from baselines.sync_judges.offset import Offset
from bench.cli.app import app
from bench.common.errors import BenchError
from bench.eval import explain_sync as comparing
from bench.eval.explain_sync import Opinion, SyncExplanation, explain_sync, kendall, spearman
from bench.eval.judging import Embedded, Judged, judged_alike
from bench.metrics.sync_judges import FoundJudge, PictureExpert, PointJudge, SyncJudge
from bench.results import Figure
from bench.train.config import load_config
from prep.video_writing import write_video
from tests.bench.metrics import test_sync_cca
from tests.bench.metrics.test_lse_expert import HandMade, face, film, make_run, pattern, sound

N, CLIPS = 160, 3
LATE = {"late_1": 1, "late_2": 2, "late_3": 3, "late_5": 5}


class Mouths:
    """A judge of landmarks: the first point's height says whether the mouth is open."""

    def see(self, points: np.ndarray) -> np.ndarray:
        return _signs(points[:, 0, 1] > 50)

    def hear(self, mel: np.ndarray, n_frames: int) -> np.ndarray:
        middle = ((np.arange(n_frames) + 0.5) * 3.2).astype(int)
        return _signs(mel.mean(axis=1)[middle] > 0)


def _signs(code: np.ndarray) -> np.ndarray:
    return np.where(code, 1.0, -1.0).astype(np.float32)[:, None]


class Faces:
    """A detector whose first point tells a bright frame from a dark one."""

    def __init__(self, detector: str, device: str) -> None:
        pass

    def of_truth(self, frames) -> np.ndarray:
        return np.concatenate([_found(frame) for frame in frames])

    def of_predictions(self, wanted) -> list[np.ndarray]:
        return [self.of_truth(one.frames) for one in wanted]


def _found(frame: np.ndarray) -> np.ndarray:
    points = face(1)
    points[0, 0, 1] = 60 if frame.mean() > 125 else 40
    return points


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """True videos, and those of a method whose pictures are one frame late."""
    folder = tmp_path_factory.mktemp("videos")
    for name, late in (("truth", 0), ("mine", 1)):
        (folder / name).mkdir()
        for i in range(CLIPS):
            code = pattern(N, seed=i)
            write_video(
                folder / name / f"clip{i}.mp4", list(film(np.roll(code, late))), samples=sound(code, seed=i)
            )
    return folder


@pytest.fixture
def videos(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, where detector and judges know a bright frame from a dark one."""
    monkeypatch.setattr("bench.eval.engine.Faces", Faces)
    monkeypatch.setattr(comparing, "build_judge", _load)
    return folders


def _load(file: FoundJudge, context: object) -> SyncJudge:
    kind, network = (
        (PictureExpert, HandMade()) if file.facts.kind == "picture expert" else (PointJudge, Mouths())
    )
    return kind(file.facts, network, "constant")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "sync-expert")


def compared(videos: Path, *runs: Path, **options: object) -> SyncExplanation:
    return explain_sync(
        {"mine": videos / "mine"},
        truth=videos / "truth",
        sync_expert=runs,
        weights_dir=videos / "none",
        **options,
    )


def figure(shown: SyncExplanation, judge: str, method: str, output: str) -> Figure:
    (row,) = [row for row in shown.rows if (row.judge, row.method) == (judge, method)]
    (found,) = [figure for figure in row.figures if figure.output == output]
    return found


@pytest.fixture(scope="module")
def shown(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> SyncExplanation:
    """A judge of pictures and one of landmarks, which are detected in each video; both know the same."""
    runs = tmp_path_factory.mktemp("runs")
    cca = test_sync_cca.make_run(runs / "sync-cca")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.eval.engine.Faces", Faces)
        patch.setattr(comparing, "build_judge", _load)
        return compared(folders, make_run(runs / "sync-expert"), sync_cca=[cca], with_trivial=True)


@pytest.mark.parametrize("judge", ["picture expert", "CCA"])
def test_known_offsets_are_found(shown: SyncExplanation, judge: str) -> None:
    rows = [row.method for row in shown.rows if row.judge == judge]
    assert rows == ["mine", "ground_truth", *LATE, "wrong_audio", "still"]

    def value(method: str, output: str) -> float | None:
        return figure(shown, judge, method, output).value

    for length in (12, 25, 50, 100):
        assert value("ground_truth", f"above.{length}") > 0.999
        assert value("ground_truth", f"within.{length}") == 1
        assert value("mine", f"within.{length}") == 1
        assert value("late_2", f"within.{length}") == 0
    for method, late in {"ground_truth": 0, "mine": 1, **LATE}.items():
        assert value(method, "offset") == value(method, "abs_offset") == late
        assert value(method, "decided") == 1
        assert value(method, "significance") > 8
    assert value("wrong_audio", "confidence") < value("ground_truth", "confidence") / 2
    assert 0.3 < value("wrong_audio", "above.25") < 0.7


@pytest.mark.parametrize("judge", ["picture expert", "CCA"])
def test_a_still_face_has_no_offset(shown: SyncExplanation, judge: str) -> None:
    offset = figure(shown, judge, "still", "offset")
    assert offset.value is None
    assert offset.failures == {"undecidable: the lips do not move": CLIPS}
    assert figure(shown, judge, "still", "decided").value == 0
    assert figure(shown, judge, "still", "confidence").value == 0
    # One frame more than can be found.
    assert figure(shown, judge, "still", "abs_offset").value == 16


def test_judges_agree_on_the_order_of_rows(shown: SyncExplanation) -> None:
    rows = [a for a in shown.agreement if (a.over, a.figure) == ("rows", "above.25")]
    assert [(a.judges, a.n) for a in rows] == [(("CCA", "picture expert"), 8)]
    assert 0.3 < rows[0].value <= 1


def test_two_judges_of_one_kind_are_told_apart_by_their_runs(videos: Path, run: Path) -> None:
    shown = compared(videos, run, make_run(run.parent / "twin"))
    assert [judge.name for judge in shown.judges] == ["picture expert sync-expert", "picture expert twin"]
    # Two rows and three clips are too few to be put in order.
    assert not shown.agreement


def test_the_order_of_clips_is_compared() -> None:
    """One judge against itself, and against one that sees things the other way round."""

    def opinion(judge: str, clip: int, confidence: float) -> Opinion:
        judged = Judged({}, {}, Offset(0, 1.0, confidence, 5.0))
        return Opinion(str(clip), "mine", judge, judged)

    rng = np.random.default_rng(0)
    confidences = rng.uniform(0, 1, 20)
    opinions = [
        opinion(judge, clip, factor * confidence)
        for judge, factor in (("a", 1), ("b", 3), ("c", -1))
        for clip, confidence in enumerate(confidences)
    ]
    found = {a.judges: a for a in comparing.agreement(opinions, ["a", "b", "c"], ["mine"], 0)}
    assert (found["a", "b"].value, found["a", "b"].low, found["a", "b"].n) == (1, pytest.approx(1), 20)
    assert found["a", "c"].value == pytest.approx(-1)
    assert {a.over for a in found.values()} == {"clips"}
    noise = [opinion("d", clip, rng.uniform()) for clip in range(20)]
    (noisy,) = comparing.agreement([*opinions, *noise], ["a", "d"], ["mine"], 0)
    assert noisy.low < 0 < noisy.high and noisy.low < noisy.value < noisy.high


def test_the_truth_alone_can_be_judged(videos: Path, run: Path) -> None:
    shown = explain_sync(truth=videos / "truth", sync_expert=[run], weights_dir=videos / "none", limit=2)
    assert [(row.method, row.figures[0].asked) for row in shown.rows] == [("ground_truth", 2)]


def test_everything_can_be_sent_to_other_processes(
    videos: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sent(tasks, build, work, killed, **options):
        tasks, build, work, killed = pickle.loads(pickle.dumps((tasks, build, work, killed)))
        engine = build()
        yield pickle.loads(pickle.dumps(work(tasks[0], engine)))
        yield from (killed(task, "no memory") for task in tasks[1:])

    here = compared(videos, run, limit=1)
    monkeypatch.setattr(comparing, "share", sent)
    there = compared(videos, run)
    for one, other in zip(here.rows, there.rows, strict=True):
        assert [f.value for f in one.figures] == [f.value for f in other.figures]
        assert all(f.failures["no memory"] == CLIPS - 1 for f in other.figures)


def test_what_is_printed(
    videos: Path, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (run / "provenance.json").write_text(
        json.dumps({"data": [{"path": "d", "name": "lrs2", "manifest_sha256": "0123456789abcdef"}]})
    )
    words = [
        "explain",
        "sync",
        str(videos / "mine"),
        "--truth",
        str(videos / "truth"),
        "--sync-expert",
        str(run),
    ]
    words += ["--weights-dir", str(videos / "none"), "--workers", "1", "--with-trivial", "--limit", "2"]
    assert not app(words, standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:4] == ["mine", "right", "above", "wrong"] for line in lines)
    assert any(line.split()[:6] == ["ground_truth", "within", "1", "frame", "4.0", "s"] for line in lines)
    assert any("picture expert: trained on lrs2 (manifest 0123456789ab)" in line for line in lines)
    assert any(line.startswith("n/a CCA: no run is named; bench train sync-cca") for line in lines)
    assert any(line.startswith("n/a SyncNet: ") and "bench weights" in line for line in lines)
    assert any("still: 2 × undecidable: the lips do not move" in line for line in lines)

    words.remove("--with-trivial")
    assert not app([*words, "--json"], standalone_mode=False)
    shown = SyncExplanation.model_validate_json(capsys.readouterr().out)
    assert shown.judges[0].training == [{"name": "lrs2", "manifest_sha256": "0123456789abcdef"}]
    assert figure(shown, "picture expert", "mine", "offset").value == 1


def test_wrong_uses_are_one_line(videos: Path, run: Path) -> None:
    with pytest.raises(BenchError, match="no sync judge is at hand: CCA: bench train sync-cca"):
        compared(videos)
    with pytest.raises(BenchError, match="2 runs would be called"):
        compared(videos, run, run)
    with pytest.raises(BenchError, match="uses the view mouth416x320, judges use landmarks or face96"):
        compared(videos, make_run(run.parent / "mouth", view="mouth416x320"))
    other = run.parent / "ipl"
    other.mkdir()
    load_config("ipl", "tiny", (), (), other).save(other)
    with pytest.raises(BenchError, match="is a run of ipl, not of sync-expert"):
        compared(videos, other)
    empty = run.parent / "empty"
    empty.mkdir()
    load_config("sync-expert", "tiny", (), (), empty).save(empty)
    with pytest.raises(
        BenchError, match="has no checkpoint of the expert: finish it: bench train sync-expert"
    ):
        compared(videos, empty)
    with pytest.raises(BenchError, match="none were given"):
        explain_sync({"mine": videos / "mine"}, sync_expert=[run], weights_dir=videos / "none")
    with pytest.raises(BenchError, match="--json is for `bench explain sync`"):
        app(["explain", "psnr", "x.mp4", "--json"], standalone_mode=False)
    with pytest.raises(BenchError, match="only `bench explain sync` compares several"):
        app(["explain", "lse", "--sync-expert", "a", "--sync-expert", "b"], standalone_mode=False)


@pytest.mark.parametrize(
    ("frames", "heard", "reason"), [(1, True, "1 frames, 5 are needed"), (N, False, "no audio track")]
)
def test_what_nobody_can_judge_is_one_line(
    frames: int, heard: bool, reason: str, videos: Path, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "truth").mkdir()
    code = pattern(N, seed=0)
    samples = sound(code, seed=0)[: frames * 640] if heard else None
    write_video(tmp_path / "truth" / "a.mp4", list(film(code))[:frames], samples=samples)
    with pytest.raises(BenchError, match=r"nothing can be judged \(.*" + reason) as raised:
        explain_sync(truth=tmp_path / "truth", sync_expert=[run], weights_dir=videos / "none")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("seed", range(5))
def test_coefficients_are_scipys(seed: int) -> None:
    from scipy import stats

    pair = np.random.default_rng(seed).integers(0, 6, (2, 12)).astype(float)
    assert spearman(pair) == pytest.approx(stats.spearmanr(*pair).statistic)
    assert kendall(pair) == pytest.approx(stats.kendalltau(*pair).statistic)
    assert np.isnan(spearman(np.array([[1.0, 1.0], [1.0, 2.0]])))
    assert np.isnan(kendall(np.array([[1.0, 1.0], [1.0, 2.0]])))


def test_all_judges_judge_the_same_frames() -> None:
    """One sees only a part of the clip: the other one's figures are of that part, too."""
    code = pattern(N)
    signs = np.where(code, 1.0, -1.0)[:, None]
    noisy = signs + np.random.default_rng(0).standard_normal((N, 1)) * 2
    late = np.concatenate([noisy[:80], np.roll(noisy[80:], 3, axis=0)])
    speech = np.ones(N, bool)
    whole = Embedded(late, signs, speech)
    part = Embedded(np.where(np.arange(N)[:, None] < 80, np.nan, late), signs[: N - 4], speech)
    (alone,) = judged_alike([whole])
    first, second = judged_alike([whole, part])
    assert first == second == judged_alike([part])[0] != alone
    assert second.offset.frames == 3
