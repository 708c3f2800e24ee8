"""Memory of a step of DINet's clip stage at the paper's size (``--benchmark-only``).

Three windows of five faces of 416×320, VGG-19 at two resolutions, both discriminators and DINet's own expert, all with
generated weights, by the runner in float32 on a CPU. Mel is heard in place of logits: a first layer of 80 channels in
place of 29. A step takes minutes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks.sides import Case, side
from tests.prep.fakes import fake_dataset

#: MiB that the process may have at most; and what it has before its first step: modules, weights, a batch.
ALLOWED, BEFORE = 16 * 1024, 1500


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_memory_of_a_step_at_the_papers_size(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """With the blocks of the generator and VGG-19 computed again in the backward pass, as ``train.recompute`` does."""
    fake_dataset(tmp_path / "data", {"train": 8, "val": 2}, views=("mouth416x320",))
    case = Case("dinet", "clip", ("network.sound=mel", "clip.train.recompute=true"), 0)
    with side("runner", case, tmp_path / "data") as step:
        found = benchmark.pedantic(step, rounds=1)
    benchmark.extra_info.update(grown_mib=found.grown, seconds=found.seconds, losses=dict(found.losses))
    assert found.losses.keys() >= {"perception", "gan", "clip_gan", "sync", "gan_judge", "clip_gan_judge"}
    assert found.grown < ALLOWED - BEFORE
