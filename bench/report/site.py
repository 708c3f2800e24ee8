"""The leaderboard as a static page: one folder that can be opened from disk, without a network.

The page is complete without scripts; the script sorts, filters and saves the visible rows. Measured figures come from
:mod:`bench.report.measured` and reported ones from :mod:`bench.report.reported`, as in every other format.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from bench.common.errors import BenchError, writing
from bench.metrics import METRICS
from bench.report.definitions import Paper, load_papers, load_tables
from bench.report.drawing import REGION_WORDS, Subject, label
from bench.report.leaderboard import Place, boards_of, columns_of, lines_of, places_of, plain_data, why_apart
from bench.report.measured import comparable_groups
from bench.report.model import Footnote, Footnotes, Table
from bench.report.plots import plots, svg
from bench.report.previews import Picture, examples
from bench.report.tables import build_table
from bench.results import CLIP_REGION, MetricInfo, Result
from prep.detectors import words
from prep.shards import AtomicFile

#: List of the written files, so that the next page can remove those that it no longer shows.
_LIST = "assets/files.json"
_ASSETS = ("style.css", "leaderboard.js")
_COMMAND = "; run: "
#: Largest size in bytes of a video that is copied into the page.
MAX_VIDEO = 16 << 20
_TITLES = {"best": "Best clip", "worst": "Worst clip", "only": "Only clip", "alike": "Every clip alike"}


@dataclass(frozen=True)
class Still:
    """A picture on the page."""

    url: str
    width: int
    height: int
    words: str


@dataclass(frozen=True)
class Strip:
    """Some frames of one clip, the truth above, the method below, and the method's video with sound."""

    title: str
    clip_id: str
    value: str
    pairs: list[tuple[Still | None, Still]]
    video: str | None = None


@dataclass(frozen=True)
class Card:
    """The best and the worst clip of a method."""

    place: Place
    method: str
    kind: str
    ranked_by: str
    strips: list[Strip]


@dataclass(frozen=True)
class PlotImage:
    """A plot on the page."""

    place: Place
    output: str
    kind: str
    url: str
    caption: str


@dataclass(frozen=True)
class SiteSource:
    """One evaluation, for the provenance."""

    place: Place
    name: str
    result: Result


class _Folder:
    """The folder that is written. Each file is written once, even if used several times."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._written: set[str] = set()

    def add(self, name: str, data: bytes) -> str:
        """Write a file atomically; returns its relative URL in the page."""
        if name not in self._written:
            path = self.out / name
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with AtomicFile(path) as sink:
                    sink.write(data)
                    sink.commit()
            self._written.add(name)
        return name

    def clean(self) -> None:
        """Remove files that an earlier page wrote to this folder and this one does not use. Other files stay."""
        earlier = _listed(self.out / _LIST)
        self.add(_LIST, (json.dumps(sorted(self._written), indent=1) + "\n").encode())
        for name in earlier - self._written:
            with writing(self.out / name):
                (self.out / name).unlink(missing_ok=True)


def _listed(path: Path) -> set[str]:
    """Files below ``assets/`` in the list of an earlier page; empty if there is no readable list."""
    try:
        names = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return set()
    return {name for name in names if isinstance(name, str) and re.fullmatch(r"assets(/[\w-][\w.-]*)+", name)}


def write_site(results: list[tuple[Path, Result]], out: Path) -> Path:
    """Write the page and all its files.

    Args:
        results: the folder (or JSON file) of each result, and the result. A summary without Parquet files gives no
            images, and only the bars of the plots.
        out: folder; created if necessary. Files of the same name are replaced, unused files of an earlier page are
            removed, others stay.

    Returns:
        The page, ``index.html``; it is written last.

    Raises:
        BenchError: there are no results, a result holds an unknown metric, one of its Parquet files is damaged, or
            ``out`` cannot be written.
    """
    if not results:
        raise BenchError("there are no results to show; name a result folder of `bench eval`")
    folder = _Folder(out)
    environment = Environment(
        loader=PackageLoader("bench.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["identity"] = words
    environment.filters["remedy"] = _remedy
    environment.filters["breakable"] = _breakable
    environment.filters["region_words"] = lambda region: REGION_WORDS.get(region, region)
    environment.filters["compact_json"] = lambda data: json.dumps(data, sort_keys=True, ensure_ascii=False)
    for name in _ASSETS:
        folder.add(f"assets/{name}", (files("bench.report") / "page" / name).read_bytes())
    page = environment.get_template("index.html").render(_context(results, folder))
    index = out / folder.add("index.html", page.encode())
    folder.clean()
    return index


def _context(results: list[tuple[Path, Result]], folder: _Folder) -> dict[str, Any]:
    """All values for the template."""
    alone = [result for _, result in results]
    groups = comparable_groups(alone)
    places = places_of(groups)
    of_result = [
        places[i] for result in alone for i, group in enumerate(groups) if any(r is result for r in group)
    ]
    footnotes = Footnotes()
    boards = list(boards_of(groups, places, footnotes))
    columns = columns_of(boards)
    lines = list(lines_of(boards, columns))
    every = [line.place for line in lines]
    return {
        "datasets": list(dict.fromkeys(place.dataset for place in every)),
        "protocols": list(dict.fromkeys(place.protocol for place in every)),
        "regions": list(dict.fromkeys(place.region for place in every)),
        "columns": columns,
        "lines": lines,
        "boards": boards,
        "footnotes": footnotes.listed(),
        "apart": why_apart(groups, places),
        "cards": list(_cards(results, of_result, folder)),
        "drawings": list(_drawings(results, of_result, folder)),
        "papers": _papers(),
        "sources": [
            SiteSource(place, path.name, result)
            for place, (path, result) in zip(of_result, results, strict=True)
        ],
        "metrics": _metrics(alone),
        "data": plain_data(lines, columns),
        "counts": _counts(alone),
    }


def _counts(results: Sequence[Result]) -> dict[str, Any]:
    return {
        "methods": len({m.method for r in results for m in r.methods if m.kind == "method"}),
        "datasets": len({(r.data.name, r.data.split) for r in results}),
        "clips": sum(
            {(r.data.name, r.data.split, r.data.clips_sha256): r.data.clips for r in results}.values()
        ),
        "newest": max(r.provenance.created for r in results)[:10],
    }


def _cards(
    results: Sequence[tuple[Path, Result]], places: Sequence[Place], folder: _Folder
) -> Iterator[Card]:
    for (path, result), place in zip(results, places, strict=True):
        for found in examples(path, result):
            subject = Subject(result, found.info, found.region, found.output)
            name = label(found.method)
            strips = []
            for example in found.clips:
                value = f"{subject.text(example.value)} {found.info.unit}".rstrip()
                pairs = [
                    (
                        _shot(truth, f"truth, {example.clip_id}", folder) if truth else None,
                        _shot(mine, f"{name}, {example.clip_id}", folder),
                    )
                    for truth, mine in example.pairs
                ]
                video = (
                    _video(Path(found.method.source), example.clip_id, folder)
                    if found.method.source
                    else None
                )
                strips.append(Strip(_TITLES[example.which], example.clip_id, value, pairs, video))
            region = (
                "" if found.region == CLIP_REGION else f", {REGION_WORDS.get(found.region, found.region)}"
            )
            yield Card(place, name, found.method.kind, f"{subject.title}{region}", strips)


def _video(videos: Path, clip_id: str, folder: _Folder) -> str | None:
    """The URL of a method's video, copied into the page's folder; None if it is missing or too large."""
    path = videos if videos.suffix == ".mp4" else videos / f"{clip_id}.mp4"
    try:
        if path.stat().st_size > MAX_VIDEO:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    return folder.add(f"assets/videos/{hashlib.sha256(data).hexdigest()[:20]}.mp4", data)


def _shot(picture: Picture, words: str, folder: _Folder) -> Still:
    digest = hashlib.sha256(picture.jpeg).hexdigest()[:20]
    url = folder.add(f"assets/frames/{digest}.jpg", picture.jpeg)
    return Still(url, picture.width, picture.height, f"{words}, frame {picture.frame}")


def _drawings(
    results: Sequence[tuple[Path, Result]], places: Sequence[Place], folder: _Folder
) -> Iterator[PlotImage]:
    for plot in plots(results):
        place = Place(places[plot.result].dataset, places[plot.result].protocol, plot.region)
        url = folder.add(f"assets/plots/{plot.name}.svg", svg(plot))
        yield PlotImage(place, plot.output, plot.kind, url, plot.caption)


def _papers() -> list[tuple[Paper, list[Table]]]:
    """Every table of every paper, with its reported figures."""
    papers = load_papers()
    found: dict[str, list[Table]] = {}
    for name, definition in load_tables().items():
        if definition.paper:
            found.setdefault(definition.paper, []).append(build_table(name))
    return [(papers[paper], tables) for paper, tables in found.items()]


def _metrics(results: Sequence[Result]) -> list[MetricInfo]:
    """Every specification once, in the order of the registry."""
    found = {
        (metric.name, metric.spec_hash, *sorted(metric.weights.items())): metric
        for result in results
        for metric in result.metrics
    }
    order = list(METRICS)
    return sorted(found.values(), key=lambda metric: order.index(metric.name))


def _remedy(note: Footnote) -> tuple[str, str]:
    """A footnote's text, and the command at its end."""
    text, found, command = note.text.rpartition(_COMMAND)
    return (text, command) if found else (note.text, "")


def _breakable(name: str) -> Markup:
    """A name with possible line breaks after ``_`` and ``/``."""
    return Markup(re.sub("([_/])", r"\1<wbr>", str(escape(name))))
