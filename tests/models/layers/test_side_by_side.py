"""Shares of a batch, each computed by a thread of its own, give what the whole batch gives."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from models.layers.side_by_side import sharing, side_by_side


class Two(NamedTuple):
    made: Tensor
    unused: Tensor


class Network(nn.Module):
    """Convolutions with batch normalisation, one of them without weights, and a second input."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2, affine=False, momentum=None))
        self.vector = nn.Sequential(nn.Linear(5, 2), nn.BatchNorm1d(2))
        self.idle = nn.Linear(2, 2)

    def forward(self, pictures: Tensor, vectors: Tensor) -> Two:
        x = self.second(self.first(pictures))
        return Two(x * self.vector(vectors)[..., None, None], x.mean((2, 3)))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def inputs(n: int = 7) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, 3, 8, 8, dtype=torch.float64), torch.randn(n, 5, dtype=torch.float64)


def network() -> Network:
    torch.manual_seed(0)
    return Network().double().train()


def test_results_gradients_and_statistics_are_those_of_the_whole_batch() -> None:
    whole = network()
    divided = copy.deepcopy(whole)
    pictures, vectors = inputs()
    of_whole, of_divided = pictures.clone().requires_grad_(), pictures.clone().requires_grad_()
    expected = whole(of_whole, vectors)
    expected.made.sin().sum().backward()
    with sharing([divided], 1):
        assert torch.get_num_threads() == 1
        found = side_by_side(divided, of_divided, vectors)
        found.made.sin().sum().backward()
    assert torch.get_num_threads() == 3
    assert isinstance(found, Two)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(of_divided.grad, of_whole.grad)
    for (name, weight), other in zip(divided.named_parameters(), whole.parameters(), strict=True):
        assert (weight.grad is None) == (other.grad is None), name
        torch.testing.assert_close(weight.grad, other.grad)
    for one, other in zip(divided.buffers(), whole.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_each_share_has_a_thread_and_the_same_comes_out_every_time() -> None:
    seen: set[int] = set()
    found = []
    for _ in range(2):
        divided = network()
        divided.first.register_forward_hook(lambda *_: seen.add(threading.get_ident()))
        pictures, vectors = inputs()
        with sharing([divided], 1):
            side_by_side(divided, pictures, vectors).made.square().mean().backward()
        found.append([weight.grad for weight in divided.parameters() if weight.grad is not None])
    assert len(seen) >= 3
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_evaluation_and_autocast() -> None:
    divided = network().float().eval()
    pictures, vectors = (values.float() for values in inputs())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = divided(pictures, vectors).made
        with sharing([divided], 1):
            found = side_by_side(divided, pictures, vectors).made
    assert found.dtype == expected.dtype and not found.requires_grad
    torch.testing.assert_close(found, expected)


def test_fewer_samples_than_threads_and_no_sharing() -> None:
    one = network().eval()
    pictures, vectors = inputs(1)
    with sharing([one], 1):
        torch.testing.assert_close(side_by_side(one, pictures, vectors), one(pictures, vectors))
    torch.testing.assert_close(side_by_side(one, pictures, vectors), one(pictures, vectors))
    with sharing([one], None):
        assert torch.get_num_threads() == 3


def test_what_a_share_raises_is_raised_and_nobody_waits() -> None:
    class Bad(Network):
        def forward(self, pictures: Tensor, vectors: Tensor) -> Two:
            x = self.first(pictures)
            if vectors.max() > 100:
                raise ValueError("too large")
            return Two(self.second(x), x)

    bad = Bad().double()
    pictures, vectors = inputs(6)
    vectors[-1] = 1000
    with sharing([bad], 1):
        with pytest.raises(ValueError, match="too large"):
            side_by_side(bad, pictures, vectors)
        side_by_side(bad, *inputs(6)).made.sum().backward()
    assert "forward" not in vars(bad.first[1])
