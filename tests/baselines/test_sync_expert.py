from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from baselines.sync_expert.embedding import embed_lips, embed_sounds
from baselines.sync_expert.method import SyncExpert, SyncExpertConfig
from baselines.sync_expert.network import SyncNet, cosine_bce
from baselines.sync_expert.stage import ExpertConfig, ExpertStage
from bench.common.errors import BenchError
from bench.common.methods import get_talker
from bench.train.config import load_config
from models.base import DataInfo, Progress, TrainConfig
from prep.sample_spec import Sound
from prep.sampling import check_spec, columns_of
from tests.baselines import official

START = Progress(0, 0.0)
#: Distances between three windows of a clip, 2 frames apart: own, near at 2, far at 4.
THREE: dict[str, Any] = {"windows": 3, "stride": 2, "far": 4, "near": 2}


def config(**changes: Any) -> ExpertConfig:
    values: dict[str, Any] = {"width": 0.05, "far": 4, "train": TrainConfig(batch_size=4), **changes}
    return ExpertConfig(**values)


def made(**changes: Any) -> ExpertStage:
    torch.manual_seed(0)
    settings = config(**changes)
    return ExpertStage(settings, settings.build())


def batch_of(n: int, seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    return {
        "clip": [f"clip{i}" for i in range(n)],
        "images": torch.randint(0, 256, (n, 5, 3, 96, 96), dtype=torch.uint8),
        "window_mel": torch.rand(n, 80, 16) * 8 - 4,
        "negative_mel": torch.rand(n, 80, 16) * 8 - 4,
    }


def three_of(n: int) -> dict[str, Any]:
    """Three windows of each clip; pictures and chunks hold the number of their frame."""
    frames = torch.arange(9)
    return {
        "clip": [f"clip{i}" for i in range(n)],
        "images": frames.to(torch.uint8)[:, None, None, None].expand(n, 9, 3, 96, 96),
        "frame_mel": frames.float()[:, None, None].expand(n, 9, 80, 16),
    }


class Told(nn.Module):
    """In the place of the network: the window that starts with picture i and chunk j have ``cosine(i, j)``."""

    def __init__(self, cosine: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.cosine = cosine
        self.heard = torch.empty(0)

    def lips(self, frames: Tensor) -> Tensor:
        return frames.flatten(1, 2)

    def see(self, lips: Tensor) -> Tensor:
        # What is seen asks for a sound: the cosine with chunk j stands at place j.
        first = (lips[:, 0, 0, 0] * 255).round()
        return self.cosine(first[:, None], torch.arange(10.0).expand(len(lips), 10))

    def hear(self, mels: Tensor) -> Tensor:
        self.heard = mels[:, 0, 0]
        return nn.functional.one_hot(self.heard.long(), 10).float()


def told(cosine: Callable[[Tensor, Tensor], Tensor], **changes: Any) -> tuple[ExpertStage, Told]:
    network = Told(cosine)
    return ExpertStage(config(**changes), network), network  # type: ignore[arg-type]


# The network -------------------------------------------------------------------------------------------------------


def test_embeddings_are_the_official_ones() -> None:
    network = official.loaded("wav2lip_syncnet", SyncNet())
    given, expected = official.inputs("wav2lip_syncnet"), official.outputs("wav2lip_syncnet")
    with torch.no_grad():
        sounds, lips = network(given["mel"][:, 0], given["lips"])
    np.testing.assert_allclose(sounds, expected["audio_embedding"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(lips, expected["face_embedding"], rtol=0, atol=1e-4)


def test_the_loss_is_the_official_one() -> None:
    given = official.inputs("wav2lip_losses")
    a, v = (nn.functional.normalize(given[name], dim=1) for name in "av")
    cosines, belong = (a * v).sum(dim=1), given["y"][:, 0] > 0.5
    share = belong.float().mean()
    loss = share * cosine_bce(cosines[belong], 1) + (1 - share) * cosine_bce(cosines[~belong], 0)
    assert 0 < share < 1
    assert float(loss) == pytest.approx(float(official.outputs("wav2lip_losses")["cosine_bce"]), abs=1e-5)


@pytest.mark.parametrize("target", [0, 1])
def test_the_loss_and_its_gradient_are_finite_at_the_ends(target: int) -> None:
    cosine = torch.tensor([0.0, 1e-30, 1e-5, 1 - 1e-7, 1.0, 1.0000002, -1e-9], requires_grad=True)
    loss = cosine_bce(cosine, target)
    loss.backward()
    assert cosine.grad is not None
    assert torch.isfinite(loss) and torch.isfinite(cosine.grad).all()
    assert cosine_bce(torch.tensor(0.5), target).item() == pytest.approx(math.log(2))


def test_it_sees_the_lower_half_in_blue_green_red_frame_after_frame() -> None:
    frames = torch.rand(2, 5, 3, 96, 96)
    lips = SyncNet(width=0.01).lips(frames)
    assert lips.shape == (2, 15, 48, 96)
    for t in range(5):
        for c in range(3):
            torch.testing.assert_close(lips[:, 3 * t + c], frames[:, t, 2 - c, 48:])


def test_it_sees_the_mouth_region_of_larger_faces() -> None:
    network = SyncNet("mouth416x320", width=0.05).eval()
    frames = torch.rand(2, 5, 3, 416, 320)
    lips = network.lips(frames)
    torch.testing.assert_close(lips[:, :3].flip(1), frames[:, 0, :, 128:384, 32:288])
    with torch.no_grad():
        sounds, faces = network(torch.rand(2, 80, 16), lips)
    assert sounds.shape == faces.shape == (2, 26)
    torch.testing.assert_close(faces.norm(dim=1), torch.ones(2))


def test_a_coarse_expert_looks_at_half_the_pixels() -> None:
    lips = torch.rand(2, 15, 48, 96)
    fine, coarse = SyncNet(width=0.05).eval(), SyncNet(width=0.05, coarse=True).eval()
    assert fine.face_encoder[0](lips).shape[2:] == (48, 96)
    assert coarse.face_encoder[0](lips).shape[2:] == (24, 48)
    with torch.no_grad():
        torch.testing.assert_close(coarse.see(lips).norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(("width", "size"), [(0.25, 128), (0.05, 26), (0.0001, 1)])
def test_width_scales_the_embeddings(width: float, size: int) -> None:
    with torch.no_grad():
        sounds, lips = SyncNet(width=width)(torch.rand(2, 80, 16), torch.rand(2, 15, 48, 96))
    assert sounds.shape == lips.shape == (2, size)


# The stage ---------------------------------------------------------------------------------------------------------


def test_one_window_is_asked_for_as_the_official_code_does() -> None:
    sample = made().sample
    check_spec(sample)
    assert columns_of(sample) == ["face96", "mel"]
    assert (sample.window, sample.view_frames, sample.negative_gap) == (5, (0, 1, 2, 3, 4), 4)
    assert (sample.window_sounds, sample.frame_sounds) == ((Sound("mel"),), ())


def test_windows_are_asked_for_with_what_they_show_and_no_more() -> None:
    sample = made(windows=3, stride=7, far=7).sample
    check_spec(sample)
    assert columns_of(sample) == ["face96", "mel"]
    assert sample.window == 19
    assert sample.view_frames == (0, 1, 2, 3, 4, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18)
    assert (sample.frame_sounds, sample.window_sounds, sample.negative_gap) == ((Sound("mel"),), (), 0)


def test_right_and_wrong_sound_weigh_the_same() -> None:
    stage, network = told(lambda _, chunk: 0.1 + 0.7 * (chunk == 1))
    batch = batch_of(3)
    batch["window_mel"] = torch.ones(3, 80, 16)
    batch["negative_mel"] = torch.full((3, 80, 16), 2.0)
    (update,) = stage.updates(batch, START)
    assert network.heard.tolist() == [1.0, 2.0] * 3
    assert update.loss.item() == pytest.approx(-(math.log(0.8) + math.log(0.9)) / 2)
    figures = {name: float(value) for name, value in update.logs.items()}
    assert figures == pytest.approx(
        {"loss": update.loss.item(), "accuracy": 1.0, "cosine_sync": 0.8, "cosine_shifted": 0.1}
    )


def test_near_sound_comes_when_it_is_due() -> None:
    stage = made(**THREE, near_from=100, near_over=9, near_share=0.4)
    shares = [stage.near_weight(step) for step in (0, 99, 100, 104, 109, 5000)]
    assert shares == pytest.approx([0, 0, 0.04, 0.2, 0.4, 0.4])
    assert made().near_weight(10**6) == 0
    # Two frames apart are far enough, and none is nearer.
    assert made(windows=3, stride=2, far=2).near_weight(10**6) == 0


def test_windows_meet_their_own_far_and_near_sound() -> None:
    def cosine(window: Tensor, chunk: Tensor) -> Tensor:
        apart = (window - chunk).abs()
        return torch.where(apart == 0, 0.9, torch.where(apart == 2, 0.6, 0.2))

    stage, network = told(cosine, **THREE, near_from=10, near_share=0.25)
    (update,) = stage.updates(three_of(2), START)
    assert network.heard.tolist() == [0.0, 2.0, 4.0] * 2
    assert update.loss.item() == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2)
    (update,) = stage.updates(three_of(2), Progress(10, 0))
    wrong = 0.75 * math.log(0.8) + 0.25 * math.log(0.4)
    assert update.loss.item() == pytest.approx(-(math.log(0.9) + wrong) / 2)
    assert float(update.logs["cosine_shifted"]) == pytest.approx(0.2)


def test_the_contrast_picks_right_sounds_and_right_windows() -> None:
    # Window 0 meets chunk 4 with 0.5, where window 4 meets chunk 0 with 0.1.
    table = torch.zeros(10, 10)
    table[[0, 2, 4], [0, 2, 4]] = 0.7
    table[0, 4], table[4, 0] = 0.5, 0.1

    def cosine(window: Tensor, chunk: Tensor) -> Tensor:
        return table[window.long(), chunk.long()]

    def picked(right: float, *others: float) -> float:
        return math.log(sum(math.exp((other - right) / 0.1) for other in (right, *others)))

    settings = {**THREE, "contrast": 2.0, "temperature": 0.1}
    stage, _ = told(cosine, **settings, near_from=10)
    (update,) = stage.updates(three_of(2), START)
    # Far sound only: the middle window has none.
    row = (picked(0.7, 0.5) + 0 + picked(0.7, 0.1)) / 3
    assert float(update.logs["contrast"]) == pytest.approx(row, abs=1e-5)
    assert update.loss.item() == pytest.approx(float(update.logs["loss"] + 2 * update.logs["contrast"]))
    (update,) = stage.updates(three_of(2), Progress(10, 0))
    row = (picked(0.7, 0, 0.5) + picked(0.7, 0, 0) + picked(0.7, 0.1, 0)) / 3
    assert float(update.logs["contrast"]) == pytest.approx(row, abs=1e-5)


def test_the_contrast_of_one_window_is_with_its_wrong_sound() -> None:
    stage, _ = told(lambda _, chunk: 0.2 + 0.5 * (chunk == 1), contrast=1.0)
    batch = batch_of(2)
    batch["window_mel"] = torch.ones(2, 80, 16)
    batch["negative_mel"] = torch.full((2, 80, 16), 2.0)
    (update,) = stage.updates(batch, START)
    assert float(update.logs["contrast"]) == pytest.approx(math.log(1 + math.exp(-5)), abs=1e-5)


def test_windows_are_mirrored_by_halves() -> None:
    stage = made(flip=True)
    seen: list[Tensor] = []
    stage.networks["expert"].face_encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    batch = batch_of(64)
    list(stage.updates(batch, START))
    lips = SyncNet(width=0.01).lips(batch["images"].float() / 255)
    same = (seen[0] == lips).flatten(1).all(dim=1)
    mirrored = (seen[0] == lips.flip(-1)).flatten(1).all(dim=1)
    assert bool((same ^ mirrored).all())
    assert 16 < int(mirrored.sum()) < 48


def test_the_gradient_reaches_every_parameter() -> None:
    stage = made(width=0.1)
    (update,) = stage.updates(batch_of(4), START)
    update.loss.backward()
    # A bias before a normalisation has no effect, and so no gradient but rounding.
    without = [
        name
        for name, parameter in stage.networks["expert"].named_parameters()
        if not name.endswith("0.bias") and not (parameter.grad is not None and parameter.grad.abs().max() > 0)
    ]
    assert without == []
    assert list(stage.optimizers()) == ["expert"]


def test_it_learns_a_few_windows_by_heart() -> None:
    stage = made(width=0.1, learning_rate=3e-3)
    batch, optimizer = batch_of(4), stage.optimizers()["expert"]
    for _ in range(25):
        (update,) = stage.updates(batch, START)
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
    assert update.loss.item() < 0.4
    assert update.logs["accuracy"].item() == 1


def test_validation_ranks_far_and_near_sound() -> None:
    # Far sound ties at one of two windows; one of four near ones is above the right one.
    table = torch.zeros(10, 10)
    table[[0, 2, 4], [0, 2, 4]] = torch.tensor([0.8, 0.6, 0.4])
    table[0, 4], table[4, 0] = 0.7, 0.4
    table[4, 2] = 0.9
    stage, _ = told(lambda window, chunk: table[window.long(), chunk.long()], **THREE)
    found = {name: float(value) for name, value in stage.validate(three_of(2)).items()}
    assert found["rank"] == pytest.approx(0.75)
    assert found["rank_near"] == pytest.approx(0.75)
    assert found["accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["cosine_sync"] == pytest.approx(0.6) and found["cosine_shifted"] == pytest.approx(0.55)
    assert found == {name: float(value) for name, value in stage.validate(three_of(2)).items()}


def test_without_near_sound_none_is_ranked() -> None:
    assert "rank_near" not in made().validate(batch_of(2))


def test_the_log_says_once_it_is_stuck() -> None:
    stage = made(stuck_after=500)
    assert stage.hint({"loss": 0.694}, Progress(400, 0)) is None
    assert stage.hint({"loss": 0.6}, Progress(450, 0)) is None
    assert stage.hint({"loss": 0.69}, Progress(900, 0)) is None
    first = stage.hint({"loss": 0.70}, Progress(950, 0))
    assert first is not None and "0.693" in first and "expert.contrast" in first
    assert stage.hint({"loss": 0.69}, Progress(1500, 0)) == first
    assert stage.hint({"loss": 0.5}, Progress(1600, 0)) is None


def test_what_the_stage_remembers_survives_json() -> None:
    stage, other = made(stuck_after=500), made(stuck_after=500)
    stage.hint({"loss": 0.5}, Progress(1000, 0))
    other.load_state_dict(json.loads(json.dumps(stage.state_dict())))
    assert other.hint({"loss": 0.7}, Progress(1499, 0)) is None
    assert other.hint({"loss": 0.7}, Progress(1500, 0)) is not None


def test_samples_show_what_is_seen() -> None:
    batch = batch_of(2)
    shown = made().samples(batch)
    for name, frame in (("first", 0), ("last", 4)):
        torch.testing.assert_close(shown[name], batch["images"][:, frame, :, 48:].float() / 255)


def test_windows_too_close_for_far_sound_are_refused() -> None:
    with pytest.raises(ValidationError, match="3 windows, 2 frames from one to the next, reach 4 frames"):
        config(windows=3, stride=2, far=5)


# Embeddings of clips -------------------------------------------------------------------------------------------------


def test_a_clip_is_embedded_window_by_window() -> None:
    torch.manual_seed(0)
    network = SyncNet(width=0.1).eval()
    frames = torch.randint(0, 256, (9, 3, 96, 96), dtype=torch.uint8)
    mels = torch.rand(7, 80, 16)
    lips, sounds = embed_lips(network, frames, batch_size=2), embed_sounds(network, mels, batch_size=3)
    with torch.no_grad():
        expected = torch.cat(
            [network.see(network.lips(frames[None, t : t + 5].float() / 255)) for t in range(5)]
        )
        torch.testing.assert_close(lips, expected)
        torch.testing.assert_close(sounds, network.hear(mels))
    with pytest.raises(ValueError, match="4 frames are no window of 5"):
        embed_lips(network, frames[:4])


# The method ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["paper", "tiny"])
def test_presets_make_a_method(preset: str) -> None:
    loaded = load_config("sync-expert", preset, [], [], Path("run")).method_config
    assert isinstance(loaded, SyncExpertConfig)
    method = SyncExpert(loaded, DataInfo())
    stage = method.stages["expert"]
    assert stage.networks["expert"] is method.networks["expert"]
    assert stage.train.monitor in {"loss", "accuracy", "contrast"}


def test_it_makes_no_videos() -> None:
    with pytest.raises(BenchError, match="sync-expert generates no videos"):
        get_talker("sync-expert")


def test_official_weights_are_taken_as_they_are_published() -> None:
    state = official.weights("wav2lip_syncnet")
    content: Any = {"state_dict": {f"module.{key}": value for key, value in state.items()}, "global_step": 1}
    taken = SyncExpert.from_official(content)
    assert list(taken) == ["expert"]
    SyncNet().load_state_dict(taken["expert"])
    assert SyncExpert.from_official(state)["expert"].keys() == state.keys()


def test_other_weights_are_refused() -> None:
    state = official.weights("wav2lip_syncnet")
    first = next(iter(state))
    with pytest.raises(ValueError, match="the expert network misses " + first):
        SyncExpert.from_official({key: value for key, value in state.items() if key != first})
    with pytest.raises(ValueError, match="the expert network has no odd"):
        SyncExpert.from_official({**state, "odd": torch.zeros(1)})
    with pytest.raises(ValueError, match=rf"{first} of the expert network is \(1,\), not \(32, 15, 7, 7\)"):
        SyncExpert.from_official({**state, first: torch.zeros(1)})
    with pytest.raises(ValueError, match="no table of tensors"):
        SyncExpert.from_official({"state_dict": torch.zeros(1)})
