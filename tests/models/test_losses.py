from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from models.losses import continuity, point_l1
from tests.parity.fill import make_input

FIXTURE = Path(__file__).resolve().parents[1] / "parity" / "ip_lap_losses"


def official_inputs() -> list[torch.Tensor]:
    """Prediction and truth of the fixture, from its (B T, 2, P) to (B, T, P, 2)."""
    inputs = json.loads((FIXTURE / "spec.json").read_text())["inputs"]
    made = (make_input(name, i["shape"], i["low"], i["high"]) for name, i in inputs.items())
    return [torch.from_numpy(x).unflatten(0, (2, 5)).transpose(2, 3) for x in made]


def test_the_official_figures() -> None:
    predicted, truth = official_inputs()
    expected = np.load(FIXTURE / "expected.npz")
    assert point_l1(predicted, truth).item() == pytest.approx(expected["l1"].item(), abs=1e-6)
    assert continuity(predicted, truth).item() == pytest.approx(expected["velocity"].item(), abs=1e-5)


def test_l1_by_hand() -> None:
    predicted = torch.tensor([[[[1.0, 2.0]], [[3.0, -4.0]]]])
    assert point_l1(predicted, torch.zeros(1, 2, 1, 2)).item() == 2.5


def test_continuity_by_hand() -> None:
    truth = torch.rand(1, 3, 2, 2)
    predicted = truth + torch.tensor([[[0.0, 0.0], [0, 0]], [[3, 0], [0, 4]], [[3, 0], [0, 5]]])
    # Over both points the movements are off by 5 and 1; of the first by 3 and 0, of the second by 4 and 1.
    assert continuity(predicted, truth).item() == pytest.approx(3, abs=1e-4)
    assert continuity(predicted, truth, groups=(1, 1)).item() == pytest.approx(4, abs=1e-4)


def test_a_constant_shift_moves_alike() -> None:
    truth = torch.rand(2, 5, 57, 2)
    assert continuity(truth + 0.5, truth).item() == pytest.approx(0, abs=1e-4)
    assert point_l1(truth + 0.5, truth).item() == pytest.approx(0.5)


def test_where_nothing_is_off_the_gradient_is_finite() -> None:
    truth = torch.rand(2, 5, 57, 2)
    predicted = truth.clone().requires_grad_()
    continuity(predicted, truth, groups=(17, 40)).backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()


def test_half_precision_is_summed_in_single() -> None:
    truth = torch.rand(2, 5, 57, 2)
    loss = continuity(truth.bfloat16(), truth)
    assert loss.dtype == torch.float32
    assert 0 < loss.item() < math.sqrt(114) * 2 * 2**-9


@pytest.mark.parametrize(
    ("predicted", "truth", "groups", "message"),
    [
        ((2, 5, 57, 2), (2, 5, 40, 2), None, "are not both"),
        ((10, 2, 57), (10, 2, 57), None, "are not both"),
        ((2, 1, 57, 2), (2, 1, 57, 2), None, "at least two frames"),
        ((2, 5, 57, 2), (2, 5, 57, 2), (16, 40), r"groups of \[16, 40\] points"),
    ],
)
def test_wrong_shapes(
    predicted: tuple[int, ...], truth: tuple[int, ...], groups: tuple[int, ...] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        continuity(torch.zeros(predicted), torch.zeros(truth), groups)
