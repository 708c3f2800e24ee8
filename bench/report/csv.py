"""Tables as tidy CSV: one line per figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from bench.report.model import Block, Table

FIELDS = (
    "table",
    "block",
    "kind",
    "dataset",
    "protocol",
    "region",
    "method",
    "label",
    "row_kind",
    "figure",
    "column",
    "better",
    "unit",
    "text",
    "value",
    "low",
    "high",
    "scored",
    "asked",
    "best",
    "second",
    "notes",
)


def write(table: Table) -> str:
    """A header and one line for every cell, in the order of the table."""
    sink = io.StringIO()
    lines = csv.DictWriter(sink, FIELDS, lineterminator="\n")
    lines.writeheader()
    notes = {note.mark: note.text for note in table.footnotes if note.mark}
    for i, block in enumerate(table.blocks):
        lines.writerows({"table": table.name, "block": i + 1, **line} for line in _cells(block, notes))
    return sink.getvalue()


def _cells(block: Block, notes: dict[str, str]) -> Iterator[dict[str, object]]:
    for row in block.rows:
        for column, cell in zip(block.columns, row.cells, strict=True):
            yield {
                "kind": block.kind,
                "dataset": block.dataset,
                "protocol": block.protocol,
                "region": block.region,
                "method": row.method,
                "label": row.title,
                "row_kind": row.kind,
                "figure": column.id,
                "column": column.label,
                "better": column.better,
                "unit": column.unit,
                "text": cell.text,
                "value": cell.value,
                "low": cell.low,
                "high": cell.high,
                "scored": cell.scored,
                "asked": cell.asked,
                "best": int(cell.best),
                "second": int(cell.second),
                "notes": "; ".join(notes[mark] for mark in cell.footnotes),
            }
