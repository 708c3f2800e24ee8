"""Assembling: what shares a block, what is ranked, what is said below."""

from __future__ import annotations

import pytest

from bench.common.errors import BenchError
from bench.report.model import Block, Cell, Table
from bench.report.tables import build_table
from bench.results import Missing, Untagged
from prep.errors import PrepError
from tests.bench.report.factory import figure, method, result

INF = float("inf")


def cell(block: Block, name: str, column: str) -> Cell:
    (row,) = (row for row in block.rows if row.method == name)
    return row.cells[[c.id for c in block.columns].index(column)]


def notes(table: Table) -> list[str]:
    return [note.text for note in table.footnotes]


def note_of(table: Table, found: Cell) -> list[str]:
    return [note.text for note in table.footnotes if note.mark in found.footnotes]


def marks(block: Block, column: str) -> dict[str, str]:
    found = {row.method: cell(block, row.method, column) for row in block.rows}
    return {name: "best" if c.best else "second" for name, c in found.items() if c.best or c.second}


def test_without_results_a_papers_table_is_what_it_reports() -> None:
    table = build_table("iplap-table1")
    assert [(b.kind, b.dataset) for b in table.blocks] == [("reported", "lrs2"), ("reported", "lrs3")]
    block = table.blocks[0]
    assert cell(block, "ipl", "liplmd").text == "0.01293"
    assert [row.title for row in block.rows][-1] == "IP-LAP (ours)"
    assert marks(block, "syncscore") == {"pc_avs": "best", "ipl": "second"}
    assert any("Identity-Preserving Talking Face Generation" in note for note in notes(table))


def test_reported_figures_keep_the_digits_of_the_print() -> None:
    block = next(b for b in build_table("metatalk-table2").blocks if b.dataset == "audiodvp-C")
    assert cell(block, "makeittalk", "lse_c").text == "0.06"
    assert cell(block, "atvg", "ssim").text == "0.350"


def test_reported_ground_truth_is_not_ranked_and_gaps_are_n_a() -> None:
    lrs2, youtube = build_table("lipformer-table1").blocks
    assert cell(lrs2, "ground_truth", "psnr").text == "n/a"
    assert marks(lrs2, "ssim") == {"lipformer": "best", "synctalkface": "second"}
    assert [column.id for column in youtube.columns] == ["psnr", "ssim", "lmd"]
    assert cell(youtube, "synctalkface", "psnr").text == "n/a"


def test_what_a_paper_marks_does_not_matter() -> None:
    hdtf = build_table("g4g-table1").blocks[0]
    assert marks(hdtf, "psnr") == {"ipl": "best", "wav2lip": "second"}


def test_shares_of_ratings_are_not_ranked() -> None:
    (block,) = build_table("metatalk-table4").blocks
    assert marks(block, "rating_3") == {}
    assert marks(block, "mos_average") == {"metatalk": "best", "wav2lip": "second"}


def test_the_default_table_needs_a_result() -> None:
    with pytest.raises(BenchError, match="name a result folder"):
        build_table("default")


def test_an_unknown_region_is_refused() -> None:
    with pytest.raises(PrepError, match="did you mean mouth"):
        build_table("iplap-table1", [], "mouht")


def test_reported_and_measured_never_share_a_column() -> None:
    table = build_table("iplap-table1", [result([method("ipl", {"psnr.frame": 32.0})])])
    assert [block.kind for block in table.blocks] == ["reported", "reported", "measured"]
    reported = {column.id for block in table.blocks[:2] for column in block.columns}
    assert reported.isdisjoint(column.id for column in table.blocks[2].columns)


def test_measured_figures_have_interval_decimals_and_clips() -> None:
    table = build_table("default", [result([method("ipl", {"psnr.frame": 32.0, "ssim.wang11": 0.9})])])
    (block,) = table.blocks
    psnr = cell(block, "ipl", "psnr.frame")
    assert (psnr.text, psnr.interval, psnr.scored, psnr.asked) == ("32.00", "[30.40, 33.60]", 45, 45)
    assert cell(block, "ipl", "ssim.wang11").text == "0.9000"
    assert block.rows[0].clips == "45"
    assert [column.id for column in block.columns] == ["psnr.frame", "ssim.wang11"]
    assert any("fid.pytorch_fid, csim.arcface_aligned" in note for note in block.notes)


def test_a_metric_that_the_table_does_not_list_is_shown_where_it_was_asked_for() -> None:
    lost = Missing(metric="lpips.vgg", reason="not here")
    shown = [method("ipl", {"psnr.frame": 32.0, "mse": 0.25})]
    (block,) = build_table("default", [result(shown, missing=[lost])]).blocks
    assert [column.id for column in block.columns] == ["psnr.frame", "lpips.vgg", "mse"]
    assert cell(block, "ipl", "mse").value == 0.25
    assert any("mse" in note and note.startswith("Specifications") for note in block.notes)
    paper = build_table("iplap-table1", [result(shown)]).blocks[-1]
    assert "mse" not in [column.id for column in paper.columns]


def test_infinite_and_tiny_negative_values_are_printed_as_such() -> None:
    rows = [method("ground_truth", {"psnr.frame": INF, "fid.pytorch_fid": -1e-9})]
    (block,) = build_table("default", [result(rows)]).blocks
    assert cell(block, "ground_truth", "psnr.frame").text == "∞"
    assert cell(block, "ground_truth", "fid.pytorch_fid").text == "0.00"
    assert any(note.startswith("∞: every frame is identical") for note in block.notes)


def test_trivial_rows_come_first_and_are_not_ranked() -> None:
    rows = [
        method("a", {"psnr.frame": 30.0}),
        method("still", {"psnr.frame": 31.0}),
        method("b", {"psnr.frame": 29.0}),
        method("ground_truth", {"psnr.frame": INF}),
    ]
    (block,) = build_table("default", [result(rows)]).blocks
    assert [row.label for row in block.rows] == ["Ground truth", "Still first frame", "a", "b"]
    assert marks(block, "psnr.frame") == {"a": "best", "b": "second"}


def test_a_lone_method_is_not_the_best() -> None:
    rows = [method("a", {"psnr.frame": 30.0}), method("still", {"psnr.frame": 20.0})]
    (block,) = build_table("default", [result(rows)]).blocks
    assert marks(block, "psnr.frame") == {}


def test_ties_in_print_are_all_marked() -> None:
    values = {"a": 30.001, "b": 29.999, "c": 29.0, "d": 29.004, "e": 10.0}
    rows = [method(name, {"psnr.frame": value}) for name, value in values.items()]
    (block,) = build_table("default", [result(rows)]).blocks
    assert marks(block, "psnr.frame") == {"a": "best", "b": "best", "c": "second", "d": "second"}


def test_lower_is_better_where_the_metric_says_so() -> None:
    rows = [method("a", {"lpips.alex": 0.2}), method("b", {"lpips.alex": 0.1})]
    (block,) = build_table("default", [result(rows)]).blocks
    assert block.columns[0].header == "LPIPS ↓"
    assert marks(block, "lpips.alex") == {"b": "best", "a": "second"}


def test_videos_that_belong_to_no_clip_are_counted_and_named_below() -> None:
    mine = method("ipl", {"psnr.frame": 30.0}).model_copy(
        update={"videos": 6, "unmatched": ["a.mp4", "b.mp4"]}
    )
    table = build_table("default", [result([mine])])
    assert "Not scored: 2 of 6 videos of ipl have no clip among those to score: a.mp4, b.mp4." in notes(table)


def test_how_untagged_videos_were_decoded_stands_below() -> None:
    choice = Untagged(matrix="bt709", truth="bt709", as_truth=54.06, by_rule=38.94, clips=3)
    mine = method("ipl", {"psnr.frame": 30.0}).model_copy(update={"untagged": choice})
    (note,) = (note for note in notes(build_table("default", [result([mine])])) if "untagged" in note.lower())
    assert note == (
        "Untagged videos of ipl are decoded by BT.709, as their truth is tagged, not by BT.601: that agrees better "
        "with the colours of the truth (54.1 against 38.9 dB in the first 3 clips)."
    )
    other = choice.model_copy(update={"matrix": "bt601", "as_truth": 38.9, "by_rule": 54.1, "clips": 1})
    assert "decoded by BT.601, not by BT.709" in other.words("ipl")
    assert "(54.1 against 38.9 dB in the first clip)" in other.words("ipl")


def test_unequal_coverage_is_a_warning_and_stops_the_ranking() -> None:
    easy = figure("psnr.frame", 40.0, scored=40, failures={"no face": 3, "no such file": 2})
    rows = [
        method("a", [easy, figure("ssim.wang11", 0.8)]),
        method("b", {"psnr.frame": 30.0, "ssim.wang11": 0.9}),
    ]
    table = build_table("default", [result(rows)])
    (block,) = table.blocks
    assert block.warnings == ["unequal coverage in PSNR, so no best is marked: a 40/45; b 45/45"]
    assert marks(block, "psnr.frame") == {}
    assert marks(block, "ssim.wang11") == {"b": "best", "a": "second"}
    assert [row.clips for row in block.rows] == ["40–45/45", "45"]
    assert note_of(table, cell(block, "a", "psnr.frame")) == [
        "40 of 45 clips scored; the others: no face (3); no such file (2)"
    ]


def test_methods_scored_on_all_clips_are_ranked_without_the_others() -> None:
    rows = [
        method("easy", [figure("psnr.frame", 40.0, scored=40, failures={"no face": 5})]),
        method("a", {"psnr.frame": 31.0}),
        method("b", {"psnr.frame": 30.0}),
    ]
    (block,) = build_table("default", [result(rows)]).blocks
    assert block.warnings == [
        "unequal coverage in PSNR, only methods scored on all clips are ranked: easy 40/45; a 45/45; b 45/45"
    ]
    assert marks(block, "psnr.frame") == {"a": "best", "b": "second"}


def test_as_many_failures_for_other_reasons_are_other_clips() -> None:
    rows = [
        method("a", [figure("psnr.frame", 40.0, scored=44, failures={"no face": 1})]),
        method("b", [figure("psnr.frame", 30.0, scored=44, failures={"no such file": 1})]),
    ]
    (block,) = build_table("default", [result(rows)]).blocks
    assert len(block.warnings) == 1


def test_short_coverage_of_trivial_rows_does_not_stop_the_ranking() -> None:
    rows = [
        method("still", [figure("psnr.frame", 20.0, scored=44, failures={"one frame": 1})]),
        method("a", {"psnr.frame": 31.0}),
        method("b", {"psnr.frame": 30.0}),
    ]
    (block,) = build_table("default", [result(rows)]).blocks
    assert not block.warnings
    assert marks(block, "psnr.frame") == {"a": "best", "b": "second"}


def test_nothing_scored_is_n_a_with_the_reasons() -> None:
    rows = [method("a", [figure("psnr.frame", None, scored=0, failures={"no such file": 45})])]
    table = build_table("default", [result(rows)])
    found = cell(table.blocks[0], "a", "psnr.frame")
    assert (found.text, found.value) == ("n/a", None)
    assert note_of(table, found) == ["0 of 45 clips scored; the others: no such file (45)"]


def test_missing_weights_are_n_a_with_the_command() -> None:
    lost = Missing(metric="lse.lrs", reason="syncnet_v2 is not here", remedy="bench weights fetch syncnet_v2")
    table = build_table("default", [result([method("a", {"psnr.frame": 30.0})], missing=[lost])])
    (block,) = table.blocks
    assert [column.id for column in block.columns] == [
        "psnr.frame",
        "lse.lrs.d",
        "lse.lrs.c",
        "lse.lrs.abs_offset",
    ]
    assert block.columns[1].better == "lower"
    for name in ("lse.lrs.d", "lse.lrs.c"):
        assert note_of(table, cell(block, "a", name)) == [
            "lse.lrs: syncnet_v2 is not here; run: bench weights fetch syncnet_v2"
        ]


def test_a_papers_table_says_why_a_figure_is_absent() -> None:
    rows = [method("ipl", {"psnr.frame": 30.0, "ssim.wang11": 0.9}), method("wav2lip", {"psnr.frame": 29.0})]
    table = build_table("iplap-table1", [result(rows)])
    block = table.blocks[-1]
    assert [row.label for row in block.rows] == ["Wav2Lip", "IP-LAP"]
    assert note_of(table, cell(block, "ipl", "fid.pytorch_fid")) == [
        "fid.pytorch_fid: not among the metrics of this evaluation"
    ]
    assert note_of(table, cell(block, "wav2lip", "ssim.wang11")) == [
        "ssim.wang11: the evaluation has no figure of it for wav2lip"
    ]


def test_the_region_is_the_tables_unless_told_otherwise() -> None:
    rows = [method("lipformer", [figure("psnr.frame", 30.0), figure("psnr.frame", 25.0, region="face")])]
    found = [result(rows)]
    for region, text in ((None, "25.00"), ("full", "30.00"), ("mouth", "n/a")):
        table = build_table("lipformer-table1", found, region)
        psnr = cell(table.blocks[-1], "lipformer", "psnr.frame")
        assert psnr.text == text
    assert note_of(table, psnr) == ["psnr.frame: not evaluated in the region mouth"]


def test_metrics_without_regions_stand_under_every_region() -> None:
    rows = [method("a", {"lse.lrs.d": 7.0})]
    for region in ("full", "face"):
        (block,) = build_table("default", [result(rows)], region).blocks
        assert cell(block, "a", "lse.lrs.d").text == "7.000"


def test_lse_of_a_data_set_is_that_which_the_table_names() -> None:
    rows = [method("g4g", {"lse.tracked.d": 7.0, "lse.lrs.d": 9.0})]
    hdtf = build_table("g4g-table1", [result(rows, dataset="HDTF")]).blocks[-1]
    assert "lse.tracked.d" in [c.id for c in hdtf.columns] and "lse.lrs.d" not in [c.id for c in hdtf.columns]
    assert cell(hdtf, "g4g", "lse.tracked.d").text == "7.000"


def test_comparable_results_share_a_block() -> None:
    one = result([method("ground_truth", {"psnr.frame": INF}), method("a", {"psnr.frame": 30.0})])
    two = result([method("ground_truth", {"psnr.frame": INF}), method("b", {"psnr.frame": 31.0})])
    (block,) = build_table("default", [one, two]).blocks
    assert [row.method for row in block.rows] == ["ground_truth", "a", "b"]
    assert marks(block, "psnr.frame") == {"b": "best", "a": "second"}


def test_two_evaluations_of_the_same_videos_are_one_row() -> None:
    one = result([method("a", {"psnr.frame": 30.0}, source="out/a")])
    two = result([method("a", {"ssim.wang11": 0.9}, source="out/a")])
    (block,) = build_table("default", [one, two]).blocks
    (row,) = block.rows
    assert [found.text for found in row.cells] == ["30.00", "0.9000"]


@pytest.mark.parametrize(("source", "value"), [("out/b", 30.0), ("out/a", 31.0)])
def test_other_videos_or_figures_of_one_name_are_two_rows(source: str, value: float) -> None:
    one = result([method("a", {"psnr.frame": 30.0}, source="out/a")])
    two = result([method("a", {"psnr.frame": value}, source=source)])
    (block,) = build_table("default", [one, two]).blocks
    assert [row.label for row in block.rows] == ["a", "a (2)"]
    assert any(note.startswith("a (2): training data not told; videos in ") for note in block.notes)


def test_results_that_differ_stand_apart_and_the_table_says_why() -> None:
    one = result([method("a", {"psnr.frame": 30.0})])
    clips = result([method("b", {"psnr.frame": 31.0})], clips_sha256="e" * 64)
    spec = result([method("c", {"psnr.frame": 32.0})], spec_hash="ba9876543210")
    table = build_table("default", [one, clips, spec])
    assert [[row.method for row in block.rows] for block in table.blocks] == [["a"], ["b"], ["c"]]
    assert [block.title[:10] for block in table.blocks] == ["Measured 1", "Measured 2", "Measured 3"]
    apart = [note for note in notes(table) if "stand apart" in note]
    assert apart == [
        "Measured 1 and 2 stand apart, since they differ in clips: cccccccccccc and eeeeeeeeeeee.",
        "Measured 1 and 3 stand apart, since they differ in psnr.frame: another specification or other weights.",
    ]


def test_dubbing_fills_only_its_own_columns() -> None:
    driven = result([method("ipl", {"psnr.frame": 30.0})])
    dubbed = result([method("ipl", {"syncscore": 4.1})], protocol="dubbing")
    table = build_table("iplap-table1", [dubbed, driven])
    measured = [block for block in table.blocks if block.kind == "measured"]
    columns = {block.protocol: [column.id for column in block.columns] for block in measured}
    assert columns["dubbing"] == ["syncscore"]
    assert "syncscore" not in columns["reconstruction"] and "psnr.frame" in columns["reconstruction"]


def test_a_protocol_without_columns_is_said() -> None:
    dubbed = result([method("lipformer", {"syncscore": 4.1})], protocol="dubbing")
    table = build_table("lipformer-table1", [dubbed])
    assert {block.kind for block in table.blocks} == {"reported"}
    assert "LRS2, dubbing: this table has no column for that protocol." in notes(table)


def test_measured_blocks_follow_the_order_of_the_papers_data_sets() -> None:
    found = [result([method("ipl", {"psnr.frame": 30.0})], dataset=name) for name in ("toy", "lrs3", "lrs2")]
    table = build_table("iplap-table1", found)
    assert [b.dataset for b in table.blocks if b.kind == "measured"] == ["lrs2", "lrs3", "toy"]
    assert "toy is none of the paper's data sets (LRS2, LRS3)." in notes(table)


def test_user_studies_show_only_what_is_reported() -> None:
    table = build_table("iplap-table2", [result([method("ipl", {"psnr.frame": 30.0})])])
    assert {block.kind for block in table.blocks} == {"reported"}
    assert any(note.startswith("A user study") for note in notes(table))


def test_provenance_stands_below() -> None:
    rows = [method("a", {"lpips.alex": 0.1}, training_data="LRS2 train"), method("b", {"lpips.alex": 0.2})]
    (block,) = build_table("default", [result(rows)]).blocks
    text = " ".join(block.notes)
    for words in (
        "lrs2, split test, 45 clips (cccccccccccc), manifest aaaaaaaaaaaa",
        "reconstruction, scored with the sound of the prediction; region: full",
        "95 % intervals over clips. LPIPS: bootstrap",
        "lpips.alex 0123456789ab (weights alexnet ffffffffffff)",
        "a: training data LRS2 train",
        "b: training data not told",
        "Suite 0.1.0, commit dddddddddddd, seed 0",
    ):
        assert words in text
