from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.lipformer.sampling import Sample, largest, sample_codes


def plain(logits: Tensor, codes: Tensor, truth: Tensor, temperature: float, hard: bool) -> Sample:
    """Step by step, as in the papers."""
    noise = -torch.log(-torch.log(torch.rand_like(logits)))
    shares = ((logits + noise) / temperature).softmax(dim=-1)
    if hard:
        one_hot = F.one_hot(shares.argmax(-1), logits.shape[-1]).to(shares.dtype)
        shares = one_hot + shares - shares.detach()
    error = F.cross_entropy(logits.flatten(0, -2), truth.flatten(), reduction="none")
    return Sample(shares @ codes, error.view(truth.shape))


def case() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, 3, 4, 12, dtype=torch.float64)
    return logits.requires_grad_(), torch.randn(12, 5, dtype=torch.float64), torch.randint(12, (2, 3, 4))


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_it_agrees_with_the_plain_form(hard, temperature):
    logits, codes, truth = case()
    weights = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    found = []
    for function in (sample_codes, plain):
        torch.manual_seed(3)
        values, error = function(logits, codes, truth, temperature, hard)
        (gradient,) = torch.autograd.grad((values * weights).sum() + (error * weights[..., 0]).sum(), logits)
        found.append((values, error, gradient))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_soft_values_and_errors_have_the_gradients_of_finite_differences(temperature):
    logits, codes, truth = case()

    def sampled(logits: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(3)
        return sample_codes(logits, codes, truth, temperature, hard=False)

    assert torch.autograd.gradcheck(sampled, (logits,))


def test_hard_values_are_codes():
    logits, codes, truth = case()
    values = sample_codes(logits, codes, truth, 0.7, hard=True).values
    assert all(any(torch.equal(value, code) for code in codes) for value in values.flatten(0, -2))


def test_codes_have_the_probabilities_of_the_softmax():
    torch.manual_seed(0)
    shares = torch.tensor([0.1, 0.6, 0.3])
    logits = shares.log().expand(20_000, 3)
    values = sample_codes(logits, torch.eye(3), torch.zeros(20_000, dtype=torch.int64), 0.5, hard=True).values
    torch.testing.assert_close(values.mean(0), shares, atol=0.02, rtol=0)


def test_certainty_and_extremes_stay_finite():
    """Logits hundreds apart: errors are as large as that, and no share or gradient is NaN."""
    logits = torch.tensor([[400.0, 0.0, -400.0], [-400.0, 400.0, 0.0]], requires_grad=True)
    values, error = sample_codes(logits, torch.eye(3), torch.tensor([2, 1]), 1.0, hard=True)
    assert values.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert error.tolist() == [800.0, 0.0]
    (values.sum() + error.sum()).backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, 0, -1], [0, 0, 0]]))


def test_it_stays_in_full_precision_under_autocast():
    torch.manual_seed(0)
    logits, codes = torch.randn(6, 8, requires_grad=True), torch.randn(8, 4)
    truth, weights = torch.arange(6), torch.randn(6, 4)
    found = []
    for enabled in (True, False):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            values, error = sample_codes(logits, codes, truth, 0.7, hard=False)
            found.append(
                (values, error, *torch.autograd.grad((values * weights).sum() + error.sum(), logits))
            )
    for ours, full in zip(*found, strict=True):
        assert torch.equal(ours, full)


@pytest.mark.parametrize("n", [1, 7, 12, 36, 1024])
def test_the_largest_is_where_argmax_finds_it(n):
    torch.manual_seed(0)
    # Few different values, so that several are the largest.
    values = torch.randint(5, (200, n)).float()
    assert torch.equal(largest(values), torch.tensor([row.index(max(row)) for row in values.tolist()]))
    values = torch.randn(200, n)
    assert torch.equal(largest(values), values.argmax(1))
