"""Tables as JSON, in the form of :class:`bench.report.model.Table`; infinite values are the strings of pydantic."""

from __future__ import annotations

from bench.report.model import Table


def write(table: Table) -> str:
    """The table; ``Table.model_validate_json`` reads it again."""
    return table.model_dump_json(indent=1) + "\n"
