"""The rows and columns of the leaderboard page: every figure of every result, in all of its regions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from bench.common.errors import BenchError
from bench.metrics import METRICS
from bench.report.definitions import TableDef, variant_of
from bench.report.measured import asked_for, measured_blocks
from bench.report.model import Block, Cell, Footnotes, Row, TableColumn
from bench.results import CLIP_REGION, Result


@dataclass(frozen=True)
class Place:
    """The criteria for filtering the page; ``region`` is ``clip`` for figures that belong to every region."""

    dataset: str
    protocol: str
    region: str = CLIP_REGION


@dataclass(frozen=True)
class Board:
    """Comparable figures in one region, and the results that contain them."""

    place: Place
    block: Block
    results: list[Result]


@dataclass(frozen=True)
class Line:
    """A row of the leaderboard, with cells in the order of the page's columns; None: not in its evaluation."""

    place: Place
    row: Row
    cells: list[Cell | None]
    training: str


def places_of(groups: Sequence[Sequence[Result]]) -> list[Place]:
    """The filter criteria of each group. Groups of the same data set and protocol are distinguished by a number."""
    places: list[Place] = []
    for group in groups:
        data, protocol = group[0].data, group[0].protocol
        name, number = f"{data.name} {data.split}".strip(), 1
        title = name
        while Place(title, protocol) in places:
            number += 1
            title = f"{name} ({number})"
        places.append(Place(title, protocol))
    return places


def why_apart(groups: Sequence[Sequence[Result]], places: Sequence[Place]) -> list[str]:
    """Why two groups of the same data set and protocol are separate."""
    words = []
    for i, place in enumerate(places):
        for j, other in enumerate(places[:i]):
            first, second = groups[j][0].data, groups[i][0].data
            if place.protocol != other.protocol or (first.name, first.split) != (second.name, second.split):
                continue
            found = dict.fromkeys(line for a in groups[j] for b in groups[i] for line in a.differences(b))
            words.append(f"{other.dataset} and {place.dataset} differ in {'; '.join(found)}.")
    return words


def boards_of(
    groups: Sequence[Sequence[Result]], places: Sequence[Place], footnotes: Footnotes
) -> Iterator[Board]:
    """One board for every group of comparable results and each of its regions."""
    definition = _definition([result for group in groups for result in group])
    for group, place in zip(groups, places, strict=True):
        for region in dict.fromkeys(region for result in group for region in result.regions):
            members = [result for result in group if region in result.regions]
            for block in measured_blocks(definition, members, region, footnotes):
                yield Board(Place(place.dataset, place.protocol, region), block, members)


def _definition(results: Sequence[Result]) -> TableDef:
    """A table with every figure that a result contains or that was requested, in the order of the registry."""
    order = list(METRICS)
    try:
        found = {
            column.output: (order.index(variant_of(column.output)), column) for column in asked_for(results)
        }
    except ValueError as error:
        raise BenchError(
            f"a result is of another version of this suite ({error}); run `bench eval` again"
        ) from None
    return TableDef(
        title="Leaderboard", columns=[c for _, c in sorted(found.values(), key=lambda pair: pair[0])]
    )


def columns_of(boards: Sequence[Board]) -> list[TableColumn]:
    """The columns of all boards."""
    found: dict[str, TableColumn] = {}
    for board in boards:
        for column in board.block.columns:
            if column.id not in found or (column.unit and not found[column.id].unit):
                found[column.id] = column
    order = list(METRICS)
    return sorted(found.values(), key=lambda column: order.index(variant_of(column.id)))


def lines_of(boards: Sequence[Board], columns: Sequence[TableColumn]) -> Iterator[Line]:
    """The rows of all boards; in each board the trivial rows are last."""
    for board in boards:
        at = {column.id: i for i, column in enumerate(board.block.columns)}
        for row in sorted(board.block.rows, key=lambda row: row.kind):
            cells = [row.cells[at[column.id]] if column.id in at else None for column in columns]
            yield Line(board.place, row, cells, _training(board, row))


def _training(board: Board, row: Row) -> str:
    """What a method was trained on; ``""`` if unknown or if rows of the same name differ in it."""
    told = {m.training_data for result in board.results for m in result.methods if m.method == row.method}
    return told.pop() if row.kind == "method" and len(told) == 1 else ""


def plain_data(lines: Sequence[Line], columns: Sequence[TableColumn]) -> dict[str, Any]:
    """The table with all digits, for the script of the page."""
    return {
        "columns": [{"id": c.id, "label": c.label, "better": c.better} for c in columns],
        "rows": [
            {
                "method": line.row.method,
                "kind": line.row.kind,
                "dataset": line.place.dataset,
                "protocol": line.place.protocol,
                "region": line.place.region,
                "cells": [_plain(cell) for cell in line.cells],
            }
            for line in lines
        ],
    }


def _plain(cell: Cell | None) -> list[float | int | str | None]:
    if cell is None or cell.asked is None:
        return []
    numbers = [_number(x) for x in (cell.value, cell.low, cell.high)]
    return [*numbers, cell.scored, cell.asked]


def _number(value: float | None) -> float | str | None:
    """A number as JSON, which has no infinity."""
    return value if value is None or isfinite(value) else str(value)
