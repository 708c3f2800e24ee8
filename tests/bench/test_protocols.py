"""Lists of pairs: made by a rule that can be repeated, written, and read in the forms that there are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.protocols import Pair, dubbing, load_pairs, reconstruction, write_pairs

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
        ("p.csv", "name,video,audio\n../x,plain,00011\n", r"line 2: the name '\.\./x' leaves the folder"),
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
