"""The line before the kernels are compiled."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from prep.facemesh import engine, kernels

INDEX = f"kernels.run-32.py{sys.version_info.major}{sys.version_info.minor}.nbi"


class NotCompiled:
    """In the place of ``kernels.run``, in a process that has not called it."""

    def __init__(self, cache: Path | None) -> None:
        self.signatures: list[object] = []
        self.stats = SimpleNamespace(cache_path=str(cache) if cache else None)

    def __call__(self, *arguments: object) -> None:
        self.signatures.append(arguments)


@pytest.mark.parametrize("there", ["nothing", "no folder", "an older source's", "another Python's"])
def test_one_line_says_that_the_kernels_are_compiled(
    there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if there == "an older source's":
        (index := tmp_path / INDEX).touch()
        os.utime(index, (1, 1))
    elif there == "another Python's":
        (tmp_path / "kernels.run-32.py37.nbi").touch()
    fake = NotCompiled(None if there == "no folder" else tmp_path)
    monkeypatch.setattr(kernels, "run", fake)
    engine.compile_kernels()
    said = capsys.readouterr()
    assert len(fake.signatures) == 1 and said.out == ""
    assert said.err.startswith("compiling the landmark detector") and said.err.count("\n") == 1
    engine.compile_kernels()
    assert len(fake.signatures) == 1 and capsys.readouterr().err == ""


def test_kernels_in_the_cache_are_used_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / INDEX).touch()
    monkeypatch.setattr(kernels, "run", fake := NotCompiled(tmp_path))
    engine.compile_kernels()
    assert not fake.signatures and capsys.readouterr().err == ""
