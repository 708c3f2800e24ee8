"""One listed clip becomes rows: on the embedded corpus, and on real clips where there are any."""

import json
import shutil
import wave
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from prep import clip as clip_module
from prep import images, video_reading, video_writing
from prep.clip import ClipProcessor
from prep.facemesh.detector import FaceMesh
from prep.landmark_sets import FACE_131, FACE_131_CONTENT, FACE_131_POSE
from prep.options import PrepOptions
from prep.pixels import Colour
from prep.schema import Clip
from prep.shards import Failure
from prep.sources import get_source
from prep.sources.base import ClipRef
from prep.views import VIEWS, landmark_box, over_box
from tests.prep.opencv_reader import opencv_frames

OPTIONS = PrepOptions(source="folder", name="folder", views=("box128",), encoding="png")
PARITY = Path(__file__).parents[1] / "parity" / "ip_lap_prep" / "landmarks.npz"


def rows(root: Path, ref: ClipRef, options: PrepOptions = OPTIONS) -> list[Clip | Failure]:
    return list(ClipProcessor(root, options).process(ref))


def only_clip(root: Path, ref: ClipRef, options: PrepOptions = OPTIONS) -> Clip:
    (row,) = rows(root, ref, options)
    assert isinstance(row, Clip), row
    return row


def only_failure(root: Path, ref: ClipRef, options: PrepOptions = OPTIONS) -> Failure:
    (row,) = rows(root, ref, options)
    assert isinstance(row, Failure)
    return row


@pytest.fixture(scope="module")
def talking(toy_corpus: Path) -> Path:
    """One toy clip, as a file."""
    return max(toy_corpus.rglob("*.mp4"), key=lambda path: path.stat().st_size)


def test_a_long_source_is_cut_evenly_and_nothing_is_lost(talking: Path) -> None:
    ref = ClipRef("a", "test", talking.name)
    whole = only_clip(talking.parent, ref)
    pieces = rows(talking.parent, ref, replace(OPTIONS, clip_seconds=0.6))
    assert len(pieces) == -(-whole.n_frames // 15)
    lengths = [piece.n_frames for piece in pieces if isinstance(piece, Clip)]
    assert sum(lengths) == whole.n_frames
    assert max(lengths) <= 15 and max(lengths) - min(lengths) <= 1
    assert [p.clip_id for p in pieces] == [f"a-{i:03d}" for i in range(len(pieces))]
    joined = [image for piece in pieces if isinstance(piece, Clip) for image in piece.images["box128"]]
    assert joined == whole.images["box128"]
    assert whole.audio is not None
    sound = np.concatenate([piece.audio for piece in pieces if isinstance(piece, Clip)])
    np.testing.assert_array_equal(sound, whole.audio)
    for piece, start in zip(pieces, np.cumsum([0, *lengths]), strict=False):
        assert isinstance(piece, Clip)
        assert piece.start == start / 25 and piece.stop == (start + piece.n_frames) / 25


@pytest.fixture(scope="module")
def cut_video(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty frames of one person, three of a wall, and twenty of another person."""
    people = {path.parent.name: path for path in sorted(toy_corpus.rglob("*.mp4"))}
    first, second = (list(video_reading.frames(path, 0, 20)) for path in list(people.values())[:2])
    wall = cv2.resize(np.random.default_rng(6).integers(0, 255, (6, 6, 3), np.uint8), first[0].shape[1::-1])
    path = tmp_path_factory.mktemp("cut") / "cut.mp4"
    sound = np.random.default_rng(0).integers(-2000, 2000, 640 * 43).astype(np.int16)
    video_writing.write_video(path, [*first, *[wall] * 3, *second], samples=sound)
    return path


def allow(kept: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for all pictures of a video, for its frames in 4:2:0 only, or for neither."""
    info = video_reading.probe(path)
    pictures = 3 * info.n_frames * info.width * info.height
    budget = {"pictures": pictures, "frames": pictures - 1, "nothing": 0}[kept]
    monkeypatch.setattr(clip_module, "FRAME_BUDGET", budget)


@pytest.mark.parametrize("kept", ["pictures", "frames", "nothing"])
def test_cuts_divide_a_clip(cut_video: Path, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(kept, cut_video, monkeypatch)
    before, between, after = rows(cut_video.parent, ClipRef("a", "test", cut_video.name))
    assert isinstance(before, Clip) and isinstance(between, Failure) and isinstance(after, Clip)
    assert [row.clip_id for row in (before, between, after)] == ["a-000", "a-001", "a-002"]
    assert [(row.start, row.stop, row.n_frames) for row in (before, after)] == [
        (0, 0.8, 20),
        (0.92, 1.72, 20),
    ]
    assert between.reason == "a shot of 3 frames, at least 5 are needed"
    for row in (before, after):
        span = only_clip(
            cut_video.parent, ClipRef("b", "test", cut_video.name, start=row.start, stop=row.stop)
        )
        np.testing.assert_array_equal(row.landmarks, span.landmarks)
        np.testing.assert_array_equal(row.audio, span.audio)
        assert row.images == span.images and row.detected.all()


def test_a_clip_with_an_official_id_is_not_divided(cut_video: Path) -> None:
    failure = only_failure(cut_video.parent, ClipRef("a", "test", cut_video.name, cuts="refuse"))
    assert (failure.clip_id, failure.step) == ("a", "video")
    assert failure.reason == "the shot changes at 0.80 s, 0.92 s"


def test_small_faces_are_counted(talking: Path, tmp_path: Path) -> None:
    frames = list(video_reading.frames(talking, 0, 10))
    scene = np.full((720, 1280, 3), 90, np.uint8)
    scene[::2] += 20
    wide = []
    for frame in frames:
        picture = scene.copy()
        picture[300 : 300 + frame.shape[0], 800 : 800 + frame.shape[1]] = frame
        wide.append(picture)
    video_writing.write_video(tmp_path / "wide.mp4", wide, samples=np.zeros(6400, np.int16))
    clip = only_clip(tmp_path, ClipRef("a", "test", "wide.mp4"))
    assert clip.small_faces == clip.n_frames == 10 and clip.detected.all()
    whole = only_clip(talking.parent, ClipRef("a", "test", talking.name))
    assert whole.small_faces == 0
    away = (clip.landmarks - whole.landmarks[:10])[..., :2] - (800, 300)
    assert np.hypot(away[..., 0], away[..., 1]).mean() < 0.04 * np.ptp(whole.landmarks[0, :, 0])


@pytest.mark.parametrize("kept", ["frames", "nothing"])
def test_a_clip_too_large_to_keep_its_pictures_is_the_same(
    talking: Path, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = ClipRef("a", "test", talking.name)
    held = only_clip(talking.parent, ref)
    allow(kept, talking, monkeypatch)
    again = only_clip(talking.parent, ref)
    assert again.images == held.images
    np.testing.assert_array_equal(again.landmarks, held.landmarks)


def test_the_source_and_its_span_lead_back_to_the_frames(talking: Path) -> None:
    clip = only_clip(talking.parent, ClipRef("a", "test", talking.name, start=0.4, stop=1.2))
    frames = list(
        video_reading.frames(
            talking.parent / clip.source, round(clip.start * 25), round(clip.stop * 25), crop=clip.crop
        )
    )
    assert len(frames) == clip.n_frames == 20
    for frame, matrix, image in zip(frames, clip.transforms["box128"], clip.images["box128"], strict=True):
        assert image is not None
        np.testing.assert_array_equal(VIEWS["box128"].crop(frame, matrix), images.decode(image))


def test_crop_and_size_come_first_and_are_recorded(talking: Path) -> None:
    ref = ClipRef("a", "test", talking.name, crop=(4, 8, 112, 112), size=96)
    clip = only_clip(talking.parent, ref)
    assert (clip.crop, clip.width, clip.height) == ((4, 8, 112, 112), 96, 96)
    whole = only_clip(talking.parent, replace(ref, crop=None, size=None))
    back = clip.landmarks[..., :2] * (112 / 96) + (4, 8)
    assert np.abs(back - whole.landmarks[..., :2]).mean() < 1.5


def test_sound_that_ends_early_ends_the_clip(talking: Path, tmp_path: Path) -> None:
    frames = list(video_reading.frames(talking))
    samples = np.random.default_rng(0).integers(-2000, 2000, 640 * 12).astype(np.int16)
    video_writing.write_video(tmp_path / "short.mp4", frames[:30], samples=samples)
    clip = only_clip(tmp_path, ClipRef("a", "test", "short.mp4"))
    # AAC pads the sound to whole packets of 1024 samples.
    assert 12 <= clip.n_frames <= 14
    assert clip.av_difference == pytest.approx((clip.n_frames - 30) / 25, abs=0.05)
    assert clip.audio is not None and len(clip.audio) == 640 * clip.n_frames


def test_frames_without_a_face_are_gaps_and_too_many_are_a_failure(talking: Path, tmp_path: Path) -> None:
    frames = list(video_reading.frames(talking))[:20]
    blank = np.zeros_like(frames[0])
    for gaps, name in ((3, "few.mp4"), (15, "many.mp4")):
        mixed = [blank if 2 <= i < 2 + gaps else frame for i, frame in enumerate(frames)]
        video_writing.write_video(tmp_path / name, mixed, samples=np.zeros(640 * 20, np.int16))
    clip = only_clip(tmp_path, ClipRef("a", "test", "few.mp4"))
    assert np.flatnonzero(~clip.detected).tolist() == [2, 3, 4]
    assert [i for i, image in enumerate(clip.images["box128"]) if image is None] == [2, 3, 4]
    assert np.isnan(clip.landmarks[2:5]).all() and np.isnan(clip.transforms["box128"][2:5]).all()
    failure = only_failure(tmp_path, ClipRef("a", "test", "many.mp4"))
    assert failure.reason == "a face in 5 of 20 frames, fewer than 50%"
    assert len(rows(tmp_path, ClipRef("a", "test", "many.mp4"), replace(OPTIONS, min_detected=0.2))) == 1


@pytest.mark.parametrize(
    ("change", "step", "reason"),
    [
        ({"height": 720}, "source", "the video is 128p but the list's crop is for 720p: fetch it in 720p"),
        ({"start": 30.0, "stop": 40.0}, "source", "the span 30-40 s ends after the video"),
        ({"start": 0.0, "stop": 0.08}, "video", "2 frames, at least 5 are needed"),
        ({"text_file": "gone.txt"}, "source", "its text gone.txt cannot be read"),
        ({"problem": "listed but missing"}, "source", "listed but missing"),
        ({"source": "gone.mp4"}, "video", "no such file"),
    ],
)
def test_what_cannot_be_used_says_why(talking: Path, change: dict, step: str, reason: str) -> None:
    failure = only_failure(talking.parent, replace(ClipRef("a", "test", talking.name), **change))
    assert failure.step == step
    assert reason in failure.reason.lower() or failure.reason.startswith(reason)


def write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


def test_sound_of_a_file_of_its_own_begins_with_the_picture(talking: Path, tmp_path: Path) -> None:
    frames = list(video_reading.frames(talking))[:20]
    video_writing.write_video(tmp_path / "mute.mp4", frames)
    samples = np.random.default_rng(0).integers(-2000, 2000, 640 * 20).astype(np.int16)
    write_wav(tmp_path / "voice.wav", samples)
    clip = only_clip(tmp_path, ClipRef("a", "test", "mute.mp4", sound="voice.wav"))
    assert clip.audio is not None and np.array_equal(clip.audio, samples)
    assert (clip.source, clip.audio_start, clip.av_difference) == ("mute.mp4", 0, 0)
    part = only_clip(tmp_path, ClipRef("a", "test", "mute.mp4", sound="voice.wav", start=0.4))
    assert part.audio is not None and np.array_equal(part.audio, samples[6400:])
    failure = only_failure(tmp_path, ClipRef("a", "test", "mute.mp4", sound="none.wav"))
    assert (failure.step, failure.reason) == ("audio", "its sound none.wav: no such file")
    assert only_failure(tmp_path, ClipRef("a", "test", "mute.mp4")).reason == "no audio stream"


def test_how_the_source_was_read_is_recorded(talking: Path, tmp_path: Path) -> None:
    tones = [np.full((1, 16_000), level, np.int16) for level in (1000, 2000, 3000)]
    path = tmp_path / "three.mkv"
    with av.open(str(talking)) as source, av.open(str(path), "w") as sink:
        picture = source.streams.video[0]
        video = sink.add_stream_from_template(picture)
        voices = [sink.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in tones]
        for voice, mark in zip(voices, (0, Disposition.default, 0), strict=True):
            voice.disposition = Disposition(mark)
        for voice, tone in zip(voices, tones, strict=True):
            block = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = 16_000, 0, Fraction(1, 16_000)
            sink.mux([*voice.encode(block), *voice.encode(None)])
        for packet in source.demux(picture):
            if packet.dts is not None:
                packet.stream = video
                sink.mux(packet)
    for track, wanted in ((None, 1), (0, 0), (2, 2)):
        clip = only_clip(tmp_path, ClipRef("a", "test", path.name), replace(OPTIONS, audio_track=track))
        assert (clip.video_track, clip.audio_track, clip.audio_mix) == (0, wanted, "mono")
        assert clip.audio is not None and clip.audio[0] == 1000 * (wanted + 1)
        assert (clip.deinterlaced, clip.light, clip.sample_aspect) == (False, "sdr", 1.0)
        assert clip.matrix_tagged == video_reading.probe(path).matrix_tagged
    failure = only_failure(tmp_path, ClipRef("a", "test", path.name), replace(OPTIONS, audio_track=3))
    assert (failure.step, failure.reason) == (
        "audio",
        "no sound track 3, the file has 3 sound tracks: 0 to 2",
    )


# --- real clips


@pytest.fixture(scope="module")
def lrs2_tree(clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lrs2")
    names = [f"talk{i}" for i in range(1, 6)] + ["WDA_KatieHill_000"]
    for name in names:
        folder = root / "mvlrs_v1" / "main" / name
        folder.mkdir(parents=True)
        shutil.copy(clips_dir / f"{name}.mp4", folder / "00001.mp4")
        (folder / "00001.txt").write_text("Text:  SPOKEN\nConf:  5\n")
    (root / "test.txt").write_text("".join(f"{name}/00001 NF\n" for name in names))
    return root


@pytest.fixture(scope="module")
def real_rows(lrs2_tree: Path) -> dict[str, Clip]:
    processor = ClipProcessor(lrs2_tree, replace(OPTIONS, views=tuple(VIEWS), encoding="jpeg"))

    def every() -> Iterator[Clip]:
        for ref in get_source("lrs2").list_clips(lrs2_tree):
            for row in processor.process(ref):
                assert isinstance(row, Clip), row
                yield row

    return {clip.speaker: clip for clip in every()}


@pytest.mark.slow
def test_every_frame_of_every_real_clip_is_detected(real_rows: dict[str, Clip]) -> None:
    assert len(real_rows) == 6
    for clip in real_rows.values():
        assert clip.detected.all()
        assert (clip.n_faces == 1).all()
        assert clip.text == "SPOKEN"
        for view in VIEWS.values():
            picture = images.decode(clip.images[view.name][0] or b"")
            assert picture.shape == (view.height, view.width, 3)
    assert real_rows["talk2"].n_frames == 125
    assert real_rows["talk1"].source_fps == pytest.approx(22.13, abs=0.2)


def test_iplap_landmarks_and_crops_are_the_reference_s(clips_dir: Path) -> None:
    """Normalised landmarks to 1e-4 and crops bit for bit, against IP-LAP's own script on the same frames."""
    expected = np.load(PARITY)
    options = replace(OPTIONS, pixels="opencv")
    clip = only_clip(clips_dir, ClipRef("talk2", "test", "talk2.mp4", stop=1.0), options)
    assert clip.n_frames == 25
    mesh = clip.landmarks[:, FACE_131, :2].astype(np.float64)
    box = landmark_box(mesh, (clip.width, clip.height), 5)
    points = over_box(mesh, box)
    pose, content = points[:, :74], points[:, 74:]
    for name, indices, points in (("pose", FACE_131_POSE, pose), ("content", FACE_131_CONTENT, content)):
        ascending = points[:, np.argsort(indices)]
        assert np.abs(ascending - expected[f"train_{name}"]).max() < 1e-4
    official = sorted((clips_dir.parent / "parity" / "ip_lap_prep").glob("train_crop_*.png"))
    assert len(official) == 3
    stored = [images.decode(image) for image in clip.images["box128"] if image is not None]
    for path in official:
        crop = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        assert any(np.array_equal(crop, picture) for picture in stored), path.name


def test_a_bt709_clip_is_seen_as_by_iplap_s_own_preprocessing(clips_dir: Path, tmp_path: Path) -> None:
    """IP-LAP reads with OpenCV, which decodes a BT.709 clip by BT.601."""
    path = tmp_path / "a.mp4"
    frames = video_reading.frames(clips_dir / "talk2.mp4", 0, 8)
    video_writing.write_video(path, frames, samples=np.zeros(5120, np.int16), colour=Colour("bt709", 1, 1))
    seen = opencv_frames(path, tmp_path / "untagged")
    assert len(seen) == 8
    clip = only_clip(tmp_path, ClipRef("a", "test", "a.mp4"), replace(OPTIONS, pixels="opencv"))
    with FaceMesh() as mesh:
        expected = np.stack([mesh.detect(frame)[0] for frame in seen])
    assert np.abs(clip.landmarks - expected).max() < 1e-4
    box = VIEWS["box128"].transforms(expected, np.ones(8, bool), clip.width, clip.height)
    for frame, matrix, stored in zip(seen, box, clip.images["box128"], strict=True):
        assert np.array_equal(images.decode(stored or b""), VIEWS["box128"].crop(frame, matrix))
    exact = only_clip(tmp_path, ClipRef("a", "test", "a.mp4"), OPTIONS)
    assert (exact.matrix, exact.matrix_tagged, clip.matrix) == ("bt709", True, "bt601")
    assert np.abs(exact.landmarks - expected).max() > 0.1


def test_portraits_become_rows_and_animals_failures(clips_dir: Path, tmp_path: Path) -> None:
    for path in [*clips_dir.glob("*.png"), *clips_dir.glob("*.jpg")]:
        shutil.copy(path, tmp_path)
    options = PrepOptions(source="ffhq", name="ffhq", views=("aligned512",))
    processor = ClipProcessor(tmp_path, options)
    results = [row for ref in get_source("ffhq").list_clips(tmp_path) for row in processor.process(ref)]
    clips = [row for row in results if isinstance(row, Clip)]
    failures = [row for row in results if isinstance(row, Failure)]
    assert sorted(Path(c.source).stem for c in clips) == ["face1", "face2", "face3", "face4"]
    assert sorted(Path(f.source).stem for f in failures) == ["noface1", "noface2"]
    for clip in clips:
        assert (clip.n_frames, clip.fps, clip.audio, clip.mel) == (1, 0.0, None, None)
    assert all("face" in failure.reason for failure in failures)


def test_ffhq_landmarks_and_alignment_come_from_the_corpus(clips_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images1024x1024" / "00000"
    folder.mkdir(parents=True)
    picture = cv2.resize(cv2.imread(str(clips_dir / "face4.jpg")), (1024, 1024), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / "00000.png"), picture)
    points = [[float(i), float(2 * i)] for i in range(68)]
    entry = {
        "category": "validation",
        "image": {"file_path": "images1024x1024/00000/00000.png", "face_landmarks": points},
    }
    (tmp_path / "ffhq-dataset-v2.json").write_text(json.dumps({"0": entry}))
    (ref,) = get_source("ffhq").list_clips(tmp_path)
    clip = only_clip(tmp_path, ref, PrepOptions(source="ffhq", name="ffhq", views=("aligned512",)))
    assert clip.split == "val"
    assert clip.landmarks68 is not None
    np.testing.assert_array_equal(clip.landmarks68[0], points)
    np.testing.assert_allclose(clip.transforms["aligned512"][0], [[0.5, 0, 0], [0, 0.5, 0]])
