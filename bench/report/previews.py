"""The best and the worst clip of every method, with a few of its frames and those of the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from bench.report.clips import ClipValues, ResultFiles, read_table
from bench.results import CLIP_REGION, PREVIEWS, MethodResult, OutputInfo, Result

#: Figures for ranking clips: the first of these that a method has per clip, else its first figure with a direction.
RANKED_BY = ("psnr.frame", "lmd.lip_norm", "ssim.wang11")
TRUTH = "truth"


@dataclass(frozen=True)
class Picture:
    """A preview.

    Attributes:
        frame: index in the clip, at 25 fps.
        width: pixels.
        height: pixels.
        jpeg: the encoded image.
    """

    frame: int
    width: int
    height: int
    jpeg: bytes


@dataclass(frozen=True)
class Example:
    """One clip of one method.

    Attributes:
        which: ``best`` or ``worst``; ``only`` if the method has a single clip, ``alike`` if all are equally good.
        clip_id: name of the clip.
        value: of the figure by which it was chosen.
        pairs: the truth's frame (None if there is none) and the method's frame.
    """

    which: Literal["best", "worst", "only", "alike"]
    clip_id: str
    value: float
    pairs: list[tuple[Picture | None, Picture]]


@dataclass(frozen=True)
class Examples:
    """The examples of one method.

    Attributes:
        method: the method.
        output: id of the figure by which they were chosen.
        info: its label, direction, unit, decimals.
        region: of the figure.
        clips: best first.
    """

    method: MethodResult
    output: str
    info: OutputInfo
    region: str
    clips: list[Example]


def examples(path: Path, result: Result) -> list[Examples]:
    """Best and worst clip of every method and trivial row that has previews and values per clip.

    The ground truth is left out, since its frames are the truth. Clips of equal value are sorted by name.

    Args:
        path: the result's folder, or its JSON file.
        result: the result.

    Raises:
        BenchError: a Parquet file of the result is damaged.
    """
    files = ResultFiles(path)
    file = files.folder / PREVIEWS
    if not file.is_file():
        return []
    shown: dict[str, set[str]] = {}
    for row in read_table(file, columns=["method", "clip_id"]).to_pylist():
        shown.setdefault(row["method"], set()).add(row["clip_id"])
    chosen = [
        found
        for method in result.methods
        if method.method in shown and method.method != "ground_truth"
        if (found := _choose(files, result, method, shown[method.method])) is not None
    ]
    wanted = {example.clip_id for found in chosen for example in found.clips}
    if not wanted:
        return []
    pictures = _pictures(read_table(file, filters=[("clip_id", "in", sorted(wanted))]))
    for found in chosen:
        for example in found.clips:
            truth = {p.frame: p for p in pictures.get((TRUTH, example.clip_id), [])}
            mine = pictures[(found.method.method, example.clip_id)]
            example.pairs.extend((truth.get(picture.frame), picture) for picture in mine)
    return chosen


def _choose(files: ResultFiles, result: Result, method: MethodResult, shown: set[str]) -> Examples | None:
    """The chosen clips, without their images."""
    for output, info in _figures(result):
        for region in (*result.regions, CLIP_REGION):
            values = files.figure(output, region)
            clips = _ends(values, method.method, info, shown) if values else []
            if clips:
                return Examples(method, output, info, region, clips)
    return None


def _figures(result: Result) -> list[tuple[str, OutputInfo]]:
    """All figures with a direction, those of :data:`RANKED_BY` first."""
    found = {
        f"{metric.name}.{info.key}" if info.key else metric.name: info
        for metric in result.metrics
        for info in metric.outputs
        if info.better != "none"
    }
    first = [name for name in RANKED_BY if name in found]
    return [(name, found[name]) for name in dict.fromkeys([*first, *found])]


def _ends(values: ClipValues, method: str, info: OutputInfo, shown: set[str]) -> list[Example]:
    ranked = [pair for pair in values.best_first(method, info.better) if pair[0] in shown]
    if not ranked:
        return []
    if ranked[0][1] == ranked[-1][1]:
        return [Example("alike" if len(ranked) > 1 else "only", *ranked[0], pairs=[])]
    return [Example("best", *ranked[0], pairs=[]), Example("worst", *ranked[-1], pairs=[])]


def _pictures(table: pa.Table) -> dict[tuple[str, str], list[Picture]]:
    found: dict[tuple[str, str], list[Picture]] = {}
    for row in table.to_pylist():
        picture = Picture(row["frame"], row["width"], row["height"], row["jpeg"])
        found.setdefault((row["method"], row["clip_id"]), []).append(picture)
    return {key: sorted(pictures, key=lambda p: p.frame) for key, pictures in found.items()}
