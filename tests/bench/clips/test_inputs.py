"""From folders, data sets and lists to jobs, and from jobs to frames and sound."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.clips.inputs import (
    Inputs,
    find_inputs,
    from_dataset,
    from_folders,
    from_pairs,
    trivial_rows,
    with_trivial,
)
from bench.clips.inputs.base import NO_PREDICTION
from bench.clips.inputs.dataset import NO_SOURCE, clip_jobs
from bench.clips.inputs.declared import GENERATION
from bench.clips.inputs.files import VideoFolder
from bench.clips.inputs.find import find_methods
from bench.clips.inputs.pairs import NO_AUDIO, NO_VIDEO, PairLine, read_pairs
from bench.clips.inputs.reading import count_frames, take_frames, voice_samples
from bench.clips.inputs.rows import NO_CODEC, NO_OTHER_CLIP, NO_SOUND, OWN_SOUND
from bench.clips.job import TRIVIAL, Candidate, Codec, Take, Voice
from bench.common.errors import BenchError
from prep import images, sound_reading, video_reading, video_writing
from prep.errors import ClipError, PrepError
from prep.options import PrepOptions
from prep.pipeline import ShardPlan, make_shard
from prep.shards import MANIFEST, open_shard, read_clip, write_json
from prep.sources.base import ClipRef
from prep.views import VIEWS
from tests.prep.broken import noise, pictures
from tests.prep.fakes import fake_clip, fake_dataset, write_fake_dataset


def put(folder: Path, *names: str) -> Path:
    """Files of these names; nobody may open them."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def ids(inputs: Inputs) -> list[str]:
    return [job.clip_id for job in inputs.jobs]


def candidate(inputs: Inputs, clip: str, method: str) -> Candidate:
    job = next(job for job in inputs.jobs if job.clip_id == clip)
    return next(c for c in job.candidates if c.method == method)


def relative(inputs: Inputs, clip: str, method: str, folder: Path) -> str | None:
    video = candidate(inputs, clip, method).video
    return None if video is None else video.path.relative_to(folder).as_posix()


def refused(match: str) -> Any:
    return pytest.raises((BenchError, PrepError), match=match)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


# --- two folders


def test_videos_are_paired_by_path_then_by_name(tmp_path: Path) -> None:
    truth = put(tmp_path / "wahre Vidéos", "b/2.mp4", "a/1.MP4", "c/déjà vu.webm", "d.mov", "rest.mkv")
    ours = put(tmp_path / "our out", "a/1.mp4", "2.avi", "x/déjà vu.mp4", "d.mp4", "stray.mp4", "notes.txt")
    inputs = from_folders({"ours": ours}, truth)
    assert ids(inputs) == ["a/1", "b/2", "c/déjà vu", "d", "rest"]
    assert [relative(inputs, clip, "ours", ours) for clip in ids(inputs)] == [
        "a/1.mp4",
        "2.avi",
        "x/déjà vu.mp4",
        "d.mp4",
        None,
    ]
    assert candidate(inputs, "rest", "ours").problem == NO_PREDICTION
    assert candidate(inputs, "d", "ours").problem == ""
    assert inputs.unmatched == {"ours": ("stray.mp4",)} and inputs.videos == {"ours": 5}
    assert inputs.passed_over == ["1 of 5 videos of ours has no true video: stray.mp4"]
    assert inputs.jobs[1].truth == Take(truth / "b/2.mp4")
    assert (inputs.name, inputs.kind, inputs.protocol) == ("wahre Vidéos", "folders", "reconstruction")
    assert inputs.sources == {"ours": str(ours)}


def test_a_name_that_is_not_the_only_one_pairs_nothing(tmp_path: Path) -> None:
    truth = put(tmp_path / "truth", "a/1.mp4", "b/1.mp4", "b/2.mp4", "c/3.mp4")
    ours = put(tmp_path / "ours", "1.mp4", "x/2.mp4", "y/2.mp4", "c/3.mp4", "z/3.mp4")
    inputs = from_folders({"ours": ours}, truth)
    assert [relative(inputs, clip, "ours", ours) for clip in ids(inputs)] == [None, None, None, "c/3.mp4"]
    assert len(inputs.unmatched["ours"]) == 4


def test_many_videos_without_a_truth_are_counted_and_the_first_named(tmp_path: Path) -> None:
    truth = put(tmp_path / "truth", "a.mp4")
    ours = put(tmp_path / "ours", "a.mp4", *(f"x{i:02d}.mp4" for i in range(14)))
    (line,) = from_folders({"ours": ours, "all": truth}, truth).passed_over
    named = ", ".join(f"x{i:02d}.mp4" for i in range(10))
    assert line == f"14 of 15 videos of ours have no true video: {named} and 4 more"


def test_two_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    true = put(tmp_path / "truth", "true.mp4", "other.mp4") / "true.mp4"
    mine = put(tmp_path / "out", "result.avi", "more.mp4") / "result.avi"
    inputs = from_folders({"mine": mine}, true)
    assert (ids(inputs), inputs.name, inputs.passed_over) == (["true"], "true", [])
    assert inputs.jobs[0].truth == Take(true)
    assert candidate(inputs, "true", "mine").video == Take(mine)
    assert ids(from_folders({"mine": mine}, None)) == ["result"]


def test_a_file_and_a_folder_are_paired_by_name(tmp_path: Path) -> None:
    truth = put(tmp_path / "truth", "1.mp4", "2.mp4")
    ours = put(tmp_path / "ours", "2.mp4", "3.mp4")
    inputs = from_folders({"ours": ours / "2.mp4"}, truth)
    assert [job.candidates[0].problem for job in inputs.jobs] == [NO_PREDICTION, ""]
    inputs = from_folders({"ours": ours}, truth / "2.mp4")
    assert (ids(inputs), inputs.unmatched) == (["2"], {"ours": ("3.mp4",)})
    with refused(r"3\.mp4 has the name of no video in .*truth \(1, 2\): give its true video itself"):
        from_folders({"ours": ours / "3.mp4"}, truth)
    with refused(r"no video in .*ours \(2, 3\) has the name of .*1\.mp4: give one video itself"):
        from_folders({"ours": ours}, truth / "1.mp4")


def test_a_method_is_called_as_its_folder_or_as_its_video(tmp_path: Path) -> None:
    ours = put(tmp_path / "ours", "2.mp4", "a=b.mp4")
    assert find_methods([str(ours), str(ours / "2.mp4"), f"x={ours / '2.mp4'}"]) == {
        "ours": ours,
        "2": ours / "2.mp4",
        "x": ours / "2.mp4",
    }
    assert find_methods([str(ours / "a=b.mp4")]) == {"a=b": ours / "a=b.mp4"}
    with refused("an empty name where a folder of videos should be"):
        find_methods([""])
    with refused(r"there is no folder or video .*none"):
        find_methods([str(ours / "none")])


def test_a_name_is_the_same_in_both_forms_of_unicode(tmp_path: Path) -> None:
    truth = put(tmp_path / "truth", unicodedata.normalize("NFD", "größe.mp4"))
    ours = put(tmp_path / "ours", unicodedata.normalize("NFC", "größe.mp4"))
    inputs = from_folders({"ours": ours}, truth)
    assert ids(inputs) == [unicodedata.normalize("NFC", "größe")]
    assert candidate(inputs, ids(inputs)[0], "ours").video is not None


def test_a_gif_beside_a_video_is_its_preview(tmp_path: Path) -> None:
    for name in ("a.gif", "a.mp4", "b.mkv", "b.gif", "c.GIF"):
        (tmp_path / name).touch()
    assert VideoFolder.scan(tmp_path).files == {"a": "a.mp4", "b": "b.mkv", "c": "c.GIF"}


def test_hidden_files_are_not_there_and_links_are(tmp_path: Path) -> None:
    truth = put(tmp_path / "truth", "1.mp4", ".2.mp4", ".git/3.mp4", "._1.mp4")
    ours = put(tmp_path / "elsewhere", "1.mp4")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "1.mp4").symlink_to(ours / "1.mp4")
    assert ids(from_folders({"ours": tmp_path / "ours"}, truth)) == ["1"]


def test_a_name_that_is_no_utf8_is_shown_and_can_be_opened(tmp_path: Path) -> None:
    raw = os.fsdecode(b"caf\xe9.mp4")
    truth, ours = put(tmp_path / "truth", raw), put(tmp_path / "ours", raw)
    inputs = from_folders({"ours": ours}, truth)
    assert ids(inputs) == ["caf\\xe9"]
    inputs.jobs[0].clip_id.encode()
    video = candidate(inputs, "caf\\xe9", "ours").video
    assert video is not None and video.path.exists()


def test_without_truth_the_clips_are_all_predictions(tmp_path: Path) -> None:
    one = put(tmp_path / "one", "a.mp4", "b.mp4")
    two = put(tmp_path / "two", "b.mp4", "c.mp4")
    inputs = from_folders({"one": one, "two": two}, None)
    assert ids(inputs) == ["a", "b", "c"]
    assert all(job.truth is None for job in inputs.jobs)
    assert [c.problem for c in inputs.jobs[0].candidates] == ["", NO_PREDICTION]
    assert inputs.name == "one"


@pytest.mark.parametrize(("audio", "heard"), [("prediction", "ours/1.mp4"), ("truth", "truth/1.mp4")])
def test_the_sound_is_that_of_the_prediction_or_of_the_truth(tmp_path: Path, audio: str, heard: str) -> None:
    truth, ours = put(tmp_path / "truth", "1.mp4"), put(tmp_path / "ours", "1.mp4")
    inputs = from_folders({"ours": ours}, truth, audio=audio)  # type: ignore[arg-type]
    assert candidate(inputs, "1", "ours").audio == Voice(tmp_path / heard)


def test_paths_hold_in_processes_with_other_working_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "truth", "1.mp4")
    put(tmp_path / "ours", "1.mp4")
    monkeypatch.chdir(tmp_path)
    inputs = from_folders({"ours": Path("ours")}, Path("truth"))
    assert inputs.sources == {"ours": "ours"}
    take = candidate(inputs, "1", "ours").video
    assert take is not None and take.path.is_absolute()
    assert inputs.jobs[0].truth is not None and inputs.jobs[0].truth.path.is_absolute()
    assert pickle.loads(pickle.dumps(inputs)) == inputs


def test_mistakes_with_folders_are_one_line(tmp_path: Path) -> None:
    truth = put(tmp_path / "truth", "1.mp4", "2.mp4", "3.mp4")
    other = put(tmp_path / "other", "x.mp4", "y.mp4", "z.mp4")
    twice = put(tmp_path / "twice", "1.mp4", "1.avi")
    empty = put(tmp_path / "empty", "readme.txt")
    cases: list[tuple[Mapping[str, Path], Path | None, dict[str, str], str]] = [
        ({"o": other}, truth, {}, r"other \(x, y …\) has the name of one in .*truth \(1, 2 …\)"),
        ({"o": empty}, truth, {}, r"empty \(no videos\) has the name of one in"),
        ({"o": twice}, truth, {}, r"twice holds two videos of one clip, 1\.avi and 1\.mp4: remove one"),
        ({"o": other}, twice, {}, r"two videos of one clip"),
        ({"o": other}, empty, {}, r"no video in .*empty: it should hold the true videos"),
        ({"o": empty}, None, {}, r"no video in .*empty: it should hold the predictions of o"),
        ({"o": other, "t": truth}, None, {}, r"no video has the same name in all of .*other .* and .*truth"),
        ({"o": tmp_path / "none"}, truth, {}, r"there is no folder .*none"),
        ({"o": other}, tmp_path / "none", {}, r"there is no folder .*none"),
        ({"still": truth}, truth, {}, r"'still' is the name of a row"),
        ({" ": truth}, truth, {}, r"a method without a name"),
        ({}, None, {}, r"nothing to score"),
        ({"o": other}, None, {"audio": "truth"}, r"--audio truth needs the true videos: give --truth"),
        ({"t": truth}, truth, {"audio": "truth", "protocol": "dubbing"}, r"use --audio prediction"),
    ]
    for predictions, true, options, match in cases:
        with refused(match) as caught:
            from_folders(predictions, true, **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


# --- a data set


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Splits train, val and test with the (empty) files that they were made from, under ``corpus``."""
    folder = tmp_path / "data set"
    clips = fake_dataset(folder, n_frames=25)
    put(tmp_path / "corpus", *(clip.source for clip in clips))
    manifest = json.loads((folder / MANIFEST).read_text())
    write_json(folder / MANIFEST, {**manifest, "root": str(tmp_path / "corpus")})
    return folder


TEST_IDS = ["speaker0/test00000", "speaker1/test00001", "speaker2/test00002"]


def test_a_data_set_is_the_truth(data: Path, tmp_path: Path) -> None:
    ours = put(tmp_path / "ours", "speaker0/test00000.mp4", "test00002.mkv", "train00000.mp4")
    inputs = from_dataset({"ours": ours}, data)
    assert ids(inputs) == TEST_IDS
    assert (inputs.name, inputs.kind, inputs.split) == ("fake", "dataset", "test")
    assert [relative(inputs, clip, "ours", ours) for clip in TEST_IDS] == [
        "speaker0/test00000.mp4",
        None,
        "test00002.mkv",
    ]
    assert inputs.unmatched == {"ours": ("train00000.mp4",)}
    job = inputs.jobs[1]
    assert job.truth == Take(tmp_path / "corpus/speaker1/test00001.mp4", 0, 26)
    assert job.n_frames == 26
    assert job.candidates[0].problem == NO_PREDICTION
    assert pickle.loads(pickle.dumps(inputs)) == inputs
    for job in inputs.jobs:
        assert job.shard is not None
        assert read_clip(open_shard(job.shard[0]), job.shard[1], []).clip_id == job.clip_id


@pytest.mark.parametrize(("said", "pixels"), [({"pixels": "opencv"}, "opencv"), ({}, "exact")])
def test_a_data_set_is_decoded_as_it_was_prepared(data: Path, said: dict[str, str], pixels: str) -> None:
    manifest = json.loads((data / MANIFEST).read_text())
    write_json(data / MANIFEST, {**manifest, "options": said})
    inputs = from_dataset({}, data)
    assert inputs.pixels == pixels
    assert {job.truth.pixels for job in inputs.jobs if job.truth} == {pixels}
    assert {job.truth.pixels for job in clip_jobs(data) if job.truth} == {pixels}


def test_the_sound_of_a_data_set_is_in_its_shards(data: Path, tmp_path: Path) -> None:
    ours = put(tmp_path / "ours", *(f"{clip}.mp4" for clip in TEST_IDS))
    inputs = from_dataset({"ours": ours}, data, audio="truth")
    for clip in TEST_IDS:
        voice = candidate(inputs, clip, "ours").audio
        assert voice is not None and voice == inputs.voices[clip]
        shard = read_clip(open_shard(voice.path), voice.row_group or 0, ["audio"])
        assert shard.audio is not None and shard.clip_id == clip
        assert np.array_equal(voice_samples(voice), shard.audio)
        assert voice_samples(voice).dtype == np.int16
        assert np.array_equal(voice_samples(replace(voice, start=2, stop=5)), shard.audio[1280:3200])
    own = from_dataset({"ours": ours}, data)
    assert candidate(own, TEST_IDS[0], "ours").audio == Voice(ours / f"{TEST_IDS[0]}.mp4")


def test_the_split_is_test_or_the_only_one_or_asked_for(data: Path, tmp_path: Path) -> None:
    assert len(from_dataset({}, data, "val").jobs) == 3
    only = tmp_path / "only"
    clips = fake_dataset(only, {"train": 2}, n_frames=5)
    corpus = put(tmp_path / "corpus", *(clip.source for clip in clips))
    assert from_dataset({}, only, root=corpus).split == "train"
    two = tmp_path / "two"
    put(corpus, *(clip.source for clip in fake_dataset(two, {"train": 2, "val": 1}, n_frames=5)))
    with refused("two has the splits train, val: choose one with --split"):
        from_dataset({}, two, root=corpus)
    with refused(r"unknown split 'tets': did you mean test\?"):
        from_dataset({}, data, "tets")


def test_listed_clips_are_taken_of_whatever_split(data: Path) -> None:
    listed = ["speaker0/val00000", "speaker0/test00000", "speaker1/test00001"]
    inputs = from_dataset({}, data, clips=listed)
    assert ids(inputs) == sorted(listed) and inputs.split == "test, val"
    one = from_dataset({}, data, clips=listed[:1])
    assert (ids(one), one.split) == (listed[:1], "val")
    assert ids(from_dataset({}, data, "test", clips=listed[1:])) == listed[1:]
    with refused(r"names clips that are not in split 'test' of .* \(speaker0/val00000\): take them out, or"):
        from_dataset({}, data, "test", clips=listed)
    with refused(r"names clips that are not in .*data set \(nobody\)"):
        from_dataset({}, data, clips=[*listed, "nobody"])
    with refused("the list of clips to score is empty"):
        from_dataset({}, data, clips=[])


def test_predictions_may_list_their_clips(data: Path, tmp_path: Path) -> None:
    listed = ["speaker0/val00000", "speaker1/test00001"]
    folders = {
        name: put(tmp_path / name, *(f"{clip}.mp4" for clip in listed)) for name in ("per", "other", "plain")
    }

    def say(name: str, clips: list[str]) -> None:
        write_json(folders[name] / GENERATION, {"protocol": "reconstruction", "clips_list": clips})

    say("per", listed)
    inputs = from_dataset(folders, data)
    assert ids(inputs) == listed and all(c.video for job in inputs.jobs for c in job.candidates)
    assert ids(from_dataset(folders, data, "val")) == [f"speaker{i}/val0000{i}" for i in range(3)]
    assert ids(from_dataset(folders, data, clips=listed[1:])) == listed[1:]
    say("other", listed[::-1])
    assert ids(from_dataset(folders, data)) == listed
    say("other", listed[:1])
    with refused("per and other were generated for different clips: name those to score with --clips FILE"):
        from_dataset(folders, data)


def test_the_file_that_names_an_absent_clip_is_named(data: Path, tmp_path: Path) -> None:
    folder = put(tmp_path / "mine", "nobody.mp4")
    write_json(folder / GENERATION, {"protocol": "reconstruction", "clips_list": ["nobody"]})
    with refused(
        r"mine/generation\.json names clips that are not in .* \(nobody\): give the --data that the videos"
    ):
        from_dataset({"mine": folder}, data)
    (tmp_path / "clips.txt").write_text("nobody\n")
    with refused(r"/clips\.txt names clips that are not in .* \(nobody\): take them out"):
        find_inputs({"mine": folder}, data=data, clips=tmp_path / "clips.txt")


def test_a_list_of_clips_is_read_from_a_file(data: Path, tmp_path: Path) -> None:
    (tmp_path / "clips.txt").write_text("speaker0/val00000\nspeaker1/test00001\n")
    inputs = find_inputs({}, data=data, clips=tmp_path / "clips.txt", with_trivial=True)
    assert ids(inputs) == ["speaker0/val00000", "speaker1/test00001"]
    with refused("--clips names clips of a data set"):
        find_inputs({}, truth=data, clips=tmp_path / "clips.txt", with_trivial=True)


def test_the_manifest_hash_knows_the_data_and_not_its_place(data: Path, tmp_path: Path) -> None:
    first = from_dataset({}, data)
    assert len(first.manifest_sha256) == 64
    manifest = json.loads((data / MANIFEST).read_text())
    moved = (tmp_path / "corpus").rename(tmp_path / "moved")
    write_json(data / MANIFEST, {**manifest, "root": str(moved)})
    assert from_dataset({}, data).manifest_sha256 == first.manifest_sha256
    manifest["shards"][0]["sha256"] = "0" * 64
    write_json(data / MANIFEST, {**manifest, "root": str(moved)})
    assert from_dataset({}, data).manifest_sha256 != first.manifest_sha256


def test_sources_that_moved_are_found_with_root_or_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus").rename(tmp_path / "moved")
    with refused(r"corpus holds none of the source videos \(speaker0/.*give the folder .* with --root"):
        from_dataset({}, data)
    moved = tmp_path / "moved"
    (moved / "speaker1/test00001.mp4").unlink()
    ours = put(tmp_path / "ours", *(f"{clip}.mp4" for clip in TEST_IDS))
    inputs = from_dataset({"ours": ours}, data, root=moved)
    assert [job.truth is None for job in inputs.jobs] == [False, True, False]
    assert [job.candidates[0].problem for job in inputs.jobs] == ["", NO_SOURCE, ""]
    assert inputs.problems == {TEST_IDS[1]: NO_SOURCE}
    rows = with_trivial(inputs)
    assert [c.problem for c in rows.jobs[1].candidates] == [NO_SOURCE] * (1 + len(TRIVIAL))


def test_clips_and_sources_are_found_whatever_the_composition_of_their_names(tmp_path: Path) -> None:
    name, decomposed = (unicodedata.normalize(form, "Zoë/größe") for form in ("NFC", "NFD"))
    clip = fake_clip("a", 8, split="test")
    clip.clip_id, clip.source = name, f"{decomposed}.mp4"
    data = tmp_path / "data"
    write_fake_dataset(data, [clip])
    root = put(tmp_path / "copy", f"{name}.mp4")
    (tmp_path / "clips.txt").write_text(decomposed, "utf-8")
    (job,) = find_inputs({}, data=data, clips=tmp_path / "clips.txt", root=root, with_trivial=True).jobs
    assert job.clip_id == name and job.truth is not None and job.truth.path == root / f"{name}.mp4"
    assert clip_jobs(data, root)[0].truth == job.truth


def test_data_that_cannot_be_scored_is_refused(data: Path, tmp_path: Path) -> None:
    with refused("is not a prepared data set"):
        from_dataset({}, tmp_path / "corpus")
    stills = tmp_path / "stills"
    write_fake_dataset(stills, [fake_clip("a", 1, split="test", still=True)])
    with refused("stills holds still pictures in split 'test'"):
        from_dataset({}, stills, root=tmp_path)
    stray = put(tmp_path / "stray", "x.mp4")
    with refused(r"stray \(x\) has the name of a clip in split 'test' of .*data set \(speaker0/"):
        from_dataset({"ours": stray}, data)
    with refused("use --audio prediction"):
        from_dataset({}, data, audio="truth", protocol="dubbing")
    manifest = json.loads((data / MANIFEST).read_text())
    write_json(data / MANIFEST, {**manifest, "shards": []})
    with refused("has no clips"):
        from_dataset({}, data)
    write_json(data / MANIFEST, {**manifest, "complete": False})
    with refused("data set is not complete: run the same `bench prep` again"):
        from_dataset({}, data)
    write_json(data / MANIFEST, manifest)
    next((data / "shards").glob("test-*")).unlink()
    with refused("is not a whole shard"):
        from_dataset({}, data)


def test_a_take_gives_the_frames_that_preparation_saw(toy_corpus: Path, tmp_path: Path) -> None:
    """The pictures in the shard, stored without loss, are those that the view cuts from the take's frames."""
    source = max(toy_corpus.rglob("*.mp4"), key=lambda path: (video_reading.probe(path).n_frames, path))
    name = source.relative_to(toy_corpus).as_posix()
    refs = (
        ClipRef("cropped/Ä 1", "test", name, start=0.2, stop=1.28, crop=(8, 4, 116, 116), size=100),
        ClipRef("plain", "test", name),
        ClipRef("window", "test", name, start=0.12, crop=(2, 0, 122, 124)),
    )
    options = PrepOptions("folder", "toy", ("face96",), encoding="png", clip_seconds=1.0)
    folder = tmp_path / "data"
    (folder / "shards").mkdir(parents=True)
    info = make_shard(ShardPlan("test-00000.parquet", "test", refs), toy_corpus, folder, options, {})
    assert info.failures == 0
    shards = [{"name": info.name, "split": "test", "clips": info.clips}]
    write_json(folder / MANIFEST, {"complete": True, "root": str(toy_corpus), "shards": shards})
    inputs = from_dataset({}, folder)
    assert {clip.split("-")[0] for clip in ids(inputs)} == {"cropped/Ä 1", "plain", "window"}
    for job in inputs.jobs:
        assert job.truth is not None and job.shard is not None
        stored = read_clip(open_shard(job.shard[0]), job.shard[1], ["face96", "face96_transform", "audio"])
        frames = list(take_frames(job.truth))
        assert len(frames) == count_frames(job.truth) == job.n_frames == stored.n_frames
        assert frames[0].shape == (stored.height, stored.width, 3)
        for frame, matrix, picture in zip(
            frames, stored.transforms["face96"], stored.images["face96"], strict=True
        ):
            assert picture is not None
            assert np.array_equal(images.decode(picture), VIEWS["face96"].crop(frame, matrix))
        # The sound in the shard is that of the same span of the file.
        span = Voice(job.truth.path, job.truth.start, job.truth.stop)
        heard = voice_samples(span)
        assert stored.audio is not None
        assert np.array_equal(heard, stored.audio[: len(heard)])
        assert not stored.audio[len(heard) :].any()


# --- lists of pairs


def test_the_published_form_is_sound_then_video_without_suffixes(tmp_path: Path) -> None:
    root = put(tmp_path / "main", "63/00011.mp4", "63/00098.mp4", "63/00098.wav", "64/00022.mp4")
    text = "63/00098 63/00011\n63/00011 64/00022\n64/00022 64/00099\n64/00077 63/00098\n"
    (tmp_path / "lrs2 test.txt").write_text(text)
    ours = put(tmp_path / "results", "0.mp4", "2.mp4", "3.mp4", "4.mp4", "x.mp4")
    inputs = from_pairs({"ours": ours}, tmp_path / "lrs2 test.txt", root)
    assert ids(inputs) == [
        "00000_63-00011_63-00098",
        "00001_64-00022_63-00011",
        "00002_64-00099_64-00022",
        "00003_63-00098_64-00077",
    ]
    assert (inputs.name, inputs.kind, inputs.protocol) == ("lrs2 test", "pairs", "dubbing")
    assert [job.truth and job.truth.path.name for job in inputs.jobs] == [
        "00011.mp4",
        "00022.mp4",
        None,
        "00098.mp4",
    ]
    assert [relative(inputs, clip, "ours", ours) for clip in ids(inputs)] == ["0.mp4", None, "2.mp4", "3.mp4"]
    assert [job.candidates[0].problem for job in inputs.jobs] == ["", NO_PREDICTION, NO_VIDEO, ""]
    (line,) = inputs.passed_over
    assert line.endswith("videos of ours have no line in the list: 4.mp4, x.mp4")
    assert inputs.jobs[0].candidates[0].audio == Voice(ours / "0.mp4")
    named = from_pairs({"ours": ours}, tmp_path / "lrs2 test.txt", root, audio="truth")
    assert named.jobs[0].candidates[0].audio == Voice(root / "63/00098.mp4")
    assert [job.candidates[0].problem for job in named.jobs] == ["", NO_PREDICTION, NO_VIDEO, NO_AUDIO]
    assert pickle.loads(pickle.dumps(named)) == named


def test_a_list_of_pairs_names_files_whose_letters_are_composed_in_another_way(tmp_path: Path) -> None:
    disk, said = (unicodedata.normalize(form, "größe/Zoë") for form in ("NFD", "NFC"))
    root = put(tmp_path / "main", f"{disk}.MTS", f"{disk}.OPUS")
    (tmp_path / "plain.txt").write_text(f"{said} {said}\n", "utf-8")
    (tmp_path / "named.txt").write_text(f"{said}.OPUS {said}.MTS\n", "utf-8")
    (plain,) = from_pairs({}, tmp_path / "plain.txt", root).jobs
    named = from_pairs({}, tmp_path / "named.txt", root)
    assert plain.truth is not None and plain.truth.path == root / f"{disk}.MTS"
    assert named.jobs[0].truth == plain.truth
    assert [voice.path for voice in named.voices.values()] == [root / f"{disk}.OPUS"]


def test_without_a_root_only_the_predictions_are_there(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a b\n")
    ours = put(tmp_path / "ours", "0.mp4")
    inputs = from_pairs({"ours": ours}, tmp_path / "list.txt")
    assert inputs.jobs[0].truth is None
    assert inputs.jobs[0].candidates[0].problem == ""
    with refused("--audio truth needs the sound files of the list"):
        from_pairs({"ours": ours}, tmp_path / "list.txt", audio="truth")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a/1 b/2\r\nc d\r\n\r\n", [PairLine("b/2", "a/1"), PairLine("d", "c")]),
        ("one.mp4 two.mp4\n", [PairLine("one.mp4", "two.mp4")]),
        (
            "one.mp4 two.wav\none.mp4 two.mp4",
            [PairLine("one.mp4", "two.wav"), PairLine("one.mp4", "two.mp4")],
        ),
        ("two.wav one.mp4", [PairLine("one.mp4", "two.wav")]),
        ("\ufeffv 1.5 x\tv2\n", [PairLine("v2", "v 1.5 x")]),
        ("ABOUT_00017  WITHOUT_00042 \n", [PairLine("WITHOUT_00042", "ABOUT_00017")]),
    ],
)
def test_lists_are_read(tmp_path: Path, text: str, pairs: list[PairLine]) -> None:
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    assert read_pairs(tmp_path / "list.txt") == pairs


def test_an_order_that_is_given_is_taken(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("one.mp4 two.mp4\n")
    assert read_pairs(tmp_path / "list.txt", "audio-video") == [PairLine("two.mp4", "one.mp4")]
    assert read_pairs(tmp_path / "list.txt", "video-audio") == [PairLine("one.mp4", "two.mp4")]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a b\n\nc d\n", r"list\.txt, line 2: is empty, and results are numbered by line"),
        ("# sound video\na b\n", r"line 1: is a comment"),
        ("a b\na b c\n", r"line 2: holds 3 names, not 2: 'a b c'"),
        ("a\n", r"line 1: holds 1 names, not 2"),
        ("a\tb\tc", r"line 1: holds 3 names"),
        ("a ../../b\n", r"line 1: points outside the folder of the media: '\.\./\.\./b'"),
        ("/etc/a b\n", r"line 1: points outside the folder"),
        (
            "a.mp4 b\n",
            r"line 1: has one name with a suffix and one without: write both with, or both without",
        ),
        ("a b\nc.mp4 d.mp4\n", r"line 2: has the video before the sound, the first line the sound before"),
        ("", r"list\.txt is empty"),
        ("\n \n", r"list\.txt is empty"),
    ],
)
def test_lines_that_cannot_be_understood_are_named(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with refused(match):
        read_pairs(tmp_path / "list.txt")


def test_mistakes_with_lists_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    ours = put(tmp_path / "ours", "000.mp4", "first.mp4")
    with refused(r"list\.txt cannot be read: No such file"):
        read_pairs(path)
    path.write_bytes(b"\xff\xfe a\n")
    with refused("it is not UTF-8"):
        read_pairs(path)
    path.write_text("s.wav v.mp4\n")
    with refused(r"line 1: names the sound s\.wav where the video should be"):
        read_pairs(path, "video-audio")
    path.write_text("a b\n")
    with refused(r"ours \(000, first\) is named after a line of .*list\.txt: 0\.mp4 for the first"):
        from_pairs({"ours": ours}, path)
    put(tmp_path / "ours", "0.mp4")
    with refused(r"ours holds none of the list's videos \(b\): give their folder with --truth"):
        from_pairs({"ours": ours}, path, ours)
    with refused("there is no folder"):
        from_pairs({"ours": ours}, path, tmp_path / "none")


def test_ids_sort_as_lines_do_and_are_names_of_files(tmp_path: Path) -> None:
    lines = [f"a/{i}:*? b/{'x' * 200}/{i}" for i in range(120)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    inputs = from_pairs({}, tmp_path / "list.txt")
    assert [int(clip.split("_")[0]) for clip in ids(inputs)] == list(range(120))
    for clip in ids(inputs):
        (tmp_path / clip).touch()


# --- rows that are made from the truth


@pytest.fixture
def corpus(tmp_path: Path, rng: np.random.Generator) -> Path:
    for i in range(3):
        samples = noise(rng, 0.4 + 0.2 * i)
        video_writing.write_video(
            put(tmp_path / "true", "x") / f"clip {i}.mp4", pictures(rng, 10, (48, 64)), samples=samples
        )
    return tmp_path / "true"


def test_trivial_rows_come_after_the_methods(corpus: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    video_writing.write_video(ours / "clip 0.mp4", pictures(rng, 10, (48, 64)), crf=40)
    (ours / "clip 1.mp4").write_text("no video")
    inputs = with_trivial(from_folders({"ours": ours}, corpus), seed=4)
    assert ids(inputs) == ["clip 0", "clip 1", "clip 2"]
    for job in inputs.jobs:
        assert [c.method for c in job.candidates] == ["ours", *TRIVIAL]
        assert all(c.video is None and c.kind == "trivial" for c in job.candidates[1:])
        truth = job.truth
        assert truth is not None
        own = Voice(truth.path)
        assert [c.audio for c in job.candidates[1:5]] == [own] * 4
        wrong = job.candidates[5].audio
        assert wrong is not None and wrong != own and wrong.path.parent == corpus
    coded = [candidate(inputs, clip, "reencoded") for clip in ids(inputs)]
    assert coded[0].codec is not None and coded[0].codec.name == "libx264"
    assert coded[0].codec.bit_rate is not None and coded[0].problem == ""
    assert coded[1].problem.startswith("the codec of the prediction cannot be taken: damaged")
    assert coded[2].problem == NO_CODEC
    assert with_trivial(from_folders({"ours": ours}, corpus), seed=4) == inputs


def test_without_predictions_the_codec_is_the_suites_own(corpus: Path) -> None:
    inputs = with_trivial(from_folders({}, corpus), ["reencoded"])
    assert [c.codec for job in inputs.jobs for c in job.candidates] == [Codec()] * 3


def test_the_codec_is_that_of_the_next_method_where_the_first_has_none(
    corpus: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    one, two = put(tmp_path / "one", "clip 1.mp4"), tmp_path / "two"
    two.mkdir()
    video_writing.write_video(two / "clip 0.mp4", pictures(rng, 5))
    video_writing.write_video(two / "clip 1.mp4", pictures(rng, 5))
    inputs = with_trivial(from_folders({"one": one, "two": two}, corpus), ["reencoded"])
    found = [candidate(inputs, clip, "reencoded").codec for clip in ids(inputs)]
    assert found[0] is not None and found[0].bit_rate and found[1] is not None and found[1].bit_rate
    assert found[2] is None


def test_one_clip_has_no_other_sound(tmp_path: Path) -> None:
    inputs = with_trivial(from_folders({}, put(tmp_path / "truth", "1.mp4")), ["wrong_audio", "still"])
    wrong, still = inputs.jobs[0].candidates
    assert (wrong.audio, wrong.problem) == (None, NO_OTHER_CLIP)
    assert still.problem == ""


def test_dubbing_has_the_rows_that_make_sense_there(tmp_path: Path) -> None:
    assert trivial_rows("reconstruction") == TRIVIAL
    assert trivial_rows("dubbing") == ("still", "wrong_audio")
    root = put(tmp_path / "main", "a.mp4", "b.mp4")
    (tmp_path / "list.txt").write_text("a b\nb b\nc a\n")
    inputs = with_trivial(from_pairs({}, tmp_path / "list.txt", root))
    assert [[c.method for c in job.candidates] for job in inputs.jobs] == [["still", "wrong_audio"]] * 3
    driving, itself, absent = ([c.audio for c in job.candidates] for job in inputs.jobs)
    assert driving == [Voice(root / "a.mp4")] * 2
    assert itself == [Voice(root / "b.mp4"), None]
    assert absent == [None, None]
    assert [c.problem for c in inputs.jobs[1].candidates] == ["", OWN_SOUND]
    assert [c.problem for c in inputs.jobs[2].candidates] == [NO_SOUND] * 2


def test_dubbing_without_a_list_takes_the_sound_of_the_prediction(tmp_path: Path) -> None:
    truth, ours = put(tmp_path / "truth", "1.mp4", "2.mp4"), put(tmp_path / "ours", "1.mp4")
    inputs = with_trivial(from_folders({"ours": ours}, truth, protocol="dubbing"))
    assert [c.audio for c in inputs.jobs[0].candidates] == [Voice(ours / "1.mp4")] * 3
    assert [c.problem for c in inputs.jobs[1].candidates] == [NO_PREDICTION, NO_SOUND, NO_SOUND]


def test_rows_that_cannot_be_are_refused(tmp_path: Path) -> None:
    truth = put(tmp_path / "truth", "1.mp4")
    inputs = from_folders({"ours": truth}, truth)
    with refused("unknown row 'stil': did you mean still?"):
        with_trivial(inputs, ["stil"])
    with refused("the dubbing protocol does not define ground_truth, reencoded"):
        with_trivial(replace(inputs, protocol="dubbing"), TRIVIAL[:2])
    with refused("the rows still are made from the true videos, and none were given"):
        with_trivial(from_folders({"ours": truth}, None), ["still"])
    assert with_trivial(inputs, []) == inputs


# --- reading


def test_frames_and_their_number(corpus: Path) -> None:
    path = corpus / "clip 0.mp4"
    whole = list(take_frames(Take(path)))
    assert len(whole) == count_frames(Take(path)) == 10
    assert count_frames(Take(path, 3, 7)) == 4
    assert count_frames(Take(path, 3, 70)) == 7
    assert count_frames(Take(path, 30)) == 0
    some = list(take_frames(Take(path, 3, 7, crop=(4, 2, 20, 20))))
    assert np.array_equal(some, [frame[2:22, 4:24] for frame in whole[3:7]])
    assert next(take_frames(Take(path, crop=(4, 2, 20, 20), size=10))).shape == (10, 10, 3)
    with pytest.raises(ClipError, match="no such file"):
        count_frames(Take(corpus / "none.mp4"))


def test_sound_of_a_file_and_its_span(corpus: Path) -> None:
    path = corpus / "clip 2.mp4"
    whole = voice_samples(Voice(path))
    assert np.array_equal(whole, sound_reading.sound(path).samples)
    assert np.array_equal(voice_samples(Voice(path, 2, 5)), whole[1280:3200])
    assert np.array_equal(voice_samples(Voice(path, 2)), whole[1280:])


def test_no_sound_is_said(tmp_path: Path, rng: np.random.Generator) -> None:
    video_writing.write_video(tmp_path / "mute.mp4", pictures(rng, 5))
    with pytest.raises(ClipError, match="no audio stream"):
        voice_samples(Voice(tmp_path / "mute.mp4"))
    write_fake_dataset(tmp_path / "stills", [fake_clip("a", 1, still=True)])
    shard = next((tmp_path / "stills/shards").iterdir())
    with pytest.raises(ClipError, match="no sound in the data set"):
        voice_samples(Voice(shard, row_group=0))


@pytest.mark.clips
def test_a_real_clip_scores_against_itself(clips_dir: Path) -> None:
    inputs = with_trivial(from_folders({"same": clips_dir}, clips_dir), ["ground_truth"])
    job = next(job for job in inputs.jobs if job.clip_id == "talk1")
    assert job.truth is not None and job.candidates[0].video == job.truth
    voice = job.candidates[1].audio
    assert voice is not None
    assert abs(len(voice_samples(voice)) / 640 - count_frames(job.truth)) < 5


def test_imports_stay_light() -> None:
    code = "import bench.clips.inputs, sys; print([m for m in ('av', 'cv2', 'torch', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
