"""Tables of figures on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from bench.report.model import Block, Cell, Footnote, Row, Table

_STYLES = {"trivial": "italic", "method": ""}


def print_table(table: Table, console: Console) -> None:
    """Print all blocks. A block wider than the terminal is continued below, with the names of its rows."""
    console.print(Text(table.title, style="bold"))
    for block in table.blocks:
        console.print()
        console.print(Text(block.title, style="bold"))
        for columns in _chunks(block, console.width):
            console.print(_rich(block, columns, console.width))
        for warning in block.warnings:
            console.print(Text(f"warning: {warning}", style="bold yellow"))
        for note in block.notes:
            console.print(Padding(Text(note, style="dim"), (0, 0, 0, 2)))
    if table.footnotes:
        console.print()
    for footnote in table.footnotes:
        console.print(_footnote(footnote))


def print_short(table: Table, console: Console, first: Sequence[str]) -> None:
    """Print the first block as a single table without intervals: the columns that fit, and those with a figure only.

    Args:
        table: of measured figures.
        console: the terminal; a wider one gets more columns.
        first: beginnings of the names of the figures that come first.
    """
    block = table.blocks[0]
    filled = [
        i for i in range(len(block.columns)) if any(row.cells[i].value is not None for row in block.rows)
    ]
    ranks = {i: next((k for k, name in enumerate(first) if block.columns[i].id.startswith(name)), len(first))
             for i in filled}  # fmt: skip
    room = console.width - max(cell_len(row.title) for row in block.rows) - 2
    chosen = []
    for i in sorted(filled, key=lambda i: ranks[i]):
        need = (
            max(cell_len(text) for text in (block.columns[i].header, *(r.cells[i].text for r in block.rows)))
            + 2
        )
        if need > room:
            break
        chosen.append(i)
        room -= need
    shown = RichTable(box=None, header_style="bold", padding=(0, 2, 0, 0))
    shown.add_column("Method", no_wrap=True)
    for i in chosen:
        shown.add_column(block.columns[i].header, justify="right", no_wrap=True)
    for row in block.rows:
        cells = [Text(row.cells[i].text, style="bold" if row.cells[i].best else "") for i in chosen]
        shown.add_row(_name(row), *cells)
    console.print(shown)


def _footnote(footnote: Footnote) -> RenderableType:
    if not footnote.mark:
        return Padding(Text(footnote.text, style="dim"), (0, 0, 0, 2))
    lines = RichTable.grid(padding=(0, 1, 0, 0))
    lines.add_row(footnote.mark, Text(footnote.text))
    return lines


def _chunks(block: Block, width: int) -> list[list[int]]:
    """Indices of the columns that fit side by side; at least one per part."""
    names = _name_width(block, width)
    clips = max((cell_len(row.clips) for row in block.rows), default=5)
    room = width - names - max(clips, len("Clips")) - 4
    chunks: list[list[int]] = [[]]
    left = room
    for i in range(len(block.columns)):
        need = _width(block, i) + 2
        if chunks[-1] and need > left:
            chunks.append([])
            left = room
        chunks[-1].append(i)
        left -= need
    return chunks


def _name_width(block: Block, width: int) -> int:
    longest = max((cell_len(row.title) for row in block.rows), default=0)
    return max(len("Method"), min(longest, width // 3))


def _width(block: Block, i: int) -> int:
    column = block.columns[i]
    heads = [column.header, column.id] if block.kind == "measured" else [column.header]
    lines = [line for row in block.rows for line in _cell(row.cells[i]).plain.splitlines()]
    return max(map(cell_len, [*heads, *lines]))


def _rich(block: Block, columns: list[int], width: int) -> RichTable:
    shown = RichTable(box=None, header_style="bold", padding=(0, 2, 0, 0))
    shown.add_column("Method", width=_name_width(block, width), overflow="fold")
    for i in columns:
        column = block.columns[i]
        head = Text(column.header)
        if block.kind == "measured":
            head.append(f"\n{column.id}", style="dim not bold")
        shown.add_column(head, justify="right", overflow="fold")
    shown.add_column("Clips", justify="right", overflow="fold")
    for row in block.rows:
        shown.add_row(_name(row), *(_cell(row.cells[i]) for i in columns), row.clips)
    return shown


def _name(row: Row) -> Text:
    return Text(row.title, style=_STYLES[row.kind])


def _cell(cell: Cell) -> Text:
    style = "bold" if cell.best else "underline" if cell.second else ""
    text = Text()
    text.append(cell.text, style=style)
    if cell.footnotes:
        text.append(f" {','.join(cell.footnotes)}", style="dim")
    if cell.interval:
        text.append(f"\n{cell.interval}", style="dim")
    return text
