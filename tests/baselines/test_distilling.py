"""The expert that landmarks teach: its network, its teacher, and its stage."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from baselines.sync_expert.distilling import TaughtStage
from baselines.sync_expert.method import SyncExpert, SyncExpertConfig
from baselines.sync_expert.network import FrameEncoder, SyncNet
from baselines.sync_expert.stage import ExpertConfig
from baselines.sync_expert.teaching import (
    LipReader,
    TeachConfig,
    aligned_lips,
    mirrored_lips,
    other_sound,
    varied,
)
from models.base import DataInfo, Progress, TrainConfig
from prep.landmark_sets import LEFT_EYE, LIPS, RIGHT_EYE
from prep.sample_spec import SampleSpec, Sound
from prep.sampling import check_spec, columns_of

LIP_PLACES, RIGHT_PLACES, LEFT_PLACES = LIPS.tolist(), RIGHT_EYE.tolist(), LEFT_EYE.tolist()
SOUND_FROM = 5


def config(**changes: Any) -> ExpertConfig:
    values: dict[str, Any] = {
        "width": 0.1,
        "coarse": True,
        "apart": True,
        "windows": 14,
        "stride": 1,
        "far": 8,
        "contrast": 1.0,
        "flip": True,
        "learning_rate": 5e-3,
        "teach": TeachConfig(first=SOUND_FROM, averages=(3, 6), entropy=0.5, vary=0.2),
        "train": TrainConfig(batch_size=4, steps=60),
        **changes,
    }
    return ExpertConfig(**values)


def made(**changes: Any) -> TaughtStage:
    torch.manual_seed(0)
    settings = config(**changes)
    return TaughtStage(settings, settings.build())


def face(seed: int = 0) -> Tensor:
    """(478, 2): random points, the left eye right of the right one."""
    points = torch.rand(478, 2, generator=torch.Generator().manual_seed(seed)) * 100
    points[RIGHT_PLACES, 0] -= 60
    points[LEFT_PLACES, 0] += 60
    return points


def speaking(n: int, seed: int = 0) -> dict[str, Any]:
    """Mouths that open at random, as a dark bar, in the landmarks and as the level of the sound."""
    rng = torch.Generator().manual_seed(seed)
    frames = 18
    opened = torch.rand(n, frames, generator=rng)
    opened = nn.functional.avg_pool1d(opened[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    rows = torch.arange(96.0)[:, None].expand(96, 96)
    bar = ((rows - 72).abs()[None, None] < 2 + 20 * opened[:, :, None, None]).float()
    pictures = 200 - 120 * bar + 10 * torch.randn(n, 1, 96, 96, generator=rng)
    landmarks = face()[None, None].repeat(n, frames, 1, 1)
    below = torch.tensor([place for place in LIP_PLACES if face()[place, 1] > 50])
    landmarks[:, :, below, 1] += 30 * opened[:, :, None]
    heard = opened.unfold(1, 1, 1).expand(n, frames, 16)
    # Column c of the 16 of a frame lies c / 3.2 frames later.
    later = (torch.arange(frames)[:, None] + torch.arange(16) / 3.2).long().clamp(max=frames - 1)
    heard = opened[:, later]
    bands = torch.linspace(-1, 1, 80)[:, None]
    return {
        "clip": [f"clip{i}" for i in range(n)],
        "images": pictures.clamp(0, 255).to(torch.uint8)[:, :, None].expand(n, frames, 3, 96, 96),
        "landmarks": landmarks,
        "frame_mel": (4 * heard[:, :, None] - 2) * bands,
    }


# The network -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("view", "coarse"), [("face96", True), ("face96", False), ("mouth416x320", True)])
def test_frames_are_encoded_one_by_one_and_joined(view: str, coarse: bool) -> None:
    torch.manual_seed(0)
    network = SyncNet(view, 0.05, coarse, apart=True).eval()
    encoder = network.face_encoder
    assert isinstance(encoder, FrameEncoder)
    lips = torch.rand(3, 15, network.seen.height, network.seen.width)
    with torch.no_grad():
        whole = network.see(lips)
        one_by_one = [encoder.features(encoder.smaller(lips[:, 3 * t : 3 * t + 3])) for t in range(5)]
        joined = encoder.join(torch.stack(one_by_one, dim=1)).flatten(1)
    torch.testing.assert_close(whole, nn.functional.normalize(joined, dim=1))
    assert whole.shape == network.hear(torch.rand(3, 80, 16)).shape == (3, 26)
    assert (whole >= 0).all()
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(3))


def test_brightness_and_colour_of_a_frame_are_not_seen() -> None:
    torch.manual_seed(0)
    encoder = SyncNet(width=0.05, coarse=True, apart=True).eval().face_encoder
    assert isinstance(encoder, FrameEncoder)
    frames = torch.rand(2, 3, 24, 48)
    with torch.no_grad():
        seen = encoder.features(frames)
        darker = encoder.features(frames * 0.7 + torch.tensor([0.1, 0.0, 0.2])[:, None, None])
        other = encoder.features(frames.flip(2))
    assert (seen - darker).abs().max() < 0.1 * (seen - other).abs().max()


def test_pictures_get_a_gradient_from_a_frozen_expert() -> None:
    torch.manual_seed(0)
    network = SyncNet(width=0.1, coarse=True, apart=True).eval().requires_grad_(False)
    lips = torch.rand(2, 15, 48, 96, requires_grad=True)
    (network.see(lips) * network.hear(torch.rand(2, 80, 16))).sum().backward()
    assert lips.grad is not None and (lips.grad.unflatten(1, (5, 3)).abs().amax(dim=(2, 3, 4)) > 0).all()


# The teacher -------------------------------------------------------------------------------------------------------


def test_lips_keep_their_movement_and_lose_that_of_the_head() -> None:
    still = face()[None, None].repeat(1, 6, 1, 1)
    opened = still.clone()
    opened[0, 3, LIP_PLACES[0], 1] += 5
    rng = torch.Generator().manual_seed(1)
    turn = torch.rand(6, generator=rng) - 0.5
    turned = torch.polar(torch.rand(6, generator=rng) + 0.5, turn)[None, :, None]
    plane = (
        torch.complex(opened[..., 0], opened[..., 1]) * turned
        + torch.complex(turn, -turn)[None, :, None] * 40
    )
    found, expected = aligned_lips(torch.stack([plane.real, plane.imag], dim=-1)), aligned_lips(opened)
    assert found.shape == (1, 6, 80)
    torch.testing.assert_close(found[0, 1], found[0, 0], atol=1e-4, rtol=0)
    # The mean is that of other turns: the same but for the scale, about 1.
    moved, should = found - aligned_lips(still), expected - aligned_lips(still)
    assert should[0, 3].abs().max() > 0.05
    torch.testing.assert_close(found[0, 3] - found[0, 0], expected[0, 3] - expected[0, 0], atol=2e-3, rtol=0)
    assert moved[0, 0].abs().max() < 0.02


def test_lips_of_a_mirrored_face_are_mirrored_lips() -> None:
    points = face()[None, None] + torch.randn(2, 5, 478, 2, generator=torch.Generator().manual_seed(2))
    mirror = points.clone()
    mirror[..., 0] = -points[..., 0]
    mirror[:, :, RIGHT_PLACES + LEFT_PLACES] = mirror[:, :, LEFT_PLACES + RIGHT_PLACES]
    # Of each ring, the upper lip runs from corner to corner, and the lower one back.
    rings = [[*range(10, -1, -1), *range(19, 10, -1)], [*range(30, 19, -1), *range(39, 30, -1)]]
    lips = mirror[:, :, LIP_PLACES]
    mirror[:, :, LIP_PLACES] = lips[:, :, rings[0] + rings[1]]
    torch.testing.assert_close(
        aligned_lips(mirror), mirrored_lips(aligned_lips(points)), atol=1e-4, rtol=1e-4
    )
    assert LIPS[rings[0][0]] == 291 and LIPS[rings[1][0]] == 308  # The other corners of both rings.


def test_the_error_is_1_for_nothing_and_0_for_all() -> None:
    reader = LipReader(80)
    rng = torch.Generator().manual_seed(0)
    lips = torch.randn(4, 30, 80, generator=rng) * torch.linspace(0.1, 3, 80)
    with torch.no_grad():
        reader.read.weight.zero_()
        assert float(reader(torch.rand(4, 30, 80), lips)) == pytest.approx(1, abs=1e-4)
        reader.eval()
        spread, directions = torch.linalg.eigh(reader.covariance)
        reader.read.weight.copy_((directions * (spread + spread[-1] / 10).rsqrt()) @ directions.T)
        # What does not change over the sample, such as the face, is not counted.
        assert float(reader(lips + 7, lips - torch.rand(4, 1, 80))) == pytest.approx(0, abs=1e-4)
        half = float(reader(lips / 2, lips))
    assert half == pytest.approx(0.25, abs=1e-3)


def test_the_frames_of_a_sample_vary_together() -> None:
    torch.manual_seed(0)
    frames = torch.rand(8, 1, 3, 24, 48).expand(8, 4, 3, 24, 48)
    moved, mirrored = varied(frames, 1.0, mirror=True)
    assert moved.shape == frames.shape and 0 < int(mirrored.sum()) < 8
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved))
    assert ((moved - frames).abs().mean(dim=(1, 2, 3, 4)) > 0.02).all()
    same, none = varied(frames, 0.0, mirror=False)
    assert torch.equal(same, frames) and not none.any()
    half, which = varied(frames, 0.0, mirror=True)
    assert torch.equal(half, torch.where(which[:, None, None, None, None], frames.flip(-1), frames))


def test_small_variations_keep_the_picture_and_mirror_it() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 48).expand(6, 2, 3, 24, 48)
    moved, mirrored = varied(ramp, 0.01, mirror=True)
    rises = moved[:, 0, 0, :, -1].mean(dim=1) > moved[:, 0, 0, :, 0].mean(dim=1)
    assert torch.equal(rises, ~mirrored) and 0 < int(mirrored.sum()) < 6
    expected = torch.where(mirrored[:, None, None, None, None], ramp.flip(-1), ramp)
    assert (moved - expected).abs().max() < 0.05


def test_sound_changes_by_one_colour_a_sample() -> None:
    torch.manual_seed(0)
    mels = torch.rand(3, 7, 80, 16)
    change = other_sound(mels, 1.0) - mels
    torch.testing.assert_close(change, change[:, :1, :, :1].expand_as(change))
    assert change[:, 0, :, 0].std() > 0.2
    assert torch.equal(other_sound(mels, 0.0), mels)


# The stage ---------------------------------------------------------------------------------------------------------


def test_a_stretch_with_its_landmarks_is_asked_for() -> None:
    sample = made().sample
    check_spec(sample)
    assert sorted(columns_of(sample)) == ["face96", "landmarks", "mel"]
    assert (sample.window, sample.view_frames) == (18, tuple(range(18)))
    assert (sample.frame_sounds, sample.landmarks) == ((Sound("mel"),), "mesh478")


def test_sound_is_heard_once_landmarks_were_learnt() -> None:
    stage, batch = made(), speaking(4)
    (early,) = stage.updates(batch, Progress(SOUND_FROM - 1, 0))
    assert set(early.logs) == {"landmarks"}
    assert early.loss.item() == pytest.approx(4 * early.logs["landmarks"].item(), rel=1e-5)
    (update,) = stage.updates(batch, Progress(SOUND_FROM, 0))
    logs = {name: value.item() for name, value in update.logs.items()}
    assert set(logs) == {"landmarks", "loss", "contrast", "accuracy", "cosine_sync", "cosine_shifted"}
    assert update.loss.item() == pytest.approx(
        4 * logs["landmarks"] + logs["loss"] / 2 + logs["contrast"], rel=1e-5
    )
    assert stage.changes(10.0) == (SOUND_FROM,)
    update.loss.backward()
    # A bias before a normalisation has no effect, and so no gradient but rounding.
    without = [
        name
        for network in stage.networks.values()
        for name, parameter in network.named_parameters()
        if not name.endswith("0.bias") and not (parameter.grad is not None and parameter.grad.abs().max() > 0)
    ]
    assert without == []


def test_the_contrast_compares_means_of_centred_scores() -> None:
    stage = made(temperature=0.2)
    rng = torch.Generator().manual_seed(0)
    seen, heard = (nn.functional.normalize(torch.rand(2, 14, 6, generator=rng), dim=2) for _ in "ab")
    found, scores = stage._averaged(seen, heard)
    lips, sounds = (x - x.mean(dim=1, keepdim=True) for x in (seen, heard))
    losses = []
    for length in (3, 6):
        places = 14 - length + 1
        for clip in range(2):
            table = torch.zeros(places, places)
            for i in range(places):
                for j in range(places):
                    table[i, j] = (
                        sum(float(lips[clip, i + k] @ sounds[clip, j + k]) for k in range(length)) / length
                    )
            if length == 6:
                torch.testing.assert_close(scores[clip], table, atol=1e-5, rtol=0)
            for picked in (table, table.T):
                for i in range(places):
                    among = [j for j in range(places) if j == i or abs(i - j) >= 2]
                    logits = picked[i, among] * math.sqrt(length) / 0.2
                    losses.append(((logits.logsumexp(0) - logits[among.index(i)]) / places, length))
    means = [sum(float(value) for value, of in losses if of == length) / 4 for length in (3, 6)]
    assert float(found) == pytest.approx(sum(means) / 2, abs=1e-5)


def test_the_rate_rises_and_falls() -> None:
    stage = made(learning_rate=1e-3)
    optimizers = stage.optimizers()
    schedule = stage.schedulers(optimizers)["expert"]
    rates = []
    for _ in range(61):
        rates.append(optimizers["expert"].param_groups[0]["lr"])
        optimizers["expert"].step()
        schedule.step()
    assert rates[0] == pytest.approx(5e-5) and rates[6] == pytest.approx(1e-3) == max(rates)
    assert rates[33] == pytest.approx(5e-4) and rates[60] == pytest.approx(0, abs=1e-9)


def test_it_learns_where_the_lips_are_and_what_they_say() -> None:
    # Mirrored, these pictures are the same and their landmarks are not.
    stage = made(flip=False)
    optimizer = stage.optimizers()["expert"]
    schedule = stage.schedulers({"expert": optimizer})["expert"]
    held_out = speaking(8, seed=99)

    def figures() -> dict[str, float]:
        for network in stage.networks.values():
            network.eval()
        found = {name: float(value) for name, value in stage.validate(held_out).items()}
        assert found == {name: float(value) for name, value in stage.validate(held_out).items()}
        return found

    for step in range(60):
        for network in stage.networks.values():
            network.train()
        (update,) = stage.updates(speaking(4, seed=step), Progress(step, 0))
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
        schedule.step()
    after = figures()
    assert after["landmarks"] < 0.5
    assert after["rank_mean"] > 0.8
    assert set(after) == {
        *("landmarks", "loss", "contrast", "rank", "rank_mean"),
        *("accuracy", "cosine_sync", "cosine_shifted"),
    }


def test_what_is_shown_is_what_is_seen() -> None:
    batch = speaking(2)
    shown = made().samples(batch)
    for name, frame in (("first", 0), ("last", 4)):
        torch.testing.assert_close(shown[name], batch["images"][:, frame, :, 48:].float() / 255)


def test_it_is_not_stuck_before_it_hears_anything() -> None:
    stage = made(stuck_after=3)
    assert stage.hint({"landmarks": 0.9}, Progress(SOUND_FROM - 1, 0)) is None
    assert stage.hint({"loss": 0.7}, Progress(SOUND_FROM + 1, 0)) is None
    assert "stuck" in str(stage.hint({"loss": 0.7}, Progress(SOUND_FROM + 3, 0)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"apart": False}, "take apart=true, stride=1"),
        ({"stride": 2}, "take apart=true, stride=1"),
        ({"train": TrainConfig(batch_size=1, epochs=3)}, "a number of train.steps"),
        (
            {"windows": 9, "far": 5, "teach": TeachConfig(averages=(8,))},
            "9 windows cannot be compared by means over 8",
        ),
        ({"teach": TeachConfig(averages=())}, "teach.averages is empty"),
    ],
)
def test_options_that_do_not_go_together_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**changes)


def test_the_reader_of_landmarks_is_trained_and_not_needed() -> None:
    method = SyncExpert(SyncExpertConfig(expert=config()), DataInfo())
    assert set(method.networks) == {"expert", "lip_reader"} == set(method.stages["expert"].networks)
    assert method.needed_networks == ("expert",)
    untaught = SyncExpert(SyncExpertConfig(expert=config(teach=None)), DataInfo())
    assert set(untaught.networks) == {"expert"} and not isinstance(untaught.stages["expert"], TaughtStage)
    assert json.loads(json.dumps(method.stages["expert"].state_dict())) == {"learnt_at": 0}


def test_a_large_view_comes_smaller_and_is_seen_the_same() -> None:
    stage = made(view="mouth416x320")
    check_spec(stage.sample)
    assert isinstance(stage.sample, SampleSpec) and stage.sample.size == (104, 80)
    large = torch.randint(0, 256, (2, 18, 3, 416, 320), dtype=torch.uint8)
    small = nn.functional.avg_pool2d(large.flatten(0, 1).float(), 4).unflatten(0, (2, 18))
    seen = nn.functional.avg_pool2d(large[..., 128:384, 32:288].flatten(0, 1).float(), 8) / 255
    torch.testing.assert_close(stage._frames({"images": small}).flatten(0, 1), seen.flip(1))
