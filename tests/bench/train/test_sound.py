"""The choices of sound that a run takes over from its data sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.common.errors import BenchError
from bench.train.sound import data_sound, mixed_versions
from prep.shards import MANIFEST, write_json
from tests.prep.fakes import fake_clip, write_fake_dataset


def prepared(folder: Path, padding: str | None, *, still: bool = False) -> Path:
    write_fake_dataset(folder, [fake_clip(f"{folder.name}/1", 1 if still else 8, still=still)])
    if padding is not None:
        manifest = json.loads((folder / MANIFEST).read_text())
        write_json(folder / MANIFEST, {**manifest, "options": {"mel_padding": padding}})
    return folder


def test_it_is_that_of_the_manifest(tmp_path: Path) -> None:
    reflect, old = prepared(tmp_path / "a", "reflect"), prepared(tmp_path / "b", None)
    assert data_sound([reflect]).mel_padding == "reflect"
    assert data_sound([old]).mel_padding == "constant"
    assert data_sound([]).mel_padding == "constant"


def test_two_data_sets_that_differ_are_one_line(tmp_path: Path) -> None:
    a, b = prepared(tmp_path / "a", "reflect"), prepared(tmp_path / "b", "constant")
    with pytest.raises(BenchError) as caught:
        data_sound([a, b])
    assert str(caught.value) == (
        f"{a} was prepared with mel_padding reflect, {b} with constant: prepare one of them again with the other's "
        "--mel-padding"
    )


def test_pictures_without_sound_have_no_say(tmp_path: Path) -> None:
    stills, clips = prepared(tmp_path / "a", "constant", still=True), prepared(tmp_path / "b", "reflect")
    assert data_sound([stills, clips]).mel_padding == "reflect"


def test_data_sets_whose_sound_was_mixed_by_different_rules_are_named(tmp_path: Path) -> None:
    old = Path(__file__).parents[2] / "history" / "data"
    new, stills = prepared(tmp_path / "a", None), prepared(tmp_path / "b", None, still=True)
    assert mixed_versions([new, old]) == (
        f"stereo sound in {old} is up to 3 dB louder than in the others (schema version 1): prepare the corpus "
        "again to train on one level"
    )
    for folders in ([new], [old], [new, new], [old, old], [stills, old], [new, stills], []):
        assert mixed_versions(folders) == ""
