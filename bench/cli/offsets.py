"""``bench offsets``: finds the clips of a data set whose sound is in sync."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from bench.train.offsets import Summary

#: Number of offsets in the summary.
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
    reach: int = typer.Option(15, min=1, help="Largest shift of the sound that is tried, in frames."),
    most: int = typer.Option(1, min=0, help="Largest offset of a clip in sync, in frames."),
    confidence: float = typer.Option(
        0.05, min=0, max=1, help="Smallest confidence of the expert for a clip in sync."
    ),
    device: str | None = typer.Option(None, help="cpu, cuda …"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing list."),
) -> None:
    """Write by how many frames each clip's sound is late (negative: early), and whether the clip is in sync."""
    from bench.common.errors import BenchError

    if out.exists() and not overwrite:
        raise BenchError(f"{out} exists already: replace it with --overwrite, or name another with --out")

    from bench.cli.console import console, say
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
        say(line)
    say(f"{out}: by {found.file}, sha256 {found.sha256[:12]}")


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
    """Lines below the table: common offsets, a constant offset of the data set, and why clips were not judged."""
    common = ", ".join(f"{offset:+d} ({count:,})" for offset, count in summary.offsets.most_common(_SHOWN))
    lines = [
        f"offsets in frames (positive: the sound is late) of clips with enough confidence: {common or 'none'}"
    ]
    offset = summary.constant()
    if offset is not None:
        share = summary.offsets[offset] / summary.offsets.total()
        lines.append(
            f"{share:.0%} of these clips have the offset {offset:+d}: so the whole data set has it, or the training "
            f"data of the expert; --most {abs(offset)} keeps these clips"
        )
    lines += [f"not judged: {count:,} × {reason}" for reason, count in summary.reasons.most_common()]
    return lines
