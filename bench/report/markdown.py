"""Tables in GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bench.report.model import Block, Cell, Row, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]|#~$])")


def write(table: Table) -> str:
    """The whole table with its notes."""
    return "\n".join(_lines(table)) + "\n"


def escape(text: str) -> str:
    """Escape ``text`` for Markdown, on one line."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", text)


def _lines(table: Table) -> Iterator[str]:
    yield f"## {escape(table.title)}"
    for block in table.blocks:
        yield ""
        yield from _block(block)
    if table.footnotes:
        yield ""
    for note in table.footnotes:
        mark = f"<sup>{note.mark}</sup> " if note.mark else ""
        yield f"- {mark}{escape(note.text)}"


def _block(block: Block) -> Iterator[str]:
    yield f"### {escape(block.title)}"
    yield ""
    measured = block.kind == "measured"
    heads = [
        escape(column.header) + (f"<br>{escape(column.id)}" if measured else "") for column in block.columns
    ]
    yield _row(["Method", *heads, "Clips"])
    yield _row(["---", *["---:"] * len(heads), "---:"])
    for row in block.rows:
        yield _row([_label(row), *map(_cell, row.cells), row.clips])
    for warning in block.warnings:
        yield ""
        yield f"> ⚠ **{escape(warning)}**"
    if block.notes:
        yield ""
    for note in block.notes:
        yield f"- {escape(note)}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _label(row: Row) -> str:
    return f"*{escape(row.title)}*" if row.kind == "trivial" else escape(row.title)


def _cell(cell: Cell) -> str:
    text = cell.text
    if cell.best:
        text = f"**{text}**"
    elif cell.second:
        text = f"<ins>{text}</ins>"
    if cell.interval:
        text += f" {escape(cell.interval)}"
    return text + "".join(f"<sup>{mark}</sup>" for mark in cell.footnotes)
