"""What `bench dub` takes: sound files of every kind, pictures, one of several people; and what it keeps of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from typer.testing import CliRunner

import bench.generate.footage as footage_module
import prep.landmarks as landmarks_module
from bench.cli.app import app
from bench.common.errors import BenchError
from bench.generate.dub_inputs import animators
from bench.generate.dub_sound import written_sound
from bench.generate.dubbing import Dubbed, dub
from bench.generate.people import OnePerson
from prep.landmarks import FaceChoice
from prep.pixels import Colour
from prep.sound_reading import film_sound, sound
from prep.video_reading import frames, native_frames, probe
from prep.video_writing import write_video
from tests.bench.fake_method import Fake, FakeMesh, number_of, numbered, run

__all__ = ["run"]


@pytest.fixture(autouse=True)
def mesh(monkeypatch: pytest.MonkeyPatch) -> FakeMesh:
    found = FakeMesh()
    monkeypatch.setattr(footage_module, "create", lambda name, **options: found)
    # The numbers in grey frames look like cuts.
    monkeypatch.setattr(landmarks_module, "marked", lambda frames: ((frame, False) for frame in frames))
    return found


def tones(seconds: float, rate: int, channels: int) -> np.ndarray:
    """(n, channels) int16, another tone in every channel."""
    time = np.arange(round(seconds * rate))[:, None] / rate
    return (8000 * np.sin(2 * np.pi * (300 + 100 * np.arange(channels)) * time)).astype(np.int16)


def write_sounds(
    path: Path, codec: str, *tracks: np.ndarray, rate: int, layout: str = "stereo", form: str = "s16"
) -> Path:
    """A file with some sound tracks, (n, channels) int16 each."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=rate, layout=layout) for _ in tracks]
        for stream in streams:
            stream.format = form  # type: ignore[union-attr]
        for stream, samples in zip(streams, tracks, strict=True):
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), "s16", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            resampler = av.AudioResampler(form, layout, rate, frame_size=stream.codec_context.frame_size)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    return path


def clip(folder: Path, n: int = 10, **options: Any) -> Path:
    path = folder / "in.mp4"
    write_video(path, (numbered(number) for number in range(n)), **options)
    return path


def speak(run: Path, video: Path, audio: Path, **options: Any) -> Dubbed:
    return dub("fake", run, video, audio, video.parent / "out.mp4", device="cpu", **options)


# Sound ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "form", "rate"),
    [
        ("a.mp3", "libmp3lame", "s16p", 44_100),
        ("a.m4a", "aac", "fltp", 48_000),
        ("a.opus", "libopus", "s16", 48_000),
        ("a.ogg", "libopus", "s16", 48_000),
        ("a.flac", "flac", "s32", 48_000),
        ("a.wav", "pcm_s24le", "s32", 48_000),
        ("a.WAV", "pcm_f32le", "flt", 22_050),
        ("a.aiff", "pcm_s16be", "s16", 32_000),
        ("a.mka", "alac", "s16p", 96_000),
    ],
)
def test_sound_keeps_rate_and_channels_whatever_file_it_comes_in(
    run: Path, tmp_path: Path, name: str, codec: str, form: str, rate: int
) -> None:
    spoken = tones(0.8, rate, 2)
    audio = write_sounds(tmp_path / name.lower(), codec, spoken, rate=rate, form=form).rename(tmp_path / name)
    done = speak(run, clip(tmp_path, 20), audio)
    assert (done.sample_rate, done.channels, done.notes) == (rate, 2, ())
    made = film_sound(tmp_path / "out.mp4")
    assert made.sample_rate == rate and made.samples.shape[1] == 2
    assert abs(len(made.samples) / rate - 0.8) < 0.06
    middle = slice(rate // 5, rate // 2)
    for channel in range(2):
        # Each channel has its own tone, at its own time.
        like = np.corrcoef(made.samples[middle, channel], spoken[middle, channel])[0, 1]
        assert like > 0.98, channel
    # The method got the mean at 16 kHz.
    assert done.generated in (20, 21) and len(sound(audio).samples) >= 0.79 * 16_000


def test_six_channels_stay_six(run: Path, tmp_path: Path) -> None:
    audio = write_sounds(tmp_path / "a.wav", "pcm_s16le", tones(0.4, 48_000, 6), rate=48_000, layout="5.1")
    assert speak(run, clip(tmp_path), audio).channels == 6
    with av.open(str(tmp_path / "out.mp4")) as made:
        assert made.streams.audio[0].layout.name == "5.1"


@pytest.mark.parametrize(
    ("rate", "next_rate"), [(192_000, 96_000), (6000, 7350), (37_800, 44_100), (46_000, 48_000)]
)
def test_a_rate_that_aac_lacks_becomes_the_next_higher_and_is_said(
    tmp_path: Path, rate: int, next_rate: int
) -> None:
    spoken = tones(0.4, rate, 2)
    audio = write_sounds(tmp_path / "a.wav", "pcm_s16le", spoken, rate=rate)
    found = written_sound(audio, None, Fraction(1, 2))
    assert (found.sample_rate, found.samples.shape) == (next_rate, (next_rate // 2, 2))
    assert found.notes == (
        f"the sound of a.wav was resampled from {rate} to {next_rate} Hz: AAC has no such rate",
    )
    expected = tones(0.4, next_rate, 2)
    middle = slice(next_rate // 10, next_rate // 4)
    assert np.corrcoef(found.samples[middle, 1], expected[middle, 1])[0, 1] > 0.99
    assert not found.samples[round(0.41 * next_rate) :].any()


def test_a_number_of_channels_that_aac_lacks_becomes_one_and_is_said(tmp_path: Path) -> None:
    spoken = tones(0.2, 16_000, 7)
    audio = write_sounds(tmp_path / "a.wav", "pcm_s16le", spoken, rate=16_000, layout="6.1")
    found = written_sound(audio, None, Fraction(1, 5))
    assert found.channels == 1
    assert found.notes == ("the 7 channels of a.wav became one: AAC has no such layout",)
    assert np.abs(found.samples[:, 0] - spoken.mean(axis=1)).max() <= 1


def test_one_of_several_tracks_can_be_chosen(run: Path, tmp_path: Path) -> None:
    high, low = tones(0.4, 48_000, 2), np.zeros((19_200, 2), np.int16)
    audio = write_sounds(tmp_path / "a.mka", "pcm_s16le", low, high, rate=48_000)
    for track, loud in ((None, False), (0, False), (1, True)):
        speak(run, clip(tmp_path), audio, audio_track=track)
        assert (np.abs(film_sound(tmp_path / "out.mp4").samples).max() > 4000) == loud
    with pytest.raises(BenchError, match=r"a\.mka: no sound track 2, the file has 2 sound tracks: 0 to 1"):
        speak(run, clip(tmp_path), audio, audio_track=2)


def test_the_sound_of_a_video_lies_where_it_lies_there(run: Path, tmp_path: Path) -> None:
    late = np.concatenate([np.zeros((4800, 1), np.int16), tones(0.3, 16_000, 1)])
    other = tmp_path / "other.mp4"
    write_video(other, (numbered(number) for number in range(15)), samples=late)
    speak(run, clip(tmp_path, 15), other)
    heard = np.abs(film_sound(tmp_path / "out.mp4").samples[:, 0].astype(int))
    assert heard[:4000].max() < 300 and heard[5200:9000].max() > 6000


# Picture -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "colour",
    [Colour("bt709", 1, 1), Colour("bt601", 6, 6), Colour("bt709", 1, 1, full=True), Colour("bt2020", 9, 14)],
)
@pytest.mark.parametrize("fps", [25, 50])
def test_the_colours_are_tagged_and_kept_as_in_the_source(
    run: Path, tmp_path: Path, colour: Colour, fps: int
) -> None:
    path = tmp_path / "in.mp4"
    # Saturated, so that a wrong matrix is seen.
    frame = numbered(1, grey=0)
    frame[20:] = (200, 60, 40)
    write_video(path, [frame] * fps, fps=fps, colour=colour, crf=4)
    audio = write_sounds(tmp_path / "a.wav", "pcm_s16le", tones(1, 16_000, 2), rate=16_000)
    speak(run, path, audio, crf=4)
    made = probe(tmp_path / "out.mp4")
    assert made.colour == probe(path).colour == colour and made.source_fps == fps
    (_, shown), *_ = native_frames(tmp_path / "out.mp4")
    assert np.abs(shown[30:60, 20:140].astype(int) - (200, 60, 40)).max() <= 3


def test_high_dynamic_range_becomes_sdr_and_is_said(run: Path, tmp_path: Path) -> None:
    video = clip(tmp_path, colour=Colour("bt2020", 9, 18))
    audio = write_sounds(tmp_path / "a.wav", "pcm_s16le", tones(0.4, 16_000, 2), rate=16_000)
    done = speak(run, video, audio)
    assert done.notes == ("in.mp4 is in HLG (HDR): the result is SDR, in the colours of BT.709",)
    assert probe(tmp_path / "out.mp4").colour == Colour("bt709", 1, 1)


def test_pixels_that_are_not_square_become_so(run: Path, tmp_path: Path) -> None:
    video = clip(tmp_path, sample_aspect=Fraction(3, 2))
    audio = write_sounds(tmp_path / "a.wav", "pcm_s16le", tones(0.4, 16_000, 2), rate=16_000)
    done = speak(run, video, audio)
    assert (done.width, done.height) == (240, 200)
    made = probe(tmp_path / "out.mp4")
    assert (made.width, made.height, made.sample_aspect) == (240, 200, 1)


def test_a_picture_lasts_as_long_as_the_sound(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "face.png"
    cv2.imwrite(str(picture), numbered(5))
    audio = write_sounds(tmp_path / "a.wav", "pcm_s16le", tones(0.6, 16_000, 2), rate=16_000)
    with pytest.raises(BenchError) as raised:
        speak(run, picture, audio)
    ours = animators()
    assert {"ipl", "lipformer", "wav2lip", "synctalkface", "atvg"} <= set(ours) and "fake" not in ours
    named = ", ".join(ours)
    assert (
        str(raised.value) == f"{picture} is a picture, and fake needs a video: these take a picture: {named}"
    )
    monkeypatch.setattr(Fake, "animates_pictures", True, raising=False)
    assert animators() == [*ours, "fake"]
    done = speak(run, picture, audio, sheet=tmp_path / "sheet.jpg")
    assert (done.frames, done.fps, done.source_fps, done.width, done.height) == (15, 25, 0, 160, 200)
    shown = list(frames(tmp_path / "out.mp4"))
    assert len(shown) == 15 and all(abs(float(frame[130:150, 70:90].mean()) - 165) < 3 for frame in shown)
    out = tmp_path / "by-name.mp4"
    words = [
        "dub",
        "fake",
        "--run",
        run,
        "--image",
        picture,
        "--audio",
        audio,
        "--out",
        out,
        "--device",
        "cpu",
    ]
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0
    assert out.read_bytes() == (tmp_path / "out.mp4").read_bytes()


def test_methods_that_animate_pictures_are_listed() -> None:
    listed = " ".join(CliRunner().invoke(app, ["ls", "methods"]).stdout.split())
    assert listed.count("; animates pictures, too") == len(animators())


# People --------------------------------------------------------------------------------------------------------------


class TwoFaces(FakeMesh):
    """A large face on the left, and a small one on the right."""

    def detect(self, frame: np.ndarray) -> np.ndarray:
        (face,) = super().detect(frame[:, :160])
        return np.stack([face * 0.5 + [190, 60, 0], face])


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    monkeypatch.setattr(footage_module, "create", lambda name, **options: TwoFaces())
    write_video(tmp_path / "in.mp4", (numbered(number, width=320) for number in range(5)))
    audio = write_sounds(tmp_path / "a.wav", "pcm_s16le", tones(0.2, 16_000, 2), rate=16_000)
    return tmp_path / "in.mp4", audio


@pytest.mark.parametrize(
    ("face", "speaks"),
    [
        (FaceChoice(), "left"),
        (FaceChoice(1), "left"),
        (FaceChoice(2), "right"),
        (FaceChoice(at=(240, 90)), "right"),
    ],
)
def test_one_of_several_people_speaks(
    run: Path, two: tuple[Path, Path], face: FaceChoice, speaks: str
) -> None:
    done = speak(run, *two, face=face)
    frame = next(frames(two[0].parent / "out.mp4"))
    changed = np.abs(frame[20:].astype(int) - 90).max(axis=2) > 40
    left, right = changed[:, :170].mean(), changed[:, 190:].mean()
    assert (left > 0.05, right > 0.05) == ((True, False) if speaks == "left" else (False, True))
    if face == FaceChoice():
        assert done.notes == (
            "2 faces in the first frame with a face: the largest one speaks; choose another with --face N, counted "
            "from the left, or --face-at X,Y",
        )
    else:
        assert done.notes == ()


def test_nobody_else_speaks_where_the_person_s_face_is_not_found() -> None:
    class Sometimes(FakeMesh):
        """Two faces; the left one is missed now and then, and there is another shot at the end."""

        def detect(self, frame: np.ndarray) -> np.ndarray:
            number = self.frames
            self.frames += 1
            right = self.face[0] * 0.5 + [190, 60, 0]
            if number >= 40:
                return np.stack([self.face[0] * 0.7 + [400, 0, 0]])
            return np.stack([right] if number in (3, 4, 9) else [self.face[0] + [number, 0, 0], right])

    for choice, missing in ((FaceChoice(), {3, 4, 9}), (FaceChoice(1), {3, 4, 9}), (FaceChoice(2), set())):
        person = OnePerson(Sometimes(), choice)
        found = [person.detect(np.empty(0)) for _ in range(45)]
        assert {number for number, faces in enumerate(found) if not len(faces)} == missing
        assert person.people == 2 and all(len(faces) <= 1 for faces in found)
        places = [faces[0, :, 0].mean() for faces in found[:40] if len(faces)]
        assert max(places) - min(places) <= 40
        assert all(faces[0, :, 0].mean() > 400 for faces in found[40:])


def test_one_person_is_followed_frame_by_frame_although_all_are_detected_at_once() -> None:
    away = np.array([500, 0, 0])

    class Moves(FakeMesh):
        """Two people. In the second frame only a search finds one, far away; in the third, one is at each place."""

        def detect_batch(self, frames: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
            self.frames += 1
            left, right = self.face[0], self.face[0] * 0.5 + [190, 60, 0]
            return iter(
                [np.stack([left, right]), self.face[:0], np.stack([left, left + away])][: len(frames)]
            )

        def search(self, frame: np.ndarray) -> np.ndarray:
            return self.face + away

    mesh = Moves()
    person = OnePerson(mesh, FaceChoice(1))
    found = person.detect_batch([np.empty(0)] * 3)
    np.testing.assert_array_equal(next(found), mesh.face)
    assert mesh.frames == 1 and person.people == 2
    assert not len(next(found))
    np.testing.assert_array_equal(person.search(np.empty(0)), mesh.face + away)
    np.testing.assert_array_equal(next(found), mesh.face + away)


@pytest.mark.parametrize(
    ("face", "who"), [(FaceChoice(), "the largest face speaks"), (FaceChoice(2), "the face is chosen anew")]
)
def test_after_a_cut_the_choice_is_made_anew_and_is_said(
    run: Path, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, face: FaceChoice, who: str
) -> None:
    class Cut(TwoFaces):
        def detect(self, frame: np.ndarray) -> np.ndarray:
            return super().detect(frame)[: 2 if number_of(frame) < 3 else 1]

    monkeypatch.setattr(footage_module, "create", lambda name, **options: Cut())
    monkeypatch.setattr(
        landmarks_module,
        "marked",
        lambda frames: ((f, number) for f, number in zip(frames, (0, 0, 0, 1, 0), strict=True)),
    )
    done = speak(run, *two, face=face)
    assert done.faceless == 0
    assert done.notes[-1].startswith(
        f"in.mp4 has 1 cut at 0.12 s: in every shot {who}; dub shots of different"
    )


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (
            ["--face", "3"],
            "in.mp4: there is no face 3: in the first frame with a face there are 2 faces, at (",
        ),
        (["--face-at", "nan,3"], "--face-at nan,3: write it as x,y in pixels of the video, such as 640,300"),
        (["--face-at", "left"], "--face-at left: write it as x,y in pixels of the video, such as 640,300"),
        (["--face-at", "3,4", "--face", "1"], "--face and --face-at both choose the face: give one of them"),
    ],
)
def test_a_wrong_choice_of_a_face_is_one_line(
    run: Path, two: tuple[Path, Path], words: list[str], match: str
) -> None:
    video, audio = two
    call = [
        "dub",
        "fake",
        "--run",
        run,
        "--video",
        video,
        "--audio",
        audio,
        "--out",
        video.parent / "out.mp4",
        *words,
    ]
    done = CliRunner().invoke(app, list(map(str, call)))
    assert isinstance(done.exception, BenchError)
    assert match in str(done.exception) and "\n" not in str(done.exception)


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"--video": "folder"},
            "folder is a folder: --video takes one video; for many, prepare them (bench prep folder) and use bench "
            "generate",
        ),
        ({"--audio": "folder"}, "folder is a folder: --audio takes one sound file, or one video with sound"),
        ({"--audio": "p.png"}, "p.png is a picture: --audio takes a sound file, or a video with sound"),
        ({"--run": "in.mp4"}, "in.mp4 is a file: --run takes the folder of a training run"),
        ({"--out": "in.mp4/out.mp4"}, "out.mp4 cannot be written: {0}/in.mp4 is a file; name another place"),
        (
            {"--out": "folder"},
            "folder is a folder: give --out the name of a file, such as {0}/folder/out.mp4",
        ),
        ({"--out": "out"}, "out: only MP4 is written: give --out a name that ends in .mp4"),
        ({"--pose": "folder"}, "folder is a folder: name footage, still, or a video file"),
        (
            {"--run": "folder"},
            "folder is not a training run, but holds some: give one of them, such as {0}/folder/mine",
        ),
    ],
)
def test_files_of_another_kind_are_called_by_their_kind(
    run: Path, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    clip(tmp_path)
    write_sounds(tmp_path / "a.wav", "pcm_s16le", tones(0.4, 16_000, 2), rate=16_000)
    cv2.imwrite(str(tmp_path / "p.png"), numbered(1))
    (tmp_path / "folder").mkdir()
    run.rename(tmp_path / "folder" / "mine")
    words = {"--run": "folder/mine", "--video": "in.mp4", "--audio": "a.wav", "--out": "out.mp4", **change}
    call = ["dub", "fake", "--device", "cpu"]
    for name, value in words.items():
        call += [name, str(tmp_path / value)]
    done = CliRunner().invoke(app, call)
    assert isinstance(done.exception, BenchError), done.exception
    assert str(done.exception).endswith(message.format(tmp_path)) and "\n" not in str(done.exception)
    assert not (tmp_path / "out.mp4").exists()


def test_a_place_that_cannot_be_written_fails_before_the_run_is_opened(tmp_path: Path) -> None:
    video = clip(tmp_path)
    match = r"out\.mp4 cannot be written \(/proc: .*\): name a place where you can write"
    with pytest.raises(BenchError, match=match):
        dub("fake", tmp_path / "no run", video, video, Path("/proc/none/out.mp4"))


def test_weights_of_the_toy_corpus_say_that_they_are_unfit_for_other_faces(run: Path, tmp_path: Path) -> None:
    record = {"data": [{"name": "toy", "path": "data", "manifest_sha256": ""}], "weights": {}, "starts": []}
    (run / "provenance.json").write_text(json.dumps(record))
    audio = write_sounds(tmp_path / "a.wav", "pcm_s16le", tones(0.4, 16_000, 2), rate=16_000)
    video = clip(tmp_path)
    words = ["dub", "fake", "--run", run, "--video", video, "--audio", audio, "--out", tmp_path / "o.mp4"]
    said = CliRunner().invoke(app, list(map(str, words))).stderr
    assert f"note: {run} was trained on the toy corpus, so it is unfit for real faces" in said
    # With another data set beside it, or for the corpus' own clips, there is nothing to say.
    (tmp_path / "toy.json").write_text("{}")
    assert speak(run, video, audio).notes == ()
    (tmp_path / "toy.json").unlink()
    record["data"].append({"name": "lrs2", "path": "lrs2", "manifest_sha256": ""})  # type: ignore[attr-defined]
    (run / "provenance.json").write_text(json.dumps(record))
    assert speak(run, video, audio).notes == ()
