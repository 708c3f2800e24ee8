from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

import models.lipformer.lip_stage as lip_stage
from models.base import Progress, TrainConfig, Update
from models.layers.stylegan2 import StyleGAN2Discriminator
from models.layers.vgg import VGG19
from models.lipformer.codebook_stage import CodebookConfig
from models.lipformer.lip_stage import (
    LipFormerConfig,
    LipFormerStage,
    marginal_entropy,
)
from models.lipformer.lips import Lips
from models.lipformer.sampling import Sample

SIZE = 32
TRAIN = TrainConfig(batch_size=2)
CODEBOOK = CodebookConfig(
    size=SIZE,
    channels=(4, 8, 8),
    blocks=1,
    attention=False,
    dim=8,
    upper_codes=12,
    lower_codes=10,
    train=TRAIN,
)


class OneLayer(VGG19):
    """Five maps of one small layer, in place of VGG-19's."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.layer = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        return [self.layer(pictures)] * 5


def config(**changes: Any) -> LipFormerConfig:
    small = {
        "keypoints": 3,
        "warp_hidden": 8,
        "audio_width": 0.0625,
        "layers": 1,
        "heads": 2,
        "feedforward": 16,
        "perceptual_weight": 0.0,
        "adversarial_weight": 0.0,
        "train": TRAIN,
    }
    return LipFormerConfig.model_validate({**small, **changes})


def stage(seed: int = 0, **changes: Any) -> LipFormerStage:
    torch.manual_seed(seed)
    options = config(**changes)
    audio = options.build_audio()
    rows, columns = CODEBOOK.rows, CODEBOOK.columns
    lips = Lips(
        CODEBOOK.build_encoder(),
        CODEBOOK.build_upper(),
        CODEBOOK.build_lower(),
        CODEBOOK.build_decoder(),
        audio,
        options.build_warp(CODEBOOK.dim),
        options.build_transformer(CODEBOOK.dim, CODEBOOK.lower_codes, rows, columns, audio.dim),
    )
    discriminator = StyleGAN2Discriminator(SIZE, 0.01) if options.adversarial_weight else None
    vgg = OneLayer() if options.perceptual_weight else None
    made = LipFormerStage(options, lips, SIZE, discriminator, vgg)
    # As the runner does.
    for network in made.frozen.values():
        network.eval().requires_grad_(False)
    return made


def batch(seed: int = 0, size: int = 2) -> dict[str, Any]:
    torch.manual_seed(seed)

    def smooth() -> Tensor:
        return F.interpolate(torch.rand(size, 3, 4, 4) * 255, size=SIZE, mode="bilinear").byte()

    return {"clip": ["a"] * size, "target": smooth(), "reference": smooth(), "mel": torch.randn(size, 80, 16)}


def updates(made: LipFormerStage, step: int = 1) -> list[Update]:
    torch.manual_seed(7)
    return list(made.updates(batch(), Progress(step, 0.0)))


def reached(loss: Tensor, made: LipFormerStage) -> set[str]:
    """Networks, trained and frozen, of which a parameter gets a gradient other than 0."""
    networks = {**made.networks, **made.frozen}
    for network in networks.values():
        network.requires_grad_(True)
        network.zero_grad()
    loss.backward(retain_graph=True)
    return {
        name
        for name, network in networks.items()
        if any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    }


# What a sample is ------------------------------------------------------------------------------------


def test_pictures_have_the_size_of_the_codebook():
    assert (stage().sample.view, stage().sample.size) == ("aligned512", SIZE)
    pictures = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    sample = {
        "clip": "a",
        "images": pictures[:1],
        "reference_images": pictures[1:],
        "frame_mel": torch.randn(1, 80, 16),
        "frames": torch.tensor([4]),
    }
    prepared = stage().prepare(sample)
    assert set(prepared) == {"clip", "target", "reference", "mel"}
    for name, picture in zip(("target", "reference"), pictures, strict=True):
        assert torch.equal(prepared[name], picture)
    assert torch.equal(prepared["mel"], sample["frame_mel"][0])


def test_the_sound_is_centred_on_the_frame():
    from prep.rates import FPS
    from prep.sound.features import first_column
    from prep.sound.mel import RATE

    (asked,) = stage().sample.frame_sounds

    def off(offset: int) -> float:
        """Columns from the middle of a frame to that of its chunk, the mean over frames."""
        sound = replace(asked, offset=offset)
        frames = range(10, 60)
        middles = [
            first_column(f, sound, RATE) + (sound.columns - 1) / 2 - RATE / FPS * (f + 0.5) for f in frames
        ]
        return abs(sum(middles) / len(middles))

    assert (asked.feature, asked.columns, asked.lead) == ("mel", 16, 0)
    assert off(asked.offset) == min(off(offset) for offset in range(-5, 6)) < 1.1


# What the decoder is given ----------------------------------------------------------------------------


def test_the_temperature_falls_exponentially():
    made = config(temperature=2.0, temperature_final=0.5, temperature_steps=100)
    assert [made.temperature_at(step) for step in (0, 50, 100, 5000)] == pytest.approx([2, 1, 0.5, 0.5])
    assert config(temperature=2.0, temperature_final=0.5).temperature_at(0) == 0.5


@pytest.mark.parametrize("hard", [True, False])
def test_what_the_decoder_is_given(hard, monkeypatch):
    """Values at their own place, and the target's upper half; the sample is drawn as the configuration says."""
    made = stage(hard=hard, temperature_final=0.7)
    values = torch.randn(2, CODEBOOK.rows, CODEBOOK.columns, CODEBOOK.dim)
    asked = []

    def drawn(*arguments: Any) -> Sample:
        asked.append(arguments)
        return Sample(values, torch.rand(values.shape[:-1]))

    monkeypatch.setattr(lip_stage, "sample_codes", drawn)
    given, predicted = [], []
    made.lips.decoder.register_forward_pre_hook(lambda _, halves: given.append(halves))
    made.lips.transformer.register_forward_hook(lambda _, inputs, logits: predicted.append(logits))
    updates(made)
    assert torch.equal(given[0][1], values.permute(0, 3, 1, 2))
    truth = batch()["target"].float() / 255
    features = made.lips.encoder(truth[:, :, : SIZE // 2])
    torch.testing.assert_close(given[0][0], made.lips.upper.look_up(made.lips.upper.nearest(features)))
    ((logits, codes, true_codes, *options),) = asked
    assert torch.equal(logits.flatten(1, 2), predicted[0])
    assert torch.equal(codes, made.lips.lower.codes)
    assert torch.equal(true_codes, made.lips.lip_codes(truth))
    assert options == [0.7, hard]


def test_halves_in_one_batch_are_those_of_each_picture():
    lips = stage().lips
    target, reference = (batch(seed)["target"].float() / 255 for seed in (0, 1))
    both = lips.encode_both(target, reference)
    assert torch.equal(both.upper, lips.encode_upper(target))
    assert torch.equal(both.lip_codes, lips.lip_codes(target))
    assert torch.equal(both.reference_codes, lips.lip_codes(reference))
    for ours, alone in zip(both.reference, lips.encode(reference), strict=True):
        assert torch.equal(ours, alone)


def test_without_gumbel_it_is_given_the_most_probable_codes():
    made = stage(gumbel=False)
    predicted, given = [], []
    made.lips.transformer.register_forward_hook(lambda _, asked, logits: predicted.append(logits))
    made.lips.decoder.register_forward_pre_hook(lambda _, halves: given.append(halves))
    (update,) = updates(made)
    codes = predicted[0].argmax(2).unflatten(1, (CODEBOOK.rows, CODEBOOK.columns))
    assert torch.equal(given[0][1], made.lips.lower.look_up(codes))
    assert "temperature" not in update.logs


# Losses ----------------------------------------------------------------------------------------------


def test_equation_11():
    made = stage(perceptual_weight=0.1, adversarial_weight=0.1)
    lipformer, discriminator = updates(made)
    logs = lipformer.logs
    expected = 0.5 * logs["cross_entropy"] + logs["L2"] + 0.1 * logs["perceptual"] + 0.1 * logs["adversarial"]
    torch.testing.assert_close(lipformer.loss, expected)
    assert (lipformer.optimizer, discriminator.optimizer) == ("lipformer", "discriminator")


EVERYTHING = {"audio", "warp", "transformer", "decoder"}
PICTURES = {"L2", "perceptual", "adversarial"}


@pytest.mark.parametrize("loss", ["cross_entropy", *sorted(PICTURES)])
@pytest.mark.parametrize("gumbel", [True, False])
def test_what_each_loss_teaches(loss, gumbel):
    made = stage(gumbel=gumbel, perceptual_weight=0.1, adversarial_weight=0.1)
    logs = updates(made)[0].logs
    by_pictures = EVERYTHING if gumbel else {"decoder"}
    expected = by_pictures if loss in PICTURES else EVERYTHING - {"decoder"}
    assert reached(logs[loss], made) & EVERYTHING == expected


def test_no_loss_teaches_what_is_frozen():
    made = stage(perceptual_weight=0.1, adversarial_weight=0.1)
    asked = [network for name, network in made.frozen.items()]
    for update in updates(made):
        update.loss.backward(retain_graph=True)
    assert all(parameter.grad is None for network in asked for parameter in network.parameters())
    assert set(made.frozen) == {"encoder", "upper", "lower", "vgg"}
    trained = [p for o in made.optimizers().values() for group in o.param_groups for p in group["params"]]
    own = [p for network in made.networks.values() for p in network.parameters()]
    assert {id(p) for p in trained} == {id(p) for p in own}
    assert len(trained) == len(own)


@pytest.mark.parametrize(
    ("name", "network"),
    [
        (name, network)
        for name in ("cross_entropy", *sorted(PICTURES))
        for network in sorted(EVERYTHING)
        if (name, network) != ("cross_entropy", "decoder")
    ],
)
def test_gradients_are_those_of_finite_differences(name, network):
    made = stage(perceptual_weight=0.1, adversarial_weight=0.1, hard=False)
    for one in (*made.networks.values(), *made.frozen.values()):
        one.double().eval()
    # The warp begins as the identity, where bilinear sampling has a kink.
    assert made.lips.warp is not None
    with torch.no_grad():
        made.lips.warp.regressor.offsets.bias.fill_(0.3)
    # Differences need more than float32.
    given = {k: v if k == "clip" else v.double() for k, v in batch().items()}

    def loss() -> Tensor:
        torch.manual_seed(7)
        return next(made.updates(given, Progress(1, 0.0))).logs[name]  # type: ignore[arg-type]

    parameters = list(made.networks[network].parameters())
    torch.manual_seed(1)
    directions = [torch.randn_like(p) for p in parameters]
    gradients = torch.autograd.grad(loss(), parameters)
    expected = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    found = _slope(loss, parameters, directions)
    assert abs(expected) > 1e-9
    assert found == pytest.approx(expected, rel=2e-2)


def _slope(loss: Callable[[], Tensor], parameters: list[nn.Parameter], directions: list[Tensor]) -> float:
    """The central difference along a direction."""
    values = []
    step = 1e-6
    with torch.no_grad():
        for sign in (1, -2):
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += sign * step * direction
            values.append(float(loss()))
        for parameter, direction in zip(parameters, directions, strict=True):
            parameter += step * direction
    return (values[0] - values[1]) / (2 * step)


def test_the_discriminator_learns_from_both_and_alone():
    made = stage(adversarial_weight=0.1, r1_every=4)
    assert reached(updates(made)[1].loss, made) == {"discriminator"}
    regularised = [step for step in range(9) if "r1" in updates(made, step)[1].logs]
    assert regularised == [0, 4, 8]
    assert "r1" not in updates(stage(adversarial_weight=0.1, r1_weight=0.0), 0)[1].logs


# Options and optimizers ------------------------------------------------------------------------------


def test_transformer_and_decoder_have_learning_rates_of_their_own():
    made = stage(learning_rate=1e-4, transformer_learning_rate=8e-5)
    (optimizer,) = made.optimizers().values()
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert all(group["betas"] == (0.9, 0.95) for group in optimizer.param_groups)
    for name, network in made.networks.items():
        expected = 8e-5 if name == "transformer" else 1e-4
        assert {rates[id(p)] for p in network.parameters()} == {expected}, name
    made = stage(learning_rate=1e-4, decoder_learning_rate=2e-5)
    (optimizer,) = made.optimizers().values()
    slow = {id(p) for group in optimizer.param_groups if group["lr"] == 2e-5 for p in group["params"]}
    assert slow == {id(p) for p in made.lips.decoder.parameters()}


def test_one_sample_is_no_batch():
    with pytest.raises(ValidationError, match="batch_size is at least 2"):
        config(train=TrainConfig(batch_size=1))


def test_without_warping_the_reference_goes_straight_into_the_transformer():
    made = stage(warping=False)
    assert "warp" not in made.networks
    given = []
    made.lips.transformer.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    updates(made)
    truth = batch()["reference"].float() / 255
    assert torch.equal(given[0][0], made.lips.encode(truth).lower)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_weight": 0}, "no loss trains the decoder"),
        ({"gumbel": False, "cross_entropy_weight": 0}, "no loss trains the transformer"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_options_that_make_no_sense(changes, message):
    with pytest.raises(ValidationError, match=message):
        config(**changes)


# Validation ------------------------------------------------------------------------------------------


def test_entropy_by_hand():
    codes = torch.tensor([[0, 0], [3, 1]])
    expected = 0.5 * math.log(2) + 2 * 0.25 * math.log(4)
    assert float(marginal_entropy(codes, 5)) == pytest.approx(expected)
    assert float(marginal_entropy(torch.zeros(8, dtype=torch.int64), 5)) == 0


def test_figures_of_a_perfect_prediction(monkeypatch):
    made = stage().lips
    whole = stage()
    for network in whole.networks.values():
        network.eval()
    truth = batch()["target"].float() / 255
    codes = whole.lips.lip_codes(truth)
    sure = 50 * F.one_hot(codes, CODEBOOK.lower_codes).permute(0, 3, 1, 2).float()
    monkeypatch.setattr(Lips, "predict", lambda *_: sure)
    figures = {name: float(value) for name, value in whole.validate(batch()).items()}
    assert figures["cross_entropy"] < 1e-6
    assert figures["code_accuracy"] == 1
    reconstructed = made.decoder(*made.encode(truth)).clamp(0, 1)
    error = (reconstructed - truth).square().mean((1, 2, 3))
    assert figures["psnr"] == pytest.approx(-10 * error.log10().mean().item(), abs=1e-3)
    half = (reconstructed - truth)[:, :, SIZE // 2 :].square().mean((1, 2, 3))
    assert figures["psnr_lower"] == pytest.approx(-10 * half.log10().mean().item(), abs=1e-3)
    still = whole.lips.lip_codes(batch()["reference"].float() / 255)
    assert figures["reference_accuracy"] == pytest.approx(float((still == codes).float().mean()))
    assert figures["loss"] == pytest.approx(0.5 * figures["cross_entropy"] + figures["L2"])


def test_samples_are_pictures():
    made = stage()
    pictures = made.samples(batch())
    assert list(pictures) == ["reference", "warped", "generated", "truth"]
    for picture in pictures.values():
        assert picture.shape == (2, 3, SIZE, SIZE)
        assert 0 <= float(picture.min()) <= float(picture.max()) <= 1
    assert torch.equal(pictures["truth"], batch()["target"].float() / 255)


def test_it_learns_what_is_said():
    """Two mouths over one face, told apart by the sound."""
    made = stage(residual=True, learning_rate=5e-3, transformer_learning_rate=5e-3, audio_width=0.125)
    one = batch(size=1)
    mouths, sounds = batch(5)["target"], torch.randn(2, 80, 16)
    faces = torch.cat([one["target"][:, :, : SIZE // 2].expand(2, -1, -1, -1), mouths[:, :, SIZE // 2 :]], 2)
    (optimizer,) = made.optimizers().values()
    told = [0, 1, 1, 0, 1, 0, 0, 1]
    shown = {
        "clip": ["a"] * 8,
        "target": faces[told],
        "reference": faces[[0, 0, 0, 0, 1, 1, 1, 1]],
        "mel": sounds[told],
    }
    first = {k: float(v) for k, v in made.validate(shown).items()}
    for step in range(100):
        (update,) = made.updates(shown, Progress(step, 0.0))
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
    for network in made.networks.values():
        network.eval()
    last = {k: float(v) for k, v in made.validate(shown).items()}
    assert last["cross_entropy"] < 0.5 * min(last["marginal_entropy"], first["cross_entropy"])
    assert last["code_accuracy"] > last["reference_accuracy"] + 0.1
    assert last["psnr"] > first["psnr"] + 2
