"""Compares a result with stored expectations: has a decoder, a resize or a library changed a number?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.common.errors import BenchError
from bench.results import Figure, Result
from prep.detectors import same, words

FOLDER = Path(__file__).resolve().parents[2] / "leaderboards" / "regression"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")


class Tolerance(_Model):
    """How much a figure may change, and why."""

    absolute: float = 0.0
    relative: float = 0.0
    reason: str

    def allows(self, expected: float, found: float) -> bool:
        """Whether ``found`` is within the tolerance; infinite values must be equal."""
        if math.isinf(expected) or math.isinf(found):
            return expected == found
        return abs(found - expected) <= self.absolute + self.relative * abs(expected)


class Expected(_Model):
    """One frozen figure."""

    method: str
    region: str
    metric: str
    output: str
    value: float | None
    scored: int
    asked: int


class Expectation(_Model):
    """The expected result for one data set; a file of ``leaderboards/regression``."""

    schema_version: Literal[1] = 1
    data: str
    split: str
    protocol: str
    clips: int
    note: str = Field(description="why the figures are what they are; rewritten by each --update")
    suite_version: str
    packages: dict[str, str]
    detector: dict[str, str] = Field(default_factory=dict, description="as in results")
    spec_hashes: dict[str, str]
    tolerances: dict[str, Tolerance] = Field(description="metric, or its family → tolerance")
    figures: list[Expected]

    def tolerance(self, metric: str) -> Tolerance:
        """The tolerance of a metric, or of its family."""
        found = self.tolerances.get(metric) or self.tolerances.get(metric.partition(".")[0])
        return found or Tolerance(absolute=1e-9, reason="none was set")


_CODEC = "the videos are coded and decoded by FFmpeg, whose builds differ in the last bit"
_MESH = "the networks of landmarks are computed by kernels that differ from processor to processor"

#: Initial tolerances of a new expectation; edit the file if measurements require other values.
TOLERANCES: Mapping[str, Tolerance] = {
    "psnr": Tolerance(absolute=0.05, reason=_CODEC),
    "mse": Tolerance(relative=0.02, reason=_CODEC),
    "ssim": Tolerance(absolute=0.001, reason=_CODEC),
    "lpips": Tolerance(absolute=0.001, reason=_CODEC),
    "fid": Tolerance(absolute=0.01, relative=0.02, reason=_CODEC),
    "csim": Tolerance(absolute=0.005, reason=_CODEC),
    "lmd": Tolerance(absolute=0.002, relative=0.05, reason=_MESH),
    "landmark_error": Tolerance(absolute=0.002, relative=0.05, reason=_MESH),
    "lse": Tolerance(absolute=0.05, reason=_CODEC),
    "syncscore": Tolerance(absolute=0.05, reason=_CODEC),
    "sync": Tolerance(absolute=0.02, relative=0.05, reason=_MESH),
}


@dataclass(frozen=True)
class Drift:
    """One difference between an expectation and a result."""

    method: str
    region: str
    output: str
    expected: str
    found: str
    allowed: str
    reason: str


def compare(expectation: Expectation, result: Result) -> list[Drift]:
    """All differences beyond the tolerance, in the order of the expectation; empty if the result is as expected.

    It is also a difference if a figure is missing, covers other clips, or has another specification. Figures that are
    not in the expectation are ignored.
    """
    found = [
        Drift("", "", what, mine, yours, "", "another evaluation")
        for what, mine, yours in (
            ("data set", expectation.data, result.data.name),
            ("split", expectation.split, result.data.split),
            ("protocol", expectation.protocol, result.protocol),
            ("clips", str(expectation.clips), str(result.data.clips)),
        )
        if mine != yours
    ]
    if not same(expectation.detector, result.detector):
        mine, yours = words(expectation.detector), words(result.detector)
        found.append(Drift("", "", "detector", mine, yours, "", "another evaluation"))
    hashes = {metric.name: metric.spec_hash for metric in result.metrics}
    for name, expected_hash in expectation.spec_hashes.items():
        if name in hashes and hashes[name] != expected_hash:
            found.append(
                Drift("", "", name, expected_hash, hashes[name], "", "the specification was changed")
            )
    for expected in expectation.figures:
        drift = _drift(expected, _find(result, expected), expectation.tolerance(expected.metric))
        if drift:
            found.append(drift)
    return found


def _find(result: Result, expected: Expected) -> Figure | None:
    method = result.method(expected.method)
    wanted = expected.output, expected.region
    return next((f for f in method.figures if (f.output, f.region) == wanted), None) if method else None


def _drift(expected: Expected, figure: Figure | None, tolerance: Tolerance) -> Drift | None:
    def drift(mine: str, yours: str, allowed: str, reason: str) -> Drift:
        return Drift(expected.method, expected.region, expected.output, mine, yours, allowed, reason)

    if figure is None:
        return drift(_text(expected.value), "absent", "", "no such figure in the result")
    if (figure.scored, figure.asked) != (expected.scored, expected.asked):
        coverage = [f"{x.scored}/{x.asked} clips" for x in (expected, figure)]
        return drift(coverage[0], coverage[1], "", "; ".join(figure.failures) or "another coverage")
    if expected.value is None or figure.value is None:
        if expected.value is figure.value:
            return None
        return drift(_text(expected.value), _text(figure.value), "", "; ".join(figure.failures))
    if tolerance.allows(expected.value, figure.value):
        return None
    limits = [f"±{tolerance.absolute:g}"] * bool(tolerance.absolute)
    limits += [f"±{tolerance.relative:.0%}"] * bool(tolerance.relative)
    return drift(
        _text(expected.value), _text(figure.value), " ".join(limits) or "±0", f"tolerance: {tolerance.reason}"
    )


def _text(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.6g}"


def expectation_path(result: Result, folder: Path = FOLDER) -> Path:
    """Path of the expectation for a result."""
    parts = [result.data.name, result.data.split, result.protocol]
    return folder / ("-".join("".join(c if c.isalnum() else "_" for c in p) for p in parts if p) + ".json")


def read_expectation(path: Path) -> Expectation:
    """Read an expectation. Raises :class:`BenchError` if there is none."""
    try:
        return Expectation.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BenchError(
            f"{path} does not exist: freeze this result with `bench check --update --note WHY`"
        ) from None
    except (OSError, ValidationError) as error:
        raise BenchError(f"{path} is not an expectation ({str(error).splitlines()[0]})") from None


def freeze(result: Result, note: str, before: Expectation | None = None) -> Expectation:
    """An expectation with the values of a result, and the tolerances of ``before``.

    Raises:
        BenchError: the note is empty.
    """
    if not note.strip():
        raise BenchError("--update needs --note: say why the numbers are expected to change")
    known = {metric.name.partition(".")[0] for metric in result.metrics}
    tolerances = {name: tolerance for name, tolerance in TOLERANCES.items() if name in known}
    figures = [
        Expected(
            method=method.method,
            region=figure.region,
            metric=figure.metric,
            output=figure.output,
            value=figure.value,
            scored=figure.scored,
            asked=figure.asked,
        )
        for method in result.methods
        for figure in method.figures
    ]
    return Expectation(
        data=result.data.name,
        split=result.data.split,
        protocol=result.protocol,
        clips=result.data.clips,
        note=note.strip(),
        suite_version=result.provenance.suite_version,
        packages=result.provenance.packages,
        detector=result.detector,
        spec_hashes={metric.name: metric.spec_hash for metric in result.metrics},
        tolerances={**tolerances, **(before.tolerances if before else {})},
        figures=figures,
    )


def write_expectation(path: Path, expectation: Expectation) -> None:
    """Write an expectation atomically."""
    from prep.shards import AtomicFile

    path.parent.mkdir(parents=True, exist_ok=True)
    with AtomicFile(path) as sink:
        sink.write((expectation.model_dump_json(indent=1) + "\n").encode())
        sink.commit()
