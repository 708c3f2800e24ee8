"""Derived columns: written beside shards, found again, and delivered with samples."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prep.dataset import WindowDataset
from prep.derived import (
    DerivedSpec,
    SidecarTask,
    SidecarWriter,
    finish_derivation,
    open_derivation,
    write_sidecar,
)
from prep.derived_reading import find
from prep.errors import ClipError, PrepError
from prep.sample_spec import Column, SampleSpec, Sound
from prep.schema import Clip
from prep.shards import read
from tests.prep.fakes import fake_clip, fake_dataset, write_fake_dataset

SHIFT = DerivedSpec(
    "shift",
    (
        Column("mean", "frame", (2,)),
        Column("seen", "frame", (), "uint8"),
        Column("shape", "clip", (3, 4)),
        Column("deep", "sound", (5,), rate=50),
    ),
    {"layers": [1, 2]},
    {"network": "ab" * 32},
)


def shift(clip: Clip) -> dict[str, np.ndarray]:
    """What a method might derive of a clip."""
    rng = np.random.default_rng(list(clip.clip_id.encode()))
    return {
        "mean": clip.landmarks[..., :2].mean(axis=1),
        "seen": clip.detected.astype(np.uint8),
        "shape": rng.random((3, 4), np.float32),
        "deep": rng.random((2 * clip.n_frames, 5), np.float32),
    }


def shift_without_the_second(clip: Clip) -> dict[str, np.ndarray]:
    if clip.clip_id == "speaker1/train00001":
        raise ClipError("shift", "no such thing")
    return shift(clip)


def derive(data: Path, derivation: DerivedSpec = SHIFT, function=shift) -> Path:
    for task in open_derivation(data, derivation):
        write_sidecar(task, derivation, function)
    finish_derivation(data, derivation)
    return derivation.folder(data)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Clip]]:
    folder = tmp_path_factory.mktemp("derived") / "data"
    clips = fake_dataset(folder, {"train": 9, "val": 2})
    derive(folder)
    return folder, {clip.clip_id: clip for clip in clips}


# Writing --------------------------------------------------------------------------------------------------------


def test_every_clip_comes_back_as_it_was_derived(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, clips = data
    found = find(folder, "shift", SHIFT.key)
    assert (found.key, found.columns) == (SHIFT.key, {c.name: c for c in SHIFT.columns})
    assert found.folder.name == f"shift-{SHIFT.key}" and len(SHIFT.key) == 12
    for shard, ids in (
        ("train-00001.parquet", [f"speaker{i % 4}/train{i:05d}" for i in range(4, 8)]),
        ("val-00000.parquet", ["speaker0/val00000", "speaker1/val00001"]),
    ):
        for clip_id in ids:
            values, expected = found.read(shard, clip_id), shift(clips[clip_id])
            assert values.keys() == expected.keys()
            for name, array in expected.items():
                assert values[name].dtype == array.dtype
                np.testing.assert_array_equal(values[name], array)
    with pytest.raises(KeyError):
        found.read("val-00000.parquet", "speaker4/train00004")
    manifest = json.loads((found.folder / "manifest.json").read_text())
    assert (manifest["clips"], manifest["failures"]) == (11, [])
    assert manifest["specification"] == {"layers": [1, 2]}
    assert [s["clips"] for s in manifest["sidecars"]] == [4, 4, 1, 2]


def test_the_same_bytes_again_and_other_keys_for_other_things(tmp_path: Path) -> None:
    for name in ("one", "two"):
        fake_dataset(tmp_path / name, {"train": 3})
        derive(tmp_path / name, function=shift_without_the_second)
    one, two = (sorted(SHIFT.folder(tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [a.read_bytes() for a in one] == [b.read_bytes() for b in two]
    changed = [
        replace(SHIFT, specification={"layers": [1, 3]}),
        replace(SHIFT, weights={"network": "cd" * 32}),
        replace(SHIFT, columns=SHIFT.columns[:3]),
    ]
    assert len({d.key for d in [SHIFT, *changed]}) == 4


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    fake_dataset(folder, {"train": 9})
    tasks = open_derivation(folder, SHIFT)
    assert [task.shard.name for task in tasks] == [f"train-{i:05d}.parquet" for i in range(3)]
    write_sidecar(tasks[1], SHIFT, shift)

    def broken(clip: Clip) -> Mapping[str, np.ndarray]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        write_sidecar(tasks[0], SHIFT, broken)
    assert [path.name for path in SHIFT.folder(folder).iterdir()] == ["train-00001.parquet"]
    with pytest.raises(PrepError, match=r"train-00000.parquet is missing .*run the same command again"):
        finish_derivation(folder, SHIFT)
    left = open_derivation(folder, SHIFT)
    assert left == [tasks[0], tasks[2]]
    # A worker that was killed leaves a temporary file.
    (SHIFT.folder(folder) / ".train-00002.parquet.0a.tmp").write_bytes(b"half")
    for task in left:
        write_sidecar(pickle.loads(pickle.dumps(task)), SHIFT, shift)
    finish_derivation(folder, SHIFT)
    assert open_derivation(folder, SHIFT) == []
    assert not list(SHIFT.folder(folder).glob(".*"))


def test_what_is_not_as_its_column_says_is_refused(tmp_path: Path) -> None:
    clip = fake_clip("a/1", 6)
    task = SidecarTask(tmp_path / "none", tmp_path / "train-00000.parquet", "0")
    good = shift(clip)
    for name, bad in (
        ("mean", good["mean"][:5]),
        ("mean", good["mean"].astype(np.float64)),
        ("shape", good["shape"][None]),
        ("deep", good["deep"][:, :4]),
    ):
        with SidecarWriter(task, SHIFT) as writer, pytest.raises(ValueError, match=f"a/1: {name} is "):
            writer.add(clip, {**good, name: bad})
    with SidecarWriter(task, SHIFT) as writer, pytest.raises(ValueError, match="a/1: derived"):
        writer.add(clip, {"mean": good["mean"]})
    assert not list(tmp_path.iterdir())
    for arguments, message in (
        (("a.b", "frame"), "cannot be called 'a.b'"),
        (("a", "sound"), "a rate belongs to columns per sound"),
        (("a", "frame", (), "float32", 25.0), "a rate belongs to columns per sound"),
        (("a", "video"), "known are: frame, clip, sound"),
    ):
        with pytest.raises(ValueError, match=message):
            Column(*arguments)  # type: ignore[arg-type]


# Finding --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_used_is_named_with_its_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    fake_dataset(folder, {"train": 5})
    remedy = f"run `bench derive METHOD --data {folder}`"
    with pytest.raises(PrepError, match=f"has no derived columns 'shift': {remedy}"):
        find(folder, "shift")
    tasks = open_derivation(folder, SHIFT)
    write_sidecar(tasks[0], SHIFT, shift)
    with pytest.raises(PrepError, match=r"is not complete: .*continues where it stopped"):
        find(folder, "shift")
    derive(folder)
    assert find(folder, "shift").key == find(folder, "shift", SHIFT.key).key == SHIFT.key
    other = replace(SHIFT, weights={})
    with pytest.raises(PrepError, match="is of another specification or other weights"):
        find(folder, "shift", other.key)
    with pytest.raises(PrepError, match="has no derived columns 'shi'"):
        find(folder, "shi")
    derive(folder, other)
    with pytest.raises(PrepError, match="delete all except the one"):
        find(folder, "shift")
    assert find(folder, "shift", other.key).key == other.key


def test_shards_that_were_made_again_are_derived_again(tmp_path: Path) -> None:
    for name, n_frames in (("data", 40), ("new", 30)):
        write_fake_dataset(tmp_path / name, [fake_clip(f"a/{i}", n_frames) for i in range(3)])
    folder = tmp_path / "data"
    derive(folder)
    for part in ("shards/train-00000.parquet", "manifest.json"):
        (tmp_path / "new" / part).replace(folder / part)
    with pytest.raises(PrepError, match="was derived from other shards"):
        find(folder, "shift")
    assert len(open_derivation(folder, SHIFT)) == 1
    derive(folder)
    (clip, *_) = read(folder)
    assert find(folder, "shift").read("train-00000.parquet", clip.clip_id)["mean"].shape == (30, 2)


# Training -------------------------------------------------------------------------------------------------------


def test_samples_hold_what_was_derived(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, clips = data
    sound = Sound("shift.deep", columns=8, lead=2)
    spec = SampleSpec(
        references=3,
        derived=("shift.mean", "shift.seen", "shift.shape"),
        frame_sounds=(sound, Sound("mel")),
        window_sounds=(sound,),
        window_sound_frame=1,
    )
    dataset = WindowDataset(folder, ["train", "val"], spec, derivations={"shift": SHIFT.key})
    dataset = pickle.loads(pickle.dumps(dataset))
    starts = set()
    for epoch in range(20):
        for sample in (dataset.sample(epoch, i) for i in range(len(dataset))):
            expected = shift(clips[sample["clip"]])
            frames, references = sample["frames"].numpy(), sample["reference_frames"].numpy()
            for name in ("mean", "seen"):
                np.testing.assert_array_equal(sample[f"shift.{name}"], expected[name][frames])
                np.testing.assert_array_equal(sample[f"reference_shift.{name}"], expected[name][references])
            np.testing.assert_array_equal(sample["shift.shape"], expected["shape"])
            heard = [expected["deep"][2 * t - 2 : 2 * t + 6].T for t in frames.tolist()]
            np.testing.assert_array_equal(sample["frame_shift.deep"], np.stack(heard))
            np.testing.assert_array_equal(sample["window_shift.deep"], heard[1])
            starts.add(int(frames[0]))
    assert sample["shift.seen"].dtype == torch.uint8
    # Frame 0 would begin before the sound.
    assert min(starts) == 1


def test_clips_of_which_nothing_was_derived_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    fake_dataset(folder, {"train": 5})
    derive(folder, function=shift_without_the_second)
    manifest = find(folder, "shift").manifest
    (failure,) = manifest["failures"]
    assert (failure["clip_id"], failure["step"]) == ("speaker1/train00001", "derive")
    assert "no such thing" in failure["reason"] and manifest["clips"] == 4
    dataset = WindowDataset(folder, "train", SampleSpec(derived=("shift.mean",)))
    assert len(dataset) == 4 and dataset.excluded == {"nothing of shift": 1}
    assert "speaker1/train00001" not in {dataset[i]["clip"] for i in range(4)}
    assert len(WindowDataset(folder, "train", SampleSpec())) == 5


def test_columns_that_are_asked_for_wrongly(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, _ = data
    for spec, message in (
        (SampleSpec(derived=("shift.median",)), "has no column 'median'; there are: mean, seen, shape, deep"),
        (SampleSpec(derived=("gaze.mean",)), "has no derived columns 'gaze'"),
        (SampleSpec(derived=("shift.deep",)), "request it in frame_sounds"),
        (SampleSpec(frame_sounds=(Sound("shift.mean"),)), "request it in derived"),
    ):
        with pytest.raises(PrepError, match=message):
            WindowDataset(folder, "train", spec)
    with pytest.raises(PrepError, match="another specification"):
        WindowDataset(folder, "train", SampleSpec(derived=("shift.mean",)), derivations={"shift": "0" * 12})


def test_data_sets_must_have_been_derived_alike(data: tuple[Path, dict[str, Clip]], tmp_path: Path) -> None:
    folder, _ = data
    spec = SampleSpec(derived=("shift.mean",))
    write_fake_dataset(tmp_path / "other", [fake_clip("o/1", 20)])
    with pytest.raises(PrepError, match="has no derived columns"):
        WindowDataset([folder, tmp_path / "other"], "train", spec)
    derive(tmp_path / "other", replace(SHIFT, weights={}))
    with pytest.raises(PrepError, match="not of one specification"):
        WindowDataset([folder, tmp_path / "other"], "train", spec)
    one = WindowDataset(folder, "train", spec)
    derive(tmp_path / "other")
    both = WindowDataset([folder, tmp_path / "other"], "train", spec, derivations={"shift": SHIFT.key})
    sample = both[len(both) - 1]
    expected = shift(fake_clip("o/1", 20))["mean"][sample["frames"]]
    np.testing.assert_array_equal(sample["shift.mean"], expected)
    assert one.fingerprint != WindowDataset(folder, "train", SampleSpec()).fingerprint
