"""Methods that paint a view: the truth and full frames are cut to it, so that all rows show the same pictures."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.cli.app import app
from bench.clips.inputs import from_dataset, from_folders, with_trivial
from bench.clips.inputs.declared import GENERATION
from bench.common.errors import BenchError
from bench.eval import evaluate
from bench.eval.faces import Wanted
from bench.report.tables import build_table
from bench.results import CLIPS, PREVIEWS, Result, read_result
from prep.schema import Clip
from prep.shards import MANIFEST, write_json
from prep.video_reading import frames as read_frames
from prep.video_writing import write_video
from prep.views import VIEWS
from tests.bench.eval.videos import drifting, write_lossless
from tests.prep.fakes import fake_clip, write_fake_dataset

N, WIDTH, HEIGHT, VIEW = 12, 160, 200, "box128"
#: Frames without a face → the frame whose place each takes: the nearest, of two the earlier.
NEAREST = {0: 1, 5: 4, 6: 4, 7: 8, 11: 10}


def dataset(folder: Path, stored: Sequence[str]) -> tuple[Path, dict[str, Clip]]:
    """A data set of two clips with source videos, which stores some views."""
    clips = [
        fake_clip(
            f"speaker/{name}", N, split="test", views=stored, undetected=gone, width=WIDTH, height=HEIGHT
        )
        for name, gone in (("all", ()), ("some", tuple(NEAREST)))
    ]
    write_fake_dataset(folder / "data", clips)
    manifest = json.loads((folder / "data" / MANIFEST).read_text())
    write_json(folder / "data" / MANIFEST, {**manifest, "root": str(folder / "corpus")})
    for seed, clip in enumerate(clips):
        write_lossless(folder / "corpus" / clip.source, drifting(N, HEIGHT, WIDTH, seed))
    return folder / "data", {clip.clip_id: clip for clip in clips}


def cut(clip: Clip, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Full frames cut as the truth's faces lie."""
    view = VIEWS[VIEW]
    found = view.transforms(clip.landmarks, clip.detected, WIDTH, HEIGHT)
    nearest = {i: i for i in range(N)} | (NEAREST if not clip.detected.all() else {})
    return [view.crop(picture, found[nearest[i]]) for i, picture in enumerate(pictures)]


def paint(folder: Path, pictures: dict[str, list[np.ndarray]], output: str | None) -> Path:
    """A folder of predictions that says what its videos show."""
    for clip, video in pictures.items():
        write_lossless(folder / f"{clip}.mp4", video)
    record = {"protocol": "reconstruction"} | ({} if output is None else {"output": output})
    (folder / GENERATION).write_text(json.dumps(record))
    return folder


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """A data set, and predictions that equal its truth: of the view, of full frames, and one that differs."""
    data, clips = dataset(tmp_path, getattr(request, "param", (VIEW,)))
    truth = {name: list(read_frames(tmp_path / "corpus" / clip.source)) for name, clip in clips.items()}
    dark = {name: [picture // 2 for picture in video] for name, video in truth.items()}
    return data, {
        "painted": paint(tmp_path / "painted", {n: cut(clips[n], v) for n, v in truth.items()}, VIEW),
        "whole": paint(tmp_path / "whole", truth, None),
        "dark": paint(tmp_path / "dark", dark, "full"),
    }


def scored(made: tuple[Path, dict[str, Path]], out: Path, **changes: object) -> Result:
    data, folders = made
    call = {"metrics": ["psnr.frame", "mse"], "regions": ["full", "mouth"], "device": "cpu", "workers": 1}
    return evaluate(folders, data=data, out=out, **{**call, **changes})


@pytest.mark.parametrize("made", [(VIEW,), ("face96",)], ids=["stored", "computed"], indirect=True)
def test_what_equals_the_truth_is_perfect_in_the_view(made, tmp_path: Path) -> None:
    result = scored(made, tmp_path / "out", with_trivial=True, batch_size=5)
    for method in ("painted", "whole", "ground_truth"):
        for region in ("full", "mouth"):
            figure = result.figure(method, "psnr.frame", region)
            assert (figure.scored, figure.value) == (2, math.inf), (method, region)
            assert result.figure(method, "mse", region).value == 0
    for method in ("dark", "still"):
        figure = result.figure(method, "psnr.frame", "full")
        assert figure.scored == 2 and 5 < figure.value < 40, method
    previews = pd.read_parquet(tmp_path / "out" / PREVIEWS)
    assert set(zip(previews["width"], previews["height"], strict=True)) == {(128, 128)}


def test_the_shifted_row_is_detected_in_the_pictures_of_the_view(
    made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    class Follows:
        """Finds the truth's face where a shift by one pixel puts it, and 3 pixels lower."""

        def __init__(self, detector: str, device: str) -> None:
            pass

        def of_predictions(self, wanted: Sequence[Wanted]) -> list[np.ndarray]:
            for one in wanted:
                seen.extend(one.frames)
            return [one.truth + np.array([1, 1 + 3, 0], np.float32) for one in wanted]

    monkeypatch.setattr("bench.eval.engine.Faces", Follows)
    data, folders = made
    metrics = ["lmd.vico_l1", "psnr.frame"]
    result = scored(
        (data, {"painted": folders["painted"]}), tmp_path / "out", metrics=metrics, with_trivial=True
    )
    assert result.figure("shifted", "lmd.vico_l1", "clip").value == pytest.approx(3 / 2, abs=1e-3)
    assert result.figure("shifted", "lmd.vico_l1", "clip").scored == 2
    assert {frame.shape for frame in seen} == {(128, 128, 3)}
    truth = cut(dataset(tmp_path / "again", (VIEW,))[1]["speaker/all"], drifting(N, HEIGHT, WIDTH, 0))
    assert sum(np.array_equal(frame[1:, 1:], truth[0][:-1, :-1]) for frame in seen) == 1


def test_the_result_says_which_pictures_were_scored(made, tmp_path: Path) -> None:
    result = scored(made, tmp_path / "out")
    assert result.output == VIEW and read_result(tmp_path / "out") == result
    data, folders = made
    full = scored((data, {"whole": folders["whole"]}), tmp_path / "full")
    assert full.output == "full"
    assert "pictures: box128 and full" in result.differences(full)
    notes = build_table("default", [result]).blocks[0].notes
    assert "Pictures: the view box128, cut out of all full frames as it lies in the truth." in notes
    assert not any("Pictures" in note for note in build_table("default", [full]).blocks[0].notes)


def test_another_view_is_another_evaluation(made, tmp_path: Path) -> None:
    data, folders = made
    scored((data, {"m": folders["dark"]}), tmp_path / "out")
    record = folders["dark"] / GENERATION
    record.write_text(json.dumps({"protocol": "reconstruction", "output": VIEW}))
    with pytest.raises(BenchError, match="holds another evaluation"):
        scored((data, {"m": folders["dark"]}), tmp_path / "out")


def test_a_result_from_before_there_were_views_is_of_full_frames(made, tmp_path: Path) -> None:
    result = scored(made, tmp_path / "out")
    old = json.loads(result.model_dump_json())
    del old["output"]
    assert Result.model_validate_json(json.dumps(old)).output == "full"


def test_a_painted_view_must_have_its_size(made, tmp_path: Path) -> None:
    data, folders = made
    small = {
        "speaker/all": [np.zeros((64, 96, 3), np.uint8)] * N,
        "speaker/some": [np.zeros((64, 96, 3), np.uint8)] * N,
    }
    paint(folders["painted"], small, VIEW)
    result = scored((data, folders), tmp_path / "out")
    figure = result.figure("painted", "psnr.frame", "full")
    assert list(figure.failures) == [
        "the prediction is 96×64, the view box128 128×128: write it at the view's size"
    ]
    assert result.figure("whole", "psnr.frame", "full").scored == 2


def test_full_frames_must_have_the_truths_size_before_they_are_cut(made, tmp_path: Path) -> None:
    data, folders = made
    paint(folders["whole"], {"speaker/all": drifting(N, 128, 128)}, None)
    result = scored((data, folders), tmp_path / "out")
    (reason,) = result.figure("whole", "psnr.frame", "full").failures
    assert reason == "the prediction is 128×128, the truth 160×200: write it at the truth's size"


def test_a_truth_without_a_face_has_no_view(tmp_path: Path) -> None:
    clips = [
        fake_clip("a", 4, split="test", width=WIDTH, height=HEIGHT),
        fake_clip("b", 4, split="test", width=WIDTH, height=HEIGHT, undetected=range(4)),
    ]
    write_fake_dataset(tmp_path / "data", clips)
    for clip in clips:
        write_lossless(tmp_path / "corpus" / clip.source, drifting(4, HEIGHT, WIDTH))
    video = [np.zeros((128, 128, 3), np.uint8)] * 4
    folder = paint(tmp_path / "painted", {"a": video, "b": video}, VIEW)
    made = (tmp_path / "data", {"painted": folder})
    figure = scored(made, tmp_path / "out", root=tmp_path / "corpus").figure("painted", "mse", "full")
    assert figure.scored == 1
    assert figure.failures == {"no face in the truth, where the view box128 would be cut": 1}
    rows = pd.read_parquet(tmp_path / "out" / CLIPS)
    assert set(rows["clip_id"][rows["reason"] != ""]) == {"b"}


def test_two_views_are_scored_apart(made, tmp_path: Path) -> None:
    data, folders = made
    (folders["dark"] / GENERATION).write_text(json.dumps({"protocol": "reconstruction", "output": "face96"}))
    with pytest.raises(
        BenchError, match=r"painted shows the view box128 and dark the view face96: score them separately"
    ):
        from_dataset(folders, data)


def test_a_view_that_there_is_not_is_refused(made) -> None:
    data, folders = made
    (folders["dark"] / GENERATION).write_text(json.dumps({"protocol": "reconstruction", "output": "box12"}))
    with pytest.raises(
        BenchError, match=r"generation.json says that the videos show 'box12'; the known views are box128"
    ):
        from_dataset(folders, data)


def test_without_truth_full_frames_cannot_stand_beside_a_view(made) -> None:
    _, folders = made
    with pytest.raises(BenchError, match="painted shows the view box128, whole full frames"):
        from_folders({name: folders[name] for name in ("painted", "whole")}, None)
    assert from_folders({"painted": folders["painted"]}, None).output == VIEW


def test_the_reencoded_row_is_made_of_the_pictures_whose_codec_it_has(made, tmp_path: Path) -> None:
    data, folders = made
    lossy = {"painted": tmp_path / "lossy view", "whole": tmp_path / "lossy frames"}
    for name, folder in lossy.items():
        shutil.copytree(folders[name], folder)
        for video in folder.rglob("*.mp4"):
            write_video(video, list(read_frames(video)))
    for order, paints in ((("painted", "whole"), VIEW), (("whole", "painted"), "full")):
        chosen = {name: lossy[name] for name in order}
        for job in with_trivial(from_dataset(chosen, data), ("reencoded", "still")).jobs:
            *_, coded, still = job.candidates
            assert (job.output, coded.paints, still.paints) == (VIEW, paints, "full")
        result = scored((data, chosen), tmp_path / f"first {order[0]}", with_trivial=True)
        figure = result.figure("reencoded", "psnr.frame", "full")
        assert figure.scored == 2 and 10 < figure.value < 60


def test_the_command_scores_listed_clips(made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, folders = made
    (tmp_path / "clips.txt").write_text("speaker/some\n")
    words = [
        "eval",
        f"mine={folders['painted']}",
        "--data",
        str(data),
        "--clips",
        str(tmp_path / "clips.txt"),
    ]
    words += [
        "--metrics",
        "psnr",
        "--region",
        "full",
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
        "--json",
    ]
    assert not app(words, standalone_mode=False)
    printed = Result.model_validate_json(capsys.readouterr().out)
    assert printed == read_result(tmp_path / "out")
    assert (printed.data.clips, printed.data.split, printed.output) == (1, "test", VIEW)
    assert printed.figure("mine", "psnr.frame", "full").value == math.inf
