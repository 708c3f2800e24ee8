from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from bench.train.config import load_config
from models.base import DataInfo, Progress
from models.g4g.landmarks import draw_landmarks
from models.g4g.masks import regions
from models.g4g.method import G4G, G4GMethodConfig
from models.g4g.stages import G4GStage, landmark_pictures
from models.layers.mouth_square import MouthSquare
from prep.sample_spec import Sound
from prep.sampling import check_spec, columns_of

START = Progress(0, 0.0)
TRAIN = {"batch_size": 2, "steps": 10}
SMALL = {
    "width": 1 / 16,
    "blocks": 1,
    "references": 2,
    "expert_width": 1 / 16,
    "expert_coarse": True,
    "expert_apart": True,
    "lambda_p": 0.0,
}


def method_of(**changes: Any) -> G4G:
    """Small, with the stages ``frame64`` and ``clip`` at 104×80."""
    torch.manual_seed(0)
    tables = {"g4g": {**SMALL, **changes}, "frame64": {"train": TRAIN}, "clip": {"mouth": 64, "train": TRAIN}}
    return G4G(G4GMethodConfig.model_validate(tables), DataInfo())


def stage_of(name: str = "clip", **changes: Any) -> G4GStage:
    stage = method_of(**changes).stages[name]
    assert isinstance(stage, G4GStage)
    for network in stage.networks.values():
        network.train()
    for network in stage.frozen.values():
        network.eval().requires_grad_(False)
    return stage


def sample_of(stage: G4GStage, seed: int = 1) -> dict[str, Any]:
    """What the data set would deliver."""
    spec, rng = stage.sample, torch.Generator().manual_seed(seed)
    size = (stage.square.height, stage.square.width)

    def pictures(count: int) -> Tensor:
        return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=rng)

    def points(count: int) -> Tensor:
        return torch.rand(count, 68, 2, generator=rng) * torch.tensor([320.0, 416.0])

    return {
        "clip": "a",
        "images": pictures(spec.window),
        "reference_images": pictures(spec.references),
        "landmarks": points(spec.window),
        "reference_landmarks": points(spec.references),
        "frame_mel": torch.rand(spec.window, 80, 16, generator=rng) * 8 - 4,
        "window_mel": torch.rand(80, 16, generator=rng) * 8 - 4,
    }


def batch_of(stage: G4GStage) -> dict[str, Any]:
    samples = [stage.prepare(sample_of(stage, seed)) for seed in (1, 2)]
    return {key: torch.stack([one[key] for one in samples]) for key in samples[0] if key != "clip"}


def logs_of(stage: G4GStage) -> dict[str, float]:
    update = next(stage.updates(batch_of(stage), START))
    return {name: float(value) for name, value in update.logs.items()}


# What the data set is asked for -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "window", "heard"), [("frame64", 1, ()), ("clip", 5, (Sound("mel"),))])
def test_the_data_set_can_deliver_its_samples(name: str, window: int, heard: tuple[Sound, ...]) -> None:
    spec = stage_of(name).sample
    check_spec(spec)
    assert columns_of(spec) == ["mouth416x320", "landmarks", "mouth416x320_transform", "mel"]
    assert (spec.window, spec.references, spec.size) == (window, 2, (104, 80))
    assert spec.window_sounds == heard
    # The middle of 16 columns at 80 a second is that of the frame at 25: column 3.2 (f + 1/2).
    (sound,) = spec.frame_sounds
    assert 80 * sound.offset / 25 - sound.lead + sound.columns / 2 == pytest.approx(3.2 / 2)


def test_without_alignment_no_landmarks_are_asked_for() -> None:
    assert columns_of(stage_of(alignment=False).sample) == ["mouth416x320", "mel"]


def test_the_full_size_is_that_of_the_view() -> None:
    config: Any = load_config("g4g", "paper", [], [], Path("run")).method_config
    with torch.device("meta"):
        stages = G4G(config, DataInfo()).stages
    assert list(stages) == ["frame64", "frame128", "frame256", "clip"]
    sizes = [stage.sample.size for stage in stages.values()]  # type: ignore[union-attr]
    assert sizes == [(104, 80), (208, 160), None, None]


# Landmarks ----------------------------------------------------------------------------------------------------------


def test_the_landmark_picture_is_of_the_first_reference() -> None:
    """The mouth that is to be painted is not in it."""
    stage = stage_of()
    sample = sample_of(stage)
    drawn = stage.prepare(sample)["landmarks"]
    first = sample["reference_landmarks"][:1].numpy() / 4
    np.testing.assert_array_equal(drawn.numpy(), draw_landmarks(first, 104, 80))
    other = dict(sample, landmarks=torch.zeros(5, 68, 2))
    assert torch.equal(stage.prepare(other)["landmarks"], drawn)


def test_the_upper_landmarks_of_the_frame_do_not_tell_its_mouth() -> None:
    stage = stage_of(landmarks="upper")
    sample = sample_of(stage)
    other = {**sample, "landmarks": sample["landmarks"].clone()}
    other["landmarks"][:, [*range(17), *range(48, 68)]] = 7.0
    drawn = stage.prepare(sample)["landmarks"]
    assert drawn.shape == (5, 1, 104, 80) and drawn.any()
    assert torch.equal(stage.prepare(other)["landmarks"], drawn)


def test_the_source_reading_shows_all_of_the_frame() -> None:
    stage = stage_of(landmarks="source")
    sample = sample_of(stage)
    drawn = stage.prepare(sample)["landmarks"].numpy()
    np.testing.assert_array_equal(drawn, draw_landmarks(sample["landmarks"].numpy() / 4, 104, 80))


def test_landmarks_of_the_view_are_scaled_to_the_face() -> None:
    points = np.full((1, 68, 2), (160.0, 208.0))
    for mouth, at in ((64, (52, 40)), (256, (208, 160))):
        picture = landmark_pictures(points, MouthSquare(mouth), "reference")[0, 0]
        assert np.argwhere(picture).tolist() == [list(at)]


# Losses -------------------------------------------------------------------------------------------------------------


def test_the_loss_is_equation_24() -> None:
    stage = stage_of()
    updates = list(stage.updates(batch_of(stage), START))
    assert [update.optimizer for update in updates] == ["generator", "discriminator", "clip_discriminator"]
    logs = {name: float(value) for name, value in updates[0].logs.items()}
    weights = {"L_v": 1, "L_GAN": 3, "L_r": 4, "L_con": 5, "L_sync": 5}
    assert logs.keys() == weights.keys()
    expected = sum(weight * logs[name] for name, weight in weights.items())
    assert float(updates[0].loss) == pytest.approx(expected, rel=1e-5)
    for update in updates[1:]:
        real, fake = (float(update.logs[f"{update.optimizer}_{kind}"]) for kind in ("real", "fake"))
        assert float(update.loss) == pytest.approx((real + fake) / 2, rel=1e-5)


def test_single_frames_have_no_expert_and_no_judge_of_clips() -> None:
    stage = stage_of("frame64")
    assert set(stage.networks) == {"generator", "discriminator"} and not stage.frozen
    assert logs_of(stage).keys() == {"L_v", "L_GAN", "L_r", "L_con"}


def test_without_alignment_there_are_no_landmarks_and_no_contrast_of_the_batch() -> None:
    stage = stage_of(alignment=False)
    assert "landmarks" not in batch_of(stage)
    assert logs_of(stage).keys() == {"L_GAN", "L_r", "L_sync"}


def test_without_supervision_one_square_is_hidden_and_measured() -> None:
    stage = stage_of("frame64", supervision=False, lambda_gan=0.0)
    batch = batch_of(stage)
    update = next(stage.updates(batch, START))
    stage.networks["generator"].train()
    truth = batch["images"].float() / 255
    torch.manual_seed(0)
    off = (stage._make(batch, truth, training=True).face - truth.flatten(0, 1)).abs()
    assert float(update.logs["L_r"]) == pytest.approx(float(stage.square.cut(off).mean()), rel=1e-4)


def test_one_size_is_hidden_in_all_frames_of_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of(hidden=["half", "square", "chin"])
    batch = batch_of(stage)
    given: list[Tensor] = []
    generator = stage.networks["generator"]
    original = generator.forward

    def forward(sources: Tensor, masks: Any, *others: Any) -> Any:
        given.append(masks.hidden)
        return original(sources, masks, *others)

    monkeypatch.setattr(generator, "forward", forward)
    for _ in range(20):
        stage._make(batch, batch["images"].float() / 255, training=True)
    kinds = set()
    for hidden in given:
        areas = hidden.flatten(1).sum(1).view(2, 5)
        assert (areas == areas[:, :1]).all()
        kinds |= set(areas[:, 0].tolist())
    assert kinds == {52.0 * 80, 64.0 * 64, 72.0 * 64}


def test_validation_hides_the_square_of_generation() -> None:
    """Whatever was in it, the same is painted; what is visible counts."""
    stage = stage_of()
    generator = stage.networks["generator"].eval()
    batch = batch_of(stage)
    truth = batch["images"].float() / 255
    other = truth.clone()
    stage.square.cut(other)[:] = 0.5
    with torch.no_grad():
        made = [stage._make(batch, frames, training=False).face for frames in (truth, other)]
    torch.testing.assert_close(*made)
    assert not generator.training
    figures = stage.validate(batch)
    assert {"loss", "psnr", "cosine", "L_r", "L_sync"} <= figures.keys()
    weights = {"L_v": 1, "L_GAN": 3, "L_r": 4, "L_con": 5, "L_sync": 5}
    expected = sum(weight * float(figures[name]) for name, weight in weights.items())
    assert float(figures["loss"]) == pytest.approx(expected, rel=1e-5)


def test_the_expert_hears_the_window_and_gets_no_gradient() -> None:
    stage = stage_of(lambda_gan=0.0)
    batch = batch_of(stage)
    update = next(stage.updates(batch, START))
    generator = stage.networks["generator"]
    last = dict(generator.named_parameters())["decoder.fine.2.weight"]
    (gradient,) = torch.autograd.grad(update.logs["L_sync"], [last], retain_graph=True)
    assert gradient.abs().max() > 0
    update.loss.backward()
    assert all(weights.grad is None for weights in stage.frozen["expert"].parameters())
    swapped = {**batch, "window_mel": batch["window_mel"].flip(0)}
    with torch.no_grad():
        truth = batch["images"].float() / 255
        faces = stage._make(batch, truth, training=False).face
        seen, heard = stage._judged(batch, truth, faces)
        again, other = stage._judged(swapped, truth, faces)
    torch.testing.assert_close(seen, again)
    torch.testing.assert_close(heard, other.flip(0))


def test_the_expert_may_see_the_lips_alone() -> None:
    """What is painted elsewhere gets no gradient from it."""
    stage = stage_of(lambda_gan=0.0, expert_region="lips")
    truth = batch_of(stage)["images"].float() / 255
    faces = torch.full((10, 3, 104, 80), 0.5, requires_grad=True)
    seen, _ = stage._judged(batch_of(stage), truth, faces)
    (gradient,) = torch.autograd.grad(seen.square().sum() - (seen[:, 0] - seen[:, 1]).sum(), [faces])
    lips = regions(stage.square, ("lips",))
    assert not (gradient * (1 - lips)).any()
    assert (gradient * lips).any()


def test_steps_lower_the_reconstruction_loss() -> None:
    stage = stage_of("frame64", lambda_gan=0.0, lambda_con=0.0, lambda_v=0.0)
    batch = batch_of(stage)
    batch["images"] = (
        torch.tensor([40, 200], dtype=torch.uint8).view(2, 1, 1, 1, 1).expand(batch["images"].shape)
    )
    optimizer = stage.optimizers()["generator"]
    optimizer.param_groups[0]["lr"] = 1e-2
    found = []
    for _ in range(15):
        (update,) = stage.updates(batch, START)
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
        found.append(float(update.logs["L_r"]))
    assert np.mean(found[-3:]) < 0.9 * np.mean(found[:3]), found


# Schedules and options ----------------------------------------------------------------------------------------------


def test_the_rate_is_constant_and_then_falls() -> None:
    tables = {"g4g": SMALL, "frame64": {"train": {"batch_size": 2, "steps": 10}, "constant": 0.6}}
    stage = G4G(G4GMethodConfig.model_validate(tables), DataInfo()).stages["frame64"]
    optimizers = stage.optimizers()  # type: ignore[union-attr]
    schedules = stage.schedulers(optimizers)  # type: ignore[union-attr]
    rates = []
    for _ in range(10):
        rates.append(optimizers["generator"].param_groups[0]["lr"])
        optimizers["generator"].step()
        schedules["generator"].step()
    assert rates == pytest.approx([1e-4] * 7 + [0.75e-4, 0.5e-4, 0.25e-4])
    assert stage_of().schedulers(stage_of().optimizers()) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": ["face"]}, "something must remain"),
        ({"hidden": []}, "something must remain"),
        ({"supervised": []}, "a region at least"),
        ({"landmarks": "mouth"}, "reference"),
        ({"references": 0}, "greater than"),
        ({"temperature": 0}, "greater than"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        method_of(**changes)


def test_a_method_without_stages_is_refused() -> None:
    with pytest.raises(ValidationError, match="no stage"):
        G4GMethodConfig.model_validate({"g4g": SMALL})


def test_a_rate_that_falls_needs_a_last_step() -> None:
    tables = {"g4g": SMALL, "frame64": {"train": {"batch_size": 2, "epochs": 1}, "constant": 0.5}}
    with pytest.raises(ValidationError, match=r"frame64\.train\.steps"):
        G4GMethodConfig.model_validate(tables)
