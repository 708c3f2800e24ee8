"""Sound at its own rate and with its own channels, for films that keep theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prep import sound_reading
from prep.errors import ClipError
from tests.prep.broken import encode, pictures


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def voices(rng: np.random.Generator, channels: int, count: int) -> np.ndarray:
    """Different smooth noise in each channel, float in -0.6 to 0.6: (count, channels)."""
    spectrum = np.fft.rfft(rng.normal(size=(count, channels)), axis=0)
    spectrum[count // 16 :] = 0
    sound = np.fft.irfft(spectrum, count, axis=0)
    return np.asarray(0.6 * sound / np.abs(sound).max())


@pytest.mark.parametrize(
    ("name", "codec", "form", "layout", "rate"),
    [
        ("a.wav", "pcm_s16le", "s16", "stereo", 44_100),
        ("a.wav", "pcm_s24le", "s32", "stereo", 48_000),
        ("a.wav", "pcm_f32le", "flt", "stereo", 48_000),
        ("a.wav", "pcm_u8", "u8", "mono", 11_025),
        ("a.aiff", "pcm_s16be", "s16", "mono", 22_050),
        ("a.flac", "flac", "s16", "5.1", 96_000),
        ("a.mka", "pcm_s16le", "s16", "7.1", 48_000),
        ("a.m4a", "alac", "s16", "7.1(wide)", 48_000),  # decoded to eight planes
    ],
)
def test_lossless_sound_is_kept_sample_by_sample(
    tmp_path: Path, rng: np.random.Generator, name: str, codec: str, form: str, layout: str, rate: int
) -> None:
    channels = {"mono": 1, "stereo": 2, "5.1": 6, "7.1": 8, "7.1(wide)": 8}[layout]
    wanted = voices(rng, channels, rate)
    stored = {
        "s16": lambda: np.rint(wanted * 32768).astype(np.int16),
        "s32": lambda: np.rint(wanted * 2**23).astype(np.int32) << 8,
        "flt": lambda: wanted.astype(np.float32),
        "u8": lambda: np.rint(wanted * 128 + 128).astype(np.uint8),
    }[form]()
    packed = np.ascontiguousarray(stored).reshape(1, -1)
    encode(
        tmp_path / name, None, sound=packed, sound_codec=codec, sound_format=form, layout=layout, rate=rate
    )
    film = sound_reading.film_sound(tmp_path / name)
    assert film.samples.dtype == np.int16 and film.samples.shape == (rate, channels)
    assert (film.sample_rate, film.starts) == (rate, 0)
    error = np.abs(film.samples - wanted * 32768).max()
    assert error <= (129 if form == "u8" else 0.51)


@pytest.mark.parametrize(
    ("name", "codec", "form", "rate", "late"),
    [
        ("a.mp3", "libmp3lame", "s16p", 44_100, 0),
        ("a.m4a", "aac", "s16", 44_100, 0),
        ("a.opus", "libopus", "s16", 48_000, 0),
        ("a.ogg", "libopus", "s16", 48_000, 0),
        ("a.aac", "aac", "s16", 48_000, 1024),  # ADTS cannot say that the coder is late
    ],
)
def test_compressed_sound_is_at_its_place(
    tmp_path: Path, rng: np.random.Generator, name: str, codec: str, form: str, rate: int, late: int
) -> None:
    wanted = np.rint(voices(rng, 2, rate) * 32768).astype(np.int16)
    stored = wanted.T if form.endswith("p") else wanted.reshape(1, -1)
    encode(
        tmp_path / name,
        None,
        sound=np.ascontiguousarray(stored),
        sound_codec=codec,
        sound_format=form,
        layout="stereo",
        rate=rate,
    )
    film = sound_reading.film_sound(tmp_path / name)
    assert film.sample_rate == rate and film.samples.shape[1] == 2
    got = film.samples[late + 5000 : late + 40_000].astype(float)
    for channel in range(2):
        assert np.corrcoef(got[:, channel], wanted[5000:40_000, channel])[0, 1] > 0.98
        assert np.corrcoef(got[:, channel], wanted[5000:40_000, 1 - channel])[0, 1] < 0.5


def test_it_is_on_the_clock_of_the_picture(tmp_path: Path, rng: np.random.Generator) -> None:
    wanted = np.rint(voices(rng, 2, 48_000) * 32768).astype(np.int16)
    for late in (0.5, -0.25):
        encode(
            tmp_path / "a.mkv",
            pictures(rng, 30, (16, 16)),
            pts=[n + round(max(0, -late) * 25) for n in range(30)],
            sound=wanted.reshape(1, -1),
            sound_codec="pcm_s16le",
            layout="stereo",
            rate=48_000,
            sound_start=round(max(0, late) * 48_000),
        )
        film = sound_reading.film_sound(tmp_path / "a.mkv")
        assert film.starts == pytest.approx(late, abs=0.05)
        first = round(film.starts * 48_000)
        if late > 0:
            assert not film.samples[:first].any() and np.array_equal(film.samples[first:], wanted)
        else:
            assert np.array_equal(film.samples, wanted[-first:])
        sound = sound_reading.sound(tmp_path / "a.mkv")
        assert len(sound.samples) == pytest.approx(len(film.samples) / 3, abs=20)


@pytest.mark.parametrize(("before", "channels", "after"), [("stereo", 2, 48_000), ("7.1", 8, 24_000)])
def test_what_changes_inside_a_file_is_converted_to_how_it_begins(
    tmp_path: Path, rng: np.random.Generator, before: str, channels: int, after: int
) -> None:
    wanted = np.rint(voices(rng, 1, 48_000) * 32768).astype(np.int16)
    parts = b""
    for layout, count, rate in ((before, channels, 48_000), ("mono", 1, after)):
        sound = np.repeat(wanted[:: 48_000 // rate], count, axis=1).reshape(1, -1)
        encode(tmp_path / "part.ts", None, sound=sound, layout=layout, rate=rate)
        parts += (tmp_path / "part.ts").read_bytes()
    (tmp_path / "a.ts").write_bytes(parts)
    film = sound_reading.film_sound(tmp_path / "a.ts")
    assert film.samples.shape[1] == channels and film.sample_rate == 48_000
    assert len(film.samples) == pytest.approx(2 * 48_000, abs=6144)  # padded frames
    first, second = (film.samples[at : at + 30_000].astype(float) for at in (10_000, 60_000))
    assert (second == second[:, :1]).all()
    assert second[:, 0].std() == pytest.approx(first[:, 0].std(), rel=0.02)


def test_what_is_no_sound_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    encode(tmp_path / "mute.mp4", pictures(rng, 5, (16, 16)))
    (tmp_path / "text.wav").write_text("no sound" * 99)
    for name, reason in {
        "mute.mp4": "no audio stream",
        "text.wav": "damaged, or not a media file",
        "none.wav": "no such file",
    }.items():
        with pytest.raises(ClipError, match=f"audio: {reason}"):
            sound_reading.film_sound(tmp_path / name)
