"""What the decoding of colours does to a figure: the same videos, scored by each choice of pixels and matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.results import Result

if TYPE_CHECKING:
    from bench.eval.decoding import MatrixRule
    from bench.eval.plan import EvalOptions
    from prep.pixels import Pixels

#: The metric by which the choices are weighed.
WEIGHED = "psnr.frame"
#: Pixels and matrix. ``opencv`` knows no other matrix than BT.601.
_CHOICES: tuple[tuple[Pixels, MatrixRule], ...] = (
    ("exact", "auto"),
    ("exact", "tagged"),
    ("exact", "bt601"),
    ("opencv", "auto"),
)


@dataclass(frozen=True)
class ByDecoding:
    """One figure of one method in one region.

    Attributes:
        pixels: how colours were decoded.
        matrix: by which matrix; ``""`` for ``opencv``, which has one only.
        method: name.
        region: of :data:`bench.metrics.regions.REGIONS`.
        value: mean over the clips, in dB; None without any.
    """

    pixels: str
    matrix: str
    method: str
    region: str
    value: float | None


def by_decoding(
    options: EvalOptions, folder: Path, score: Callable[[EvalOptions, Path], Result]
) -> list[ByDecoding]:
    """Score by every choice of pixels and matrix; they come in the same order each time.

    Args:
        options: of the whole evaluation.
        folder: for the results.
        score: evaluates the same videos with other options into a folder.
    """
    found = []
    for pixels, matrix in _CHOICES:
        chosen = replace(options, metrics=(WEIGHED,), pixels=pixels, matrix=matrix)
        result = score(chosen, folder / f"{pixels}-{matrix}")
        found += [
            ByDecoding(
                pixels, "" if pixels == "opencv" else matrix, method.method, figure.region, figure.value
            )
            for method in result.methods
            for figure in method.figures
        ]
    return found
