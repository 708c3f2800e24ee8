"""DINet's expert as a variant of sync-expert: its options, its stage, and its official weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from baselines.speech.features import SpeechSource
from baselines.sync_expert.method import SyncExpert, SyncExpertConfig
from baselines.sync_expert.score_network import LOGITS, MEL, ScoreNet
from baselines.sync_expert.score_stage import SOUNDS, ScoreConfig, ScoreStage
from bench.train.checkpoint import held_out_figures, load_network
from bench.train.config import load_config
from bench.train.official import import_official
from models.base import DataInfo, Progress, TrainConfig
from prep.sampling import check_spec, columns_of
from tests.baselines import official

START = Progress(0, 0.0)
#: Two frames apart: the windows of a sample of 7 frames.
WINDOWS = 2


def config(**changes: Any) -> ScoreConfig:
    values: dict[str, Any] = {
        "form": "scores",
        "width": 0.1,
        "hears": "mel",
        "mouths": (32, 64),
        "mouths_until": (10,),
        "windows": WINDOWS,
        "stride": 2,
        "far": 2,
        "learning_rate": 2e-3,
        "train": TrainConfig(batch_size=2, steps=20),
        **changes,
    }
    return ScoreConfig(**values)


def made(**changes: Any) -> ScoreStage:
    torch.manual_seed(0)
    settings = config(**changes)
    return ScoreStage(settings, settings.build())


def batch_of(n: int, height: int = 104, width: int = 80) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(0)
    return {
        "images": torch.randint(0, 256, (n, 7, 3, height, width), dtype=torch.uint8, generator=rng),
        "frame_mel": torch.rand(n, 7, 80, 16, generator=rng) * 8 - 4,
        "frame_speech.logits": torch.randn(n, 7, 29, 17, generator=rng),
    }


def speaking(n: int, seed: int) -> dict[str, Any]:
    """Mouths that are open where the sound is loud."""
    rng = torch.Generator().manual_seed(seed)
    loud = torch.rand(n, 7, generator=rng)
    rows = (torch.arange(104.0) - 64).abs()[:, None]
    opened = (rows < 2 + 26 * loud[:, :, None, None]) & ((torch.arange(80) - 40).abs() < 20)
    frames = 200 - 150 * opened[:, :, None].float() + 20 * torch.rand(n, 1, 3, 1, 1, generator=rng)
    sounds = loud[:, :, None, None].expand(n, 7, 80, 16) * 6 - 3
    noise = 0.1 * torch.randn(n, 7, 80, 16, generator=rng)
    return {"images": frames.expand(n, 7, 3, 104, 80).to(torch.uint8), "frame_mel": sounds + noise}


def test_samples_are_as_large_as_the_largest_mouth_asks() -> None:
    stage = made()
    check_spec(stage.sample)
    assert columns_of(stage.sample) == ["mouth416x320", "mel"]
    assert (stage.sample.size, stage.sample.window, stage.sample.frame_sounds) == (
        (104, 80),
        7,
        (SOUNDS["mel"],),
    )
    large = made(mouths=(64, 128, 256), mouths_until=(1, 2), hears="speech").sample
    assert (large.size, large.frame_sounds) == ((416, 320), (SOUNDS["speech"],))


def test_mouths_grow_when_they_are_due() -> None:
    stage = made(mouths=(32, 64, 128), mouths_until=(10, 15))
    assert [stage.mouth(step) for step in (0, 9, 10, 14, 15, 99)] == [32, 32, 64, 64, 128, 128]
    assert stage.changes(1.0) == (10, 15)
    assert made(mouths=(32, 64), mouths_until=(0,)).changes(1.0) == ()


def test_small_mouths_are_means_over_the_large_ones_and_a_validation_sees_the_last_size() -> None:
    stage, batch = made(), batch_of(2)
    small = stage.shown(batch)
    square = batch["images"][..., 32:96, 8:72].float() / 255
    expected = F.avg_pool2d(square[:, 0:5].flatten(0, 1), 2).unflatten(0, (2, 5)).flatten(1, 2)
    torch.testing.assert_close(small[::WINDOWS], expected)
    list(stage.updates(batch, Progress(10, 0.0)))
    torch.testing.assert_close(stage.shown(batch)[1::WINDOWS], square[:, 2:7].flatten(1, 2))
    again = made()
    again.load_state_dict(json.loads(json.dumps(stage.state_dict())))
    assert again.shown(batch).shape == (4, 15, 64, 64)


def test_every_window_is_scored_with_every_sound_of_its_clip() -> None:
    stage, batch = made(), batch_of(2)
    lips, sounds = stage.shown(batch), stage.sounds(batch)
    network = stage.networks["expert"].eval()
    with torch.no_grad():
        scores = stage.compared(lips, sounds)
        assert scores.shape == (2, WINDOWS, WINDOWS, 1)
        for clip in range(2):
            for window in range(WINDOWS):
                for sound in range(WINDOWS):
                    alone = network(lips[None, 2 * clip + window], sounds[clip, None, sound])
                    torch.testing.assert_close(
                        scores[clip, window, sound], alone.flatten(), rtol=0, atol=1e-5
                    )


def test_of_logits_every_second_column_is_heard() -> None:
    stage, batch = made(hears="speech"), batch_of(2)
    expected = batch["frame_speech.logits"][:, [0, 2], :, ::2]
    assert expected.shape == (2, WINDOWS, LOGITS, 9)
    torch.testing.assert_close(stage.sounds(batch), expected)
    (update,) = stage.updates(batch, START)
    assert torch.isfinite(update.loss)


def test_right_sound_should_score_1_and_wrong_sound_0() -> None:
    stage, batch = made(), batch_of(3)
    (update,) = stage.updates(batch, START)
    with torch.no_grad():
        scores = stage.compared(stage.shown(batch), stage.sounds(batch))[..., 0]
    right, wrong = scores.diagonal(dim1=1, dim2=2), scores[:, [0, 1], [1, 0]]
    torch.testing.assert_close(update.loss, ((right - 1).square().mean() + wrong.square().mean()) / 2)
    assert set(update.logs) == {"loss", "accuracy", "score_sync", "score_shifted"}
    torch.testing.assert_close(update.logs["score_sync"], right.mean())


def test_the_rate_falls_over_the_second_half() -> None:
    stage = made()
    optimizers = stage.optimizers()
    schedule = stage.schedulers(optimizers)["expert"]
    rates = []
    for _ in range(20):
        rates.append(optimizers["expert"].param_groups[0]["lr"])
        optimizers["expert"].step()
        schedule.step()
    assert rates[:11] == pytest.approx([2e-3] * 11) and rates[15] == pytest.approx(1e-3)
    assert optimizers["expert"].param_groups[0]["lr"] == pytest.approx(0)
    assert made(train=TrainConfig(batch_size=1)).schedulers(made().optimizers()) == {}


def test_it_learns_what_belongs_together_and_says_so_of_other_clips() -> None:
    stage = made(even=True, contrast=1.0, learning_rate=3e-3, train=TrainConfig(batch_size=16, steps=100))
    (optimizer,) = stage.optimizers().values()
    for step in range(100):
        for update in stage.updates(speaking(16, step), Progress(min(step, 9), 0.0)):
            optimizer.zero_grad()
            update.loss.backward()
            optimizer.step()
    figures = stage.validate(speaking(64, 1000))
    # Chance is 0.5. It ended at 0.742 with one thread of torch, and above 0.75 with two.
    assert float(figures["rank"]) > 0.65


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mouths": ()}, "multiples of 32"),
        ({"mouths": (48,), "mouths_until": ()}, "multiples of 32 that divide the last"),
        ({"mouths": (64, 32)}, "the smallest first"),
        ({"mouths": (64, 96)}, r"not \(64, 96\)"),
        ({"mouths_until": ()}, "mouths_until are 1 steps"),
        ({"mouths": (32, 64, 128), "mouths_until": (5, 2)}, "mouths_until are 2 steps in order"),
        ({"teach": {}}, "Extra inputs"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)


@pytest.mark.parametrize(("preset", "hears"), [("dinet", LOGITS), ("dinet-tiny", MEL)])
def test_presets_make_a_method(preset: str, hears: int) -> None:
    loaded = load_config("sync-expert", preset, [], [], Path("run")).method_config
    assert isinstance(loaded, SyncExpertConfig)
    method = SyncExpert(loaded, DataInfo())
    network = method.networks["expert"]
    assert isinstance(method.stages["expert"], ScoreStage) and isinstance(network, ScoreNet)
    assert network.audio_encoder.audio_conv[0].conv.in_channels == hears
    assert bool(method.derivations) == bool(method.assets) == (hears == LOGITS)


def test_logits_come_from_the_table_speech(tmp_path: Path) -> None:
    (tmp_path / "clip.npy").write_bytes(b"")
    source = SpeechSource.model_validate({"files": tmp_path})
    method = SyncExpert(SyncExpertConfig(expert=config(hears="speech"), speech=source), DataInfo())
    assert list(method.derivations) == ["speech"] and not method.assets


def test_the_authors_checkpoint_becomes_a_run(tmp_path: Path) -> None:
    state = official.weights("dinet_syncnet")
    torch.save({"epoch": 1, "state_dict": {"net": state}}, tmp_path / "syncnet_256mouth.pth")
    import_official("sync-expert", [tmp_path / "syncnet_256mouth.pth"], tmp_path / "run", "dinet")
    found = load_network(tmp_path / "run", "expert")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)
    # Nothing is known of how it does on held-out clips.
    assert held_out_figures(tmp_path / "run", "expert") is None


def test_official_weights_are_taken_as_they_are_published() -> None:
    state = official.weights("dinet_syncnet")
    taken = SyncExpert.from_official({f"net.{key}": value for key, value in state.items()})
    ScoreNet().load_state_dict(taken["expert"])
    with pytest.raises(ValueError, match="not a checkpoint of DINet's expert: the expert network has no odd"):
        SyncExpert.from_official({**{f"net.{key}": v for key, v in state.items()}, "net.odd": torch.zeros(1)})
