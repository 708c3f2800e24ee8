"""Tables as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from bench.report.model import Block, Cell, Row, Table, TableColumn

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }
h1 { font-size: 1.35rem; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom-width: 2px; }
th small, td small { display: block; font-weight: normal; opacity: .7; white-space: nowrap; }
tr.trivial { background: var(--soft); font-style: italic; }
td.best b { font-weight: 700; } td.second u { text-underline-offset: 3px; }
.warning { border-left: 4px solid #d60; padding: .3rem .8rem; margin: .6rem 0; font-weight: 600; }
.notes { font-size: .85rem; opacity: .85; }
"""


def write(table: Table) -> str:
    """The page."""
    return "\n".join(_page(table)) + "\n"


def _page(table: Table) -> Iterator[str]:
    title = escape(table.title)
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>"
    for block in table.blocks:
        yield from _block(block)
    yield '<ul class="notes">'
    for note in table.footnotes:
        mark = f"<sup>{escape(note.mark)}</sup> " if note.mark else ""
        yield f"<li>{mark}{escape(note.text)}</li>"
    yield "</ul>\n</body>\n</html>"


def _block(block: Block) -> Iterator[str]:
    yield f'<section class="{block.kind}">\n<h2>{escape(block.title)}</h2>'
    for warning in block.warnings:
        yield f'<p class="warning">{escape(warning)}</p>'
    yield '<div class="scroll"><table>\n<thead><tr><th scope="col">Method</th>'
    for column in block.columns:
        yield _head(column, block.kind == "measured")
    yield '<th scope="col">Clips</th></tr></thead>\n<tbody>'
    for row in block.rows:
        yield _row(row)
    yield "</tbody></table></div>"
    if block.notes:
        yield '<ul class="notes">'
        yield from (f"<li>{escape(note)}</li>" for note in block.notes)
        yield "</ul>"
    yield "</section>"


def _head(column: TableColumn, measured: bool) -> str:
    name = f"<small>{escape(column.id)}</small>" if measured else ""
    return f'<th scope="col">{escape(column.header)}{name}</th>'


def _row(row: Row) -> str:
    cells = "".join(map(_cell, row.cells))
    return f'<tr class="{row.kind}"><td>{escape(row.title)}</td>{cells}<td>{escape(row.clips)}</td></tr>'


def _cell(cell: Cell) -> str:
    text, style = escape(cell.text), ""
    if cell.best:
        text, style = f"<b>{text}</b>", ' class="best"'
    elif cell.second:
        text, style = f"<u>{text}</u>", ' class="second"'
    text += "".join(f"<sup>{escape(mark)}</sup>" for mark in cell.footnotes)
    interval = f"<small>{escape(cell.interval)}</small>" if cell.interval else ""
    return f"<td{style}>{text}{interval}</td>"
