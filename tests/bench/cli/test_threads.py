"""How the threads of torch wait, in every process of the suite."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["bench", "prep", "models", "baselines"])
@pytest.mark.parametrize("chosen", ["", "ACTIVE"])
def test_waiting_threads_sleep_unless_the_user_has_chosen(package: str, chosen: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if chosen:
        environment["OMP_WAIT_POLICY"] = chosen
    code = f"import os, {package}; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == (chosen or "PASSIVE"), done.stderr


def test_openmp_has_read_it_when_torch_is_loaded() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys, bench.cli.app; assert 'torch' not in sys.modules; import torch"],
        env={**environment, "OMP_DISPLAY_ENV": "true"},
        capture_output=True,
        text=True,
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
    assert "OMP_WAIT_POLICY = 'ACTIVE'" not in done.stderr
