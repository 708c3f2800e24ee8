"""The printed output of commands, with rich."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table

if TYPE_CHECKING:
    from prep.inspect import Inspection
    from prep.options import PrepOptions
    from prep.pipeline import ShardPlan

#: Names of files, methods and clips are printed as they are: brackets and colons mean nothing.
console = Console(highlight=False, markup=False, emoji=False)


def say(line: str, style: str | None = None) -> None:
    """Print a line as it is: one that is too long for the terminal is not broken, so that it can be copied."""
    console.print(line, style=style, soft_wrap=True)


def plan_table(plans: list[ShardPlan], options: PrepOptions, out: Path) -> RenderableType:
    """The output of `bench prep --dry-run`."""
    table = figures_table("split", "clips", "of these unusable", "shards", right=3)
    for split in sorted({plan.split for plan in plans}):
        mine = [plan for plan in plans if plan.split == split]
        refs = [ref for plan in mine for ref in plan.refs]
        unusable = sum(bool(ref.problem) for ref in refs)
        table.add_row(split, f"{len(refs):,}", f"{unusable:,}", f"{len(mine):,}")
    views = ", ".join(options.views)
    return Group(table, f"would write {out}: views {views}, {options.encoding}, {_landmarks(options)}")


def summary(manifest: dict[str, Any], out: Path) -> None:
    """Print what a finished `bench prep` wrote, and the number of clips that it could not use."""
    table = figures_table("split", "clips", "frames", "failures", right=3)
    for split, counts in manifest["splits"].items():
        table.add_row(split, f"{counts['clips']:,}", f"{counts['frames']:,}", f"{counts['failures']:,}")
    console.print(table)
    size = sum(shard["bytes"] for shard in manifest["shards"])
    say(f"{out}: {len(manifest['shards'])} shards, {human_bytes(size)}")
    failed = sum(counts["failures"] for counts in manifest["splits"].values())
    if failed:
        say(f"{failed} clips could not be used; `bench inspect {out}` counts the reasons")


def inspection(found: Inspection) -> RenderableType:
    """The output of `bench inspect`."""
    counts = figures_table("split", "clips", "speakers", "minutes", "frames", "no face in", right=5)
    for split, s in found.splits.items():
        counts.add_row(
            split,
            f"{s.clips:,}",
            f"{s.speakers:,}",
            f"{s.seconds / 60:.1f}",
            f"{s.frames:,}",
            f"{s.frames - s.detected:,} frames",
        )
    disk = figures_table("column", "bytes", "share", right=2)
    total = sum(found.bytes_by_column.values()) or 1
    small = {name: size for name, size in found.bytes_by_column.items() if size < total / 1000}
    for name, size in sorted(found.bytes_by_column.items(), key=lambda item: -item[1]):
        if name not in small:
            disk.add_row(name, human_bytes(size), f"{size / total:.1%}")
    if small:
        rest = sum(small.values())
        disk.add_row(f"{len(small)} others", human_bytes(rest), f"{rest / total:.1%}")
    parts: list[RenderableType] = [counts, disk, f"landmarks by {found.detector}"]
    if found.shifted is not None:
        parts.append(f"sound shifted in {found.shifted:,} clips: corrections.csv")
    if found.read_as:
        sources = figures_table("sources read as", "clips", right=1)
        for what, clips in found.read_as.items():
            sources.add_row(what, f"{clips:,}")
        parts.append(sources)
    if found.failures:
        failures = figures_table("failures", "step", "reason", "for example", right=0)
        for (step, reason), ids in found.failures.items():
            failures.add_row(f"{len(ids):,}", step, reason, ids[0])
        parts.append(failures)
    if found.schema_version == 1:
        parts.append(
            "schema version 1: stereo sound is up to 3 dB louder than the mean of its channels, depending on its "
            "loudest sample; prepare the corpus again, with another --out, to train and compare with newer data sets"
        )
    return Group(*parts)


def listing(kind: str, entries: dict[str, str]) -> Table:
    """The output of `bench ls` for one kind."""
    table = Table(
        title=kind, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2)
    )
    for name, line in entries.items():
        table.add_row(name, line)
    return table


def human_bytes(n: float) -> str:
    """``n`` bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"


def _landmarks(options: PrepOptions) -> str:
    return f"landmarks by {options.detector}, {'tracking' if options.tracking else 'static'}"


def figures_table(*columns: str, right: int) -> Table:
    """An empty table; the ``right`` columns after the first are for numbers."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if 0 < i <= right else "left")
    return table
