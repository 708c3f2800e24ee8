"""Drawing of the four plots: a figure of all methods, of every clip, of two methods compared, over the frames of a
clip.

Nothing is shown by colour alone: methods have separate rows or panels, and missing values are described in words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

from bench.report.clips import ClipValues, Floats
from bench.report.measured import TRIVIAL_LABELS
from bench.report.model import ARROWS
from bench.results import CLIP_REGION, Figure, MethodResult, OutputInfo, Result
from prep.rates import FPS

# Blue and grey can be distinguished with every common colour blindness, and in print.
PAPER, INK, MUTED, FAINT = "#ffffff", "#1c2127", "#66707a", "#e3e7eb"
BLUE, GREY, PALE = "#1f66ad", "#9aa3ac", "#dfe4e9"

# Any, since matplotlib's stubs type the keys differently in different releases.
STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 7.5,
    "axes.unicode_minus": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}

#: Readable names of regions.
REGION_WORDS = {"full": "full frame", "face": "face", "mouth": "mouth", CLIP_REGION: "whole clip"}

_WIDTH = 7.2
_ROW = 0.235
_HEAD, _FOOT = 0.62, 0.68


@dataclass(frozen=True)
class Subject:
    """One figure of one result: the subject of a plot.

    Attributes:
        result: the result.
        info: label, direction, unit, decimals.
        region: of the figure.
        output: its id.
    """

    result: Result
    info: OutputInfo
    region: str
    output: str

    @property
    def figures(self) -> list[tuple[MethodResult, Figure | None]]:
        """Methods best first, those without a value last; then the trivial rows in the same order, if the figure is
        defined for them."""
        found = [(m, self.result.figure(m.method, self.output, self.region)) for m in self.result.methods]
        rows = [(m, figure) for m, figure in found if m.kind == "method" or figure is not None]
        sign = -1 if self.info.better == "higher" else 1

        def rank(row: tuple[MethodResult, Figure | None]) -> tuple[bool, bool, float]:
            method, figure = row
            value = None if figure is None else figure.value
            return method.kind == "trivial", value is None, sign * (value or 0.0)

        return sorted(rows, key=rank)

    @property
    def title(self) -> str:
        """Label and direction."""
        return f"{self.info.label} {ARROWS[self.info.better]}".strip()

    @property
    def axis(self) -> str:
        """Label and unit."""
        return f"{self.info.label}, {self.info.unit}" if self.info.unit else self.info.label

    @property
    def where(self) -> str:
        """Data set, protocol, region and the figure's id."""
        data = f"{self.result.data.name} {self.result.data.split}".strip()
        region = REGION_WORDS.get(self.region, self.region)
        return " · ".join([data, self.result.protocol, region, self.output])

    def text(self, value: float) -> str:
        """A value as printed in tables."""
        if not isfinite(value):
            return "∞" if value > 0 else "−∞"
        return f"{value:.{self.info.decimals}f}".replace("-", "−")


def bars(subject: Subject) -> Canvas:
    """Bars from zero, and beside them the same values on a larger scale with their 95 % intervals."""
    rows = subject.figures
    canvas, place = _rows_canvas(len(rows))
    left, right = canvas.add_axes(place(0.225, 0.33)), canvas.add_axes(place(0.585, 0.245))
    known = [f for _, f in rows if f is not None and f.value is not None and isfinite(f.value)]
    _limit(left, [0.0, *[f.value for f in known if f.value is not None]], margin=0.02)
    _limit(right, [end for f in known for end in (f.value, f.low, f.high) if end is not None])
    for at, (method, figure) in enumerate(rows):
        value = None if figure is None else figure.value
        if value is None or not isfinite(value):
            _aside(left, at, _no_value(figure) if value is None else _identical(value))
            continue
        left.barh(at, value, height=0.6, color=_colour(method), linewidth=0)
        right.scatter([value], [at], s=24, color=_colour(method), linewidths=0, zorder=3)
        if figure is not None and figure.low is not None and figure.high is not None:
            right.plot([figure.low, figure.high], [at, at], color=_colour(method), linewidth=1.6)
    left.set_xlabel(f"{subject.axis}, from zero", parse_math=False)
    right.set_xlabel("closer up, with 95 % intervals", parse_math=False)
    _finish_rows(subject, left, right)
    _heading(canvas, subject, "of every method", _interval_note([f for _, f in rows]))
    return canvas


def clips(subject: Subject, values: ClipValues) -> Canvas:
    """One dot per clip, one row per method; a vertical line marks the mean."""
    rows = subject.figures
    canvas, place = _rows_canvas(len(rows))
    panel = canvas.add_axes(place(0.225, 0.605))
    _limit(panel, [v for found in values.values.values() for v in found.tolist() if isfinite(v)])
    for at, (method, figure) in enumerate(rows):
        found = values.values.get(method.method, np.array([]))
        finite = found[np.isfinite(found)]
        if not len(finite):
            infinite = found[np.isinf(found)]
            _aside(panel, at, _identical(float(infinite[0])) if len(infinite) else _no_value(figure))
            continue
        alpha = max(0.2, min(0.7, 25 / len(finite)))
        heights = at + _heights(values.clip_ids, found)
        panel.scatter(finite, heights, s=13, color=_colour(method), alpha=alpha, linewidths=0)
        if figure is not None and figure.value is not None and isfinite(figure.value):
            panel.plot([figure.value] * 2, [at - 0.34, at + 0.34], color=INK, linewidth=1.3)
    panel.set_xlabel(subject.axis, parse_math=False)
    _finish_rows(subject, panel)
    _heading(
        canvas,
        subject,
        "clip by clip",
        "A dot is a clip, at the same height in every row; the line is the mean.",
    )
    return canvas


def versus(subject: Subject, values: ClipValues, first: str, second: str) -> Canvas:
    """One method compared with another, one dot per clip."""
    ours, theirs = values.values[first], values.values[second]
    both = np.isfinite(ours) & np.isfinite(theirs)
    x, y = theirs[both], ours[both]
    height = 5.6
    canvas = Canvas(figsize=(_WIDTH, height), facecolor=PAPER)
    side = height - _HEAD - _FOOT - 0.02
    panel = canvas.add_axes(((_WIDTH - side) / 2 / _WIDTH, _FOOT / height, side / _WIDTH, side / height))
    _bare(panel)
    _limit(panel, [*x.tolist(), *y.tolist()])
    low, high = panel.get_xlim()
    panel.set_ylim(low, high)
    panel.grid(color=FAINT, linewidth=0.8)
    panel.plot([low, high], [low, high], color=GREY, linewidth=1)
    alpha = max(0.3, min(0.75, 60 / max(1, len(x))))
    panel.scatter(x, y, s=22, color=BLUE, alpha=alpha, linewidths=0, zorder=3)
    panel.set_xlabel(f"{_short(second, 40)}: {subject.axis}", parse_math=False)
    panel.set_ylabel(f"{_short(first, 40)}: {subject.axis}", parse_math=False)
    higher = subject.info.better == "higher"
    won, tied = int((y > x).sum() if higher else (y < x).sum()), int((y == x).sum())
    note = f"{'Above' if higher else 'Below'} the line {_short(first, 24)} is better: {won} of {count(len(x), 'clip')}"
    title = f"of {_short(first, 20)} against {_short(second, 20)}"
    _heading(canvas, subject, title, note + (f", {tied} equal." if tied else "."))
    return canvas


def series(subject: Subject, clip: str, load: Callable[[], Mapping[str, Floats]]) -> Canvas:
    """The frames of one clip, one panel per method, with the range of all methods in grey."""
    found, rows = load(), subject.figures
    across = 3 if len(rows) > 4 else min(2, max(1, len(rows)))
    down = ceil(len(rows) / across)
    height = _HEAD + _FOOT + 0.15 + 0.95 * down
    canvas = Canvas(figsize=(_WIDTH, height), facecolor=PAPER)
    panels = list(canvas.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat)
    edges = {"left": 0.08, "right": 0.985, "top": 1 - (_HEAD + 0.17) / height, "bottom": _FOOT / height}
    canvas.subplots_adjust(**edges, wspace=0.07, hspace=0.36)
    methods = [found[m.method] for m, _ in rows if m.kind == "method" and m.method in found]
    # The trivial rows may be outside the scale: the ground truth's PSNR would make all other lines flat.
    _limit(panels[0], [v for f in methods or found.values() for v in f.tolist() if isfinite(v)], axis="y")
    low, high = _range(methods)
    for panel, (method, _) in zip(panels, rows, strict=False):
        panel.fill_between(np.arange(len(low)) / FPS, low, high, color=PALE, linewidth=0)
        _bare(panel)
        panel.grid(axis="y", color=FAINT, linewidth=0.8)
        panel.locator_params(axis="y", nbins=3)
        _one_series(panel, subject, method, found.get(method.method))
    for at, panel in enumerate(panels):
        panel.set_visible(at < len(rows))
        if at + across >= len(rows):  # the lowest of its column
            panel.tick_params(labelbottom=True)
            panel.set_xlabel("seconds")
    note = f"Clip {_short(clip, 60)}, which is scored worst." + (
        " In grey the range of all methods." if len(low) else ""
    )
    _heading(canvas, subject, "over the frames of a clip", note)
    return canvas


def label(method: MethodResult) -> str:
    """The label of a row."""
    return TRIVIAL_LABELS.get(method.method, method.method) if method.kind == "trivial" else method.method


def count(n: int, noun: str) -> str:
    """``1 clip``, ``2 clips``."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _one_series(panel: Axes, subject: Subject, method: MethodResult, values: Floats | None) -> None:
    """The line of one method below its name, and a text about missing values."""
    instead, beside = _no_line(panel, subject, values), ""
    if values is not None and not instead:
        seconds = np.arange(len(values)) / FPS
        panel.plot(seconds, _gaps(values), color=_colour(method), linewidth=1.2, zorder=3)
        lacking = int(np.isnan(values).sum())
        beside = f"{count(lacking, 'frame')} without a value" if lacking else ""
    title: Any = {"pad": 3, "parse_math": False}
    colour = MUTED if method.kind == "trivial" else INK
    name = _short(label(method), 16 if beside else 32)
    panel.set_title(name, loc="left", fontsize=8, color=colour, **title)
    panel.set_title(beside, loc="right", fontsize=7, color=MUTED, **title)
    # In the middle of the panel, since there is no line that it could hide.
    place: Any = {"transform": panel.transAxes, "ha": "center", "va": "center", "zorder": 4}
    panel.text(0.5, 0.5, instead, fontsize=7.5, color=MUTED, **place)


def _no_line(panel: Axes, subject: Subject, values: Floats | None) -> str:
    """Why there is no visible line, or ``""``."""
    if values is None or np.isnan(values).all():
        return "no values"
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "∞ on every frame"
    bottom, top = panel.get_ylim()
    if finite.min() > top or finite.max() < bottom:
        side = "above" if finite.min() > top else "below"
        return f"{subject.text(float(finite.mean()))}, {side} the scale"
    return ""


def _gaps(values: Floats) -> Floats:
    """Infinite values become gaps of the line."""
    return np.where(np.isfinite(values), values, np.nan)


def _range(found: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Smallest and largest finite value of each frame, NaN where there is none."""
    length = max((len(values) for values in found), default=0)
    low, high = np.full(length, np.inf), np.full(length, -np.inf)
    for values in found:
        known = np.isfinite(values)
        at = slice(len(values))
        low[at] = np.where(known, np.minimum(low[at], values), low[at])
        high[at] = np.where(known, np.maximum(high[at], values), high[at])
    return _gaps(low), _gaps(high)


def _heights(clip_ids: Sequence[str], values: Floats) -> Floats:
    """A small offset for each finite value, from the clip's name: the same in every row."""
    kept = [clip for clip, value in zip(clip_ids, values, strict=True) if isfinite(value)]
    digests = [hashlib.sha256(clip.encode()).digest()[0] for clip in kept]
    return (np.array(digests, np.float64) / 255 - 0.5) * 0.5


def _colour(method: MethodResult) -> str:
    return GREY if method.kind == "trivial" else BLUE


def _identical(value: float) -> str:
    return "∞: identical frames in every clip" if value > 0 else "−∞"


def _no_value(figure: Figure | None) -> str:
    if figure is None:
        return "not scored"
    if not figure.failures:
        return "no clip scored"
    reason, clips_ = max(figure.failures.items(), key=lambda item: item[1])
    return f"no clip scored: {_short(reason, 34)} ({clips_})"


def _interval_note(figures: Sequence[Figure | None]) -> str:
    kinds = sorted({f.interval for f in figures if f is not None and f.interval})
    coverage = "Beside a value: clips scored of clips asked for, where some failed."
    return f"95 % intervals: {'; '.join(kinds)}. {coverage}" if kinds else coverage


def _rows_canvas(n_rows: int) -> tuple[Canvas, Callable[[float, float], tuple[float, float, float, float]]]:
    """A canvas for ``n_rows`` rows, and a function that places a panel by its left edge and width (shares)."""
    inner = _ROW * max(1, n_rows)
    height = _HEAD + inner + _FOOT

    def place(left: float, width: float) -> tuple[float, float, float, float]:
        return left, _FOOT / height, width, inner / height

    return Canvas(figsize=(_WIDTH, height), facecolor=PAPER), place


def _finish_rows(subject: Subject, *panels: Axes) -> None:
    """Names left of the first panel, values right of the last, a dotted line before the trivial rows."""
    rows = subject.figures
    measured = sum(method.kind == "method" for method, _ in rows)
    for panel in panels:
        _bare(panel)
        panel.grid(axis="x", color=FAINT, linewidth=0.8)
        panel.set_ylim(max(1, len(rows)) - 0.5, -0.5)
        panel.set_yticks([])
        panel.locator_params(axis="x", nbins=8 if len(panels) == 1 else 4)
        if 0 < measured < len(rows):
            panel.axhline(measured - 0.5, color=GREY, linewidth=0.8, linestyle=(0, (1, 3)))
    for at, (method, figure) in enumerate(rows):
        colour = MUTED if method.kind == "trivial" else INK
        _beside(panels[0], -0.025, at, _short(label(method), 24), colour, "right")
        value = None if figure is None else figure.value
        canvas_wide = panels[-1].get_position().width
        text = "n/a" if value is None else subject.text(value)
        _beside(panels[-1], 1 + 0.075 / canvas_wide, at, text, MUTED if value is None else INK, "right")
        if figure is not None and 0 < figure.scored < figure.asked:
            share = f"{figure.scored}/{figure.asked}"
            _beside(panels[-1], 1 + 0.09 / canvas_wide, at, share, MUTED, "left", size=7)


def _beside(panel: Axes, x: float, at: int, text: str, colour: str, side: str, size: float = 8.5) -> Text:
    style: dict[str, Any] = {"color": colour, "ha": side, "va": "center_baseline", "fontsize": size}
    return panel.text(x, at, text, transform=panel.get_yaxis_transform(), parse_math=False, **style)


def _aside(panel: Axes, at: int, words: str) -> None:
    """A text in place of a bar, drawn over the grid."""
    text = _beside(panel, 0.015, at, words, MUTED, "left", size=7.5)
    text.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": 1.5})


def _heading(canvas: Canvas, subject: Subject, title: str, note: str) -> None:
    height = canvas.get_figheight()
    better = {"higher": "higher is better", "lower": "lower is better", "none": "no direction"}[
        subject.info.better
    ]
    for text, y, size, colour, weight in (
        (f"{subject.title} {title}", 0.09, 11, INK, "bold"),
        (f"{subject.where} · {better}", 0.33, 8, MUTED, "normal"),
        (note, height - 0.2, 7.5, MUTED, "normal"),
    ):
        style: Any = {"fontsize": size, "color": colour, "weight": weight, "va": "top", "parse_math": False}
        canvas.text(0.015, 1 - y / height, text, **style)


def _bare(panel: Axes) -> None:
    panel.set_facecolor("none")
    for spine in panel.spines.values():
        spine.set_visible(False)


def _limit(panel: Axes, values: Sequence[float], axis: str = "x", margin: float = 0.05) -> None:
    """Limits around finite values; an axis without values shows no ticks."""
    if not values:
        panel.set(**{f"{axis}ticks": []})
        return
    low, high = min(values), max(values)
    around = (high - low) * margin or abs(high) * margin or 1.0
    start = low if low == 0 and margin < 0.05 else low - around
    panel.set(**{f"{axis}lim": (start, high + around)})


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 1]}…"
