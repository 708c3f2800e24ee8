"""The leaderboard page: its structure, and what it does in a browser."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.common.errors import BenchError
from bench.report import site as site_module
from bench.report.definitions import load_papers, load_tables
from bench.report.previews import examples
from bench.report.site import write_site
from bench.results import CLIPS, PREVIEWS, RESULT, Result
from prep import images
from tests.bench.report import folders
from tests.bench.report.browser import Browser

_VOID = {"meta", "link", "input", "img", "br", "wbr", "hr"}


class Element:
    """A node of the page."""

    def __init__(self, tag: str, attributes: dict[str, str | None], parent: Element | None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Element | str] = []

    def all(self, tag: str = "", **wanted: str) -> list[Element]:
        """Every element below of that tag, class (``of``) and attributes (``data_x`` for ``data-x``)."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if child._fits(tag, wanted):
                    found.append(child)
                found += child.all(tag, **wanted)
        return found

    def _fits(self, tag: str, wanted: dict[str, str]) -> bool:
        if tag and self.tag != tag:
            return False
        of = wanted.get("of")
        if of and of not in (self.attributes.get("class") or "").split():
            return False
        return all(self.attributes.get(k.replace("_", "-")) == v for k, v in wanted.items() if k != "of")

    @property
    def text(self) -> str:
        joined = "".join(child if isinstance(child, str) else child.text for child in self.children)
        return " ".join(joined.split())


class Page(HTMLParser):
    """Reads a page strictly: every element is closed, in order."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self._at = Element("", {}, None)
        self.feed(path.read_text("utf-8"))
        self.close()
        assert self._at is self.root, f"<{self._at.tag}> is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice: {attrs}"
        element = Element(tag, dict(attrs), self._at)
        self._at.children.append(element)
        if tag not in _VOID:
            self._at = element

    def handle_endtag(self, tag: str) -> None:
        assert tag == self._at.tag, f"</{tag}> closes <{self._at.tag}>"
        assert self._at.parent is not None
        self._at = self._at.parent

    def handle_data(self, data: str) -> None:
        self._at.children.append(data)


Results = list[tuple[Path, Result]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    base = tmp_path_factory.mktemp("results")
    return [
        folders.write(base / "one"),
        folders.write(base / "two", folders.result("hdtf", methods=["plain", "mute", "ground_truth"])),
    ]


@pytest.fixture(scope="module")
def site(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_site(results, tmp_path_factory.mktemp("site") / "new")


@pytest.fixture(scope="module")
def page(site: Path) -> Element:
    return Page(site).root


def _board(page: Element) -> Element:
    (board,) = page.all("table", id="board")
    return board


def _row(page: Element, method: str, dataset: str = "lrs2 test", region: str = "full") -> dict[str, Element]:
    """Column → cell of one row of the leaderboard."""
    heads = [th.attributes.get("data-column") or "" for th in _board(page).all("thead")[0].all("th")]
    rows = _board(page).all("tr", data_dataset=dataset, data_region=region)
    (row,) = [row for row in rows if row.all("th")[0].attributes["data-value"] == method]
    cells = [child for child in row.children if isinstance(child, Element)]
    return dict(zip(heads[::-1], cells[::-1], strict=True))  # the first of the columns that are no figures


# -- structure


def test_ids_are_unique_and_every_link_leads_somewhere(page: Element, site: Path) -> None:
    ids = Counter(e.attributes["id"] for e in page.all() if "id" in e.attributes)
    assert set(ids.values()) == {1}
    for element in page.all():
        for name in ("href", "src"):
            target = element.attributes.get(name)
            if target is None:
                continue
            if target.startswith("#"):
                assert target[1:] in ids, target
            elif target.startswith("https://arxiv.org/"):
                assert element.tag == "a"  # nothing is loaded from there
            else:
                assert (site.parent / target).is_file(), target
        for name in ("aria-labelledby",):
            assert element.attributes.get(name) is None or element.attributes[name] in ids


def test_nothing_runs_or_loads_from_within_the_markup(page: Element, site: Path) -> None:
    for element in page.all():
        assert not [name for name in element.attributes if name.startswith("on") or name == "style"]
    scripts = {e.attributes.get("src") or e.attributes.get("type") for e in page.all("script")}
    assert scripts == {"assets/leaderboard.js", "application/json"}
    style = (site.parent / "assets" / "style.css").read_text()
    assert "@import" not in style and "url(" not in style


def test_rows_and_heads_have_the_same_columns(page: Element) -> None:
    for table in page.all("table"):
        heads = len(table.all("thead")[0].all("th"))
        for row in table.all("tbody")[0].all("tr"):
            cells = [e for e in row.children if isinstance(e, Element)]
            assert sum(int(cell.attributes.get("colspan") or 1) for cell in cells) == heads
    assert all(image.attributes.get("alt") for image in page.all("img"))


def test_names_are_text_and_never_markup(page: Element, site: Path) -> None:
    assert "<b>&amp; $x" not in site.read_text()
    assert _row(page, folders.NASTY)["psnr.frame"].text  # found by its name, which the parser has unescaped
    assert any(card.text == folders.NASTY for card in page.all("h3"))


def test_the_data_holds_every_digit_and_cannot_end_its_script(page: Element, site: Path) -> None:
    (script,) = page.all("script", type="application/json")
    (text,) = script.children
    assert isinstance(text, str) and "<" not in text
    data: dict[str, Any] = json.loads(text)
    at = [column["id"] for column in data["columns"]].index("psnr.frame")
    values = {(r["dataset"], r["region"], r["method"]): r["cells"][at] for r in data["rows"]}
    assert values["lrs2 test", "full", folders.NASTY] == [31.75, 31.75 * 0.95, 31.75 * 1.05, 2, 3]
    assert values["lrs2 test", "full", "ground_truth"][0] == "inf"


def test_cells_say_value_interval_and_coverage(page: Element) -> None:
    row = _row(page, folders.NASTY)
    psnr = row["psnr.frame"]
    assert psnr.all("span", of="value")[0].text == "31.75"
    assert psnr.all("small", of="interval")[0].text == "[30.16, 33.34]"
    assert psnr.all("small", of="short")[0].text == "2/3"
    assert psnr.attributes["data-value"] == "31.75"
    assert "2 of 3 clips" in (psnr.attributes["title"] or "")
    truth = _row(page, "Ground truth")["psnr.frame"]
    assert (truth.text, truth.attributes["data-value"]) == ("∞", "inf")


def test_the_best_are_marked_among_methods_scored_on_the_same_clips(page: Element) -> None:
    marked = {
        m: _row(page, m, "hdtf test")["psnr.frame"].attributes["class"]
        for m in ("plain", "mute", "Ground truth")
    }
    assert marked == {"plain": "figure best", "mute": "figure second", "Ground truth": "figure"}
    # Here one method failed on a clip: it is not ranked, the others are.
    marked = {m: _row(page, m)["psnr.frame"].attributes["class"] for m in ("plain", "mute", folders.NASTY)}
    assert marked == {"plain": "figure best", "mute": "figure second", folders.NASTY: "figure"}
    (warning,) = page.all("details", of="warning", data_dataset="lrs2 test", data_region="full")
    assert "unequal coverage in PSNR" in warning.text


def test_a_missing_metric_has_its_column_its_reason_and_its_command(page: Element) -> None:
    cell = _row(page, "plain")["lpips.alex"]
    assert cell.attributes["data-value"] == "" and cell.text.startswith("n/a")
    mark = cell.all("sup")[0].text
    (note,) = page.all("li", data_mark=mark)
    assert "lpips.alex: alexnet is not here" in note.text
    assert note.all("code")[0].text == "bench weights fetch alexnet"


def test_a_clip_that_failed_is_explained(page: Element) -> None:
    cell = _row(page, "mute")["lse.lrs.d"]
    (note,) = page.all("li", data_mark=cell.all("sup")[0].text)
    assert note.text.endswith(f"0 of 3 clips scored; the others: {folders.NO_AUDIO} (3)")


def test_trivial_rows_are_marked_and_come_last(page: Element) -> None:
    rows = _board(page).all("tr", data_dataset="lrs2 test", data_region="full")
    assert [row.attributes["data-kind"] for row in rows] == ["method"] * 3 + ["trivial"] * 2
    assert [len(row.all("span", of="tag")) for row in rows] == [0, 0, 0, 1, 1]


def test_reported_figures_stand_apart_from_measured_ones(page: Element) -> None:
    (reported,) = page.all("section", id="reported")
    assert [h.text for h in reported.all("h3")] == [p.title for p in load_papers().values()]
    titles = [summary.text for summary in reported.all("summary") if "Table" in summary.text]
    assert titles == [table.title for table in load_tables().values() if table.paper]
    assert any(cell.text == "31.274" for cell in reported.all("td"))  # Wav2Lip's PSNR in LipFormer's Table 1
    assert not any(cell.text == "31.274" for cell in _board(page).all("td"))
    assert {
        row.attributes.get("data-dataset") for row in _board(page).all("tr") if "data-row" in row.attributes
    } == {
        "lrs2 test",
        "hdtf test",
    }


def test_provenance_is_told(page: Element, results: Results) -> None:
    (section,) = page.all("section", id="provenance")
    for _, result in results:
        p = result.provenance
        for fact in (
            p.git_commit,
            result.data.manifest_sha256,
            result.data.clips_sha256,
            p.created,
            "numpy 1.26.4",
        ):
            assert fact in section.text
    assert "0123456789ab" in section.text  # the specification


# -- pictures


def test_best_and_worst_clip_beside_the_truth(page: Element, site: Path) -> None:
    (card,) = page.all("article", of="card", data_dataset="lrs2 test", data_method="plain")
    assert [strip.text for strip in card.all("figcaption")] == [
        "Best clip 31.00 dB a/2",
        "Worst clip 29.00 dB a/3",
    ]
    for strip, clip in zip(card.all("figure"), ("a/2", "a/3"), strict=True):
        shown = [(site.parent / str(img.attributes["src"])).read_bytes() for img in strip.all("img")]
        wanted = [folders.picture(who, clip, frame) for frame in (2, 12) for who in ("truth", "plain")]
        assert shown == wanted
    assert not page.all("article", data_method="Ground truth")  # it is the truth


def test_videos_that_are_still_there_are_on_the_page(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, result = results[0]
    for clip, size in (("a/2", 10), ("a/3", 200)):
        (tmp_path / "videos" / clip).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / f"{clip}.mp4").write_bytes(bytes(range(size)))
    methods = [
        m.model_copy(update={"source": str(tmp_path / "videos") if m.method == "plain" else "gone"})
        for m in result.methods
    ]
    monkeypatch.setattr(site_module, "MAX_VIDEO", 100)
    made = write_site([(path, result.model_copy(update={"methods": methods}))], tmp_path / "site")
    (video,) = Page(made).root.all("video")
    assert video.attributes["aria-label"] == "plain, a/2"
    assert (made.parent / str(video.attributes["src"])).read_bytes() == bytes(range(10))


def test_clips_are_ranked_by_the_first_figure_that_a_method_has(results: Results, tmp_path: Path) -> None:
    path, result = results[0]
    found = {e.method.method: e for e in examples(path, result)}
    assert list(found) == ["plain", folders.NASTY, "mute", "still"]
    assert {(e.output, e.region) for e in found.values()} == {("psnr.frame", "full")}
    assert [(c.which, c.clip_id) for c in found[folders.NASTY].clips] == [("best", "a/1"), ("worst", "a/2")]
    dubbed = result.model_copy(update={"metrics": [m for m in result.metrics if m.name == "lse.lrs"]})
    found = {e.method.method: e for e in examples(path, dubbed)}
    assert list(found) == ["plain", folders.NASTY, "still"]  # the mute one has no value
    assert [(c.which, c.clip_id, c.value) for c in found["plain"].clips] == [
        ("best", "a/2", 7.0),
        ("worst", "a/3", 9.0),
    ]


def test_one_clip_and_equal_clips_are_shown_once(results: Results, tmp_path: Path) -> None:
    folder, result = results[0][0], results[0][1].model_copy(deep=True)
    result.methods = [
        m.model_copy(update={"method": name})
        for m, name in zip(result.methods, ("one", "even"), strict=False)
    ]
    values = [("one", "a/1", 7.0), ("one", "a/2", None), ("even", "a/1", 5.0), ("even", "a/2", 5.0)]
    rows = [
        {"method": m, "clip_id": c, "region": "full", "output": "psnr.frame", "value": v}
        for m, c, v in values
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / CLIPS)
    shown = pq.read_table(folder / PREVIEWS).to_pylist()
    shown = [
        {**row, "method": {"plain": "one", "mute": "even"}.get(row["method"], row["method"])} for row in shown
    ]
    pq.write_table(pa.Table.from_pylist(shown), tmp_path / PREVIEWS)
    found = {e.method.method: [(c.which, c.clip_id) for c in e.clips] for e in examples(tmp_path, result)}
    assert found == {"one": [("only", "a/1")], "even": [("alike", "a/1")]}


def test_a_result_without_pictures_or_clips_still_has_its_page(results: Results, tmp_path: Path) -> None:
    alone = tmp_path / "summary.json"
    alone.write_bytes((results[0][0] / RESULT).read_bytes())
    page = Page(write_site([(alone, results[0][1])], tmp_path / "site")).root
    assert not page.all("article", of="card")
    assert {"plot bars"} == {plot.attributes["class"] for plot in page.all("figure", of="plot")}
    assert _row(page, "plain")["psnr.frame"].text.startswith("30.00")


# -- other results


def test_results_that_do_not_compare_are_told_apart(results: Results, tmp_path: Path) -> None:
    other = folders.result(clips_sha256="d" * 64, methods=["plain", "mute"])
    page = Page(write_site([results[0], (tmp_path / "nowhere", other)], tmp_path / "site")).root
    (select,) = page.all("select", name="dataset")
    assert [option.text for option in select.all("option")] == ["lrs2 test", "lrs2 test (2)", "all"]
    assert _row(page, "mute", "lrs2 test (2)")["psnr.frame"].attributes["class"] == "figure second"
    (legend,) = page.all("ul", of="legend")
    assert f"lrs2 test and lrs2 test (2) differ in clips: {'c' * 12} and {'d' * 12}." in legend.text


def test_training_data_is_that_of_the_board(results: Results, tmp_path: Path) -> None:
    other = folders.result("hdtf", methods=["plain", "mute"])
    other.methods[0].training_data = "HDTF <all>"
    page = Page(write_site([results[0], (tmp_path / "nowhere", other)], tmp_path / "site")).root
    assert _row(page, "plain")[""].all("small")[0].text == "trained on LRS2"
    assert _row(page, "plain", "hdtf test")[""].all("small")[0].text == "trained on HDTF <all>"


def test_trivial_rows_alone_make_a_page(tmp_path: Path) -> None:
    found = folders.write(tmp_path / "r", folders.result(methods=["ground_truth", "still"]))
    page = Page(write_site([found], tmp_path / "site")).root
    assert {
        row.attributes["data-kind"] for row in _board(page).all("tr") if "data-row" in row.attributes
    } == {"trivial"}
    assert [card.attributes["data-method"] for card in page.all("article", of="card")] == [
        "Still first frame"
    ]


def test_the_same_results_give_the_same_page(results: Results, site: Path, tmp_path: Path) -> None:
    again = write_site(results, tmp_path)
    files = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(site.parent) for p in site.parent.rglob("*") if p.is_file())
    assert all((tmp_path / f).read_bytes() == (site.parent / f).read_bytes() for f in files)
    assert again.read_bytes() == site.read_bytes()


def test_a_new_page_removes_what_only_the_earlier_one_showed(results: Results, tmp_path: Path) -> None:
    def frames() -> set[str]:
        return {path.name for path in (tmp_path / "assets" / "frames").iterdir()}

    write_site(results, tmp_path)
    before = frames()
    kept = [tmp_path / "assets" / "frames" / "mine.jpg", tmp_path / "CNAME"]
    for path in kept:
        path.write_text("not the page's")
    write_site(results[1:], tmp_path)
    after = frames() - {"mine.jpg"}
    assert after < before and all(path.is_file() for path in kept)
    shown = Page(tmp_path / "index.html").root
    assert {(i.attributes["src"] or "").split("/")[-1] for i in shown.all("img")} >= after


def test_a_list_of_files_that_leads_elsewhere_removes_nothing(results: Results, tmp_path: Path) -> None:
    outside = tmp_path / "thesis.tex"
    outside.write_text("years of work")
    (tmp_path / "site" / "assets").mkdir(parents=True)
    listed = ["../thesis.tex", "assets/../../thesis.tex", str(outside), 3]
    (tmp_path / "site" / "assets" / "files.json").write_text(json.dumps(listed))
    write_site(results, tmp_path / "site")
    assert outside.read_text() == "years of work"


def test_bad_input_is_one_line(results: Results, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no results to show; name a result folder"):
        write_site([], tmp_path)
    strange = results[0][1].model_copy(deep=True)
    strange.metrics[0].name = "beauty.golden"
    with pytest.raises(BenchError, match=r"another version of this suite .*beauty\.golden"):
        write_site([(tmp_path, strange)], tmp_path / "a")
    folder, result = folders.write(tmp_path / "broken")
    (folder / PREVIEWS).write_bytes(b"no parquet")
    with pytest.raises(BenchError, match=r"previews\.parquet cannot be read"):
        write_site([(folder, result)], tmp_path / "b")
    assert not (tmp_path / "b" / "index.html").exists()
    (tmp_path / "file").touch()
    with pytest.raises(
        BenchError, match=r"cannot write .*file/site/assets/style\.css: Not a directory; name a place"
    ):
        write_site(results, tmp_path / "file" / "site")


# -- in a browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser, site: Path) -> Iterator[Browser]:
    """A freshly loaded page; whatever a test does, nothing is complained of and nothing asked of the network."""
    chromium.errors.clear()
    chromium.open(site)
    yield chromium
    assert chromium.errors == []


_ROWS = "[...document.querySelectorAll('#board tbody tr[data-row]')].filter(r => !r.hidden)"


def _names(browser: Browser) -> list[str]:
    names: list[str] = browser.run(f"{_ROWS}.map(r => r.cells[0].dataset.value)")
    return names


def _sort(browser: Browser, column: str = "psnr.frame") -> str:
    sort: str = browser.run(f"document.querySelector(\"[data-column='{column}']\").getAttribute('aria-sort')")
    return sort


def test_a_click_sorts_and_a_second_one_reverses(browser: Browser) -> None:
    assert _sort(browser) == "none"
    button = "[data-column='psnr.frame'] button"
    browser.click(button)
    assert _sort(browser) == "descending"  # higher is better, and the best comes first
    assert _names(browser) == ["Ground truth", folders.NASTY, "plain", "mute", "Still first frame"]
    browser.click(button)
    assert _sort(browser) == "ascending"
    assert _names(browser) == ["Still first frame", "mute", "plain", folders.NASTY, "Ground truth"]
    browser.click("th.name button")
    assert _sort(browser) == "none"
    assert _names(browser) == sorted(_names(browser), key=str.lower)


def test_what_has_no_value_is_last_both_ways(browser: Browser) -> None:
    button = "[data-column='lse.lrs.d'] button"
    browser.click(button)
    assert _sort(browser, "lse.lrs.d") == "ascending"  # lower is better
    assert _names(browser) == ["Ground truth", folders.NASTY, "plain", "Still first frame", "mute"]
    browser.click(button)
    assert _names(browser) == ["Still first frame", "plain", folders.NASTY, "Ground truth", "mute"]


def test_the_keyboard_sorts(browser: Browser) -> None:
    browser.run("document.querySelector('th.name button').focus()")
    browser.press("Tab")
    assert browser.run("document.activeElement.closest('th').dataset.column") == "psnr.frame"
    browser.press("Enter")
    assert _sort(browser) == "descending"
    browser.press(" ")
    assert _sort(browser) == "ascending"


def test_filters_by_place(browser: Browser) -> None:
    assert len(_names(browser)) == 5
    assert browser.run("document.querySelector('[data-where=dataset]').hidden")
    browser.choose("[name=dataset]", "hdtf test")
    assert _names(browser) == ["plain", "mute", "Ground truth"]
    value = f"{_ROWS}[0].querySelectorAll('.value')[0].textContent"
    assert browser.run(value) == "30.00"
    browser.choose("[name=region]", "face")
    assert browser.run(value) == "26.00"
    browser.choose("[name=dataset]", "")
    assert len(_names(browser)) == 8
    assert not browser.run("document.querySelector('[data-where=dataset]').hidden")
    assert "do not compare" in browser.run("document.getElementById('status').textContent")


def test_filters_by_name_and_kind(browser: Browser) -> None:
    browser.click("[name=trivial]")
    assert _names(browser) == ["plain", folders.NASTY, "mute"]
    browser.click("[name=method]")
    browser.write("MUT")
    assert _names(browser) == ["mute"]
    assert browser.run("[...document.querySelectorAll('article.card')].filter(c => !c.hidden).length") == 1
    browser.write("zzz")
    assert _names(browser) == []
    assert not browser.run("document.getElementById('nothing').hidden")


def test_intervals_can_be_put_away(browser: Browser) -> None:
    shown = "document.querySelector('small.interval').checkVisibility()"
    assert browser.run(shown)
    browser.click("[name=intervals]")
    assert not browser.run(shown)


def test_plots_follow_the_figure_and_the_place(browser: Browser) -> None:
    shown = (
        "[...document.querySelectorAll('figure.plot')].filter(p => !p.hidden)"
        ".map(p => p.querySelector('img').src.split('/').pop())"
    )
    stem = "01-lrs2-reconstruction-psnr_frame-full"
    assert browser.run(shown) == [f"{stem}-{kind}.svg" for kind in ("bars", "clips", "versus", "series")]
    browser.choose("[name=output]", "lse.lrs.d")
    browser.choose("[name=dataset]", "hdtf test")
    assert browser.run(shown) == [
        f"02-hdtf-reconstruction-lse_lrs_d-clip-{kind}.svg" for kind in ("bars", "clips")
    ]
    loaded = "document.querySelector('figure.plot:not([hidden]) img').decode().then(() => 'drawn')"
    assert browser.run(loaded) == "drawn"


def test_saves_what_is_seen_with_all_digits(browser: Browser) -> None:
    browser.click("[name=trivial]")
    browser.run("URL.createObjectURL = (blob) => { window.saved = blob; return '#saved'; }")
    browser.click("#save")
    head, *rows = browser.run("window.saved.text()").splitlines()
    assert head.startswith("method,kind,dataset,protocol,region,psnr.frame,psnr.frame.low")
    assert [row.partition(",")[0] for row in rows] == ["plain", folders.NASTY, "mute"]
    cells = rows[1].split(",")
    assert cells[:5] == [folders.NASTY, "method", "lrs2 test", "reconstruction", "full"]
    assert cells[5:10] == ["31.75", str(31.75 * 0.95), str(31.75 * 1.05), "2", "3"]


def test_without_scripts_everything_is_there(chromium: Browser, site: Path) -> None:
    chromium.open(site, scripts=False)
    assert len(_names(chromium)) == 5 * 2 + 3 * 2
    assert not chromium.run("document.getElementById('filters').checkVisibility()")
    assert chromium.run("document.querySelector('[data-where=region]').checkVisibility()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_fits_the_window_in_both_schemes(
    chromium: Browser, site: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    chromium.errors.clear()
    chromium.open(site, width, 844, scheme)
    assert chromium.run("document.documentElement.scrollWidth") == width
    picture = images.decode(chromium.screenshot(tmp_path / "page.png").read_bytes())
    assert picture.shape == (844, width, 3)
    corner = picture[:4, :4].mean()
    assert corner > 230 if scheme == "light" else corner < 40
    assert np.ptp(picture) > 150  # something is written on it
    assert chromium.errors == []
