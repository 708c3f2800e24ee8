"""A new data set in which the sound of some clips is shifted."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.clips.inputs.dataset import clip_jobs
from prep import correcting, shards
from prep.adding import add_views
from prep.correcting import RECORD, correct, shifted
from prep.derived import DERIVED, DerivedSpec, finish_derivation, open_derivation, write_sidecar
from prep.derived_reading import find
from prep.errors import ClipError, PrepError
from prep.inspect import inspect_folder, verify_folder
from prep.options import PrepOptions
from prep.pipeline import prepare, select
from prep.sample_spec import Column
from prep.schema import Clip
from prep.shards import MANIFEST, Failure, read, read_failures, read_manifest
from prep.sound.mel import melspectrogram
from prep.sources import get_source
from tests.prep.fakes import fake_clip, write_fake_dataset

JUDGE = {"judge": {"name": "sync-cca", "sha256": "0123"}}


def numbered(clip_id: str, frames: int = 40, **options: Any) -> Clip:
    """A clip whose samples say to which frame they belong."""
    clip = fake_clip(clip_id, frames, **options)
    clip.audio = np.repeat(np.arange(frames, dtype=np.int16), 640)
    clip.mel = melspectrogram(clip.audio)
    return clip


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks run in this process instead of workers."""

    def compute(tasks: list[Any], *_: object) -> Any:
        for task in tasks:
            yield task.run()

    monkeypatch.setattr(correcting, "compute", compute)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two shards of training, one of validation with a failure."""
    clips = [numbered(f"a/{i}", 40 + i, undetected=[3] if i == 1 else ()) for i in range(6)]
    clips += [numbered("v/0", split="val")]
    failure = Failure("v/bad", "val", "v/bad.mp4", "audio", "no audio stream")
    write_fake_dataset(tmp_path / "data", clips, failures={"val": [failure]})
    return tmp_path / "data"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- one clip


@pytest.mark.parametrize("late", [-7, -1, 1, 6])
def test_each_frame_has_the_sound_that_its_lips_had(late: int) -> None:
    """The picture of frame t belongs to the sound of t - late."""
    clip = numbered("a/1", 40, landmarks68=True, undetected=[2, 20])
    clip.start, clip.stop = 3.2, 4.8
    now = shifted(clip, late)
    assert now.n_frames == 40 - abs(late)
    first = max(late, 0)
    assert now.audio is not None and now.audio.dtype == np.int16
    sounds = now.audio.reshape(now.n_frames, 640)
    np.testing.assert_array_equal(
        sounds, (np.arange(first, first + now.n_frames) - late)[:, None].repeat(640, 1)
    )
    frames = slice(first, first + now.n_frames)
    np.testing.assert_array_equal(now.landmarks, clip.landmarks[frames])
    np.testing.assert_array_equal(now.landmarks68, clip.landmarks68[frames])  # type: ignore[index]
    np.testing.assert_array_equal(now.detected, clip.detected[frames])
    np.testing.assert_array_equal(now.transforms["box128"], clip.transforms["box128"][frames])
    assert now.images["box128"] == clip.images["box128"][frames]
    assert (round(25 * now.start), round(25 * now.stop)) == (80 + first, 80 + first + now.n_frames)
    np.testing.assert_array_equal(now.mel, melspectrogram(now.audio))
    assert clip.n_frames == 40 == len(clip.detected)


def test_the_mel_is_padded_as_that_of_the_data_set() -> None:
    rng = np.random.default_rng(0)
    clip = replace(numbered("a/1"), audio=(3000 * rng.standard_normal(640 * 40)).astype(np.int16))
    now = shifted(clip, 3, "reflect")
    assert now.audio is not None and now.mel is not None
    np.testing.assert_array_equal(now.mel, melspectrogram(now.audio, "reflect"))
    assert not np.array_equal(now.mel, melspectrogram(now.audio, "constant"))


def test_what_cannot_be_shifted() -> None:
    with pytest.raises(ClipError, match="no sound that could be shifted"):
        shifted(fake_clip("a/1", 1, still=True), 1)
    with pytest.raises(
        ClipError, match=r"4 of 9 frames have sound when it is shifted by -5 frames, at least 5"
    ):
        shifted(numbered("a/1", 9), -5)
    assert shifted(numbered("a/1", 10), -5).n_frames == 5
    faceless = numbered("a/1", 20, undetected=range(5, 20))
    with pytest.raises(ClipError, match="no face in 15 frames"):
        shifted(faceless, 5)
    with pytest.raises(ClipError) as raised:
        shifted(faceless, -1, min_detected=0.5)
    assert raised.value.step == "landmarks"


# --- a data set


def test_only_the_named_clips_change(data: Path, tmp_path: Path) -> None:
    before = tree(data)
    progress = []
    manifest = correct(
        data, tmp_path / "out", {"a/1": 4, "a/2": -3, "a/5": 0}, JUDGE, workers=1, on_progress=progress.append
    )
    out = tmp_path / "out"
    assert tree(data) == before
    assert manifest == read_manifest(out) and manifest["complete"]
    assert sum(step.clips for step in progress) == 7 and sum(step.shards for step in progress) == 3
    assert verify_folder(out) == 3 and inspect_folder(out).shifted == 2
    assert inspect_folder(data).shifted is None
    # Two shards have no shifted clip, and are copied.
    same = {path for path, content in tree(out).items() if before.get(path) == content}
    assert same == {"shards/train-00001.parquet", "shards/val-00000.parquet", "failures.parquet"}
    old, new = {clip.clip_id: clip for clip in read(data)}, {clip.clip_id: clip for clip in read(out)}
    assert list(old) == list(new)
    files = [shards.open_shard(folder / "shards" / "train-00000.parquet") for folder in (data, out)]
    for group, clip in enumerate(("a/0", "a/1", "a/2", "a/3")):
        unchanged = files[0].read_row_group(group).equals(files[1].read_row_group(group))
        assert unchanged == (clip in ("a/0", "a/3"))
    for clip_id, late in (("a/1", 4), ("a/2", -3)):
        wanted, got = shifted(old[clip_id], late), new[clip_id]
        for name in ("audio", "mel", "landmarks", "detected", "n_faces"):
            np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))
        assert got.images == wanted.images and (got.start, got.stop) == (wanted.start, wanted.stop)
    assert rows(out / RECORD) == [
        {
            "clip": "a/1",
            "split": "train",
            "video_late": "4",
            "first": "4",
            "frames": "37",
            "frames_before": "41",
        },
        {
            "clip": "a/2",
            "split": "train",
            "video_late": "-3",
            "first": "0",
            "frames": "39",
            "frames_before": "42",
        },
    ]
    said = manifest["corrected"]
    assert said["judge"] == JUDGE["judge"] and said["clips"] == 2
    assert said["from"]["manifest_sha256"] == shards.sha256(data / MANIFEST)
    assert said["record_sha256"] == shards.sha256(out / RECORD)
    assert read_failures(out) == read_failures(data)
    assert str(tmp_path) not in json.dumps(said)


def test_what_remains_too_short_is_a_failure(tmp_path: Path, here: None) -> None:
    write_fake_dataset(tmp_path / "data", [numbered("a/1", 12), numbered("a/2", 40)])
    out = tmp_path / "out"
    correct(tmp_path / "data", out, {"a/1": 9, "a/2": 9}, JUDGE)
    assert [clip.clip_id for clip in read(out)] == ["a/2"]
    (failure,) = read_failures(out)
    assert (
        failure.clip_id == "a/1" and failure.step == "audio" and failure.reason.startswith("3 of 12 frames")
    )
    assert read_manifest(out)["splits"]["train"] == {"clips": 1, "frames": 31, "failures": 1}


def test_it_continues_after_an_interruption(
    data: Path, tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifts = {"a/1": 4, "v/0": -2}
    correct(data, tmp_path / "whole", shifts, JUDGE)
    out, write = tmp_path / "out", correcting.correct_shard
    calls = []

    def dies(path: Path, *arguments: Any) -> Any:
        if len(calls) == 2:
            (out / "shards" / ".half.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        calls.append(path.name)
        return write(path, *arguments)

    monkeypatch.setattr(correcting, "correct_shard", dies)
    with pytest.raises(KeyboardInterrupt):
        correct(data, out, shifts, JUDGE)
    assert not read_manifest(out)["complete"]
    with pytest.raises(PrepError, match=r"not complete: run the same `bench offsets --correct` again"):
        verify_folder(out)
    with pytest.raises(PrepError, match="holds another data set, or was corrected by other shifts"):
        correct(data, out, {"a/1": 5}, JUDGE)
    with pytest.raises(PrepError, match="holds another data set, or was corrected by other shifts"):
        correct(data, out, shifts, {"judge": "another"})
    calls.clear()
    monkeypatch.setattr(
        correcting, "correct_shard", lambda path, *rest: calls.append(path.name) or write(path, *rest)
    )
    correct(data, out, shifts, JUDGE)
    assert calls == ["val-00000.parquet"]
    assert tree(out) == tree(tmp_path / "whole")
    # Again: nothing is left to do. A shard that was deleted is made again.
    calls.clear()
    correct(data, out, shifts, JUDGE)
    assert calls == []
    (out / "shards" / "train-00000.parquet").unlink()
    correct(data, out, shifts, JUDGE)
    assert calls == ["train-00000.parquet"] and tree(out) == tree(tmp_path / "whole")


def test_a_set_can_be_corrected_again(data: Path, tmp_path: Path, here: None) -> None:
    first = correct(data, tmp_path / "one", {"a/1": 4}, JUDGE)
    second = correct(tmp_path / "one", tmp_path / "two", {"a/1": -1, "a/2": 2}, JUDGE)
    assert second["corrected"]["before"] == first["corrected"]
    assert [(row["clip"], row["video_late"]) for row in rows(tmp_path / "two" / RECORD)] == [
        ("a/1", "4"),
        ("a/1", "-1"),
        ("a/2", "2"),
    ]


def test_derived_columns_are_not_taken_along(data: Path, tmp_path: Path, here: None) -> None:
    spec = DerivedSpec("loud", (Column("loud", per="clip"),))
    for task in open_derivation(data, spec):
        write_sidecar(task, spec, lambda clip: {"loud": np.float32(np.abs(clip.audio).mean()).reshape(())})
    finish_derivation(data, spec)
    out = tmp_path / "out"
    correct(data, out, {"a/1": 4}, JUDGE)
    with pytest.raises(PrepError, match="has no derived columns 'loud'"):
        find(out, "loud")
    # Nor are they accepted when someone copies them.
    (out / DERIVED).mkdir()
    (data / DERIVED / f"loud-{spec.key}").rename(out / DERIVED / f"loud-{spec.key}")
    with pytest.raises(PrepError, match="derived from other shards"):
        find(out, "loud")


def test_mistakes_are_one_line(
    data: Path, tmp_path: Path, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(PrepError, match=r"has no clip z/1 \(2 of the clips"):
        correct(data, out, {"a/1": 2, "z/2": 1, "z/1": 1}, JUDGE)
    with pytest.raises(PrepError, match=r"nothing is not a prepared data set"):
        correct(tmp_path / "nothing", out, {}, JUDGE)
    assert not out.exists()
    (out / "shards").mkdir(parents=True)
    (out / "shards" / "mine.parquet").write_bytes(b"")
    with pytest.raises(PrepError, match="has files without a manifest"):
        correct(data, out, {"a/1": 2}, JUDGE)
    write_fake_dataset(tmp_path / "else", [numbered("e/0")])
    with pytest.raises(PrepError, match="else holds another data set"):
        correct(data, tmp_path / "else", {"a/1": 2}, JUDGE)
    before = tree(data)
    for place in (data, data / "new", data.parent):
        with pytest.raises(
            PrepError, match=r"is not apart from .*data, which stays as it is: name another folder"
        ):
            correct(data, place, {"a/1": 2}, JUDGE)
    assert tree(data) == before
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(PrepError, match=r"is too small: .* GiB are needed, 0.0 GiB are free"):
        correct(data, tmp_path / "small", {"a/1": 2}, JUDGE)
    monkeypatch.undo()


@pytest.mark.parametrize("name", ["train-00000.parquet", "train-00001.parquet"])
def test_a_damaged_shard_is_not_taken_over(data: Path, tmp_path: Path, here: None, name: str) -> None:
    path = data / "shards" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PrepError, match=f"{name} differs from the manifest"):
        correct(data, tmp_path / "out", {"a/1": 4}, JUDGE)
    assert not (tmp_path / "out" / "shards" / name).exists()


def test_views_can_be_added_to_a_corrected_set(toy_corpus: Path, tmp_path: Path) -> None:
    """The frames that remain are found in the source."""
    options = PrepOptions(source="lrs2", name="lrs2", views=("box128",), clips_per_shard=2)
    refs = select(list(get_source("lrs2").list_clips(toy_corpus)), 1)
    data, out = tmp_path / "data", tmp_path / "out"
    prepare(refs, toy_corpus, data, options, workers=1)
    clip = next(read(data))
    correct(data, out, {clip.clip_id: 6}, JUDGE, workers=1)
    with pytest.raises(PrepError, match="was written by `bench offsets --correct`"):
        prepare(refs, toy_corpus, out, options, workers=1)
    add_views(out, ["face96"], workers=1)
    add_views(data, ["face96"], workers=1)
    assert "corrected" in read_manifest(out)
    for before, now in zip(read(data), read(out), strict=True):
        first = 6 if now.clip_id == clip.clip_id else 0
        assert now.images["face96"] == before.images["face96"][first:]
    # Truth and sound of an evaluation.
    jobs = {job.clip_id: job for job in clip_jobs(out)}
    for before, now in zip(read(data), read(out), strict=True):
        first, take = now.n_frames != before.n_frames, jobs[now.clip_id].truth
        assert take is not None
        assert (take.start, take.stop) == (6 if first else 0, before.n_frames)
