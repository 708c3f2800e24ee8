"""Lip sync by the fitted linear judge: known truths, plain loops, and what a run must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from baselines.sync_cca.features import LIPS, RIGID, rigid_shape
from baselines.sync_judges import Windows
from bench.cli.app import app
from bench.clips.inputs import from_folders, with_trivial
from bench.common.errors import BenchError, Unavailable, Unscorable
from bench.eval import EvalOptions, evaluate_inputs, short_coverage
from bench.eval.faces import Wanted
from bench.metrics import DEFAULT, get_spec
from bench.metrics.base import Batch, ClipInfo, Context, Pictures, Score
from bench.metrics.cca_file import find_cca, load_cca
from bench.metrics.sync_cca import SyncCca, variate_correlation
from bench.report.tables import build_table
from bench.results import Result
from bench.train.checkpoint import Checkpoints
from bench.train.config import RunConfig, SoundConfig, load_config
from bench.weights.digests import file_sha256
from bench.weights.store import WeightStore
from prep.sound.mel import melspectrogram
from prep.video_writing import write_video

STORE = WeightStore({}, [])
N = 200
ROWS = ("ground_truth", "still", "wrong_audio")
DATA = {"name": "made", "manifest_sha256": "ab" * 32}


def opening(n: int = N, seed: int = 0) -> np.ndarray:
    """How far the mouth is open, 0 to 1, with the rhythm of syllables."""
    noise = np.random.default_rng(seed).standard_normal(n + 12)
    smooth = np.convolve(noise, np.hanning(7) / np.hanning(7).sum(), "same")[6 : 6 + n]
    return 1 / (1 + np.exp(-4 * smooth))


def face(mouth: np.ndarray, move: bool = True) -> np.ndarray:
    """(T, 478, 3) landmarks of a head that drifts and turns, with a lower lip at ``mouth``."""
    points = np.random.default_rng(9).uniform([-30, -40], [30, 40], (478, 2))
    points[33], points[263] = (-20, -15), (20, -15)
    points = np.tile(points, (len(mouth), 1, 1))
    points[:, 17, 1] += 12 * mouth
    if move:
        angle = 0.1 * np.sin(np.arange(len(mouth)) / 20)
        turn = np.stack([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = np.einsum("abt,tpb->tpa", turn * (1 + angle), points)
        points[:, :, 0] += 30 + np.arange(len(mouth))[:, None] / 10
    return np.concatenate([points + 50, np.zeros((*points.shape[:2], 1))], axis=2).astype(np.float32)


def sound(mouth: np.ndarray, seed: int = 0) -> np.ndarray:
    """Noise that is loud where the mouth is open."""
    noise = np.random.default_rng(seed).standard_normal(640 * len(mouth))
    level = np.interp(np.arange(len(noise)), 640 * np.arange(len(mouth)) + 320, mouth)
    return (300 * 10**level * noise).clip(-32768, 32767).astype(np.int16)


def make_run(folder: Path, strength: float = 0.9, data: Sequence[dict[str, str]] = (DATA,)) -> Path:
    """A run of sync-cca whose one pair of variates is the lower lip and the loudness."""
    plain = ("dimensions=2", "sound_lag=0", "standardise=false")
    config = load_config("sync-cca", "tiny", [f"fit.recipe.{word}" for word in plain], (), folder)
    judge = config.method_config.fit.build()
    recipe, mouth = judge.recipe, opening(1000, seed=77)
    points = face(mouth)
    judge.shape.numpy()[:] = rigid_shape(points, 2)
    lip = 2 * len(LIPS) * recipe.lip_context + 2 * list(LIPS).index(17) + 1
    judge.lip_basis.numpy()[lip, 0] = 1
    middle = np.arange(80 * (recipe.sound_columns // 2 - 1), 80 * (recipe.sound_columns // 2 + 2))
    judge.sound_basis.numpy()[middle, 0] = 1
    judge.canonical.numpy()[0] = strength
    judge.lip_basis.numpy()[:] /= judge.variates_seen(points)[:, 0].std()
    judge.sound_basis.numpy()[:] /= judge.variates_heard(melspectrogram(sound(mouth)), 1000)[:, 0].std()
    Checkpoints(folder / "fit" / "checkpoints").save(
        "step-00000001",
        {"judge": judge.state_dict()},
        {},
        {"complete": True, "step": 1, "best": {}},
        best=True,
        about={"method": "sync-cca", "data": list(data)},
    )
    config.save(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "sync-cca")


@pytest.fixture(scope="module")
def metric(run: Path) -> SyncCca:
    return SyncCca(Context(STORE, sync_cca=find_cca(run)))


def score(
    metric: SyncCca, points: np.ndarray, audio: np.ndarray | None, sizes: Sequence[int] = (16,)
) -> Score:
    """Feed landmarks in batches of these sizes, in turn."""
    n = len(points)
    meter = metric.meter(ClipInfo("clip", n, 100, 100, "clip", audio))
    start = step = 0
    while start < n:
        stop = min(n, start + sizes[step % len(sizes)])
        frames = np.zeros((stop - start, 2, 2, 3), np.uint8)
        meter.update(Batch(start, Pictures(frames, points[start:stop]), None))
        start, step = stop, step + 1
    return meter.finish()


@pytest.mark.parametrize("late", [-7, -3, 0, 1, 7])
def test_a_known_offset_is_found(metric: SyncCca, late: int) -> None:
    """The picture comes ``late`` frames after the sound that belongs to it."""
    mouth = opening(N + 40)
    found = score(metric, face(mouth[20 - late : 20 - late + N]), sound(mouth[20 : 20 + N]))
    assert found.values["offset"] == late and found.values["abs_offset"] == abs(late)
    assert found.values["confidence"] > 0.1 and not found.undecided


def test_correlation_and_rank_fall_with_a_delay(metric: SyncCca) -> None:
    figures = []
    for late in (0, 1, 2, 3, 5):
        scored = []
        for seed in range(4):
            mouth = opening(N + 10, seed)
            scored.append(score(metric, face(mouth[5 : 5 + N]), sound(mouth[5 + late : 5 + late + N])).values)
        figures.append({key: np.mean([one[key] for one in scored]) for key in ("corr", "rank", "confidence")})
    for key in ("corr", "rank"):
        values = [one[key] for one in figures]
        assert values == sorted(values, reverse=True), (key, values)
    assert figures[0]["corr"] > 0.9 and figures[0]["rank"] > 0.95
    assert figures[-1]["corr"] < 0.3 and figures[-1]["rank"] < 0.8
    # That of the best shift does not care about a delay.
    assert figures[-1]["confidence"] == pytest.approx(figures[0]["confidence"], rel=0.2)


def test_the_figures_are_those_of_plain_loops(metric: SyncCca) -> None:
    """One pair of variates: correlation, log-likelihood ratio and rank, from their formulas."""
    mouth, rho = opening(90), np.float64(np.float32(0.9))
    points, samples = face(mouth), sound(np.roll(mouth, 1))
    x = metric.judge.variates_seen(points)[:, 0].astype(np.float64)
    y = metric.judge.variates_heard(melspectrogram(samples), 90)[:, 0].astype(np.float64)
    ratio = [
        [(rho * a * b - 0.5 * rho**2 * (a * a + b * b)) / (1 - rho**2) - 0.5 * np.log(1 - rho**2) for b in y]
        for a in x
    ]
    windows, right, pairs = Windows(), 0.0, 0
    for start in range(0, 90 - windows.window + 1, windows.step):
        frames = range(start, start + windows.window)
        here = np.mean([ratio[t][t] for t in frames])
        for shift in range(-windows.furthest, windows.furthest + 1):
            if abs(shift) >= windows.nearest and start + shift >= 0 and frames[-1] + shift < 90:
                there = np.mean([ratio[t][t + shift] for t in frames])
                right, pairs = right + (here > there), pairs + 1
    found = score(metric, points, samples)
    assert found.values["corr"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-5)
    assert found.values["rank"] == pytest.approx(right / pairs)


def test_the_correlation_of_small_numbers() -> None:
    lips = np.array([[1, 0], [2, 0], [3, 1], [np.nan, 5]])
    sounds = np.array([[2, 1], [4, 1], [6, 0], [9, 9]])
    # The first pair has correlation 1, the second -1: (0.8² - 0.6²) / (0.8² + 0.6²).
    assert variate_correlation(lips, sounds, np.array([0.8, 0.6])) == pytest.approx(0.28)
    sounds[:, 1] = 3
    assert variate_correlation(lips, sounds, np.array([0.8, 0.6])) == pytest.approx(0.64)
    assert np.isnan(variate_correlation(lips, sounds, np.zeros(2)))
    assert np.isnan(variate_correlation(lips[:1], sounds[:1], np.ones(2)))


@pytest.mark.parametrize("sizes", [(1,), (7, 2, 31), (N,)])
def test_the_sizes_of_batches_do_not_matter(metric: SyncCca, sizes: Sequence[int]) -> None:
    points, samples = face(opening()), sound(opening())
    assert score(metric, points, samples, sizes).values == score(metric, points, samples).values


def test_wrong_sound_is_told(metric: SyncCca) -> None:
    wrong = [score(metric, face(opening(seed=i)), sound(opening(seed=50 + i))) for i in range(6)]
    assert abs(np.mean([one.values["corr"] for one in wrong])) < 0.15
    assert 0.35 < np.mean([one.values["rank"] for one in wrong]) < 0.65
    assert sum("offset" in one.undecided for one in wrong) >= 5


def test_still_lips_and_silence_have_no_offset(metric: SyncCca) -> None:
    still = score(metric, face(np.full(N, 0.5), move=False), sound(opening()))
    assert still.undecided == dict.fromkeys(("offset", "abs_offset"), "the lips do not move")
    assert (still.values["corr"], still.values["confidence"]) == (0, 0)
    assert not {"offset", "abs_offset"} & set(still.values)
    silence = score(metric, face(opening()), np.zeros(640 * N, np.int16))
    assert silence.undecided["offset"] == "the sound does not change"
    assert (silence.values["corr"], silence.values["confidence"]) == (0, 0)
    assert silence.undecided["rank"].startswith("no 25 frames with lips and speech")


def test_a_head_that_moves_says_nothing(metric: SyncCca) -> None:
    """The lower lip stands still in a head that drifts and turns."""
    found = score(metric, face(np.full(N, 0.5)), sound(opening()))
    assert "offset" in found.undecided and found.values["confidence"] < 0.01


def test_frames_without_a_face_are_left_out(metric: SyncCca) -> None:
    points, samples = face(opening()), sound(opening())
    points[90:110] = np.nan
    found = score(metric, points, samples)
    assert found.values["offset"] == 0 and found.values["corr"] > 0.9
    series = found.series["rank"]
    assert np.isnan(series[90:110]).all() and np.isfinite(series[:85]).all() and series.dtype == np.float32
    assert found.values["rank"] > 0.9
    points[20:150] = np.nan
    with pytest.raises(Unscorable, match="a face in 70 of 200 frames"):
        score(metric, points, samples)


def test_the_shorter_of_picture_and_sound_counts(metric: SyncCca) -> None:
    points, samples = face(opening()), sound(opening())
    longer = np.concatenate([samples, samples])
    # The mean of each band is over the whole sound, so that figures move a little.
    assert score(metric, points, longer).values["offset"] == 0
    half = score(metric, points, samples[: 640 * 100])
    assert half.values["offset"] == 0 and np.isnan(half.series["rank"][100:]).all()
    with pytest.raises(Unscorable, match="the sound is shorter than a frame"):
        score(metric, points, samples[:639])


def test_what_cannot_be_scored_says_why(metric: SyncCca) -> None:
    with pytest.raises(Unscorable, match="no audio track"):
        score(metric, face(opening()), None)
    meter = metric.meter(ClipInfo("clip", 3, 2, 2, "clip", sound(opening())))
    with pytest.raises(Unscorable, match="no landmarks"):
        meter.update(Batch(0, Pictures(np.zeros((3, 2, 2, 3), np.uint8)), None))


def test_short_clips_have_no_rank_and_no_offset(metric: SyncCca) -> None:
    found = score(metric, face(opening(26)), sound(opening(26)))
    assert found.undecided["offset"] == "too short"
    assert found.undecided["rank"] == "no 25 frames with lips and speech, and wrong sound for them"
    assert found.values["corr"] > 0.5


def test_it_hears_with_the_padding_of_its_training(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    plain = SyncCca(Context(STORE, sync_cca=find_cca(run)))
    RunConfig.load(run).model_copy(update={"sound": SoundConfig(mel_padding="reflect")}).save(run)
    other = SyncCca(Context(STORE, sync_cca=find_cca(run)))
    assert other.digests() == {**plain.digests(), "mel padding": "reflect"}
    mouth = np.ones(40)
    mouth[20:] = opening(20)
    one, two = (score(metric, face(opening(40)), sound(mouth)).values["corr"] for metric in (plain, other))
    assert one != two


def test_the_digests_name_the_training_data(run: Path, metric: SyncCca, tmp_path: Path) -> None:
    (file,) = run.glob("fit/checkpoints/*/judge.safetensors")
    assert metric.digests() == {"sync-cca": file_sha256(file), "fitted on made": "ab" * 32}
    unnamed = make_run(tmp_path / "unnamed", data=())
    assert list(SyncCca(Context(STORE, sync_cca=find_cca(unnamed))).digests()) == ["sync-cca"]


def test_no_judge_no_figure() -> None:
    with pytest.raises(Unavailable, match="no fitted judge of lip sync is named") as error:
        SyncCca(Context(STORE))
    assert "bench train sync-cca" in error.value.remedy and "--sync-cca runs/sync-cca" in error.value.remedy


def test_what_is_no_such_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="is not a training run"):
        find_cca(tmp_path)
    other = tmp_path / "expert"
    other.mkdir()
    load_config("sync-expert", "tiny", (), (), other).save(other)
    with pytest.raises(BenchError, match="is a run of sync-expert, not of sync-cca: name one of that"):
        find_cca(other)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    load_config("sync-cca", "tiny", (), (), unfinished).save(unfinished)
    with pytest.raises(BenchError, match=r"has no checkpoint of the judge: finish it: bench train sync-cca"):
        find_cca(unfinished)
    # A fit that was stopped keeps sums, but no judge.
    Checkpoints(unfinished / "fit" / "checkpoints").save("step-00000001", {}, {}, {"complete": False})
    with pytest.raises(BenchError, match="has no checkpoint of the judge"):
        find_cca(unfinished)
    damaged = make_run(tmp_path / "damaged")
    (file,) = damaged.glob("fit/checkpoints/*/judge.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BenchError, match=r"judge\.safetensors: not readable"):
        find_cca(damaged)


def test_a_judge_that_is_replaced_meanwhile_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    found = find_cca(run)
    make_run(run, strength=0.5)
    with pytest.raises(BenchError, match="was replaced meanwhile"):
        load_cca(found)


def test_its_names_are_its_own() -> None:
    mine = get_spec("sync.cca")
    others = {o.label for name in ("lse.lrs", "lse.expert") for o in get_spec(name).outputs}
    labels = {o.label for o in mine.outputs}
    assert not labels & others and not any("LSE" in label for label in labels)
    assert "sync.cca" in DEFAULT and not mine.paired


class _Faces:
    """A detector that knows the face of each picture by its brightness."""

    def __init__(self, detector: str, device: str) -> None:
        pass

    def of_truth(self, frames) -> np.ndarray:
        return face(np.array([(frame.mean() - 40) / 160 for frame in frames]), move=False)

    def of_predictions(self, wanted: Sequence[Wanted]) -> list[np.ndarray]:
        return [self.of_truth(one.frames) for one in wanted]


def film(mouth: np.ndarray) -> list[np.ndarray]:
    return [np.full((96, 96, 3), round(40 + 160 * m), np.uint8) for m in mouth]


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("bench.eval.engine.Faces", _Faces)
    for name in ("truth", "late"):
        (tmp_path / name).mkdir()
        for i in range(3):
            mouth = opening(120 + 5 * i, seed=i)
            frames = film(mouth if name == "truth" else np.roll(mouth, 2))
            write_video(tmp_path / name / f"clip{i}.mp4", frames, samples=sound(mouth, seed=i))
    return tmp_path


def judged(videos: Path, out: str, run: Path | None, protocol: str = "reconstruction") -> Result:
    inputs = from_folders({"late": videos / "late"}, videos / "truth")
    options = EvalOptions(("psnr.frame", "sync.cca"), regions=("full",), sync_cca=run)
    rows = ROWS if protocol == "reconstruction" else ()
    return evaluate_inputs(
        replace(with_trivial(inputs, rows), protocol=protocol), videos / out, options, STORE
    )


def test_a_result_has_its_figures_and_digests(videos: Path, run: Path) -> None:
    result = judged(videos, "out", run)
    info = next(m for m in result.metrics if m.name == "sync.cca")
    assert info.weights == {"sync-cca": find_cca(run).sha256, "fitted on made": "ab" * 32}
    found = {
        (row, key): result.figure(row, f"sync.cca.{key}", "clip")
        for row in ("late", *ROWS)
        for key in ("corr", "rank", "confidence", "offset", "abs_offset")
    }
    assert found["ground_truth", "offset"].value == 0 and found["late", "offset"].value == 2
    assert found["ground_truth", "corr"].value > found["late", "corr"].value + 0.2
    assert found["still", "corr"].value == found["still", "confidence"].value == 0
    still = found["still", "abs_offset"]
    assert (still.value, still.scored, still.asked, still.missing) == (None, 0, 3, 0)
    assert still.failures == {"undecidable: the lips do not move": 3}
    # What cannot be decided is no failure of a clip.
    assert short_coverage(result) == []
    (block,) = build_table("default", [result]).blocks
    assert [c.label for c in block.columns] == ["PSNR", "CCA correlation", "CCA rank", "CCA |offset|"]
    assert any(
        "sync-cca" in note and "fitted on made abababababab" in note and "sync.cca" in note
        for note in block.notes
    )
    other = judged(videos, "other", make_run(videos / "another", strength=0.5))
    assert result.differences(other) == ["sync.cca: another specification or other weights"]
    with pytest.raises(BenchError, match="holds another evaluation"):
        judged(videos, "out", videos / "another")


def test_dubbed_videos_are_judged_too(videos: Path, run: Path) -> None:
    result = judged(videos, "dubbed", run, "dubbing")
    assert [m.metric for m in result.missing] == ["psnr.frame"]
    assert result.figure("late", "sync.cca.offset", "clip").value == 2


def test_videos_without_a_truth_are_judged_too(videos: Path, run: Path) -> None:
    inputs = from_folders({"late": videos / "late"}, None)
    options = EvalOptions(("sync.cca",), regions=("full",), sync_cca=run)
    result = evaluate_inputs(inputs, videos / "alone", options, STORE)
    assert result.figure("late", "sync.cca.offset", "clip").value == 2


def test_without_a_judge_it_is_not_available(videos: Path) -> None:
    result = judged(videos, "out", None)
    (missing,) = result.missing
    assert missing.metric == "sync.cca" and "--sync-cca" in missing.remedy


def test_bad_runs_are_one_line_of_the_command(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "ipl"
    other.mkdir()
    load_config("ipl", "tiny", (), (), other).save(other)
    words = ["eval", str(videos / "late"), "--truth", str(videos / "truth"), "--out", str(tmp_path / "o")]
    with pytest.raises(BenchError, match="is a run of ipl, not of sync-cca"):
        app([*words, "--metrics", "sync.cca", "--sync-cca", str(other)], standalone_mode=False)


def test_the_points_that_must_not_move_are_not_lips() -> None:
    """The faces of this file rest on it."""
    assert not set(RIGID) & set(LIPS) and 17 in LIPS
