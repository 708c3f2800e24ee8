"""The expert that looks at landmarks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from baselines.sync_cca.features import LIPS, RIGID
from baselines.sync_expert.landmark_network import (
    _SHAPE,
    _TWINS,
    MIRRORED,
    SEEN,
    LandmarkJudge,
    LandmarkNet,
    between,
    in_pairs,
    lips_of,
    sounds_of,
    standardised,
)
from baselines.sync_expert.landmark_stage import LandmarkConfig, LandmarkStage
from baselines.sync_expert.method import SyncExpert, SyncExpertConfig
from bench.common.errors import BenchError
from bench.train.config import load_config
from bench.train.loading import open_dataset, training_loader
from models.base import DataInfo, Progress, TrainConfig
from prep.order import WindowStream
from prep.sampling import check_spec, columns_of
from tests.prep.fakes import fake_dataset

START = Progress(0, 0.0)


def config(**changes: Any) -> LandmarkConfig:
    values: dict[str, Any] = {
        "view": "landmarks",
        "frames": 60,
        "members": 2,
        "channels": 16,
        "sound_channels": 16,
        "size": 8,
        "lip_dropout": 0.0,
        "sound_dropout": 0.0,
        "train": TrainConfig(batch_size=8, steps=60),
        **changes,
    }
    return LandmarkConfig(**values)


def made(**changes: Any) -> LandmarkStage:
    torch.manual_seed(0)
    settings = config(**changes)
    return LandmarkStage(settings, settings.build())


def judge(members: int = 2) -> LandmarkJudge:
    torch.manual_seed(0)
    return LandmarkJudge(LandmarkNet(members, 16, 16, 8))


def face(n: int, seed: int = 0) -> np.ndarray:
    """(n, 478, 3) float32, a still head whose lips move at random."""
    rng = np.random.default_rng(seed)
    points = np.repeat(rng.normal(0, 40, (1, 478, 3)), n, axis=0)
    points[:, RIGID] = 150 * _SHAPE + rng.normal(0, 1, _SHAPE.shape)
    points[:, LIPS] += rng.normal(0, 2, (n, len(LIPS), 3))
    return points.astype(np.float32)


def spoken(n: int, frames: int = 60, seed: int = 0) -> dict[str, Tensor]:
    """Samples whose mouth opens as far as the sound is loud, at random, smoothly."""
    rng = np.random.default_rng(seed)
    loud = np.stack([np.convolve(rng.normal(size=frames + 4), np.ones(5) / 2, "valid") for _ in range(n)])
    lips = np.zeros((n, frames, SEEN), np.float32)
    lips[:, :, 1::3] = loud[:, :, None] * np.linspace(-1, 1, SEEN // 3)
    columns = math.ceil(3.2 * frames)
    at = np.clip((np.arange(columns) + 0.5) / 3.2 - 0.5, 0, frames - 1)
    mel = np.stack([np.interp(at, np.arange(frames), one) for one in loud])
    return {
        "frames": torch.arange(frames).expand(n, frames),
        "lips": torch.from_numpy(lips),
        "window_mel": torch.from_numpy(mel.astype(np.float32))[:, None].expand(n, 80, columns),
    }


# What is seen and heard ---------------------------------------------------------------------------------------------


def test_the_movement_of_the_head_is_not_seen() -> None:
    points = face(12)
    rng = np.random.default_rng(1)
    moved = np.empty_like(points)
    for t, one in enumerate(points):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        turn *= np.sign(np.linalg.det(turn))
        moved[t] = one @ turn * rng.uniform(0.5, 2) + rng.normal(0, 50, 3)
    np.testing.assert_allclose(lips_of(moved), lips_of(points), atol=1e-2)
    assert np.abs(lips_of(points)).max() > 1
    np.testing.assert_allclose(lips_of(points).mean(axis=0), 0, atol=1e-5)


def test_the_mirror_image_has_left_for_right() -> None:
    named = {61: 291, 0: 0, 37: 267, 17: 17, 146: 375, 78: 308, 13: 13, 14: 14, 88: 318, 291: 61}
    mirrored = {int(a): int(b) for a, b in zip(LIPS, LIPS[MIRRORED], strict=True)}
    assert {a: mirrored[a] for a in named} == named
    assert sorted(MIRRORED) == list(range(40))


def test_the_reference_face_is_symmetric() -> None:
    place = {int(k): i for i, k in enumerate(RIGID)}
    for right, left in _TWINS.items():
        np.testing.assert_allclose(_SHAPE[place[right]] * [-1, 1, 1], _SHAPE[place[left]], atol=1e-12)
    assert np.square(_SHAPE).sum() == pytest.approx(1)


def test_values_between_positions() -> None:
    values = torch.tensor([0.0, 10.0, 30.0]).reshape(1, 3, 1)
    at = torch.tensor([[-1.0, 0.0, 0.5, 1.25, 2.0, 7.0]])
    assert between(values, at)[0, :, 0].tolist() == [0, 0, 5, 15, 30, 30]


@pytest.mark.parametrize("rate", [1.0, 0.8])
def test_sound_lies_around_its_frame(rate: float) -> None:
    mel = torch.arange(200.0).reshape(1, 200, 1)
    found = sounds_of(mel, torch.tensor([60.0]), torch.tensor([rate]), 5)[0, :, 0]
    assert len(found) == 4 * (5 + 7)
    # What the network hears with frame t: 8 frames about its middle.
    for t in range(5):
        middle = 60 + 3.2 * rate * (t + 0.5) - 0.5
        heard = found[4 * t : 4 * t + 32]
        assert float(heard.mean()) == pytest.approx(middle, abs=1e-3)
        assert float(heard[-1] - heard[0]) == pytest.approx(31 * 0.8 * rate, abs=1e-3)


def test_bands_in_pairs() -> None:
    bands = torch.arange(80.0).expand(2, 1, 80)
    found = in_pairs(bands, torch.tensor([1.0, 0.9]))[:, 0]
    torch.testing.assert_close(found[0], 2 * torch.arange(40.0) + 0.5)
    torch.testing.assert_close(found[1], found[0] * 0.9)
    assert in_pairs(bands, torch.tensor([1.2, 1.2]))[0, 0, -1] == 79


def test_bands_are_standardised_but_quiet_ones_stay_quiet() -> None:
    mel = torch.tensor([[[-4.0, 1.0], [-3.99, 3.0]]])
    found = standardised(mel)
    torch.testing.assert_close(found[0, 1], torch.tensor([0.005 / 0.505, 1 / 1.5]))
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(1, 2))


# The judge ----------------------------------------------------------------------------------------------------------


def test_lips_are_embedded_once_a_frame() -> None:
    points = face(30)
    points[[4, 5, 20]] = np.nan
    found = judge().see(points)
    assert found.shape == (30, 16) and found.dtype == np.float32
    assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [4, 5, 20]
    there = np.delete(found, [4, 5, 20], axis=0)
    np.testing.assert_allclose(there.mean(axis=0), 0, atol=1e-6)
    assert there.std() > 1e-3
    assert np.isnan(judge().see(np.full((3, 478, 3), np.nan, np.float32))).all()


def test_lips_that_do_not_move_score_nothing() -> None:
    still = np.repeat(face(1), 40, axis=0)
    np.testing.assert_allclose(judge().see(still), 0, atol=1e-4)


def test_sound_is_embedded_once_a_frame_and_moves_with_it() -> None:
    mel = np.random.default_rng(0).uniform(-4, 4, (320, 80)).astype(np.float32)
    found = judge().hear(mel, 100)
    assert found.shape == (100, 16)
    # Sixteen columns are five frames. The clip's means differ, which is a constant.
    later = judge().hear(np.roll(mel, 16, axis=0), 100)
    np.testing.assert_allclose(np.diff(later[20:80], axis=0), np.diff(found[15:75], axis=0), atol=1e-4)
    beyond = judge().hear(mel[:160], 60)
    assert np.isnan(beyond[50:]).all() and np.isfinite(beyond[:50]).all()
    assert np.isnan(judge().hear(mel[:0], 3)).all()


def test_the_score_is_the_mean_of_the_members() -> None:
    points, mel = face(30), np.random.default_rng(0).uniform(-4, 4, (96, 80)).astype(np.float32)
    both = judge()
    scores = both.see(points) @ both.hear(mel, 30).T
    each = []
    for k in range(2):
        one = LandmarkNet(1, 16, 16, 8)
        one.members[0].load_state_dict(both.network.members[k].state_dict())
        alone = LandmarkJudge(one)
        each.append(alone.see(points) @ alone.hear(mel, 30).T)
    np.testing.assert_allclose(scores, np.mean(each, axis=0), atol=1e-6)
    assert not np.allclose(each[0], each[1], atol=1e-3)


# The stage ----------------------------------------------------------------------------------------------------------


def test_what_it_asks_for_comes_from_prepared_data(tmp_path: Path) -> None:
    stage = made(frames=32, lengths=(10,), train=TrainConfig(batch_size=2, steps=60))
    check_spec(stage.sample)
    assert columns_of(stage.sample) == ["landmarks", "mel"]
    fake_dataset(tmp_path, {"train": 4}, views=())
    dataset = open_dataset([tmp_path], "train", stage, 0)
    batch = next(iter(training_loader(WindowStream(dataset, 2), stage, workers=0)))
    assert batch["lips"].shape == (2, 32, SEEN) and "landmarks" not in batch
    assert batch["window_mel"].shape == (2, 80, 103)
    (update,) = stage.updates(batch, START)
    update.loss.backward()
    without = [
        name
        for name, p in stage.networks["expert"].named_parameters()
        # A bias before a normalisation or before the mean is removed has no effect.
        if not name.endswith("bias") and not (p.grad is not None and p.grad.abs().max() > 0)
    ]
    assert without == []


def test_a_window_has_to_find_its_own_sound() -> None:
    stage = made(lengths=(10,), nearest=3)
    # 20 frames that are told apart, one member, one clip.
    own = torch.eye(20)[None, None] * 40
    loss, picked = stage._loss(own, torch.eye(20)[None, None])
    assert float(picked) == 1 and float(loss) < 1e-3
    # Without any difference, each of 11 windows chooses among its own sound and that 3 windows away or more.
    counts = [1 + sum(abs(i - j) >= 3 for j in range(11)) for i in range(11)]
    loss, _ = stage._loss(torch.zeros(1, 1, 20, 4), torch.zeros(1, 1, 20, 4))
    assert float(loss) == pytest.approx(np.mean(np.log(counts)))
    # The sound that fits comes two frames late: that is nearer than wrong sound, and does not count.
    heard = torch.roll(torch.eye(20), 2, dims=0)[None, None]
    late, _ = stage._loss(own, heard)
    far, _ = stage._loss(own, torch.roll(torch.eye(20), 5, dims=0)[None, None])
    assert float(late) < 5 < float(far)


def test_samples_are_changed_only_in_training() -> None:
    plain = made(stretch=0.0, tract=0.0, amplitude=0.0, turn=0.0, tilt=0.0, mirror=False)
    batch = spoken(3)
    lips, sounds = plain._changed(batch)
    torch.testing.assert_close(lips, batch["lips"])
    stage = made()
    first, second = stage.validate(batch), stage.validate(batch)
    assert {name: float(value) for name, value in first.items()} == {
        name: float(value) for name, value in second.items()
    }
    changed, heard = stage._changed(batch)
    assert changed.shape == (3, 53, SEEN) and heard.shape == (3, 4 * 60, 40)
    assert sounds.shape == (3, 4 * 67, 40)


def test_stretched_lips_and_sound_stay_together() -> None:
    stage = made(stretch=0.3, tract=0.0, amplitude=0.0, turn=0.0, tilt=0.0, mirror=False)
    batch = spoken(8)
    lips, sounds = stage._changed(batch)
    seen = lips[:, :, 1]
    heard = sounds.mean(dim=2)[:, 14 : 14 + 4 * lips.shape[1]].unflatten(1, (-1, 4)).mean(dim=2)
    for a, b in zip(seen, heard, strict=True):
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) > 0.97


def test_it_learns_that_loud_mouths_are_open() -> None:
    stage = made(learning_rate=1e-2)
    optimizer = stage.optimizers()["expert"]
    scheduler = stage.schedulers({"expert": optimizer})["expert"]
    held_out = spoken(4, seed=100)
    network = stage.networks["expert"]
    before = float(stage.validate(held_out)["rank"])
    for step in range(60):
        network.train()
        (update,) = stage.updates(spoken(8, seed=step), START)
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
        scheduler.step()
    network.eval()
    after = float(stage.validate(held_out)["rank"])
    assert after > 0.95 > 0.9 > before


def test_the_learning_rate_rises_and_falls() -> None:
    stage = made(train=TrainConfig(batch_size=1, steps=100))
    rates = [stage.rate_at(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] == rates[10] == 1
    assert rates[55] == pytest.approx(0.5) and rates[100] == 0 and stage.rate_at(150) == 0


# The method ---------------------------------------------------------------------------------------------------------


def test_the_preset_makes_a_method() -> None:
    loaded = load_config("sync-expert", "landmarks", [], [], Path("run")).method_config
    assert isinstance(loaded, SyncExpertConfig) and isinstance(loaded.expert, LandmarkConfig)
    method = SyncExpert(loaded, DataInfo())
    assert method.stages["expert"].networks["expert"] is method.networks["expert"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("preset", "word", "message"),
    [
        ("landmarks", "expert.channls=3", "expert.channls: no such key; did you mean expert.channels"),
        ("landmarks", "expert.width=0.5", "expert.width: the form that the table has by its other keys"),
        ("tiny", "expert.view=landmarks", "expert.width: the form that the table has by its other keys"),
        ("landmarks", "expert.train.steps=none", "expert: the learning rate follows the number of steps"),
        ("landmarks", "expert.train=3", "expert.train=3: must be a table"),
        ("tiny", "expert=3", "expert=3: must be a table"),
        ("tiny", "expert.view=face97", "expert.view=face97: must be 'face96', 'face128' or 'mouth416x320'"),
    ],
)
def test_messages_name_the_key(preset: str, word: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        load_config("sync-expert", preset, [word], [], Path("run"))


def test_windows_that_leave_no_wrong_sound_are_refused() -> None:
    with pytest.raises(
        ValidationError, match="windows of 52 frames have no wrong sound 3 frames away in the 53"
    ):
        config(lengths=(10, 52))
