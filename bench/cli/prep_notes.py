"""What `bench prep` says beside its tables: how the corpus was listed, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def print_notes(notes: Iterable[str]) -> None:
    """Print a line for every note on the listing of a corpus."""
    from bench.cli.console import console

    for note in notes:
        console.print(note, markup=False, soft_wrap=True)


def next_step(manifest: Mapping[str, Any], source: str, root: Path, out: Path) -> None:
    """Print the command that follows `bench prep`: to train, or to prepare again with clips held out."""
    from bench.cli.console import console
    from prep.sources.holdout import can_hold_out

    there = {split for split, counts in manifest["splits"].items() if counts["clips"]}
    if {"train", "val"} <= there:
        words = ["bench", "train", "ipl", "--data", str(out)]
        line = f"next: {shlex.join(words)} (--preset tiny for a try)"
    elif "split" not in manifest.get("listing", {}) and can_hold_out(there, root):
        words = ["bench", "prep", source, str(root), "--out", f"{out}-split", "--holdout", "10%"]
        line = f"to train on it, hold some speakers out: {shlex.join(words)}"
    else:
        return
    console.print(line, markup=False, soft_wrap=True)
