"""Evaluations of small videos, with metrics whose figures can be told by heart."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from bench.clips.inputs import from_folders, with_trivial
from bench.clips.job import TRIVIAL
from bench.common.errors import BenchError
from bench.eval import EvalOptions, evaluate, evaluate_inputs, short_coverage
from bench.results import CLIPS, FRAMES, PREVIEWS, read_result
from bench.weights.store import WeightStore
from prep.errors import PrepError
from prep.video_writing import write_video
from tests.bench import fake_metrics
from tests.bench.fake_metrics import NAMES

ALL = ("fake.mean", "fake.set", "fake.loudness")


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.metrics.METRICS", NAMES)


def _video(
    path: Path, n: int = 12, level: int = 60, size: tuple[int, int] = (32, 48), sound: bool = True
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [np.full((*size, 3), level + i, np.uint8) for i in range(n)]
    rate = np.random.default_rng(level)
    samples = (rate.normal(size=640 * n) * 50 * level).clip(-32768, 32767).astype(np.int16)
    write_video(path, frames, samples=samples if sound else None)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    truth, pred = tmp_path / "truth", tmp_path / "pred"
    for i in range(3):
        _video(truth / f"clip {i}.mp4", level=40 + 20 * i)
        _video(pred / f"clip {i}.mp4", level=45 + 20 * i)
    return pred, truth


def _evaluate(folders, out, metrics=ALL, trivial=False, **changes):
    pred, truth = folders
    inputs = from_folders({"mine": pred}, truth)
    if trivial:
        inputs = with_trivial(inputs, TRIVIAL, 0)
    options = {"regions": ("full",), "batch": 5}
    call = {key: changes.pop(key) for key in ("workers", "overwrite", "on_progress") if key in changes}
    options = EvalOptions(metrics, **{**options, **changes})
    return evaluate_inputs(inputs, out, options, WeightStore({}, [out.parent]), **call)


def test_figures_rows_series_and_pictures(folders, tmp_path):
    result = _evaluate(folders, tmp_path / "out", trivial=True)
    # None of the metrics stands on detected landmarks, so there is no row of shifted frames.
    assert [m.method for m in result.methods] == ["mine", *(row for row in TRIVIAL if row != "shifted")]
    mine = result.figure("mine", "fake.mean", "full")
    assert mine.value == pytest.approx(5, abs=1.5) and (mine.asked, mine.scored) == (3, 3)
    assert result.figure("ground_truth", "fake.mean", "full").value == 0
    assert result.figure("ground_truth", "fake.set", "full").value == 0
    assert result.figure("mine", "fake.set", "full").value == pytest.approx(5, abs=1.5)
    assert result.figure("still", "fake.mean", "full").value == pytest.approx(5.5, abs=1.0)
    assert 0 <= result.figure("reencoded", "fake.mean", "full").value < 2
    own = result.figure("ground_truth", "fake.loudness", "full").value
    other = result.figure("wrong_audio", "fake.loudness", "full").value
    assert own == pytest.approx(other, rel=0.1)  # the same sounds, at other places
    rows = pd.read_parquet(tmp_path / "out" / CLIPS)
    assert len(rows) == 3 * 5 * 3 and set(rows["reason"]) == {""}
    series = pd.read_parquet(tmp_path / "out" / FRAMES)
    assert all(len(values) == 12 for values in series["values"])
    previews = pd.read_parquet(tmp_path / "out" / PREVIEWS)
    assert set(previews["method"]) == {"truth", "mine", "still", "reencoded"}
    assert previews["jpeg"][0][:2] == b"\xff\xd8"
    assert read_result(tmp_path / "out") == result


@pytest.mark.parametrize("changes", [{"batch": 1}, {"batch": 64}])
def test_batches_move_no_figure(folders, tmp_path, changes):
    one = _evaluate(folders, tmp_path / "one", trivial=True)
    other = _evaluate(folders, tmp_path / "other", trivial=True, **changes)
    for mine, theirs in zip(one.methods, other.methods, strict=True):
        for a, b in zip(mine.figures, theirs.figures, strict=True):
            assert a.value == pytest.approx(b.value, abs=1e-6)
            assert a.low == pytest.approx(b.low, abs=1e-6) if a.low is not None else b.low is None


def test_every_failure_is_a_row_and_the_rest_goes_on(folders, tmp_path):
    pred, truth = folders
    (pred / "clip 0.mp4").unlink()
    _video(pred / "clip 1.mp4", size=(48, 32))
    _video(truth / "longer.mp4", n=30)
    _video(pred / "longer.mp4", n=20)
    _video(truth / "mute.mp4")
    _video(pred / "mute.mp4", level=62, sound=False)
    _video(truth / "broken.mp4")
    (pred / "broken.mp4").write_bytes(b"not a video")
    result = _evaluate(folders, tmp_path / "out")
    figure = result.figure("mine", "fake.mean", "full")
    assert (figure.asked, figure.scored) == (6, 2)
    reasons = " | ".join(figure.failures)
    for words in (
        "no prediction",
        "32×48, the truth 48×32",
        "more than 2 frames longer or shorter",
        "cannot be read",
    ):
        assert words in reasons
    sound = result.figure("mine", "fake.loudness", "full")
    assert sound.scored == 1 and "no audio track" in sound.failures
    assert any("fake.mean in full: 2 of 6" in line for line in short_coverage(result))


def test_videos_without_a_truth_stay_in_the_result(folders, tmp_path):
    _, truth = folders
    (truth / "clip 0.mp4").unlink()
    result = _evaluate(folders, tmp_path / "out")
    assert (result.method("mine").videos, result.method("mine").unmatched) == (3, ["clip 0.mp4"])


def _odd_video(path: Path, n: int, height: int, width: int) -> None:
    """H.264 with full colour, which knows odd sizes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        for i in range(n):
            picture = np.full((height, width, 3), 60 + i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def test_the_column_that_makes_an_odd_size_even_is_not_scored(tmp_path):
    for name in ("truth", "pred"):
        (tmp_path / name).mkdir()
    _odd_video(tmp_path / "truth" / "odd.mp4", 8, 33, 47)
    write_video(tmp_path / "pred" / "odd.mp4", [np.full((33, 47, 3), 60 + i, np.uint8) for i in range(8)])
    _odd_video(tmp_path / "truth" / "other.mp4", 8, 33, 47)
    write_video(tmp_path / "pred" / "other.mp4", [np.full((34, 50, 3), 60 + i, np.uint8) for i in range(8)])
    figure = _evaluate((tmp_path / "pred", tmp_path / "truth"), tmp_path / "out").figure(
        "mine", "fake.mean", "full"
    )
    assert figure.scored == 1 and "50×34, the truth 47×33" in " ".join(figure.failures)


def test_two_frames_more_or_less_are_cut_and_recorded(folders, tmp_path):
    pred, _ = folders
    _video(pred / "clip 0.mp4", n=10, level=45)
    _video(pred / "clip 1.mp4", n=14, level=65)
    result = _evaluate(folders, tmp_path / "out")
    assert result.figure("mine", "fake.mean", "full").scored == 3
    rows = pd.read_parquet(tmp_path / "out" / CLIPS).query("metric == 'fake.mean'").set_index("clip_id")
    assert rows["frames"].tolist() == [10, 12, 12]
    assert rows["pred_frames"].tolist() == [10, 14, 12] and set(rows["truth_frames"]) == {12}


def test_missing_network_is_absent_with_its_command(folders, tmp_path):
    result = _evaluate(folders, tmp_path / "out", metrics=("fake.mean", "fake.absent"))
    assert [m.name for m in result.metrics] == ["fake.mean"]
    (missing,) = result.missing
    assert missing.remedy == "bench weights fetch fake"
    with pytest.raises(BenchError, match="weights fake are missing"):
        _evaluate(folders, tmp_path / "none", metrics=("fake.absent",))


def test_a_fault_of_a_metric_costs_only_itself(folders, tmp_path):
    result = _evaluate(folders, tmp_path / "out", metrics=("fake.mean", "fake.broken"))
    assert result.figure("mine", "fake.mean", "full").scored == 3
    broken = result.figure("mine", "fake.broken", "full")
    assert broken.value is None and "a fault of ours" in next(iter(broken.failures))


def test_interrupted_evaluation_goes_on(folders, tmp_path):
    whole = _evaluate(folders, tmp_path / "whole")
    seen = []

    def stop(step):
        seen.append(step)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _evaluate(folders, tmp_path / "out", on_progress=stop)
    parts = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "parts").iterdir()}
    assert len(parts) == 2 and not (tmp_path / "out" / "result.json").exists()
    steps = []
    result = _evaluate(folders, tmp_path / "out", on_progress=steps.append)
    assert [s.frames for s in steps] == [0, 0, 12]
    assert [m.figures for m in result.methods] == [m.figures for m in whole.methods]


def test_finished_folder_is_kept_and_another_evaluation_refused(folders, tmp_path):
    out = tmp_path / "out"
    first = _evaluate(folders, out)
    assert _evaluate(folders, out) == first
    with pytest.raises(BenchError, match=r"other .*seed.*--overwrite"):
        _evaluate(folders, out, seed=5)
    assert _evaluate(folders, out, seed=5, overwrite=True).provenance.seed == 5
    _video(folders[0] / "clip 0.mp4", level=90)
    with pytest.raises(BenchError, match="clips"):
        _evaluate(folders, out, seed=5)


def test_in_dubbing_the_sound_sets_the_length(folders, tmp_path):
    pred, truth = folders
    _video(pred / "clip 0.mp4", n=7, level=45)
    inputs = replace(from_folders({"mine": pred}, truth), protocol="dubbing")
    options = EvalOptions(("fake.mean", "fake.set", "fake.loudness"), regions=("full",))
    result = evaluate_inputs(inputs, tmp_path / "out", options, WeightStore({}, [tmp_path]))
    assert [m.metric for m in result.missing] == ["fake.mean", "fake.set"]
    assert result.figure("mine", "fake.loudness", "clip").scored == 3


def test_in_dubbing_what_needs_no_truth_sees_the_whole_prediction(folders, tmp_path, monkeypatch):
    pred, truth = folders
    _video(pred / "clip 0.mp4", n=29, level=45)
    _video(pred / "clip 1.mp4", n=7, level=65)
    unpaired = replace(fake_metrics.SetDifference.spec, paired=False)
    monkeypatch.setattr(fake_metrics.SetDifference, "spec", unpaired)
    inputs = from_folders({"mine": pred}, truth, protocol="dubbing")
    inputs = with_trivial(inputs, ("still", "wrong_audio"))
    options = EvalOptions(("fake.seen", "fake.set"), regions=("full",), batch=5)
    result = evaluate_inputs(inputs, tmp_path / "out", options, WeightStore({}, [tmp_path]))
    assert not short_coverage(result)
    rows = pd.read_parquet(tmp_path / "out" / CLIPS).set_index(["method", "metric", "clip_id"]).sort_index()
    seen, compared = (rows.loc["mine", metric]["frames"].tolist() for metric in ("fake.seen", "fake.set"))
    assert (seen, compared) == ([29, 7, 12], [12, 7, 12])
    assert rows.loc["mine", "fake.seen"]["value"].tolist() == [29, 7, 12]
    assert rows.loc["wrong_audio", "fake.seen"]["value"].tolist() == [12, 12, 12]


def test_without_truth_only_what_needs_none_is_scored(folders, tmp_path):
    inputs = from_folders({"mine": folders[0]}, None)
    options = EvalOptions(("fake.mean", "fake.loudness"), regions=("full",))
    result = evaluate_inputs(inputs, tmp_path / "out", options, WeightStore({}, [tmp_path]))
    assert [m.name for m in result.metrics] == ["fake.loudness"]
    assert result.missing[0].metric == "fake.mean" and "--truth" in result.missing[0].remedy


def test_result_survives_infinities_and_is_strict_json(folders, tmp_path):
    result = _evaluate(folders, tmp_path / "out")
    result.methods[0].figures[0].value = math.inf
    text = result.model_dump_json()
    json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert type(result).model_validate_json(text).methods[0].figures[0].value == math.inf


def test_the_library_scores_folders_and_is_light_to_import(folders, tmp_path):
    pred, truth = folders
    heard = []
    result = evaluate(
        {"mine": pred},
        truth=truth,
        out=tmp_path / "out",
        metrics=["fake.mean"],
        regions=["full"],
        limit=2,
        training_data="LRS2",
        device="cpu",
        on_inputs=lambda inputs: heard.append(len(inputs.jobs)),
        on_progress=lambda step: heard.append((step.clips, step.total)),
    )
    assert heard == [2, (1, 2), (1, 2)]
    assert (result.data.clips, result.method("mine").training_data) == (2, "LRS2")
    with pytest.raises(PrepError, match="unknown audio 'both'"):
        evaluate({"mine": pred}, truth=truth, out=tmp_path / "other", audio="both")
    code = "import bench.eval, sys; print([m for m in ('torch', 'cv2', 'pandas', 'pyarrow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_script_without_a_guard_scores_many_clips(tmp_path):
    """Worker processes would import the script again, and each would start an evaluation of its own."""
    for i in range(9):
        for folder in ("truth", "pred"):
            _video(tmp_path / folder / f"clip {i}.mp4", n=3, level=40 + i, sound=False)
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from bench.eval import evaluate\n"
        'options = {"metrics": ["mse"], "regions": ["full"], "device": "cpu"}\n'
        'result = evaluate({"mine": Path("pred")}, truth=Path("truth"), out=Path("out"), **options)\n'
        "print(result.data.clips)\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "9\n"), done.stderr
