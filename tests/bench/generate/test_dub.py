"""One video and one sound: any length, any rate, any size; and the errors of those who try it first."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import bench.generate.footage as footage_module
from bench.cli.app import app
from bench.common.errors import BenchError
from bench.generate.dubbing import SHEET_FRAMES, Dubbed, dub
from bench.generate.fit import BLOCK_FRAMES, Fit
from prep.sound.mel import melspectrogram
from prep.sound_reading import sound
from prep.video_reading import frames, native_frames, probe
from prep.video_writing import write_video
from tests.bench.fake_method import FakeMesh, make_run, number_of, numbered, register, run
from tests.prep.broken import noise

__all__ = ["run"]


@pytest.fixture(autouse=True)
def mesh(monkeypatch: pytest.MonkeyPatch) -> FakeMesh:
    found = FakeMesh()
    monkeypatch.setattr(footage_module, "create", lambda name, **options: found)
    return found


def video(
    path: Path, n: int, size: tuple[int, int] = (200, 160), fps: float = 25, seconds: float = 0
) -> Path:
    samples = noise(np.random.default_rng(1), seconds) if seconds else None
    write_video(path, (numbered(i, *size) for i in range(n)), fps=fps, samples=samples)
    return path


def wav(path: Path, seconds: float, rate: int = 16_000) -> Path:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(noise(np.random.default_rng(2), seconds, rate).tobytes())
    return path


def speak(run: Path, folder: Path, **options: Any) -> Dubbed:
    return dub("fake", run, folder / "in.mp4", folder / "in.wav", folder / "out.mp4", device="cpu", **options)


def shown(path: Path) -> list[int]:
    return [number_of(frame) for frame in frames(path)]


@pytest.mark.parametrize(
    ("seconds", "fit", "n"),
    [
        (1.0, Fit(), 25),
        (1.01, Fit(), 26),
        (3.2, Fit(), 80),
        (3.2, Fit("loop"), 80),
        (3.2, Fit("cut"), 40),
        (0.4, Fit(), 10),
        (0.4, Fit(shorter="pad"), 40),
    ],
)
def test_the_result_is_as_long_as_the_sound_or_as_asked(
    run: Path, tmp_path: Path, mesh: FakeMesh, seconds: float, fit: Fit, n: int
) -> None:
    video(tmp_path / "in.mp4", 40)
    wav(tmp_path / "in.wav", seconds)
    done = speak(run, tmp_path, fit=fit)
    assert (done.frames, done.generated, done.faceless, done.source_fps, done.fps) == (n, n, 0, 25, 25)
    assert shown(tmp_path / "out.mp4") == fit.order(40, n).tolist()
    assert mesh.frames == min(40, n)
    heard = sound(tmp_path / "out.mp4").samples
    assert abs(len(heard) - 640 * n) <= 1100
    mine = sound(tmp_path / "in.wav").samples[: 640 * n]
    both = min(len(mine), len(heard))
    assert np.corrcoef(heard[:both], mine[:both])[0, 1] > 0.9
    assert not heard[len(mine) + 2000 :].any()


def test_another_rate_an_odd_size_and_sound_from_a_video(run: Path, tmp_path: Path) -> None:
    video(tmp_path / "in.mp4", 60, (173, 151), fps=50)
    other = video(tmp_path / "other.mp4", 30, seconds=1.2)
    out = tmp_path / "new folder" / "out.mp4"
    done = dub("fake", run, tmp_path / "in.mp4", other, out)
    # The file holds 152x174: H.264 needs even sizes, and `video` was written so.
    assert (done.width, done.height, done.source_fps) == (152, 174, 50)
    made = probe(out)
    assert (made.width, made.height, made.source_fps) == (152, 174, 50)
    assert abs(done.generated - 30) <= 2 and done.frames == 2 * done.generated
    assert shown(out)[:30] == [min(2 * i, 59) for i in range(30)]
    # The generated mouth is in every frame, not only in those that the method saw.
    for _, frame in native_frames(out):
        assert abs(float(frame[115:128, 68:84].mean()) - 165) < 4


def test_frames_without_a_face_pass_and_are_counted(run: Path, tmp_path: Path, mesh: FakeMesh) -> None:
    mesh.faceless = {0, 7, 15}
    video(tmp_path / "in.mp4", 20)
    wav(tmp_path / "in.wav", 1.2)
    done = speak(run, tmp_path)
    order = Fit().order(20, 30)
    assert done.faceless == sum(n in mesh.faceless for n in order) == 4
    for n, frame in zip(order, frames(tmp_path / "out.mp4"), strict=True):
        middle = float(frame[130:150, 70:90].mean())
        assert abs(middle - (90 if n in mesh.faceless else 165)) < 3


def test_sound_longer_than_the_video_is_dubbed_with_few_frames_alive(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = most = total = 0

    def gone() -> None:
        nonlocal live
        live -= 1

    def counted(take: Any) -> Iterator[np.ndarray]:
        nonlocal live, most, total
        for frame in frames(take.path, take.start, take.stop):
            live, total = live + 1, total + 1
            most = max(most, live)
            weakref.finalize(frame, gone)
            yield frame
            del frame

    monkeypatch.setattr(footage_module, "take_frames", counted)
    video(tmp_path / "in.mp4", 300, (24, 144))
    wav(tmp_path / "in.wav", 20)
    done = speak(run, tmp_path)
    gc.collect()
    # Three hundred to find faces in, then five hundred, of which two hundred backwards.
    assert done.frames == 500 and total == 800
    assert most <= BLOCK_FRAMES + 3 and live == 0
    assert probe(tmp_path / "out.mp4").n_frames == 500


def test_the_sheet_shows_originals_over_generated_frames(run: Path, tmp_path: Path) -> None:
    video(tmp_path / "in.mp4", 30)
    wav(tmp_path / "in.wav", 2)
    speak(run, tmp_path, sheet=tmp_path / "sheets" / "out.jpg")
    sheet = cv2.imread(str(tmp_path / "sheets" / "out.jpg"))
    across, row = 256 + 6, 20 + 256 + 6
    band = 20 + 2 * row
    assert sheet.shape == (2 * band + 6, 6 * across + 6, 3)
    for number in range(SHEET_FRAMES):
        x = 6 + number % 6 * across + 128
        # Below the middle of the face, where the fake method turns grey to its negative.
        y = number // 6 * band + 40 + 180
        assert abs(int(sheet[y, x].mean()) - 90) < 5 and abs(int(sheet[y + row, x].mean()) - 165) < 5
    video(tmp_path / "in.mp4", 3)
    wav(tmp_path / "in.wav", 0.12)
    speak(run, tmp_path, sheet=tmp_path / "small.jpg")
    assert cv2.imread(str(tmp_path / "small.jpg")).shape == (band + 6, 3 * across + 6, 3)


def test_the_command_says_what_it_did(run: Path, tmp_path: Path, mesh: FakeMesh) -> None:
    mesh.faceless = {2}
    video(tmp_path / "in.mp4", 24, fps=30)
    wav(tmp_path / "in.wav", 0.6, 44_100)
    out = tmp_path / "out.mp4"
    words = ["dub", "fake", "--run", run, "--video", tmp_path / "in.mp4", "--audio", tmp_path / "in.wav"]
    done = CliRunner().invoke(app, [*map(str, words), "--out", str(out), "--device", "cpu"])
    assert done.exit_code == 0, done.exception
    said = " ".join(done.stdout.split())
    assert (
        "18 frames, 0.60 s at 30 fps, 160x200, sound 44100 Hz mono, face found by facemesh, 1 of 15 generated frames "
        "without a face passed through; took" in said
    )
    sheet = tmp_path / "out.sheet.jpg"
    assert out.is_file() and sheet.is_file() and f"{sheet}: original above generated" in done.stdout
    sheet.unlink()
    done = CliRunner().invoke(app, [*map(str, words), "--out", str(out), "--no-sheet", "--device", "cpu"])
    assert done.exit_code == 0 and not sheet.exists() and "original" not in done.stdout


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"--pose": "driver"}, r"--pose .*driver: no such file; name footage, still, or a video file"),
        ({"--video": "none.mp4"}, r"none\.mp4: no such file"),
        ({"--audio": "none.wav"}, r"none\.wav: no such file"),
        ({"--audio": "in.mp4"}, r"in\.mp4: no audio stream"),
        ({"--video": "in.wav"}, r"in\.wav: no video stream"),
        ({"--audio": "text"}, r"text: damaged, or not a media file"),
        ({"--out": "out.avi"}, r"out\.avi: only MP4 is written"),
        ({"--out": "in.mp4"}, r"in\.mp4 is also an input"),
        ({"--run": "text"}, r"text is a file: --run takes the folder of a training run"),
    ],
)
def test_mistakes_are_one_line(run: Path, tmp_path: Path, change: dict[str, str], match: str) -> None:
    video(tmp_path / "in.mp4", 10)
    wav(tmp_path / "in.wav", 0.4)
    (tmp_path / "text").write_text("not a video\n" * 9)
    words = {"--run": str(run), "--video": "in.mp4", "--audio": "in.wav", "--out": "out.mp4"}
    call = ["dub", "fake", "--device", "cpu"]
    for name, value in {**words, **change}.items():
        call += [name, str(tmp_path / value)]
    done = CliRunner().invoke(app, call)
    assert isinstance(done.exception, BenchError)
    with pytest.raises(BenchError, match=match):
        raise done.exception
    assert "\n" not in str(done.exception) and not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "nothing to dub: name a video with --video, or a picture with --image"),
        (
            ["--video", "in.mp4", "--image", "in.png"],
            "--video and --image both name the face: give one of them",
        ),
        (["--image", "in.mp4"], "in.mp4 is no picture: --image takes one, --video a video"),
        (["--image", "none.png"], "none.png: no such file"),
        (["--image", "."], ". is a folder: --image takes one picture"),
    ],
)
def test_either_a_video_or_a_picture_is_dubbed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    video(tmp_path / "in.mp4", 3)
    wav(tmp_path / "in.wav", 0.4)
    cv2.imwrite("in.png", numbered(1))
    done = CliRunner().invoke(
        app, ["dub", "fake", "--run", str(run), "--audio", "in.wav", "-o", "o.mp4", *words]
    )
    assert isinstance(done.exception, BenchError) and str(done.exception) == match


def test_no_face_at_all_is_said(run: Path, tmp_path: Path, mesh: FakeMesh) -> None:
    mesh.faceless = set(range(10))
    video(tmp_path / "in.mp4", 10)
    wav(tmp_path / "in.wav", 0.4)
    with pytest.raises(BenchError, match=r"in\.mp4: no human face in 10 frames"):
        speak(run, tmp_path)
    assert not (tmp_path / "out.mp4").exists()


def test_options_of_generation_can_be_set(run: Path, tmp_path: Path) -> None:
    video(tmp_path / "in.mp4", 3)
    wav(tmp_path / "in.wav", 0.12)
    words = ["dub", "fake", "--run", run, "--video", tmp_path / "in.mp4", "--audio", tmp_path / "in.wav"]
    words += ["--out", tmp_path / "out.mp4", "--set", "generate.bright=220", "--device", "cpu", "--no-sheet"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.exception
    assert "passed through, with generate.bright=220; took" in " ".join(done.stdout.split())
    assert abs(float(next(frames(tmp_path / "out.mp4"))[130:150, 70:90].mean()) - (220 - 90)) < 3
    with pytest.raises(BenchError, match=r"generate\.brigth: no such key; did you mean generate\.bright\?"):
        speak(run, tmp_path, overrides=("generate.brigth=3",))


def test_a_method_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    video(tmp_path / "in.mp4", 10)
    wav(tmp_path / "in.wav", 0.4)
    loudest = melspectrogram(sound(tmp_path / "in.wav").samples)[:16].max()
    failing = make_run(tmp_path / "run", f"generate.fails_at={round(float(loudest) * 1000)}")
    with pytest.raises(BenchError, match=r"in\.mp4: fake fails: out of memory$"):
        speak(failing, tmp_path)
    with pytest.raises(BenchError, match=r"in\.mp4: fake fails: 8 frames were generated for 10"):
        speak(make_run(tmp_path / "fewer", "generate.fewer=2"), tmp_path)
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.clips
def test_a_real_clip(run: Path, tmp_path: Path, clips_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    register(monkeypatch)
    wav(tmp_path / "in.wav", 0.8)
    out = tmp_path / "out.mp4"
    done = dub("fake", run, clips_dir / "talk3.mp4", tmp_path / "in.wav", out)
    assert (done.generated, done.frames, done.faceless, done.channels) == (20, 20, 0, 1)
    source = probe(clips_dir / "talk3.mp4")
    assert (done.width, done.height) == (source.width, source.height)
    changed = [
        np.abs(a.astype(int) - b).mean()
        for a, b in zip(frames(clips_dir / "talk3.mp4", 0, 20), frames(out), strict=True)
    ]
    assert min(changed) > 3
