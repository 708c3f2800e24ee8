"""What a listing says of a corpus beside its clips: held-out speakers, separate sound, files left out."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import pytest

from prep.errors import PrepError
from prep.media import IMAGE_SUFFIXES, OTHER_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES
from prep.sources.gather import gather
from prep.sources.holdout import Holdout, hold_out, read_share
from prep.sources.voxceleb2 import VoxCeleb2
from tests.prep.trees import plant

TEN = Holdout(0.1)


def people(root: Path, count: int, clips: int = 2) -> Path:
    return plant(
        root, *(f"p{person:02d}/2020/{clip}.mp4" for person in range(count) for clip in range(clips))
    )


def splits(root: Path, holdout: Holdout) -> dict[str, str]:
    """Speaker → split; fails if one is in two."""
    found: dict[str, str] = {}
    for clip in gather("folder", root, holdout=holdout).clips:
        assert found.setdefault(clip.speaker, clip.split) == clip.split
    return found


# holding out


@pytest.mark.parametrize(("text", "share"), [("10%", 0.1), ("0.1", 0.1), (" 2.5 %", 0.025), ("49%", 0.49)])
def test_a_share_is_a_percentage_or_a_fraction(text: str, share: float) -> None:
    assert read_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["10", "0", "0%", "50%", "0.5", "-0.1", "nan", "inf", "ten", "", "%"])
def test_another_share_is_refused(text: str) -> None:
    with pytest.raises(PrepError, match=r"write 10% or 0\.1"):
        read_share(text)


def test_speakers_are_held_out_whole_and_about_as_many_as_asked(tmp_path: Path) -> None:
    found = splits(people(tmp_path, 200, clips=1), Holdout(0.2))
    counts = {split: list(found.values()).count(split) for split in ("train", "val", "test")}
    # Six standard deviations of the binomial distribution.
    assert sum(counts.values()) == 200 and all(6 < counts[split] < 74 for split in ("val", "test"))


def test_another_seed_holds_out_others_and_the_same_seed_the_same(tmp_path: Path) -> None:
    people(tmp_path, 40)
    assert splits(tmp_path, Holdout(0.2, 1)) == splits(tmp_path, Holdout(0.2, 1))
    assert splits(tmp_path, Holdout(0.2, 1)) != splits(tmp_path, Holdout(0.2, 2))


def test_more_videos_move_no_speaker(tmp_path: Path) -> None:
    before = splits(people(tmp_path, 40), Holdout(0.2))
    plant(tmp_path, "p00/new.mov", "somebody/1.mp4", "loose.mkv")
    after = splits(tmp_path, Holdout(0.2))
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"somebody", "loose"}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [3, 4, 7])
def test_no_split_is_empty_with_three_speakers_or_more(tmp_path: Path, count: int, seed: int) -> None:
    people(tmp_path, count)
    for share in (0.01, 0.1, 0.49):
        assert set(splits(tmp_path, Holdout(share, seed)).values()) == {"train", "val", "test"}


def test_loose_files_are_speakers_of_their_own(tmp_path: Path) -> None:
    plant(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    found = gather("folder", tmp_path, holdout=TEN)
    assert sorted(clip.split for clip in found.clips) == ["test", "train", "val"]
    assert found.record["holdout"] == {
        "share": 0.1,
        "seed": 0,
        "by": "speaker",
        "units": {"test": 1, "val": 1, "train": 1},
    }
    assert found.notes == ["held out by speaker, seed 0: speakers: train 1, val 1, test 1"]


def test_with_too_few_speakers_clips_are_held_out_and_that_is_said(tmp_path: Path) -> None:
    plant(tmp_path, *(f"ann/{clip}.mp4" for clip in range(10)), "bob/1.mp4")
    found = gather("folder", tmp_path, holdout=TEN)
    assert {clip.split for clip in found.clips} == {"train", "val", "test"}
    assert found.record["holdout"]["by"] == "clip" and found.notes[0].startswith("held out by clip")
    assert "figures will be of people seen in training" in found.notes[1]


def test_one_split_of_a_corpus_that_is_split_here(tmp_path: Path) -> None:
    people(tmp_path, 5)
    every = gather("folder", tmp_path, holdout=TEN)
    tests = gather("folder", tmp_path, "test", holdout=TEN)
    assert tests.clips == [clip for clip in every.clips if clip.split == "test"]
    assert tests.record == {**every.record, "split": "test"} and tests.record["left_out"] == {}
    with pytest.raises(PrepError, match=r"no split 'pretrain' in .*: there is test, train, val"):
        gather("folder", tmp_path, "pretrain", holdout=TEN)


def test_lists_are_not_overruled(tmp_path: Path) -> None:
    people(tmp_path, 5)
    (tmp_path / "train.txt").write_text("p00/2020/0\n")
    with pytest.raises(PrepError, match=r"has lists of its splits \(train\.txt\): leave --holdout out"):
        gather("folder", tmp_path, holdout=TEN)


def test_a_corpus_with_splits_keeps_them(tmp_path: Path) -> None:
    plant(tmp_path, "pretrain/x/1.mp4", "trainval/y/1.mp4", "test/z/1.mp4")
    with pytest.raises(PrepError, match=r"has the splits pretrain, test, train: leave --holdout out"):
        gather("lrs3", tmp_path, holdout=TEN)


def test_validation_is_taken_from_training_where_only_that_is_missing(tmp_path: Path) -> None:
    plant(tmp_path, *(f"trainval/s{n}/{clip}.mp4" for n in range(6) for clip in range(2)), "test/z/1.mp4")
    clips = gather("lrs3", tmp_path, holdout=TEN).clips
    assert {clip.split for clip in clips if clip.speaker == "z"} == {"test"}
    assert {clip.split for clip in clips if clip.speaker != "z"} == {"train", "val"}


def test_two_videos_are_too_few(tmp_path: Path) -> None:
    plant(tmp_path, "a.mp4", "b.mp4")
    with pytest.raises(PrepError, match=r"too few videos for --holdout \(2\): 3 at least.*--per speaker"):
        hold_out(gather("folder", tmp_path).clips, tmp_path, TEN)


# sound in files of its own


def test_videos_get_the_sound_file_of_their_path(tmp_path: Path) -> None:
    root, sounds = tmp_path / "film", tmp_path / "sound"
    plant(root, "a/1.mp4", "a/2.mp4", "b.mov")
    plant(sounds, "a/1.WAV", "a/1.mp3", "b.opus", "a/2.txt")
    found = gather("folder", root, sound_root=sounds)
    one, two, loose = found.clips
    assert (one.sound, loose.sound) == ("../sound/a/1.WAV", "../sound/b.opus")
    assert (root / one.sound).is_file() and not one.problem
    assert two.problem == f"its sound {sounds}/a/2.wav is missing, also with another suffix of sound"
    assert found.record["sound_root"] == str(sounds)


def test_sound_below_the_root_is_not_left_out(tmp_path: Path) -> None:
    plant(tmp_path, "a.mp4", "wav/a.wav", "wav/b.wav")
    found = gather("folder", tmp_path, sound_root=tmp_path / "wav")
    assert found.clips[0].sound == "wav/a.wav"
    assert found.record["left_out"] == {"wav": 1}


def test_a_missing_folder_of_sound(tmp_path: Path) -> None:
    plant(tmp_path, "a.mp4")
    with pytest.raises(PrepError, match=r"there is no folder .*nowhere"):
        gather("folder", tmp_path, sound_root=tmp_path / "nowhere")


def test_voxceleb2(tmp_path: Path) -> None:
    name = "id00012/21Uxsk56VDQ"
    plant(tmp_path, f"dev/mp4/{name}/00001.mp4", f"dev/aac/{name}/00001.m4a", f"dev/mp4/{name}/00002.mp4")
    plant(tmp_path, "test/mp4/id00017/x/00001.mp4", "test/aac/id00017/x/00001.wav", "vox2_meta.csv")
    one, two, three = VoxCeleb2().list_clips(tmp_path)
    assert (one.clip_id, one.split, one.speaker) == (f"dev/{name}/00001", "train", "id00012")
    assert (one.source, one.sound) == (f"dev/mp4/{name}/00001.mp4", f"dev/aac/{name}/00001.m4a")
    assert two.sound == "" and two.problem.startswith(
        f"its sound {tmp_path}/dev/aac/{name}/00002.m4a is missing"
    )
    assert (three.split, three.sound) == ("test", "test/aac/id00017/x/00001.wav")
    assert VoxCeleb2().list_clips(tmp_path, "test") == [three]
    assert gather("voxceleb2", tmp_path).notes == []
    with pytest.raises(PrepError, match=r"no split 'val' in .*: there is train, test"):
        VoxCeleb2().list_clips(tmp_path, "val")


def test_voxceleb2_without_its_sound(tmp_path: Path) -> None:
    plant(tmp_path, "dev/mp4/id1/x/1.mp4")
    with pytest.raises(PrepError, match=r"dev/aac is missing: it should hold the sound of dev/mp4"):
        VoxCeleb2().list_clips(tmp_path)


# files left out


def test_media_that_no_clip_uses_are_counted_by_suffix(tmp_path: Path) -> None:
    plant(tmp_path, "a.mp4", "b.rm", "c/d.RM", "e.heic", "f.m3u8", "notes.txt", ".hidden.rm", "g.part")
    found = gather("folder", tmp_path)
    assert found.record["left_out"] == {"rm": 2, "heic": 1, "m3u8": 1, "part": 1}
    assert found.notes == ["left out: 2 .rm, 1 .heic, 1 .m3u8, 1 .part"]


def test_videos_in_no_list_are_counted(tmp_path: Path) -> None:
    decomposed = normalize("NFD", "é.mp4")
    plant(tmp_path, "a.mp4", "b.mp4", "c.mkv", "d.rm", decomposed)
    (tmp_path / "train.txt").write_text("a\né.mp4\n", "utf-8")
    (tmp_path / "val.txt").write_text("absent\n")
    found = gather("folder", tmp_path)
    assert found.notes == [
        "left out: 2 videos are in no list (train.txt, val.txt): 1 .mkv, 1 .mp4",
        "left out: 1 .rm",
    ]
    # The videos of the other split are not left out.
    assert gather("folder", tmp_path, "val").record["left_out"] == found.record["left_out"]


def test_files_outside_the_layout_are_counted(tmp_path: Path) -> None:
    plant(tmp_path, "trainval/x/1.mp4", "trainval/x/2.avi", "trainval/x/1.txt", "trainval/thumb.jpg")
    assert gather("lrs3", tmp_path).notes == [
        "left out: 1 video is part of no clip: 1 .avi",
        "left out: 1 .jpg",
    ]


def test_pictures_in_no_list_are_counted_as_pictures(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.TIF", "c.jfif", "d.mp4")
    (tmp_path / "train.txt").write_text("a\n")
    assert gather("ffhq", tmp_path).notes == [
        "left out: 2 pictures are in no list (train.txt): 1 .jfif, 1 .tif",
        "left out: 1 .mp4",
    ]


def test_a_folder_without_videos_says_what_it_holds(tmp_path: Path) -> None:
    plant(tmp_path, "a.rm", "b/c.rm", "d.jpg", "e.txt")
    with pytest.raises(PrepError, match=r"no video in .* and its folders: there is 2 \.rm, 1 \.jpg$"):
        gather("folder", tmp_path)
    with pytest.raises(PrepError, match=r"neither images1024x1024: there is no media file$"):
        gather("ffhq", plant(tmp_path / "f", "a.txt"))


def test_every_suffix_of_video_and_picture_is_listed_in_any_case(tmp_path: Path) -> None:
    videos = plant(tmp_path / "videos", *(f"{s}.{s.upper()}" for s in VIDEO_SUFFIXES))
    assert len(gather("folder", videos).clips) == len(VIDEO_SUFFIXES)
    pictures = plant(tmp_path / "pictures", *(f"{s}.{s.title()}" for s in IMAGE_SUFFIXES))
    assert len(gather("ffhq", pictures).clips) == len(IMAGE_SUFFIXES)
    assert not OTHER_SUFFIXES & (VIDEO_SUFFIXES | IMAGE_SUFFIXES | SOUND_SUFFIXES)
