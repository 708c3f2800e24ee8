"""What a method is given: frames in the right order, few at a time, and sound beyond its ends."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.clips.inputs import from_dataset
from bench.generate import fit as fit_module
from bench.generate import footage as module
from bench.generate.dub_inputs import pick
from bench.generate.fit import BLOCK_FRAMES, Fit, heard_frames
from bench.generate.footage import VideoFootage, clip_footage, file_footage
from bench.generate.sound import DrivingSound
from prep.errors import ClipError, PrepError
from prep.landmark_sets import FACE_131, LIPS
from prep.sample_spec import Column, Sound
from prep.shards import MANIFEST, write_json
from prep.sound.features import chunk, valid_frames
from prep.sound.mel import melspectrogram
from prep.sound_reading import sound
from prep.video_writing import write_video
from prep.views import VIEWS
from tests.bench.fake_method import FakeMesh, number_of, numbered
from tests.prep.fakes import fake_clip, write_fake_dataset


class Reader:
    """Gives numbered pictures and counts those that are alive."""

    def __init__(self, size: tuple[int, int] = (20, 160), ends: int = 10**6) -> None:
        self.size = size
        self.ends = ends
        self.live = self.most = self.decoded = self.calls = 0

    def __call__(self, start: int, stop: int) -> Iterator[np.ndarray]:
        self.calls += 1
        for number in range(start, min(stop, self.ends)):
            frame = numbered(number, *self.size)
            self.live += 1
            self.decoded += 1
            self.most = max(self.most, self.live)
            weakref.finalize(frame, self._gone)
            yield frame
            del frame

    def _gone(self) -> None:
        self.live -= 1


def make(
    read: Reader, n: int, wanted: int, fit: Fit | None = None, faceless: tuple[int, ...] = ()
) -> VideoFootage:
    clip = fake_clip("a", n, undetected=faceless)
    return VideoFootage(
        read,
        clip.landmarks,
        views=["box128"],
        stored={"box128": clip.transforms["box128"]},
        n_frames=wanted,
        fit=fit or Fit(),
        width=160,
        height=200,
    )


@pytest.mark.parametrize(
    ("fit", "video", "sound_", "frames"),
    [
        (Fit(), 10, 10, 10),
        (Fit(), 10, 25, 25),
        (Fit("loop"), 10, 25, 25),
        (Fit("cut"), 10, 25, 10),
        (Fit("cut"), 10, 4, 4),
        (Fit(), 10, 4, 4),
        (Fit(shorter="pad"), 10, 4, 10),
        (Fit("cut", "pad"), 10, 25, 10),
    ],
)
def test_sound_and_flags_set_the_length(fit: Fit, video: int, sound_: int, frames: int) -> None:
    assert fit.frames(video, sound_) == frames


def test_back_and_forth_shows_the_ends_once() -> None:
    assert Fit().order(4, 15).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert Fit("loop").order(4, 6).tolist() == [0, 1, 2, 3, 0, 1]
    assert Fit().order(1, 3).tolist() == [0, 0, 0]
    assert Fit().order(2, 5).tolist() == [0, 1, 0, 1, 0]


def test_words_of_the_command() -> None:
    assert Fit.named("loop", "pad") == Fit("loop", "pad")
    with pytest.raises(PrepError, match=r"unknown --longer-audio 'bonce': did you mean bounce\?"):
        Fit.named("bonce", "cut")


@given(st.integers(1, 130), st.integers(1, 400), st.sampled_from(["bounce", "loop"]))
def test_shots_come_in_order_whatever_the_lengths(video: int, wanted: int, longer) -> None:
    fit = Fit(longer)
    clip = VideoFootage(
        Reader((12, 144)),
        np.full((video, 478, 2), np.nan),
        n_frames=wanted,
        fit=fit,
        width=4000,
        height=1000,
    )
    shots = [(shot.index, number_of(shot.frame)) for shot in clip.shots()]
    expected = fit.order(video, wanted).tolist()
    assert shots == list(enumerate(expected))
    if longer == "bounce" and video > 1:
        assert all(abs(b - a) == 1 for a, b in pairwise(expected))


def test_a_minute_streams_forwards_and_backwards_with_few_frames_alive() -> None:
    read = Reader()
    landmarks = np.zeros((1500, 478, 2), np.float32)
    clip = VideoFootage(read, landmarks, n_frames=4000, fit=Fit(), width=160, height=20)
    seen = 0
    for shot in clip.shots():
        assert number_of(shot.frame) == clip.order[seen]
        seen += 1
        del shot
    gc.collect()
    assert seen == 4000 and read.decoded == 4000
    assert read.most <= BLOCK_FRAMES + 2 and read.live == 0
    assert clip.n_unique == 1500


def test_large_frames_make_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "BLOCK_BYTES", 3 * 160 * 200 * 7 + 5)
    read = Reader()
    for shot in make(read, 60, 120).shots():
        del shot
    assert read.most <= 7 + 2


def test_some_frames_are_picked_in_the_order_asked_for_and_decoded_once() -> None:
    read = Reader()
    clip = make(read, 400, 1000)
    # Frame 799 of the footage is frame 1 of the video, on the way forth again.
    picked = clip.pick([310, 5, 799, 310, 7])
    assert [shot.index for shot in picked] == [310, 5, 799, 310, 7]
    assert [number_of(shot.frame) for shot in picked] == [310, 5, 1, 310, 7]
    assert read.calls == 2 and read.decoded == 7 + 1
    picked[0].frame[:] = 0
    assert number_of(picked[3].frame) == 310
    assert clip.pick([]) == []
    with pytest.raises(IndexError, match="frame 1000 of 1000"):
        clip.pick([1000])


def test_crops_are_the_views_and_frames_without_a_face_have_none() -> None:
    clip = make(Reader((200, 160)), 12, 20, faceless=(3, 11))
    order = clip.order
    assert clip.detected.tolist() == [n not in (3, 11) for n in order]
    points = clip.landmarks("face131")
    assert points.shape == (20, 131, 2) and points.dtype == np.float32
    assert np.isnan(points[~clip.detected]).all()
    truth = fake_clip("a", 12, undetected=(3, 11))
    expected = truth.landmarks[order][:, FACE_131, :2]
    assert np.array_equal(points[clip.detected], expected[clip.detected])
    for shot in clip.shots():
        if clip.detected[shot.index]:
            matrix = truth.transforms["box128"][order[shot.index]]
            crop = clip.crop("box128", shot)
            assert crop is not None
            assert np.allclose(crop.transform, matrix, atol=1e-4) and crop.transform.dtype == np.float64
            assert np.array_equal(crop.picture, VIEWS["box128"].crop(shot.frame, matrix))
            assert np.array_equal(clip.transforms("box128")[shot.index], crop.transform)
        else:
            assert clip.crop("box128", shot) is None
            assert np.isnan(clip.transforms("box128")[shot.index]).all()
    with pytest.raises(PrepError, match="did you mean lips"):
        clip.landmarks("lps")


def test_a_face_whose_crop_leaves_the_frame_counts_as_none() -> None:
    clip = fake_clip("a", 5)
    transforms = np.array(clip.transforms["box128"])
    transforms[2] = np.nan
    made = VideoFootage(
        Reader(),
        clip.landmarks,
        views=["box128"],
        stored={"box128": transforms},
        n_frames=5,
        fit=Fit(),
        width=160,
        height=200,
    )
    assert made.detected.tolist() == [True, True, False, True, True]
    assert np.isnan(made.landmarks("lips")[2]).all()


def test_a_video_that_ends_early_says_where() -> None:
    clip = make(Reader(ends=30), 40, 40)
    with pytest.raises(ClipError, match="frame 30 cannot be decoded"):
        list(clip.shots())
    with pytest.raises(ClipError, match="frame 35 cannot be decoded"):
        clip.pick([35])


# --- sound


def test_chunks_are_those_of_the_spectrogram_and_silence_beyond_it() -> None:
    samples = (3000 * np.random.default_rng(0).standard_normal(640 * 20)).astype(np.int16)
    speech = DrivingSound(samples, 20)
    mel = melspectrogram(samples)
    plain, early = Sound("mel"), Sound("mel", offset=-2)
    inside = valid_frames(len(mel), early, 80)
    assert inside.start == 2
    for frame in inside:
        assert np.array_equal(speech.chunk(frame, early), chunk(mel, frame, early, 80))
    first = speech.chunk(0, early)  # from column -6 on
    assert first.shape == (80, 16) and first.dtype == np.float32
    assert (first[:, :6] == -4).all() and np.array_equal(first[:, 6:], mel[:10].T)
    last = speech.chunk(19, plain)  # from column 60 on, of 65
    assert np.array_equal(last[:, :5], mel[60:].T) and (last[:, 5:] == -4).all()
    assert (speech.chunk(500, plain) == -4).all()
    assert np.array_equal(melspectrogram(np.zeros(640, np.int16)), np.full((4, 80), -4, np.float32))


def test_sound_is_cut_or_goes_on_in_silence() -> None:
    samples = np.arange(1, 6401, dtype=np.int16)
    assert heard_frames(samples) == 10 and heard_frames(samples[: 6401 - 640 + 1]) == 10
    assert heard_frames(samples[: 9 * 640]) == 9
    assert np.array_equal(DrivingSound(samples, 4).samples, samples[:2560])
    longer = DrivingSound(samples, 12).samples
    assert len(longer) == 12 * 640 and longer.dtype == np.int16
    assert np.array_equal(longer[:6400], samples) and not longer[6400:].any()


# --- clips of a data set


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    clips = [fake_clip("s/a", 30, split="test", undetected=(4, 5)), fake_clip("s/b", 20, split="test")]
    write_fake_dataset(folder, clips)
    for clip in clips:
        path = tmp_path / "corpus" / clip.source
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, [numbered(i) for i in range(clip.n_frames)], samples=clip.audio, crf=4)
    manifest = json.loads((folder / MANIFEST).read_text())
    write_json(folder / MANIFEST, {**manifest, "root": str(tmp_path / "corpus")})
    return folder


def test_a_clip_brings_its_own_landmarks_and_crops(data: Path) -> None:
    job = from_dataset({}, data).jobs[0]
    clip = clip_footage(job, ["box128"], 75, Fit())
    assert (clip.n_frames, clip.n_unique, clip.width, clip.height) == (75, 30, 160, 200)
    assert [number_of(shot.frame) for shot in clip.shots()] == Fit().order(30, 75).tolist()
    truth = fake_clip("s/a", 30, undetected=(4, 5))
    assert clip.detected.tolist() == [n not in (4, 5) for n in Fit().order(30, 75)]
    shot = clip.pick([9])[0]
    crop = clip.crop("box128", shot)
    assert crop is not None
    assert np.array_equal(crop.transform, truth.transforms["box128"][9].astype(np.float32).astype(np.float64))
    points = clip_footage(job, (), 10, Fit()).landmarks("lips", depth=True)
    assert points.shape == (10, 40, 3) and np.array_equal(points[0], truth.landmarks[0, LIPS])


def test_a_clip_has_a_sound_of_its_own(data: Path) -> None:
    job = from_dataset({}, data).jobs[0]
    clip = clip_footage(job, (), 75, Fit())
    assert len(clip.speech.samples) == 30 * 640
    truth = fake_clip("s/a", 30, undetected=(4, 5)).audio
    assert truth is not None and np.array_equal(clip.speech.samples, truth[: 30 * 640])
    assert clip.alone.n_frames == 30 and clip.alone.detected.tolist() == clip.detected[:30].tolist()


def test_derived_columns_are_brought_into_the_footages_order() -> None:
    asked: list[tuple[int, str]] = []

    def derive(clip: VideoFootage, name: str) -> tuple[Column, np.ndarray]:
        asked.append((clip.n_frames, name))
        if name == "fit.shape":
            return Column("shape", "clip", (2,)), np.array([4.0, 5.0])
        return Column("pose", "frame", (1,)), np.arange(clip.n_frames, dtype=np.float32)[:, None]

    clip = fake_clip("a", 4)
    made = VideoFootage(Reader(), clip.landmarks, n_frames=7, fit=Fit(), width=160, height=200, derive=derive)
    assert made.derived("fit.pose")[:, 0].tolist() == [0, 1, 2, 3, 2, 1, 0]
    assert made.derived("fit.shape").tolist() == [4.0, 5.0]
    assert asked == [(4, "fit.pose"), (4, "fit.shape")]
    with pytest.raises(KeyError):
        make(Reader(), 4, 4).derived("fit.pose")


def test_a_view_that_is_not_stored_is_cut_from_the_landmarks(data: Path) -> None:
    job = from_dataset({}, data).jobs[1]
    clip = clip_footage(job, ["face96"], 20, Fit())
    truth = fake_clip("s/b", 20)
    matrices = VIEWS["face96"].transforms(truth.landmarks, truth.detected, 160, 200)
    for shot in clip.shots():
        crop = clip.crop("face96", shot)
        assert crop is not None and crop.picture.shape == (96, 96, 3)
        assert np.array_equal(crop.transform, matrices[shot.index])
    with pytest.raises(PrepError, match="did you mean face96"):
        clip_footage(job, ["face69"], 20, Fit())


# --- any file


def test_only_what_is_needed_of_a_file_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = FakeMesh({7})
    monkeypatch.setattr(module, "create", lambda name, **options: mesh)
    write_video(tmp_path / "v.mp4", [numbered(i, 101, 145) for i in range(40)], fps=25)
    steps: list[tuple[int, int]] = []
    clip = file_footage(
        pick(tmp_path / "v.mp4"),
        ["box128"],
        15,
        Fit(),
        on_frame=lambda done, total: steps.append((done, total)),
    )
    assert mesh.frames == 15 and steps == [(i + 1, 15) for i in range(15)]
    assert (clip.n_frames, clip.n_unique, clip.width, clip.height) == (15, 15, 146, 102)
    assert np.flatnonzero(~clip.detected).tolist() == [7]
    assert file_footage(pick(tmp_path / "v.mp4"), (), 90, Fit()).n_frames == 90
    monkeypatch.setattr(module, "create", lambda name, **options: FakeMesh(set(range(40))))
    with pytest.raises(ClipError, match="no human face in 40 frames"):
        file_footage(pick(tmp_path / "v.mp4"), ["box128"], 40, Fit())


@pytest.mark.clips
def test_a_real_video_is_followed_and_cut(clips_dir: Path) -> None:
    path = clips_dir / "talk3.mp4"
    frames = heard_frames(sound(path).samples[: 640 * 12])
    clip = file_footage(pick(path), ["box128"], frames, Fit())
    assert clip.n_frames == 12 and clip.detected.all()
    for shot in clip.pick([0, 11]):
        crop = clip.crop("box128", shot)
        assert crop is not None and crop.picture.shape == (128, 128, 3) and crop.picture.std() > 10
