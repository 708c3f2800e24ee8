from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from baselines.synctalkface.memory import AudioLipMemory, address_loss, slots_used, store_loss
from baselines.synctalkface.method import SyncTalkFace, SyncTalkFaceMethodConfig
from baselines.synctalkface.network import Generator, LipEncoder, Painted, lips_of
from baselines.synctalkface.stage import SIDES, SyncTalkFaceConfig, SyncTalkFaceStage
from baselines.wav2lip.discriminator import QualityDiscriminator
from baselines.wav2lip.network import Generator as Painter
from bench.common.errors import BenchError
from bench.train.assets import load_assets
from bench.train.config import load_config
from bench.weights.store import WeightStore
from models.base import DataInfo, Drive, Progress, TrainConfig
from prep.sample_spec import Sound
from prep.sampling import check_spec, columns_of
from tests.baselines.test_wav2lip import Footage
from tests.models.fakes import FakeSpeech

START = Progress(0, 0.0)


def config_of(**changes: Any) -> SyncTalkFaceConfig:
    values: dict[str, Any] = {
        "view": "face96",
        "width": 0.05,
        "slots": 6,
        "expert_width": 0.05,
        "train": TrainConfig(batch_size=2),
        **changes,
    }
    return SyncTalkFaceConfig(**values)


def method_of(**changes: Any) -> SyncTalkFace:
    torch.manual_seed(0)
    return SyncTalkFace(SyncTalkFaceMethodConfig(synctalkface=config_of(**changes)), DataInfo())


def made(**changes: Any) -> SyncTalkFaceStage:
    stage = method_of(**changes).stages["synctalkface"]
    assert isinstance(stage, SyncTalkFaceStage)
    for network in stage.frozen.values():
        network.eval().requires_grad_(False)
    return stage


def batch_of(n: int = 2, side: int = 96) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(1)
    return {
        "images": torch.randint(0, 256, (n, 9, 3, side, side), dtype=torch.uint8, generator=rng),
        "reference_images": torch.randint(0, 256, (n, 5, 3, side, side), dtype=torch.uint8, generator=rng),
        "frame_mel": torch.rand(n, 9, 80, 16, generator=rng) * 8 - 4,
        "window_mel": torch.rand(n, 80, 16, generator=rng) * 8 - 4,
    }


# The memory ---------------------------------------------------------------------------------------------------------


def small_memory(sharpness: float = 16.0) -> AudioLipMemory:
    """Two slots of two dimensions, keys along the axes, and embeddings that change nothing."""
    memory = AudioLipMemory(2, 2, slots=2, dim=2, sharpness=sharpness)
    with torch.no_grad():
        memory.keys.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.5]]))
        memory.values.copy_(torch.tensor([[1.0, 1.0], [-2.0, 2.0]]))
        for embedding in (memory.embed_sound, memory.embed_lips):
            embedding.weight.copy_(torch.eye(2))
            embedding.bias.zero_()
    return memory


def test_sound_addresses_keys_and_recalls_values() -> None:
    """By hand: the length of keys does not count, the angle does; exp(0.6 s) and exp(0.8 s) weigh the values."""
    heard, seen, embedded = small_memory(sharpness=2.0)(torch.tensor([[0.3, 0.4]]))
    first, second = math.exp(2 * 0.6), math.exp(2 * 0.8)
    weight = first / (first + second)
    torch.testing.assert_close(heard.address.exp(), torch.tensor([[weight, 1 - weight]]))
    expected = [weight - 2 * (1 - weight), weight + 2 * (1 - weight)]
    torch.testing.assert_close(heard.value, torch.tensor([expected]))
    assert seen is None and embedded is None


def test_lips_address_values() -> None:
    """By hand: lips along the first value are at right angles to the second, so that exp(s) stands against 1."""
    lips = torch.tensor([[5.0, 5.0]])
    _, seen, embedded = small_memory(sharpness=2.0)(torch.tensor([[1.0, 0.0]]), lips)
    weight = math.exp(2) / (math.exp(2) + 1)
    torch.testing.assert_close(seen.address.exp(), torch.tensor([[weight, 1 - weight]]))
    torch.testing.assert_close(embedded, lips)


def test_with_the_codes_sharpness_the_nearest_slot_is_recalled() -> None:
    heard, *_ = small_memory()(torch.tensor([[1.0, 0.1], [-0.2, 1.0]]))
    torch.testing.assert_close(heard.value, torch.tensor([[1.0, 1.0], [-2.0, 2.0]]), atol=1e-3, rtol=0)


def test_a_memory_begins_with_the_codes_size_and_spread() -> None:
    torch.manual_seed(0)
    memory = AudioLipMemory(512, 512)
    for matrix in (memory.keys, memory.values):
        assert matrix.shape == (96, 512)
        assert float(matrix.detach().std()) == pytest.approx(0.5, abs=0.01)
        assert float(matrix.detach().mean()) == pytest.approx(0, abs=0.01)
    assert not torch.equal(memory.keys, memory.values)
    assert memory.sharpness == 16
    assert memory.embed_sound.weight.shape == memory.embed_lips.weight.shape == (512, 512)


def test_what_is_stored_follows_lips_that_stand_still() -> None:
    recalled, lips = torch.zeros(1, 2, requires_grad=True), torch.tensor([[3.0, 1.0]], requires_grad=True)
    loss = store_loss(recalled, lips)
    assert loss.item() == pytest.approx((9 + 1) / 2)
    loss.backward()
    assert lips.grad is None and recalled.grad is not None


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [
        ("key-value", 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)),
        ("value-key", 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)),
    ],
)
def test_addresses_of_sound_follow_those_of_lips(divergence: Any, expected: float) -> None:
    sounds = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log().requires_grad_()
    lips = torch.tensor([[0.25, 0.75], [0.25, 0.75]]).log().requires_grad_()
    loss = address_loss(sounds, lips, divergence)
    assert loss.item() == pytest.approx(expected / 2)
    loss.backward()
    assert lips.grad is None and sounds.grad is not None


def test_slots_are_counted_by_how_often_they_are_used() -> None:
    apart = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]).log()
    collapsed = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 2).log()
    assert float(slots_used(apart)) == pytest.approx(2)
    assert float(slots_used(collapsed)) == pytest.approx(1)
    assert float(slots_used(torch.full((3, 4), math.log(0.25)))) == pytest.approx(4)


def test_a_memory_learns_which_lips_belong_to_which_sound() -> None:
    """Four sounds and four lips in pairs: what a sound recalls becomes what its lips recall."""
    torch.manual_seed(0)
    memory = AudioLipMemory(4, 3, slots=8, dim=6)
    sounds, lips = torch.eye(4), torch.randn(4, 3)
    optimizer = torch.optim.Adam(memory.parameters(), 1e-2)

    def losses() -> tuple[Tensor, Tensor, Tensor]:
        heard, seen, embedded = memory(sounds, lips)
        apart = (heard.value - embedded).square().mean()
        return store_loss(seen.value, embedded), address_loss(heard.address, seen.address), apart

    before = [loss.item() for loss in losses()]
    for _ in range(300):
        store, address, _ = losses()
        optimizer.zero_grad()
        (store + address).backward()
        optimizer.step()
    after = [loss.item() for loss in losses()]
    assert all(a < 0.1 * b for a, b in zip(after, before, strict=True)), (before, after)


# The networks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [96, 128])
def test_both_sizes_of_faces_are_painted(side: int) -> None:
    network = Generator(0.05, side=side, slots=6)
    mels, faces, lips = torch.rand(2, 80, 16), torch.rand(2, 6, side, side), torch.rand(2, 3, 5, side, side)
    with torch.no_grad():
        painted = network(mels, faces)
        both = network(mels, faces, lips)
        logits = QualityDiscriminator(0.05, side)(painted)
    assert painted.shape == both.by_sound.shape == both.by_lips.shape == (2, 3, side, side)
    assert 0 <= float(painted.min()) <= float(painted.max()) <= 1
    assert logits.shape == (2,)
    assert both.features.shape == (2, network.lip_encoder.length)
    assert both.heard.address.shape == both.seen.address.shape == (2, 6)


def test_the_networks_of_the_preset_paper_have_the_codes_dimensions() -> None:
    with torch.device("meta"):
        config: Any = load_config("synctalkface", "paper", [], [], Path("run")).method_config
        network = config.synctalkface.build()
        judge = SyncTalkFace(config, DataInfo()).networks["discriminator"]
    assert network.memory.keys.shape == network.memory.values.shape == (96, 512)
    assert network.memory.sharpness == 16
    dropout, joined = network.fusion
    assert (dropout.p, joined.in_features, joined.out_features) == (0.5, 1024, 512)
    assert network.lip_encoder.length == 512
    first = network.lip_encoder.first[0]
    assert (first.in_channels, first.out_channels) == (3, 64)
    assert (first.kernel_size, first.stride) == ((5, 7, 7), (2, 2, 2))
    # The last encoder block brings 4×4 to one vector, the first decoder block brings it back.
    assert network.painter.face_encoder_blocks[-1][0].conv_block[0].kernel_size == (4, 4)
    assert network.painter.face_decoder_blocks[1][0].conv_block[0].kernel_size == (4, 4)
    assert len(network.painter.face_encoder_blocks) == 7
    assert len(judge.face_encoder_blocks) == len(QualityDiscriminator(0.01).face_encoder_blocks) + 1


def test_without_lips_the_frames_are_those_of_the_sounds_memory() -> None:
    # In training mode, in which the normalisation of an untrained network lets the code through.
    network = Generator(0.05, side=96, slots=6, dropout=0.0)
    mels, faces = torch.rand(2, 80, 16), torch.rand(2, 6, 96, 96)
    with torch.no_grad():
        both: Painted = network(mels, faces, torch.rand(2, 3, 5, 96, 96))
        torch.testing.assert_close(network(mels, faces), both.by_sound)
    assert (both.by_sound - both.by_lips).abs().max() > 1e-5


def test_the_painter_sees_a_grey_mask_whatever_was_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Generator(0.05, side=96, slots=6).eval()
    faces = torch.rand(1, 6, 96, 96)
    other = faces.clone()
    other[:, :3, 48:] = torch.rand(1, 3, 48, 96)
    seen: list[Tensor] = []
    original = Painter.look
    monkeypatch.setattr(Painter, "look", lambda self, given: seen.append(given) or original(self, given))
    with torch.no_grad():
        pictures = [network(torch.rand(1, 80, 16) * 0, given) for given in (faces, other)]
    torch.testing.assert_close(*pictures)
    assert not seen[0][:, :3, 48:].any()
    torch.testing.assert_close(seen[0][:, :3, :48], 2 * faces[:, :3, :48] - 1)
    torch.testing.assert_close(seen[0][:, 3:], 2 * faces[:, 3:] - 1)


def test_the_residual_generator_begins_with_the_reference() -> None:
    faces = 0.1 + 0.8 * torch.rand(1, 6, 96, 96)
    with torch.no_grad():
        painted = Generator(0.05, residual=True, side=96, slots=6).eval()(torch.rand(1, 80, 16), faces)
    torch.testing.assert_close(painted[:, :, :48], faces[:, :3, :48])
    torch.testing.assert_close(painted[:, :, 48:], faces[:, 3:, 48:])


def test_lips_are_five_frames_without_their_upper_half() -> None:
    """Frames whose level says which they are; the lips of the second frame that has lips begin with the second."""
    levels = torch.arange(7) / 10
    frames = levels.view(1, 7, 1, 1, 1).expand(2, 7, 3, 8, 8).clone()
    frames[1] += 0.1
    frames[:, :, 0] = 1.0  # red
    lips = lips_of(frames)
    assert lips.shape == (2 * 3, 3, 5, 8, 8)
    assert not lips[..., :4, :].any()
    torch.testing.assert_close(lips[1, 0, :, 4, 0], 2 * levels[1:6] - 1)
    torch.testing.assert_close(lips[4, 0, :, 4, 0], 2 * (levels[1:6] + 0.1) - 1)
    assert (lips[:, 2, :, 4:] == 1).all()  # BGR


# The stage ----------------------------------------------------------------------------------------------------------


def test_the_data_set_can_deliver_its_samples() -> None:
    spec = made().sample
    check_spec(spec)
    assert columns_of(spec) == ["face96", "mel"]
    assert (spec.window, spec.references, spec.reference_mode, spec.window_sound_frame) == (9, 5, "run", 2)
    assert spec.frame_sounds == (Sound("mel", offset=-1),) and spec.window_sounds == (Sound("mel"),)
    assert spec.min_frames == 16
    with torch.device("meta"):
        large = method_of(view="face128").stages["synctalkface"].sample
    check_spec(large)
    assert columns_of(large) == ["face128", "mel"]


def test_the_loss_is_the_codes_sum() -> None:
    stage = made()
    generator, discriminator = stage.updates(batch_of(), START)
    logs = {name: value.item() for name, value in generator.logs.items()}
    both = ("L1", "sync", "visual")
    expected = sum(
        weight * (logs[name] + logs[f"{name}_lips"])
        for name, weight in zip(both, (10, 0.2, 0.2), strict=True)
    )
    expected += 0.2 * (logs["gan"] + logs["store"] + logs["address"])
    assert generator.loss.item() == pytest.approx(expected, rel=1e-5)
    assert set(logs) == {*both, *(f"{name}_lips" for name in both), "gan", "store", "address", "slots"}
    # Nothing is known yet: ln 2 for each of two frames, and for the true one.
    assert logs["gan"] == pytest.approx(2 * math.log(2), abs=0.2)
    assert discriminator.loss.item() == pytest.approx(3 * math.log(2), abs=0.3)
    assert 1 <= logs["slots"] <= 6


def test_the_middle_frames_are_painted_with_their_own_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of nine frames the middle five; the lips of each are the five frames around it."""
    stage, batch = made(gan_weight=0, sync_weight=0), batch_of()
    given: dict[str, Tensor] = {}

    def forward(mels: Tensor, faces: Tensor, lips: Tensor) -> Painted:
        given.update(mels=mels, faces=faces, lips=lips)
        return original(mels, faces, lips)

    generator = stage.networks["generator"]
    original = generator.forward
    monkeypatch.setattr(generator, "forward", forward)
    stage.validate(batch)
    truth = batch["images"].float() / 255
    torch.testing.assert_close(given["mels"], batch["frame_mel"][:, 2:7].flatten(0, 1))
    shown = given["faces"][:, :3].flip(1).unflatten(0, (2, 5))
    torch.testing.assert_close(shown[..., :48, :], truth[:, 2:7, :, :48])
    references = (batch["reference_images"].float() / 255).flatten(0, 1).flip(1)
    torch.testing.assert_close(given["faces"][:, 3:], references)
    around = given["lips"].unflatten(0, (2, 5))[:, 1].transpose(1, 2).flip(2)  # of frame 3: frames 1 to 5
    torch.testing.assert_close(around[..., 48:, :], 2 * truth[:, 1:6, :, 48:] - 1)


def test_the_mouth_counts_more_where_it_has_a_weight() -> None:
    stage = made(gan_weight=0, sync_weight=0, visual_weight=0, mouth_weight=2.0)
    (update,) = stage.updates(batch_of(), START)
    logs = {name: value.item() for name, value in update.logs.items()}
    assert set(logs) == {"L1", "mouth", "L1_lips", "mouth_lips", "store", "address", "slots"}
    expected = 10 * (logs["L1"] + logs["L1_lips"]) + 20 * (logs["mouth"] + logs["mouth_lips"])
    assert update.loss.item() == pytest.approx(expected + 0.2 * (logs["store"] + logs["address"]), rel=1e-5)


def gradients(stage: SyncTalkFaceStage, loss: str) -> dict[str, float]:
    """Largest absolute gradient of one loss by each parameter of the generator."""
    update = next(stage.updates(batch_of(), START))
    named = dict(stage.networks["generator"].named_parameters())
    found = torch.autograd.grad(update.logs[loss], list(named.values()), allow_unused=True)
    return {
        name: 0.0 if one is None else float(one.abs().max()) for name, one in zip(named, found, strict=True)
    }


@pytest.mark.parametrize(
    ("loss", "reached", "unreached"),
    [
        ("L1", ("keys", "values", "embed_sound"), ("embed_lips",)),
        ("L1_lips", ("values", "embed_lips"), ("keys", "embed_sound")),
        ("sync", ("keys", "values", "embed_sound"), ("embed_lips",)),
        ("store", ("values", "embed_lips"), ("keys", "embed_sound")),
        ("address", ("keys", "embed_sound"), ("values", "embed_lips")),
    ],
)
def test_which_part_of_the_memory_each_loss_reaches(
    loss: str, reached: tuple[str, ...], unreached: tuple[str, ...]
) -> None:
    found = gradients(made(dropout=0.0, gan_weight=0), loss)
    for part in reached:
        assert max(v for name, v in found.items() if name.startswith(f"memory.{part}")) > 0, part
    for part in unreached:
        assert max(v for name, v in found.items() if name.startswith(f"memory.{part}")) == 0, part


@pytest.mark.parametrize(("loss", "learns"), [("visual", True), ("L1", False), ("L1_lips", True)])
def test_which_losses_the_lip_encoder_learns_from(loss: str, learns: bool) -> None:
    found = gradients(made(dropout=0.0, gan_weight=0), loss)
    assert (max(v for name, v in found.items() if name.startswith("lip_encoder.")) > 0) == learns
    # Each of them trains what paints.
    assert found["painter.output_block.1.weight"] > 0


def test_generated_lips_are_judged_by_a_copy_of_the_lip_encoder() -> None:
    """As with a deep copy: the same distance, no gradient by its weights, nothing in the running means."""
    stage = made(gan_weight=0, sync_weight=0, dropout=0.0)
    encoder = stage.networks["generator"].lip_encoder
    assert isinstance(encoder, LipEncoder)
    lips = torch.rand(2, 3, 5, 96, 96, requires_grad=True)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    expected = copy.deepcopy(encoder)(lips)
    found = stage._criticised(lips)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert all(weights.grad is None for weights in encoder.parameters())
    assert lips.grad is not None and lips.grad.abs().max() > 0
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_frozen_expert_gets_no_gradient() -> None:
    stage = made(gan_weight=0)
    next(stage.updates(batch_of(), START)).loss.backward()
    assert all(p.grad is None for p in stage.frozen["expert"].parameters())


def test_validation_measures_the_frames_of_the_sound() -> None:
    stage = made()
    figures = {name: float(value) for name, value in stage.validate(batch_of()).items()}
    expected = 10 * figures["L1"]
    expected += 0.2 * sum(figures[name] for name in ("sync", "visual", "gan", "store", "address"))
    assert figures["loss"] == pytest.approx(expected, rel=1e-5)
    assert 1 / 6 <= figures["sharp"] <= 1 <= figures["slots"] <= 6
    shown = stage.samples(batch_of())
    assert list(shown) == ["reference", "by sound", "by lips", "truth"]
    assert all(picture.shape == (2, 3, 96, 96) for picture in shown.values())
    torch.testing.assert_close(shown["truth"], batch_of()["images"][:, 4].float() / 255)


def test_optimizers_are_the_codes() -> None:
    generator, discriminator = (o.param_groups[0] for o in made().optimizers().values())
    assert (generator["lr"], generator["betas"]) == (1e-4, (0.5, 0.999))
    assert (discriminator["lr"], discriminator["betas"]) == (5e-4, (0.5, 0.999))


@pytest.mark.parametrize(
    "options", [{"slots": 1}, {"dropout": 1.0}, {"memory_weight": 0.0}, {"view": "box128"}]
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config_of(**options)


# The method ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["paper", "tiny"])
def test_presets_make_a_method(preset: str) -> None:
    loaded: Any = load_config("synctalkface", preset, [], [], Path("run")).method_config
    with torch.device("meta"):
        method = SyncTalkFace(loaded, DataInfo())
    stage = loaded.synctalkface
    assert method.views == (stage.view,) == (method.stages["synctalkface"].sample.view,)  # type: ignore[union-attr]
    assert method.needed_networks == ("generator",)
    assert ("discriminator" in method.networks) == (preset == "paper")
    assert method.assets["expert"].module is method.stages["synctalkface"].frozen["expert"]
    view = f"expert.view={stage.view}"
    expert: Any = load_config("sync-expert", preset, [view], [], Path("run")).method_config
    shapes = [
        {k: v.shape for k, v in n.state_dict().items()}
        for n in (expert.expert.build(), method.assets["expert"].module)
    ]
    assert shapes[0] == shapes[1]


def test_a_missing_expert_names_the_ways_out(tmp_path: Path) -> None:
    overrides = [f"synctalkface.expert={tmp_path / 'expert'}"]
    loaded = load_config("synctalkface", "paper", overrides, [], Path("run")).method_config
    with torch.device("meta"):
        method = SyncTalkFace(loaded, DataInfo())  # type: ignore[arg-type]
    with pytest.raises(BenchError) as raised:
        load_assets(method, {"train"}, WeightStore({}, []))
    assert str(raised.value) == (
        f"synctalkface needs {tmp_path}/expert for the sync loss, which does not exist: train one with the same "
        f"--preset: bench train sync-expert --data DATA --set expert.view=face128 --run {tmp_path}/expert; "
        "or do without: --set synctalkface.sync_weight=0"
    )


def test_without_weight_no_expert_is_needed() -> None:
    method = method_of(sync_weight=0, gan_weight=0)
    assert method.assets == {} and list(method.networks) == ["generator"]
    (update,) = method.stages["synctalkface"].updates(batch_of(), START)
    assert "sync" not in update.logs and "gan" not in update.logs


class Face(Footage):
    """Footage whose face is seen in one view."""

    def __init__(self, view: str, n_frames: int, missing: Any = ()) -> None:
        super().__init__(n_frames, missing)
        self.view = view

    def crop(self, view: str, shot: Any) -> Any:
        assert view == self.view
        crop = super().crop("face96", shot)
        if crop is None or view == "face96":
            return crop
        larger = np.kron(crop.picture, np.ones((2, 2, 1), np.uint8))[:128, :128]
        return type(crop)(larger, crop.transform * 128 / 96)


@pytest.mark.parametrize("view", list(SIDES))
def test_it_generates_with_its_generator_alone(view: str) -> None:
    method = method_of(view=view)
    method.networks["generator"].eval()
    footage, speech = Face(view, 5, missing=[1]), FakeSpeech()
    with torch.no_grad():
        frames = list(method.generate(Drive(footage, speech, footage)))  # type: ignore[arg-type]
    same = [np.array_equal(frame, footage.frame(i)) for i, frame in enumerate(frames)]
    assert same == [False, True, False, False, False]
    assert {sound for _, sound in speech.asked} == {Sound("mel", offset=-1)}


def test_another_sound_recalls_other_lips() -> None:
    network = method_of(dropout=0.0).networks["generator"]
    faces = torch.rand(1, 6, 96, 96).expand(3, 6, 96, 96)
    sounds = 8 * torch.rand(2, 80, 16) - 4
    with torch.no_grad():
        one, same, other = network(sounds[[0, 0, 1]], faces)
    torch.testing.assert_close(one, same)
    assert (one - other).abs().max() > 1e-3


def test_no_official_weights_are_known() -> None:
    with pytest.raises(ValueError, match="no official weights of synctalkface are known"):
        SyncTalkFace.from_official({})
