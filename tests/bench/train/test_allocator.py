"""Memory that a training process keeps."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from bench.train.allocator import keep_freed_memory

assert sys.argv[1] == "default" or keep_freed_memory()
for _ in range(3):
    np.ones(25_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(25_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_memory_that_was_freed_is_not_mapped_again() -> None:
    def faults(mode: str) -> int:
        return int(
            subprocess.run([sys.executable, "-c", SCRIPT, mode], check=True, capture_output=True).stdout
        )

    kept = faults("kept")
    assert kept < 100
    assert faults("default") > 1_000
