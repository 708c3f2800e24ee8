"""ATVGnet: its networks against the official ones, its losses by hand, and what generation does with landmarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from baselines.atvg.discriminator import RegressionDiscriminator
from baselines.atvg.faces import Faces
from baselines.atvg.landmark_network import LandmarkNetwork
from baselines.atvg.landmark_stage import LandmarkConfig, LandmarkStage
from baselines.atvg.layers import ConvGRU, initialise
from baselines.atvg.method import BASICS, Atvg, AtvgConfig
from baselines.atvg.picture_network import PictureNetwork
from baselines.atvg.picture_stage import PictureConfig, PictureStage, landmark_error, mouth_region
from baselines.landmarks.points import COUNT, IBUG, LOWER, UPPER
from baselines.landmarks.space import LandmarkSpace
from bench.train.config import load_config
from models.base import Crop, DataInfo, Drive, Progress, Shot, TrainConfig
from prep.sample_spec import MFCC_28X12, Sound
from prep.sampling import check_spec, columns_of
from prep.views import VIEWS
from tests.baselines.official import inputs, loaded, outputs, spec
from tests.models.fakes import mesh

START = Progress(0, 0.0)
MODES = 3
PRESETS = ("paper", "tiny")


def space_of(modes: int = MODES) -> LandmarkSpace:
    """A space whose face is that of a real clip, and whose first mode opens the mouth."""
    space = LandmarkSpace(modes)
    points = torch.from_numpy(faces(1)[0])
    points = points - points.mean(0)
    space.shape.copy_(points * (5 / points[:, :2].norm()))
    space.mean.copy_(space.shape[:, :2].flatten())
    rng = torch.Generator().manual_seed(0)
    modes_ = torch.randn(modes, 2 * COUNT, generator=rng)
    modes_[0] = 0
    modes_[0, 2 * LOWER + 1], modes_[0, 2 * UPPER + 1] = 1, -1
    orthonormal, _ = torch.linalg.qr(modes_.T)
    space.components.copy_(orthonormal.T * torch.sign(orthonormal[2 * LOWER + 1, :1]))
    return space


def faces(count: int) -> np.ndarray:
    """(count, 68, 3) float32: the points of a real clip, pixels of a frame of 160², with a depth."""
    flat = mesh(160)[np.arange(count) % 25][:, IBUG]
    depth = np.abs(flat[..., :1] - 80) / 2
    return np.concatenate([flat, depth], axis=2).astype(np.float32)


def picture_config(**changes: Any) -> PictureConfig:
    values: dict[str, Any] = {
        "width": 0.05,
        "side": 32,
        "blocks": 1,
        "dropout": 0.0,
        "window": 3,
        "train": TrainConfig(batch_size=2),
        **changes,
    }
    return PictureConfig(**values)


def method_of(identity: str = "kept", at: dict[str, Any] | None = None, **changes: Any) -> Atvg:
    torch.manual_seed(0)
    generate = changes.pop("generate", {})
    config = AtvgConfig.model_validate(
        {
            "space": {"modes": MODES, "identity": identity},
            "at": {"width": 0.05, "window": 4, "train": {"batch_size": 2}, **(at or {})},
            "vg": picture_config(**changes).model_dump(),
            "generate": generate,
        }
    )
    method = Atvg(config, DataInfo())
    method.networks["space"].load_state_dict(space_of().state_dict())
    return method


def landmark_batch(count: int = 5) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(1)
    points = torch.from_numpy(np.stack([faces(count), faces(count + 6)[6:]]))
    return {
        "landmarks": points,
        "reference_landmarks": points[:, -1:],
        "frame_mfcc12": torch.randn(2, count, 12, 28, generator=rng) * 10,
    }


def picture_batch(side: int = 32) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(1)
    points = torch.from_numpy(np.stack([faces(4), faces(10)[6:]]))[..., :2]
    return {
        "images": torch.randint(0, 256, (2, 3, 3, side, side), dtype=torch.uint8, generator=rng),
        "reference_images": torch.randint(0, 256, (2, 1, 3, side, side), dtype=torch.uint8, generator=rng),
        "landmarks": points[:, 1:],
        "reference_landmarks": points[:, :1],
    }


# The official networks ----------------------------------------------------------------------------------------------


def stored(system: str, name: str, values: Tensor) -> np.ndarray:
    stride = spec(system)["outputs"][name].get("stride", 1)
    return values.numpy().ravel()[::stride]


@torch.no_grad()
def test_the_landmark_network_is_the_official_one() -> None:
    given, expected = inputs("atvg_at"), outputs("atvg_at")
    found = loaded("atvg_at", LandmarkNetwork())(given["example_landmark"], given["mfcc"])
    np.testing.assert_allclose(found, expected["pca"], atol=1e-5)


@torch.no_grad()
def test_the_picture_network_is_the_official_one() -> None:
    given, expected = inputs("atvg_vg"), outputs("atvg_vg")
    network = loaded("atvg_vg", PictureNetwork(recur="batch"))
    found = network(given["image"][:, None], given["landmarks"], given["example_landmark"][:, None])
    for name, values in zip(("output", "attention", "color", "lmark_att"), found, strict=False):
        np.testing.assert_allclose(stored("atvg_vg", name, values), expected[name].ravel(), atol=1e-5)


@torch.no_grad()
def test_the_discriminator_is_the_official_one() -> None:
    given, expected = inputs("atvg_disc"), outputs("atvg_disc")
    logits, found = loaded("atvg_disc", RegressionDiscriminator())(given["frames"], given["example_landmark"])
    np.testing.assert_allclose(logits.sigmoid(), expected["decision"], atol=1e-5)
    np.testing.assert_allclose(found, expected["landmarks"], atol=1e-5)


def test_official_checkpoints_are_told_by_their_keys() -> None:
    for name, network in (("at", LandmarkNetwork()), ("vg", PictureNetwork())):
        state = {f"module.{key}": value for key, value in network.state_dict().items()}
        (found,) = Atvg.from_official(state)
        assert found == name
    with pytest.raises(ValueError, match=r"not a checkpoint of ATVGnet: the (at|vg) network misses"):
        Atvg.from_official({"weight": torch.zeros(1)})


def basics() -> dict[str, Tensor]:
    """Arrays of the shapes of the official ones."""
    rng = torch.Generator().manual_seed(0)
    components, _ = torch.linalg.qr(torch.randn(136, 136, generator=rng, dtype=torch.float64))
    shapes, _ = torch.linalg.qr(torch.randn(136, 100, generator=rng, dtype=torch.float64))
    mean = torch.randn(68, 2, generator=rng, dtype=torch.float64)
    values = (mean, shapes.T.contiguous(), components, torch.randn(136, generator=rng, dtype=torch.float64))
    return dict(zip(BASICS, values, strict=True))


def test_the_official_space_is_the_face_that_any_example_is_taken_for() -> None:
    """Step by step as ``normLmarks`` of the official demo does it with one face, whichever it is."""
    given = basics()
    state = Atvg.from_official(given)["space"]
    mean, shapes = given["mean_shape_norm"].flatten().numpy(), given["S"].numpy()
    opened = np.zeros((1, 100))
    opened[:, 1] = -0.06
    changed = mean.copy()
    changed[96:] += (opened @ shapes)[0, 96:]
    face = np.random.default_rng(0).normal(size=136)
    own = shapes @ (face - mean)
    expected = (own - own - shapes @ (changed - mean)) @ shapes + mean
    np.testing.assert_allclose(state["shape"][:, :2].flatten(), 5 * expected, atol=1e-5)
    np.testing.assert_allclose(state["components"], given["U_lrw1"].numpy()[:, :6].T, atol=1e-6)
    LandmarkSpace(6).load_state_dict(state)
    for wrong, message in (
        ({k: v for k, v in given.items() if k != "S"}, "it misses S"),
        ({**given, "S": torch.zeros(100, 68)}, "have other shapes"),
    ):
        with pytest.raises(ValueError, match=message):
            Atvg.from_official(wrong)


# Recurrence ---------------------------------------------------------------------------------------------------------


def test_the_recurrent_layer_is_torch_s_unit_where_maps_are_one_pixel() -> None:
    torch.manual_seed(0)
    layer, plain = ConvGRU(2, 3), nn.GRU(2, 3)
    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0"):
            getattr(plain, name).copy_(getattr(layer, name)[:, :, 1, 1])
        for name in ("bias_ih_l0", "bias_hh_l0"):
            getattr(plain, name).copy_(getattr(layer, name))
        given = torch.randn(5, 4, 2)
        expected, last = plain(given)
        found, state = layer(given[..., None, None])
        first, between = layer(given[:2, ..., None, None])
        second, _ = layer(given[2:, ..., None, None], between)
    torch.testing.assert_close(found[..., 0, 0], expected)
    torch.testing.assert_close(state[..., 0, 0], last[0])
    torch.testing.assert_close(torch.cat([first, second]), found)


@torch.no_grad()
@pytest.mark.parametrize("recur", ["time", "batch"])
def test_what_frames_and_samples_know_of_each_other(recur: Any) -> None:
    """Along time a frame knows those before it; along the batch, as in the code, a sample knows those before it."""
    torch.manual_seed(0)
    network = PictureNetwork(0.05, side=32, blocks=1, recur=recur).eval()
    example, known = torch.rand(2, 1, 3, 32, 32) * 2 - 1, torch.randn(2, 1, 136)
    landmarks = torch.randn(2, 3, 136)
    other = landmarks.clone()
    other[0, 0] += 1
    first, second = (network(example, one, known).colour for one in (landmarks, other))
    differs = (first - second).abs().flatten(2).amax(2) > 0
    assert differs.tolist() == (
        [[True, True, True], [False, False, False]]
        if recur == "time"
        else [[True, False, False], [True, False, False]]
    )


@torch.no_grad()
def test_frames_in_parts_are_those_of_one_piece_and_an_example_a_frame_may_be_given() -> None:
    torch.manual_seed(0)
    network = PictureNetwork(0.05, side=32, blocks=1).eval()
    example, known = torch.rand(1, 1, 3, 32, 32) * 2 - 1, torch.randn(1, 1, 136)
    landmarks = torch.randn(1, 5, 136)
    whole = network(example, landmarks, known)
    begun = network(example, landmarks[:, :2], known)
    ended = network(example, landmarks[:, 2:], known, begun.state)
    torch.testing.assert_close(torch.cat([begun.pictures, ended.pictures], dim=1), whole.pictures)
    each = network(example.expand(-1, 5, -1, -1, -1), landmarks, known.expand(-1, 5, -1))
    torch.testing.assert_close(each.pictures, whole.pictures)
    # Where there is no attention the example stays.
    blind = 1 - whole.attention
    torch.testing.assert_close(whole.pictures, whole.attention * whole.colour + blind * example)


def test_first_weights_are_those_of_the_code() -> None:
    torch.manual_seed(0)
    network = LandmarkNetwork()
    recurrent = network.lstm.weight_hh_l0.detach().clone()
    initialise(network)
    assert float(network.audio_eocder_fc[0].weight.detach().std()) == pytest.approx(0.02, rel=0.01)
    assert not network.lmark_encoder[0].bias.any()
    scales = network.audio_eocder[4][1].weight.detach()
    assert float(scales.mean()) == pytest.approx(1, abs=0.01) and 0.01 < float(scales.std()) < 0.03
    assert torch.equal(network.lstm.weight_hh_l0, recurrent)


@torch.no_grad()
def test_a_residual_network_begins_with_the_example() -> None:
    torch.manual_seed(0)
    plain, added = LandmarkNetwork(MODES, 0.05).eval(), LandmarkNetwork(MODES, 0.05, residual=True).eval()
    added.load_state_dict(plain.state_dict())
    example, sound = torch.randn(2, MODES), torch.randn(2, 4, 28, 12)
    torch.testing.assert_close(added(example, sound), plain(example, sound) + example[:, None])


# Landmarks as the networks see them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", ["removed", "kept"])
def test_what_is_wanted_of_an_example_itself_is_what_is_begun_with(identity: Any) -> None:
    seen = Faces(space_of(), identity)
    points = torch.from_numpy(faces(4))[None]
    example = points[:, 0]
    start, wanted = seen.start(example), seen.wanted(points, example)
    torch.testing.assert_close(wanted[:, 0], start, atol=1e-5, rtol=0)
    shown, targets = seen.shown(example), seen.targets(points, example)
    torch.testing.assert_close(targets[:, 0], shown, atol=1e-5, rtol=0)
    # Movements are the same whoever moves.
    own = seen.own(points)
    torch.testing.assert_close(wanted - start[:, None], own - own[:, :1], atol=1e-5, rtol=0)
    assert float((wanted - start[:, None]).abs().max()) > 0.01


def test_without_identity_all_examples_are_one_face() -> None:
    seen = Faces(space_of(), "removed")
    examples = torch.from_numpy(faces(3)) * torch.tensor([1.0, 1.3, 1.0])
    assert torch.equal(seen.start(examples), seen.start(examples)[:1].expand(3, -1))
    assert torch.equal(seen.shown(examples)[2], seen.space.mean)
    kept = Faces(space_of(), "kept")
    assert float(kept.shown(examples).std(0).max()) > 0


@pytest.mark.parametrize("identity", ["removed", "kept"])
def test_what_is_spoken_moves_the_face_of_the_example(identity: Any) -> None:
    seen = Faces(space_of(), identity)
    example = torch.from_numpy(faces(1))
    start, shown = seen.start(example)[0], seen.shown(example)
    predicted = start + torch.tensor([[0.0, 0, 0], [0.5, 0, 0]])
    still = torch.zeros(1, MODES)
    closed, opened = seen.spoken(predicted, start, still, shown, torch.ones(MODES))
    torch.testing.assert_close(closed, shown[0], atol=1e-5, rtol=0)
    first = seen.space.components[0]
    torch.testing.assert_close(opened - closed, 0.5 * first, atol=1e-5, rtol=0)
    # An example that is as open already is not moved, and factors make movements larger.
    own = torch.tensor([[0.5, 0, 0]])
    (rest,) = seen.spoken(predicted[1:], start, own, shown, torch.ones(MODES))
    torch.testing.assert_close(rest, closed, atol=1e-5, rtol=0)
    _, wide = seen.spoken(predicted, start, still, shown, torch.tensor([2.0, 1, 1]))
    more = 0.5 * first if identity == "kept" else (0.5 + start[0]) * first
    torch.testing.assert_close(wide - opened, more, atol=1e-5, rtol=0)


# Stages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", ["before", "any"])
def test_samples_of_the_landmark_stage(example: str) -> None:
    stage = method_of(at={"example": example}).stages["at"]
    assert isinstance(stage, LandmarkStage)
    check_spec(stage.sample)
    assert stage.sample.window == (5 if example == "before" else 4)
    assert stage.sample.frame_sounds == (MFCC_28X12,)
    batch = landmark_batch(stage.sample.window)
    (update,) = stage.updates(batch, START)
    # By hand: the frame before the window, or the reference, is the example.
    network, seen = stage.networks["at"], Faces(space_of(), "kept")
    first = int(example == "before")
    given = batch["landmarks"][:, 0] if first else batch["reference_landmarks"][:, 0]
    sound = batch["frame_mfcc12"][:, first:].transpose(2, 3)
    expected = (network(seen.own(given), sound) - seen.own(batch["landmarks"][:, first:])).square().mean()
    torch.testing.assert_close(update.loss, expected)
    assert update.optimizer == "at" and set(update.logs) == {"mse"}


def test_figures_of_the_landmark_stage() -> None:
    """A network that always says what the example has leaves its mouth as it is."""

    class Copies(nn.Module):
        def forward(self, example: Tensor, sound: Tensor) -> Tensor:
            return example[:, None].expand(-1, sound.shape[1], -1)

    seen = Faces(space_of(), "kept")
    config = LandmarkConfig(window=4, train=TrainConfig(batch_size=2))
    stage = LandmarkStage(config, Copies(), seen)  # type: ignore[arg-type]
    figures = stage.validate(landmark_batch())
    assert float(figures["mouth"]) == pytest.approx(float(figures["still"]), rel=1e-4)
    assert 0.001 < float(figures["still"]) < 0.2
    assert float(figures["opening"]) == pytest.approx(0, abs=1e-3)


def test_the_landmark_network_learns_a_mouth_that_follows_sound() -> None:
    """Sound of two kinds, and a mouth that is open with one of them."""
    torch.manual_seed(0)
    stage = method_of().stages["at"]
    assert isinstance(stage, LandmarkStage)
    space = space_of()
    loud = torch.randint(0, 2, (8, 5), generator=torch.Generator().manual_seed(2)).float()
    closed = space.shape.clone().expand(8, 5, -1, -1).clone()
    closed[:, :, LOWER, 1] += 0.4 * loud
    batch = {"landmarks": closed, "frame_mfcc12": (20 * loud - 10)[..., None, None].expand(-1, -1, 12, 28)}
    (optimizer,) = stage.optimizers().values()
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    losses = []
    for step in range(60):
        (update,) = stage.updates(batch, Progress(step, 0.0))
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
        losses.append(float(update.loss))
    assert losses[-1] < 0.1 * losses[0]
    assert float(stage.validate(batch)["opening"]) > 0.5


def test_samples_of_the_picture_stage() -> None:
    stage = method_of().stages["vg"]
    assert isinstance(stage, PictureStage)
    check_spec(stage.sample)
    assert columns_of(stage.sample) == ["atvg128", "landmarks"]
    assert (stage.sample.size, stage.sample.references) == (32, 1)


def test_the_code_s_losses_by_hand() -> None:
    stage = method_of().stages["vg"]
    assert isinstance(stage, PictureStage)
    batch, seen = picture_batch(), Faces(space_of(), "kept")
    network, judge = stage.networks["vg"].eval(), stage.networks["discriminator"].eval()
    first, second = stage.updates(batch, START)
    assert (first.optimizer, second.optimizer) == ("discriminator", "vg")
    truth = batch["images"] / 127.5 - 1
    example = batch["reference_images"] / 127.5 - 1
    shown, targets = (
        seen.shown(batch["reference_landmarks"]),
        seen.targets(batch["landmarks"], batch["reference_landmarks"][:, 0]),
    )
    with torch.no_grad():
        made = network(example, targets, shown)
        (real, found), (fake, guessed) = (judge(one, shown[:, 0]) for one in (truth, made.pictures))
        binary = nn.BCELoss()
        mask = torch.ones(136)
        mask[97::2] = 100
        by_real = binary(real.sigmoid(), torch.ones(2)) + ((found - targets) * mask).square().mean()
        by_fake = binary(fake.sigmoid(), torch.zeros(2)) + ((guessed - targets) * mask).square().mean()
        pixels = ((made.pictures - truth).abs() * (made.attention + 0.5)).mean()
        of_fake = binary(fake.sigmoid(), torch.ones(2)) + ((guessed - targets) * mask).square().mean()
    torch.testing.assert_close(first.loss, by_real + by_fake, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(second.loss, 10 * pixels + of_fake, rtol=1e-4, atol=1e-4)


def test_attention_weighs_pixels_and_gets_no_gradient_from_it() -> None:
    stage = method_of(gan_weight=0.0, landmark_weight=0.0).stages["vg"]
    assert isinstance(stage, PictureStage) and set(stage.networks) == {"vg"}
    (update,) = stage.updates(picture_batch(), START)
    weights = [p for p in stage.networks["vg"].parameters() if p.requires_grad]
    gradients = torch.autograd.grad(update.loss, weights, allow_unused=True)
    assert all(one is not None and bool(one.isfinite().all()) for one in gradients)
    # With as much mouth as pixels, the loss of both is added.
    both = method_of(gan_weight=0.0, landmark_weight=0.0, mouth_weight=1.0).stages["vg"]
    assert isinstance(both, PictureStage)
    (weighed,) = both.updates(picture_batch(), START)
    torch.testing.assert_close(weighed.loss, 10 * (weighed.logs["pixels"] + weighed.logs["mouth"]))
    rows, columns = mouth_region(128)
    points = np.array(VIEWS["atvg128"].transforms(mesh(160), np.ones(25, bool), 160, 160))
    lips = np.einsum("tij,tpj->tpi", points[:, :, :2], mesh(160)[:, IBUG[48:68]]) + points[:, None, :, 2]
    assert lips[..., 1].min() > rows.start and lips[..., 0].min() > columns.start
    assert lips[..., 0].max() < columns.stop and lips[..., 1].max() < rows.stop


def test_y_of_the_mouth_weighs_ten_thousand_times() -> None:
    found, wanted = torch.zeros(2, 1, 1, 136)
    for place, weight in ((95, 1), (96, 1), (97, 1e4), (134, 1), (135, 1e4)):
        off = found.clone()
        off[..., place] = 0.1
        assert float(landmark_error(off, wanted)) == pytest.approx(0.01 * weight / 136, rel=1e-4)


def test_pictures_to_look_at_and_figures_of_the_picture_stage() -> None:
    stage = method_of().stages["vg"]
    for network in stage.networks.values():
        network.eval()
    assert isinstance(stage, PictureStage)
    shown = stage.samples(picture_batch())
    assert list(shown) == ["example", "landmarks", "painted", "attention", "truth"]
    for one in shown.values():
        assert one.shape == (2, 3, 32, 32) and float(one.min()) >= 0 and float(one.max()) <= 1
    figures = stage.validate(picture_batch())
    truth, example = picture_batch()["images"] / 255, picture_batch()["reference_images"] / 255
    assert float(figures["copied"]) == pytest.approx(float((truth - example).abs().mean()), rel=1e-4)
    assert float(figures["loss"]) == pytest.approx(10 * float(figures["pixels"]), rel=1e-5)


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(ValidationError, match=r"generate\.amplify has more than space\.modes=3 factors"):
        method_of(generate={"amplify": [1, 1, 1, 1]})
    with pytest.raises(ValidationError):
        picture_config(side=100)


# Generation ---------------------------------------------------------------------------------------------------------


class Footage:
    """As :class:`models.base.Footage`: frames of one grey each, with the face of a real clip."""

    def __init__(self, count: int, missing: Sequence[int] = (), still: bool = False) -> None:
        self.n_frames, self.n_unique = count, 1 if still else count
        self.width = self.height = 160
        self.detected = ~np.isin(np.arange(count), missing)
        self._points = faces(1).repeat(count, axis=0) if still else faces(count)
        self._points[~self.detected] = np.nan
        self.read: list[int] = []

    def landmarks(self, name: str, depth: bool = False) -> np.ndarray:
        assert name == "ibug68" and depth
        return self._points.copy()

    def grey(self, index: int) -> int:
        return 60 + 10 * (index % self.n_unique)

    def _shot(self, index: int) -> Shot:
        self.read.append(index)
        return Shot(index, np.full((160, 160, 3), self.grey(index), np.uint8))

    def shots(self) -> Iterator[Shot]:
        return (self._shot(index) for index in range(self.n_frames))

    def pick(self, indices: Sequence[int]) -> list[Shot]:
        return [self._shot(index) for index in indices]

    def crop(self, view: str, shot: Shot) -> Crop | None:
        assert view == "atvg128"
        if not self.detected[shot.index]:
            return None
        return Crop(shot.frame[:128, :128].copy(), np.eye(2, 3))


class Speech:
    """As :class:`models.base.Speech`; all MFCC of a frame are its number."""

    def chunk(self, frame: int, sound: Sound) -> np.ndarray:
        assert sound == MFCC_28X12
        return np.full((12, 28), frame, np.float32)


class Echo(nn.Module):
    """A picture network that paints the example, and keeps what it was given."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.bias, self.recur, self.side = nn.Parameter(torch.zeros(1)), "time", side
        self.given: list[tuple[Tensor, Tensor, Tensor, Any]] = []

    def forward(self, example: Tensor, landmarks: Tensor, shown: Tensor, state: Any = None) -> Any:
        self.given.append((example, landmarks, shown, state))
        pictures = example.expand(-1, landmarks.shape[1], -1, -1, -1)

        class Made:
            pass

        made = Made()
        made.pictures, made.state = pictures, torch.tensor(len(self.given))  # type: ignore[attr-defined]
        return made


def made_of(
    footage: Footage, *, still: bool, echo: bool = True, side: int = 128, **changes: Any
) -> tuple[list[np.ndarray], Echo]:
    method = method_of(side=side, **changes)
    network = Echo(side)
    if echo:
        method._vg = network  # type: ignore[assignment]
    for one in method.networks.values():
        one.eval()
    drive = Drive(footage, Speech(), None if still else footage)  # type: ignore[arg-type]
    with torch.no_grad():
        return list(method.generate(drive)), network


def test_a_still_head_is_the_first_face_in_all_frames() -> None:
    footage = Footage(7, missing=[0])
    frames, network = made_of(footage, still=True, generate={"batch_size": 3})
    assert len(frames) == 7
    assert {int(frame[5, 5, 0]) for frame in frames} == {footage.grey(1)}
    assert frames[0].shape == (128, 128, 3) and frames[0].dtype == np.uint8
    assert footage.read == [1]
    # One example for each block, and the state goes on from block to block.
    assert [given[0].shape[1] for given in network.given] == [1, 1, 1]
    assert [given[1].shape[1] for given in network.given] == [3, 3, 1]
    assert network.given[0][3] is None and [int(given[3]) for given in network.given[1:]] == [1, 2]


def test_a_moving_head_is_every_frame_s_own_picture() -> None:
    footage = Footage(7, missing=[0, 4])
    frames, network = made_of(footage, still=False, generate={"batch_size": 3})
    # Without a face there is the picture of the frame before, or the first one.
    expected = [footage.grey(index) for index in (1, 1, 2, 3, 3, 5, 6)]
    assert [int(frame[5, 5, 0]) for frame in frames] == expected
    seen = Faces(space_of(), "kept")
    shown = seen.shown(torch.from_numpy(faces(7)[[1, 1, 2, 3, 3, 5, 6]]))
    torch.testing.assert_close(torch.cat([given[2][0] for given in network.given]), shown)


def test_landmarks_that_are_painted_are_the_predicted_ones() -> None:
    """Of every frame: its own, and how the predicted movement differs from the movement up to it."""
    footage = Footage(5)
    _, network = made_of(footage, still=False, generate={"amplify": [2.0]})
    at = method_of(side=128).networks["at"].eval()
    seen, points = Faces(space_of(), "kept"), torch.from_numpy(faces(5))
    with torch.no_grad():
        start = seen.start(points[:1])
        sound = torch.arange(5.0)[None, :, None, None].expand(1, -1, 28, 12)
        predicted = at(start, sound)[0]
        own = seen.own(points) - seen.own(points[:1])
        expected = seen.shown(points) + seen.space.movement(
            torch.tensor([2.0, 1, 1]) * (predicted - start) - own
        )
    found = torch.cat([given[1][0] for given in network.given])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("still", "recur"), [(True, "time"), (False, "time"), (True, "batch")])
def test_frames_do_not_depend_on_how_many_are_painted_at_once(still: bool, recur: str) -> None:
    few, many = (
        made_of(Footage(7), still=still, echo=False, side=32, recur=recur, generate={"batch_size": size})[0]
        for size in (2, 16)
    )
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(few, many, strict=True)) <= 1
    assert few[0].shape == (128, 128, 3)


def test_smoothing_calms_the_landmarks() -> None:
    plain, calm = (
        torch.cat([given[1][0] for given in made_of(Footage(9), still=True, generate=how)[1].given])
        for how in ({}, {"smoothing": "mean5"})
    )
    assert float(calm.diff(dim=0).abs().mean()) < float(plain.diff(dim=0).abs().mean())


def test_footage_without_a_face() -> None:
    with pytest.raises(ValueError, match="no frame shows a face"):
        made_of(Footage(3, missing=[0, 1, 2]), still=True)


def test_presets(tmp_path: Path) -> None:
    """The paper's has the official keys, so that official weights fit; the tiny one has no discriminator."""
    paper, tiny = (
        load_config("atvg", name, [], [tmp_path], tmp_path / "run").method_config for name in PRESETS
    )
    with torch.device("meta"):
        made, small = (Atvg(config, DataInfo()).networks for config in (paper, tiny))
    for network, system in (("at", "atvg_at"), ("vg", "atvg_vg"), ("discriminator", "atvg_disc")):
        assert {key: list(one.shape) for key, one in made[network].state_dict().items()} == {
            key: shape for key, shape, _ in spec(system)["state_dict"]
        }
    assert list(small) == ["space", "at", "vg"]
