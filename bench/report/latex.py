"""Tables in LaTeX, for a document that loads booktabs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby

from bench.report.model import ARROWS, Block, Cell, Row, Table, TableColumn

_COMMANDS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': r"{\char`\"}",
    "`": "{`}",
    # After the end of a row LaTeX would read these two as options.
    "[": "{[}",
    "*": "{*}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "∞": r"$\infty$",
    "−": r"$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "·": r"$\cdot$",
    "²": r"$^2$",
    "³": r"$^3$",
    "°": r"$^{\circ}$",
    "µ": r"$\mu$",
    "σ": r"$\sigma$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
# Position between two characters that LaTeX would combine into one dash or one quotation mark.
_LIGATURE = re.compile(r"(?<=-)(?=-)|(?<=')(?=')|(?<=[?!])(?=\{`\})|(?<=,)(?=,)")


def write(table: Table) -> str:
    """A ``table*`` environment; blocks with the same columns share a tabular."""
    return "\n".join(_lines(table)) + "\n"


def escape(text: str) -> str:
    """Escape ``text`` for any LaTeX engine, on one line. Characters that LaTeX lacks become U+ and their hex
    code."""
    plain = "".join(map(_letter, unicodedata.normalize("NFC", " ".join(text.split()))))
    return _LIGATURE.sub("{}", plain)


def _letter(character: str) -> str:
    if character in _COMMANDS:
        return _COMMANDS[character]
    if " " <= character < "\x7f":
        return character
    base, *accents = list(unicodedata.normalize("NFD", character))
    if base.isascii() and base.isalpha() and len(accents) == 1 and accents[0] in _ACCENTS:
        return f"\\{_ACCENTS[accents[0]]}{{{base}}}"
    return f"{{[}}U+{ord(character):04X}]"


def _lines(table: Table) -> Iterator[str]:
    yield r"% needs \usepackage{booktabs}"
    yield r"\begin{table*}[tbp]"
    # With this size, ten columns with intervals fit on a page of 17 cm.
    wide = any(len(block.columns) > 7 for block in table.blocks)
    yield r"\centering" + (
        r"\scriptsize\setlength{\tabcolsep}{1.8pt}" if wide else r"\footnotesize\setlength{\tabcolsep}{4pt}"
    )
    yield r"\setlength{\belowcaptionskip}{4pt}"
    yield rf"\caption{{{escape(table.title)}.}}"
    yield rf"\label{{tab:{table.name}}}"
    for _, blocks in groupby(table.blocks, key=_shape):
        yield from _tabular(list(blocks))
        yield r"\par\medskip"
    yield r"\begin{minipage}{\linewidth}\scriptsize\raggedright"
    for block in table.blocks:
        for warning in block.warnings:
            yield rf"\textbf{{Warning, {escape(block.title)}: {escape(warning)}.}}\par"
    for note in table.footnotes:
        mark = rf"\textsuperscript{{{note.mark}}}\," if note.mark else ""
        yield rf"{mark}{escape(note.text)}\par"
    if any(cell.interval for block in table.blocks for row in block.rows for cell in row.cells):
        yield r"Small figures beside a value are the ends of its 95\,\% interval over clips.\par"
    for block in table.blocks:
        if block.notes:
            yield rf"\emph{{{escape(block.title)}.}} {escape(' '.join(block.notes))}\par"
    yield r"\end{minipage}"
    yield r"\end{table*}"


def _shape(block: Block) -> tuple[str, ...]:
    return block.kind, *(f"{column.id} {column.header}" for column in block.columns)


def _tabular(blocks: list[Block]) -> Iterator[str]:
    columns = blocks[0].columns
    stretch = 1.4 if any(cell.interval for b in blocks for row in b.rows for cell in row.cells) else 1
    yield rf"\renewcommand{{\arraystretch}}{{{stretch}}}"
    yield rf"\begin{{tabular}}{{@{{}}l{'r' * len(columns)}r@{{}}}}"
    yield r"\toprule"
    yield _row(["Method", *(_header(column) for column in columns), "Clips"])
    if blocks[0].kind == "measured":
        yield _row(["", *map(_id, columns), ""])
    for block in blocks:
        yield r"\midrule"
        yield rf"\multicolumn{{{len(columns) + 2}}}{{@{{}}l}}{{\emph{{{escape(block.title)}}}}} \\"
        for row in block.rows:
            yield _row([_label(row), *map(_cell, row.cells), escape(row.clips)])
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _header(column: TableColumn) -> str:
    unit = f" ({column.unit})" if column.unit else ""
    return escape(f"{column.label}{unit}") + escape(ARROWS[column.better])


def _id(column: TableColumn) -> str:
    family, _, rest = column.id.partition(".")
    if not rest:
        return rf"{{\tiny {escape(family)}}}"
    return rf"{{\tiny\shortstack[r]{{{escape(family)}.\\{escape(rest)}}}}}"


def _label(row: Row) -> str:
    return rf"\textit{{{escape(row.title)}}}" if row.kind == "trivial" else escape(row.title)


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.best:
        text = rf"\textbf{{{text}}}"
    elif cell.second:
        text = rf"\underline{{{text}}}"
    if cell.interval:
        low, high = cell.interval.strip("[]").split(", ")
        text += f"$^{{{_math(high)}}}_{{{_math(low)}}}$"
    if cell.footnotes:
        text += rf"\,\textsuperscript{{{','.join(cell.footnotes)}}}"
    return text


def _math(number: str) -> str:
    return number.replace("∞", r"\infty").replace("−", "-")
