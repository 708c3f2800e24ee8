"""Training samples from a fake data set whose content is known, and the order in which they are dealt out."""

import pickle
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from prep import images
from prep import pictures as pictures_module
from prep.dataset import Sample, StillDataset, WindowDataset, clip_ids
from prep.errors import PrepError
from prep.face_box import over_face_box
from prep.index import ClipIndex
from prep.landmark_sets import FACE_131, LIPS
from prep.order import ResumableSampler, WindowStream
from prep.sample_spec import MFCC_28X12, SampleSpec, Sound
from prep.sampling import check_spec, draw, find_windows
from prep.schema import Clip
from prep.shards import Failure
from prep.sound.features import FEATURES, chunk, first_column
from prep.spec_text import spec_text
from prep.views import VIEWS, landmark_box, map_points, over_box
from tests.prep.fakes import fake_clip, fake_dataset, write_fake_dataset

N_TRAIN = 9
PLAIN, EARLY = Sound("mel"), Sound("mel", offset=-2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Clip]]:
    """Nine clips of 40 to 44 frames for training in three shards, some frames undetected."""
    folder = tmp_path_factory.mktemp("data") / "fake"
    clips = fake_dataset(folder, {"train": N_TRAIN, "val": 3})
    return folder, {clip.clip_id: clip for clip in clips}


def decoded(clip: Clip, view: str, frames: torch.Tensor) -> np.ndarray:
    encoded = [clip.images[view][t] for t in frames.tolist()]
    assert None not in encoded
    return np.stack([images.decode(data) for data in encoded if data is not None]).transpose(0, 3, 1, 2)


def same(a: Sample, b: Sample) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key] for key in a
    )


# What a sample holds ------------------------------------------------------------------------------------------


def test_a_sample_holds_what_was_stored(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, clips = data
    spec = SampleSpec(
        references=3,
        view="box128",
        landmarks="face131",
        normalise="box",
        frame_sounds=(EARLY,),
        window_sounds=(PLAIN,),
        window_sound_frame=2,
        negative_gap=3,
    )
    dataset = WindowDataset(folder, "train", spec)
    assert len(dataset) == N_TRAIN
    for sample in (dataset.sample(epoch, i) for epoch in range(3) for i in range(len(dataset))):
        clip = clips[sample["clip"]]
        frames, references = sample["frames"], sample["reference_frames"]
        start = int(frames[0])
        assert frames.tolist() == list(range(start, start + 5))
        assert len(set(references.tolist())) == 3 and not set(references.tolist()) & set(frames.tolist())
        assert clip.detected[frames].all() and clip.detected[references].all()
        assert sample["images"].dtype == torch.uint8
        np.testing.assert_array_equal(sample["images"], decoded(clip, "box128", frames))
        np.testing.assert_array_equal(sample["reference_images"], decoded(clip, "box128", references))

        for prefix, where in (("", frames), ("reference_", references)):
            mesh = clip.landmarks[where][:, FACE_131, :2].astype(np.float64)
            boxes = landmark_box(mesh, (clip.width, clip.height), 5)
            points = sample[f"{prefix}landmarks"]
            assert points.dtype == torch.float32 and points.is_contiguous()
            np.testing.assert_allclose(points, over_box(mesh, boxes), atol=1e-5)
            np.testing.assert_allclose(sample[f"{prefix}boxes"], boxes, atol=1e-3)

        for i, heard in enumerate(sample["frame_mel"]):
            first = 80 * (start + i - 2) // 25
            np.testing.assert_array_equal(heard, clip.mel[first : first + 16].T)
        first = 80 * (start + 2) // 25
        np.testing.assert_array_equal(sample["window_mel"], clip.mel[first : first + 16].T)
        elsewhere = [
            t
            for t in range(clip.n_frames)
            if abs(t - start) >= 3
            and np.array_equal(sample["negative_mel"], clip.mel[80 * (t + 2) // 25 :][:16].T)
        ]
        assert elsewhere


@pytest.mark.parametrize(
    "sound",
    [
        PLAIN,
        EARLY,
        Sound("mel", 7, -1, 3, clamp=True),
        Sound("mfcc", 20),
        Sound("mfcc", 20, offset=-1, lead=2),
        Sound("mfcc_padded", 28),
        MFCC_28X12,
        Sound("waveform", 640, offset=1),
    ],
)
def test_every_sound_is_that_of_the_whole_clip(data: tuple[Path, dict[str, Clip]], sound: Sound) -> None:
    folder, clips = data
    name = sound.feature
    spec = SampleSpec(frame_sounds=(sound,), window_sounds=(sound,), window_sound_frame=1, negative_gap=4)
    dataset = WindowDataset(folder, "train", spec)
    whole = {
        clip.clip_id: clip.mel if name == "mel" else FEATURES[name].compute(clip.audio, 0, None)
        for clip in clips.values()
    }
    starts = set()
    for epoch in range(12):
        sample = dataset.sample(epoch, 1)
        start, values = int(sample["frames"][0]), whole[sample["clip"]]
        starts.add(start)
        frames = [chunk(values, start + i, sound, FEATURES[name].rate) for i in range(5)]
        assert sample[f"frame_{name}"].shape == (5, *FEATURES[name].shape, sound.columns)
        np.testing.assert_array_equal(sample[f"frame_{name}"], np.stack(frames))
        assert torch.equal(sample[f"window_{name}"], sample[f"frame_{name}"][1])
        assert not torch.equal(sample[f"negative_{name}"], sample[f"window_{name}"])
    assert len(starts) > 6


def test_the_sound_of_a_whole_clip_and_its_text(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, clips = data
    spec = SampleSpec(window=1, clip_sounds=(Sound("mel", 135), Sound("mfcc", 200)), text=True)
    dataset = WindowDataset(folder, "train", spec)
    kept = [clip for clip in clips.values() if clip.split == "train" and len(clip.mel) <= 135]
    assert 0 < len(kept) < N_TRAIN and len(dataset) == len(kept)
    assert "× more than 135 columns of mel" in dataset.report()
    for sample in map(dataset.__getitem__, range(len(dataset))):
        clip = clips[sample["clip"]]
        assert sample["text"] == "HELLO WORLD"
        for name, columns, values in (
            ("mel", 135, clip.mel),
            ("mfcc", 200, FEATURES["mfcc"].compute(clip.audio, 0, None)),
        ):
            heard, count = sample[f"clip_{name}"], int(sample[f"columns_{name}"])
            assert heard.shape == (values.shape[1], columns) and count == len(values)
            np.testing.assert_array_equal(heard[:, :count], values.T)
            assert not heard[:, count:].any()


def test_clips_without_text_are_left_out_where_text_is_asked_for(tmp_path: Path) -> None:
    said = [fake_clip(f"a/{i}") for i in range(3)]
    said[1].text = ""
    write_fake_dataset(tmp_path / "some", said)
    dataset = WindowDataset(tmp_path / "some", "train", SampleSpec(text=True))
    assert dataset.report() == "2 of 3 clips; left out: 1 × no text"
    assert {dataset[i]["clip"] for i in range(2)} == {"a/0", "a/2"}
    assert len(WindowDataset(tmp_path / "some", "train", SampleSpec())) == 3
    assert spec_text(SampleSpec(text=True)).endswith(", text=True)")


@pytest.mark.parametrize(
    "sound", [Sound("mel", 9, offset=1), Sound("mel", 9, lead=1), Sound("mel", clamp=True)]
)
def test_the_sound_of_a_whole_clip_begins_with_it(sound: Sound) -> None:
    with pytest.raises(ValueError, match="clip_sounds begin with the clip"):
        SampleSpec(clip_sounds=(sound,))


def test_a_sample_of_the_whole_clip_needs_no_face(tmp_path: Path) -> None:
    heard = fake_clip("a/0", 30, undetected=range(30))
    assert heard.mel is not None
    write_fake_dataset(tmp_path / "heard", [heard])
    spec = SampleSpec(window=0, clip_sounds=(Sound("mel", 200),), text=True)
    sample = WindowDataset(tmp_path / "heard", "train", spec)[0]
    assert sample["frames"].shape == (0,) and sample["text"] == "HELLO WORLD"
    assert int(sample["columns_mel"]) == len(heard.mel)
    with pytest.raises(PrepError, match="no 1 consecutive frames with a face"):
        WindowDataset(tmp_path / "heard", "train", replace(spec, window=1))
    with pytest.raises(ValueError, match="a sample without a window has no references, view"):
        SampleSpec(window=0, view="box128")


def test_several_features_at_once(data: tuple[Path, dict[str, Clip]]) -> None:
    spec = SampleSpec(frame_sounds=(EARLY, Sound("mfcc", 20)), window_sounds=(PLAIN,))
    assert WindowDataset(data[0], "train", spec)[0].keys() == {
        *("clip", "frames", "frame_mel", "frame_mfcc", "window_mel"),
    }


def test_landmarks_with_their_depth(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, clips = data
    spec = SampleSpec(references=2, view="box128", landmarks="lips", depth=True)
    sample = WindowDataset(folder, "train", spec)[0]
    clip = clips[sample["clip"]]
    stored = clip.landmarks[:, LIPS]
    np.testing.assert_array_equal(sample["landmarks"], stored[sample["frames"]])
    np.testing.assert_array_equal(sample["reference_landmarks"], stored[sample["reference_frames"]])
    sample = WindowDataset(folder, "train", replace(spec, normalise="view"))[0]
    frames = sample["frames"].numpy()
    matrices = clip.transforms["box128"][frames]
    np.testing.assert_allclose(sample["landmarks"], map_points(stored[frames], matrices), atol=1e-3)
    scale = np.hypot(matrices[:, 0, 0], matrices[:, 1, 0])
    np.testing.assert_allclose(
        sample["landmarks"][..., 2], stored[frames][..., 2] * scale[:, None], rtol=1e-5
    )


def test_identities_are_places_in_the_list_of_speakers(tmp_path: Path) -> None:
    clips = [fake_clip(name, 12) for name in ("b/1", "a/1", "b/2", "nobody/1", "c/1")]
    clips[3].speaker = ""
    write_fake_dataset(tmp_path / "one", clips)
    other = fake_clip("a/9", 12)
    other.dataset = "other"
    write_fake_dataset(tmp_path / "two", [other])
    folders = [tmp_path / "one", tmp_path / "two"]
    dataset = WindowDataset(folders, "train", SampleSpec(identity=True))
    assert dataset.identities == ["fake/a", "fake/b", "fake/c", "fake/nobody", "other/a"]
    samples = [dataset[i] for i in range(len(dataset))]
    assert {s["clip"]: int(s["identity"]) for s in samples} == {
        **{"b/1": 1, "a/1": 0, "b/2": 1, "nobody/1": 3, "c/1": 2, "a/9": 4}
    }
    assert samples[0]["identity"].dtype == torch.int64
    # Only speakers of the clips that are used count; or those of another data set, where some may be unknown.
    some = WindowDataset(folders, "train", SampleSpec(identity=True), clips=["b/1", "c/1"])
    assert some.identities == ["fake/b", "fake/c"] and [
        int(s["identity"]) for s in map(some.__getitem__, (0, 1))
    ] == [0, 1]
    other = WindowDataset(
        folders, "train", SampleSpec(identity=True), clips=["a/1", "c/1"], known=some.identities
    )
    assert {s["clip"]: int(s["identity"]) for s in map(other.__getitem__, (0, 1))} == {"a/1": -1, "c/1": 1}
    assert "identity" not in WindowDataset(folders, "train", SampleSpec())[0]


def test_landmarks_in_pixels_of_the_frame_and_of_the_view(tmp_path: Path) -> None:
    views = ("face96", "mouth416x320")
    clip = fake_clip("a/1", 20, views=views, undetected=(4,), landmarks68=True)
    write_fake_dataset(tmp_path, [clip])
    for name in ("lips", "landmarks68"):
        stored = clip.landmarks68 if name == "landmarks68" else clip.landmarks[:, LIPS, :2]
        spec = SampleSpec(references=2, view="mouth416x320", landmarks=name)
        sample = WindowDataset(tmp_path, "train", spec)[0]
        assert sample["images"].shape == (5, 3, 416, 320)
        np.testing.assert_array_equal(sample["landmarks"], stored[sample["frames"]])
        np.testing.assert_array_equal(sample["reference_landmarks"], stored[sample["reference_frames"]])
        sample = WindowDataset(tmp_path, "train", replace(spec, normalise="view"))[0]
        for prefix in ("", "reference_"):
            frames = sample[f"{prefix}frames"]
            expected = map_points(stored[frames], clip.transforms["mouth416x320"][frames])
            np.testing.assert_allclose(sample[f"{prefix}landmarks"], expected, atol=1e-3)


def test_other_landmarks_over_the_box(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, clips = data
    sample = WindowDataset(folder, "train", SampleSpec(landmarks="lips", normalise="box"))[3]
    points = clips[sample["clip"]].landmarks[sample["frames"]]
    boxes = landmark_box(points[:, FACE_131, :2].astype(np.float64), (160, 200), 5)
    expected = (points[:, LIPS, :2] - boxes[:, None, :2]) / (boxes[:, 2:] - boxes[:, :2])[:, None]
    np.testing.assert_allclose(sample["landmarks"], expected, atol=1e-5)


def test_the_box_in_float32_is_that_in_float64_and_clipped_to_the_frame() -> None:
    rng = np.random.default_rng(0)
    for low, high in ((-30, 200), (20, 120)):
        mesh = rng.uniform(low, high, (40, 478, 3)).astype(np.float32)
        result = over_face_box(mesh, FACE_131, np.array([160, 150], np.int32))
        points = mesh[:, FACE_131, :2].astype(np.float64)
        boxes = landmark_box(points, (160, 150), 5)
        assert result["boxes"].dtype == result["landmarks"].dtype == np.float32
        np.testing.assert_allclose(result["boxes"], boxes, atol=1e-4)
        np.testing.assert_allclose(result["landmarks"], over_box(points, boxes), atol=1e-5)
        assert (boxes == [0, 0, 160, 150]).all() == (low < 0)


def test_pictures_of_some_frames(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, clips = data
    spec = SampleSpec(references=2, view="box128", landmarks="face131", view_frames=(2,))
    sample = WindowDataset(folder, "train", spec)[2]
    clip = clips[sample["clip"]]
    assert sample["landmarks"].shape == (5, 131, 2)
    np.testing.assert_array_equal(sample["images"], decoded(clip, "box128", sample["frames"][2:3]))
    np.testing.assert_array_equal(
        sample["reference_images"], decoded(clip, "box128", sample["reference_frames"])
    )


def test_references_in_a_run_and_first(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, clips = data
    run = WindowDataset(folder, "train", SampleSpec(references=5, reference_mode="run", view="box128"))
    first = WindowDataset(folder, "train", SampleSpec(references=4, reference_mode="first"))
    seen = Counter[bool]()
    for epoch in range(6):
        for i in range(N_TRAIN):
            sample = run.sample(epoch, i)
            references, start = sample["reference_frames"].tolist(), int(sample["frames"][0])
            assert references == list(range(references[0], references[0] + 5))
            assert references[-1] < start or references[0] >= start + 5
            assert clips[sample["clip"]].detected[references].all()
            seen[references[0] < start] += 1
            sample = first.sample(epoch, i)
            outside = np.flatnonzero(clips[sample["clip"]].detected).tolist()
            outside = [t for t in outside if t not in sample["frames"].tolist()]
            assert sample["reference_frames"].tolist() == outside[:4]
    assert min(seen[True], seen[False]) > 10


def test_stills_and_frames_of_videos(tmp_path: Path) -> None:
    stills = [fake_clip(f"{i:05d}", 1, split="train", views=("aligned512",), still=True) for i in range(2)]
    video = fake_clip("speaker/00001", 12, views=("aligned512",), undetected=range(3, 9))
    write_fake_dataset(tmp_path, [*stills, video])
    dataset = StillDataset(tmp_path, "train", "aligned512", landmarks="lips")
    assert len(dataset) == 3
    frames = set()
    for epoch in range(20):
        for i, clip in enumerate([*stills, video]):
            if epoch and i < 2:
                continue
            sample = dataset.sample(epoch, i)
            assert sample.keys() == {"clip", "frame", "image", "landmarks"}
            assert sample["clip"] == clip.clip_id and sample["image"].shape == (3, 512, 512)
            t = int(sample["frame"])
            np.testing.assert_array_equal(sample["image"], decoded(clip, "aligned512", torch.tensor([t]))[0])
            expected = map_points(clip.landmarks[t, LIPS, :2], clip.transforms["aligned512"][t])
            np.testing.assert_allclose(sample["landmarks"], expected, atol=1e-3)
            if i == 2:
                frames.add(t)
    assert len(frames) > 3


def test_several_folders_and_splits(data: tuple[Path, dict[str, Clip]], tmp_path: Path) -> None:
    folder, clips = data
    write_fake_dataset(tmp_path, [fake_clip("other/1", 15)])
    both = WindowDataset(folder, ["train", "val"], SampleSpec(view="box128"))
    assert sorted(both[i]["clip"] for i in range(len(both))) == sorted(clips)
    two = WindowDataset([folder, tmp_path], "train", SampleSpec(view="box128"))
    sample = two[len(two) - 1]
    assert (len(two), sample["clip"]) == (N_TRAIN + 1, "other/1")
    np.testing.assert_array_equal(
        sample["images"], decoded(fake_clip("other/1", 15), "box128", sample["frames"])
    )


# What is left out -----------------------------------------------------------------------------------------------


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    silent = fake_clip("e/silent", 40, landmarks68=True)
    silent.mel = silent.audio = None
    clips = [
        fake_clip("a/good", 40, landmarks68=True),
        fake_clip("b/short", 24, landmarks68=True),
        fake_clip("c/gaps", 120, undetected=range(0, 120, 4), landmarks68=True),
        fake_clip("d/no68", 40),
        silent,
        fake_clip("f/ends", 60, undetected=range(6, 53), landmarks68=True),
        fake_clip("g/few", 60, undetected=range(29, 60), landmarks68=True),
    ]
    write_fake_dataset(tmp_path, clips)
    spec = SampleSpec(references=25, landmarks="landmarks68", frame_sounds=(EARLY,), min_frames=25)
    dataset = WindowDataset(tmp_path, "train", spec)
    assert dataset.excluded == {
        "fewer than 25 frames with a face": 2,
        "no 5 consecutive frames with a face": 1,
        "no 68 landmarks": 1,
        "no sound": 1,
        "fewer than 25 frames beside a window": 1,
    }
    assert [dataset[i]["clip"] for i in range(len(dataset))] == ["a/good"]
    assert dataset.report().startswith(
        "1 of 7 clips; left out: 1 × fewer than 25 frames beside a window, 2 × f"
    )

    with pytest.raises(
        PrepError, match=r"nothing of train in .*: 0 of 7 clips; left out: .*7 × fewer than 999"
    ):
        WindowDataset(tmp_path, "train", SampleSpec(min_frames=999))


def test_a_list_of_clips_leaves_out_the_others(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, clips = data
    trained = [name for name, clip in clips.items() if clip.split == "train"]
    wanted = [trained[7], trained[2], trained[4]]
    whole = WindowDataset(folder, "train", SPEC)
    # Clips of other splits do not matter.
    some = WindowDataset(folder, "train", SPEC, clips=[*wanted, *(set(clips) - set(trained))])
    assert sorted(some[i]["clip"] for i in range(len(some))) == sorted(wanted)
    assert some.excluded == {"not among the clips of this run": N_TRAIN - 3}
    assert some.report() == "3 of 9 clips; left out: 6 × not among the clips of this run"
    for i in range(len(some)):
        clip, sample = clips[some[i]["clip"]], some.sample(5, i)
        start = int(sample["frames"][0])
        assert clip.detected[start : start + 5].all()
        np.testing.assert_array_equal(sample["window_mel"], clip.mel[80 * start // 25 :][:16].T)
    every = WindowDataset(folder, "train", SPEC, clips=trained)
    assert every.excluded == whole.excluded == {} and every.fingerprint == whole.fingerprint
    assert some.fingerprint != whole.fingerprint
    with pytest.raises(PrepError, match="cannot be resumed here"):
        WindowStream(some, 2).load_state_dict(WindowStream(whole, 2).state_dict())
    with pytest.raises(PrepError, match=r"0 of 9 clips; left out: 9 × not among the clips of this run"):
        WindowDataset(folder, "train", SPEC, clips=["nobody/1"])
    stills = StillDataset(folder, "train", "box128", clips=wanted[:1])
    assert [stills[i]["clip"] for i in range(len(stills))] == wanted[:1]
    assert clip_ids(folder) == clips.keys()


def test_a_clip_that_is_listed_and_cannot_be_used_counts_once(tmp_path: Path) -> None:
    write_fake_dataset(tmp_path, [fake_clip(f"a/{i}", n) for i, n in enumerate((40, 3, 40, 3))])
    dataset = WindowDataset(tmp_path, "train", SampleSpec(), clips=["a/0", "a/1"])
    reason = "no 5 consecutive frames with a face"
    assert dataset.excluded == {reason: 2, "not among the clips of this run": 1} and len(dataset) == 1


def test_shards_without_clips(tmp_path: Path) -> None:
    clip = fake_clip("a/1", 12)
    failure = Failure("b/1", "val", "b/1.mp4", "video", "it is empty")
    write_fake_dataset(tmp_path, [clip], failures={"val": [failure]})
    with pytest.raises(PrepError, match=r"nothing of val in .*: 0 of 0 clips"):
        WindowDataset(tmp_path, "val", SampleSpec(view="box128", frame_sounds=(PLAIN,)))
    write_fake_dataset(tmp_path / "other", [fake_clip("c/1", 12, split="val")])
    both = [tmp_path, tmp_path / "other"]
    assert len(WindowDataset(both, "train", SampleSpec(view="box128"))) == 1
    with pytest.raises(PrepError, match="has no split 'test'"):
        WindowDataset(both, "test", SampleSpec(view="box128"))
    assert len(WindowDataset(tmp_path, ["val", "train"], SampleSpec(view="box128", landmarks="lips"))) == 1


def test_the_ends_that_the_sound_does_not_cover(tmp_path: Path) -> None:
    write_fake_dataset(tmp_path, [fake_clip("a/1", 60, undetected=range(6, 55)), fake_clip("a/2", 30)])
    dataset = WindowDataset(tmp_path, "train", SampleSpec(frame_sounds=(EARLY,)))
    assert dataset.excluded == {"the sound does not cover what a window hears": 1}
    # 97 columns of mel: frame 27 takes columns 80 to 95, frame 28 would need 83 to 98.
    starts = {int(dataset.sample(epoch, 0)["frames"][0]) for epoch in range(300)}
    assert starts == set(range(2, 24))


def random_index(rng: np.random.Generator, n: int) -> ClipIndex:
    lengths = rng.integers(1, 40, n)
    columns = np.where(rng.random(n) < 0.1, 0, lengths * 640 // 200 + 1)
    return ClipIndex(
        paths=[],
        clip_ids=[str(i) for i in range(n)],
        shard=np.zeros(n, np.int32),
        first=np.concatenate([[0], np.cumsum(lengths)]),
        detected=rng.random(lengths.sum()) < rng.choice([0.7, 0.95, 1.0]),
        sizes=np.full((n, 2), 160),
        mel_columns=columns.astype(np.int32),
        has_landmarks68=np.ones(n, bool),
        chunks={},
        speakers=[("", "")] * n,
        texts=[],
    )


def brute_force(index: ClipIndex, clip: int, spec: SampleSpec) -> list[int]:
    """Starts of a clip's windows, by trying each frame."""
    seen, t, n = index.detected_in(clip), spec.window, spec.references

    def whole(start: int, length: int) -> bool:
        return 0 <= start <= len(seen) - length and bool(seen[start : start + length].all())

    def heard(frame: int, sound: Sound) -> bool:
        feature = FEATURES[sound.feature]
        columns = feature.count(640 * len(seen)) if index.mel_columns[clip] else 0
        return 0 <= first_column(frame, sound, feature.rate) <= columns - sound.columns

    starts = []
    for start in range(len(seen)):
        ok = whole(start, t) and seen.sum() >= spec.min_frames
        for sound in spec.frame_sounds:
            ok = ok and all(heard(f, sound) for f in range(start, start + t))
        for sound in spec.window_sounds:
            ok = ok and heard(start + spec.window_sound_frame, sound)
        if n and spec.reference_mode == "run":
            places = [*range(start - n + 1), *range(start + t, len(seen))]
            ok = ok and any(whole(place, n) for place in places)
        elif n:
            ok = ok and np.delete(seen, slice(start, start + t)).sum() >= n
        if ok:
            starts.append(start)
    if gap := spec.negative_gap:
        starts = [s for s in starts if any(abs(s - other) >= gap for other in starts)]
    return starts


@pytest.mark.parametrize(
    "spec",
    [
        SampleSpec(window=1),
        SampleSpec(window=5, references=15, frame_sounds=(EARLY,), min_frames=25),
        SampleSpec(window=5, references=3, window_sounds=(EARLY,), window_sound_frame=2),
        SampleSpec(window=5, references=5, reference_mode="run", window_sounds=(PLAIN,), negative_gap=1),
        SampleSpec(window=3, references=2, reference_mode="first", frame_sounds=(Sound("mel", offset=-1),)),
        SampleSpec(window=2, window_sounds=(EARLY,), window_sound_frame=1, negative_gap=9),
        SampleSpec(
            window=2, window_sounds=(Sound("mfcc", 30, 2), EARLY), frame_sounds=(Sound("mel", lead=4),)
        ),
    ],
)
def test_windows_against_brute_force(spec: SampleSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prep.sampling._BLOCK", 17)
    found = 0
    for seed in range(3):
        index = random_index(np.random.default_rng(seed), 60)
        windows = find_windows(index, spec)
        expected = [brute_force(index, clip, spec) for clip in range(len(index))]
        assert windows.clips.tolist() == [clip for clip, starts in enumerate(expected) if starts]
        assert sum(windows.excluded.values()) == sum(not starts for starts in expected)
        for clip, starts in enumerate(expected):
            assert np.flatnonzero(windows.starts[index.span(clip)]).tolist() == starts
            found += len(starts)
    assert found > 100


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window": -1}, "window -1"),
        ({"references": -1}, "references -1"),
        ({"window_sound_frame": 5}, "frame 5 lies outside a window of 5"),
        ({"view_frames": (0, 7)}, "frame 7 lies outside"),
        ({"view_frames": ()}, "empty"),
        ({"negative_gap": 1}, "needs window_sounds"),
        ({"reference_mode": "last"}, "known are: random, run, first"),
        ({"view": "box256"}, "known are: None, box128"),
        ({"landmarks": "ears"}, "landmarks is 'ears'"),
        ({"frame_sounds": (Sound("guess"),)}, "frame_sounds is 'guess'; known are: mel, mfcc"),
        ({"window_sounds": (PLAIN, EARLY)}, "one feature is asked for twice: mel, mel"),
        ({"derived": ("depths",)}, "not <derivation>.<column>"),
        ({"depth": True, "landmarks": "landmarks68"}, "depth needs landmarks of the mesh"),
        ({"depth": True, "landmarks": "lips", "normalise": "box"}, "depth needs landmarks of the mesh"),
        ({"normalise": "view", "landmarks": "lips"}, "needs a view"),
        ({"normalise": "box", "landmarks": "landmarks68"}, "needs landmarks of the mesh"),
    ],
)
def test_a_specification_that_makes_no_sense(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_spec(SampleSpec(**fields))  # type: ignore[arg-type]


def test_missing_data_is_named(data: tuple[Path, dict[str, Clip]], tmp_path: Path) -> None:
    folder, _ = data
    with pytest.raises(PrepError, match="has no column 'face96'; views stored there: box128"):
        WindowDataset(folder, "train", SampleSpec(view="face96"))
    with pytest.raises(PrepError, match="has no split 'test'"):
        WindowDataset(folder, "test", SampleSpec())
    with pytest.raises(PrepError, match=r"nowhere"):
        WindowDataset(tmp_path / "nowhere", "train", SampleSpec())
    dataset = WindowDataset(folder, "train", SampleSpec())
    for index in (-1, len(dataset)):
        with pytest.raises(IndexError):
            dataset[index]


def test_a_shard_exchanged_while_in_use_is_an_error(tmp_path: Path) -> None:
    fake_dataset(tmp_path / "a", {"train": 2})
    dataset = WindowDataset(tmp_path / "a", "train", SampleSpec(view="box128", landmarks="mesh478"))
    fake_dataset(tmp_path / "b", {"train": 2}, n_frames=37)
    (path,) = (tmp_path / "b" / "shards").iterdir()
    path.replace(tmp_path / "a" / "shards" / path.name)
    with pytest.raises(PrepError, match=r"train-00000.parquet"):
        dataset[1]


# Seeds, epochs, workers, ranks -----------------------------------------------------------------------------------

SPEC = SampleSpec(references=2, landmarks="lips", window_sounds=(PLAIN,), negative_gap=1)


def test_a_sample_follows_from_seed_epoch_and_index(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, _ = data
    one, two = (WindowDataset(folder, "train", SPEC, seed=4) for _ in range(2))
    backwards = {i: two.sample(7, i) for i in reversed(range(N_TRAIN))}
    two.sample(8, 0)
    assert all(same(one.sample(7, i), backwards[i]) for i in range(N_TRAIN))
    one.set_epoch(7)
    assert same(one[5], backwards[5])
    assert same(pickle.loads(pickle.dumps(one))[5], backwards[5])

    def differing(a: WindowDataset, epoch: int) -> int:
        return sum(not same(a.sample(epoch, i), backwards[i]) for i in range(N_TRAIN))

    assert differing(one, 8) == N_TRAIN
    assert differing(WindowDataset(folder, "train", SPEC, seed=5), 7) == N_TRAIN


def test_all_windows_and_references_come_up(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, clips = data
    dataset = WindowDataset(folder, "train", SPEC)
    counts, references = Counter[int](), Counter[int]()
    for epoch in range(600):
        sample = dataset.sample(epoch, 0)
        counts[int(sample["frames"][0])] += 1
        references.update(sample["reference_frames"].tolist())
    clip = clips[sample["clip"]]
    # 40 frames and 129 columns: starts 0 to 35, each about 17 times; all frames serve as references.
    assert set(counts) == set(range(36)) and max(counts.values()) < 40
    assert set(references) == set(range(clip.n_frames))


def test_every_order_of_references_is_as_likely() -> None:
    spec = SampleSpec(window=1, references=3)
    starts = np.array([True, False, False, False])
    orders = {
        tuple(draw(spec, starts, np.ones(4, bool), (0, 0, first, second, 0.5)).references.tolist())
        for first in (1 / 6, 3 / 6, 5 / 6)
        for second in (1 / 4, 3 / 4)
    }
    assert orders == set(permutations((1, 2, 3)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_number_of_workers_changes_nothing(data: tuple[Path, dict[str, Clip]], method: str) -> None:
    folder, _ = data
    dataset = WindowDataset(folder, "train", replace(SPEC, view="box128"))
    sampler = ResumableSampler(dataset)
    workers = DataLoader(
        dataset, 2, sampler=sampler, num_workers=2, persistent_workers=True, multiprocessing_context=method
    )
    for epoch in (0, 3):
        sampler.set_epoch(epoch)
        alone = list(DataLoader(dataset, 2, sampler=sampler))
        together = list(workers)
        assert len(alone) == len(together) == 5
        assert all(same(a, b) for a, b in zip(alone, together, strict=True))
        assert same(dataset.sample(epoch, next(iter(sampler))), {k: v[0] for k, v in alone[0].items()})


def test_ranks_share_an_epoch(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, _ = data
    dataset = WindowDataset(folder, "train", SPEC)
    orders = []
    for epoch in range(4):
        for world in (1, 2, 4):
            samplers = [ResumableSampler(dataset, rank=r, world_size=world) for r in range(world)]
            exact = [
                ResumableSampler(dataset, rank=r, world_size=world, drop_last=False) for r in range(world)
            ]
            for sampler in (*samplers, *exact):
                sampler.set_epoch(epoch)
            taken = [list(sampler) for sampler in samplers]
            assert [len(t) for t in taken] == [len(s) for s in samplers] == [N_TRAIN // world] * world
            assert len({i for t in taken for i in t}) == N_TRAIN // world * world
            assert sorted(i for sampler in exact for i in sampler) == list(range(N_TRAIN))
            if world == 1:
                orders.append(tuple(taken[0]))
    assert len(set(orders)) == 4
    assert list(ResumableSampler(dataset, shuffle=False)) == list(range(N_TRAIN))
    for rank, world in ((2, 2), (-1, 1)):
        with pytest.raises(ValueError, match="rank"):
            ResumableSampler(dataset, rank=rank, world_size=world)


def test_a_sampler_goes_on_where_it_stopped(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, _ = data
    spec = replace(SPEC, view="box128")

    def train(sampler: ResumableSampler, dataset: WindowDataset, steps: int) -> list[Sample]:
        """``steps`` batches of two, over as many epochs as it takes."""
        batches: list[Sample] = []
        while True:
            for batch in DataLoader(dataset, 2, sampler=sampler, num_workers=2):
                batches.append(batch)
                sampler.advance(len(batch["clip"]))
                if len(batches) == steps:
                    return batches
            sampler.set_epoch(sampler.epoch + 1)

    dataset = WindowDataset(folder, "train", spec)
    whole = train(ResumableSampler(dataset), dataset, 12)
    sampler = ResumableSampler(dataset)
    begun = train(sampler, dataset, 8)
    state = pickle.loads(pickle.dumps(sampler.state_dict()))
    assert (state["epoch"], state["consumed"]) == (1, 6)

    dataset = WindowDataset(folder, "train", spec)
    sampler = ResumableSampler(dataset)
    sampler.load_state_dict(state)
    sampler.set_epoch(sampler.epoch)
    assert len(sampler) == N_TRAIN - 6
    resumed = begun + train(sampler, dataset, 4)
    assert all(same(a, b) for a, b in zip(whole, resumed, strict=True))


def test_resuming_with_another_number_of_ranks(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, _ = data
    dataset = WindowDataset(folder, "train", SPEC)
    before = [ResumableSampler(dataset, rank=r, world_size=2) for r in range(2)]
    used = [list(sampler)[:2] for sampler in before]
    for sampler in before:
        sampler.advance(2)
    assert before[0].state_dict() == before[1].state_dict()
    after = [ResumableSampler(dataset, rank=r, world_size=3, drop_last=False) for r in range(3)]
    for sampler in after:
        sampler.load_state_dict(before[0].state_dict())
    rest = [i for sampler in after for i in sampler]
    assert sorted(rest + used[0] + used[1]) == list(range(N_TRAIN))


def test_another_training_is_not_resumed(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, _ = data
    dataset = WindowDataset(folder, "train", SPEC)
    for other in (
        WindowDataset(folder, "train", SPEC, seed=1),
        WindowDataset(folder, "val", SPEC),
        WindowDataset(folder, "train", replace(SPEC, references=3)),
    ):
        with pytest.raises(PrepError, match="cannot be resumed here"):
            ResumableSampler(other).load_state_dict(ResumableSampler(dataset).state_dict())
        with pytest.raises(PrepError, match="cannot be resumed here"):
            WindowStream(other, 2).load_state_dict(WindowStream(dataset, 2).state_dict())


def names(batches: list[Sample]) -> list[tuple[str, int]]:
    pairs = (zip(batch["clip"], batch["frames"][:, 0].tolist(), strict=True) for batch in batches)
    return [pair for batch in pairs for pair in batch]


def take(loader: DataLoader[Sample], steps: int) -> list[Sample]:
    return [batch for batch, _ in zip(loader, range(steps), strict=False)]


def test_a_stream_is_the_same_for_any_number_of_workers(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, _ = data
    dataset = WindowDataset(folder, "train", SPEC)
    alone = take(DataLoader(WindowStream(dataset, 4), 4), 9)
    for workers in (1, 2):
        together = take(DataLoader(WindowStream(dataset, 4), 4, num_workers=workers), 9)
        assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    # 36 samples are four epochs of nine clips, and their windows are those of the map-style data set.
    clips = [clip for clip, _ in names(alone)]
    sampler = ResumableSampler(dataset)
    expected = []
    for epoch in range(4):
        assert len(set(clips[9 * epoch : 9 * epoch + 9])) == N_TRAIN
        sampler.set_epoch(epoch)
        expected += [(s["clip"], int(s["frames"][0])) for s in (dataset.sample(epoch, i) for i in sampler)]
    assert names(alone) == expected


def test_ranks_share_a_stream(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, _ = data
    dataset = WindowDataset(folder, "train", SPEC)
    ranks = [take(DataLoader(WindowStream(dataset, 3, rank=r, world_size=3), 3), 3) for r in range(3)]
    alone = names(take(DataLoader(WindowStream(dataset, 9), 9), 3))
    for r, batches in enumerate(ranks):
        assert names(batches) == alone[r::3]


def test_a_stream_goes_on_where_it_stopped(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, _ = data
    dataset = WindowDataset(folder, "train", SPEC)
    whole = take(DataLoader(WindowStream(dataset, 2), 2), 14)
    stream = WindowStream(dataset, 2)
    begun = []
    for batch in DataLoader(stream, 2, num_workers=2):
        begun.append(batch)
        stream.advance(len(batch["clip"]))
        if len(begun) == 7:
            break
    assert stream.state_dict()["consumed"] == 14 and stream.epoch == pytest.approx(14 / 9)
    # The same object goes on, and so does another that loads its state.
    again = begun + take(DataLoader(stream, 2, num_workers=1), 7)
    other = WindowStream(WindowDataset(folder, "train", SPEC), 2)
    other.load_state_dict(stream.state_dict())
    resumed = begun + take(DataLoader(other, 2), 7)
    for batches in (again, resumed):
        assert all(same(a, b) for a, b in zip(whole, batches, strict=True))
    with pytest.raises(ValueError, match="batch_size 0"):
        WindowStream(dataset, 0)


def wake_late(worker: int) -> None:
    time.sleep(0.5)


def test_a_worker_that_wakes_late_starts_where_the_stream_stood(data: tuple[Path, dict[str, Clip]]) -> None:
    stream = WindowStream(WindowDataset(data[0], "train", SPEC), 2)
    first = take(DataLoader(stream, 2), 1)
    loader = DataLoader(stream, 2, num_workers=1, persistent_workers=True, worker_init_fn=wake_late)
    late = iter(loader)
    stream.advance(2)
    assert same(next(late), first[0])
    with pytest.raises(RuntimeError, match="without persistent_workers"):
        take(loader, 1)


def test_pictures_places_are_forgotten_when_there_are_too_many(
    data: tuple[Path, dict[str, Clip]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, clips = data
    monkeypatch.setattr(pictures_module, "MAX_REMEMBERED", 2)
    dataset = WindowDataset(folder, "train", SampleSpec(view="box128"))
    for epoch in range(2):
        for i in range(N_TRAIN):
            sample = dataset.sample(epoch, i)
            expected = decoded(clips[sample["clip"]], "box128", sample["frames"])
            np.testing.assert_array_equal(sample["images"], expected)
            assert len(dataset._pictures._places) <= 2


def test_training_needs_no_detector_and_no_video_library(data: tuple[Path, dict[str, Clip]]) -> None:
    folder, _ = data
    code = f"""
import sys
for name in ("mediapipe", "dask", "distributed", "av", "pandas"):
    sys.modules[name] = None
from prep.dataset import StillDataset, WindowDataset
from prep.order import ResumableSampler, WindowStream
from prep.sample_spec import SampleSpec, Sound
spec = SampleSpec(references=3, view="box128", landmarks="face131", normalise="box", frame_sounds=(Sound("mel"),))
print(WindowDataset({str(folder)!r}, "train", spec)[0]["images"].shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "torch.Size([5, 3, 128, 128])"


def test_views_have_the_sizes_they_are_decoded_to(tmp_path: Path) -> None:
    write_fake_dataset(tmp_path, [fake_clip("a/1", 6, views=tuple(VIEWS))])
    for name, view in VIEWS.items():
        sample = WindowDataset(tmp_path, "train", SampleSpec(view=name))[0]
        assert sample["images"].shape == (5, 3, view.height, view.width)


def test_crops_are_scaled_to_a_height_and_a_width_also_where_they_are_kept(tmp_path: Path) -> None:
    write_fake_dataset(tmp_path, [fake_clip("a/1", 12, views=("mouth416x320",))])
    whole = WindowDataset(tmp_path, "train", SampleSpec(view="mouth416x320", references=2))
    small = WindowDataset(tmp_path, "train", SampleSpec(view="mouth416x320", references=2, size=(104, 80)))
    assert small.picture_bytes() == 12 * 3 * 104 * 80 + (whole.picture_bytes() - 12 * 3 * 416 * 320)
    plain = small[0]
    small.keep_pictures()
    for sample in (plain, small[0], small[0]):
        for name, count in (("images", 5), ("reference_images", 2)):
            assert sample[name].shape == (count, 3, 104, 80)
            for crop, wanted in zip(sample[name], whole[0][name], strict=True):
                scaled = cv2.resize(wanted.permute(1, 2, 0).numpy(), (80, 104), interpolation=cv2.INTER_AREA)
                np.testing.assert_array_equal(crop.permute(1, 2, 0).numpy(), scaled)
    # How large pictures are delivered does not choose others.
    assert small.fingerprint == whole.fingerprint


@pytest.mark.parametrize("size", [0, (0, 80), (104, -1)])
def test_a_size_has_pixels_and_belongs_to_a_view(size: int | tuple[int, int]) -> None:
    for view in ("mouth416x320", None):
        with pytest.raises(ValueError, match=r"size .* of view"):
            SampleSpec(view=view, size=size)
    with pytest.raises(ValueError, match=r"size .* of view None"):
        SampleSpec(size=(104, 80))
