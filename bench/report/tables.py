"""Tables from published figures and results: reported and measured side by side, never in one column."""

from __future__ import annotations

from collections.abc import Sequence

from bench.common.errors import BenchError
from bench.report.definitions import get_table, load_tables
from bench.report.measured import measured_blocks
from bench.report.model import Block, Cell, Footnote, Footnotes, Row, Table, TableColumn
from bench.report.reported import reported_blocks
from bench.results import Result
from prep.names import known

__all__ = ["Block", "Cell", "Footnote", "Row", "Table", "TableColumn", "build_table", "table_titles"]

REGIONS = ("full", "face", "mouth")


def table_titles() -> dict[str, str]:
    """Name → title of every table."""
    return {name: table.title for name, table in load_tables().items()}


def build_table(name: str, results: Sequence[Result] = (), region: str | None = None) -> Table:
    """Assemble a table.

    Args:
        name: in ``leaderboards/tables.toml``.
        results: evaluations to show below the paper's figures.
        region: of the measured figures: full, face or mouth; None: that of the table.

    Returns:
        The paper's blocks, then those of the results: one for every group of results that
        :meth:`bench.results.Result.differences` finds comparable.

    Raises:
        PrepError: the table or region is unknown.
        BenchError: there is nothing to show.
    """
    definition = get_table(name)
    if not definition.paper and not results:
        raise BenchError(f"table {name} holds measured figures only: name a result folder of `bench eval`")
    if region is not None:
        known("region", [region], REGIONS)
    footnotes = Footnotes()
    blocks = reported_blocks(definition, footnotes)
    blocks += measured_blocks(definition, results, region or definition.region, footnotes)
    if definition.note:
        footnotes.note(f"On region and metrics: {definition.note}.")
    return Table(name=name, title=definition.title, blocks=blocks, footnotes=footnotes.listed())
