"""Who speaks in which clips, and what is held out of each person's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.common.errors import BenchError
from bench.train.persons import find_persons
from prep.schema import Clip
from tests.prep.fakes import fake_clip, write_fake_dataset


def clip(
    clip_id: str, split: str = "train", *, speaker: str = "", source: str = "v.mp4", start: float = 0.0
) -> Clip:
    made = fake_clip(clip_id, 4, split=split)
    return replace(made, speaker=speaker, source=source, start=start)


def dataset(folder: Path, *clips: Clip) -> Path:
    write_fake_dataset(folder, clips)
    return folder


def test_the_splits_of_the_data_set_are_kept(tmp_path: Path) -> None:
    clips = [clip(f"{split}/{n}", split, speaker="anna") for split in ("train", "val", "test") for n in "ab"]
    pretrain = clip("more/a", "pretrain", speaker="anna")
    (anna,) = find_persons([dataset(tmp_path / "d", *clips, pretrain)]).found
    assert (anna.speaker, anna.folder) == ("anna", "anna")
    assert set(anna.train) == {"train/a", "train/b", "more/a"}
    assert (anna.val, anna.test) == (("val/a", "val/b"), ("test/a", "test/b"))


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize(
    ("n", "train", "val", "test"), [(3, 1, 1, 1), (9, 7, 1, 1), (10, 7, 1, 2), (20, 14, 2, 4), (25, 18, 2, 5)]
)
def test_one_split_is_divided_in_time(
    tmp_path: Path, split: str, n: int, train: int, val: int, test: int
) -> None:
    # Ids run against time: what is held out follows from where a clip starts.
    clips = [clip(f"anna/{n - i:03d}", split, start=10.0 * i) for i in range(n)]
    (anna,) = find_persons([dataset(tmp_path / "d", *clips[::-1])]).found
    ordered = [c.clip_id for c in clips]
    assert [*anna.train, *anna.val, *anna.test] == ordered
    assert (len(anna.train), len(anna.val), len(anna.test)) == (train, val, test)


def test_sources_come_before_starts(tmp_path: Path) -> None:
    clips = [
        clip("anna/0", source="b.mp4", start=0.0),
        clip("anna/1", source="a.mp4", start=5.0),
        clip("anna/2", source="a.mp4", start=0.0),
    ]
    (anna,) = find_persons([dataset(tmp_path / "d", *clips)]).found
    assert (anna.train, anna.val, anna.test) == (("anna/2",), ("anna/1",), ("anna/0",))


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ({"train": 10, "test": 2}, (9, 1, 2)),
        ({"train": 10, "val": 2}, (8, 2, 2)),
        ({"val": 6, "test": 4}, (7, 1, 2)),
    ],
)
def test_a_part_that_lacks_is_taken_from_the_end_of_training(
    tmp_path: Path, there: dict[str, int], wanted: tuple[int, int, int]
) -> None:
    clips = [clip(f"anna/{s}{i:02d}", s, start=float(i)) for s, count in there.items() for i in range(count)]
    (anna,) = find_persons([dataset(tmp_path / "d", *clips)]).found
    assert (len(anna.train), len(anna.val), len(anna.test)) == wanted
    if "train" in there and "test" in there:
        assert anna.val == ("anna/train09",) and set(anna.test) == {"anna/test00", "anna/test01"}


def test_too_few_clips_are_said(tmp_path: Path) -> None:
    clips = [clip("anna/1"), clip("anna/2"), *(clip(f"bert/{i}", start=float(i)) for i in range(3))]
    clips += [clip("carl/1"), *(clip(f"carl/t{i}", "test") for i in range(3))]
    persons = find_persons([dataset(tmp_path / "d", *clips)])
    assert [person.speaker for person in persons.found] == ["bert"]
    assert persons.skipped == {
        "anna": "clips: 2, and 3 are needed",
        "carl": "the clips of its splits (test 3, train 1) leave none to train on",
    }


def test_a_list_of_clips_bounds_training_alone(tmp_path: Path) -> None:
    clips = [clip(f"{name}/{i}", start=float(i)) for name in ("anna", "bert") for i in range(10)]
    persons = find_persons([dataset(tmp_path / "d", *clips)], {"anna/0", "anna/3", "bert/9"})
    (anna,) = persons.found
    assert (
        anna.train == ("anna/0", "anna/3") and anna.val == ("anna/7",) and anna.test == ("anna/8", "anna/9")
    )
    assert persons.skipped == {"bert": "no training clip is in the list of clips"}


def test_folders_are_apart_whatever_the_names(tmp_path: Path) -> None:
    names = ("a/b", "a b", "..", "Zoë")
    clips = [
        clip(f"c{k}/{i}", speaker=name, start=float(i)) for k, name in enumerate(names) for i in range(3)
    ]
    found = {
        person.speaker: person.folder for person in find_persons([dataset(tmp_path / "d", *clips)]).found
    }
    assert found == {"..": "speaker", "Zoë": "Zoë", "a b": "a-b", "a/b": "a-b-2"}


def test_one_name_in_two_data_sets_is_refused(tmp_path: Path) -> None:
    folders = [dataset(tmp_path / name, *(clip(f"anna/{name}{i}") for i in range(3))) for name in "xy"]
    with pytest.raises(BenchError, match=r"anna speaks in .*x and in .*y, which may be two persons"):
        find_persons(folders)
