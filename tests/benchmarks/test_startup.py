"""``bench --help`` answers at once: heavy imports live inside the subcommands."""

import statistics
import subprocess
import sys
import time

from pytest_benchmark.fixture import BenchmarkFixture


def test_help_answers_within_0_3_seconds(benchmark: BenchmarkFixture) -> None:
    def run(*arguments: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        return time.perf_counter() - started

    bare = statistics.median(run("-c", "pass") for _ in range(5))
    benchmark.pedantic(run, args=("-m", "bench", "--help"), rounds=7, warmup_rounds=2)
    median = benchmark.stats.stats.median
    benchmark.extra_info["bare interpreter, s"] = round(bare, 3)
    assert median < 0.3
