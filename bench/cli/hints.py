"""What to type next, in the last line of a command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def print_notes(notes: Iterable[str]) -> None:
    """Print lines as they are, without breaking them."""
    from bench.cli.console import say

    for note in notes:
        say(note)


def after_prep(manifest: Mapping[str, Any], out: Path) -> None:
    """How to train on a new data set, or how to prepare one that can be trained on."""
    from prep.commands import split_remedy

    there = {split for split, counts in manifest["splits"].items() if counts["clips"]}
    if {"train", "val"} <= there:
        words = ["bench", "train", "ipl", "--data", str(out)]
        print_notes([f"next: {shlex.join(words)} (--preset tiny for a try)"])
    elif there and "split" not in manifest["listing"]:
        print_notes([f"for training: {split_remedy(manifest, out, there)}"])


def after_train(method: str, run: Path, data: Sequence[Path]) -> None:
    """How to generate with a new run; nothing for a method that does not generate."""
    from bench.common.methods import get_method
    from models.base import Talker

    if data and issubclass(get_method(method), Talker):
        words = [
            "bench",
            "generate",
            method,
            "--run",
            str(run),
            "--data",
            str(data[0]),
            "--out",
            f"videos/{method}",
        ]
        print_notes([f"next: {shlex.join(words)}"])


def after_generate(method: str, data: Path, root: Path | None, out: Path) -> None:
    """How to score new videos."""
    words = ["bench", "eval", f"{method}={out}", "--data", str(data), "--out", f"results/{method}"]
    if root is not None:
        words += ["--root", str(root)]
    print_notes([f"next: {shlex.join(words)}"])


def after_eval(out: Path) -> None:
    """How to show a new result."""
    print_notes([f"next: {shlex.join(['bench', 'report', str(out), '--site', 'page'])}"])


def after_demo(out: Path, made: Mapping[str, Path]) -> None:
    """Where the videos and the page of the demo are, and commands to try next, which work as printed.

    Args:
        out: the demo's folder.
        made: row → folder of its videos.
    """
    program = sys.argv[0] if Path(sys.argv[0]).name == "bench" else "bench"
    name, videos = next(iter(made.items()))
    sources = sorted((out / "toy").rglob("*.mp4"))
    face, voice = str(sources[0]), str(sources[-1])
    dubbed = ["--video", face, "--audio", voice, "--out", str(out / "dubbed.mp4")]
    tries = {
        "the whole table, with intervals": ["report", str(out / "result")],
        "SSIM in all its variants": ["explain", "ssim", f"{name}={videos}", "--data", str(out / "data")],
        "make a face speak another sound": ["dub", name, "--run", str(out / "runs" / name), *dubbed],
        "all methods, metrics, views and tables": ["ls"],
    }
    print_notes(
        [
            "",
            *(f"videos of {row}: {folder}" for row, folder in made.items()),
            f"page with all figures and the videos side by side: {out / 'site' / 'index.html'}",
            "",
            "to try next:",
            *(
                line
                for what, words in tries.items()
                for line in (f"- {what}:", f"  {shlex.join([program, *words])}")
            ),
        ]
    )
