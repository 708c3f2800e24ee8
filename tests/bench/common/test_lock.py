"""One writer a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.common.errors import BenchError
from bench.common.lock import exclusive

HOLDS = """
import sys, time
from pathlib import Path
from bench.common.lock import exclusive
with exclusive(Path(sys.argv[1]), "bench eval"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            refused = f"{tmp_path} is being written by another `bench eval`: wait for it, or stop it"
            with pytest.raises(BenchError) as error, exclusive(tmp_path, "bench eval"):
                pass
            assert str(error.value) == refused
        finally:
            holder.kill()
    with exclusive(tmp_path, "bench eval"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_it_is_free_after_the_block_and_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), exclusive(tmp_path, "bench eval"):
            raise ZeroDivisionError
    with exclusive(tmp_path, "bench eval"), pytest.raises(BenchError), exclusive(tmp_path, "bench eval"):
        pass
