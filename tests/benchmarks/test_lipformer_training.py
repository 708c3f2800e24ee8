"""What LipFormer's transformer and its loss on codes cost, against the same written plainly (``--benchmark-only``).

Both at the size of the preset ``tiny``: 8 faces of 512 positions, 1024 codes; forward and backward on one thread. The
plain forms are those of the papers, operation by operation. The two take turns in one process; what is compared is
the processor time, its lowest value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from models.lipformer.sampling import sample_codes
from models.lipformer.transformer import CrossAttention

BATCH, POSITIONS, CODES, DIM, HEADS = 8, 512, 1024, 64, 2
TURNS = 7
#: At most so much of the plain form's time.
SAMPLING, ATTENTION = 0.85, 1.1


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seconds(functions: dict[str, Callable[[], None]]) -> dict[str, float]:
    spent: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(TURNS + 1):
        for name, function in functions.items():
            begun = time.process_time()
            function()
            spent[name].append(time.process_time() - begun)
    return {name: min(times[1:]) for name, times in spent.items()}


def test_codes_are_sampled_faster_than_plainly(benchmark: BenchmarkFixture) -> None:
    torch.manual_seed(0)
    logits = torch.randn(BATCH, POSITIONS, CODES, requires_grad=True)
    codes, truth = torch.randn(CODES, DIM), torch.randint(CODES, (BATCH, POSITIONS))
    weights = torch.randn(BATCH, POSITIONS, DIM)

    def back(values: Tensor, error: Tensor) -> None:
        ((values * weights).sum() + error.mean()).backward()

    def ours() -> None:
        back(*sample_codes(logits, codes, truth, 1.0, hard=True))

    def plain() -> None:
        noise = torch.rand_like(logits).log().neg().log().neg()
        shares = (logits + noise).softmax(-1)
        one_hot = torch.zeros_like(shares).scatter_(-1, shares.argmax(-1, keepdim=True), 1)
        shares = one_hot + (shares - shares.detach())
        back(shares @ codes, F.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="none"))

    found = benchmark.pedantic(lambda: seconds({"ours": ours, "plain": plain}), rounds=1)
    benchmark.extra_info.update(found)
    assert found["ours"] < SAMPLING * found["plain"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_attention_is_not_slower_than_torchs(precision: str, benchmark: BenchmarkFixture) -> None:
    """Torch's, with the keys repeated for each face. In bfloat16 only times are noted: not all processors have it."""
    torch.manual_seed(0)
    attention = CrossAttention(DIM, HEADS)
    queries = torch.randn(BATCH, POSITIONS, DIM, requires_grad=True)
    codes, weights = torch.randn(CODES, DIM), torch.randn(BATCH, POSITIONS, DIM)

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (HEADS, -1)).transpose(-3, -2).expand(BATCH, -1, -1, -1)

    def repeated() -> Tensor:
        given = heads(attention.query(queries)), heads(attention.key(codes)), heads(attention.value(codes))
        return attention.output(F.scaled_dot_product_attention(*given).transpose(1, 2).flatten(2))

    def run(form: Callable[[], Tensor]) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            made = form()
        (made.float() * weights).sum().backward()

    turns = {"ours": lambda: run(lambda: attention(queries, codes)), "plain": lambda: run(repeated)}
    found = benchmark.pedantic(lambda: seconds(turns), rounds=1)
    benchmark.extra_info.update(found)
    if precision == "float32":
        assert found["ours"] < ATTENTION * found["plain"]
