"""The definitions of tables against the transcription and against the metrics."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bench.metrics import get_spec
from bench.report.definitions import (
    ABLATION,
    TableDef,
    get_table,
    load_papers,
    load_published,
    load_tables,
    variant_of,
)
from prep.errors import PrepError

OF_PAPERS = [name for name, table in load_tables().items() if table.paper]


def test_there_is_a_table_for_every_numeric_table_of_a_paper() -> None:
    expected = {
        f"{paper}-{number}" for paper, p in load_papers().items() for number, t in p.tables.items() if t.file
    }
    assert set(OF_PAPERS) == expected
    assert set(load_tables()) == expected | {"default"}


def test_the_suites_own_table_names_figures_as_their_specifications_do() -> None:
    for column in load_tables()["default"].columns:
        spec = get_spec(variant_of(column.output))
        (label,) = (output.label for output in spec.outputs if spec.id(output) == column.output)
        # A figure of another network than the usual one says so.
        assert column.label in (label, f"{label} (dlib)")


@pytest.mark.parametrize("name", OF_PAPERS)
def test_every_published_figure_has_its_place(name: str) -> None:
    table = load_tables()[name]
    assert name == f"{table.paper}-{table.table}"
    figures = load_published(table.paper, table.table)
    places = {
        (row.method, block.dataset, column.metric)
        for block in table.blocks
        for column in table.columns_of(block)
        for row in table.rows
    }
    assert set(figures) <= places
    for column in table.columns:
        assert any(metric == column.metric for _, _, metric in figures)
    for row in table.rows:
        assert any(method == row.method for method, _, _ in figures)


@pytest.mark.parametrize("name", OF_PAPERS)
def test_rows_stand_in_the_order_of_the_print(name: str) -> None:
    table = load_tables()[name]
    printed = list(dict.fromkeys(method for method, _, _ in load_published(table.paper, table.table)))
    assert [row.method for row in table.rows] == printed


@pytest.mark.parametrize("name", OF_PAPERS)
def test_protocols_and_decimals_are_those_of_the_print(name: str) -> None:
    table = load_tables()[name]
    for column in table.columns:
        found = [
            figure
            for (_, _, metric), figure in load_published(table.paper, table.table).items()
            if metric == column.metric
        ]
        assert {figure.protocol for figure in found} <= {column.protocol or table.protocol, ABLATION}
        assert max(len(figure.text.partition(".")[2]) for figure in found) == column.decimals


@pytest.mark.parametrize("name", list(load_tables()))
def test_our_figure_exists_and_goes_the_same_way(name: str) -> None:
    table = load_tables()[name]
    columns = [column for block in [*table.blocks, None] for column in table.columns_of(block)]
    for column in columns:
        if not column.output:
            continue
        spec = get_spec(variant_of(column.output))
        (output,) = (o for o in spec.outputs if spec.id(o) == column.output)
        better = column.better or load_papers()[table.paper].metrics[column.metric]
        assert output.better == better, column


def test_user_studies_have_no_figure_of_ours() -> None:
    studies = {name for name, table in load_tables().items() if not table.measurable}
    assert studies == {"iplap-table2", "g4g-table3", "metatalk-table4"}


def test_paired_metrics_are_not_asked_for_where_another_sound_drives_the_face() -> None:
    for table in load_tables().values():
        for column in table.columns:
            if column.output and (column.protocol or table.protocol) == "dubbing":
                assert not get_spec(variant_of(column.output)).paired


def test_lse_follows_the_videos() -> None:
    table = get_table("g4g-table1")
    hdtf, lrs2 = table.blocks
    assert [c.output for c in table.columns_of(hdtf)][-2:] == ["lse.tracked.d", "lse.tracked.c"]
    assert [c.output for c in table.columns_of(lrs2)][-2:] == ["lse.lrs.d", "lse.lrs.c"]


def test_an_unknown_table_names_the_nearest() -> None:
    with pytest.raises(PrepError, match=r"unknown table 'iplap-tabel1': did you mean iplap-table1\?"):
        get_table("iplap-tabel1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "colour"),
        ({"columns": [{"label": "PSNR", "output": "psnr.frames", "better": "higher"}]}, "psnr.frames"),
        ({"columns": [{"label": "PSNR", "output": "psnr.frame"}]}, "needs output and better"),
        ({"paper": "iplap", "protocol": "reconstruction"}, "needs metric, decimals and protocol"),
        ({"blocks": [{"dataset": "lrs2", "label": "LRS2", "metrics": ["fid"]}]}, "which are no columns"),
        ({"region": "nose"}, "region"),
    ],
)
def test_a_wrong_definition_is_refused(change: dict[str, object], message: str) -> None:
    good: dict[str, object] = {
        "title": "t",
        "columns": [{"label": "PSNR", "output": "psnr.frame", "better": "higher"}],
    }
    TableDef.model_validate(good)
    with pytest.raises(ValidationError, match=message):
        TableDef.model_validate({**good, **change})
