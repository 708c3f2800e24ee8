"""The plots: what they show, that they say what is missing, and that the same result gives the same bytes."""

from __future__ import annotations

import re
import subprocess
import sys
from math import inf, nan
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from bench.common.errors import BenchError
from bench.report import drawing, plots
from bench.report.clips import ClipValues, ResultFiles
from bench.report.drawing import Subject
from bench.results import CLIPS, RESULT, OutputInfo, Result
from prep import images
from tests.bench.report import folders
from tests.bench.report.factory import method

PSNR = OutputInfo(key="", label="PSNR", better="higher", unit="dB", decimals=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    return folders.write(tmp_path_factory.mktemp("results") / "one")


@pytest.fixture(scope="module")
def written(folder: tuple[Path, Result], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return plots.write_plots([folder], tmp_path_factory.mktemp("plots") / "new")


@pytest.fixture
def subject(folder: tuple[Path, Result]) -> Subject:
    return Subject(folder[1], PSNR, "full", "psnr.frame")


def _texts(path: Path) -> list[str]:
    tree = ElementTree.parse(path)
    return ["".join(element.itertext()) for element in tree.iter("{http://www.w3.org/2000/svg}text")]


def _drawn(canvas: drawing.Canvas) -> list[str]:
    return [text.get_text() for text in canvas.findobj(matplotlib.text.Text)]


def test_every_figure_has_its_plots_in_both_formats(written: list[Path]) -> None:
    names = [path.name for path in written]
    stems = [f"01-lrs2-reconstruction-psnr_frame-{region}" for region in ("full", "face")]
    kinds = {stems[0]: ("bars", "clips", "versus", "series"), stems[1]: ("bars", "clips", "versus")}
    for stem, found in kinds.items():
        assert [n for n in names if n.startswith(stem)] == [
            f"{stem}-{k}{s}" for k in found for s in (".svg", ".png")
        ]
    assert len([n for n in names if "lse_lrs_d-clip" in n]) == 6  # no values by frame were kept
    assert not any("lse_lrs_c" in n for n in names)  # never asked for
    assert sorted(p.name for p in written[0].parent.iterdir()) == sorted(names)


def test_svg_is_well_formed_with_real_text_and_png_has_the_same_shape(written: list[Path]) -> None:
    for path in written:
        if path.suffix != ".svg":
            continue
        root = ElementTree.parse(path).getroot()
        width, height = (float(root.attrib[side].removesuffix("pt")) for side in ("width", "height"))
        shape = images.decode(path.with_suffix(".png").read_bytes()).shape
        assert shape[1] / shape[0] == pytest.approx(width / height, rel=0.01)
        assert shape[1] == pytest.approx(width / 72 * 200, abs=1)
        assert _texts(path)


def test_names_stand_in_the_plot_as_they_are(written: list[Path]) -> None:
    bars = next(p for p in written if p.name.endswith("psnr_frame-full-bars.svg"))
    texts = _texts(bars)
    assert folders.NASTY in texts  # neither markup nor mathematics
    assert "Ground truth" in texts and "Still first frame" in texts


def test_what_has_no_value_is_said(written: list[Path]) -> None:
    psnr = _texts(next(p for p in written if p.name.endswith("psnr_frame-full-bars.svg")))
    assert "∞" in psnr and "∞: identical frames in every clip" in psnr
    assert "2/3" in psnr  # clips scored of clips asked for
    lse = _texts(next(p for p in written if p.name.endswith("lse_lrs_d-clip-bars.svg")))
    assert "n/a" in lse and f"no clip scored: {folders.NO_AUDIO} (3)" in lse
    frames = _texts(next(p for p in written if p.name.endswith("series.svg")))
    assert "3 frames without a value" in frames and "∞ on every frame" in frames
    assert "no values" in frames  # the clip that this method could not be scored on


def test_a_trivial_row_may_leave_the_scale_and_says_so(subject: Subject) -> None:
    lines = {
        "plain": np.array([30.0, 31.0]),
        "ground_truth": np.array([80.0, 80.0]),
        "still": np.array([30.5, 9.0]),
    }
    canvas = drawing.series(subject, "a/1", lambda: lines)
    assert canvas.axes[0].get_ylim()[1] < 32
    texts = [text for text in _drawn(canvas) if "scale" in text]
    assert texts == ["80.00, above the scale"]  # the still frame's line is partly seen


def test_same_result_same_bytes(folder: tuple[Path, Result], written: list[Path], tmp_path: Path) -> None:
    again = plots.write_plots([folder], tmp_path)
    assert [p.name for p in again] == [p.name for p in written]
    for first, second in zip(written, again, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name
    assert b"Matplotlib" not in b"".join(p.read_bytes() for p in again if p.suffix == ".png")
    assert not re.search(
        r"<dc:date>|20\d\d-\d\d-\d\d", "".join(p.read_text() for p in again if p.suffix == ".svg")
    )


def test_every_colour_has_a_dark_twin(written: list[Path]) -> None:
    for path in written:
        if path.suffix == ".svg":
            used = set(re.findall(r'style="[^"]*?(?:fill|stroke): (#[0-9a-f]{6})', path.read_text()))
            assert used and used <= set(plots._DARK), path.name


def test_neither_pyplot_nor_settings_are_touched(folder: tuple[Path, Result], tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
import matplotlib
from bench.report.plots import plots, svg
from bench.results import read_result
settings = lambda: {{k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}}  # asking imports it
before, path = settings(), Path({str(folder[0])!r})
svg(next(plots([(path, read_result(path))])))
assert settings() == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bars_start_at_zero_best_first_and_infinity_has_none(subject: Subject) -> None:
    canvas = drawing.bars(subject)
    left, right = canvas.axes
    assert [bar.get_width() for bar in left.patches] == pytest.approx([31.75, 30.0, 26.0, 21.0])
    assert {bar.get_x() for bar in left.patches} == {0.0} and left.get_xlim()[0] <= 0
    rows = [round(bar.get_y() + bar.get_height() / 2) for bar in left.patches]
    assert rows == [0, 1, 2, 4]  # row 3 is the ground truth, whose PSNR is infinite
    intervals = [line.get_xdata() for line in right.lines if len(set(line.get_ydata())) == 1]
    assert [30.0 * 0.95, 30.0 * 1.05] in [list(map(float, ends)) for ends in intervals]


def test_lower_is_better_turns_the_order(folder: tuple[Path, Result]) -> None:
    info = OutputInfo(key="d", label="LSE-D", better="lower", decimals=3)
    found = Subject(folder[1], info, "clip", "lse.lrs.d").figures
    assert [m.method for m, _ in found] == [folders.NASTY, "plain", "mute", "ground_truth", "still"]


def test_a_row_for_which_a_figure_is_not_defined_is_not_drawn(folder: tuple[Path, Result]) -> None:
    result = folder[1].model_copy(
        update={"methods": [*folder[1].methods, method("shifted", {}), method("new", {})]}
    )
    info = OutputInfo(key="", label="PSNR", better="higher", decimals=2)
    names = [m.method for m, _ in Subject(result, info, "full", "psnr.frame").figures]
    assert "shifted" not in names and "new" in names


def test_a_dot_for_every_clip_that_has_a_finite_value(folder: tuple[Path, Result], subject: Subject) -> None:
    values = ResultFiles(folder[0]).figure("psnr.frame", "full")
    assert values is not None
    dots = [np.asarray(c.get_offsets())[:, 0] for c in drawing.clips(subject, values).axes[0].collections]
    assert [sorted(d) for d in dots] == [
        [30.5, 33.0],
        [29.0, 30.0, 31.0],
        [25.0, 26.0, 27.0],
        [20.0, 21.0, 22.0],
    ]


def test_versus_counts_the_clips_that_both_have(folder: tuple[Path, Result], subject: Subject) -> None:
    values = ResultFiles(folder[0]).figure("psnr.frame", "full")
    assert values is not None
    assert plots.leaders(subject, values) == (folders.NASTY, "plain")
    canvas = drawing.versus(subject, values, folders.NASTY, "plain")
    assert np.asarray(canvas.axes[0].collections[0].get_offsets()).tolist() == [[30.0, 33.0], [31.0, 30.5]]
    assert any(text.endswith("is better: 1 of 2 clips.") for text in _drawn(canvas))
    assert canvas.axes[0].get_xlim() == canvas.axes[0].get_ylim()


def test_a_single_method_has_nobody_to_stand_against(tmp_path: Path) -> None:
    folder, result = folders.write(tmp_path / "r", folders.result(methods=["plain", "ground_truth"]))
    assert not any(plot.kind == "versus" for plot in plots.plots([(folder, result)]))


def test_hardest_clip_is_the_one_scored_worst_by_the_methods(folder: tuple[Path, Result]) -> None:
    result = folder[1]
    values = ClipValues(
        ["a", "b", "c", "d"], {"plain": np.array([3.0, 1.0, 2.0, nan]), "still": np.array([0, 9, 9, 0.0])}
    )
    everything = set("abcd")
    assert plots.hardest_clip(result, PSNR, values, everything) == "b"
    lower = PSNR.model_copy(update={"better": "lower"})
    assert plots.hardest_clip(result, lower, values, everything) == "a"
    assert plots.hardest_clip(result, PSNR, values, {"a", "c", "d"}) == "c"
    assert plots.hardest_clip(result, PSNR, values, {"d"}) is None
    nothing = ClipValues(["a"], {"plain": np.array([inf])})
    assert plots.hardest_clip(result, PSNR, nothing, {"a"}) is None


def test_a_summary_alone_gives_the_bars(folder: tuple[Path, Result], tmp_path: Path) -> None:
    alone = tmp_path / "lrs2.json"
    alone.write_bytes((folder[0] / RESULT).read_bytes())
    assert {plot.kind for plot in plots.plots([(alone, folder[1])])} == {"bars"}
    beside = list(plots.plots([(folder[0] / RESULT, folder[1])]))
    assert {plot.kind for plot in beside} == {"bars", "clips", "versus", "series"}


def test_file_names_are_plain_whatever_the_data_set_is_called(tmp_path: Path) -> None:
    result = folders.result(dataset="../weird name/ü", methods=["plain"])
    names = [
        plot.name for plot in plots.plots([(tmp_path / "nowhere", result), (tmp_path / "nowhere", result)])
    ]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_-]+", name) for name in names)


def test_a_broken_file_is_one_line_with_its_name(folder: tuple[Path, Result], tmp_path: Path) -> None:
    (tmp_path / CLIPS).write_bytes(b"PAR1 this is no parquet")
    with pytest.raises(BenchError, match=r"clips\.parquet cannot be read .*run `bench eval` again"):
        list(plots.plots([(tmp_path, folder[1])]))


def test_plots_that_cannot_be_written_are_one_line(folder: tuple[Path, Result], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match=r"cannot write .*file/plots: Not a directory; name a place"):
        plots.write_plots([folder], tmp_path / "file" / "plots")
    first = plots.write_plots([folder], tmp_path / "plots")[0]
    first.unlink()
    first.mkdir()
    with pytest.raises(BenchError, match=rf"cannot write .*{re.escape(first.name)}: Is a directory"):
        plots.write_plots([folder], tmp_path / "plots")
