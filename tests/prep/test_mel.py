"""Mel and MFCC against the official figures, and the chunk rules against the official scripts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prep import mel

FIXTURE = Path(__file__).resolve().parents[1] / "parity" / "wav2lip_mel" / "mel.npz"


@pytest.fixture(scope="module")
def official() -> dict[str, np.ndarray]:
    with np.load(FIXTURE) as archive:
        return dict(archive)


@pytest.mark.parametrize("padding", ["constant", "reflect"])
def test_mel_is_the_official_one(official: dict[str, np.ndarray], padding: str) -> None:
    ours = mel.melspectrogram(official["wav_int16"], padding)
    assert ours.dtype == np.float32
    assert ours.shape == (402, 80)
    np.testing.assert_allclose(ours.T, official[f"mel_{padding}"], rtol=0, atol=1e-5)


def test_paddings_differ_at_the_edges_only(official: dict[str, np.ndarray]) -> None:
    tail = official["wav_int16"][20_000:60_000]  # cut in the middle of speech, so that the edges matter
    zeros, mirrored = mel.melspectrogram(tail), mel.melspectrogram(tail, "reflect")
    differs = np.abs(zeros - mirrored).max(axis=1) > 1e-3
    assert differs[0] and differs[-1]
    assert not differs[2:-2].any()


def test_int16_and_float_samples_give_the_same_mel(official: dict[str, np.ndarray]) -> None:
    samples = official["wav_int16"][:16_000]
    as_float = (samples / 32768).astype(np.float32)
    np.testing.assert_array_equal(mel.melspectrogram(samples), mel.melspectrogram(as_float))


def test_long_sound_is_computed_in_pieces_that_join(official: dict[str, np.ndarray]) -> None:
    samples = np.tile(official["wav_int16"], 3)  # more windows than one batch holds
    whole = mel.melspectrogram(samples)
    assert whole.shape == (1 + len(samples) // 200, 80)
    # A window depends on its own 800 samples and the one before them.
    middle = mel.melspectrogram(samples[400 * 200 : 800 * 200])
    np.testing.assert_allclose(whole[403:797], middle[3:397], rtol=0, atol=1e-6)


def test_mel_basis_is_slaneys(official: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(mel.mel_basis(), official["mel_basis"], rtol=0, atol=1e-7)


def test_silence_is_the_floor_and_full_scale_noise_stays_in_range() -> None:
    assert (mel.melspectrogram(np.zeros(4000, np.int16)) == -4).all()
    noise = np.random.default_rng(0).integers(-32768, 32768, 4000).astype(np.int16)
    loud = mel.melspectrogram(noise)
    assert loud.max() <= 4 and loud.mean() > 0


def test_one_sample_is_enough_and_none_is_an_error() -> None:
    assert mel.melspectrogram(np.ones(1, np.int16)).shape == (1, 80)
    assert mel.mfcc(np.ones(1, np.int16)).shape == (1, 13)
    for function in (mel.melspectrogram, mel.mfcc, mel.mfcc_padded):
        with pytest.raises(ValueError, match="no samples"):
            function(np.zeros(0, np.int16))
    with pytest.raises(ValueError, match="'zeros'; known are: constant, reflect"):
        mel.melspectrogram(np.ones(9, np.int16), "zeros")


@pytest.mark.parametrize(
    ("rule", "script"),
    [
        ("wav2lip", "start_wav2lip_syncnet_and_inference"),
        ("wav2lip-generator", "start_wav2lip_generator_train"),
        ("iplap", "start_ip_lap_train"),
    ],
)
def test_chunk_starts_are_those_of_the_official_scripts(
    official: dict[str, np.ndarray], rule: str, script: str
) -> None:
    assert [mel.mel_start(frame, rule) for frame in range(125)] == official[script].tolist()


def test_iplap_inference_clamps_the_frame() -> None:
    starts = [mel.mel_start(frame, "iplap-inference") for frame in range(200)]
    assert starts == [int(80.0 * max(0, frame - 2) / 25.0) for frame in range(200)]
    assert starts[:4] == [0, 0, 0, 3]


def test_chunk_is_sixteen_columns_bands_first() -> None:
    spectrogram = np.arange(100 * 80, dtype=np.float32).reshape(100, 80)
    chunk = mel.mel_chunk(spectrogram, 5, "iplap")
    assert chunk.shape == (80, 16) and chunk.dtype == np.float32 and chunk.flags.c_contiguous
    np.testing.assert_array_equal(chunk, spectrogram[9:25].T)
    np.testing.assert_array_equal(mel.mel_chunk(spectrogram, 5, "wav2lip"), spectrogram[16:32].T)
    np.testing.assert_array_equal(mel.mel_chunk(spectrogram, 5, "wav2lip-generator"), spectrogram[12:28].T)


def test_a_chunk_that_leaves_the_spectrogram_is_refused() -> None:
    spectrogram = np.zeros((100, 80), np.float32)
    with pytest.raises(IndexError, match="frame 1 needs columns -3 to 13 of 100"):
        mel.mel_chunk(spectrogram, 1, "iplap")
    with pytest.raises(IndexError, match="frame 27 needs columns 86 to 102 of 100"):
        mel.mel_chunk(spectrogram, 27, "wav2lip")
    mel.mel_chunk(spectrogram, 26, "wav2lip")
    with pytest.raises(KeyError):
        mel.mel_chunk(spectrogram, 3, "nobody")


@given(columns=st.integers(0, 4000), rule=st.sampled_from(sorted(mel.MEL_RULES)))
def test_valid_frames_are_exactly_those_with_a_complete_chunk(columns: int, rule: str) -> None:
    complete = [frame for frame in range(1400) if 0 <= mel.mel_start(frame, rule) <= columns - 16]
    assert list(mel.valid_frames(columns, rule)) == complete


def test_mfcc_is_the_one_syncnet_was_given(official: dict[str, np.ndarray]) -> None:
    ours = mel.mfcc(official["wav_int16"])
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, official["mfcc_syncnet_int16"], rtol=0, atol=1e-5)


def test_padded_mfcc_is_the_one_of_atvgnet(official: dict[str, np.ndarray]) -> None:
    ours = mel.mfcc_padded(official["wav_int16"])
    np.testing.assert_allclose(ours, official["mfcc_atvg_float_padded"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1, 399, 400, 401, 560, 561, 16_000, 100_000])
def test_mfcc_equals_python_speech_features_at_any_length(length: int) -> None:
    reference = pytest.importorskip("python_speech_features")
    samples = np.random.default_rng(length).integers(-3000, 3000, length).astype(np.int16)
    np.testing.assert_allclose(mel.mfcc(samples), reference.mfcc(samples, 16_000), rtol=0, atol=1e-4)
