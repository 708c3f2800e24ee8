"""Why two numbers of one name differ: the same videos under all variants of a metric, and which choice moves it most.

Variants of a family describe themselves with the same parameters. Two that differ in exactly one of them show what
that one choice does; so do two regions under one variant.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from bench.results import CLIP_REGION, MetricInfo, Result


@dataclass(frozen=True)
class Entry:
    """One figure of one method under one variant in one region."""

    method: str
    variant: str
    region: str
    output: str
    label: str
    value: float


@dataclass(frozen=True)
class Choice:
    """What one choice does to one figure of one method.

    Attributes:
        name: the parameter, or ``region``.
        settings: what it was set to in the two, as ``variant: setting`` or the regions' names.
        method: whose figure it is.
        label: the figure.
        difference: the second value minus the first.
        relative: size of the difference over the mean size of the two values.
    """

    name: str
    settings: tuple[str, str]
    method: str
    label: str
    first: float
    second: float

    @property
    def difference(self) -> float:
        """The second value minus the first."""
        return self.second - self.first

    @property
    def relative(self) -> float:
        """Size of the difference over the mean size of the two values."""
        scale = (abs(self.first) + abs(self.second)) / 2
        return abs(self.difference) / scale if scale else 0.0


def entries(result: Result) -> list[Entry]:
    """All finite figures of a result."""
    labels = {
        (metric.name, output.key): output.label for metric in result.metrics for output in metric.outputs
    }
    found = []
    for method in result.methods:
        for figure in method.figures:
            if figure.value is None or figure.value in (float("inf"), float("-inf")):
                continue
            key = figure.output[len(figure.metric) + 1 :]
            label = labels[figure.metric, key]
            found.append(
                Entry(method.method, figure.metric, figure.region, figure.output, label, figure.value)
            )
    return found


def spread(found: list[Entry]) -> dict[tuple[str, str], tuple[float, float]]:
    """(method, label) → least and greatest value over all variants and regions."""
    groups: dict[tuple[str, str], list[float]] = {}
    for entry in found:
        groups.setdefault((entry.method, entry.label), []).append(entry.value)
    return {key: (min(values), max(values)) for key, values in groups.items() if len(values) > 1}


def choices(result: Result) -> list[Choice]:
    """What every single choice does, the largest relative difference first."""
    found = entries(result)
    metrics = {metric.name: metric for metric in result.metrics}
    pairs = []
    for a, b in combinations(found, 2):
        if (a.method, a.label) != (b.method, b.label):
            continue
        if a.variant == b.variant and a.region != b.region:
            pairs.append(Choice("region", (a.region, b.region), a.method, a.label, a.value, b.value))
        elif a.variant != b.variant and (a.region == b.region or CLIP_REGION in (a.region, b.region)):
            changed = _changed(metrics[a.variant], metrics[b.variant])
            if len(changed) == 1:
                ((name, settings),) = changed.items()
                pairs.append(Choice(name, settings, a.method, a.label, a.value, b.value))
    return sorted(pairs, key=lambda c: -c.relative)


def largest(found: list[Choice]) -> list[Choice]:
    """The pair in which each choice moves a figure most, the most moving choice first."""
    best: dict[tuple[str, str], Choice] = {}
    for choice in found:
        best.setdefault((choice.name, choice.label), choice)
    return list(best.values())


def _changed(a: MetricInfo, b: MetricInfo) -> dict[str, tuple[str, str]]:
    keys = sorted({*a.parameters, *b.parameters})
    changed = {key: (a.parameters.get(key), b.parameters.get(key)) for key in keys}
    found = {
        key: (f"{a.name}: {_text(x)}", f"{b.name}: {_text(y)}") for key, (x, y) in changed.items() if x != y
    }
    if a.weights != b.weights:
        found["weights"] = (", ".join(a.weights), ", ".join(b.weights))
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
