"""Plots of results, as SVG and PNG: the list of plots, and writing them.

The same result gives the same bytes with the same version of Matplotlib. The SVG uses the reader's dark or light mode.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from bench.common.errors import writing
from bench.report import drawing
from bench.report.clips import ClipValues, ResultFiles
from bench.report.drawing import Subject
from bench.results import CLIP_REGION, OutputInfo, Result
from prep.shards import AtomicFile

Kind = Literal["bars", "clips", "versus", "series"]

_PNG_DPI = 200
_DARK = {
    drawing.PAPER: "#171b1f",
    drawing.INK: "#e4e8ec",
    drawing.MUTED: "#98a2ac",
    drawing.FAINT: "#2b3238",
    drawing.BLUE: "#6ea8e0",
    drawing.GREY: "#77818b",
    drawing.PALE: "#323a41",
}
# Text elements in the reader's font: files are smaller, and text can be searched and copied.
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_SVG_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "talking-face-bench"}


@dataclass(frozen=True)
class Plot:
    """A plot that can be drawn.

    Attributes:
        kind: ``bars`` over methods, ``clips`` by method, ``versus``: one method against another, ``series``: over
            the frames of a clip.
        result: index of the result.
        region: of the figure.
        output: id of the figure.
        name: stem of its file, the same on each run.
        caption: one line that describes the plot.
        draw: draws it.
    """

    kind: Kind
    result: int
    region: str
    output: str
    name: str
    caption: str
    draw: Callable[[], Canvas]


def write_plots(results: list[tuple[Path, Result]], out: Path) -> list[Path]:
    """Write every plot of some results, as SVG and as PNG.

    Args:
        results: the folder (or JSON file) of each result, and the result. A summary without Parquet files gives only
            the bars.
        out: folder; created if necessary.

    Returns:
        The files, in the order of results, figures and regions.

    Raises:
        BenchError: a result's Parquet file is damaged, or ``out`` cannot be written.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    written = []
    for plot in plots(results):
        for suffix, render in ((".svg", svg), (".png", png)):
            path = out / f"{plot.name}{suffix}"
            image = render(plot)
            with writing(path), AtomicFile(path) as sink:
                sink.write(image)
                sink.commit()
            written.append(path)
    return written


def plots(results: Sequence[tuple[Path, Result]]) -> Iterator[Plot]:
    """All possible plots: for every figure and region the bars, and the other plots if values per clip or per frame are
    stored."""
    for index, (path, result) in enumerate(results):
        files = ResultFiles(path)
        for metric in result.metrics:
            for info in metric.outputs:
                output = f"{metric.name}.{info.key}" if info.key else metric.name
                for region in _regions(result, output):
                    yield from _of_figure(index, Subject(result, info, region, output), files)


def svg(plot: Plot) -> bytes:
    """The plot as SVG."""
    with matplotlib.rc_context({**drawing.STYLE, **_SVG_STYLE}):
        sink = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Title": plot.caption}
        FigureCanvasSVG(plot.draw()).print_svg(sink, metadata=metadata)
    text = re.sub(r"'DejaVu Sans'(, sans-serif)?", _FONTS, sink.getvalue())
    rules = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in _DARK.items()
        for what in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
    return text.replace("<defs>", f"{style}\n <defs>", 1).encode()


def png(plot: Plot) -> bytes:
    """The plot as PNG, 200 dpi."""
    with matplotlib.rc_context(drawing.STYLE):
        canvas = FigureCanvasAgg(plot.draw())
        canvas.figure.set_dpi(_PNG_DPI)
        sink = io.BytesIO()
        canvas.print_png(sink, metadata={"Software": None})
    return sink.getvalue()


def _regions(result: Result, output: str) -> list[str]:
    """The regions in which the figure was requested for any method, in the result's order."""
    found = {figure.region for m in result.methods for figure in m.figures if figure.output == output}
    return [region for region in (*result.regions, CLIP_REGION) if region in found]


def _of_figure(index: int, subject: Subject, files: ResultFiles) -> Iterator[Plot]:
    def plot(kind: Kind, caption: str, draw: Callable[..., Canvas], *arguments: object) -> Plot:
        return Plot(
            kind,
            index,
            subject.region,
            subject.output,
            _file_name(index, subject, kind),
            f"{subject.info.label} {caption} ({subject.where})",
            partial(draw, subject, *arguments),
        )

    yield plot("bars", "of every method, with 95 % intervals", drawing.bars)
    values = files.figure(subject.output, subject.region)
    if values is None:
        return
    yield plot("clips", "of every clip, by method", drawing.clips, values)
    pair = leaders(subject, values)
    if pair:
        yield plot("versus", f"of every clip, {pair[0]} against {pair[1]}", drawing.versus, values, *pair)
    kept = files.clips_with_series(subject.output, subject.region)
    clip = hardest_clip(subject.result, subject.info, values, kept)
    if clip:
        load = partial(files.series, clip, subject.output, subject.region)
        yield plot("series", f"over the frames of clip {clip}", drawing.series, clip, load)


def _file_name(index: int, subject: Subject, kind: Kind) -> str:
    """A readable and safe file name for any name of a data set; results of one data set differ by their number."""
    parts = [subject.result.data.name, subject.result.protocol, subject.output, subject.region]
    plain = "-".join(re.sub(r"[^a-z0-9]+", "_", part.lower()).strip("_") for part in parts)
    return f"{index + 1:02d}-{plain[:100]}-{kind}"


def leaders(subject: Subject, values: ClipValues) -> tuple[str, str] | None:
    """The two best methods, if at least two clips have finite values for both."""
    if subject.info.better == "none":
        return None
    ranked = [
        method.method
        for method, figure in subject.figures
        if method.kind == "method" and figure is not None and figure.value is not None
    ]
    pair = [name for name in ranked[:2] if name in values.values]
    if len(pair) < 2 or np.isfinite(values.values[pair[0]] + values.values[pair[1]]).sum() < 2:
        return None
    return pair[0], pair[1]


def hardest_clip(result: Result, info: OutputInfo, values: ClipValues, among: set[str]) -> str | None:
    """The clip of ``among`` with the worst mean over the methods (over the trivial rows if there is no method); None if
    no clip has a finite value."""
    methods = [m.method for m in result.methods if m.kind == "method" and m.method in values.values]
    rows = np.array([values.values[name] for name in methods or values.values])
    sign = 1 if info.better == "higher" else -1
    ranked = []
    for column, clip in enumerate(values.clip_ids):
        known = rows[:, column][np.isfinite(rows[:, column])]
        if clip in among and len(known):
            ranked.append((sign * float(known.mean()), clip))
    return min(ranked)[1] if ranked else None
