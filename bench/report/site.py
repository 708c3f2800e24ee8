"""The leaderboard as a static page: one folder that opens from disk, without a network.

The page is whole without scripts; the script sorts, filters and saves what is seen. Measured figures are laid out by
:mod:`bench.report.measured` and reported ones by :mod:`bench.report.reported`, as in every other format.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from bench.errors import BenchError
from bench.metrics import METRICS, get_spec
from bench.report.definitions import ColumnDef, Paper, TableDef, load_papers, load_tables, variant_of
from bench.report.drawing import REGION_WORDS, Subject, label
from bench.report.measured import comparable_groups, measured_blocks
from bench.report.model import Block, Cell, Column, Footnote, Footnotes, Row, Table
from bench.report.plots import plots, svg
from bench.report.previews import Picture, examples
from bench.report.tables import build_table
from bench.results import CLIP_REGION, MetricInfo, Result
from prep.shards import AtomicFile

_ASSETS = ("style.css", "leaderboard.js")
_COMMAND = "; run: "
_TITLES = {"best": "Best clip", "worst": "Worst clip", "only": "Only clip", "alike": "Every clip alike"}


@dataclass(frozen=True)
class Place:
    """By what the page is filtered; ``region`` is ``clip`` for what belongs to every region."""

    dataset: str
    protocol: str
    region: str = CLIP_REGION


@dataclass(frozen=True)
class Board:
    """Comparable figures in one region."""

    place: Place
    block: Block


@dataclass(frozen=True)
class Line:
    """A row of the leaderboard, its cells in the page's columns; None where its evaluation lacks the column."""

    place: Place
    row: Row
    cells: list[Cell | None]
    training: str


@dataclass(frozen=True)
class Shot:
    """A picture on the page."""

    url: str
    width: int
    height: int
    words: str


@dataclass(frozen=True)
class Strip:
    """Some frames of one clip: the truth above, the method below."""

    title: str
    clip_id: str
    value: str
    pairs: list[tuple[Shot | None, Shot]]


@dataclass(frozen=True)
class Card:
    """The best and the worst clip of a method."""

    place: Place
    method: str
    kind: str
    ranked_by: str
    strips: list[Strip]


@dataclass(frozen=True)
class PlotImage:
    """A plot on the page."""

    place: Place
    output: str
    kind: str
    url: str
    caption: str


@dataclass(frozen=True)
class Source:
    """One evaluation, for the provenance."""

    place: Place
    name: str
    result: Result


class _Folder:
    """The folder that is written; each file once, however often it is used."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._written: set[str] = set()

    def add(self, name: str, data: bytes) -> str:
        """Write a file atomically; returns its address as the page sees it."""
        if name not in self._written:
            path = self.out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with AtomicFile(path) as sink:
                sink.write(data)
                sink.commit()
            self._written.add(name)
        return name


def write_site(results: list[tuple[Path, Result]], out: Path) -> Path:
    """Write the page and all that it shows.

    Args:
        results: the folder (or JSON file) of each, and what it holds. A summary without its Parquet files gives no
            pictures, and of the plots the bars alone.
        out: folder; made if need be. Files of the same name are replaced, others stay.

    Returns:
        The page, ``index.html``; it is written last.

    Raises:
        BenchError: there are no results, one holds a metric that this suite does not know, or a Parquet file of it
            is broken.
    """
    if not results:
        raise BenchError("there are no results to show; name a result folder of `bench eval`")
    folder = _Folder(out)
    environment = Environment(
        loader=PackageLoader("bench.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["remedy"] = _remedy
    environment.filters["breakable"] = _breakable
    environment.filters["region_words"] = lambda region: REGION_WORDS.get(region, region)
    environment.filters["compact_json"] = lambda data: json.dumps(data, sort_keys=True, ensure_ascii=False)
    for name in _ASSETS:
        source, _, _ = PackageLoader("bench.report", "page").get_source(environment, name)
        folder.add(f"assets/{name}", source.encode())
    page = environment.get_template("index.html").render(_context(results, folder))
    return out / folder.add("index.html", page.encode())


def _context(results: list[tuple[Path, Result]], folder: _Folder) -> dict[str, Any]:
    """Everything that the template shows."""
    alone = [result for _, result in results]
    groups = comparable_groups(alone)
    places = _places(groups)
    of_result = [
        places[i] for result in alone for i, group in enumerate(groups) if any(r is result for r in group)
    ]
    footnotes = Footnotes()
    boards = list(_boards(groups, places, footnotes))
    columns = _columns(boards)
    lines = list(_lines(boards, columns, alone))
    every = [line.place for line in lines]
    return {
        "datasets": list(dict.fromkeys(place.dataset for place in every)),
        "protocols": list(dict.fromkeys(place.protocol for place in every)),
        "regions": list(dict.fromkeys(place.region for place in every)),
        "columns": columns,
        "lines": lines,
        "boards": boards,
        "footnotes": footnotes.listed(),
        "apart": _why_apart(groups, places),
        "cards": list(_cards(results, of_result, folder)),
        "drawings": list(_drawings(results, of_result, folder)),
        "papers": _papers(),
        "sources": [
            Source(place, path.name, result) for place, (path, result) in zip(of_result, results, strict=True)
        ],
        "metrics": _metrics(alone),
        "data": _data(lines, columns),
        "counts": _counts(alone),
    }


def _counts(results: Sequence[Result]) -> dict[str, Any]:
    return {
        "methods": len({m.method for r in results for m in r.methods if m.kind == "method"}),
        "datasets": len({(r.data.name, r.data.split) for r in results}),
        "clips": sum(
            {(r.data.name, r.data.split, r.data.clips_sha256): r.data.clips for r in results}.values()
        ),
        "newest": max(r.provenance.created for r in results)[:10],
    }


def _places(groups: Sequence[Sequence[Result]]) -> list[Place]:
    """What each group is filtered by; groups of one data set and protocol are told apart by a number."""
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


def _why_apart(groups: Sequence[Sequence[Result]], places: Sequence[Place]) -> list[str]:
    """Why two groups of one data set and protocol are not one."""
    words = []
    for i, place in enumerate(places):
        for j, other in enumerate(places[:i]):
            first, second = groups[j][0].data, groups[i][0].data
            if place.protocol != other.protocol or (first.name, first.split) != (second.name, second.split):
                continue
            found = dict.fromkeys(line for a in groups[j] for b in groups[i] for line in a.differences(b))
            words.append(f"{other.dataset} and {place.dataset} differ in {'; '.join(found)}.")
    return words


def _boards(
    groups: Sequence[Sequence[Result]], places: Sequence[Place], footnotes: Footnotes
) -> Iterator[Board]:
    definition = _definition([result for group in groups for result in group])
    for group, place in zip(groups, places, strict=True):
        for region in dict.fromkeys(region for result in group for region in result.regions):
            members = [result for result in group if region in result.regions]
            for block in measured_blocks(definition, members, region, footnotes):
                yield Board(Place(place.dataset, place.protocol, region), block)


def _definition(results: Sequence[Result]) -> TableDef:
    """A table with every figure that any result holds or was asked for, in the order of the registry."""
    order = list(METRICS)
    try:
        found = {
            column.output: (order.index(variant_of(column.output)), column) for column in _asked_for(results)
        }
    except ValueError as error:
        raise BenchError(
            f"a result is of another version of this suite ({error}); run `bench eval` again"
        ) from None
    return TableDef(
        title="Leaderboard", columns=[c for _, c in sorted(found.values(), key=lambda pair: pair[0])]
    )


def _asked_for(results: Sequence[Result]) -> Iterator[ColumnDef]:
    for name in dict.fromkeys(missing.metric for result in results for missing in result.missing):
        spec = get_spec(name)
        for output in spec.outputs:
            yield ColumnDef(label=output.label, output=spec.id(output), better=output.better)
    for result in results:
        for metric in result.metrics:
            for info in metric.outputs:
                name = f"{metric.name}.{info.key}" if info.key else metric.name
                yield ColumnDef(label=info.label, output=name, better=info.better)


def _columns(boards: Sequence[Board]) -> list[Column]:
    """The columns of all boards."""
    found: dict[str, Column] = {}
    for board in boards:
        for column in board.block.columns:
            if column.id not in found or (column.unit and not found[column.id].unit):
                found[column.id] = column
    order = list(METRICS)
    return sorted(found.values(), key=lambda column: order.index(variant_of(column.id)))


def _lines(boards: Sequence[Board], columns: Sequence[Column], results: Sequence[Result]) -> Iterator[Line]:
    training = {m.method: m.training_data for r in results for m in r.methods if m.training_data}
    for board in boards:
        at = {column.id: i for i, column in enumerate(board.block.columns)}
        # Methods first: the trivial rows are what they are held against.
        for row in sorted(board.block.rows, key=lambda row: row.kind):
            cells = [row.cells[at[column.id]] if column.id in at else None for column in columns]
            yield Line(board.place, row, cells, training.get(row.method, "") if row.kind == "method" else "")


def _cards(
    results: Sequence[tuple[Path, Result]], places: Sequence[Place], folder: _Folder
) -> Iterator[Card]:
    for (path, result), place in zip(results, places, strict=True):
        for found in examples(path, result):
            subject = Subject(result, found.info, found.region, found.output)
            name = label(found.method)
            strips = []
            for example in found.clips:
                words = {"best": "Best clip", "worst": "Worst clip", "only": "Every clip alike"}[
                    example.which
                ]
                value = f"{subject.text(example.value)} {found.info.unit}".rstrip()
                pairs = [
                    (
                        _shot(truth, f"truth, {example.clip_id}", folder) if truth else None,
                        _shot(mine, f"{name}, {example.clip_id}", folder),
                    )
                    for truth, mine in example.pairs
                ]
                strips.append(Strip(_TITLES[example.which], example.clip_id, value, pairs))
            region = (
                "" if found.region == CLIP_REGION else f", {REGION_WORDS.get(found.region, found.region)}"
            )
            yield Card(place, name, found.method.kind, f"{subject.title}{region}", strips)


def _shot(picture: Picture, words: str, folder: _Folder) -> Shot:
    digest = hashlib.sha256(picture.jpeg).hexdigest()[:20]
    url = folder.add(f"assets/frames/{digest}.jpg", picture.jpeg)
    return Shot(url, picture.width, picture.height, f"{words}, frame {picture.frame}")


def _drawings(
    results: Sequence[tuple[Path, Result]], places: Sequence[Place], folder: _Folder
) -> Iterator[PlotImage]:
    for plot in plots(results):
        place = Place(places[plot.result].dataset, places[plot.result].protocol, plot.region)
        url = folder.add(f"assets/plots/{plot.name}.svg", svg(plot))
        yield PlotImage(place, plot.output, plot.kind, url, plot.caption)


def _papers() -> list[tuple[Paper, list[Table]]]:
    """Every table of every paper, as reported."""
    papers = load_papers()
    found: dict[str, list[Table]] = {}
    for name, definition in load_tables().items():
        if definition.paper:
            found.setdefault(definition.paper, []).append(build_table(name))
    return [(papers[paper], tables) for paper, tables in found.items()]


def _metrics(results: Sequence[Result]) -> list[MetricInfo]:
    """Every specification once, in the order of the registry."""
    found = {
        (metric.name, metric.spec_hash, *sorted(metric.weights.items())): metric
        for result in results
        for metric in result.metrics
    }
    order = list(METRICS)
    return sorted(found.values(), key=lambda metric: order.index(metric.name))


def _remedy(note: Footnote) -> tuple[str, str]:
    """A footnote's text, and the command that it ends in."""
    text, found, command = note.text.rpartition(_COMMAND)
    return (text, command) if found else (note.text, "")


def _breakable(name: str) -> Markup:
    """A name that may be broken after ``_`` and ``/`` where it does not fit."""
    return Markup(re.sub("([_/])", r"\1<wbr>", str(escape(name))))


def _data(lines: Sequence[Line], columns: Sequence[Column]) -> dict[str, Any]:
    """The table with all its digits, for the script."""
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
    """JSON knows no infinity."""
    return value if value is None or isfinite(value) else str(value)
