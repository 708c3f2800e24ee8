from __future__ import annotations

import json
import math
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from baselines.sync_expert.network import SyncNet
from baselines.wav2lip.discriminator import QualityDiscriminator
from baselines.wav2lip.inference import GenerateConfig, speak
from baselines.wav2lip.method import Wav2Lip, Wav2LipMethodConfig
from baselines.wav2lip.network import Generator, see
from baselines.wav2lip.stage import Wav2LipConfig, Wav2LipStage
from bench.common.errors import BenchError
from bench.train.assets import load_assets
from bench.train.config import load_config
from bench.weights.store import WeightStore
from models.base import Crop, DataInfo, Drive, Progress, Shot, TrainConfig
from prep.sample_spec import Sound
from prep.sampling import check_spec, columns_of
from tests.baselines import official
from tests.models.fakes import FakeSpeech

START = Progress(0, 0.0)
BOX = (30, 20, 130, 150)  # x0, y0, x1, y1
WIDTH, HEIGHT = 160, 170


def made(**changes: Any) -> Wav2LipStage:
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "width": 0.05,
        "expert_width": 0.05,
        "train": TrainConfig(batch_size=2),
        **changes,
    }
    method = Wav2Lip(Wav2LipMethodConfig(wav2lip=Wav2LipConfig(**values)), DataInfo())
    stage = method.stages["wav2lip"]
    assert isinstance(stage, Wav2LipStage)
    for network in stage.frozen.values():
        network.eval().requires_grad_(False)
    return stage


def painting(painter: nn.Module, **changes: Any) -> Wav2LipStage:
    """A stage whose frames ``painter`` paints, in place of the generator."""
    stage = made(**changes)
    expert = stage.frozen["expert"]
    return Wav2LipStage(stage.config, painter, None, expert)  # type: ignore[arg-type]


class Painted(nn.Module):
    """Paints the same, whatever it is given: (B, 5, 3, 96, 96) in [0, 1], RGB."""

    def __init__(self, frames: Tensor) -> None:
        super().__init__()
        self.frames = nn.Parameter(frames)

    def forward(self, mels: Tensor, faces: Tensor) -> Tensor:
        return self.frames.flatten(0, 1).flip(1)


def batch_of(n: int = 2) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (2, n, 5, 3, 96, 96), dtype=torch.uint8, generator=rng)
    return {
        "clip": [f"clip{i}" for i in range(n)],
        "images": pictures[0],
        "reference_images": pictures[1],
        "frame_mel": torch.rand(n, 5, 80, 16, generator=rng) * 8 - 4,
        "window_mel": torch.rand(n, 80, 16, generator=rng) * 8 - 4,
    }


# The networks -------------------------------------------------------------------------------------------------------


def test_painted_frames_are_the_official_ones() -> None:
    """Of single frames, and of a window, which the official network folds itself; here a stage hands it frames."""
    network = official.loaded("wav2lip", Generator())
    given, expected = official.inputs("wav2lip"), official.outputs("wav2lip")
    with torch.no_grad():
        single = network(given["mel"][:, 3, 0], given["face"][:, :, 3])
        window = network(given["mel"][0, :2, 0], given["face"][0, :, :2].transpose(0, 1))
    np.testing.assert_allclose(single, expected["image_4d"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(window.transpose(0, 1)[None], expected["video_5d"], rtol=0, atol=1e-4)


def test_the_judge_is_the_official_one() -> None:
    network = official.loaded("wav2lip_disc", QualityDiscriminator())
    assert isinstance(network, QualityDiscriminator)
    expected = official.outputs("wav2lip_disc")
    # Officially all of time 0 come first.
    frames = official.inputs("wav2lip_disc")["frames"].permute(2, 0, 1, 3, 4).flatten(0, 1)
    with torch.no_grad():
        features, logits = network.features(frames), network(frames)
    np.testing.assert_allclose(features, expected["features_before_head"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(logits.sigmoid()[:, None], expected["prob"], rtol=0, atol=1e-4)
    loss = nn.functional.softplus(-logits).mean()
    assert float(loss) == pytest.approx(float(expected["perceptual_forward_loss"]), abs=1e-5)


def test_the_generator_is_shown_upper_halves_and_whole_references() -> None:
    frames, references = torch.rand(2, 3, 96, 96), torch.rand(2, 3, 96, 96)
    before = frames.clone()
    faces = see(frames, references)
    torch.testing.assert_close(faces[:, :3, :48], frames.flip(1)[:, :, :48])
    assert not faces[:, :3, 48:].any()
    torch.testing.assert_close(faces[:, 3:], references.flip(1))
    torch.testing.assert_close(frames, before)


@pytest.mark.parametrize("width", [0.25, 0.03, 0.0001])
def test_networks_of_any_width_fit_together(width: float) -> None:
    with torch.no_grad():
        painted = Generator(width)(torch.rand(2, 80, 16), torch.rand(2, 6, 96, 96))
        logits = QualityDiscriminator(width)(painted)
    assert painted.shape == (2, 3, 96, 96) and logits.shape == (2,)
    assert 0 <= float(painted.min()) <= float(painted.max()) <= 1


def test_layers_do_not_fall_below_the_least_width() -> None:
    narrow = Generator(0.05, least=7)
    assert narrow.face_encoder_blocks[0](torch.rand(2, 6, 96, 96)).shape[1] == 7
    assert {p.shape[0] for n, p in narrow.face_decoder_blocks.named_parameters() if "conv" in n} >= {7, 26}


def test_the_residual_generator_begins_with_upper_half_and_reference() -> None:
    faces = 0.1 + 0.8 * torch.rand(2, 6, 96, 96)
    network = Generator(0.02, residual=True)
    painted = network(torch.rand(2, 80, 16), faces)
    torch.testing.assert_close(painted[:, :, :48], faces[:, :3, :48])
    torch.testing.assert_close(painted[:, :, 48:], faces[:, 3:, 48:])
    # From there it can be led anywhere.
    painted.mean().backward()
    assert network.output_block[1].weight.grad.abs().max() > 0
    # Black pictures leave the gradient alive.
    assert network(torch.rand(2, 80, 16), torch.zeros_like(faces)).min() > 0.01


# The stage ----------------------------------------------------------------------------------------------------------


def test_the_data_set_can_deliver_its_samples() -> None:
    spec = made().sample
    check_spec(spec)
    assert columns_of(spec) == ["face96", "mel"]
    assert spec.frame_sounds == (Sound("mel", offset=-1),) and spec.window_sounds == (Sound("mel"),)


def test_at_first_only_l1_counts() -> None:
    stage = made()
    (update,) = stage.updates(batch_of(), START)
    assert list(update.logs) == ["L1"]
    assert update.loss.item() == pytest.approx(update.logs["L1"].item())


@pytest.mark.parametrize(("figure", "on"), [(0.76, False), (0.74, True)])
def test_the_experts_loss_waits_until_it_is_low_on_held_out_clips(figure: float, on: bool) -> None:
    stage = made()
    stage.validated({"sync": 3.0})
    stage.validated({"sync": figure})
    stage.validated({"sync": 2.0})
    (update,) = stage.updates(batch_of(), START)
    logs = {name: value.item() for name, value in update.logs.items()}
    if not on:
        assert list(logs) == ["L1"]
        return
    assert list(logs) == ["L1", "sync"]
    assert update.loss.item() == pytest.approx(0.97 * logs["L1"] + 0.03 * logs["sync"])


def test_the_mouth_counts_more_where_it_has_a_weight() -> None:
    # All in the mouth, and half of it, is off by one.
    painted = torch.zeros(2, 5, 3, 96, 96)
    painted[..., 56:72, 24:72] = 1
    stage = painting(Painted(painted), mouth_weight=2.0)
    stage.validated({"sync": 0.5})
    batch = {**batch_of(), "images": torch.zeros(2, 5, 3, 96, 96, dtype=torch.uint8)}
    (update,) = stage.updates(batch, START)
    logs = {name: value.item() for name, value in update.logs.items()}
    assert logs["L1"] == pytest.approx(16 * 48 / 96**2)
    assert logs["mouth"] == pytest.approx(0.5)
    assert update.loss.item() == pytest.approx(0.97 * (logs["L1"] + 2 * 0.5) + 0.03 * logs["sync"])
    figures = {name: float(value) for name, value in stage.validate(batch).items()}
    assert figures["loss"] == pytest.approx(update.loss.item())


def test_what_the_stage_remembers_survives_json() -> None:
    stage, other = made(), made()
    stage.validated({"sync": 0.5})
    other.load_state_dict(json.loads(json.dumps(stage.state_dict())))
    assert "sync" in next(other.updates(batch_of(), START)).logs
    other.load_state_dict(made().state_dict())
    assert "sync" not in next(other.updates(batch_of(), START)).logs


def test_with_a_gan_there_are_two_steps() -> None:
    stage = made(gan_weight=0.07)
    stage.validated({"sync": 0.5})
    generator, discriminator = stage.updates(batch_of(), START)
    logs = {name: value.item() for name, value in generator.logs.items()}
    assert generator.loss.item() == pytest.approx(0.9 * logs["L1"] + 0.03 * logs["sync"] + 0.07 * logs["gan"])
    assert (generator.optimizer, discriminator.optimizer) == ("generator", "discriminator")
    # Nothing is known yet: ln 2 each.
    assert discriminator.loss.item() == pytest.approx(2 * math.log(2), abs=0.1)
    assert list(stage.optimizers()) == ["generator", "discriminator"]
    discriminator.loss.backward()
    assert all(p.grad is None for p in stage.networks["generator"].parameters())
    assert all(p.grad is not None for p in stage.networks["discriminator"].parameters())


def test_optimizers_are_the_official_ones() -> None:
    plain = made().optimizers()["generator"].param_groups[0]
    assert (plain["lr"], plain["betas"], plain["weight_decay"]) == (1e-4, (0.9, 0.999), 0)
    both = made(gan_weight=0.07, betas=(0.5, 0.999)).optimizers()
    assert [o.param_groups[0]["betas"] for o in both.values()] == [(0.5, 0.999), (0.5, 0.999)]


def test_the_gradient_of_each_loss_reaches_the_whole_generator() -> None:
    stage = made(gan_weight=0.07)
    stage.validated({"sync": 0.5})
    update = next(stage.updates(batch_of(1), START))
    # A bias before a normalisation has no effect, and so no gradient but rounding.
    parameters = {
        name: p
        for name, p in stage.networks["generator"].named_parameters()
        if not name.endswith("block.0.bias")
    }
    for name, loss in update.logs.items():
        gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
        still = [key for key, g in zip(parameters, gradients, strict=True) if not g.abs().max() > 0]
        assert still == [], name
    assert all(p.grad is None for p in stage.frozen["expert"].parameters())


def test_the_expert_looks_at_the_painted_lower_half() -> None:
    painter = Painted(torch.rand(2, 5, 3, 96, 96))
    stage = painting(painter)
    stage.validated({"sync": 0.5})
    (update,) = stage.updates(batch_of(), START)
    (gradient,) = torch.autograd.grad(update.logs["sync"], [painter.frames])
    assert not gradient[..., :48, :].any()
    assert gradient[..., 48:, :].abs().amax(dim=(2, 3, 4)).min() > 0


def test_a_copy_of_the_truth_has_no_l1() -> None:
    """Colours, frames and windows come back in the order in which they went in."""
    batch = batch_of()
    truth = batch["images"].float() / 255

    class Copying(nn.Module):
        def forward(self, mels: Tensor, faces: Tensor) -> Tensor:
            assert torch.equal(mels, batch["frame_mel"].flatten(0, 1))
            torch.testing.assert_close(
                faces[:, 3:], (batch["reference_images"].float() / 255).flatten(0, 1).flip(1)
            )
            return truth.flatten(0, 1).flip(1)

    stage = painting(Copying())
    figures = stage.validate(batch)
    assert figures["L1"] == 0
    assert float(figures["psnr"]) == pytest.approx(100)
    shown = stage.samples(batch)
    torch.testing.assert_close(shown["painted"], shown["truth"])
    torch.testing.assert_close(shown["truth"], truth[:, 2])
    assert not shown["shown"][:, :, 48:].any()
    assert list(shown) == ["reference", "shown", "painted", "truth"]


def test_validation_weighs_as_at_the_end() -> None:
    stage = made(gan_weight=0.07)
    figures = {name: float(value) for name, value in stage.validate(batch_of()).items()}
    weighed = 0.9 * figures["L1"] + 0.03 * figures["sync"] + 0.07 * figures["gan"]
    assert figures["loss"] == pytest.approx(weighed)
    stage.validated({"sync": 0.1})
    assert float(stage.validate(batch_of())["loss"]) == pytest.approx(weighed, rel=0.2)


def test_weights_that_leave_nothing_for_l1_are_refused() -> None:
    with pytest.raises(ValidationError, match="leave nothing for L1"):
        made(sync_weight=0.5, gan_weight=0.5)


def test_it_learns_a_window_by_heart() -> None:
    stage = made(learning_rate=2e-2)
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 80, (3, 3, 15), np.uint8), (96, 96)).transpose(2, 0, 1)
    batch = batch_of(1)
    batch["images"] = torch.from_numpy(np.ascontiguousarray(smooth)).reshape(1, 5, 3, 96, 96)
    batch["reference_images"] = batch["images"].flip(1)
    optimizer = stage.optimizers()["generator"]
    losses = []
    for _ in range(15):
        (update,) = stage.updates(batch, START)
        optimizer.zero_grad()
        update.loss.backward()
        optimizer.step()
        losses.append(update.loss.item())
    assert losses[-1] < 0.8 * losses[0]


# Generation ---------------------------------------------------------------------------------------------------------


class Footage:
    """As :class:`models.base.Footage`: a smooth picture, and a face in a box of it."""

    def __init__(self, n_frames: int, missing: Sequence[int] = ()) -> None:
        self.n_frames = self.n_unique = n_frames
        self.width, self.height = WIDTH, HEIGHT
        self.detected = ~np.isin(np.arange(n_frames), missing)
        self.live = self.most = 0

    def frame(self, index: int) -> np.ndarray:
        rng = np.random.default_rng(index)
        return cv2.resize(rng.integers(60, 140, (4, 4, 3), np.uint8), (WIDTH, HEIGHT))

    def shots(self) -> Iterator[Shot]:
        for index in range(self.n_frames):
            shot = Shot(index, self.frame(index))
            self.live += 1
            self.most = max(self.most, self.live)
            weakref.finalize(shot, self._gone)
            yield shot

    def crop(self, view: str, shot: Shot) -> Crop | None:
        assert view == "face96"
        if not self.detected[shot.index]:
            return None
        x0, y0, x1, y1 = BOX
        scale = 96 / (x1 - x0), 96 / (y1 - y0)
        matrix = np.array([[scale[0], 0, -x0 * scale[0]], [0, scale[1], -y0 * scale[1]]])
        return Crop(cv2.resize(shot.frame[y0:y1, x0:x1], (96, 96)), matrix)

    def crops(self) -> list[np.ndarray]:
        found = [self.crop("face96", shot) for shot in self.shots()]
        return [crop.picture for crop in found if crop is not None]

    def _gone(self) -> None:
        self.live -= 1

    def landmarks(self, name: str) -> np.ndarray:
        raise AssertionError("Wav2Lip needs no landmarks")

    def pick(self, indices: Sequence[int]) -> list[Shot]:
        raise AssertionError("Wav2Lip reads footage once")


class OneColour(nn.Module):
    """Paints faces of one BGR colour; keeps what it was given."""

    def __init__(self, colour: Sequence[float]) -> None:
        super().__init__()
        self.colour = nn.Parameter(torch.tensor(colour))
        self.given: list[tuple[Tensor, Tensor]] = []

    def forward(self, mels: Tensor, faces: Tensor) -> Tensor:
        self.given.append((mels, faces))
        return self.colour[:, None, None].expand(len(faces), 3, 96, 96)


def generated(footage: Footage, network: nn.Module, **how: Any) -> list[np.ndarray]:
    with torch.no_grad():
        return list(speak(GenerateConfig(**how), network, footage, FakeSpeech()))  # type: ignore[arg-type]


def test_every_frame_comes_out_once_and_in_order() -> None:
    footage = Footage(11, missing=[0, 4, 5, 6, 7, 10])
    frames = generated(footage, OneColour((1.0, 1.0, 1.0)), batch_size=4)
    assert len(frames) == 11
    for index, frame in enumerate(frames):
        assert np.array_equal(frame, footage.frame(index)) == (not footage.detected[index])


def test_footage_without_any_face_passes_through() -> None:
    footage, network = Footage(5, missing=range(5)), OneColour((1.0, 1.0, 1.0))
    frames = generated(footage, network, batch_size=2)
    assert all(np.array_equal(frame, footage.frame(i)) for i, frame in enumerate(frames))
    assert network.given == []


def test_only_a_batch_of_frames_is_held() -> None:
    footage = Footage(40, missing=range(10, 30))
    with torch.no_grad():
        for _ in speak(GenerateConfig(batch_size=4), OneColour((1, 1, 1.0)), footage, FakeSpeech()):  # type: ignore[arg-type]
            pass
    assert footage.most <= 5


def test_each_frame_is_shown_itself_and_hears_its_own_sound() -> None:
    footage, network = Footage(5, missing=[1]), OneColour((0.0, 0.0, 0.0))
    speech = FakeSpeech()
    with torch.no_grad():
        list(speak(GenerateConfig(batch_size=3), network, footage, speech))  # type: ignore[arg-type]
    mels, faces = (torch.cat(parts) for parts in zip(*network.given, strict=True))
    assert [round(float(m[0, 0]) * 100) for m in mels] == [0, 2, 3, 4]
    assert {sound for _, sound in speech.asked} == {Sound("mel")}
    crops = np.stack(footage.crops())
    expected = torch.from_numpy(crops).permute(0, 3, 1, 2).flip(1) / 255
    torch.testing.assert_close(faces[:, 3:], expected)
    torch.testing.assert_close(faces[:, :3, :48], expected[:, :, :48])
    assert not faces[:, :3, 48:].any()


def test_the_first_face_can_be_the_reference_throughout() -> None:
    footage, network = Footage(7, missing=[0]), OneColour((0.0, 0.0, 0.0))
    speech = FakeSpeech()
    with torch.no_grad():
        config = GenerateConfig(batch_size=2, reference="first", sound="wav2lip-generator")
        list(speak(config, network, footage, speech))  # type: ignore[arg-type]
    assert {sound for _, sound in speech.asked} == {Sound("mel", offset=-1)}
    faces = torch.cat([given for _, given in network.given])
    crops = footage.crops()
    first = torch.from_numpy(crops[0]).permute(2, 0, 1).flip(0) / 255
    torch.testing.assert_close(faces[:, 3:], first.expand(6, 3, 96, 96))
    uppers = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).flip(1)[:, :, :48] / 255
    torch.testing.assert_close(faces[:, :3, :48], uppers)


def test_the_official_paste_fills_the_box_to_its_edge() -> None:
    footage = Footage(1)
    (frame,) = generated(footage, OneColour((0.0, 0.5, 1.0)), paste="box")
    x0, y0, x1, y1 = BOX
    expected = footage.frame(0)
    expected[y0:y1, x0:x1] = (255, 128, 0)
    np.testing.assert_array_equal(frame, expected)


@pytest.mark.parametrize(("how", "first"), [("lower", 85), ("face", 20)])
def test_soft_pastes_stay_within_their_part(how: str, first: int) -> None:
    """The lower half of the box begins at row 85."""
    footage = Footage(1)
    (frame,) = generated(footage, OneColour((1.0, 1.0, 1.0)), paste=how)
    changed = (frame != footage.frame(0)).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    x0, _, x1, y1 = BOX
    assert first <= rows[0] <= first + 4 and y1 - 4 <= rows[-1] < y1
    assert x0 <= columns[0] <= x0 + 4 and x1 - 4 <= columns[-1] < x1
    # The mouth is all painted.
    assert (frame[105:135, 50:110] == 255).all()


def test_no_seam_shows() -> None:
    """A face that is brighter by 40 has edges no steeper than the picture's own; the official paste has."""
    x0, y0, x1, y1 = BOX

    class Brighter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.tensor(40 / 255))

        def forward(self, mels: Tensor, faces: Tensor) -> Tensor:
            return faces[:, 3:] + self.by

    def steepest(frame: np.ndarray) -> float:
        around = frame[y0 - 5 : y1 + 5, x0 - 5 : x1 + 5].astype(np.float64)
        return max(np.abs(np.diff(around, axis=axis)).max() for axis in (0, 1))

    class Textured(Footage):
        def frame(self, index: int) -> np.ndarray:
            rng = np.random.default_rng(index)
            return cv2.resize(rng.integers(50, 170, (24, 24, 3), np.uint8), (WIDTH, HEIGHT))

    footage = Textured(1)
    own = steepest(footage.frame(0))
    (soft,), (hard,) = (generated(footage, Brighter(), paste=how) for how in ("lower", "box"))
    assert steepest(soft) <= 1.25 * own
    assert steepest(hard) > 2 * own


# The method ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["paper", "tiny"])
def test_presets_make_a_method(preset: str) -> None:
    loaded = load_config("wav2lip", preset, [], [], Path("run")).method_config
    assert isinstance(loaded, Wav2LipMethodConfig)
    with torch.device("meta"):
        method = Wav2Lip(loaded, DataInfo())
    assert method.needed_networks == ("generator",) == tuple(method.networks)
    expert = method.assets["expert"]
    assert (expert.weights, expert.network) == ("runs/sync-expert", "expert")
    assert expert.module is method.stages["wav2lip"].frozen["expert"]
    expert_preset: Any = load_config("sync-expert", preset, [], [], Path("run")).method_config
    for name in ("width", "coarse", "apart"):
        assert getattr(expert_preset.expert, name) == getattr(loaded.wav2lip, f"expert_{name}")


@pytest.mark.parametrize(
    ("kind", "preset", "message"),
    [
        ("sync-cca", "tiny", "which is a run of sync-cca: name one of sync-expert"),
        ("sync-expert", "landmarks", "whose expert.view is landmarks: name a run with expert.view=face96"),
        ("sync-expert", "dinet", "whose expert.view is mouth416x320: name a run with expert.view=face96"),
    ],
)
def test_other_judges_are_no_experts_for_it(kind: str, preset: str, message: str, tmp_path: Path) -> None:
    load_config(kind, preset, [], [], tmp_path).save(tmp_path)
    loaded = load_config("wav2lip", "tiny", [f"wav2lip.expert={tmp_path}"], [], Path("run")).method_config
    with torch.device("meta"):
        method = Wav2Lip(loaded, DataInfo())
    with pytest.raises(BenchError) as raised:
        load_assets(method, {"train"}, WeightStore({}, []))
    assert str(raised.value) == f"wav2lip needs {tmp_path} for the sync loss, {message}"


@pytest.mark.parametrize("preset", ["paper", "tiny"])
def test_a_missing_expert_names_the_ways_out(preset: str, tmp_path: Path) -> None:
    overrides = [f"wav2lip.expert={tmp_path / 'expert'}"]
    loaded = load_config("wav2lip", preset, overrides, [], Path("run")).method_config
    with torch.device("meta"):
        method = Wav2Lip(loaded, DataInfo())
    official = "; or take the official one: bench weights fetch wav2lip_syncnet, then --set "
    official += "wav2lip.expert=wav2lip_syncnet"
    with pytest.raises(BenchError) as raised:
        load_assets(method, {"train"}, WeightStore({}, []))
    # The official expert has the size of the preset `paper` only.
    assert str(raised.value) == (
        f"wav2lip needs {tmp_path}/expert for the sync loss, which does not exist: train one with the same --preset: "
        f"bench train sync-expert --data DATA --run {tmp_path}/expert{official if preset == 'paper' else ''}; "
        "or do without: --set wav2lip.sync_weight=0"
    )


def test_without_weight_no_expert_is_needed() -> None:
    torch.manual_seed(0)
    stage = Wav2LipConfig(width=0.05, sync_weight=0, train=TrainConfig(batch_size=2))
    method = Wav2Lip(Wav2LipMethodConfig(wav2lip=stage), DataInfo())
    assert method.assets == {}
    only = method.stages["wav2lip"]
    assert only.frozen == {}
    figures = only.validate(batch_of())
    assert set(figures) == {"L1", "loss", "psnr"}
    only.validated({name: float(value) for name, value in figures.items()})
    (update,) = only.updates(batch_of(), START)
    assert set(update.logs) == {"L1"}


def test_it_needed_networks_its_generator() -> None:
    torch.manual_seed(0)
    stage = Wav2LipConfig(width=0.05, expert_width=0.05, gan_weight=0.07, train=TrainConfig(batch_size=1))
    method = Wav2Lip(Wav2LipMethodConfig(wav2lip=stage), DataInfo())
    assert list(method.networks) == ["generator", "discriminator"]
    assert method.needed_networks == ("generator",)
    method.networks["generator"].eval()
    footage = Footage(3, missing=[1])
    with torch.no_grad():
        frames = list(method.generate(Drive(footage, FakeSpeech(), footage)))  # type: ignore[arg-type]
    assert [np.array_equal(f, footage.frame(i)) for i, f in enumerate(frames)] == [False, True, False]


@pytest.mark.parametrize(
    ("system", "name", "network"),
    [("wav2lip", "generator", Generator), ("wav2lip_disc", "discriminator", QualityDiscriminator)],
)
def test_official_weights_are_taken_as_they_are_published(
    system: str, name: str, network: type[nn.Module]
) -> None:
    state = official.weights(system)
    content: Any = {"state_dict": {f"module.{key}": value for key, value in state.items()}, "optimizer": None}
    taken = Wav2Lip.from_official(content)
    assert list(taken) == [name]
    network().load_state_dict(taken[name])


def test_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="not a checkpoint of Wav2Lip: the generator network misses"):
        Wav2Lip.from_official(SyncNet(width=0.01).state_dict())
