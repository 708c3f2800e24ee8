"""DINet's stages and presets; its networks and its generation have tests of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.dinet.method import DINet, DINetConfig
from baselines.dinet.network import WINDOW
from baselines.dinet.stages import ClipStage, FrameConfig, FrameStage
from bench.common.errors import BenchError
from bench.train.assets import load_assets
from bench.train.checkpoint import Checkpoints
from bench.train.config import load_config
from bench.weights.store import WeightStore
from models.base import DataInfo, Progress
from models.layers.mouth_square import MouthSquare
from models.layers.two_scale import two_scale_loss
from models.layers.vgg import VGG19
from prep.sample_spec import Sound
from prep.sampling import check_spec, columns_of

START = Progress(0, 0.0)
TRAIN = {"batch_size": 2}


def method_of(sound: str = "mel", width: float = 0.04, references: int = 2, **stages: Any) -> DINet:
    torch.manual_seed(0)
    network = {"width": width, "references": references, "sound": sound}
    given = {name: {"train": TRAIN, **options} for name, options in stages.items()}
    return DINet(DINetConfig(network=network, **given), DataInfo())  # type: ignore[arg-type]


def ready(method: DINet, name: str) -> Any:
    stage = method.stages[name]
    for network in stage.frozen.values():
        network.eval().requires_grad_(False)
    return stage


def frame_stage(**options: Any) -> FrameStage:
    return ready(method_of(frame64={"perception_weight": 0.0, **options}), "frame64")


def clip_stage(sound: str = "mel", **options: Any) -> ClipStage:
    usual = {"mouth": 64, "perception_weight": 0.0, "expert_width": 0.05}
    return ready(method_of(sound, clip={**usual, **options}), "clip")


def batch_of(stage: FrameStage, n: int = 2) -> dict[str, Any]:
    """What the data set delivers, as :attr:`Stage.sample` asks for it."""
    rng = torch.Generator().manual_seed(1)
    spec, size = stage.sample, (stage.square.height, stage.square.width)

    def pictures(count: int) -> Tensor:
        return torch.randint(0, 256, (n, count, 3, *size), dtype=torch.uint8, generator=rng)

    def sound(one: Sound, *shape: int) -> Tensor:
        return torch.randn(*shape, 80 if one.feature == "mel" else 29, one.columns, generator=rng)

    return {
        "images": pictures(spec.window),
        "reference_images": pictures(spec.references),
        **{f"frame_{s.feature}": sound(s, n, spec.window) for s in spec.frame_sounds},
        **{f"window_{s.feature}": sound(s, n) for s in spec.window_sounds},
    }


def given_to(network: nn.Module) -> list[tuple[Tensor, ...]]:
    """What the network is called with, from now on."""
    calls: list[tuple[Tensor, ...]] = []
    network.register_forward_pre_hook(lambda _, given: calls.append(given))
    return calls


# What they are shown ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sound", "frame", "window"),
    [
        ("speech", Sound("speech.logits", 9, lead=4), Sound("speech.logits", 17, lead=4)),
        ("mel", Sound("mel", offset=-2), Sound("mel")),
    ],
)
def test_the_data_set_can_deliver_their_samples(sound: str, frame: Sound, window: Sound) -> None:
    options = {"perception_weight": 0.0}
    clip = {**options, "expert_width": 0.05}
    method = method_of(sound, frame64=options, frame128=options, frame256=options, clip=clip)
    sizes = {"frame64": (104, 80), "frame128": (208, 160), "frame256": (416, 320), "clip": (416, 320)}
    assert list(method.stages) == list(sizes)
    for name, size in sizes.items():
        spec: Any = method.stages[name].sample
        check_spec(spec)
        assert columns_of(spec)[0] == spec.view == "mouth416x320"
        assert (spec.size, spec.frame_sounds, spec.reference_mode) == (size, (frame,), "random")
        wanted = (WINDOW, 2 * WINDOW, (window,)) if name == "clip" else (1, 2, ())
        assert (spec.window, spec.references, spec.window_sounds) == wanted
        # All of them train one generator, and have discriminators of their own.
        assert method.stages[name].networks["generator"] is method.generator
    judges = ["discriminator64", "discriminator128", "discriminator256", "discriminator"]
    assert list(method.networks) == ["generator", *judges, "clip_discriminator"]
    assert len({id(network) for network in method.networks.values()}) == len(method.networks)


def test_the_generator_sees_the_face_without_its_square_and_every_second_column() -> None:
    stage = clip_stage("speech", sync_weight=0, gan_weight=0, clip_gan_weight=0, l1_weight=1.0)
    batch, calls = batch_of(stage), given_to(stage.networks["generator"])
    stage.validate(batch)
    ((sources, references, sounds),) = calls
    truth = batch["images"].flatten(0, 1) / 255
    torch.testing.assert_close(sources, stage.square.hide(truth))
    assert not sources[:, :, 32:96, 8:72].any() and sources[:, :, 96:].any()
    # Frame 1 of window 0 has the third and the fourth of its window's references.
    torch.testing.assert_close(references[1], batch["reference_images"][0, 2:4].flatten(0, 1) / 255)
    torch.testing.assert_close(sounds[1], batch["frame_speech.logits"][0, 1, :, ::2])
    assert sounds.shape == (2 * WINDOW, 29, 5)


def test_frames_of_a_window_can_share_their_references() -> None:
    stage = clip_stage(sync_weight=0, l1_weight=1.0, references_per_frame=False)
    assert stage.sample.references == 2
    batch, calls = batch_of(stage), given_to(stage.networks["generator"])
    stage.validate(batch)
    assert calls[0][0].shape[0] == 2 * WINDOW and calls[0][1].shape == (2, 6, 104, 80)


# Losses -------------------------------------------------------------------------------------------------------------


def test_losses_are_the_codes() -> None:
    """Discriminators first; the generator is judged by them as they are then."""
    stage = clip_stage(perception_weight=10.0)
    batch = batch_of(stage)
    updates = stage.updates(batch, START)
    picture, clip = next(updates), next(updates)
    assert (picture.optimizer, clip.optimizer) == ("discriminator", "clip_discriminator")
    truth, made = stage._paint(batch)
    made, judges = made.detach(), stage.networks
    for update, fold in ((picture, 1), (clip, WINDOW)):
        fake, real = (x.unflatten(0, (-1, fold)).flatten(1, 2) for x in (made, truth))
        judge = judges[update.optimizer]
        loss = (judge(fake).square().mean() + (judge(real) - 1).square().mean()) / 2
        torch.testing.assert_close(update.loss, loss)
    with torch.no_grad():
        for judge in ("discriminator", "clip_discriminator"):
            judges[judge].conv.bias.add_(0.5)  # type: ignore[operator, union-attr]
    generator = next(updates)
    assert next(updates, None) is None
    vgg, expert = stage.frozen["vgg"], stage.frozen["expert"]
    assert isinstance(vgg, VGG19)
    mouths = made[..., 32:96, 8:72].unflatten(0, (-1, WINDOW)).flatten(1, 2)
    expected = {
        "perception": two_scale_loss(vgg, made, truth),
        "gan": (judges["discriminator"](made) - 1).square().mean(),
        "clip_gan": (judges["clip_discriminator"](made.unflatten(0, (-1, 5)).flatten(1, 2)) - 1)
        .square()
        .mean(),
        "sync": (expert(mouths, batch["window_mel"]) - 1).square().mean(),
    }
    assert set(generator.logs) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(generator.logs[name], value, rtol=1e-4, atol=1e-5)
    weights = {"perception": 10, "gan": 1, "clip_gan": 1, "sync": 0.1}
    total = sum(weights[name] * value for name, value in expected.items())
    torch.testing.assert_close(generator.loss, total, rtol=1e-4, atol=1e-5)


def test_pixels_count_where_they_have_a_weight_and_lips_more() -> None:
    stage = frame_stage(gan_weight=0.0, l1_weight=2.0, mouth_weight=3.0)
    batch = batch_of(stage)
    (update,) = stage.updates(batch, START)
    truth, made = stage._paint(batch)
    lips = (slice(32 + 13, 32 + 45), slice(8 + 10, 8 + 54))
    mouth = F.l1_loss(made[..., lips[0], lips[1]], truth[..., lips[0], lips[1]])
    torch.testing.assert_close(update.loss, 2 * F.l1_loss(made, truth) + 2 * 3 * mouth)
    assert list(update.logs) == ["L1", "mouth"]


def test_a_step_of_the_generator_leaves_nothing_elsewhere() -> None:
    stage = clip_stage()
    *_, update = stage.updates(batch_of(stage), START)
    weights = [p for p in stage.networks["generator"].parameters() if p.requires_grad]
    gradients = torch.autograd.grad(update.loss, weights, allow_unused=True)
    assert max(float(g.abs().max()) for g in gradients if g is not None) > 0
    assert all(p.grad is None for network in stage.frozen.values() for p in network.parameters())


def test_learning_rates_are_constant_and_then_fall() -> None:
    config = FrameConfig(constant_steps=200, decay_steps=200, train=TRAIN)  # type: ignore[arg-type]
    # As the official code's get_scheduler has them, which counts epochs.
    rates = [config.rate_at(step) for step in (0, 200, 201, 300, 400, 401, 900)]
    assert rates == pytest.approx([1, 1, 1 - 1 / 201, 1 - 100 / 201, 1 - 200 / 201, 0, 0])
    assert FrameConfig(train=TRAIN).rate_at(10**9) == 1  # type: ignore[arg-type]
    stage = frame_stage(constant_steps=1, decay_steps=3)
    optimizers = stage.optimizers()
    schedulers = stage.schedulers(optimizers)
    assert set(schedulers) == {"generator", "discriminator64"}
    for _ in range(3):
        optimizers["generator"].step()
        schedulers["generator"].step()
    assert optimizers["generator"].param_groups[0]["lr"] == pytest.approx(1e-4 * (1 - 2 / 4))
    assert optimizers["generator"].param_groups[0]["betas"] == (0.9, 0.999)


def test_validation_measures_the_square() -> None:
    stage = clip_stage(perception_weight=10.0, gan_weight=1.0)
    batch = batch_of(stage)
    figures = {name: float(value) for name, value in stage.validate(batch).items()}
    assert figures["loss"] == pytest.approx(10 * figures["perception"] + 0.1 * figures["sync"], rel=1e-5)
    truth, made = stage._paint(batch)
    errors = (made.detach() - truth)[..., 32:96, 8:72].square().mean((1, 2, 3))
    assert figures["psnr_mouth"] == pytest.approx(float(-10 * errors.log10().mean()), rel=1e-4)
    shown = stage.samples(batch)
    assert list(shown) == ["reference", "shown", "painted", "truth"]
    assert all(picture.shape == (2, 3, 104, 80) for picture in shown.values())
    torch.testing.assert_close(shown["truth"], batch["images"][:, 0] / 255)


def test_a_generator_learns_one_batch() -> None:
    """In a few dozen steps it finds its way to three still faces of one colour each, by their references."""
    stage = frame_stage(gan_weight=0.0, l1_weight=1.0, learning_rate=3e-3)
    batch = batch_of(stage, 3)
    colours = torch.tensor([[200, 30, 60], [40, 180, 90], [90, 80, 220]], dtype=torch.uint8)
    for name in ("images", "reference_images"):
        batch[name] = colours[:, None, :, None, None].expand_as(batch[name]).contiguous()
    (optimizer,) = stage.optimizers().values()
    stage.networks["generator"].train()
    losses = []
    for _ in range(40):
        (update,) = stage.updates(batch, START)
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
        losses.append(update.loss.item())
    assert losses[-1] < 0.25 * losses[0], losses


# Configuration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["paper", "tiny"])
def test_presets_make_a_method(preset: str) -> None:
    loaded: Any = load_config("dinet", preset, [], [], Path("run")).method_config
    with torch.device("meta"):
        method = DINet(loaded, DataInfo())
    assert method.needed_networks == ("generator",) and method.views == ("mouth416x320",)
    paper = preset == "paper"
    assert list(method.stages) == [*(["frame64", "frame128", "frame256"] if paper else ["frame64"]), "clip"]
    assert ("vgg" in method.assets) == paper
    assert method.assets["expert"].module is method.stages["clip"].frozen["expert"]  # type: ignore[union-attr]
    square: MouthSquare = method.stages["clip"].square  # type: ignore[union-attr]
    assert square.mouth == (256 if paper else 64)


def test_a_missing_expert_names_the_ways_out(tmp_path: Path) -> None:
    overrides = [f"clip.expert={tmp_path / 'expert'}", "network.sound=mel"]
    loaded = load_config("dinet", "tiny", overrides, [], Path("run")).method_config
    with torch.device("meta"):
        method = DINet(loaded, DataInfo())  # type: ignore[arg-type]
    with pytest.raises(BenchError) as raised:
        load_assets(method, {"train"}, WeightStore({}, []))
    assert str(raised.value) == (
        f"dinet needs {tmp_path}/expert for the sync loss, which does not exist: train one with the same "
        f"--preset: bench train sync-expert --data DATA --set expert.view=mouth416x320 --run {tmp_path}/expert; "
        "or do without: --set clip.sync_weight=0"
    )


def test_an_expert_that_hardly_knows_right_from_wrong_sound_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "expert"
    overrides = [f"clip.expert={run}", "clip.expert_kind=scores", "clip.expert_even=true"]

    def method(*words: str) -> DINet:
        config = load_config("dinet", "tiny", [*overrides, *words], [], Path("run")).method_config
        return DINet(config, DataInfo())  # type: ignore[arg-type]

    built = method()
    state = built.assets["expert"].module.state_dict()
    with pytest.raises(BenchError, match=f"--preset dinet --data DATA --run {run}; or do without"):
        load_assets(built, {"train"}, WeightStore({}, []))
    Checkpoints(run / "expert" / "checkpoints").save(
        "step-00000900", {"expert": state}, {}, {"step": 900, "best": {"step": 900, "rank": 0.55}}, best=True
    )
    with pytest.raises(BenchError) as raised:
        load_assets(built, {"train"}, WeightStore({}, []))
    assert str(raised.value) == (
        f"dinet needs {run} for the sync loss, whose rank is 0.550 on held-out clips; at least 0.75 is asked for: "
        "train a better one, or go on with this: --set clip.expert_rank=0"
    )
    for words in (["clip.expert_rank=0"], ["clip.expert_rank=0.55"]):
        assert load_assets(method(*words), {"train"}, WeightStore({}, []))


def test_a_method_without_a_stage_is_refused() -> None:
    with pytest.raises(ValidationError, match="give one of the tables frame64, frame128, frame256, clip"):
        DINetConfig()


def test_checkpoints_of_the_authors_go_to_the_networks_of_the_clip_stage() -> None:
    with torch.device("meta"):
        method = method_of("speech", 1.0, 5, clip={"perception_weight": 0.0, "expert_width": 0.05})
        found = DINet.from_official(
            {
                f"{beginning}.module.{key}": value
                for beginning, name in (
                    ("net_g", "generator"),
                    ("net_dI", "discriminator"),
                    ("net_dV", "clip_discriminator"),
                )
                for key, value in method.networks[name].state_dict().items()
            }
        )
    for name, network in method.networks.items():
        assert found[name].keys() == network.state_dict().keys()


def test_logits_of_speech_come_from_the_source_that_is_named(tmp_path: Path) -> None:
    clip = {"perception_weight": 0.0, "sync_weight": 0.0}
    method = method_of("speech", clip=clip)
    assert list(method.derivations) == list(method.assets) == ["speech"]
    assert method_of("mel", clip=clip).derivations == method_of("mel", clip=clip).assets == {}
    named = method.stages["clip"].sample.frame_sounds[0].feature  # type: ignore[union-attr]
    derivation = method.derivations["speech"]
    (column,) = derivation.columns
    assert (named, column.shape, column.rate) == (f"{derivation.name}.{column.name}", (29,), 50)
    overrides = [f"speech.files={tmp_path}", "clip.sync_weight=0"]
    loaded = load_config("dinet", "paper", overrides, [], Path("run")).method_config
    with pytest.raises(ValueError, match=r"holds no \.npy file; name the folder with <clip id>\.npy"):
        DINet(loaded, DataInfo())  # type: ignore[arg-type]
    words = r"needs runs/speech for the speech features, .*; or do without: --set network\.sound=mel$"
    with pytest.raises(BenchError, match=words):
        load_assets(method, {"derive"}, WeightStore({}, []))
