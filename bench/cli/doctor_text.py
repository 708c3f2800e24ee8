"""The text of `bench doctor`: plain, because the packages that print the other commands' output may be missing."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator

from bench.cli.diagnosis import EXTRAS, Package, Report, Weight
from prep.installing import install


def show(report: Report) -> int:
    """Print a report, and on standard error what is wrong; returns the exit code: 1 if the suite cannot be used."""
    for line in lines(report, shutil.get_terminal_size().columns):
        print(line)
    return show_problems(report)


def show_problems(report: Report) -> int:
    """Print on standard error warnings and what is wrong; returns the exit code: 1 if the suite cannot be used."""
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if report.problems else 0


def lines(report: Report, width: int) -> Iterator[str]:
    """The lines of a report on a terminal of that width."""
    gib = f", {report.memory / 2**30:.1f} GiB" if report.memory else ""
    torch = f"{report.torch}: {'; '.join(report.devices)}" if report.torch else "cannot be used"
    machine = {
        "Python": report.python,
        "system": report.system,
        "processor": f"{report.cpu}, {report.cores} cores{gib}",
        "torch": torch,
    }
    yield from _rows("machine", machine, width)
    packages = {p.name: report.broken.get(p.name, _package(p)) for p in report.packages if not p.extra}
    yield from _rows("packages", packages, width)
    extras = {extra: f"{EXTRAS[extra]}: {_extra(extra, lacks)}" for extra, lacks in report.extras.items()}
    yield from _rows("extras", extras, width)
    folders = {folder: "writable" if can else "read-only" for folder, can in report.folders.items()}
    yield from _rows("folders of weights", folders, width)
    yield from _rows("landmark detectors", report.detectors, width)
    yield from _rows("weights", {w.name: _weight(w) for w in report.weights}, width)
    if report.unavailable:
        unavailable = {metric: ", ".join(names) for metric, names in report.unavailable.items()}
        yield from _rows("metrics that are n/a here, and what they lack", unavailable, width)


def _rows(title: str, rows: dict[str, str], width: int) -> Iterator[str]:
    """A title, and names with texts in two columns; a text that is too long goes on below."""
    yield title
    column = max(map(len, rows), default=0)
    for name, text in rows.items():
        first, rest = f"  {name:{column}}  ", " " * min(column + 4, width // 2)
        for begin, part in zip((first, rest), text.splitlines(), strict=False):
            yield textwrap.fill(
                part,
                width,
                initial_indent=begin,
                subsequent_indent=rest,
                break_long_words=False,
                break_on_hyphens=False,
            )


def _package(package: Package) -> str:
    if not package.version:
        return "missing"
    return package.version if package.fits else f"{package.version}, not {package.wanted}"


def _extra(extra: str, lacking: tuple[str, ...]) -> str:
    return f"lacks {', '.join(lacking)}\n{install(extra)}" if lacking else "installed"


def _weight(weight: Weight) -> str:
    if not weight.problem:
        return weight.path
    what = weight.problem if weight.path else "missing"
    return f"{what}: {weight.remedy}; disables {', '.join(weight.enables)}"
