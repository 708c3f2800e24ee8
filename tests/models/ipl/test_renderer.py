"""IP-LAP's renderer, its losses and its training stage."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.base import Progress, TrainConfig
from models.ipl.render_losses import (
    feature_matching_loss,
    gan_loss,
    gram,
    perceptual_loss,
    pixel_loss,
    style_loss,
    vgg_features,
)
from models.ipl.render_stage import RenderConfig, RenderStage
from models.ipl.renderer import Rendered, Renderer
from models.ipl.sketch import draw_sketches
from models.layers.vgg import VGG19
from models.losses import psnr
from tests.parity.fill import fill_state, make_input

FIXTURE = Path(__file__).resolve().parents[2] / "parity" / "ip_lap_renderer"
SIDE = 32


# Official figures ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURE / "spec.json").read_text())
    return found


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in np.load(FIXTURE / "expected.npz").items()}


def split_official(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Part an official state dict into the renderer's and the loss network's.

    Args:
        state: keys may start with ``module.``.

    Returns:
        What :class:`Renderer` and what :class:`models.layers.vgg.VGG19` load; the latter is empty where the
        checkpoint was saved without it.
    """
    renderer, vgg = {}, {}
    for key, value in state.items():
        key = key.removeprefix("module.")
        if key.startswith("perceptual."):
            vgg[key.replace("perceptual.model.network.", "features.")] = value
        else:
            renderer[key] = value
    return renderer, vgg


@pytest.fixture(scope="module")
def official(spec: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    state = fill_state(spec["state_dict"], spec["gain"])
    return split_official({f"module.{key}": torch.from_numpy(value) for key, value in state.items()})


@pytest.fixture(scope="module")
def inputs(spec: dict[str, Any]) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(make_input(name, i["shape"], i["low"], i["high"]))
        for name, i in spec["inputs"].items()
    }


def test_official_pictures(
    official: tuple[dict[str, Tensor], dict[str, Tensor]],
    inputs: dict[str, Tensor],
    expected: dict[str, Tensor],
) -> None:
    renderer = Renderer().eval()
    assert list(renderer.state_dict()) == list(official[0])
    renderer.load_state_dict(official[0])
    with torch.no_grad():
        rendered = renderer(
            inputs["face_frame_img"][:, 0],
            inputs["target_sketches"],
            inputs["ref_N_frame_img"],
            inputs["ref_N_frame_sketch"],
            inputs["audio_mels"][:, 0, 0],
        )
    assert (rendered.face - expected["generated_face"]).abs().max() < 1e-4
    assert (rendered.warped - expected["wrapped_ref"]).abs().max() < 1e-4


def test_official_losses(
    official: tuple[dict[str, Tensor], dict[str, Tensor]],
    inputs: dict[str, Tensor],
    expected: dict[str, Tensor],
) -> None:
    """Of the official pictures: the official L_w, and L_r + 250 L_s."""
    vgg = VGG19().eval().requires_grad_(False)
    vgg.load_state_dict(official[1])
    truth, face, warped = (
        vgg_features(vgg, pictures)
        for pictures in (inputs["face_frame_img"][:, 0], expected["generated_face"], expected["wrapped_ref"])
    )
    assert perceptual_loss(warped, truth).item() == pytest.approx(
        expected["perceptual_warp_loss"].item(), abs=1e-4
    )
    both = perceptual_loss(face, truth) + 250 * style_loss(face, truth)
    assert both.item() == pytest.approx(expected["perceptual_gen_loss"].item(), abs=1e-4)


# The network --------------------------------------------------------------------------------------------------


def small(**options: Any) -> Renderer:
    torch.manual_seed(0)
    return Renderer(**{"width": 0.125, **options}).eval()


def pictures(batch: int = 2, references: int = 3, side: int = SIDE) -> list[Tensor]:
    """Arguments of :meth:`Renderer.forward`."""
    generator = torch.Generator().manual_seed(1)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    return [
        rand(batch, 3, side, side),
        rand(batch, 5, 3, side, side),
        rand(batch, references, 3, side, side),
        rand(batch, references, 3, side, side),
        rand(batch, 80, 16) * 8 - 4,
    ]


@torch.no_grad()
def test_references_encoded_once_serve_all_frames() -> None:
    renderer, (face, sketches, references, drawn, mels) = small(), pictures(3, 4)
    once = renderer.encode_references(references[:1], drawn[:1])
    found = renderer.render(face, sketches, once, mels)
    same = [values[:1].expand(3, -1, -1, -1, -1) for values in (references, drawn)]
    wanted = renderer(face, sketches, *same, mels)
    assert (found.face - wanted.face).abs().max() < 1e-5
    assert (found.warped - wanted.warped).abs().max() < 1e-5
    assert (renderer.warp(once, sketches) - wanted.warped).abs().max() < 1e-5


@torch.no_grad()
def test_the_hidden_part_is_not_seen() -> None:
    for hidden, row in ((0.5, SIDE // 2), (0.75, SIDE // 4)):
        renderer, (face, *others) = small(hidden=hidden), pictures()
        wanted = renderer(face, *others).face
        face = face.clone()
        face[:, :, row:] = 0.3
        assert torch.equal(renderer(face, *others).face, wanted)
        face[:, :, row - 1] = 0.3
        assert not torch.allclose(renderer(face, *others).face, wanted)


@torch.no_grad()
def test_without_audio_the_sound_changes_nothing() -> None:
    *others, mels = pictures()
    for audio in (True, False):
        renderer = small(audio=audio)
        same = torch.equal(renderer(*others, mels).face, renderer(*others, -mels).face)
        assert same == (not audio)
        has_encoder = any("audio_encoder" in key or "mlp" in key for key in renderer.state_dict())
        assert has_encoder == audio


@torch.no_grad()
def test_without_warping_references_stay_where_they_are() -> None:
    renderer, (face, sketches, references, drawn, mels) = small(warping=False), pictures()
    same = references[:, :1].expand_as(references)
    warped = renderer(face, sketches, same, drawn, mels).warped
    assert torch.allclose(warped, references[:, 0], atol=1e-4)  # the weights sum up to all but 1e-5
    assert not torch.allclose(small()(face, sketches, same, drawn, mels).warped, references[:, 0], atol=1e-2)
    assert not any("conv_4" in key for key in renderer.state_dict())


@torch.no_grad()
def test_networks_see_shrunk_pictures_and_references_keep_their_detail() -> None:
    renderer, arguments = small(shrink=2, warping=False), pictures()
    face, sketches, references, drawn, mels = arguments
    one = (face, sketches, references[:, :1], drawn[:, :1], mels)
    rendered = renderer(*one)
    # A single reference that stays in place is the reference, pixel for pixel.
    torch.testing.assert_close(rendered.warped, references[:, 0], atol=1e-4, rtol=0)
    half = [nn.functional.avg_pool2d(a.flatten(0, -4), 2).unflatten(0, a.shape[:-3]) for a in one[:4]]
    inner = small(warping=False)(*half, mels)
    larger = nn.functional.interpolate(torch.logit(inner.face), scale_factor=2, mode="bilinear")
    torch.testing.assert_close(rendered.face, torch.sigmoid(larger), atol=1e-4, rtol=0)


# Losses -------------------------------------------------------------------------------------------------------


def test_gram_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # 2 channels, 1 × 2 pixels
    assert gram(features).tolist() == [[[5 / 4, 1 / 4], [1 / 4, 10 / 4]]]


def test_style_is_of_the_full_resolution() -> None:
    one, other = [[torch.zeros(1, 2, 1, 2)]], [[torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])]]
    assert style_loss(one + other, other + one).item() == pytest.approx((5 + 1 + 1 + 10) / 4 / 4)


def test_gan_losses_by_hand() -> None:
    scores = [[torch.ones(1), torch.tensor([0.5, 1.0])], [torch.ones(1), torch.tensor([3.0])]]
    assert gan_loss(scores, real=True).item() == pytest.approx(0.125 + 4)
    assert gan_loss(scores, real=False).item() == pytest.approx(0.625 + 9)
    other = [[torch.zeros(1), torch.zeros(2)], [torch.full((1,), 4.0), torch.zeros(1)]]
    assert feature_matching_loss(scores, other).item() == pytest.approx((1 + 3) / 2)


def test_pixel_loss_by_hand() -> None:
    found = torch.zeros(1, 1, 4, 4)
    found[0, 0, 0, 0], found[0, 0, 0, 1] = 1, -1
    assert pixel_loss(found, torch.zeros_like(found), scales=2).item() == pytest.approx(2 / 16)
    assert pixel_loss(found + 1, torch.zeros_like(found), scales=3).item() == pytest.approx(3)


def test_psnr_is_a_mean_over_pictures() -> None:
    truth = torch.full((2, 3, 4, 4), 0.5)
    found = torch.stack([truth[0] + 0.1, truth[1] - 0.01])
    assert psnr(found, truth).item() == pytest.approx((20 + 40) / 2, abs=1e-3)
    assert psnr(truth, truth).item() == pytest.approx(100)


def test_readings_of_vgg() -> None:
    """By a network that shows what it is given."""

    class Shown(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x]

    bgr = torch.tensor([0.406, 0.456, 0.485]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    shown: Any = Shown()
    assert vgg_features(shown, bgr, "imagenet")[0][0].abs().max() < 1e-6
    blue = vgg_features(shown, bgr, "iplap")[0][0][0, 0]
    assert blue[0, 0].item() == pytest.approx((1.406 / 2 - 0.485) / 0.229, rel=1e-5)
    assert [m.shape[-1] for maps in vgg_features(shown, bgr) for m in maps] == [4, 2]


def test_the_gradient_of_the_style_loss_is_that_of_its_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(1, 3, 4, 4, generator=generator).requires_grad_()
    wanted = [[torch.rand(1, 3, 4, 4, generator=generator)]]
    style_loss([[features]], wanted).backward()
    assert features.grad is not None
    for place in ((0, 0, 0, 0), (0, 2, 3, 1), (0, 1, 1, 2)):
        moved = []
        for step in (-1e-2, 1e-2):
            shifted = features.detach().clone()
            shifted[place] += step
            moved.append(style_loss([[shifted]], wanted).item())
        assert features.grad[place].item() == pytest.approx((moved[1] - moved[0]) / 2e-2, rel=0.02)


# The stage ----------------------------------------------------------------------------------------------------


def stage(**options: Any) -> RenderStage:
    torch.manual_seed(0)
    config = RenderConfig(
        **{"width": 0.125, "perceptual": "pixels", "train": TrainConfig(batch_size=2), **options}
    )
    return RenderStage(config, config.build_renderer(), config.build_discriminator(), config.build_vgg())


def batch(size: int = 2, references: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)

    def bytes_(*shape: int) -> Tensor:
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)

    return {
        "target": bytes_(size, 3, SIDE, SIDE),
        "references": bytes_(size, references, 3, SIDE, SIDE),
        "sketches": bytes_(size, 5, SIDE, SIDE),
        "reference_sketches": bytes_(size, references, SIDE, SIDE),
        "mel": torch.rand(size, 80, 16, generator=generator) * 8 - 4,
    }


def moved_by(training: RenderStage, loss: Tensor, optimizer: str) -> set[str]:
    """Names of the parameters, of all networks, that a step of an optimizer has a gradient for."""
    parameters = [p for group in training.optimizers()[optimizer].param_groups for p in group["params"]]
    loss.backward(inputs=parameters)
    found = set()
    for network, module in training.networks.items():
        for name, parameter in module.named_parameters():
            if parameter.grad is not None and parameter.grad.abs().sum() > 0:
                found.add(f"{network}.{name}")
            parameter.grad = None
    return found


def _cancelled(name: str) -> bool:
    """Biases that an instance normalisation takes away again."""
    return name.endswith("bias") and any(f"_layer{layer}." in name for layer in (1, 2, 3))


def test_a_step_moves_every_parameter_of_its_own() -> None:
    training = stage()
    updates = training.updates(batch(), Progress(0, 0.0))
    generator = next(updates)
    assert generator.optimizer == "generator"
    assert set(generator.logs) == {"warp_pixels", "face_pixels", "L_g", "L_f"}
    renderer = {f"renderer.{name}" for name, _ in training.networks["renderer"].named_parameters()}
    moved = moved_by(training, generator.loss, "generator")
    assert {name for name in renderer - moved if not name.endswith("bias")} == set()
    assert moved <= renderer
    discriminator = next(updates)
    assert discriminator.optimizer == "discriminator" and set(discriminator.logs) == {"L_d"}
    moved = moved_by(training, discriminator.loss, "discriminator")
    own = {f"discriminator.{name}" for name, _ in training.networks["discriminator"].named_parameters()}
    assert {name for name in own - moved if not _cancelled(name)} == set()
    assert moved <= own
    assert next(updates, None) is None


@pytest.mark.parametrize("option", [{"warp_only_steps": 5}, {"warp_only_epochs": 2.0}])
def test_the_warp_is_trained_alone_at_first(option: dict[str, Any]) -> None:
    training = stage(**option)
    updates = list(training.updates(batch(), Progress(4, 1.9)))
    assert [update.optimizer for update in updates] == ["generator"]
    assert set(updates[0].logs) == {"warp_pixels"}
    moved = moved_by(training, updates[0].loss, "generator")
    assert moved and all(name.startswith("renderer.flow_module.") for name in moved)
    later = [update.optimizer for update in training.updates(batch(), Progress(5, 2.0))]
    assert later == ["generator", "discriminator"]


def test_the_weighted_sum_is_equation_20() -> None:
    training = stage(perceptual="vgg19", lambda_f=7.0)
    for vgg in training.frozen.values():
        vgg.eval().requires_grad_(False)
    generator = next(training.updates(batch(), Progress(0, 0.0)))
    weights = {"L_w": 2.5, "L_r": 4.0, "L_s": 1000.0, "L_g": 0.25, "L_f": 7.0}
    assert set(generator.logs) == set(weights)
    wanted = sum(weights[name] * value.item() for name, value in generator.logs.items())
    assert generator.loss.item() == pytest.approx(wanted, rel=1e-5)


def test_without_adversarial_losses_there_is_no_discriminator() -> None:
    training = stage(lambda_g=0, lambda_f=0)
    assert set(training.networks) == set(training.optimizers()) - {"generator"} | {"renderer"}
    updates = list(training.updates(batch(), Progress(0, 0.0)))
    assert [set(update.logs) for update in updates] == [{"warp_pixels", "face_pixels"}]


def test_without_warping_there_is_no_warping_loss() -> None:
    training = stage(warping=False)
    assert "warp_pixels" not in next(training.updates(batch(), Progress(0, 0.0))).logs
    with pytest.raises(ValueError, match="no warp to train"):
        RenderConfig(warping=False, warp_only_steps=1, train=TrainConfig(batch_size=2))


def test_settings_that_would_fail_in_a_step_are_refused() -> None:
    with pytest.raises(ValueError, match=r"render\.train.batch_size to 2 or more"):
        RenderConfig(train=TrainConfig(batch_size=1))
    with pytest.raises(ValueError, match=r"there is no L_r: set render\.train.monitor=loss"):
        RenderConfig(perceptual="pixels", train=TrainConfig(batch_size=2, monitor="L_r"))


def test_a_few_steps_bring_the_loss_down() -> None:
    training, data = stage(lambda_g=0, lambda_f=0, learning_rate=3e-3), batch()
    optimizer = training.optimizers()["generator"]
    losses = []
    for step in range(12):
        update = next(training.updates(data, Progress(step, 0.0)))
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
        losses.append(update.loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_validation_and_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    training, data = stage(), batch()
    truth = data["target"].float() / 255
    face = truth.flip(1).clone()
    face[:, :, SIDE // 2 :] += 0.1
    rendered = Rendered(face, truth.flip(1))
    monkeypatch.setattr(training.networks["renderer"], "forward", lambda *_: rendered)
    figures = training.validate(data)
    assert set(figures) == {"loss", "psnr", "psnr_mouth", "warp_pixels", "face_pixels"}
    assert figures["psnr_mouth"].item() == pytest.approx(20, abs=1e-3)
    assert figures["psnr"].item() == pytest.approx(20 + 10 * math.log10(2), abs=1e-3)
    assert figures["loss"].item() == pytest.approx(20 * 0.15, rel=1e-4)
    shown = training.samples(data)
    assert list(shown) == ["sketch", "reference", "warped", "generated", "truth"]
    assert all(p.shape == (2, 3, SIDE, SIDE) and p.min() >= 0 and p.max() <= 1 for p in shown.values())
    assert torch.allclose(shown["truth"], truth) and torch.allclose(shown["warped"], truth)
    assert torch.equal(shown["reference"], data["references"][:, 0].float() / 255)
    assert torch.equal(shown["sketch"][:, 0], data["sketches"][:, 2].float() / 255)


def test_prepare_draws_the_sketches() -> None:
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    boxes = torch.tensor([10.0, 20.0, 110.0, 140.0])
    sample = {
        "clip": "a/b",
        "landmarks": rand(5, 131, 2),
        "boxes": boxes.expand(5, 4),
        "images": torch.zeros(1, 3, 128, 128, dtype=torch.uint8),
        "reference_landmarks": rand(3, 131, 2),
        "reference_boxes": boxes.expand(3, 4),
        "reference_images": torch.ones(3, 3, 128, 128, dtype=torch.uint8),
        "window_mel": rand(80, 16),
    }
    made = stage().prepare(sample)
    assert made["clip"] == "a/b" and made["mel"] is sample["window_mel"]
    assert made["sketches"].shape == (5, 128, 128) and made["reference_sketches"].shape == (3, 128, 128)
    assert made["sketches"].dtype == made["reference_sketches"].dtype == torch.uint8
    wanted = draw_sketches(sample["reference_landmarks"].numpy(), np.array([[100.0, 120.0]] * 3))  # type: ignore[attr-defined]
    assert np.array_equal(made["reference_sketches"].numpy(), wanted)
    assert made["target"].shape == (3, 128, 128) and made["references"].shape == (3, 3, 128, 128)


def test_a_residual_renderer_begins_with_the_target_above_and_the_warped_references_below():
    torch.manual_seed(0)
    renderer = Renderer(width=0.0625, shrink=2, residual=True).eval()
    face, sketches = torch.rand(2, 3, 32, 32), torch.rand(2, 5, 3, 32, 32)
    pictures, drawn = torch.rand(2, 2, 3, 32, 32), torch.rand(2, 2, 3, 32, 32)
    with torch.no_grad():
        made = renderer(face, sketches, pictures, drawn, torch.rand(2, 80, 16))
        other = renderer(
            face * (torch.arange(32) < 16)[:, None], sketches, pictures, drawn, torch.rand(2, 80, 16)
        )
    torch.testing.assert_close(made.face[:, :, :12], face[:, :, :12].clamp(2e-3, 1 - 2e-3))
    torch.testing.assert_close(made.face[:, :, 16:], made.warped[:, :, 16:].clamp(2e-3, 1 - 2e-3))
    between = made.face[:, :, 13] - face[:, :, 13], made.face[:, :, 13] - made.warped[:, :, 13]
    assert all(difference.abs().max() > 1e-3 for difference in between)
    assert torch.equal(made.face, other.face)  # what is hidden changes nothing
