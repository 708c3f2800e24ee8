"""Speech logits as a derived feature: from a run, from models of others, and from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines.speech import external
from baselines.speech.external import held, place_of_symbols, resampled
from baselines.speech.features import LOGITS, SpeechFeatures, SpeechSource, frame_logits, speech_features
from baselines.speech.text import LETTERS
from bench.generate.derivations import hear
from bench.generate.sound import DrivingSound
from prep.errors import ClipError
from prep.sample_spec import Sound
from prep.sound.features import chunk

SYMBOLS = ("<pad>", "<s>", "|", *reversed("abcdefghijklmnopqrstuvwxyz"), "'")
NAMES = {"symbols": SYMBOLS, "blank": "<pad>", "space": "|"}


def sound(n_frames: int = 25, name: str = "s/1", given: int | None = None) -> DrivingSound:
    samples = np.random.default_rng(0).integers(-9000, 9000, 640 * (given or n_frames)).astype(np.int16)
    return DrivingSound(samples, n_frames, name=name)


def logits(features: SpeechFeatures, speech: DrivingSound) -> np.ndarray:
    return hear(features.derivations["speech"], speech)["logits"]


def rng_logits(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 29)).astype(np.float32)


class Model(nn.Module):
    """Row i, symbol s: the mean of its 20 ms of sound, plus s; without the last row, as models with longer windows."""

    def forward(self, sound: Tensor) -> Tensor:
        hop = 320
        rows = sound[:, : sound.shape[1] // hop * hop].reshape(1, -1, hop).mean(2)[:, :-1]
        return rows[..., None] + torch.arange(30.0)


@pytest.fixture
def torchscript(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    torch.jit.script(Model()).save(str(path))
    return path


# What methods hear ------------------------------------------------------------------------------------------------


def test_dinet_hears_every_second_column_with_the_ends_repeated() -> None:
    """``inference.py``: features at 25 a second, two columns of the edge on both sides, five about each frame."""
    given = rng_logits(40)
    heard = frame_logits(given)
    assert heard.shape == (20, 29, 5) and heard.flags.c_contiguous
    for frame in range(20):
        for place in range(5):
            at = 2 * min(max(frame + place - 2, 0), 19)
            np.testing.assert_array_equal(heard[frame, :, place], given[at])


def test_samples_hear_the_same_where_nothing_is_repeated() -> None:
    given, asked = rng_logits(40), Sound(LOGITS, columns=9, lead=4)
    whole = frame_logits(given)
    for frame in range(2, 18):
        np.testing.assert_array_equal(chunk(given, frame, asked, 50)[:, ::2], whole[frame])


def test_adnerf_hears_sixteen_columns_with_zeros_beyond_the_ends() -> None:
    """``deepspeech_features``: windows of 16, 8 before and 8 after, every second one."""
    given = rng_logits(40)
    padded = np.concatenate([np.zeros((8, 29)), given, np.zeros((8, 29))])
    for frame in (0, 3, 19):
        heard = chunk(given, frame, Sound(LOGITS, columns=16, lead=8), 50, np.zeros(29, np.float32))
        np.testing.assert_array_equal(heard.T, padded[2 * frame : 2 * frame + 16])


# A run ------------------------------------------------------------------------------------------------------------


def test_the_encoder_of_a_run_gives_two_columns_a_frame() -> None:
    torch.manual_seed(0)
    features = speech_features(SpeechSource(run="lab/speech", width=16, layers=1))
    asset = features.assets["speech"]
    assert (asset.weights, asset.network, asset.when) == ("lab/speech", "encoder", {"derive"})
    assert "bench train speech --data DATA --run lab/speech" in asset.remedy
    asset.module.eval()
    assert logits(features, sound(31)).shape == (62, 29)
    derivation = features.derivations["speech"]
    assert derivation.assets == ("speech",) and derivation.columns[0].rate == 50
    wider = speech_features(SpeechSource(width=32, layers=1)).derivations["speech"]
    assert wider.parameters != derivation.parameters


# Models of others -------------------------------------------------------------------------------------------------


def test_symbols_are_found_by_name() -> None:
    places = place_of_symbols(SYMBOLS, "<pad>", "|")
    assert [SYMBOLS[place] for place in places] == ["|", *LETTERS[1:], "<pad>"]
    capitals = tuple("-|ETAONIHSRDLUMWCFGYPBVK'XJQZ")
    assert place_of_symbols(capitals, "-", "|").tolist() == SpeechPlaces.of(capitals)
    for symbols, message in (
        (SYMBOLS[:-1], "the ' is missing among the 29 symbols"),
        (SYMBOLS[1:], "the blank is missing"),
        ((*SYMBOLS, "A"), "the a stands there 2 times"),
        ([s for s in SYMBOLS if s != "|"], "the space is missing"),
    ):
        with pytest.raises(ValueError, match=message):
            place_of_symbols(symbols, "<pad>", "|")


class SpeechPlaces:
    """By search."""

    @staticmethod
    def of(symbols: tuple[str, ...]) -> list[int]:
        return [symbols.index(s.upper()) for s in "|abcdefghijklmnopqrstuvwxyz'"] + [symbols.index("-")]


def test_a_torchscript_model_is_heard_in_deepspeechs_order(torchscript: Path) -> None:
    features = speech_features(SpeechSource(model=torchscript, **NAMES))
    assert not features.assets
    speech = sound(25)
    found = logits(features, speech)
    assert found.shape == (50, 29) and found.dtype == np.float32
    means = (speech.samples / 32768).reshape(50, 320).mean(1)
    expected = means[[*range(49), 48], None] + place_of_symbols(SYMBOLS, "<pad>", "|")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_long_sounds_are_heard_in_pieces_and_give_the_same(
    torchscript: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, speech = speech_features(SpeechSource(model=torchscript, **NAMES)), sound(25 * 7 + 3)
    whole = logits(features, speech)
    monkeypatch.setattr(external, "PIECE", 3)
    np.testing.assert_allclose(logits(features, speech), whole, rtol=0, atol=1e-5)


def test_an_onnx_model_gives_the_same(torchscript: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    # Every 320th sample, plus the number of the symbol.
    nodes = [
        helper.make_node("Slice", ["sound", "first", "last", "axes", "step"], ["rows"]),
        helper.make_node("Unsqueeze", ["rows", "two"], ["column"]),
        helper.make_node("Add", ["column", "number"], ["logits"]),
    ]
    integers = {"first": [0], "last": [1 << 40], "axes": [1], "step": [320], "two": [2]}
    given = [helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in integers.items()]
    given.append(helper.make_tensor("number", TensorProto.FLOAT, [30], np.arange(30.0)))
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("sound", TensorProto.FLOAT, [1, "n"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "t", 30])],
        given,
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    features, speech = speech_features(SpeechSource(model=path, **NAMES)), sound(25)
    expected = speech.samples[::320, None] / 32768 + place_of_symbols(SYMBOLS, "<pad>", "|")
    np.testing.assert_allclose(logits(features, speech), expected, rtol=0, atol=1e-5)
    script = speech_features(SpeechSource(model=torchscript, **NAMES)).derivations["speech"]
    assert features.derivations["speech"].parameters["sha256"] != script.parameters["sha256"]


def test_rates_are_brought_to_fifty_a_second() -> None:
    rows = np.stack([(np.arange(75) + 0.5) / 75, np.ones(75)], axis=1)
    found = resampled(rows, 75)
    assert found.shape == (50, 2) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], (np.arange(50) + 0.5) / 50, atol=1e-6)
    slow = resampled(rows[:25], 25)
    assert slow.shape == (50, 2) and slow[0, 0] == np.float32(rows[0, 0])
    np.testing.assert_array_equal(held(rows, 77)[74:], rows[[74, 74, 74]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbols": (*SYMBOLS[:2], "xx", *SYMBOLS[2:])}, r"gives \(1, 49, 30\), not \(1, t, 31\)"),
        ({"rate": 75.0}, r"gives 49 rows for 1\.00 s, not about 75 as speech\.rate says"),
    ],
)
def test_a_model_of_another_form_is_one_line(
    torchscript: Path, changes: dict[str, Any], message: str
) -> None:
    features = speech_features(SpeechSource(model=torchscript, **{**NAMES, **changes}))
    with pytest.raises(ClipError, match=message):
        logits(features, sound(25))


def test_a_missing_or_broken_model_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def given(name: str, content: bytes | None = b"no model") -> SpeechSource:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        return SpeechSource(model=tmp_path / name, **NAMES)

    with pytest.raises(ValueError, match=r"gone\.onnx is not a file; name a CTC model"):
        speech_features(given("gone.onnx", None))
    with pytest.raises(ValueError, match=r"must end in \.onnx"):
        speech_features(given("model.pb"))
    with pytest.raises(ClipError, match=r"broken\.pt cannot be loaded"):
        logits(speech_features(given("broken.pt")), sound())
    monkeypatch.setattr(external.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs onnxruntime: install it"):
        speech_features(given("model.onnx"))


# Files ------------------------------------------------------------------------------------------------------------


def written(folder: Path, name: str, values: np.ndarray) -> SpeechSource:
    path = folder / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return SpeechSource(files=folder)


def test_files_are_taken_by_the_name_of_their_clip(tmp_path: Path) -> None:
    given = rng_logits(50)
    features = speech_features(written(tmp_path, "s/1", given.astype(np.float64)))
    np.testing.assert_array_equal(logits(features, sound(25)), given)
    # Cut or padded as the sound is.
    np.testing.assert_array_equal(logits(features, sound(20, given=25)), given[:40])
    np.testing.assert_array_equal(logits(features, sound(27, given=25))[49:], given[[49] * 5])


def test_the_file_of_a_sound_lies_beside_it(tmp_path: Path) -> None:
    features = speech_features(written(tmp_path / "clips", "s/1", rng_logits(50)))
    written(tmp_path, "talk", rng_logits(50, 1))
    found = logits(features, sound(25, name=str(tmp_path / "talk")))
    np.testing.assert_array_equal(found, rng_logits(50, 1))


def test_the_key_depends_on_what_is_in_the_files(tmp_path: Path) -> None:
    seen = {
        str(speech_features(written(tmp_path, name, rng_logits(50, seed))).derivations["speech"].parameters)
        for name, seed in (("s/1", 0), ("s/1", 1), ("s/2", 1), ("s/2", 1))
    }
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (rng_logits(50)[:, :28], r"holds float32 \(50, 28\), not floats \(t, 29\)"),
        (np.ones((50, 29), int), r"holds int64 \(50, 29\), not floats"),
        (rng_logits(100), r"has 100 columns for 1\.00 s, not 50: it must be of this sound"),
        (np.array([{}], object), r"is no \.npy file of numbers"),
    ],
)
def test_a_file_of_another_form_is_one_line(tmp_path: Path, values: np.ndarray, message: str) -> None:
    features = speech_features(written(tmp_path, "s/1", values))
    with pytest.raises(ClipError, match=message):
        logits(features, sound(25))


def test_missing_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere holds no \.npy file; name the folder"):
        speech_features(SpeechSource(files=tmp_path / "nowhere"))
    features = speech_features(written(tmp_path, "s/1", rng_logits(50)))
    with pytest.raises(ClipError, match=r"2\.npy is missing: write DeepSpeech's logits of this sound there"):
        logits(features, sound(25, name="s/2"))
    with pytest.raises(ValueError, match=r"speech\.model and speech\.files are both given"):
        SpeechSource(files=tmp_path, model=tmp_path / "m.onnx")
