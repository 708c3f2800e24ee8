"""Figures of a method from the rows of clips: mean, spread, 95 % interval over clips, coverage."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.results import Figure

#: Number of resamples of the clips for a bootstrap interval.
RESAMPLES = 2000


@dataclass(frozen=True)
class Value:
    """The result of one metric for one clip: a value, or the reason why there is none."""

    clip_id: str
    value: float | None
    reason: str = ""


def bootstrap(values: np.ndarray, seed: int, name: str) -> tuple[float, float] | None:
    """95 % percentile interval of the mean, from resampled clips.

    Args:
        values: (n,) float64, one per clip, in a fixed order.
        seed: of the evaluation.
        name: of the figure; every method has the same resamples, every figure has different ones.

    Returns:
        Lower and upper end; None for fewer than two clips, which have no spread.
    """
    if len(values) < 2:
        return None
    means = [values[chosen].mean() for chosen in resamples(len(values), seed, name)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def resamples(n: int, seed: int, name: str) -> Iterator[np.ndarray]:
    """Which of ``n`` clips each of :data:`RESAMPLES` resamples holds: (n,) int64 each; see :func:`bootstrap`."""
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return (random.integers(0, n, n) for _ in range(RESAMPLES))


def mean_over_clips(
    values: Sequence[Value], region: str, metric: str, output: str, cap: float | None, seed: int
) -> Figure:
    """The mean over clips of one figure of one method.

    If there are finite values, infinite ones are replaced by ``cap``; if all are infinite, so is the mean.
    """
    values = sorted(values, key=lambda v: v.clip_id)
    numbers = np.array([v.value for v in values if v.value is not None], np.float64)
    figure = Figure(
        region=region,
        metric=metric,
        output=output,
        value=None,
        asked=len(values),
        scored=len(numbers),
        failures=dict(sorted(Counter(v.reason for v in values if v.value is None).items())),
    )
    if not len(numbers):
        return figure
    if np.isinf(numbers).all():
        figure.value = float(numbers[0])
        return figure
    if cap is not None:
        numbers = np.where(np.isinf(numbers), cap, numbers)
    figure.value = float(numbers.mean())
    interval = bootstrap(numbers, seed, output)
    if interval:
        figure.std = float(numbers.std(ddof=1))
        figure.low, figure.high = interval
        figure.interval = f"bootstrap ({RESAMPLES} resamples of the clips)"
    return figure
