"""A table in memory: assembled once, then written in any format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NOT_AVAILABLE = "n/a"
#: In a cell of a row for which the column's figure is not defined.
NOT_DEFINED = "–"
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")


class Cell(_Model):
    """One figure, or the reason why there is none.

    ``scored`` and ``asked`` are numbers of clips. For a reported figure both are the number of test videos, None if
    the paper does not say it. ``footnotes`` are marks, see :class:`Footnote`.
    """

    text: str = Field(description="as printed: digits, ∞, n/a or –")
    value: float | None = None
    low: float | None = Field(default=None, description="lower end of the 95 % interval")
    high: float | None = None
    interval: str = Field(default="", description="the interval as printed, or nothing")
    scored: int | None = None
    asked: int | None = None
    failures: dict[str, int] = Field(
        default_factory=dict, description="reason → clips without a value for it"
    )
    best: bool = False
    second: bool = False
    footnotes: list[str] = Field(default_factory=list)


class TableColumn(_Model):
    """The definition of one column of a block.

    ``id`` is a figure of the suite (``lse.lrs.d``) in a measured block, the name in the paper's CSV in a reported one.
    """

    id: str
    label: str
    better: Literal["higher", "lower", "none"]
    unit: str = ""
    decimals: int = 4

    @property
    def header(self) -> str:
        """Label, unit and arrow."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label}{unit} {ARROWS[self.better]}".rstrip()


class Row(_Model):
    """One method. ``ours`` marks the method that the paper of the table proposes, in its reported rows."""

    method: str
    label: str
    kind: Literal["method", "trivial"] = "method"
    ours: bool = False
    clips: str = Field(default="", description="clips behind the figures: 45, 43/45, 43–45/45")
    cells: list[Cell]

    @property
    def title(self) -> str:
        """The label, with the paper's own method marked."""
        return f"{self.label} (ours)" if self.ours else self.label


class Block(_Model):
    """Rows that can be compared with each other; reported and measured figures never share a block."""

    kind: Literal["reported", "measured"]
    title: str
    dataset: str
    protocol: str
    region: str = Field(description="of the measured figures; empty where a paper's own applies")
    columns: list[TableColumn]
    rows: list[Row]
    warnings: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class Footnote(_Model):
    """A note; ``mark`` is the letter at its cells, empty for a note on the whole table."""

    mark: str
    text: str


class Table(_Model):
    """One table with all its blocks."""

    name: str
    title: str
    blocks: list[Block]
    footnotes: list[Footnote] = Field(default_factory=list)


class Footnotes:
    """Collects footnotes; the same text has the same mark."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}
        self._general: dict[str, None] = {}

    def mark(self, text: str) -> str:
        """The mark of a footnote: a, b, … z, aa, ab …"""
        if text not in self._marks:
            self._marks[text] = _letters(len(self._marks))
        return self._marks[text]

    def note(self, text: str) -> None:
        """A note on the whole table."""
        self._general.setdefault(text)

    def listed(self) -> list[Footnote]:
        """All of them, marks first."""
        marked = [Footnote(mark=mark, text=text) for text, mark in self._marks.items()]
        return marked + [Footnote(mark="", text=text) for text in self._general]


def rank(rows: Sequence[Row], columns: Sequence[TableColumn]) -> list[str]:
    """Mark the best and the second figure of every column. Trivial rows are not ranked; ties are all marked.

    Printed values are compared. If methods were scored on different clips, only methods scored on all clips are ranked:
    otherwise a method could win by failing on hard clips. If all methods lack the same clips, all are ranked.

    Returns:
        One warning for every column with unequal coverage.
    """
    warnings = []
    for i, column in enumerate(columns):
        methods = [row for row in rows if row.kind == "method"]
        counted = [row for row in methods if row.cells[i].asked is not None]
        ranked = [row.cells[i] for row in methods]
        if len({_coverage(row.cells[i]) for row in counted}) > 1:
            ranked = [cell for cell in ranked if cell.scored == cell.asked and not cell.failures]
            counts = "; ".join(f"{row.label} {row.cells[i].scored}/{row.cells[i].asked}" for row in counted)
            said = (
                "only methods scored on all clips are ranked" if len(ranked) > 1 else "so no best is marked"
            )
            warnings.append(f"unequal coverage in {column.label}, {said}: {counts}")
        if column.better != "none":
            _mark(ranked, column)
    return warnings


def _coverage(cell: Cell) -> tuple[object, ...]:
    return cell.scored, cell.asked, *sorted(cell.failures.items())


def _mark(cells: Sequence[Cell], column: TableColumn) -> None:
    printed = [(round(cell.value, column.decimals), cell) for cell in cells if cell.value is not None]
    if len(printed) < 2:
        return
    order = sorted({value for value, _ in printed}, reverse=column.better == "higher")
    for value, cell in printed:
        cell.best = value == order[0]
        cell.second = len(order) > 1 and value == order[1]


def _letters(n: int) -> str:
    word = ""
    while n >= 0:
        word = chr(ord("a") + n % 26) + word
        n = n // 26 - 1
    return word
