"""The file formats of tables."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from bench.common.errors import BenchError
from bench.report.model import Table
from prep.names import known

#: Name, which is also the suffix of a file (LaTeX has ``.tex`` too) → the module whose ``write`` makes it.
FORMATS: dict[str, str] = {
    "md": "bench.report.markdown",
    "latex": "bench.report.latex",
    "csv": "bench.report.csv",
    "html": "bench.report.html",
    "json": "bench.report.json",
}
_SUFFIXES = {"tex": "latex", "htm": "html", "markdown": "md"}


def write(table: Table, form: str) -> str:
    """The table as text that ends in a newline. Raises ``PrepError`` for an unknown format."""
    (form,) = known("format", [form], FORMATS)
    text: str = import_module(FORMATS[form]).write(table)
    return text


def format_of(path: Path) -> str:
    """The format of a file, from its suffix. Raises ``BenchError`` if the suffix is unknown."""
    suffix = path.suffix.lower().lstrip(".")
    form = _SUFFIXES.get(suffix, suffix)
    if form not in FORMATS:
        raise BenchError(
            f"{path}: its suffix is none of the formats; add --format with one of {', '.join(FORMATS)}"
        )
    return form
