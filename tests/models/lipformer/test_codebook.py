"""Codebooks: hand-computed choices, gradients, memory of use, restarts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import run

import pytest
import torch
from torch import Tensor

from models.lipformer.codebook import Codebook

REPOSITORY = Path(__file__).resolve().parents[3]


def small(beta: float = 0.25) -> Codebook:
    """Codes at (0, 0), (4, 0) and (0, 4)."""
    book = Codebook(3, 2, beta)
    with torch.no_grad():
        book.codes.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]))
    return book


def positions(*vectors: tuple[float, float]) -> Tensor:
    """(1, 2, 1, n) float, a feature each."""
    return torch.tensor(vectors, dtype=torch.float32).T.view(1, 2, 1, -1)


def numeric(function: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of a scalar function, element by element."""
    gradient = torch.empty_like(at)
    for index in range(at.numel()):
        moved = []
        for sign in (1, -1):
            shifted = at.detach().clone()
            shifted.view(-1)[index] += sign * step
            moved.append(float(function(shifted).detach()))
        gradient.view(-1)[index] = (moved[0] - moved[1]) / (2 * step)
    return gradient


def test_the_nearest_code() -> None:
    book = small()
    features = positions((1, 1), (3, 1), (1, 3), (2.1, 0), (1.9, 0))
    assert book.nearest(features).tolist() == [[[0, 1, 2, 1, 0]]]


def test_places_are_kept_apart() -> None:
    """(B, d, h, w) → (B, h, w), row by row, and back."""
    torch.manual_seed(0)
    book = Codebook(50, 3)
    codes = torch.randint(50, (2, 4, 5))
    values = book.look_up(codes)
    assert values.shape == (2, 3, 4, 5)
    assert torch.equal(values[1, :, 2, 3], book.codes[codes[1, 2, 3]])
    assert torch.equal(book.nearest(values), codes)


def test_nearest_agrees_with_distances() -> None:
    torch.manual_seed(0)
    book = Codebook(20, 5)
    features = torch.randn(2, 5, 3, 4)
    flat = features.permute(0, 2, 3, 1).reshape(-1, 5)
    assert torch.equal(book.nearest(features).flatten(), torch.cdist(flat, book.codes).argmin(1))


def test_straight_through_by_hand() -> None:
    """The decoder sees the code; the encoder gets the decoder's gradient as it is, the codes none of it."""
    book = small()
    features = positions((3, 1)).requires_grad_()
    made = book(features)
    assert made.codes.tolist() == [[[1]]]
    assert made.values.flatten().tolist() == [4.0, 0.0]
    (made.values * torch.tensor([2.0, -7.0]).view(1, 2, 1, 1)).sum().backward()
    assert features.grad is not None and features.grad.flatten().tolist() == [2.0, -7.0]
    assert book.codes.grad is None


def test_the_loss_by_hand() -> None:
    """(3, 1) stands off (4, 0) by 1 and 1: a mean square of 1, once for the code and β times for the feature."""
    book = small(beta=0.25)
    features = positions((3, 1)).requires_grad_()
    loss = book(features).loss
    assert loss.item() == pytest.approx(1.25)
    loss.backward()
    # Of the mean square (x - c)² / 2 the gradient is x - c = (-1, 1) for the feature, c - x for the code.
    assert features.grad is not None and features.grad.flatten().tolist() == [-0.25, 0.25]
    assert book.codes.grad is not None and book.codes.grad.tolist() == [[0.0, 0.0], [1.0, -1.0], [0.0, 0.0]]


def test_the_loss_by_finite_differences() -> None:
    """Without stop-gradients both would see both terms: the features see β of 1 + β, the codes 1 of 1 + β."""
    torch.manual_seed(0)
    beta = 0.25
    book = Codebook(6, 3, beta).double()
    features = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    codes = book.nearest(features)
    of_features, of_codes = torch.autograd.grad(book(features).loss, (features, book.codes))

    def by_features(moved: Tensor) -> Tensor:
        assert torch.equal(book.nearest(moved), codes)
        return book(moved).loss

    def by_codes(moved: Tensor) -> Tensor:
        other = Codebook(6, 3, beta).double()
        with torch.no_grad():
            other.codes.copy_(moved)
        return other(features).loss

    shares = beta / (1 + beta), 1 / (1 + beta)
    torch.testing.assert_close(of_features, numeric(by_features, features) * shares[0], atol=1e-8, rtol=1e-5)
    torch.testing.assert_close(of_codes, numeric(by_codes, book.codes) * shares[1], atol=1e-8, rtol=1e-5)


def test_look_up_teaches_the_codes() -> None:
    book = small()
    book.look_up(torch.tensor([[[2, 2, 0]]])).sum().backward()
    assert book.codes.grad is not None and book.codes.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]]


def test_half_precision_chooses_as_full() -> None:
    torch.manual_seed(0)
    book = Codebook(200, 16)
    features = torch.nn.functional.normalize(torch.randn(2, 16, 4, 4), dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        made = book(features)
    assert torch.equal(made.codes, book.nearest(features))
    assert made.loss.dtype == torch.float32


def test_use_is_remembered() -> None:
    book = small()
    assert float(book.usage(100)) == 0
    book.note(torch.tensor([[0, 1]]))
    book.note(torch.tensor([[1]]))
    assert book.idle.tolist()[:2] == [1, 0]
    assert float(book.usage(100)) == pytest.approx(2 / 3)
    assert float(book.usage(1)) == pytest.approx(1 / 3)
    other = small()
    other.load_state_dict(book.state_dict())
    assert other.idle.tolist() == book.idle.tolist()


def test_restart_places_dead_codes_at_features() -> None:
    torch.manual_seed(0)
    book = Codebook(5, 2)
    before = book.codes.detach().clone()
    unused = torch.tensor([True, False, True, False, True])
    features = torch.randn(2, 2, 3, 4) + 10
    book.restart(features, unused)
    assert torch.equal(book.codes[~unused], before[~unused])
    there = features.permute(0, 2, 3, 1).reshape(-1, 2)
    placed = book.codes[unused]
    assert all(any(torch.equal(code, feature) for feature in there) for code in placed)
    assert len(placed.unique(dim=0)) == 3
    assert book.codes.requires_grad and book.codes.grad_fn is None


def test_restart_draws_from_torchs_generator() -> None:
    features = torch.randn(1, 2, 8, 8)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        book = small()
        book.restart(features, torch.tensor([True, True, True]))
        drawn.append(book.codes.detach().clone())
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_restart_with_fewer_features_than_codes() -> None:
    book = Codebook(5, 2)
    features = positions((1, 2), (3, 4))
    book.restart(features, torch.ones(5, dtype=torch.bool))
    assert sorted(map(tuple, book.codes.tolist())) in (
        [(1.0, 2.0)] * 3 + [(3.0, 4.0)] * 2,
        [(1.0, 2.0)] * 2 + [(3.0, 4.0)] * 3,
    )


def test_restart_of_none() -> None:
    book = small()
    before = book.codes.detach().clone()
    book.restart(positions((9, 9)), torch.zeros(3, dtype=torch.bool))
    assert torch.equal(book.codes, before)


PROCESS = """
import sys
import torch
from accelerate import Accelerator
from bench.train.parallel import exchange
from models.base import Progress
from models.lipformer.codebook import Codebook
accelerator = Accelerator(cpu=True)
progress = Progress(0, 0.0, **exchange(accelerator))
rank = accelerator.process_index
torch.manual_seed(0)
book = Codebook(4, 2)
torch.manual_seed(rank)
book.note(torch.tensor([rank]), progress.sum)
book.restart(torch.randn(1, 2, 3, 3), book.idle > 0, progress.first)
mean = progress.mean(torch.tensor([1.0 + 2 * rank]))
torch.save((book.codes.detach(), book.idle, mean), sys.argv[1] + str(rank))
accelerator.wait_for_everyone()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_agree(tmp_path: Path) -> None:
    """Each sees its own batch, yet both note the use of all and place codes alike."""
    script = tmp_path / "two.py"
    script.write_text(PROCESS)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, "-m", *launcher, str(script), str(tmp_path / "found")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    run(command, cwd=REPOSITORY, check=True, timeout=300, env=environment)
    (codes, idle, mean), others = (torch.load(tmp_path / f"found{rank}") for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip((codes, idle, mean), others, strict=True))
    assert (idle == 0).tolist() == [True, True, False, False]
    assert mean.tolist() == [2.0]
    # What stood at the first process's features, and the two codes that were chosen, where they were.
    torch.manual_seed(0)
    alone = Codebook(4, 2)
    torch.manual_seed(0)
    alone.restart(torch.randn(1, 2, 3, 3), torch.tensor([False, False, True, True]))
    assert torch.equal(codes, alone.codes.detach())
