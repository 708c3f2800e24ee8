"""The stage ``codebook``: what it delivers, which step teaches what, codes placed and placed anew, figures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.autograd import gradcheck

from models.base import Progress, TrainConfig, Update
from models.layers.vgg import VGG19
from models.lipformer.autoencoder import FaceDecoder
from models.lipformer.codebook import Quantized
from models.lipformer.codebook_stage import CodebookConfig, CodebookStage
from models.lipformer.pictures import perceptual_loss, scaled
from prep.images import decode, encode
from prep.planes import decode_planes
from prep.sample_spec import StillSpec


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class SmallVGG(VGG19):
    """Two maps instead of five, and of few channels."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 6, 3, 2, 1)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        first = self.first(pictures).relu()
        return [first, self.second(first).relu()]


def config(**changes: object) -> CodebookConfig:
    fields = {
        "size": 16,
        "channels": (8, 8),
        "blocks": 1,
        "dim": 4,
        "upper_codes": 12,
        "lower_codes": 20,
        "restart_after": 0,
        "perceptual_weight": 0.0,
        "adversarial_weight": 0.0,
        "discriminator_width": 1 / 64,
        "learning_rate": 1e-3,
        "train": TrainConfig(batch_size=3, steps=1),
    }
    return CodebookConfig(**{**fields, **changes})


def build(vgg: VGG19 | None = None, **changes: object) -> CodebookStage:
    made = config(**changes)
    return CodebookStage(
        made,
        made.build_encoder(),
        made.build_decoder(),
        made.build_upper(),
        made.build_lower(),
        made.build_discriminator(),
        vgg,
    )


def batch(count: int = 3) -> dict[str, object]:
    return {"clip": ["a"] * count, "picture": torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8)}


def stepped(stage: CodebookStage, updates: Iterator[Update]) -> list[Update]:
    """All updates, each made as the runner makes it."""
    optimizers, done = stage.optimizers(), []
    for update in updates:
        optimizer = optimizers[update.optimizer]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.zero_grad()
        update.loss.backward(inputs=parameters)
        optimizer.step()
        done.append(update)
    return done


# What it takes ------------------------------------------------------------------------------------------------


def test_pictures_are_scaled_by_area() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[0, 0, 0] = 200
    image[31, 30:, 2] = 100
    expected = torch.zeros(3, 16, 16, dtype=torch.uint8)
    expected[0, 0, 0], expected[2, 15, 15] = 50, 50
    assert torch.equal(scaled(image, 16), expected)


def test_training_and_generation_scale_alike() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (512, 512, 3), np.uint8) for _ in range(2)]
    encoded = [encode(image, "jpeg", 95) for image in images]
    stage = build()
    assert stage.sample == StillSpec(view="aligned512", size=16)
    for size in (16, 100, 512):
        planes = decode_planes(encoded, 512, 512, size)
        assert planes.shape == (2, 3, size, size)
        for made, data in zip(planes, encoded, strict=True):
            assert np.array_equal(made, scaled(decode(data), size))


def test_a_sample_is_the_picture_that_the_data_set_delivers() -> None:
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    sample = build().prepare({"clip": "a", "frame": torch.tensor(3), "image": image})
    assert set(sample) == {"clip", "picture"} and torch.equal(sample["picture"], image)


def test_pictures_of_the_right_size_stay() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert np.array_equal(scaled(image, 16).numpy(), image.transpose(2, 0, 1))
    assert torch.equal(scaled(scaled(image, 16), 16), scaled(image, 16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 48}, "power of two"),
        ({"patch": 3}, "patch is a power of two"),
        ({"channels": (4, 4, 4, 4, 4, 4)}, "larger than half a face"),
        ({"restarts": 3}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)


def test_patches_count_in_the_grid() -> None:
    patched = config(size=64, channels=(4, 4), patch=4)
    assert (patched.factor, patched.rows, patched.columns) == (8, 4, 8)


def test_the_papers_grid() -> None:
    """Half a face of 512 × 512 pixels is 8 × 16 codes, as in CodeFormer's encoder."""
    paper = CodebookConfig(train=TrainConfig(batch_size=1, steps=1))
    assert (paper.rows, paper.columns) == (8, 16)
    with torch.device("meta"):
        assert paper.build_encoder()(torch.rand(1, 3, 256, 512)).shape == (1, 256, 8, 16)
        upper = torch.rand(1, 256, 8, 16)
        assert paper.build_decoder()(upper, upper).shape == (1, 3, 512, 512)


# Steps --------------------------------------------------------------------------------------------------------


def test_only_what_takes_part_is_there() -> None:
    plain = build()
    assert set(plain.networks) == {"encoder", "decoder", "upper", "lower"} and not plain.frozen
    whole = build(SmallVGG(), perceptual_weight=0.1, adversarial_weight=0.1)
    assert set(whole.networks) == {"encoder", "decoder", "upper", "lower", "discriminator"}
    assert set(whole.frozen) == {"vgg"}
    assert set(plain.optimizers()) == {"autoencoder"}
    assert set(whole.optimizers()) == {"autoencoder", "discriminator"}
    assert config().build_vgg() is None and config().build_discriminator() is None


def test_the_loss_is_equation_4() -> None:
    stage = build(
        SmallVGG(), pixel_weight=2.0, perceptual_weight=0.3, adversarial_weight=0.7, adversarial_from=1
    )
    (first,) = stepped(stage, stage.updates(batch(), Progress(0, 0.0)))
    assert "adversarial" not in first.logs
    second, judging = stepped(stage, stage.updates(batch(), Progress(1, 0.0)))
    logs = second.logs
    expected = logs["vq"] + 2 * logs["L2"] + 0.3 * logs["perceptual"] + 0.7 * logs["adversarial"]
    torch.testing.assert_close(second.loss, expected)
    assert (second.optimizer, judging.optimizer) == ("autoencoder", "discriminator")


def test_each_step_teaches_its_own_networks() -> None:
    stage = build(SmallVGG(), perceptual_weight=0.1, adversarial_weight=0.1, r1_every=2)
    stage.frozen["vgg"].requires_grad_(False)
    before = {
        name: [p.detach().clone() for p in network.parameters()] for name, network in stage.networks.items()
    }
    moved = []
    for _ in _applied(stage, stage.updates(batch(8), Progress(2, 0.0))):
        moved.append(
            {
                name
                for name, network in stage.networks.items()
                if any(not torch.equal(a, b) for a, b in zip(before[name], network.parameters(), strict=True))
            }
        )
    assert moved == [{"encoder", "decoder", "upper", "lower"}, set(stage.networks)]


def _applied(stage: CodebookStage, updates: Iterator[Update]) -> Iterator[Update]:
    optimizers = stage.optimizers()
    for update in updates:
        parameters = [p for group in optimizers[update.optimizer].param_groups for p in group["params"]]
        update.loss.backward(inputs=parameters)
        assert all(p.grad is not None for p in parameters)
        optimizers[update.optimizer].step()
        yield update


def test_r1_is_taken_rarely_and_counts_for_more() -> None:
    stage = build(adversarial_weight=0.1, r1_weight=10.0, r1_every=4)
    seen = {}
    for step in range(5):
        _, judging = stepped(stage, stage.updates(batch(), Progress(step, 0.0)))
        seen[step] = judging
    assert [step for step, update in seen.items() if "r1" in update.logs] == [0, 4]
    logs = seen[4].logs
    torch.testing.assert_close(seen[4].loss, logs["discriminator"] + 10.0 / 2 * 4 * logs["r1"])
    torch.testing.assert_close(seen[3].loss, seen[3].logs["discriminator"])


def test_gradient_of_l2() -> None:
    """Through the decoder, by finite differences."""
    decoder = FaceDecoder((4, 4), 3, 1).double()
    halves = torch.randn(2, 1, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    truth = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    assert gradcheck(lambda h: nn.functional.mse_loss(decoder(h[0], h[1]), truth), (halves,))


def test_gradient_of_the_perceptual_loss() -> None:
    vgg = SmallVGG().double().requires_grad_(False)
    found, wanted = torch.rand(2, 1, 3, 6, 6, dtype=torch.float64)
    assert gradcheck(lambda x: perceptual_loss(vgg, x, wanted), (found.requires_grad_(),))


def test_perceptual_loss_by_hand() -> None:
    """Maps that are the picture itself, as ImageNet's mean and deviation make it, at right angles or alike."""

    class Mirror(VGG19):
        def __init__(self) -> None:
            nn.Module.__init__(self)

        def forward(self, pictures: Tensor) -> list[Tensor]:
            return [pictures, torch.ones_like(pictures)]

    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225])
    red, green = (mean.repeat(1, 1, 1, 2) for _ in range(2))
    red[:, 0] += 2 * deviation[0]
    green[:, 1] += 3 * deviation[1]
    # Unit vectors at right angles are √2 apart in the first map; the second is equal. The mean over two maps is 1.
    assert float(perceptual_loss(Mirror(), red, green)) == pytest.approx(1.0, abs=1e-5)
    assert float(perceptual_loss(Mirror(), red, red)) == 0


def test_a_face_is_learnt() -> None:
    """Through two codebooks, one picture of plain patches comes back better than its mean colour would."""
    colours = torch.rand(1, 3, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    held = {"clip": ["a"], "picture": (colours * 255).to(torch.uint8)}
    stage = build(channels=(8, 16), dim=8, pixel_weight=4.0)
    optimizer = stage.optimizers()["autoencoder"]
    for step in range(60):
        for update in stage.updates(held, Progress(step, 0.0)):
            optimizer.zero_grad()
            update.loss.backward()
            optimizer.step()
    spread = float(colours.sub(colours.mean((2, 3), keepdim=True)).square().mean())
    assert float(stage.validate(held)["L2"]) < spread / 4


# Codes --------------------------------------------------------------------------------------------------------


def features(stage: CodebookStage, held: dict[str, object]) -> list[Tensor]:
    """Of the upper and of the lower halves, (n, d) each."""
    picture = held["picture"]
    assert isinstance(picture, Tensor)
    with torch.no_grad():
        halves = [stage.networks["encoder"](half) for half in (picture.float() / 255).split(8, dim=2)]
    return [half.permute(0, 2, 3, 1).reshape(-1, half.shape[1]) for half in halves]


def near(codes: Tensor, found: Tensor) -> Tensor:
    """(n,) bool: the code lies at one of the features."""
    return torch.cdist(codes.detach(), found, compute_mode="donot_use_mm_for_euclid_dist").amin(1) < 1e-5


def test_codes_start_at_features_of_the_first_batch() -> None:
    stage, first = build(), batch()
    for step, placed in ((1, False), (0, True)):
        upper, lower = features(stage, first)
        next(stage.updates(first, Progress(step, 0.0)))
        assert near(stage.networks["upper"].codes, upper).all() == placed
        assert near(stage.networks["lower"].codes, lower).all() == placed
    before = stage.networks["upper"].codes.detach().clone()
    next(stage.updates(batch(), Progress(0, 0.0)))  # A second micro-batch of the same step.
    assert torch.equal(stage.networks["upper"].codes, before)


def test_dead_codes_are_placed_anew() -> None:
    stage = build(restart_after=3)
    lower = stage.networks["lower"]
    for step in range(6):
        held = batch()
        if step == 2:
            with torch.no_grad():
                lower.codes[:5] = 100.0  # No feature is near them.
        dead = lower.codes.detach()[:5].clone()
        _, found = features(stage, held)
        stepped(stage, stage.updates(held, Progress(step, 0.0)))
        restarted = near(lower.codes[:5], found)
        if step in (3, 4):
            assert torch.equal(dead, lower.codes[:5])
        elif step == 5:
            assert restarted.all() and not near(lower.codes[5:], found).any()


def test_codes_stay_where_restarts_are_off() -> None:
    stage = build(restart_after=0)
    with torch.no_grad():
        stage.networks["upper"].codes[0] = 100.0
    for step in range(1, 4):
        stepped(stage, stage.updates(batch(), Progress(step, 0.0)))
    assert torch.equal(stage.networks["upper"].codes[0], torch.full((4,), 100.0))


def test_use_is_told() -> None:
    stage, held = build(), batch()
    update = next(stage.updates(held, Progress(0, 0.0)))
    figures = stage.validate(held)
    for name in ("usage_upper", "usage_lower"):
        assert 0 < float(update.logs[name]) <= 1
        assert float(figures[name]) == float(update.logs[name])
    lower = stage.networks["lower"]
    _, found = features(stage, held)
    chosen = lower.nearest(found.T.reshape(1, 4, 1, -1)).unique()
    assert float(figures["held_out_lower"]) == pytest.approx(len(chosen) / 20)
    assert float(figures["usage_lower"]) == pytest.approx(len(chosen) / 20)


# Figures and pictures -----------------------------------------------------------------------------------------


def test_figures() -> None:
    stage, held = build(), batch()
    for network in stage.networks.values():
        network.eval()
    figures = stage.validate(held)
    truth = held["picture"].float() / 255  # type: ignore[attr-defined]
    shown = stage.samples(held)
    assert list(shown) == ["truth", "reconstruction"]
    assert torch.equal(shown["truth"], truth)
    assert shown["reconstruction"].min() >= 0 and shown["reconstruction"].max() <= 1
    error = (shown["reconstruction"] - truth).square()
    assert float(figures["psnr"]) == pytest.approx(
        float(-10 * error.mean((1, 2, 3)).log10().mean()), rel=1e-5
    )
    lower = error[:, :, 8:].mean((1, 2, 3))
    assert float(figures["psnr_lower"]) == pytest.approx(float(-10 * lower.log10().mean()), rel=1e-5)
    torch.testing.assert_close(figures["loss"], figures["vq"] + figures["L2"])
    assert all(value.shape == () for value in figures.values())


def test_upper_and_lower_halves_have_codebooks_of_their_own() -> None:
    stage, held = build(), batch(1)
    upper_changed = {"picture": held["picture"].clone()}  # type: ignore[attr-defined]
    upper_changed["picture"][:, :, :8] = 255 - upper_changed["picture"][:, :, :8]
    found: dict[str, list[Quantized]] = {"upper": [], "lower": []}
    for name, given in found.items():
        stage.networks[name].register_forward_hook(lambda _, asked, made, given=given: given.append(made))
    for b in (held, upper_changed):
        stage.validate(b)
    first, second = found["lower"]
    assert torch.equal(first.codes, second.codes) and torch.equal(first.values, second.values)
    first, second = found["upper"]
    assert not torch.equal(first.codes, second.codes)
