"""``bench offsets``: which clips of a data set have their sound in sync."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from bench.train.offsets import Summary

#: Offsets that the summary names.
_SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("offsets")(offsets)


def offsets(
    data: list[Path] = typer.Option(..., "--data", help="Prepared data set; may be repeated."),
    sync_expert: Path = typer.Option(..., help="Run of `bench train sync-expert`."),
    out: Path = typer.Option(..., "--out", "-o", help="CSV to write, for `bench train --clips`."),
    split: list[str] | None = typer.Option(
        None, "--split", help="Only this split; may be repeated; default: all."
    ),
    reach: int = typer.Option(15, min=1, help="Frames by which sound is shifted at most, either way."),
    most: int = typer.Option(1, min=0, help="Frames that a clip in sync may be off."),
    confidence: float = typer.Option(
        0.05, min=0, max=1, help="Confidence that the expert must have in a clip in sync."
    ),
    device: str | None = typer.Option(None, help="cpu, cuda …"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a list that is there already."),
) -> None:
    """Say by how many frames each clip's sound is late (negative: early), and whether it is fit for training."""
    from bench.common.errors import BenchError

    if out.exists() and not overwrite:
        raise BenchError(f"{out} is there already: replace it with --overwrite, or name another with --out")

    from bench.cli.console import console
    from bench.cli.progress import simple_progress
    from bench.common.device import pick_device
    from bench.metrics.expert_file import find_expert, load_expert
    from bench.train.offsets import Rule, write_offsets

    found = find_expert(sync_expert)
    expert = load_expert(found, pick_device(device or "auto"))
    with simple_progress("offsets") as advance:
        summary = write_offsets(
            data,
            out,
            expert,
            splits=split or (),
            rule=Rule(reach, most, confidence),
            progress=advance,
        )
    console.print(_table(summary))
    for line in _lines(summary):
        console.print(line, soft_wrap=True)
    console.print(f"{out}: by {found.file}, sha256 {found.sha256[:12]}", soft_wrap=True)


def _table(summary: Summary) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("split")
    columns = ("clips", "in sync", "off", "unsure", "not judged")
    for column in (*columns, "share in sync"):
        table.add_column(column, justify="right")
    for split, counts in sorted(summary.counts.items()):
        share = f"{counts['in sync'] / counts['clips']:.0%}"
        table.add_row(split, *(f"{counts[column]:,}" for column in columns), share)
    return table


def _lines(summary: Summary) -> list[str]:
    """What the table does not tell: offsets, whether one is everywhere, and why clips were not judged."""
    common = ", ".join(f"{offset:+d} ({count:,})" for offset, count in summary.offsets.most_common(_SHOWN))
    lines = [f"frames by which the sound is late, where the expert is sure: {common or 'it never is'}"]
    offset = summary.constant()
    if offset is not None:
        share = summary.offsets[offset] / summary.offsets.total()
        lines.append(
            f"{share:.0%} of these clips are {offset:+d} off: so is the data set as a whole, or what the expert "
            f"learnt from; --most {abs(offset)} keeps them"
        )
    lines += [f"not judged: {count:,} × {reason}" for reason, count in summary.reasons.most_common()]
    return lines
