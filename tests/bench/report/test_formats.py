"""The formats: each whole, each safe against what people call their methods."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from bench.cli import report as command
from bench.cli.console_tables import print_table
from bench.common.errors import BenchError
from bench.report.definitions import load_tables
from bench.report.formats import FORMATS, format_of, write
from bench.report.latex import escape
from bench.report.model import Table
from bench.report.tables import build_table
from bench.results import Missing, Result, write_result
from prep.errors import PrepError
from tests.bench.report.factory import figure, method, result

NASTY = r"*a|b* <i>_%&#${}~^\x</i> [1] -- 'q' “é” Łß 漢"


def nasty() -> Result:
    rows = [
        method("ground_truth", {"psnr.frame": float("inf"), "lpips.alex": 0.0}),
        method(NASTY, [figure("psnr.frame", 30.0, scored=44, failures={NASTY: 1})], training_data=NASTY),
        method("b", {"psnr.frame": 31.0, "lpips.alex": 0.1}),
        method("c", {"psnr.frame": 32.0, "lpips.alex": 0.2}),
    ]
    lost = Missing(metric="csim.dlib", reason=NASTY, remedy="bench weights fetch x")
    return result(rows, dataset="toy_data", missing=[lost])


@pytest.fixture(scope="module")
def table() -> Table:
    return build_table("default", [nasty()])


@pytest.mark.parametrize("form", list(FORMATS))
@pytest.mark.parametrize("name", list(load_tables()))
def test_every_table_is_written_in_every_format(name: str, form: str) -> None:
    text = write(build_table(name, [nasty()]), form)
    assert text.endswith("\n") and not text.endswith("\n\n")


def test_an_unknown_format_names_the_nearest(table: Table) -> None:
    with pytest.raises(PrepError, match="did you mean latex"):
        write(table, "latx")


def test_the_suffix_of_a_file_names_the_format() -> None:
    assert [format_of(Path(name)) for name in ("a.tex", "a.MD", "b.htm", "c.json")] == [
        "latex",
        "md",
        "html",
        "json",
    ]
    with pytest.raises(BenchError, match="--format"):
        format_of(Path("table.docx"))


def test_markdown_has_a_row_a_method_and_the_same_cells_in_each(table: Table) -> None:
    text = write(table, "md")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = {len(re.split(r"(?<!\\)\|", line)) for line in lines}
    assert len(lines) == 2 + len(table.blocks[0].rows)
    assert cells == {2 + 2 + len(table.blocks[0].columns)}
    assert "**0.1000**" in text and "<ins>0.2000</ins>" in text
    assert "∞" in text and "n/a<sup>" in text
    assert "<i>" not in text
    assert "> ⚠ **unequal coverage in PSNR" in text


def test_csv_is_tidy(table: Table) -> None:
    rows = list(csv.DictReader(io.StringIO(write(table, "csv"))))
    block = table.blocks[0]
    assert len(rows) == len(block.rows) * len(block.columns)
    by = {(row["method"], row["figure"]): row for row in rows}
    assert by[("ground_truth", "psnr.frame")]["value"] == "inf"
    found = by[(NASTY, "psnr.frame")]
    assert (found["value"], found["low"], found["scored"], found["asked"]) == ("30.0", "28.5", "44", "45")
    assert NASTY in found["notes"]
    assert by[("b", "lpips.alex")]["best"] == "1"
    assert by[("b", "csim.dlib")]["value"] == ""


def test_json_reads_back_as_the_same_table(table: Table) -> None:
    assert Table.model_validate_json(write(table, "json")) == table


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: dict[str, int] = {}
        self.text: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_html_is_whole_needs_nothing_else_and_shows_names_as_they_are(table: Table) -> None:
    page = _Page()
    page.feed(write(table, "html"))
    block = table.blocks[0]
    assert page.open == []
    assert page.tags["tr"] == 1 + len(block.rows)
    assert page.tags["td"] == len(block.rows) * (len(block.columns) + 2)
    assert page.addresses == []
    assert "i" not in page.tags
    assert NASTY in page.text


def test_latex_escapes_everything() -> None:
    assert escape("50% of a_b & #1 ^2 {x} \\ ~") == (
        r"50\% of a\_b \& \#1 \textasciicircum{}2 \{x\} \textbackslash{} \textasciitilde{}"
    )
    assert escape("--") == "-{}-"
    assert escape("é ∞ 漢") == r"\'{e} $\infty$ {[}U+6F22]"
    assert escape("[a]*") == "{[}a]{*}"
    assert escape("a\nb") == "a b"


def test_latex_never_puts_reported_and_measured_in_one_tabular() -> None:
    text = write(
        build_table("g4g-table2", [result([method("g4g", {"mse": 0.002})], dataset="hdtf")]), "latex"
    )
    tabulars = re.findall(r"\\begin{tabular}.*?\\end{tabular}", text, re.S)
    assert [("Reported" in t, "Measured" in t) for t in tabulars] == [(True, False), (False, True)]
    # Blocks of one kind with the same columns do share one, as in the papers.
    assert write(build_table("metatalk-table2"), "latex").count(r"\begin{tabular}") == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex here")
def test_latex_compiles_with_booktabs(tmp_path: Path) -> None:
    tables = [build_table(name, [nasty()]) for name in load_tables()]
    body = "\n".join(write(table, "latex") for table in tables)
    head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "tables.tex").write_text(f"{head}{body}\\end{{document}}\n", "utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"],
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
    )
    log = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, log[-3000:]
    assert "Missing character" not in (tmp_path / "tables.log").read_text("latin-1")
    assert (tmp_path / "tables.pdf").stat().st_size > 10_000


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_shows_every_figure_whatever_its_width(table: Table, width: int) -> None:
    sink = io.StringIO()
    print_table(table, Console(file=sink, width=width))
    shown = sink.getvalue()
    for column in table.blocks[0].columns:
        assert column.id in shown
    for text in ("∞", "31.00", "[29.45, 32.55]", "0.1000", "n/a"):
        assert text in shown


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_result(tmp_path, nasty())
    return tmp_path


def bench(*words: str | Path) -> str:
    app = typer.Typer()
    command.register(app)
    done = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_prints_markdown_where_there_is_no_terminal(folder: Path) -> None:
    assert bench(folder).startswith("## All metrics\n")
    assert bench("--table", "iplap-table1").startswith("## IP-LAP, Table 1")


def test_the_command_writes_a_file(folder: Path) -> None:
    out = folder / "new" / "table.tex"
    assert str(out) in bench(folder, "--out", out).replace("\n", "")
    assert out.read_text("utf-8") == write(build_table("default", [nasty()]), "latex")
    bench(folder, "--out", out, "--format", "csv")
    assert out.read_text("utf-8").startswith("table,block,kind,")
    assert [p.name for p in out.parent.iterdir()] == ["table.tex"]


def test_the_command_lists_the_tables() -> None:
    shown = bench("--list")
    assert all(name in shown for name in load_tables())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--table", "iplap-table9"], "did you mean iplap-table"),
        (["no-such-folder"], "no-such-folder holds no result.json; make one with `bench eval`"),
        ([], "name a result folder"),
        (["--table", "g4g-table1", "--out", "x.docx"], "--format"),
        (["--table", "g4g-table1", "--plots", "x"], "name a result folder"),
    ],
)
def test_mistakes_are_one_line_with_a_remedy(words: list[str], message: str) -> None:
    with pytest.raises((BenchError, PrepError), match=re.escape(message)) as caught:
        bench(*words)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_written_is_named(folder: Path) -> None:
    with pytest.raises(BenchError, match=r"cannot write .*table\.md: "):
        bench(folder, "--out", folder / "result.json" / "table.md")


def test_no_heavy_library_is_loaded(folder: Path) -> None:
    code = (
        "import sys, typer; from bench.cli import report; app = typer.Typer(); report.register(app)\n"
        f"app([{str(folder)!r}, '--out', {str(folder / 't.html')!r}], standalone_mode=False)\n"
        "print(*{'torch', 'cv2', 'mediapipe', 'matplotlib', 'dask'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
