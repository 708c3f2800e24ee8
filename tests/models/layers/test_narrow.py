"""Narrow convolutions: the same function, channels-last inside on a CPU only."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.narrow import Conv2d, RepeatingConv2d, conv2d


def seen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the input of each convolution from here on is channels-last."""
    found: list[bool] = []
    plain = F.conv2d

    def watched(x: Tensor, *args: object) -> Tensor:
        found.append(x.is_contiguous(memory_format=torch.channels_last))
        return plain(x, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "conv2d", watched)
    return found


@pytest.mark.parametrize(
    ("cin", "cout", "kernel", "stride", "narrow"),
    [
        (8, 4, 7, 1, True),
        (31, 15, 3, 2, True),
        (3, 1, (3, 5), (1, 2), True),
        (32, 8, 3, 1, False),
        (8, 16, 3, 1, False),
    ],
)
def test_it_is_the_same_function_with_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch, cin: int, cout: int, kernel: int, stride: int, narrow: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(cin, cout, kernel, stride, padding=1)
    ours = Conv2d(cin, cout, kernel, stride, padding=1)
    ours.load_state_dict(plain.state_dict())
    inputs = [torch.randn(2, cin, 12, 10).requires_grad_() for _ in range(1)] * 2
    expected = plain(inputs[0])
    expected_gradients = torch.autograd.grad(expected.square().sum(), [inputs[0], *plain.parameters()])
    formats = seen(monkeypatch)
    found = ours(inputs[1])
    assert formats == [narrow] and found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad(found.square().sum(), [inputs[1], *ours.parameters()])
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [{"dilation": 2}, {"groups": 2}, {"padding_mode": "reflect", "padding": 1}, {"padding": "same"}],
)
def test_what_it_does_not_know_is_left_to_torch(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    plain, ours = nn.Conv2d(4, 4, 3, **options), Conv2d(4, 4, 3, **options)  # type: ignore[arg-type]
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(1, 4, 9, 9)
    assert torch.equal(ours(x), plain(x))


def test_in_half_precision_too() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 8, 16, 16), torch.randn(4, 8, 7, 7) / 20
    expected = F.conv2d(x, weight, padding=3)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv2d(x, weight, padding=(3, 3))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("others", [0, 3])
def test_of_three_equal_channels_one_can_be_given(others: int) -> None:
    torch.manual_seed(0)
    convolution = RepeatingConv2d(others, 2, 5, 3, padding=1).double()
    different, grey = torch.randn(2, others, 6, 6).double(), torch.randn(2, 2, 6, 6).double()
    whole = torch.cat([different, grey.repeat_interleave(3, dim=1)], dim=1)
    found, expected = convolution(torch.cat([different, grey], dim=1)), convolution(whole)
    torch.testing.assert_close(found, expected)
    (of_found,) = torch.autograd.grad(found.sin().sum(), convolution.weight)
    (of_expected,) = torch.autograd.grad(expected.sin().sum(), convolution.weight)
    torch.testing.assert_close(of_found, of_expected)
