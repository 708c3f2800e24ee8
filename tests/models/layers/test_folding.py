"""Convolution and batch normalisation as one convolution."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.layers import folding
from models.layers.folding import normalised


def pair(bias: bool = True) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A frozen pair in evaluation mode, with statistics and weights that are not those of the beginning."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 3, stride=(2, 1), padding=1, bias=bias), nn.BatchNorm2d(4)
    for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        with torch.no_grad():
            values.uniform_(0.5, 2)
    return conv.eval().requires_grad_(False), norm.eval().requires_grad_(False)


def picture() -> Tensor:
    return torch.rand(2, 3, 9, 8)


def computed(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The normalisations that are called from now on."""
    called: list[nn.Module] = []
    plain = nn.BatchNorm2d.forward
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: called.append(self) or plain(self, x))
    return called


@pytest.mark.parametrize("bias", [True, False])
def test_same_outputs_and_gradients(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    (conv, norm), x = pair(bias), picture().requires_grad_()
    wanted = norm(conv(x))
    called = computed(monkeypatch)
    found = normalised(conv, norm, x)
    assert not called
    assert torch.allclose(found, wanted, atol=1e-5)
    factors = torch.randn_like(wanted)
    (one,), (other,) = (torch.autograd.grad(y, x, factors) for y in (found, wanted))
    assert torch.allclose(one, other, atol=1e-5)


def test_weights_that_are_trained_and_batch_statistics_are_not_folded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (conv, norm), x, called = pair(), picture(), computed(monkeypatch)
    conv.weight.requires_grad_()
    normalised(conv, norm, x).sum().backward()
    assert called == [norm]
    assert conv.weight.grad is not None
    conv.requires_grad_(False)
    normalised(conv, norm.train(), x)
    assert called == [norm, norm]


def test_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (conv, norm), x = pair(), picture()
    made: list[nn.Module] = []
    plain = folding._fold
    monkeypatch.setattr(folding, "_fold", lambda conv, norm, of: made.append(norm) or plain(conv, norm, of))
    keys = list(norm.state_dict())
    for _ in range(3):
        normalised(conv, norm, x)
    assert made == [norm]
    assert list(norm.state_dict()) == keys


def _load(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    conv.load_state_dict({key: value + 1 for key, value in conv.state_dict().items()})


def _assign(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    norm.load_state_dict({key: value + 1 for key, value in norm.state_dict().items()}, assign=True)


def _step(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    optimizer = torch.optim.Adam([conv.weight.requires_grad_()], 0.1, fused=True)
    with torch.enable_grad():
        normalised(conv, norm, picture()).sum().backward()
    optimizer.step()
    conv.requires_grad_(False)


def _statistics(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    norm.train()(torch.randn(2, 4, 5, 5) * 9)
    norm.eval()


def _generation(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    with torch.inference_mode():
        conv.weight.mul_(2)


def _averages(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    with torch.no_grad():
        torch._foreach_lerp_([conv.weight, norm.running_var], [conv.weight * 3, norm.running_var * 3], 0.5)


@pytest.mark.parametrize("change", [_load, _assign, _step, _statistics, _generation, _averages])
@pytest.mark.parametrize("inference", [False, True], ids=["no_grad", "inference_mode"])
def test_never_stale(change: Any, inference: bool) -> None:
    (conv, norm), x = pair(), picture()
    with torch.inference_mode(inference):
        before = normalised(conv, norm, x)
    change(conv, norm)
    found = normalised(conv, norm, x)
    assert torch.allclose(found, norm(conv(x)), atol=1e-5)
    assert not torch.allclose(found, before, atol=1e-2)


def test_a_copy_has_its_own() -> None:
    (conv, norm), x = pair(), picture()
    before = normalised(conv, norm, x)
    conv2, norm2 = copy.deepcopy((conv, norm))
    with torch.no_grad():
        conv2.weight.mul_(2)
    assert torch.equal(normalised(conv, norm, x), before)
    assert torch.allclose(normalised(conv2, norm2, x), norm2(conv2(x)), atol=1e-5)


def test_first_used_in_generation_and_then_in_training() -> None:
    (conv, norm), x = pair(), picture().requires_grad_()
    with torch.inference_mode():
        normalised(conv, norm, x)
    normalised(conv, norm, x).sum().backward()
    assert x.grad is not None


def test_half_precision() -> None:
    (conv, norm), x = pair(), picture()
    with torch.autocast("cpu", torch.bfloat16):
        found = normalised(conv, norm, x)
    assert found.dtype == torch.bfloat16
    assert (found.float() - norm(conv(x))).abs().max() < 0.05
    # What was made under autocast has not lost precision.
    assert torch.allclose(normalised(conv, norm, x), norm(conv(x)), atol=1e-5)
