"""How a video is coded, and the truth coded likewise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.clips import codec as codecs
from bench.clips.codec import probe_codec, reencode
from bench.clips.job import Codec
from prep import video_reading, video_writing
from prep.errors import ClipError
from tests.prep.broken import encode, noise, pictures

LOSSY = [
    Codec("libx264", "yuv420p", 300_000),
    Codec("libx264", "yuv444p", 300_000),
    Codec("libx264", "yuvj420p", 300_000),
    Codec("libx265", "yuv420p", 300_000),
    Codec("mpeg4", "yuv420p", 300_000),
    Codec("msmpeg4", "yuv420p", 300_000),
    Codec("mpeg2video", "yuv420p", 300_000),
    Codec("mjpeg", "yuvj420p", 500_000),
    Codec("libvpx", "yuv420p", 300_000),
    Codec("libvpx-vp9", "yuv420p", 300_000),
    Codec("libsvtav1", "yuv420p", 300_000),
]


def name(codec: Codec) -> str:
    return f"{codec.name}-{codec.pix_fmt}"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def moving(count: int, height: int, width: int) -> list[np.ndarray]:
    """Colours that drift: cheap to code, and wrong at once where a matrix or a range is mistaken."""
    y, x = np.mgrid[:height, :width]
    return [
        np.stack(
            [128 + 90 * np.sin((x + 2 * i) / 17), 128 + 90 * np.cos((y - i) / 23), 60 + (x + y + i) % 128],
            axis=2,
        ).astype(np.uint8)
        for i in range(count)
    ]


def psnr(these: list[np.ndarray], those: list[np.ndarray]) -> float:
    error = np.mean([np.mean((a.astype(float) - b) ** 2) for a, b in zip(these, those, strict=True)])
    return float(10 * np.log10(255**2 / error))


@pytest.mark.parametrize("codec", LOSSY, ids=name)
def test_as_many_frames_of_the_same_size_come_back_nearly_the_same(codec: Codec) -> None:
    given = moving(12, 63, 81)
    back = list(reencode(iter(given), codec))
    assert [frame.shape for frame in back] == [(63, 81, 3)] * 12
    assert all(frame.dtype == np.uint8 for frame in back)
    assert psnr(given, back) > 28
    assert any((a != b).any() for a, b in zip(given, back, strict=True))


@pytest.mark.parametrize("codec", [Codec(), LOSSY[0], LOSSY[4], LOSSY[9], LOSSY[10]], ids=name)
def test_twice_the_same(codec: Codec, rng: np.random.Generator) -> None:
    given = pictures(rng, 10)
    for one, other in zip(reencode(given, codec), reencode(given, codec), strict=True):
        assert np.array_equal(one, other)


def test_the_default_equals_what_the_suite_writes(tmp_path: Path, rng: np.random.Generator) -> None:
    given = pictures(rng, 10)
    video_writing.write_video(tmp_path / "a.mp4", given, crf=18)
    for ours, theirs in zip(reencode(given, Codec()), video_reading.frames(tmp_path / "a.mp4"), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("codec", "within"),
    [("libx264", 0.02), ("libx265", 0.03), ("mpeg4", 0.02), ("libvpx-vp9", 0.1), ("libsvtav1", 0.1)],
)
def test_the_rate_of_the_prediction_is_met_though_the_clip_is_short(
    codec: str, within: float, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, given = 900_000, pictures(rng, 24, (96, 128))
    kept: list[float] = []
    code = codecs.code_file

    def measured(folder: Path, *rest: object) -> tuple[Path, int, int, int]:
        found = code(folder, *rest)  # type: ignore[arg-type]
        kept.append(codecs.picture_bits(found[0]) * 25 / found[3])
        return found

    monkeypatch.setattr(codecs, "code_file", measured)
    assert len(list(reencode(given, Codec(codec, "yuv420p", wanted)))) == 24
    assert kept[0] == pytest.approx(wanted, rel=within)


@pytest.mark.parametrize(
    ("coding", "options"),
    [
        ("libx264", {"crf": "28"}),
        ("libx264", {"crf": "20", "preset": "veryfast"}),
        ("libx265", {"x265-params": "log-level=none"}),
        ("libvpx-vp9", {"crf": "40", "b": "0"}),
        ("mpeg4", {"b": "600000"}),
        ("mpeg4", {"b": "90000000"}),
    ],
    ids=str,
)
def test_the_ceiling_is_where_a_perfect_prediction_in_such_a_file_stands(
    tmp_path: Path, rng: np.random.Generator, coding: str, options: dict[str, str]
) -> None:
    truth = pictures(rng, 24, (96, 128))
    encode(tmp_path / "perfect.mkv", truth, codec=coding, options=options)
    perfect = list(video_reading.frames(tmp_path / "perfect.mkv"))
    again = list(reencode(truth, probe_codec(tmp_path / "perfect.mkv")))
    assert psnr(truth, again) == pytest.approx(psnr(truth, perfect), abs=0.4)


def test_more_bits_give_a_better_picture(rng: np.random.Generator) -> None:
    given = pictures(rng, 12)
    quality = [
        psnr(given, list(reencode(given, Codec(bit_rate=rate)))) for rate in (50_000, 400_000, 1_600_000)
    ]
    assert quality == sorted(quality)
    assert quality[2] > quality[0] + 1


def test_an_encoder_at_its_best_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    whole = codecs.write_coded

    def counted(path: Path, *rest: object) -> tuple[int, int, int]:
        calls.append(path.name)
        return whole(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(codecs, "write_coded", counted)
    assert len(list(reencode(moving(6, 32, 32), Codec("mpeg4", "yuv420p", 90_000_000)))) == 6
    assert len(calls) == 3  # without loss, as asked, and once more for nothing


def test_lossless_codings_are_the_conversion_alone() -> None:
    given = moving(4, 31, 33)
    assert all(
        np.array_equal(a, b) for a, b in zip(given, reencode(given, Codec("png", "rgb24")), strict=True)
    )
    assert 30 < psnr(given, list(reencode(given, Codec("ffv1", "yuv420p")))) < 60


def test_no_frames_give_none() -> None:
    for codec in (Codec(), LOSSY[0], Codec("ffv1", "yuv420p")):
        assert list(reencode([], codec)) == []


def test_stopping_early_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stream = reencode(moving(6, 32, 32), Codec())
    next(stream)
    assert list(tmp_path.iterdir())
    stream.close()  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())


def test_frames_that_an_encoder_refuses_are_one_line() -> None:
    with pytest.raises(ClipError, match="libsvtav1 cannot write 80x60 pixels in yuv444p"):
        list(reencode(moving(3, 60, 80), Codec("libsvtav1", "yuv444p", 100_000)))


def test_an_error_of_the_frames_stays_what_it_is() -> None:
    def broken() -> object:
        yield np.zeros((16, 16, 3), np.uint8)
        raise ClipError("video", "the file is cut short")

    with pytest.raises(ClipError, match="cut short"):
        list(reencode(broken(), Codec()))  # type: ignore[arg-type]


def test_memory_does_not_grow_with_the_clip() -> None:
    script = """
import resource, sys
import numpy as np
from bench.clips.codec import reencode
from bench.clips.job import Codec
rng = np.random.default_rng(0)
base = rng.integers(0, 255, (256, 256, 3), np.uint8)
def peak(n):
    frames = (np.roll(base, i, axis=0) for i in range(n))
    assert sum(1 for _ in reencode(frames, Codec("mpeg4", "yuv420p", 2_000_000))) == n
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
first = peak(60)
print((peak(400) - first) / 1024)
"""
    grown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    # 340 more frames are 64 MiB.
    assert float(grown) < 20


@pytest.mark.parametrize(
    ("file", "coding", "pix_fmt", "expected"),
    [
        ("a.mp4", "libx264", "yuv420p", "libx264"),
        ("a.mov", "libx264", "yuv444p", "libx264"),
        ("a.mp4", "libx265", "yuv420p", "libx265"),
        ("a.avi", "mpeg4", "yuv420p", "mpeg4"),
        ("a.avi", "msmpeg4", "yuv420p", "msmpeg4"),
        ("a.mkv", "mpeg2video", "yuv420p", "mpeg2video"),
        ("a.avi", "mjpeg", "yuvj420p", "mjpeg"),
        ("a.webm", "libvpx", "yuv420p", "libvpx"),
        ("a.webm", "libvpx-vp9", "yuv420p", "libvpx-vp9"),
        ("a.mp4", "libsvtav1", "yuv420p", "libsvtav1"),
    ],
)
def test_the_coding_of_a_file_is_found(
    tmp_path: Path, rng: np.random.Generator, file: str, coding: str, pix_fmt: str, expected: str
) -> None:
    path = tmp_path / f"ein Ö {file}"
    encode(path, pictures(rng, 25, (144, 176)), codec=coding, pix_fmt=pix_fmt, options={})
    found = probe_codec(path)
    assert (found.name, found.pix_fmt) == (expected, pix_fmt)
    assert found.bit_rate is not None
    # A second; what the container adds is little (an AVI reserves most).
    assert path.stat().st_size - 9000 < found.bit_rate / 8 <= path.stat().st_size


def test_lossless_files_have_no_rate(tmp_path: Path, rng: np.random.Generator) -> None:
    encode(tmp_path / "a.mkv", pictures(rng, 6), codec="ffv1", options={})
    assert probe_codec(tmp_path / "a.mkv") == Codec("ffv1", "yuv420p")


def test_the_rate_is_that_of_the_picture_alone(tmp_path: Path, rng: np.random.Generator) -> None:
    frames = pictures(rng, 12)
    video_writing.write_video(tmp_path / "mute.mp4", frames)
    video_writing.write_video(tmp_path / "loud.mp4", frames, samples=noise(rng, 0.48))
    assert probe_codec(tmp_path / "loud.mp4") == probe_codec(tmp_path / "mute.mp4")


def test_what_cannot_be_coded_says_so(tmp_path: Path, rng: np.random.Generator) -> None:
    encode(tmp_path / "a.avi", pictures(rng, 6), codec="wmv2", options={})
    with pytest.raises(ClipError, match="there is no encoder for wmv2 here"):
        probe_codec(tmp_path / "a.avi")
    with pytest.raises(ClipError, match="the encoder libsvtav1 has no pixel format yuv444p"):
        codecs.checked_encoder("libsvtav1", "yuv444p", "av1")
    with pytest.raises(ClipError, match="nothing can be coded as png in pal8 here"):
        codecs.convertible("pal8", "png")
    with pytest.raises(ClipError, match="no such file"):
        probe_codec(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(ClipError, match="damaged"):
        probe_codec(tmp_path / "text.mp4")


@pytest.mark.clips
def test_a_real_prediction_and_its_truth(clips_dir: Path) -> None:
    path = clips_dir / "talk1.mp4"
    found = probe_codec(path)
    assert found.name == "libx264"
    given = list(video_reading.frames(path, 0, 25))
    assert psnr(given, list(reencode(given, found))) > 35
