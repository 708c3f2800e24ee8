from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import prep.sampling
from models.base import Progress, TrainConfig
from models.ipl.landmark import JAW, LIPS, POSE, LandmarkGenerator, LandmarkNetwork, LSTMLandmarkGenerator
from models.ipl.landmark_stage import LandmarkConfig, LandmarkStage
from models.ipl.sketch import draw_sketches
from prep import landmark_sets
from tests.parity.fill import fill_state, make_input

FIXTURE = Path(__file__).resolve().parents[2] / "parity" / "ip_lap_landmark"
BACKBONES = ("transformer", "lstm")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def config(**changes: Any) -> LandmarkConfig:
    small: dict[str, Any] = {"width": 0.125, "d_model": 32, "layers": 2, "heads": 2, "feedforward": 64}
    return LandmarkConfig(**{**small, "references": 3, "train": TrainConfig(batch_size=4), **changes})


def inputs(batch: int = 2, frames: int = 5, references: int = 3) -> list[Tensor]:
    """Mels, pose, and pose and content of references."""
    return [
        torch.rand(batch, frames, 1, 80, 16) * 8 - 4,
        torch.rand(batch, frames, 2, POSE),
        torch.rand(batch, references, 2, POSE),
        torch.rand(batch, references, 2, JAW + LIPS),
    ]


def training_batch(size: int = 4) -> dict[str, Any]:
    """As a data loader delivers it, of noise."""
    corners = torch.rand(size, 8, 2) * 50
    boxes = torch.cat([corners, corners + 60 + 40 * torch.rand(size, 8, 2)], dim=2)
    landmarks = torch.rand(size, 8, POSE + JAW + LIPS, 2)
    return {
        "clip": [f"clip{i}" for i in range(size)],
        "landmarks": landmarks[:, :5],
        "reference_landmarks": landmarks[:, 5:],
        "boxes": boxes[:, :5],
        "reference_boxes": boxes[:, 5:],
        "frame_mel": torch.rand(size, 5, 80, 16) * 8 - 4,
    }


class Off(LandmarkNetwork):
    """Puts a mistake on the truth, and keeps what it was given."""

    def __init__(self, truth: Tensor, mistake: Tensor) -> None:
        nn.Module.__init__(self)
        self.answer = truth + mistake
        self.given: tuple[Tensor, ...] = ()

    def forward(self, *given: Tensor) -> Tensor:
        self.given = given
        return self.answer

    def fuse(self, references: Tensor, audio: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


# Networks -----------------------------------------------------------------------------------------------------


def test_the_official_output() -> None:
    spec = json.loads((FIXTURE / "spec.json").read_text())
    network = LandmarkGenerator().eval()
    state = network.state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == {
        k: s for k, s, _ in spec["state_dict"]
    }
    filled = fill_state(spec["state_dict"], spec["gain"], spec["keep"])
    network.load_state_dict({**state, **{key: torch.from_numpy(value) for key, value in filled.items()}})
    given = [
        torch.from_numpy(make_input(n, i["shape"], i["low"], i["high"])) for n, i in spec["inputs"].items()
    ]
    with torch.no_grad():
        content = network(*given).flatten(0, 1).transpose(1, 2).numpy()
    np.testing.assert_allclose(content, np.load(FIXTURE / "expected.npz")["content"], atol=1e-4, rtol=0)


def test_points_come_in_the_order_of_the_data_set() -> None:
    points = landmark_sets.LANDMARK_SETS["face131"]
    assert np.array_equal(points[:POSE], landmark_sets.FACE_131_POSE)
    assert np.array_equal(points[POSE : POSE + JAW], landmark_sets.JAW)
    assert np.array_equal(points[POSE + JAW :], landmark_sets.LIPS)
    assert len(landmark_sets.LIPS) == LIPS


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("width", "d_model"), [(0.125, 64), (0.1, 32)])
def test_any_size_takes_any_window_and_references(backbone: str, width: float, d_model: int) -> None:
    network = config(backbone=backbone, width=width, d_model=d_model).build().eval()
    for frames, references in ((5, 15), (1, 1), (9, 2)):
        content = network(*inputs(2, frames, references))
        assert content.shape == (2, frames, JAW + LIPS, 2)
        assert content.dtype == torch.float32


@pytest.mark.parametrize("backbone", BACKBONES)
def test_references_have_no_order(backbone: str) -> None:
    network = config(backbone=backbone).build().eval()
    mels, pose, reference_pose, reference_content = inputs(references=4)
    order = torch.tensor([2, 0, 3, 1])
    one = network(mels, pose, reference_pose, reference_content)
    other = network(mels, pose, reference_pose[:, order], reference_content[:, order])
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_the_lstm_averages_references() -> None:
    network = LSTMLandmarkGenerator(32, 2, width=0.125).eval()
    references, audio, pose = torch.randn(2, 4, 32), torch.randn(2, 5, 32), torch.randn(2, 5, 32)
    of_all, _ = network.fuse(references, audio, pose)
    of_mean, _ = network.fuse(references.mean(dim=1, keepdim=True), audio, pose)
    torch.testing.assert_close(of_all, of_mean)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("which", range(4))
def test_everything_given_matters_in_every_frame(backbone: str, which: int) -> None:
    network = config(backbone=backbone).build().eval()
    given = inputs()
    before = network(*given)
    # The last frame, or reference, alone: it must be seen from the first one too.
    given[which] = given[which].clone()
    given[which][:, -1] = given[which][:, -1].flip(-1)
    change = (network(*given) - before).abs().amax(dim=(2, 3))
    assert (change > 1e-6).all()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("d_model", [32, 64])
def test_every_parameter_learns(backbone: str, d_model: int) -> None:
    network = config(backbone=backbone, d_model=d_model).build()
    content = network(*inputs(batch=4))
    (content * torch.randn_like(content)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A bias that batch normalisation takes off again has no gradient but rounding.
        if not name.endswith("conv_block.0.bias"):
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("backbone", BACKBONES)
def test_coordinates_are_finer_than_bfloat16(backbone: str) -> None:
    network = config(backbone=backbone).build().eval()
    given = inputs()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        content = network(*given)
    assert content.dtype == torch.float32
    assert not torch.equal(content, content.bfloat16().float())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_residual_starts_at_the_mean_of_the_references(backbone: str) -> None:
    network = config(backbone=backbone, residual=True).build()
    given = inputs(references=4)
    content = network(*given)
    mean = given[3].mean(dim=1, keepdim=True).transpose(2, 3).expand_as(content)
    torch.testing.assert_close(content, mean)
    content.square().sum().backward()
    assert network.jaw_keypoint_map.weight.grad.abs().sum() > 0
    assert network.mouse_keypoint_map.weight.grad.abs().sum() > 0


# Stage --------------------------------------------------------------------------------------------------------


def test_the_data_set_accepts_what_the_stage_asks_for() -> None:
    stage = LandmarkStage(config(window=7, references=9), config().build())
    spec = stage.sample
    prep.sampling.check_spec(spec)
    assert (spec.window, spec.references, prep.sampling.columns_of(spec)) == (7, 9, ["landmarks", "mel"])


def test_what_the_network_is_given() -> None:
    batch = training_batch()
    network = Off(batch["landmarks"][:, :, POSE:], torch.zeros(()))
    LandmarkStage(config(), network).validate(batch)
    mels, pose, reference_pose, reference_content = network.given
    assert torch.equal(mels[:, :, 0], batch["frame_mel"])
    assert torch.equal(pose[:, :, 1], batch["landmarks"][:, :, :POSE, 1])
    assert torch.equal(reference_pose[:, :, 0], batch["reference_landmarks"][:, :, :POSE, 0])
    assert torch.equal(reference_content[:, :, 1], batch["reference_landmarks"][:, :, POSE:, 1])


@pytest.mark.parametrize(
    ("form", "l1", "velocity"),
    [
        # Jaw off by (0.1, 0.2) in all frames; lips by (0.03, 0.04), the other way round in the third.
        ("code", (17 * 0.3 + 40 * 0.07) / 114, 2 / 4 * 2 * 0.05 * 40**0.5),
        ("paper", 17 * 0.3 + 40 * 0.07, 2 / 4 * 2 * 0.05 * 40**0.5),
    ],
)
def test_figures_by_hand(form: str, l1: float, velocity: float) -> None:
    batch = training_batch()
    mistake = torch.zeros(5, JAW + LIPS, 2)
    mistake[:, :JAW] = torch.tensor([0.1, 0.2])
    mistake[:, JAW:] = torch.tensor([0.03, 0.04])
    mistake[2, JAW:] *= -1
    stage = LandmarkStage(
        config(loss_form=form, continuity_weight=2), Off(batch["landmarks"][:, :, POSE:], mistake)
    )
    figures = {name: value.item() for name, value in stage.validate(batch).items()}
    assert figures["L1"] == pytest.approx(l1, rel=1e-4)
    assert figures["velocity"] == pytest.approx(velocity, rel=1e-4)
    assert figures["loss"] == pytest.approx(l1 + 2 * velocity, rel=1e-4)
    assert figures["lip_distance"] == pytest.approx(0.05, rel=1e-4)


def test_the_papers_continuity_takes_jaw_and_lips_apart() -> None:
    batch = training_batch()
    mistake = torch.zeros(5, JAW + LIPS, 2)
    mistake[2, 0, 0], mistake[2, -1, 1] = 0.3, 0.4
    network = Off(batch["landmarks"][:, :, POSE:], mistake)
    found = {
        form: LandmarkStage(config(loss_form=form), network).validate(batch)["velocity"].item()
        for form in ("code", "paper")
    }
    assert found == pytest.approx({"code": 2 / 4 * 0.5, "paper": 2 / 4 * 0.7}, rel=1e-3)


def test_the_update_is_the_weighted_sum() -> None:
    batch = training_batch()
    stage = LandmarkStage(config(continuity_weight=0.5), config().build())
    (update,) = stage.updates(batch, Progress(0, 0.0))
    assert update.optimizer in stage.optimizers()
    assert set(update.logs) == {"L1", "velocity"}
    assert update.loss.item() == pytest.approx((update.logs["L1"] + 0.5 * update.logs["velocity"]).item())


def trained(backbone: str, steps: int) -> tuple[LandmarkStage, list[float]]:
    torch.manual_seed(1)
    chosen = config(backbone=backbone, layers=1, learning_rate=1e-2)
    stage = LandmarkStage(chosen, chosen.build())
    optimizers = stage.optimizers()
    batch, losses = training_batch(), []
    for step in range(steps):
        for update in stage.updates(batch, Progress(step, float(step))):
            optimizers[update.optimizer].zero_grad()
            update.loss.backward()
            optimizers[update.optimizer].step()
            losses.append(update.loss.item())
    return stage, losses


@pytest.mark.parametrize("backbone", BACKBONES)
def test_it_learns_what_it_is_shown(backbone: str) -> None:
    _, losses = trained(backbone, 20)
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_same_seed_gives_the_same_weights(backbone: str) -> None:
    one, other = (trained(backbone, 3)[0].networks["landmark"].state_dict() for _ in range(2))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_validation_leaves_no_gradient() -> None:
    stage = LandmarkStage(config(), config().build())
    assert not any(figure.requires_grad for figure in stage.validate(training_batch()).values())


def test_samples_are_sketches_of_the_middle_frame() -> None:
    batch = training_batch()
    stage = LandmarkStage(config(), Off(batch["landmarks"][:, :, POSE:], torch.zeros(())))
    columns = stage.samples(batch)
    assert list(columns) == ["reference", "predicted", "truth"]
    assert all(pictures.shape == (4, 3, 128, 128) for pictures in columns.values())
    assert torch.equal(columns["predicted"], columns["truth"])
    box = batch["boxes"][:, 2]
    expected = draw_sketches(batch["landmarks"][:, 2].numpy(), (box[:, 2:] - box[:, :2]).numpy())
    assert torch.equal((columns["truth"][:, 1] * 255).round(), torch.from_numpy(expected).float())
    assert not torch.equal(columns["reference"], columns["truth"])


@pytest.mark.parametrize(
    "wrong", [{"d_model": 30, "heads": 4}, {"window": 1}, {"backbone": "gru"}, {"d_modell": 8}]
)
def test_wrong_configurations(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**wrong)
