"""The printed output of `bench explain`, with rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from bench.results import CLIP_REGION, Result

if TYPE_CHECKING:
    from bench.eval.by_decoding import ByDecoding
    from bench.eval.by_detector import Floor
    from bench.eval.explain import Choice, Shortened, VariantFigure


def variant_table(
    result: Result, entries: Sequence[VariantFigure], spread: Mapping[tuple[str, str], tuple[float, float]]
) -> Table:
    """One row per variant and region, one column per method; the range of every figure below."""
    methods = [method.method for method in result.methods]
    table = plain_table("variant", "region", "figure", *methods)
    values = {(e.variant, e.region, e.label, e.method): e.value for e in entries}
    figures = dict.fromkeys((e.variant, e.region, e.label) for e in entries)
    for variant, region, label in figures:
        numbers = [_number(values.get((variant, region, label, method))) for method in methods]
        table.add_row(variant, "" if region == CLIP_REGION else region, label, *numbers)
    for label in dict.fromkeys(e.label for e in entries):
        ends = [spread.get((method, label)) for method in methods]
        if any(ends):
            table.add_section()
            words = ["" if end is None else f"{_number(end[0])} to {_number(end[1])}" for end in ends]
            table.add_row(Text("spread", style="bold"), "", label, *words)
    return table


def choice_table(choices: Sequence[Choice]) -> Table:
    """The effects of single choices: one row per choice, the largest effect first."""
    table = plain_table("choice", "figure", "method", "from", "to", "moves it by")
    for choice in choices:
        table.add_row(
            choice.name,
            choice.label,
            choice.method,
            f"{_number(choice.first)} ({choice.settings[0]})",
            f"{_number(choice.second)} ({choice.settings[1]})",
            f"{choice.difference:+.4g} ({choice.relative:.1%})",
        )
    return table


def length_table(found: Sequence[Shortened], methods: Sequence[str], of: int) -> Table:
    """One row per figure and length, one column per method. ``of``: clips of the whole evaluation."""
    table = plain_table("variant", "region", "figure", "frames", *methods)
    clips = max((entry.clips for entry in found), default=0)
    table.title = f"The same {clips} of {of} clips, their first frames alone"
    table.title_justify = "left"
    cells = {(e.variant, e.region, e.label, e.frames, e.method): e for e in found}
    rows = dict.fromkeys((e.variant, e.region, e.label) for e in found)
    lengths = dict.fromkeys(e.frames for e in found)
    for variant, region, label in rows:
        for frames in lengths:
            numbers = [_of(cells.get((variant, region, label, frames, method))) for method in methods]
            place = "" if region == CLIP_REGION else region
            table.add_row(variant, place, label, "all" if frames is None else str(frames), *numbers)
    return table


def decoding_table(found: Sequence[ByDecoding], methods: Sequence[str]) -> Table:
    """One row per region and choice of pixels and matrix, one column per method: PSNR."""
    table = plain_table("pixels", "matrix", "region", *methods)
    table.title = "PSNR (dB) by the way in which colours are decoded"
    table.title_justify = "left"
    values = {(e.pixels, e.matrix, e.region, e.method): e.value for e in found}
    for region in dict.fromkeys(e.region for e in found):
        for pixels, matrix in dict.fromkeys((e.pixels, e.matrix) for e in found):
            numbers = [_number(values.get((pixels, matrix, region, method))) for method in methods]
            table.add_row(pixels, matrix, region, *numbers)
    return table


def floor_line(found: Sequence[Floor], method: str) -> str:
    """How large the floor of the detector is beside the figures of one row; ``""`` without such figures."""
    shares = [
        f"{e.share:.0%} of {e.label} ({e.floor:.{e.decimals}f} of {e.value:.{e.decimals}f})"
        for e in found
        if e.method == method
    ]
    if not shares:
        return ""
    words = "the landmark detector alone, on the truth shifted by one pixel and back, gives"
    return f"{method}: {words} {', '.join(shares)}"


def _of(entry: Shortened | None) -> str:
    if entry is None or entry.value is None:
        return "n/a"
    return _number(entry.value) + (f" ({entry.scored} clips)" if entry.scored < entry.clips else "")


def plain_table(*columns: str) -> Table:
    """A table without lines whose columns fold."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
