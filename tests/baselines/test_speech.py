"""The acoustic encoder: texts, decoding, the network, its training, and data without texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from baselines.speech.network import SpeechEncoder, columns_of, rows_of
from baselines.speech.stage import SpeechConfig, SpeechStage, ctc, spread
from baselines.speech.text import BLANK, LETTERS, edits, error_rate, greedy, numbers, spelt
from bench.common.errors import BenchError
from bench.train import train
from bench.train.checkpoint import load_network
from models.base import Progress, TrainConfig
from tests.prep.fakes import fake_clip, write_fake_dataset

TONES = "abcd"


def config(**changes: Any) -> SpeechConfig:
    values = {
        "width": 16,
        "layers": 1,
        "longest": 2.0,
        "train": TrainConfig(batch_size=4, steps=60),
        **changes,
    }
    return SpeechConfig(**values)


def made(**changes: Any) -> SpeechStage:
    torch.manual_seed(0)
    settings = config(**changes)
    return SpeechStage(settings, settings.build())


def batch_of(columns: list[int], seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    mel = torch.zeros(len(columns), 80, 161)
    for one, count in zip(mel, columns, strict=True):
        one[:, :count] = torch.rand(80, count) * 8 - 4
    return {"clip_mel": mel, "columns": [str(n) for n in columns], "text": ["AN OWL"] * len(columns)}


# Texts ------------------------------------------------------------------------------------------------------------


def test_the_symbols_are_those_of_deepspeech_in_its_order() -> None:
    """``alphabet.txt`` of DeepSpeech 0.1: space, a to z, apostrophe; CTC of TensorFlow puts the blank last."""
    assert LETTERS == " abcdefghijklmnopqrstuvwxyz'" and BLANK == 28
    assert numbers("A zoo, isn't it?").tolist() == [1, 0, 26, 15, 15, 0, 9, 19, 14, 27, 20, 0, 9, 20]


def test_texts_are_spelt_in_these_letters() -> None:
    assert spelt("  WHEN YOU’RE   at the Café – 24/7! ") == "when you're at the cafe"
    assert spelt("{LG}") == "lg" and spelt("...") == ""


def test_greedy_decoding_removes_repetitions_and_blanks() -> None:
    path = [BLANK, 8, 8, BLANK, 5, 12, 12, BLANK, 12, 15, 0, 0, BLANK]
    logits = torch.eye(29)[path] * 3
    assert greedy(logits) == "hello"
    assert greedy(logits.numpy()[:0]) == ""


@pytest.mark.parametrize(
    ("heard", "said", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("same", "same", 0)],
)
def test_known_distances(heard: str, said: str, distance: int) -> None:
    assert edits(heard, said) == distance


@given(st.text("ab ", max_size=7), st.text("ab ", max_size=7))
def test_the_distance_is_that_of_the_textbook(a: str, b: str) -> None:
    table = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            replaced = table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, replaced)
    assert edits(a, b) == table[len(a), len(b)]


def test_the_error_rate_counts_all_letters() -> None:
    assert error_rate(["abc", ""], ["ABD", "xyz"]) == pytest.approx(4 / 6)
    assert error_rate(["aaaa"], ["b"]) == 4.0


# The network ------------------------------------------------------------------------------------------------------


def test_there_are_two_columns_a_frame() -> None:
    assert [columns_of(1 + 640 * frames // 200) for frames in range(1, 300)] == list(range(2, 600, 2))


def test_rows_lie_where_those_of_deepspeech_lie_and_have_mean_0() -> None:
    # A spectrogram that tells the time: column c is centred on sample 200 c, row k on sample 160 k + 200.
    mel = (200 * torch.arange(33.0)).expand(2, 80, 33)
    rows = rows_of(mel, [33, 17])
    assert rows.shape == (2, 40, 80)
    for one, count, columns in zip(rows, (40, 20), (33, 17), strict=True):
        # The last window of a sound is cut off by its end.
        centres = (160.0 * torch.arange(count) + 200).clamp(max=200 * (columns - 1))
        torch.testing.assert_close(one[:count, 7], (centres - centres.mean()) / 2, rtol=1e-5, atol=1e-3)
        assert not one[count:].any()


def test_a_sound_gives_the_same_alone_and_in_a_batch() -> None:
    torch.manual_seed(0)
    network = SpeechEncoder(16, 2).eval()
    batch = batch_of([161, 90, 4])
    with torch.no_grad():
        together = network.hear(batch["clip_mel"], [161, 90, 4])
        assert together.shape == (3, 100, 29) and together.dtype == torch.float32
        for i, count in enumerate([161, 90, 4]):
            alone = network.hear(batch["clip_mel"][i : i + 1, :, :count], [count])
            assert alone.shape[1] == columns_of(count)
            torch.testing.assert_close(alone[0], together[i, : alone.shape[1]], rtol=0, atol=1e-5)


# Training ---------------------------------------------------------------------------------------------------------


def test_the_losses_are_those_of_a_known_case() -> None:
    # Two columns, one letter: a blank, blank a and a a, each with the chance (1 / 29)².
    logits = torch.zeros(1, 2, 29)
    loss = ctc(logits, [2], [torch.tensor([1])])
    assert float(loss) == pytest.approx(-np.log(3 / 29**2), rel=1e-5)
    assert float(ctc(logits, [2], [torch.tensor([1, 2, 3])])) == 0

    rows = torch.tensor([-1.0, 1, 1, 1, 1, -1]).repeat_interleave(2)[None, :, None].expand(1, 12, 80)
    sure = torch.zeros(1, 6, 29)
    sure[0, [1, 2], 5] = sure[0, [3, 4], 9] = 50
    assert float(spread(sure, rows, [6], [torch.tensor([5, 9])])) == pytest.approx(0, abs=1e-4)
    assert float(spread(sure, rows * -1, [6], [torch.tensor([5, 9])])) > 1
    assert float(spread(sure, rows * 0, [6], [torch.tensor([5, 9])])) == 0


def test_variation_off_changes_nothing_and_on_keeps_the_sound() -> None:
    batch = batch_of([150, 100])
    same, count = made(tempo=0, tract=0)._varied(batch["clip_mel"], [150, 100])
    assert count == [150, 100]
    torch.testing.assert_close(same, batch["clip_mel"][:, :, :150], rtol=0, atol=2e-4)
    stage = made(tempo=0.2, tract=0.1)
    seen = {tuple(stage._varied(batch["clip_mel"], [150, 100])[1]) for _ in range(8)}
    assert len(seen) > 4 and all(120 <= a <= 180 and 80 <= b <= 120 for a, b in seen)
    rows = torch.ones(2, 60, 80)
    masked = made()._masked(rows)
    assert 0 < (masked == 0).float().mean() < 0.6
    assert torch.equal(made(masks=0)._masked(rows), rows)


def tones(n: int, seed: int) -> dict[str, Any]:
    """Four different letters of six, each 0.15 s of a band of its own, with silence between them."""
    torch.manual_seed(seed)
    said = torch.stack([torch.randperm(6)[:4] for _ in range(n)])
    mel = torch.rand(n, 80, 81) - 4
    for one, letters in zip(mel, said.tolist(), strict=True):
        for place, letter in enumerate(letters):
            at = 5 + 19 * place
            one[12 * letter + 2 : 12 * letter + 10, at : at + 12] += 5
    texts = ["".join("ABCDEF"[letter] for letter in letters) for letters in said.tolist()]
    return {"clip_mel": mel, "columns": ["81"] * n, "text": texts}


def test_letters_that_are_tones_are_learnt_from_texts_without_times() -> None:
    stage = made(width=32, dropout=0, tract=0, masks=0, spread_for=60, learning_rate=0.01)
    optimizer = stage.optimizers()["encoder"]
    network = stage.networks["encoder"]
    assert stage.validate(tones(16, 999))["cer"] > 0.7
    for step in range(90):
        (update,) = stage.updates(tones(16, step), Progress(step, 0.0))
        assert ("spread" in update.logs) == (step < 60)
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
    network.eval()
    figures = stage.validate(tones(16, 999))
    assert figures["cer"] < 0.1 and figures["letters"] == 4
    assert float(figures["cer"]) == pytest.approx(float(figures["edits"]) / 4)


def test_it_is_trained_as_a_method_on_texts_and_can_be_derived_from(tmp_path: Path) -> None:
    clips = [fake_clip(f"s{i}/{i:05d}", 40, split="val" if i > 3 else "train") for i in range(6)]
    write_fake_dataset(tmp_path / "data", clips)
    settings = [
        "speech.width=16",
        "speech.train.steps=2",
        "speech.train.validate_every=2",
        "runner.device=cpu",
    ]
    done = train("speech", [tmp_path / "data"], preset="tiny", overrides=settings, run=tmp_path / "run")
    assert done.best["speech"].keys() >= {"loss", "cer", "edits", "letters"}
    state = load_network(tmp_path / "run", "encoder")
    SpeechEncoder(16, 1).load_state_dict(state)


def test_data_without_texts_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    clips = [fake_clip(f"a/{i}", split=split) for i, split in enumerate(("train", "val"))]
    for clip in clips:
        clip.text = ""
    write_fake_dataset(tmp_path / "silent", clips)
    with pytest.raises(BenchError, match=r"silent has no text of any clip, .* texts beside its clips \(LRS2"):
        train(
            "speech",
            [tmp_path / "silent"],
            preset="tiny",
            overrides=["runner.device=cpu"],
            run=tmp_path / "r",
        )


def test_the_schedule_needs_an_end_and_the_hint_says_what_to_try() -> None:
    with pytest.raises(ValidationError, match=r"give a number of train\.steps"):
        config(train=TrainConfig(batch_size=1, epochs=2))
    stage = made()
    assert (
        stage.hint({"loss": 2.9}, Progress(3, 0.0)) is None
        and stage.hint({"loss": 1.0}, Progress(50, 0.0)) is None
    )
    assert "blanks alone" in (stage.hint({"loss": 2.9}, Progress(50, 0.0)) or "")
    schedule = stage.schedulers(stage.optimizers())["encoder"]
    rates = []
    for _ in range(60):
        rates.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    assert max(rates) == rates[5] and rates[0] < rates[5] and rates[-1] < 0.01 * rates[5]
