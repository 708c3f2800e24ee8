"""Definitions of tables, and figures published in papers: typed ``tables.toml`` and ``published/`` of
``leaderboards``."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from bench.common.errors import BenchError
from bench.metrics import METRICS
from prep.names import known

Better = Literal["higher", "lower", "none"]
Driven = Literal["reconstruction", "dubbing"]
Region = Literal["full", "face", "mouth"]

DEFAULT = "default"
USER_STUDY = "user-study"
#: Protocol of an ablation in the published CSV files. The table defines how its faces are driven.
ABLATION = "ablation"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PublishedTable(_Model):
    """One table of a paper: the CSV file of its figures (``""``: not transcribed), its caption and notes."""

    file: str
    rows: int = 0
    caption: str
    notes: str = ""


class Paper(_Model):
    """What a paper says about its evaluation. An empty value means that the paper does not say it."""

    title: str
    venue: str
    year: int
    venue_source: str = ""
    arxiv: str = ""
    doi: str = ""
    datasets: list[str]
    train_datasets: list[str] = []
    train_note: str = ""
    resolution: str = ""
    fps: int | None = None
    reference_frames: str = ""
    evaluation_crop: str = ""
    codebook_note: str = ""
    audio: dict[str, int | str] = {}
    samples: dict[str, int | str] = {}
    test_sets: dict[str, str] = {}
    tables: dict[str, PublishedTable]
    metrics: dict[str, Better]


class RowDef(_Model):
    """A method of a paper's table; ``ours`` marks the method that the paper proposes."""

    method: str
    label: str
    ours: bool = False


class ColumnDef(_Model):
    """A column: the published metric, and the corresponding figure of this suite (``""``: it cannot be
    measured)."""

    label: str
    metric: str = ""
    output: str = ""
    better: Better | None = None
    decimals: int | None = None
    protocol: Driven | None = None


class BlockDef(_Model):
    """A data set of a table. ``metrics`` selects columns; ``outputs`` replaces figures of the suite: metric →
    figure."""

    dataset: str
    label: str
    metrics: list[str] | None = None
    outputs: dict[str, str] = {}


class TableDef(_Model):
    """One section of ``tables.toml``; the keys are explained in that file."""

    title: str
    paper: str = ""
    table: str = ""
    protocol: Literal["reconstruction", "dubbing", "user-study"] | None = None
    region: Region = "full"
    note: str = ""
    rows: list[RowDef] = []
    columns: list[ColumnDef]
    blocks: list[BlockDef] = []

    @model_validator(mode="after")
    def _consistent(self) -> TableDef:
        names = [column.metric for column in self.columns]
        for block in self.blocks:
            strange = {*(block.metrics or ()), *block.outputs}.difference(names)
            if strange:
                raise ValueError(
                    f"block {block.dataset} names {', '.join(sorted(strange))}, which are no columns"
                )
        for output in self._outputs():
            variant_of(output)
        for column in self.columns:
            if self.paper and not (column.metric and column.decimals is not None and self.protocol):
                raise ValueError(
                    f"column {column.label!r} of a paper's table needs metric, decimals and protocol"
                )
            if not self.paper and not (column.output and column.better):
                raise ValueError(f"column {column.label!r} needs output and better")
        return self

    def _outputs(self) -> list[str]:
        outputs = [column.output for column in self.columns]
        outputs += [output for block in self.blocks for output in block.outputs.values()]
        return [output for output in outputs if output]

    @property
    def measurable(self) -> bool:
        """Whether any column has a figure of this suite."""
        return bool(self._outputs())

    def columns_of(self, block: BlockDef | None) -> list[ColumnDef]:
        """The columns for one data set, with its own figures; all columns for a data set that is not in the
        table."""
        if block is None:
            return list(self.columns)
        return [
            column.model_copy(update={"output": block.outputs.get(column.metric, column.output)})
            for column in self.columns
            if block.metrics is None or column.metric in block.metrics
        ]


@dataclass(frozen=True)
class Published:
    """A figure as printed in a paper.

    Attributes:
        text: with all printed digits.
        protocol: ``reconstruction``, ``dubbing``, ``ablation`` or ``user-study``.
        n: number of test videos; None if the paper does not say it.
    """

    text: str
    protocol: str
    n: int | None


def variant_of(output: str) -> str:
    """The metric of a figure: ``lse.lrs.d`` → ``lse.lrs``. Raises ``ValueError`` for an unknown one."""
    for name in (output, output.rpartition(".")[0]):
        if name in METRICS:
            return name
    raise ValueError(f"there is no figure {output}: no metric of that name")


@cache
def load_tables() -> Mapping[str, TableDef]:
    """All tables, by name, in the order of the file. Raises ``BenchError`` if the file is not well formed."""
    tables: dict[str, TableDef] = _load("tables.toml", TypeAdapter(dict[str, TableDef]))
    return tables


@cache
def load_papers() -> Mapping[str, Paper]:
    """All papers, by short name. Raises ``BenchError`` if the file is not well formed."""
    papers: dict[str, Paper] = _load("published/papers.toml", TypeAdapter(dict[str, Paper]))
    return papers


@cache
def load_published(paper: str, table: str) -> Mapping[tuple[str, str, str], Published]:
    """The figures of one table of a paper: (method, data set, metric) → figure."""
    name = f"published/{load_papers()[paper].tables[table].file}"
    found: dict[tuple[str, str, str], Published] = {}
    for row in csv.DictReader(io.StringIO(_text(name))):
        key = (row["method"], row["dataset"], row["metric"])
        if key in found:
            raise BenchError(f"leaderboards/{name} gives {', '.join(key)} twice")
        found[key] = Published(row["value"], row["protocol"], int(row["n"]) if row["n"] else None)
    return found


def get_table(name: str) -> TableDef:
    """A table by its name. Raises ``PrepError`` for an unknown name; the message proposes the nearest."""
    tables = load_tables()
    (name,) = known("table", [name], tables)
    return tables[name]


def _text(name: str) -> str:
    return files("leaderboards").joinpath(name).read_text("utf-8")


def _load(name: str, form: TypeAdapter[Any]) -> Any:
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        return form.validate_python(toml.loads(_text(name)))
    except (toml.TOMLDecodeError, ValidationError) as error:
        what = "; ".join(line.strip() for line in str(error).splitlines()[:3])
        raise BenchError(f"leaderboards/{name} is not well formed: {what}") from None
