"""Stages whose steps are computed in shares of the batch, side by side, against the same steps of whole batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bench.train.stepping import Stepper
from models.base import Progress
from models.layers.side_by_side import sharing
from tests import every_stage

#: (method, stage) → options by which its steps take moments.
SHARING = {
    ("ipl", "render"): ("render.perceptual=pixels", "render.lambda_g=0.0", "render.lambda_f=0.0"),
    ("wav2lip", "wav2lip"): ("wav2lip.gan_weight=0.0",),
    ("lipformer", "codebook"): ("codebook.perceptual_weight=0.0", "codebook.adversarial_weight=0.0"),
    ("lipformer", "lipformer"): ("lipformer.perceptual_weight=0.0", "lipformer.adversarial_weight=0.0"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_stage.generated_data(tmp_path_factory.mktemp("sharing") / "data")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def losses(method: str, stage: str, data: Path, threads: int | None) -> list[dict[str, float]]:
    """Logs of two steps of a stage."""
    small = every_stage.small(method, stage, data, 0, 1, *SHARING[method, stage])
    stepper = Stepper(small.stage.optimizers())
    found = []
    with sharing(small.stage.networks.values(), threads):
        for number in range(2):
            logs: dict[str, float] = {}
            torch.manual_seed(number)
            for update in stepper.steps(small.stage.updates(small.batches[0], Progress(number + 1, 1.0))):
                logs |= {name: float(value.detach()) for name, value in update.logs.items()}
            found.append(logs)
    return found


@pytest.mark.parametrize(("method", "stage"), SHARING)
def test_shares_give_the_losses_of_the_whole_batch(data: Path, method: str, stage: str) -> None:
    divided, whole = (losses(method, stage, data, threads) for threads in (1, None))
    assert divided[0] == pytest.approx(whole[0], rel=1e-4, abs=1e-6)
    # Adam turns rounding errors of gradients that should be 0 into whole steps.
    for one, other in zip(divided[1:], whole[1:], strict=True):
        assert one == pytest.approx(other, rel=2e-2, abs=1e-3)
    assert losses(method, stage, data, 1) == divided
