"""The transcription of the papers' tables: whole, typed, and what the papers say of it."""

from __future__ import annotations

import csv
from importlib.resources import files

import pytest

from bench.report.definitions import load_papers

FOLDER = files("leaderboards").joinpath("published")
TABLES = [
    (paper, number, table)
    for paper, described in load_papers().items()
    for number, table in described.tables.items()
    if table.file
]
PROTOCOLS = {"reconstruction", "dubbing", "ablation", "user-study"}


def rows(name: str) -> list[dict[str, str]]:
    with FOLDER.joinpath(name).open(encoding="utf-8", newline="") as lines:  # type: ignore[call-arg]
        return list(csv.DictReader(lines))


def test_every_numeric_table_of_the_four_papers_is_there() -> None:
    expected = {"lipformer": (1, 2, 3), "iplap": (1, 2, 3, 4, 5), "g4g": (1, 2, 3), "metatalk": (2, 3, 4)}
    assert {(paper, number) for paper, number, _ in TABLES} == {
        (paper, f"table{n}") for paper, numbers in expected.items() for n in numbers
    }


def test_every_csv_belongs_to_a_paper() -> None:
    assert {p.name for p in FOLDER.iterdir() if p.name.endswith(".csv")} == {t.file for _, _, t in TABLES}


@pytest.mark.parametrize(("paper", "number", "table"), TABLES)
def test_a_table_has_the_rows_that_papers_toml_says(paper: str, number: str, table: object) -> None:
    described = load_papers()[paper].tables[number]
    found = rows(described.file)
    assert len(found) == described.rows
    assert len({(r["method"], r["dataset"], r["protocol"], r["metric"]) for r in found}) == len(found)


@pytest.mark.parametrize(("paper", "number", "table"), TABLES)
def test_every_figure_is_a_number_of_a_known_metric(paper: str, number: str, table: object) -> None:
    described = load_papers()[paper]
    for row in rows(described.tables[number].file):
        assert float(row["value"]) >= 0, row
        assert row["metric"] in described.metrics, row
        assert row["protocol"] in PROTOCOLS, row
        assert row["n"] == "" or int(row["n"]) > 0, row


def test_user_study_shares_of_meta_talk_sum_to_100() -> None:
    found = rows("metatalk-table4.csv")
    for method in {row["method"] for row in found}:
        shares = [
            float(r["value"]) for r in found if r["method"] == method and r["metric"].startswith("rating_")
        ]
        assert len(shares) == 5
        assert sum(shares) == pytest.approx(100, abs=0.11)


def test_a_method_has_one_figure_wherever_a_paper_repeats_it() -> None:
    for paper, table, ablation in (("lipformer", 1, 3), ("iplap", 1, 4), ("g4g", 1, 2)):
        one, two = (
            {(r["method"], r["dataset"], r["metric"]): r["value"] for r in rows(f"{name}.csv")}
            for name in (f"{paper}-table{table}", f"{paper}-table{ablation}")
        )
        shared = one.keys() & two.keys()
        assert shared
        assert {key: one[key] for key in shared} == {key: two[key] for key in shared}


def test_the_papers_figures_spot_checked() -> None:
    def value(name: str, method: str, dataset: str, metric: str) -> str:
        (found,) = (
            r for r in rows(name) if (r["method"], r["dataset"], r["metric"]) == (method, dataset, metric)
        )
        return found["value"]

    assert value("lipformer-table1.csv", "wav2lip", "lrs2", "psnr") == "31.274"
    assert value("iplap-table1.csv", "wav2lip", "lrs2", "psnr") == "27.92"
    assert value("g4g-table1.csv", "wav2lip", "lrs2", "psnr") == "28.4655"
    assert value("iplap-table1.csv", "ipl", "lrs3", "liplmd") == "0.01353"
    assert value("metatalk-table2.csv", "makeittalk", "audiodvp-C", "lse_c") == "0.06"


def test_the_notes_name_no_file_that_is_not_here() -> None:
    for name in ("NOTES.md", "papers.toml"):
        text = FOLDER.joinpath(name).read_text("utf-8")
        assert ".txt" not in text
        assert "../" not in text
