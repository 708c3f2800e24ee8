"""Predictions in other colours than they say: BT.709 truths, files without tags, and OpenCV's own way of reading."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from bench.clips.inputs import from_folders, with_trivial
from bench.clips.job import Job
from bench.common.errors import BenchError
from bench.eval import evaluate
from bench.eval.decoding import decoded
from bench.eval.explain import explain
from bench.results import Result, read_result
from prep import video_reading
from prep.errors import PrepError
from prep.pixels import Colour
from tests.prep.opencv_reader import opencv_frames

SIZE, FRAMES = 96, 8
BT709 = Colour("bt709", 1, 1)


def _pictures(seed: int) -> list[np.ndarray]:
    """Saturated colours that change slowly from place to place, and a square in the middle that moves."""
    rng = np.random.default_rng(seed)
    base = cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    frames = []
    for i in range(FRAMES):
        frame = base.copy()
        frame[40:56, 36 + i : 52 + i] = (200, 40, 60)
        frames.append(frame)
    return frames


def _write(path: Path, frames: Iterable[np.ndarray], matrix: str, tagged: bool) -> Path:
    """Coded without loss in 4:4:4, converted by a matrix, with or without its tag."""
    from prep.conversion import Painter

    path.parent.mkdir(parents=True, exist_ok=True)
    paint = Painter("yuv444p", Colour(matrix))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv444p"
        if tagged:
            stream.codec_context.colorspace = {"bt709": 1, "bt601": 6}[matrix]
        for number, rgb in enumerate(frames):
            frame = paint(rgb)
            frame.colorspace = {"bt709": 1, "bt601": 6}[matrix] if tagged else 2
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    info = video_reading.probe(path)
    assert info.matrix_tagged is tagged and (not tagged or info.matrix == matrix)
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    for i in range(4):
        _write(tmp_path / "truth" / f"{i}.mkv", _pictures(i), "bt709", tagged=True)
    return tmp_path / "truth"


def _by_opencv(truth: Path, out: Path) -> Path:
    """A method that does nothing, as official code does it: frames read by OpenCV, untagged files of BT.601."""
    for path in sorted(truth.iterdir()):
        frames = opencv_frames(path, out.parent / "untagged")
        assert len(frames) == FRAMES
        _write(out / path.name, frames, "bt601", tagged=False)
    return out


def _by_tag(truth: Path, out: Path, tagged: bool) -> Path:
    """A method that does nothing, and reads by the tag."""
    for path in sorted(truth.iterdir()):
        _write(out / path.name, video_reading.frames(path), "bt601", tagged=tagged)
    return out


def _psnr(predictions: dict[str, Path], truth: Path, out: Path, **options: Any) -> Result:
    return evaluate(predictions, truth=truth, out=out, metrics=["psnr"], regions=["full"], **options)


def _value(result: Result, method: str) -> float:
    figure = result.figure(method, "psnr.frame", "full")
    assert figure is not None and figure.value is not None
    return figure.value


def test_untagged_videos_are_decoded_by_the_matrix_that_agrees_with_the_truth(
    truth: Path, tmp_path: Path
) -> None:
    methods = {
        "opencv": _by_opencv(truth, tmp_path / "a"),
        "rightly": _by_tag(truth, tmp_path / "b", tagged=False),
        "tagged": _by_tag(truth, tmp_path / "c", tagged=True),
    }
    notes: list[str] = []
    auto = _psnr(methods, truth, tmp_path / "auto", on_note=notes.append)
    by_tag = _psnr(methods, truth, tmp_path / "tagged", matrix="tagged")
    assert _value(auto, "opencv") > _value(by_tag, "opencv") + 5
    assert _value(auto, "rightly") == _value(by_tag, "rightly") > 40
    assert _value(auto, "tagged") == _value(by_tag, "tagged") > 40

    choices = {m.method: m.untagged for m in read_result(tmp_path / "auto").methods}
    assert choices["opencv"] is not None and choices["rightly"] is not None and choices["tagged"] is None
    assert (choices["opencv"].matrix, choices["opencv"].truth, choices["opencv"].clips) == (
        "bt709",
        "bt709",
        3,
    )
    assert choices["opencv"].as_truth > choices["opencv"].by_rule + 5
    assert choices["rightly"].matrix == "bt601"
    assert len(notes) == 2 and "untagged videos of opencv are decoded by BT.709" in notes[0]
    assert json.loads((tmp_path / "auto" / "evaluation.json").read_text())["untagged"] == {
        "opencv": "bt709",
        "rightly": "bt601",
    }
    assert all(m.untagged is None for m in by_tag.methods)


def test_by_bt601_and_by_opencv_the_truth_is_decoded_alike(truth: Path, tmp_path: Path) -> None:
    methods = {"opencv": _by_opencv(truth, tmp_path / "a")}
    by_tag = _psnr(methods, truth, tmp_path / "tagged", matrix="tagged")
    bt601 = _psnr(methods, truth, tmp_path / "bt601", matrix="bt601")
    opencv = _psnr(methods, truth, tmp_path / "opencv", pixels="opencv")
    assert min(_value(bt601, "opencv"), _value(opencv, "opencv")) > _value(by_tag, "opencv") + 5
    assert (opencv.pixels, opencv.matrix, opencv.methods[0].untagged) == ("opencv", "auto", None)


def test_the_truth_coded_like_a_prediction_has_its_matrix(truth: Path, tmp_path: Path) -> None:
    methods = {"opencv": _by_opencv(truth, tmp_path / "a")}
    for options in ({}, {"matrix": "bt601"}, {"pixels": "opencv"}):
        out = tmp_path / "-".join(["out", *options.values()])
        result = _psnr(methods, truth, out, with_trivial=True, **options)
        assert _value(result, "reencoded") > 40


def test_the_choice_is_the_same_in_any_order_and_with_any_number_of_processes(
    truth: Path, tmp_path: Path
) -> None:
    a, b = _by_opencv(truth, tmp_path / "a"), _by_tag(truth, tmp_path / "b", tagged=False)
    one = _psnr({"a": a, "b": b}, truth, tmp_path / "one")
    other = _psnr({"b": b, "a": a}, truth, tmp_path / "other")
    for method in ("a", "b"):
        mine, yours = one.method(method), other.method(method)
        assert mine is not None and yours is not None
        assert mine.untagged == yours.untagged and _value(one, method) == _value(other, method)


def test_a_grey_background_and_a_darkened_picture_do_not_mislead(tmp_path: Path) -> None:
    frames = _pictures(0)
    for frame in frames:
        for edge in (frame[:16], frame[-16:], frame[:, :16], frame[:, -16:]):
            edge[:] = (128, 127, 126)
    truth = tmp_path / "truth"
    _write(truth / "a.mkv", [frame // 6 + 100 for frame in frames], "bt709", tagged=True)
    darker = np.array([4, 3, 5], np.uint8)
    as_bt601 = [f - darker for f in video_reading.frames(truth / "a.mkv", matrix="bt601")]
    by_tag = [f - darker for f in video_reading.frames(truth / "a.mkv")]
    methods = {
        name: _write(tmp_path / name / "a.mkv", pictures, "bt601", tagged=False).parent
        for name, pictures in (("as_bt601", as_bt601), ("by_tag", by_tag))
    }
    result = _psnr(methods, truth, tmp_path / "out")
    assert [m.untagged.matrix for m in result.methods if m.untagged] == ["bt709", "bt601"]


def test_clips_that_cannot_be_compared_decide_nothing(truth: Path, tmp_path: Path) -> None:
    pred = _by_opencv(truth, tmp_path / "a")
    (pred / "0.mkv").write_bytes(b"not a video")
    (truth / "1.mkv").write_bytes(b"not a video")
    result = _psnr({"mine": pred}, truth, tmp_path / "out")
    choice = result.methods[0].untagged
    assert choice is not None and (choice.matrix, choice.clips) == ("bt709", 2)


def test_other_pixels_or_another_matrix_are_another_evaluation(truth: Path, tmp_path: Path) -> None:
    pred = _by_opencv(truth, tmp_path / "a")
    first = _psnr({"mine": pred}, truth, tmp_path / "out")
    assert _psnr({"mine": pred}, truth, tmp_path / "out", pixels="exact") == first
    with pytest.raises(BenchError, match=r"holds another evaluation \(other pixels, untagged\)"):
        _psnr({"mine": pred}, truth, tmp_path / "out", pixels="opencv")
    with pytest.raises(BenchError, match=r"holds another evaluation \(other matrix, untagged\)"):
        _psnr({"mine": pred}, truth, tmp_path / "out", matrix="bt601")
    other = _psnr({"mine": pred}, truth, tmp_path / "other", pixels="opencv")
    assert first.differences(other) == ["pixels: exact and opencv"]


def test_explain_weighs_the_ways_of_decoding(truth: Path, tmp_path: Path) -> None:
    methods = {"mine": _by_opencv(truth, tmp_path / "a")}
    found = explain("psnr", methods, truth=truth, regions=["full"]).decodings
    values = {(entry.pixels, entry.matrix): entry.value or 0 for entry in found}
    assert list(values) == [("exact", "auto"), ("exact", "tagged"), ("exact", "bt601"), ("opencv", "")]
    assert values["exact", "auto"] > values["exact", "tagged"] + 5
    assert explain("mse", methods, truth=truth, regions=["full"]).decodings == []


def test_unknown_and_empty_choices_are_one_line(truth: Path, tmp_path: Path) -> None:
    for options, message in (
        ({"pixels": "opncv"}, "unknown pixels 'opncv': did you mean opencv"),
        ({"matrix": "bt602"}, "unknown matrix 'bt602': did you mean bt601"),
        ({"metrics": []}, "no metric is named"),
        ({"regions": []}, "no region is named"),
    ):
        with pytest.raises((BenchError, PrepError), match=message):
            evaluate({"mine": truth}, truth=truth, out=tmp_path / "out", **options)  # type: ignore[arg-type]


def test_opencv_has_no_matrix_to_choose(truth: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"--pixels opencv decodes everything by BT\.601"):
        _psnr({"mine": truth}, truth, tmp_path / "out", pixels="opencv", matrix="tagged")


def test_landmarks_of_a_data_set_hold_for_its_own_pixels_only(truth: Path, tmp_path: Path) -> None:
    inputs = with_trivial(from_folders({}, truth), ["ground_truth"])
    shard = (tmp_path / "shard.parquet", 0)
    stored = [Job(job.clip_id, job.truth, shard=shard, candidates=job.candidates) for job in inputs.jobs]
    inputs = replace(inputs, jobs=stored, pixels="exact")
    assert all(job.shard == shard for job in decoded(inputs, "exact", "auto").jobs)
    assert all(job.shard is None for job in decoded(inputs, "exact", "bt601").jobs)
    other = decoded(inputs, "opencv", "auto").jobs
    assert all(job.shard is None and job.truth.pixels == "opencv" for job in other)  # type: ignore[union-attr]
