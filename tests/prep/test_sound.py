"""Mel and MFCC against the official figures, and what a frame hears against the official scripts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.wav2lip.sound import SOUNDS as WAV2LIP
from models.ipl.sound import SOUNDS as IPLAP
from prep.sample_spec import MFCC_28X12, Sound
from prep.sound import mel
from prep.sound.features import FEATURES, chunk, first_column, valid_frames
from prep.sound.mfcc import mfcc, mfcc_padded

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
    assert mfcc(np.ones(1, np.int16)).shape == (1, 13)
    for function in (mel.melspectrogram, mfcc, mfcc_padded):
        with pytest.raises(ValueError, match="no samples"):
            function(np.zeros(0, np.int16))
    with pytest.raises(ValueError, match="'zeros'; known are: constant, reflect"):
        mel.melspectrogram(np.ones(9, np.int16), "zeros")


@pytest.mark.parametrize(
    ("sound", "script"),
    [
        (WAV2LIP["wav2lip"], "start_wav2lip_syncnet_and_inference"),
        (WAV2LIP["wav2lip-generator"], "start_wav2lip_generator_train"),
        (IPLAP["iplap"], "start_ip_lap_train"),
    ],
)
def test_chunk_starts_are_those_of_the_official_scripts(
    official: dict[str, np.ndarray], sound: Sound, script: str
) -> None:
    assert [first_column(frame, sound, 80) for frame in range(125)] == official[script].tolist()


def test_iplap_inference_clamps_the_frame() -> None:
    starts = [first_column(frame, IPLAP["iplap-inference"], 80) for frame in range(200)]
    assert starts == [int(80.0 * max(0, frame - 2) / 25.0) for frame in range(200)]
    assert starts[:4] == [0, 0, 0, 3]


def test_a_chunk_of_the_padded_mfcc_is_atvgnets() -> None:
    values = mfcc_padded(np.random.default_rng(0).integers(-9000, 9000, 640 * 30).astype(np.int16))
    sound = Sound("mfcc_padded", columns=28)
    for frame in (0, 1, 17):
        np.testing.assert_array_equal(chunk(values, frame, sound, 100), values[4 * frame : 4 * frame + 28].T)


def test_the_named_window_is_what_atvgnet_eamm_audiodvp_and_meta_talk_take() -> None:
    """As their code cuts it: 13 coefficients of the padded sound, rows 4k to 4k + 28, column 0 dropped."""
    samples = np.random.default_rng(0).integers(-9000, 9000, 640 * 30).astype(np.int16)
    thirteen, heard = mfcc_padded(samples), FEATURES["mfcc12"]
    for frame in (0, 1, 17, 28):
        window = chunk(heard.compute(samples, 0, None), frame, MFCC_28X12, heard.rate)
        # The shape of one frame in the networks' inputs: "mfcc" of the fixtures atvg_at and eamm_audio.
        assert window.T.shape == (28, 12)
        np.testing.assert_array_equal(window.T, thirteen[4 * frame : 4 * frame + 28, 1:])


def test_chunk_is_sixteen_columns_bands_first() -> None:
    spectrogram = np.arange(100 * 80, dtype=np.float32).reshape(100, 80)
    found = chunk(spectrogram, 5, Sound("mel", offset=-2), 80)
    assert found.shape == (80, 16) and found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, spectrogram[9:25].T)
    np.testing.assert_array_equal(chunk(spectrogram, 5, Sound("mel"), 80), spectrogram[16:32].T)
    np.testing.assert_array_equal(chunk(spectrogram, 5, Sound("mel", 5, -1, 2), 80), spectrogram[10:15].T)


def test_a_chunk_that_leaves_the_spectrogram_is_refused_or_filled_with_silence() -> None:
    spectrogram = np.random.default_rng(0).random((100, 80), np.float32)
    early, plain, silence = Sound("mel", offset=-2), Sound("mel"), np.full(80, -4, np.float32)
    with pytest.raises(IndexError, match="frame 1 needs columns -3 to 13 of 100"):
        chunk(spectrogram, 1, early, 80)
    with pytest.raises(IndexError, match="frame 27 needs columns 86 to 102 of 100"):
        chunk(spectrogram, 27, plain, 80)
    chunk(spectrogram, 26, plain, 80)
    first, last = chunk(spectrogram, 1, early, 80, silence), chunk(spectrogram, 27, plain, 80, silence)
    assert (first[:, :3] == -4).all() and np.array_equal(first[:, 3:], spectrogram[:13].T)
    assert (last[:, 14:] == -4).all() and np.array_equal(last[:, :14], spectrogram[86:].T)
    assert (chunk(spectrogram, 900, plain, 80, silence) == -4).all()


@given(
    columns=st.integers(0, 4000),
    sound=st.builds(
        Sound, st.just("x"), st.integers(1, 40), st.integers(-4, 4), st.integers(0, 9), st.booleans()
    ),
    rate=st.sampled_from([10, 25, 50, 80, 100, 160]),
)
def test_valid_frames_are_exactly_those_with_a_complete_chunk(
    columns: int, sound: Sound, rate: float
) -> None:
    most = 25 * 4000 // rate + 99
    starts = [first_column(frame, sound, rate) for frame in range(most)]
    complete = [frame for frame, start in enumerate(starts) if 0 <= start <= columns - sound.columns]
    assert list(valid_frames(columns, sound, rate)) == complete


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_counts_its_columns_and_gives_any_span_of_them(name: str) -> None:
    feature = FEATURES[name]
    rng = np.random.default_rng(0)
    for n in (1, 399, 400, 401, 640 * 7, 640 * 90 + 3):
        samples = rng.integers(-9000, 9000, n).astype(np.int16)
        whole = feature.compute(samples, 0, None)
        assert whole.dtype == np.float32 and whole.shape == (feature.count(n), *feature.shape)
    for start, stop in ((0, 5), (1, 4), (100, 130), (len(whole) - 3, len(whole)), (7, 7)):
        np.testing.assert_array_equal(feature.compute(samples, start, stop), whole[start:stop])


def test_silence_is_what_a_feature_makes_of_it() -> None:
    assert (FEATURES["mel"].silence == -4).all() and not FEATURES["waveform"].silence.any()
    for name in ("mfcc", "mfcc_padded"):
        silence = FEATURES[name].silence
        np.testing.assert_allclose(silence[0], np.log(np.finfo(float).eps), rtol=1e-6)
        np.testing.assert_allclose(silence[1:], 0, atol=1e-4)


def test_the_waveform_is_the_samples() -> None:
    samples = np.array([-32768, 0, 16384, 1], np.int16)
    assert FEATURES["waveform"].compute(samples, 1, 3).tolist() == [[0.0], [0.5]]


def test_mfcc_is_the_one_syncnet_was_given(official: dict[str, np.ndarray]) -> None:
    ours = mfcc(official["wav_int16"])
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, official["mfcc_syncnet_int16"], rtol=0, atol=1e-5)


def test_padded_mfcc_is_the_one_of_atvgnet(official: dict[str, np.ndarray]) -> None:
    ours = mfcc_padded(official["wav_int16"])
    np.testing.assert_allclose(ours, official["mfcc_atvg_float_padded"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1, 399, 400, 401, 560, 561, 16_000, 100_000])
def test_mfcc_equals_python_speech_features_at_any_length(length: int) -> None:
    reference = pytest.importorskip("python_speech_features")
    samples = np.random.default_rng(length).integers(-3000, 3000, length).astype(np.int16)
    np.testing.assert_allclose(mfcc(samples), reference.mfcc(samples, 16_000), rtol=0, atol=1e-4)
