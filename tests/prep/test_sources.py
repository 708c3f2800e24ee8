"""The registry, walking and splitting, and the ``folder`` source."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest

from prep.errors import PrepError
from prep.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from prep.sources import SOURCES, ClipRef, get_source
from prep.sources.folder import Folder
from prep.sources.listing import RealNames, clip_ids, read_list, walk
from tests.prep.trees import plant

Form = Literal["NFC", "NFD"]


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_says_what_it_is(name: str) -> None:
    source = get_source(name)
    assert source.summary and "\n" not in source.summary
    known = {"box128", "face96", "aligned512", "mouth416x320", "lower512"}
    assert source.default_views and set(source.default_views) <= known


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lsr2", "unknown source 'lsr2': did you mean lrs2?"),
        ("HDTF", "unknown source 'HDTF': did you mean hdtf?"),
        ("voxceleb", "unknown source 'voxceleb': did you mean voxceleb2?"),
    ],
)
def test_unknown_source_proposes_the_nearest(name: str, message: str) -> None:
    with pytest.raises(PrepError) as caught:
        get_source(name)
    assert str(caught.value) == message


def test_the_registry_imports_no_source() -> None:
    code = (
        "import sys, prep.sources;"
        "print([m for m in sys.modules if m.startswith('prep.sources.') or m in ('numpy', 'cv2', 'av')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['prep.sources.base']"


@pytest.mark.parametrize("name", SOURCES)
def test_a_root_that_is_no_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(PrepError, match="there is no folder"):
        get_source(name).list_clips(tmp_path / "absent")
    with pytest.raises(PrepError, match="is not a folder"):
        get_source(name).list_clips(plant(tmp_path, "file.mp4") / "file.mp4")


@pytest.mark.parametrize("name", SOURCES)
def test_an_empty_root_says_what_was_looked_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(PrepError) as caught:
        get_source(name).list_clips(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


# walking


def test_walk_takes_the_wanted_files_only(tmp_path: Path) -> None:
    plant(
        tmp_path,
        "b/x.MP4",
        "a.mp4",
        "b/c/d.WebM",
        "b/notes.txt",
        "mp4",
        ".hidden.mp4",
        ".git/x.mp4",
        "b/._x.MP4",
    )
    assert walk(tmp_path, VIDEO_SUFFIXES) == ["a.mp4", "b/c/d.WebM", "b/x.MP4"]
    assert walk(tmp_path, IMAGE_SUFFIXES) == []


def test_walk_enters_a_folder_once_and_by_its_real_path(tmp_path: Path) -> None:
    root = plant(tmp_path / "root", "z/1.mp4", "z/deep/2.mp4")
    outside = plant(tmp_path / "outside", "3.mp4")
    (root / "a").symlink_to(root / "z")
    (root / "z" / "up").symlink_to(root)
    (root / "m").symlink_to(outside)
    (root / "n").symlink_to(outside)
    (outside / "back").symlink_to(root / "z")
    assert walk(root, VIDEO_SUFFIXES) == ["m/3.mp4", "z/1.mp4", "z/deep/2.mp4"]


def test_walk_keeps_broken_links_and_leaves_out_pipes(tmp_path: Path) -> None:
    plant(tmp_path, "real.mp4")
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "good.mp4").symlink_to(tmp_path / "real.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    assert walk(tmp_path, VIDEO_SUFFIXES) == ["broken.mp4", "good.mp4", "real.mp4"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_walk_names_a_folder_that_it_may_not_read(tmp_path: Path) -> None:
    plant(tmp_path, "closed/a.mp4")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(PrepError, match=r"cannot read the folder .*closed: Permission denied"):
            walk(tmp_path, VIDEO_SUFFIXES)
    finally:
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.parametrize(
    ("paths", "ids"),
    [
        (["a.mp4", "b/a.mp4"], ["a", "b/a"]),
        (["a.mov", "a.mp4", "b.mp4"], ["a.mov", "a.mp4", "b"]),
        # The bare name of the last would be the full name of another.
        (["a.mov", "a.mp4", "a.mp4.mov"], ["a.mov", "a.mp4", "a.mp4.mov"]),
        (["a b.mp4", "dots.in.name.mp4", "ž/口.mp4"], ["a b", "dots.in.name", "ž/口"]),
    ],
)
def test_clip_ids_are_unique(paths: list[str], ids: list[str]) -> None:
    assert clip_ids(paths) == ids


def test_read_list(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa/1\r\n\r\n  b/2 NF \r\n\tc d/3\n\xff/4\nlast\xe2\x80\xa8one")
    assert read_list(path) == ["a/1", "b/2 NF", "c d/3", "\\xff/4", "last\u2028one"]


# names in two Unicode forms

NAME = "r\u00e9sum\u00e9 \ud55c\uad6d\uc5b4"


@pytest.mark.parametrize(("disk", "listed"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_a_list_names_a_file_whose_letters_are_composed_in_another_way(
    tmp_path: Path, disk: Form, listed: Form
) -> None:
    source = f"{normalize(disk, NAME)}/{normalize(disk, NAME)}.MP4"
    plant(tmp_path, source)
    (tmp_path / "train.txt").write_text(f"{normalize(listed, f'{NAME}/{NAME}')}.MP4\n", "utf-8")
    (clip,) = Folder().list_clips(tmp_path)
    assert (clip.clip_id, clip.source, clip.problem) == (f"{NAME}/{NAME}", source, "")


def test_two_names_that_differ_only_in_composition_are_refused(tmp_path: Path) -> None:
    plant(tmp_path, "\u00e9.mp4", "e\u0301.mp4")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system takes both names for one")
    with pytest.raises(PrepError, match=r"'e\\u0301\.mp4' and '\\xe9\.mp4', which look alike .* rename one"):
        Folder().list_clips(tmp_path)


def test_real_names_are_found_whatever_their_composition_and_suffix(tmp_path: Path) -> None:
    folder, stem = normalize("NFD", NAME), normalize("NFD", "\u00fc.x")
    plant(tmp_path, f"{folder}/{stem}.Wav", f"{folder}/{stem}.mkv", "b.MP4", "b.mp4")
    real = RealNames(tmp_path)
    assert real.find(f"{NAME}/\u00fc.x.mkv") == f"{folder}/{stem}.mkv"
    assert real.find(f"./{NAME}") == folder
    assert real.find(f"{NAME}/absent.mkv") is None and real.find("absent/a.mkv") is None
    assert real.find_any(f"{NAME}/\u00fc.x", ["flac", "wav"]) == f"{folder}/{stem}.Wav"
    assert real.find_any("./b", ["mp4"]) == "b.mp4"
    assert real.find_any(f"{NAME}/\u00fc", ["mkv"]) is None and real.find_any("absent/b", ["mp4"]) is None


# folder


def test_folder_without_lists_is_all_test(tmp_path: Path) -> None:
    plant(tmp_path, "talk/two words.MOV", "talk/ünï.mkv", "a.mp4", "a.avi", "notes.txt")
    assert Folder().list_clips(tmp_path) == [
        ClipRef("a.avi", "test", "a.avi", "a"),
        ClipRef("a.mp4", "test", "a.mp4", "a"),
        ClipRef("talk/two words", "test", "talk/two words.MOV", "talk"),
        ClipRef("talk/ünï", "test", "talk/ünï.mkv", "talk"),
    ]
    assert Folder().list_clips(tmp_path, "test") == Folder().list_clips(tmp_path)
    with pytest.raises(PrepError) as caught:
        Folder().list_clips(tmp_path, "train")
    assert str(caught.value) == f"no split 'train' in {tmp_path}: there is test"


def test_folder_splits_by_lists(tmp_path: Path) -> None:
    plant(tmp_path, "a.mp4", "b c.mp4", "d/e.mp4", "d/e.mov", "unused.mp4")
    (tmp_path / "train.txt").write_bytes(b"./a\r\nb c.mp4\r\na.mp4\r\n")
    (tmp_path / "val.txt").write_text("d/e.mov\nd/e\n")
    clips = [
        ClipRef("a", "train", "a.mp4", "a"),
        ClipRef("b c", "train", "b c.mp4", "b c"),
        # Two files go by this name, so it names neither.
        ClipRef("d/e", "val", "d/e", problem="listed in val.txt, but there is no such file"),
        ClipRef("d/e.mov", "val", "d/e.mov", "d"),
    ]
    assert Folder().list_clips(tmp_path) == clips
    assert Folder().list_clips(tmp_path, "train") == clips[:2]
    with pytest.raises(PrepError, match=r"no split 'test' in .*: there is train, val$"):
        Folder().list_clips(tmp_path, "test")


def test_a_clip_in_two_lists_is_a_leak(tmp_path: Path) -> None:
    plant(tmp_path, "a.mp4")
    (tmp_path / "train.txt").write_text("a\n")
    (tmp_path / "test.txt").write_text("a.mp4\n")
    with pytest.raises(
        PrepError, match=r"^a is in .*train\.txt and in .*test\.txt: take it out of one of them$"
    ):
        Folder().list_clips(tmp_path)


def test_a_name_that_is_not_utf8_is_a_problem(tmp_path: Path) -> None:
    plant(tmp_path, "good.mp4")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.mp4")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    bad, good = Folder().list_clips(tmp_path)
    assert bad == ClipRef(
        "bad\\xff", "test", "bad\\xff.mp4", "bad\\xff", problem="the name of the file is not valid UTF-8"
    )
    assert good.problem == ""
