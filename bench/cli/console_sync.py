"""The printed output of `bench explain sync`, with rich."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.cli.console_explain import plain_table
from bench.eval.explain_sync import ROWS

if TYPE_CHECKING:
    from rich.table import Table

    from bench.eval.explain_sync import Agreement, SyncExplanation
    from bench.results import Figure

#: Output → its name and decimals.
_FIGURES = {
    "above.25": ("right above wrong", 3),
    "within.50": ("within 1 frame, 2 s", 3),
    "offset": ("offset", 2),
    "abs_offset": ("|offset|, or 16", 2),
    "confidence": ("confidence", 3),
    "significance": ("significance", 2),
    "decided": ("clips with an offset", 2),
}


def judge_table(shown: SyncExplanation) -> Table:
    """One row per video and figure, one column per judge."""
    table = _table(shown, "video", "figure")
    table.title = (
        "Mean over clips and its 95 % interval; in brackets the clips behind it, where fewer than all"
    )
    for method in _methods(shown):
        table.add_section()
        for output, (words, decimals) in _FIGURES.items():
            table.add_row(method, words, *_cells(shown, method, output, decimals))
    return table


def length_table(shown: SyncExplanation) -> Table:
    """Right above wrong and offset within 1 frame by the length of the windows, of methods and of the ground truth."""
    table = _table(shown, "video", "figure", "windows")
    table.title = "By the length of windows"
    for method in _methods(shown):
        if method in ROWS[1:]:
            continue
        table.add_section()
        for what, words in (("above", "right above wrong"), ("within", "within 1 frame")):
            for length in shown.lengths:
                cells = _cells(shown, method, f"{what}.{length}", 3)
                table.add_row(method, words, f"{length / 25:.1f} s", *cells)
    return table


def agreement_table(shown: SyncExplanation) -> Table | None:
    """One row per pair of judges and figure, for methods and the ground truth; None if nothing can be compared."""
    if not shown.agreement:
        return None
    table = plain_table("judges", "figure", "order of", "agreement")
    table.title = "Same order? Of clips: Spearman's ρ; of the videos' means over clips: Kendall's τ-b"
    table.title_justify = "left"
    for found in shown.agreement:
        if found.method in ROWS[1:]:
            continue
        what = f"{found.n} videos" if found.over == "rows" else f"{found.n} clips of {found.method}"
        table.add_row(" and ".join(found.judges), _FIGURES[found.figure][0], what, _coefficient(found))
    return table


def lines(shown: SyncExplanation) -> Iterator[str]:
    """What each judge was trained on, which are missing, and why clips have no figure."""
    for judge in shown.judges:
        named = [
            data["name"] + (f" (manifest {data['manifest_sha256'][:12]})" if data["manifest_sha256"] else "")
            for data in judge.training
        ]
        trained = ", ".join(named) or "data that is not recorded"
        yield f"{judge.name}: trained on {trained}; {judge.file}, sha256 {judge.sha256[:12]}"
    for lack in shown.missing:
        yield f"n/a {lack.metric}: {lack.reason}; {lack.remedy}"
    for row in shown.rows:
        found = {figure.output: figure for figure in row.figures}
        for reason, count in found["offset"].failures.items():
            yield f"{row.judge}, {row.method}: {count} × {reason}"


def _methods(shown: SyncExplanation) -> list[str]:
    return list(dict.fromkeys(row.method for row in shown.rows))


def _table(shown: SyncExplanation, *columns: str) -> Table:
    table = plain_table(*columns, *(judge.name for judge in shown.judges))
    table.title_justify = "left"
    return table


def _cells(shown: SyncExplanation, method: str, output: str, decimals: int) -> list[str]:
    found = {row.judge: row.figures for row in shown.rows if row.method == method}
    return [
        _cell(next(f for f in found[judge.name] if f.output == output), decimals, shown.clips)
        for judge in shown.judges
    ]


def _cell(figure: Figure, decimals: int, clips: int) -> str:
    if figure.value is None:
        return "n/a"
    words = f"{figure.value:.{decimals}f}"
    if figure.low is not None and figure.high is not None:
        words += f" [{figure.low:.{decimals}f}, {figure.high:.{decimals}f}]"
    return words + (f" ({figure.scored})" if figure.scored < clips else "")


def _coefficient(found: Agreement) -> str:
    if found.value is None:
        return "all are equal"
    interval = "" if found.low is None else f" [{found.low:+.2f}, {found.high:+.2f}]"
    return f"{found.value:+.2f}{interval}"
