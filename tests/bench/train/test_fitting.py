"""Stages without gradient steps: passes over clips, the same result from any number of processes, resuming."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from bench.common.errors import BenchError
from bench.train import fitting, train
from bench.train.checkpoint import Checkpoints, Untrained, best_files, load_run, read_about, read_tensors
from bench.train.log import read_log
from bench.train.throughput import throughput
from tests.bench.fake_training import Recorder
from tests.prep.fakes import fake_dataset, write_fake_dataset
from tests.prep.talking import talking_clips

SMALL = (
    "fit.recipe.lip_context=0",
    "fit.recipe.sound_columns=3",
    "fit.recipe.sound_lag=0",
    "fit.components=4",
    "fit.lip_ridges=[0.01,1.0]",
    "fit.sound_ridges=[0.01,1.0]",
    "fit.speech=true",
    "runner.tensorboard=false",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talking") / "data"
    write_fake_dataset(folder, talking_clips(), clips_per_shard=3)
    return folder


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(fitting, "FRAMES", 100)
    monkeypatch.chdir(tmp_path)
    yield
    AcceleratorState._reset_state(True)


def fit(data: Path, run: str, *overrides: str, **options):
    return train("sync-cca", [data], preset="tiny", overrides=(*SMALL, *overrides), run=Path(run), **options)


def saved(run: str) -> bytes:
    return best_files(Path(run), "fit")["judge"].read_bytes()


class StopAt(Recorder):
    """Sends this process a signal once a number of clips were read."""

    def __init__(self, clips: int) -> None:
        super().__init__()
        self._clips = clips

    def advance(self, stage: str, step: int) -> None:
        super().advance(stage, step)
        if step >= self._clips and not self._clips < 0:
            self._clips = -1
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_fit_is_an_ordinary_run(data: Path) -> None:
    recorder = Recorder()
    result = fit(data, "run", reporter=recorder)
    # Eight clips in two passes, four in the third.
    assert recorder.of("begin") == [("fit", 0, 20)] and recorder.steps[-1] == result.best["fit"]["step"] == 20
    assert result.best["fit"]["rank"] > 0.95 and result.best["fit"]["corr_1"] > 0.9
    config, method = load_run(Path("run"))
    judge = method.networks["judge"]
    assert config.method == "sync-cca" and int(judge.persons) == 4
    kinds = [line["kind"] for line in read_log(Path("run/fit/log.jsonl"))]
    assert kinds[0] == "begin" and kinds[-2:] == ["validation", "end"] and "note" in kinds
    about = read_about(best_files(Path("run"), "fit")["judge"])
    assert about["frames_used"] == "with speech by level25" and about["recipe"]["dimensions"] == 3
    assert about["method"] == "sync-cca" and about["persons"] == 4 and about["frames"] == int(judge.frames)
    assert [one["name"] for one in about["data"]] == ["data"] and len(
        about["data"][0]["manifest_sha256"]
    ) == 64


def test_frames_beside_one_without_a_face_take_no_part() -> None:
    clips = []
    for clip in talking_clips():
        seen = np.arange(len(clip.detected)) % 20 != 9
        points = np.where(seen[:, None, None], clip.landmarks, np.nan).astype(np.float32)
        clips.append(replace(clip, detected=seen, landmarks=points))
    write_fake_dataset(Path("data"), clips)
    result = fit(Path("data"), "run", "fit.recipe.lip_context=2", "fit.speech=false")
    # Five of twenty frames have the missing one among their five.
    assert int(load_run(Path("run"))[1].networks["judge"].frames) == 8 * 45
    assert result.best["fit"]["corr_1"] > 0.8


@pytest.mark.slow
def test_the_number_of_processes_changes_no_byte(data: Path) -> None:
    fit(data, "one", "runner.workers=1")
    fit(data, "two", "runner.workers=2")
    assert saved("one") == saved("two")


@pytest.mark.parametrize("clips", [3, 11, 17])
def test_a_stopped_fit_goes_on_as_if_it_had_not_stopped(data: Path, clips: int) -> None:
    fit(data, "whole")
    recorder = StopAt(clips)
    assert fit(data, "parts", reporter=recorder).stopped
    assert "go on with --resume" in recorder.of("note")[-1][0]
    with pytest.raises(Untrained, match="the stage fit has no checkpoint"):
        load_run(Path("parts"))
    after = Recorder()
    result = train("sync-cca", run=Path("parts"), resume=True, reporter=after)
    assert not result.stopped and recorder.steps + after.steps == sorted({*recorder.steps, *after.steps})
    assert after.of("begin")[0][1] == recorder.steps[-1] > 0
    assert saved("parts") == saved("whole")
    assert train("sync-cca", run=Path("parts"), resume=True).best == result.best


def test_a_begun_fit_is_resumed_with_its_options_only(data: Path) -> None:
    fit(data, "run")
    with pytest.raises(BenchError, match=r"was begun with fit.components=4, not 3"):
        train("sync-cca", run=Path("run"), resume=True, overrides=["fit.components=3"])


def test_a_list_of_clips_is_followed(data: Path) -> None:
    Path("clips.txt").write_text("train0/00\ntrain1/01\ntrain2/00\n")
    fit(data, "run", clips=Path("clips.txt"))
    assert int(load_run(Path("run"))[1].networks["judge"].persons) == 3


def test_what_gives_nothing_is_counted_by_reason(data: Path) -> None:
    clips = talking_clips()
    mute, unseen = replace(clips[0], audio=None, mel=None), clips[2]
    hidden = np.zeros_like(unseen.detected)
    unseen = replace(unseen, detected=hidden, landmarks=np.full_like(unseen.landmarks, np.nan))
    silent = replace(clips[4], mel=np.full_like(clips[4].mel, -4))
    write_fake_dataset(Path("data"), [mute, clips[1], unseen, clips[3], silent, *clips[5:]])
    recorder = Recorder()
    fit(Path("data"), "run", reporter=recorder)
    notes = [note for (note,) in recorder.of("note") if "left out" in note]
    assert notes == [
        "fit, pass shape: clips left out: 1 without a face, 1 without sound",
        "fit, pass moments: clips left out: 1 without a face, 1 without sound, 1 without speech",
    ]


def test_one_person_is_too_few_before_anything_is_written(data: Path) -> None:
    Path("clips.txt").write_text("train0/00\ntrain0/01\n")
    with pytest.raises(
        BenchError, match=r"of 1 person; it is cross-validated over persons and needs two"
    ) as error:
        fit(data, "run", clips=Path("clips.txt"))
    assert "\n" not in str(error.value) and not Path("run").exists()


def test_clips_without_faces_are_too_few() -> None:
    clips = [
        replace(c, detected=np.zeros_like(c.detected), landmarks=np.full_like(c.landmarks, np.nan))
        for c in talking_clips()
    ]
    write_fake_dataset(Path("data"), clips)
    with pytest.raises(BenchError, match=r"of 0 persons \(left out: 8 without a face\)"):
        fit(Path("data"), "run")


def test_lips_that_never_move_are_named() -> None:
    clips = []
    for clip in talking_clips():
        still = np.where(clip.detected[:, None, None], clip.landmarks[:1], np.nan).astype(np.float32)
        clips.append(replace(clip, landmarks=still))
    write_fake_dataset(Path("data"), clips)
    with pytest.raises(BenchError, match="stage fit, pass moments: the lips of all clips never change"):
        fit(Path("data"), "run")


def test_what_a_fit_cannot_do_is_one_line(data: Path) -> None:
    with pytest.raises(BenchError, match="stage fit of sync-cca has no steps to measure"):
        list(throughput("sync-cca", [data], preset="tiny", overrides=SMALL))
    write_fake_dataset(Path("data"), talking_clips(2, 3, 1))
    with pytest.raises(BenchError, match=r"cross-validated over persons.*leave --per out"):
        fit(Path("data"), "persons", per="speaker")
    fit(data, "run")
    with pytest.raises(BenchError, match="is fitted anew from its clips: leave --from out"):
        fit(data, "other", from_run=Path("run"))
    assert not Path("persons").exists() and not Path("other").exists()


def test_a_killed_worker_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(tasks, build, work, lost, **options):
        yield lost(tasks[0], "its worker was killed")

    monkeypatch.setattr(fitting, "share", killed)
    with pytest.raises(
        BenchError, match=r"stage fit, pass shape, train-\d+.parquet.*: its worker was killed; run it"
    ):
        fit(data, "run")


def test_folds_are_of_persons_and_about_equal() -> None:
    clips = [
        fitting._Clip(Path("a"), row, person, frames)
        for row, (person, frames) in enumerate(
            [("a", 50), ("b", 10), ("a", 40), ("c", 60), ("d", 25), ("b", 10)]
        )
    ]
    folds = fitting._folds(clips, 2)
    assert [[clip.row for clip in fold] for fold in folds] == [[0, 2], [1, 3, 4, 5]]
    assert len(fitting._folds(clips, 9)) == 4


def test_the_stored_parts_of_a_stopped_fit_are_no_networks(data: Path) -> None:
    fit(data, "run", reporter=StopAt(11))
    last = Checkpoints(Path("run/fit/checkpoints")).last()
    assert last is not None and [path.name for path in sorted(last.iterdir())] == [
        "state.json",
        "training.safetensors",
    ]
    assert best_files(Path("run"), "fit") == {}


def test_stages_with_steps_begin_from_a_run_with_what_it_was_fitted_to(tmp_path: Path) -> None:
    """Of a method that has stages of both kinds: what was fitted stays as it was."""
    fake_dataset(tmp_path / "data", {"train": 4, "val": 2}, views=("atvg128",))
    options = ["runner.device=cpu", "runner.tensorboard=false", "runner.workers=0", "at.train.steps=1"]
    data, first, second = [tmp_path / "data"], tmp_path / "first", tmp_path / "second"
    train("atvg", data, preset="tiny", run=first, overrides=options, stages=["space"])
    words = "leave --from out, or train the others with --stage at --stage vg"
    with pytest.raises(BenchError, match=f"stage space of atvg is fitted anew from its clips: {words}"):
        train("atvg", data, preset="tiny", run=second, overrides=options, from_run=first)
    train("atvg", data, preset="tiny", run=second, overrides=options, from_run=first, stages=["at"])
    fitted, begun = (read_tensors(best_files(run, "space")["space"]) for run in (first, second))
    assert all(torch.equal(fitted[key], begun[key]) for key in fitted) and fitted.keys() == begun.keys()
    assert best_files(second, "at")
