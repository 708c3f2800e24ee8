"""How much of a distance between landmarks the detector adds by itself: the row ``shifted`` beside the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.clips.inputs import Inputs, with_trivial
from bench.clips.job import SHIFTED
from bench.metrics import get_spec
from bench.results import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Floor:
    """One figure of one row, and what the detector alone gives in the same variant on the same clips.

    Attributes:
        variant: name.
        label: the figure.
        decimals: number of decimals in tables.
        method: the row.
        value: its mean over the clips, > 0.
        floor: that of ``shifted``.
        clips: number of clips in which both were scored.
    """

    variant: str
    label: str
    decimals: int
    method: str
    value: float
    floor: float
    clips: int

    @property
    def share(self) -> float:
        """The floor in units of the value; above 1 where the row is nearer to the truth than a shift by one pixel."""
        return self.floor / self.value


def with_floor(inputs: Inputs, metrics: Sequence[str], seed: int) -> Inputs:
    """Add the row ``shifted`` if it is not there and one of the metrics compares landmarks with a truth.

    Args:
        inputs: what is scored.
        metrics: names of variants.
        seed: as for :func:`bench.clips.inputs.with_trivial`.
    """
    there = any(c.method == SHIFTED for job in inputs.jobs for c in job.candidates)
    useful = any(get_spec(name).detects for name in metrics) and any(job.truth for job in inputs.jobs)
    if there or not useful or inputs.protocol != "reconstruction":
        return inputs
    return with_trivial(inputs, (SHIFTED,), seed)


def floors(result: Result, rows: pd.DataFrame) -> list[Floor]:
    """The floor below every figure that stands on detected landmarks, for all rows that differ from the truth.

    Args:
        result: an evaluation; without the row ``shifted`` there are no floors.
        rows: its ``clips.parquet``.
    """
    scored = rows[rows["reason"] == ""]
    found = []
    for metric in result.metrics:
        if not get_spec(metric.name).detects:
            continue
        for info in metric.outputs:
            output = f"{metric.name}.{info.key}" if info.key else metric.name
            mine = scored[scored["output"] == output]
            values = mine.pivot(index="clip_id", columns="method", values="value")
            for method in (m.method for m in result.methods if m.method != SHIFTED):
                both = values.reindex(columns=[method, SHIFTED]).dropna()
                value, floor = both.mean()
                if value > 0:
                    words = metric.name, info.label, info.decimals
                    found.append(Floor(*words, method, float(value), float(floor), len(both)))
    return found
