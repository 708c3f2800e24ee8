"""Lists of pairs: made by a rule that can be repeated, written, and read in the forms that there are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bench.clips.protocols import (
    TARGETS,
    Cast,
    Pair,
    dubbing,
    load_pairs,
    reconstruction,
    transfer,
    write_pairs,
)
from bench.common.errors import BenchError

CLIPS = ["main/63/00011", "main/63/00098", "main/64/00022", "pretrain/64/00022", "plain"]


def test_own_sound() -> None:
    assert reconstruction(["b", "a"]) == [Pair("a", "a", "a"), Pair("b", "b", "b")]


def test_another_sound_follows_from_the_seed_and_the_ids_alone() -> None:
    clips = [f"speaker{i % 7}/{i:05d}" for i in range(200)]
    pairs = dubbing(clips, 0)
    assert pairs == dubbing(set(clips), 0) == dubbing(clips[::-1], 0)
    assert [pair.video for pair in pairs] == sorted(clips) == [pair.name for pair in pairs]
    assert sorted(pair.audio for pair in pairs) == sorted(clips)
    assert all(pair.video != pair.audio for pair in pairs)
    assert sum(a != b for a, b in zip(pairs, dubbing(clips, 1), strict=True)) > 150
    # The rule as it is documented, written out once more.
    circle = sorted(clips, key=lambda clip: hashlib.sha256(f"0\0{clip}".encode()).digest())
    assert {p.video: p.audio for p in pairs} == dict(zip(circle, circle[1:] + circle[:1], strict=True))
    with pytest.raises(BenchError, match="two clips at least"):
        dubbing(["a"], 0)


SPEAKERS = {f"p{i % 8}/{i:03d}": f"p{i % 8}" for i in range(60)}


def test_one_sound_drives_one_clip_of_each_of_several_speakers() -> None:
    pairs = transfer(SPEAKERS, 0)
    assert pairs == transfer(dict(reversed(SPEAKERS.items())), 0)
    (driver,) = {pair.audio for pair in pairs}
    who = [SPEAKERS[clip] for clip in (driver, *(pair.video for pair in pairs))]
    assert len(pairs) == TARGETS and len(set(who)) == TARGETS + 1
    assert all(pair.name == pair.video for pair in pairs)
    assert len({transfer(SPEAKERS, seed)[0].audio for seed in range(20)}) > 10
    # The rule as it is documented, written out once more.
    order = sorted(SPEAKERS, key=lambda clip: hashlib.sha256(f"0\0{clip}".encode()).digest())
    firsts = [c for n, c in enumerate(order) if SPEAKERS[c] not in {SPEAKERS[o] for o in order[:n]}]
    assert [driver, *(pair.video for pair in pairs)] == firsts[: TARGETS + 1]
    assert transfer(SPEAKERS, 0, Cast(count=7)) == [Pair(clip, clip, firsts[0]) for clip in firsts[1:]]


def test_who_speaks_is_told_by_the_corpus_or_the_folder_or_is_not_told() -> None:
    def targets(speakers: dict[str, str], driver: str) -> set[str]:
        return {pair.video for pair in transfer(speakers, 0, Cast(driver))}

    assert targets({"Obama_0": "Obama", "Obama_1": "Obama", "Merkel_0": "Merkel"}, "Obama_1") == {"Merkel_0"}
    assert targets({"x/a/1": "", "y/a/2": "", "x/b/1": ""}, "y/a/2") == {"x/b/1"}
    assert targets({"a": "", "b": "", "c": ""}, "b") == {"a", "c"}


def test_those_who_take_part_can_be_named() -> None:
    assert transfer(SPEAKERS, 0, Cast("009", ("p2/002", "001"))) == [
        Pair("p2/002", "p2/002", "p1/009"),
        Pair("p1/001", "p1/001", "p1/009"),
    ]
    (chosen,) = transfer(SPEAKERS, 0, Cast("009", count=1))
    assert chosen.audio == "p1/009" and SPEAKERS[chosen.video] != "p1"
    first = transfer(SPEAKERS, 0)[0].audio
    named = transfer(SPEAKERS, 0, Cast(targets=(first,)))
    assert [pair.video for pair in named] == [first] and SPEAKERS[named[0].audio] != SPEAKERS[first]


@pytest.mark.parametrize(
    ("cast", "match"),
    [
        (Cast("p9/001"), r"--driver: no clip is called 'p9/001'"),
        (Cast(targets=("nobody",)), r"--target: no clip is called 'nobody'"),
        (Cast("p1/001", ("p2/002", "001")), r"p1/001 is both driver and target: take it out of --target"),
        (Cast("p1/001", ("p2/002", "002")), r"target twice: give each --target once"),
        (Cast(count=8), r"speakers besides that of p\d/\d+: 7; use --targets 7 at most"),
        (Cast(targets=("002",), count=1), r"use --target or --targets$"),
        (Cast(targets=tuple(f"00{i}" for i in range(8))), r"name a clip with --driver"),
    ],
)
def test_a_cast_that_cannot_be_names_the_remedy(cast: Cast, match: str) -> None:
    with pytest.raises(BenchError, match=match):
        transfer(SPEAKERS, 0, cast)


def test_a_transfer_needs_two_speakers() -> None:
    with pytest.raises(BenchError, match=r"all clips are of the speaker of a/[12]: name clips with --targ"):
        transfer({"a/1": "a", "a/2": "a"}, 0)


def test_a_list_is_written_and_read_again(tmp_path: Path) -> None:
    pairs = dubbing([*CLIPS, 'a "quoted", ä clip'], 3)
    write_pairs(tmp_path / "pairs.csv", pairs)
    assert load_pairs(tmp_path / "pairs.csv", [*CLIPS, 'a "quoted", ä clip']) == pairs
    assert (tmp_path / "pairs.csv").read_text("utf-8").startswith("name,video,audio\n")


def test_a_list_of_two_columns_names_videos_by_their_clip(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("audio,video,note\n63/00011,plain.mp4,x\nplain,00098.mp4,y\n")
    assert load_pairs(tmp_path / "p.csv", CLIPS) == [
        Pair("plain", "plain", "main/63/00011"),
        Pair("main/63/00098", "main/63/00098", "plain"),
    ]


def test_a_published_list_numbers_its_videos(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("63/00098 63/00011\n63/00011 main/64/00022\n63/00098 63/00011\n")
    assert load_pairs(tmp_path / "test.txt", CLIPS) == [
        Pair("0", "main/63/00011", "main/63/00098"),
        Pair("1", "main/64/00022", "main/63/00011"),
        Pair("2", "main/63/00011", "main/63/00098"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("p.csv", "video,sound\na,b\n", r"p\.csv, line 1: no column audio"),
        ("p.csv", "video,audio\n", r"p\.csv is empty"),
        ("p.csv", "video,audio\nplain\n", r"line 2: a video or a sound is missing"),
        (
            "p.csv",
            "video,audio\nplain,63/00012\n",
            r"line 2: no clip is called '63/00012' \(there are main/63/",
        ),
        ("p.csv", "video,audio\n64/00022,plain\n", r"line 2: '64/00022' can be main/64/00022, pretrain/64/0"),
        (
            "p.csv",
            "video,audio\nplain,00011\nplain,00098\n",
            r"line 3: a second video called plain: give names",
        ),
        (
            "p.csv",
            "name,video,audio\n../x,plain,00011\n",
            r"line 2: the name '\.\./x' points outside the folder",
        ),
        ("p.txt", "plain 00011\nplain\n", r"p\.txt, line 2: holds 1 names"),
        ("p.txt", "plain nobody\n", r"p\.txt, line 1: no clip is called 'nobody'"),
    ],
)
def test_a_list_that_cannot_be_used_names_the_line(tmp_path: Path, name: str, text: str, match: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BenchError, match=match):
        load_pairs(tmp_path / name, CLIPS)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"none\.csv cannot be read: No such file"):
        load_pairs(tmp_path / "none.csv", CLIPS)
