"""Speech logits from end to end: derived for a data set, in samples, for driving sound of clips and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bench.generate.footage as footage_module
from baselines.speech.features import LOGITS, SpeechSource, frame_logits, speech_features
from baselines.speech.network import SpeechEncoder
from bench.common.errors import BenchError
from bench.common.methods import METHODS
from bench.generate import GenerateOptions, derive, dub, generate
from bench.generate.derivations import hear
from bench.generate.sound import DrivingSound
from bench.train import train
from bench.train.checkpoint import write_networks
from prep.dataset import WindowDataset
from prep.derived_reading import find
from prep.sample_spec import SampleSpec
from prep.schema import Clip
from prep.shards import read
from prep.video_reading import frames
from prep.video_writing import write_video
from tests.bench.contract import listener
from tests.bench.contract.listener import HEARD, colour_of
from tests.bench.contract.test_contract import TINY, data, preset  # noqa: F401
from tests.bench.fake_method import FakeMesh, numbered


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.entries, "listener", listener.ENTRY)
    monkeypatch.setattr(footage_module, "create", lambda name, **options: FakeMesh())


def encoder_run(folder: Path, seed: int) -> tuple[Path, SpeechEncoder]:
    torch.manual_seed(seed)
    encoder = SpeechEncoder(16, 1).eval()
    write_networks(folder, "speech", {"encoder": encoder.state_dict()}, "test")
    return folder, encoder


def words(tmp_path: Path, **source: Any) -> list[str]:
    given = {"run": tmp_path / "encoder", "width": 16, "layers": 1, **source}
    return [*TINY, *(f"speech.{key}={value}" for key, value in given.items())]


def own_logits(clip: Clip, encoder: SpeechEncoder) -> np.ndarray:
    features = speech_features(SpeechSource(width=16, layers=1))
    features.assets["speech"].module.load_state_dict(encoder.state_dict())
    features.assets["speech"].module.eval()
    assert clip.audio is not None
    return hear(features.derivations["speech"], DrivingSound(clip.audio, clip.n_frames))["logits"]


def reds(video: Path) -> np.ndarray:
    return np.array([frame[40:80, 40:80, 0].mean() for frame in frames(video)])


def test_the_logits_of_a_run_are_derived_sampled_and_generated_with(
    data: Path,  # noqa: F811
    preset: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    _, encoder = encoder_run(tmp_path / "encoder", 0)
    (found,) = derive("listener", [data], preset=preset, overrides=words(tmp_path))
    assert (found.name, found.clips, found.failures) == ("speech", 10, {})
    clips = {clip.clip_id: clip for clip in read(data)}
    logits = {name: own_logits(clip, encoder) for name, clip in clips.items()}
    stored = find(data, "speech").read("test-00000.parquet", "ann/d")["logits"]
    assert stored.shape == (56, 29)
    np.testing.assert_allclose(stored, logits["ann/d"], rtol=0, atol=1e-5)
    for sample in WindowDataset(data, "train", SampleSpec(window=1, frame_sounds=(HEARD,))):  # type: ignore[attr-defined]
        frame = int(sample["frames"][0])
        assert 2 <= frame <= clips[sample["clip"]].n_frames - 3
        expected = frame_logits(logits[sample["clip"]])[frame]
        np.testing.assert_allclose(sample[f"frame_{LOGITS}"][0, :, ::2], expected, rtol=0, atol=1e-5)

    train("listener", [data], preset=preset, overrides=words(tmp_path), run=tmp_path / "run")
    record = generate("listener", tmp_path / "run", data, tmp_path / "own")
    assert not record.failures and record.derived["speech"] == find(data, "speech").key
    other = GenerateOptions(protocol="dubbing", seed=1)
    generate("listener", tmp_path / "run", data, tmp_path / "dubbed", other)
    for folder, heard, length in (("own", "ann/d", 28), ("dubbed", "ann/e", 24)):
        expected = [colour_of(window) for window in frame_logits(logits[heard])]
        shown = reds(tmp_path / folder / "ann/d.mp4")[:length]
        # Of the cut sound of another clip the last columns differ, since the encoder hears both directions.
        np.testing.assert_allclose(shown, expected[: len(shown)], rtol=0, atol=8)


def test_other_weights_are_another_key_and_a_missing_run_is_named(
    data: Path,  # noqa: F811
    preset: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    with pytest.raises(
        BenchError, match=r"listener needs .*encoder for the speech features, .* bench train speech"
    ):
        derive("listener", [data], preset=preset, overrides=words(tmp_path))
    keys = set()
    for seed in (0, 1):
        encoder_run(tmp_path / "encoder", seed)
        (found,) = derive("listener", [data], preset=preset, overrides=words(tmp_path))
        keys.add(found.folder.name)
    assert len(keys) == 2
    with pytest.raises(BenchError, match=r"has shape .* use the options that it was trained with"):
        derive("listener", [data], preset=preset, overrides=words(tmp_path, width=32))


def test_files_of_clips_and_of_a_dubbed_sound(
    data: Path,  # noqa: F811
    preset: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    files = tmp_path / "deepspeech"
    for number, clip in enumerate(read(data)):
        path = files / f"{clip.clip_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        logits = np.random.default_rng(number).normal(0, 5, (2 * clip.n_frames, 29)).astype(np.float32)
        np.save(path, logits)
    given = words(tmp_path, files=files)
    (found,) = derive("listener", [data], preset=preset, overrides=given)
    assert found.clips == 10
    np.testing.assert_array_equal(
        find(data, "speech").read("test-00000.parquet", "ann/d")["logits"], np.load(files / "ann/d.npy")
    )
    train("listener", [data], preset=preset, overrides=given, run=tmp_path / "run")

    video, sound = tmp_path / "face.mp4", tmp_path / "talk.mp4"
    noise = np.random.default_rng(0).integers(-5000, 5000, 640 * 25).astype(np.int16)
    write_video(video, [numbered(i) for i in range(25)], samples=noise)
    write_video(sound, [numbered(i) for i in range(25)], samples=noise)
    arguments = ("listener", tmp_path / "run", video, sound, tmp_path / "out.mp4")
    with pytest.raises(
        BenchError, match=r"talk\.npy is missing: write DeepSpeech's logits of this sound there"
    ):
        dub(*arguments, device="cpu")
    logits = np.random.default_rng(99).normal(0, 5, (50, 29)).astype(np.float32)
    np.save(tmp_path / "talk.npy", logits)
    dub(*arguments, device="cpu")
    expected = [colour_of(window) for window in frame_logits(logits)]
    # AAC makes the sound a little longer than the file of its logits.
    np.testing.assert_allclose(reds(tmp_path / "out.mp4")[:23], expected[:23], rtol=0, atol=8)
