"""Toy speech without pictures, and its random phrases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from baselines.speech.text import spelt
from bench.cli.app import app
from prep.dataset import WindowDataset
from prep.errors import PrepError
from prep.sample_spec import SampleSpec, Sound
from prep.shards import read, read_manifest
from prep.sound.mel import melspectrogram
from prep.toy.looks import LOOKS
from prep.toy.phrases import WORDS, phrases
from prep.toy.sentences import HELD_OUT, TRAIN, transcript
from prep.toy.sound_only import write_sound


def test_phrases_are_drawn_from_words() -> None:
    drawn = phrases(np.random.default_rng(0), 300)
    assert drawn == phrases(np.random.default_rng(0), 300)
    words = [phrase.rstrip(".").split() for phrase in drawn]
    assert {len(one) for one in words} == {1, 2, 3, 4, 5, 6}
    assert {word.lower() for one in words for word in one} <= {word.lower() for word in WORDS}
    assert len(set(WORDS)) == len(WORDS) > 900 and all(word.isascii() and word.isalpha() for word in WORDS)


def test_sounds_and_texts_become_a_data_set(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    seen: list[tuple[int, int]] = []
    seconds = write_sound(tmp_path / "a", clips=24, seed=3, progress=lambda *done: seen.append(done))
    assert seen == [(n, 24) for n in range(1, 25)] and read_manifest(tmp_path / "a")["complete"]
    clips = list(read(tmp_path / "a"))
    assert len(clips) == 24 and sum(clip.n_frames for clip in clips) / 25 == seconds
    held = {look.voice.name for look in LOOKS if look.split != "train"}
    said = {
        split: {spelt(transcript(s)) for s in pool} for split, pool in (("train", TRAIN), ("val", HELD_OUT))
    }
    for clip in clips:
        assert clip.text and 25 <= clip.n_frames <= 100 and not clip.detected.any()
        assert clip.audio is not None and len(clip.audio) == 640 * clip.n_frames
        assert 12_000 < np.abs(clip.audio).max() < 20_000
        np.testing.assert_array_equal(clip.mel, melspectrogram(clip.audio))
        assert (clip.speaker in held) == (clip.split == "val")
        if clip.split == "val":
            assert any(sentence in spelt(clip.text) for sentence in said["val"])
        else:
            assert not any(sentence in spelt(clip.text) for sentence in said["val"])
    write_sound(tmp_path / "b", clips=24, seed=3, workers=1)
    for path in sorted((tmp_path / "a" / "shards").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / "shards" / path.name).read_bytes()
    spec = SampleSpec(window=0, clip_sounds=(Sound("mel", 321),), text=True)
    assert len(WindowDataset(tmp_path / "a", "train", spec)) == 22
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "a")])
    assert shown.exit_code == 0 and "no pictures, so no contact sheet" in shown.output
    with pytest.raises(PrepError, match="is there already"):
        write_sound(tmp_path / "a")


@pytest.mark.parametrize(("clips", "seconds"), [(23, 4.0), (40, 1.0), (40, 11.0)])
def test_impossible_sizes_are_one_line(tmp_path: Path, clips: int, seconds: float) -> None:
    with pytest.raises(PrepError, match="give at least 24 clips, and 2 to 10 seconds"):
        write_sound(tmp_path / "x", clips=clips, seconds=seconds)
    assert not (tmp_path / "x").exists()
