"""What a method is told of its training data."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from bench.common.errors import BenchError
from bench.train.data_info import BACKGROUND, DATA, FRAMES, gather, load_info, save_info
from models.base import DataInfo
from prep import images
from prep.dataset import WindowDataset
from prep.errors import PrepError
from prep.sample_spec import SampleSpec
from prep.schema import Clip
from tests.prep.fakes import fake_clip, write_fake_dataset


def shades(clip_id: str, levels: list[int | None], **options: object) -> Clip:
    """A clip whose crops are of one grey each; None: no face is found."""
    unseen = [t for t, level in enumerate(levels) if level is None]
    made = fake_clip(clip_id, len(levels), undetected=unseen, **options)  # type: ignore[arg-type]
    crops = [
        None if level is None else images.encode(np.full((128, 128, 3), level, np.uint8), "png")
        for level in levels
    ]
    return replace(made, images={"box128": crops})


def test_clips_are_counted_over_data_sets(tmp_path: Path) -> None:
    a = [
        fake_clip("anna/1", 5),
        fake_clip("anna/2", 6),
        fake_clip("bert/1", 7),
        fake_clip("x/1", 9, split="val"),
    ]
    b = [replace(fake_clip("carl/1", 8), speaker=""), replace(fake_clip("alone", 4), speaker="")]
    write_fake_dataset(tmp_path / "a", a)
    write_fake_dataset(tmp_path / "b", b)
    found = gather([tmp_path / "a", tmp_path / "b"], ["train"])
    assert found == DataInfo(clips=5, frames=30, width=160, height=200, identities=4)
    sample = WindowDataset([tmp_path / "a", tmp_path / "b"], "train", SampleSpec(window=1, identity=True))
    assert len(sample.identities) == found.identities
    assert found.background is None
    listed = gather([tmp_path / "a", tmp_path / "b"], ["train", "val"], {"anna/1", "x/1", "nobody"})
    assert listed == DataInfo(clips=2, frames=14, width=160, height=200, identities=2)


def test_sizes_that_differ_are_none(tmp_path: Path) -> None:
    write_fake_dataset(tmp_path / "a", [fake_clip("anna/1", 5), fake_clip("anna/2", 5, width=161)])
    found = gather([tmp_path / "a"], ["train"])
    assert (found.width, found.height) == (None, None)


def test_the_background_is_the_median_over_frames_with_a_face(tmp_path: Path) -> None:
    clips = [
        shades("anna/1", [10, None, 20, 200]),
        shades("anna/2", [30, 40]),
        shades("anna/3", [250, 251, 252, 253, 254], split="val"),
        shades("bert/1", [0, 0, 0, 0, 0, 0, 0]),
    ]
    write_fake_dataset(tmp_path / "a", clips)
    found = gather([tmp_path / "a"], ["train"], {"anna/1", "anna/2"}, "box128").background
    assert found is not None and found.shape == (128, 128, 3) and found.dtype == np.uint8
    assert np.unique(found).tolist() == [30]


def test_many_frames_are_taken_evenly(tmp_path: Path) -> None:
    # 10 of 640 frames are bright, at one place: of 64 evenly spaced ones that is one.
    levels: list[int | None] = [100] * 320 + [255] * 10 + [90] * 310
    write_fake_dataset(tmp_path / "a", [shades("anna/1", levels)])
    found = gather([tmp_path / "a"], ["train"], None, "box128").background
    places = np.linspace(0, 639, FRAMES).round().astype(int)
    assert np.unique(found).tolist() == [round(float(np.median(np.array(levels)[places])))]


def test_a_view_that_is_not_stored_names_the_command(tmp_path: Path) -> None:
    write_fake_dataset(tmp_path / "a", [fake_clip("anna/1", 5)])
    with pytest.raises(
        BenchError,
        match=r"a lacks the view face96, which the method needs for the median of its training frames.* bench prep",
    ):
        gather([tmp_path / "a"], ["train"], None, "face96")


def test_no_data_set_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PrepError, match=r"nothing has no shards: make them with `bench prep`"):
        gather([tmp_path / "nothing"], ["train"])


def test_a_run_keeps_it(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    info = DataInfo(3, 120, None, 200, 2, picture)
    save_info(tmp_path, info)
    read = load_info(tmp_path)
    assert read == info
    assert read.background is not None and np.array_equal(read.background, picture)


def test_without_a_background_there_is_no_picture(tmp_path: Path) -> None:
    save_info(tmp_path, DataInfo(3, 120, 160, 200, 2))
    assert [path.name for path in tmp_path.iterdir()] == [DATA]
    assert asdict(load_info(tmp_path)) == asdict(DataInfo(3, 120, 160, 200, 2))


def test_of_an_older_run_nothing_is_known(tmp_path: Path) -> None:
    assert asdict(load_info(tmp_path)) == asdict(DataInfo())


@pytest.mark.parametrize("content", ["{", "[]", '{"clips": 3}', '{"background": null, "faces": 2}'])
def test_damage_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / DATA).write_text(content)
    with pytest.raises(BenchError, match=rf"{tmp_path / DATA} (cannot be read|does not describe)") as caught:
        load_info(tmp_path)
    assert str(caught.value).endswith("it belongs to the run, restore it or train again")
    assert "\n" not in str(caught.value)


def test_a_lost_background_is_one_line(tmp_path: Path) -> None:
    save_info(tmp_path, DataInfo(background=np.zeros((2, 2, 3), np.uint8)))
    assert json.loads((tmp_path / DATA).read_text())["background"] == BACKGROUND
    (tmp_path / BACKGROUND).write_bytes(b"torn")
    with pytest.raises(BenchError, match=r"background.png cannot be read .* restore it"):
        load_info(tmp_path)
    (tmp_path / BACKGROUND).unlink()
    with pytest.raises(BenchError, match=r"background.png cannot be read .* restore it"):
        load_info(tmp_path)
