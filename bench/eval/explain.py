"""Why two numbers of the same name differ: scores the same videos with all variants of a metric, and finds the choices
with the largest effect.

Variants of a family are described by the same parameters. If two of them differ in exactly one parameter, they show the
effect of this choice; so do two regions of one variant. The effect of the length of clips is measured by scoring only
the first frames of each.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.clips.inputs import Audio, Inputs
from bench.clips.inputs.find import find_inputs
from bench.clips.job import SHIFTED, Job, Take, Voice
from bench.eval.by_decoding import WEIGHED, ByDecoding, by_decoding
from bench.eval.by_detector import Floor, floors, with_floor
from bench.results import CLIP_REGION, CLIPS, MetricInfo, Result
from prep.detectors import DEFAULT

if TYPE_CHECKING:
    import pandas as pd

    from bench.eval.decoding import MatrixRule
    from bench.eval.plan import EvalOptions
    from bench.eval.score import Step
    from prep.pixels import Pixels

Span = TypeVar("Span", Take, Voice)

#: Default lengths, in frames, of the shortened clips for which LSE is also computed.
LSE_LENGTHS = (25, 50, 75)


@contextmanager
def _silent() -> Iterator[Callable[[Step], None]]:
    yield lambda _: None


@dataclass(frozen=True)
class Explanation:
    """One metric in all its variants.

    Attributes:
        result: of the whole clips, with all variants of the metric's family.
        lengths: requested lengths of shortened clips, in frames.
        shortened: figures of the same clips at several lengths; empty if no length shortens half of the clips.
        decodings: PSNR by each choice of pixels and matrix; empty for other metrics.
        floors: what the detector of landmarks gives by itself; empty for metrics without one.
    """

    result: Result
    lengths: tuple[int, ...]
    shortened: list[Shortened]
    decodings: list[ByDecoding]
    floors: list[Floor]


def explain(
    metric: str,
    predictions: Mapping[str, Path] | None = None,
    *,
    data: Path | None = None,
    truth: Path | None = None,
    split: str | None = None,
    root: Path | None = None,
    out: Path | None = None,
    regions: Sequence[str] = ("full", "face", "mouth"),
    audio: Audio = "prediction",
    pixels: Pixels | None = None,
    matrix: MatrixRule = "auto",
    detector: str = DEFAULT,
    with_trivial: bool = False,
    lengths: Sequence[int] | None = None,
    sync_expert: Path | None = None,
    sync_cca: Path | None = None,
    limit: int | None = None,
    workers: int | None = 1,
    device: str = "auto",
    weights_dir: Path | None = None,
    progress: Callable[[], AbstractContextManager[Callable[[Step], None]]] = _silent,
) -> Explanation:
    """Score videos with all variants of a metric, and also the first frames of their clips; PSNR also by each way of
    decoding colours, distances of landmarks also on the row ``shifted``.

    Args:
        metric: a family, or one of its variants.
        predictions: see :func:`bench.eval.evaluate`, also for all arguments not listed here.
        out: folder for the result; None: it is not stored.
        lengths: numbers of first frames of each clip to score as well; None: :data:`LSE_LENGTHS` for LSE, else none.
        workers: local processes; None: one per core on a CPU, one on a GPU; see :func:`bench.eval.evaluate`.
        progress: makes the progress callback of each evaluation.

    Raises:
        BenchError: as :func:`bench.eval.evaluate`.
        PrepError: a metric or region is unknown, or a folder or data set cannot be read.
    """
    import pandas as pd

    from bench.common.device import pick_device
    from bench.eval.decoding import MATRIX_RULES, PIXELS
    from bench.eval.evaluation import evaluate_inputs
    from bench.eval.plan import EvalOptions
    from bench.metrics import family
    from bench.metrics.regions import REGIONS
    from bench.weights.store import WeightStore
    from prep.detectors import DETECTORS
    from prep.names import known

    known("audio", [audio], ("prediction", "truth"))
    known("pixels", [pixels] if pixels else [], PIXELS)
    known("matrix", [matrix], MATRIX_RULES)
    names = family(metric)
    if lengths is None:
        lengths = LSE_LENGTHS if "lse.lrs" in names else ()
    options = EvalOptions(
        metrics=tuple(names),
        regions=known("region", list(regions), REGIONS),
        audio=audio,
        device=pick_device(device),
        sync_expert=sync_expert,
        sync_cca=sync_cca,
        pixels=pixels,
        matrix=matrix,
        detector=known("detector", [detector], DETECTORS)[0],
    )
    inputs = find_inputs(
        predictions or {},
        data=data,
        truth=truth,
        split=split,
        root=root,
        audio=audio,
        limit=limit,
        with_trivial=with_trivial,
        seed=options.seed,
    )
    inputs = with_floor(inputs, names, options.seed)
    clips = clip_lengths(inputs) if lengths else {}
    shorter = worth_trying(list(lengths), clips)
    long_enough = {clip for clip, n in clips.items() if shorter and n >= shorter[-1]}
    store = WeightStore.default(weights_dir)

    def scored(inputs: Inputs, options: EvalOptions, folder: Path) -> Result:
        with progress() as notify:
            return evaluate_inputs(
                inputs,
                folder,
                options,
                store,
                workers=workers,
                on_note=lambda _: None,
                on_progress=notify,
            )

    with tempfile.TemporaryDirectory() as scratch:
        folder = out or Path(scratch, "all")
        result = scored(inputs, options, folder)
        rows: dict[int | None, pd.DataFrame] = {}
        for frames in shorter:
            part = Path(scratch, str(frames))
            scored(shortened(inputs, frames, long_enough), options, part)
            rows[frames] = pd.read_parquet(part / CLIPS)
        rows[None] = pd.read_parquet(folder / CLIPS)
        decodings = (
            by_decoding(options, Path(scratch), lambda options, folder: scored(inputs, options, folder))
            if any(metric.name == WEIGHED for metric in result.metrics)
            else []
        )
    found = by_length(result, rows, long_enough) if shorter else []
    return Explanation(result, tuple(lengths), found, decodings, floors(result, rows[None]))


@dataclass(frozen=True)
class VariantFigure:
    """One figure of one method, by one variant in one region."""

    method: str
    variant: str
    region: str
    output: str
    label: str
    value: float


@dataclass(frozen=True)
class Choice:
    """The effect of one choice on one figure of one method.

    Attributes:
        name: the parameter, or ``region``.
        settings: the two settings, as ``variant: setting`` or the regions' names.
        method: the method of the figure.
        label: the figure.
        difference: the second value minus the first.
        relative: absolute difference divided by the mean absolute value of the two.
    """

    name: str
    settings: tuple[str, str]
    method: str
    label: str
    first: float
    second: float

    @property
    def difference(self) -> float:
        """The second value minus the first."""
        return self.second - self.first

    @property
    def relative(self) -> float:
        """Absolute difference divided by the mean absolute value of the two."""
        scale = (abs(self.first) + abs(self.second)) / 2
        return abs(self.difference) / scale if scale else 0.0


def entries(result: Result) -> list[VariantFigure]:
    """All finite figures of a result."""
    labels = {
        (metric.name, output.key): output.label for metric in result.metrics for output in metric.outputs
    }
    found = []
    for method in result.methods:
        for figure in method.figures:
            if figure.value is None or figure.value in (float("inf"), float("-inf")):
                continue
            key = figure.output[len(figure.metric) + 1 :]
            label = labels[figure.metric, key]
            found.append(
                VariantFigure(method.method, figure.metric, figure.region, figure.output, label, figure.value)
            )
    return found


def spread(found: list[VariantFigure]) -> dict[tuple[str, str], tuple[float, float]]:
    """(method, label) → smallest and largest value over all variants and regions."""
    groups: dict[tuple[str, str], list[float]] = {}
    for entry in found:
        groups.setdefault((entry.method, entry.label), []).append(entry.value)
    return {key: (min(values), max(values)) for key, values in groups.items() if len(values) > 1}


def choices(result: Result) -> list[Choice]:
    """The effects of all single choices on the rows except ``shifted``, largest relative difference first."""
    found = entries(result)
    metrics = {metric.name: metric for metric in result.metrics}
    pairs = []
    for a, b in combinations(found, 2):
        if (a.method, a.label) != (b.method, b.label) or a.method == SHIFTED:
            continue
        if a.variant == b.variant and a.region != b.region:
            pairs.append(Choice("region", (a.region, b.region), a.method, a.label, a.value, b.value))
        elif a.variant != b.variant and (a.region == b.region or CLIP_REGION in (a.region, b.region)):
            changed = _changed(metrics[a.variant], metrics[b.variant])
            if len(changed) == 1:
                ((name, settings),) = changed.items()
                pairs.append(Choice(name, settings, a.method, a.label, a.value, b.value))
    return sorted(pairs, key=lambda c: -c.relative)


def largest(found: list[Choice]) -> list[Choice]:
    """For each choice the pair with its largest effect; the choice with the largest effect comes first."""
    best: dict[tuple[str, str], Choice] = {}
    for choice in found:
        best.setdefault((choice.name, choice.label), choice)
    return list(best.values())


def _changed(a: MetricInfo, b: MetricInfo) -> dict[str, tuple[str, str]]:
    keys = sorted({*a.parameters, *b.parameters})
    changed = {key: (a.parameters.get(key), b.parameters.get(key)) for key in keys}
    found = {
        key: (f"{a.name}: {_text(x)}", f"{b.name}: {_text(y)}") for key, (x, y) in changed.items() if x != y
    }
    if a.weights != b.weights:
        found["weights"] = (", ".join(a.weights), ", ".join(b.weights))
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class Shortened:
    """One figure of one method over the first frames of some clips.

    Attributes:
        variant: name.
        region: of :data:`bench.metrics.regions.REGIONS`, or ``clip``.
        label: the figure.
        frames: number of frames of every clip; None: all.
        method: name.
        value: mean over the clips that could be scored, None without any.
        scored: number of these clips.
        clips: number of all clips.
    """

    variant: str
    region: str
    label: str
    frames: int | None
    method: str
    value: float | None
    scored: int
    clips: int


def clip_lengths(inputs: Inputs) -> dict[str, int]:
    """Clip id → frames of the truth, or of the first prediction if there is no truth; only for readable clips."""
    from bench.clips.inputs.reading import count_frames
    from prep.errors import ClipError, PrepError

    found = {}
    for job in inputs.jobs:
        takes = [job.truth, *(candidate.video for candidate in job.candidates)]
        take = next((take for take in takes if take is not None), None)
        try:
            frames = job.n_frames or (0 if take is None else count_frames(take))
        except (ClipError, PrepError, OSError):
            continue
        if frames:
            found[job.clip_id] = frames
    return found


def worth_trying(lengths: list[int], clips: Mapping[str, int]) -> list[int]:
    """Those of ``lengths`` that shorten at least half of the clips, ascending, without duplicates."""
    return [
        frames
        for frames in sorted(set(lengths))
        if clips and 2 * sum(n > frames for n in clips.values()) >= len(clips)
    ]


def shortened(inputs: Inputs, frames: int, clips: set[str]) -> Inputs:
    """The first frames of some clips, with their sound, of the truth and of every method."""
    return replace(inputs, jobs=[_shortened(job, frames) for job in inputs.jobs if job.clip_id in clips])


def _shortened(job: Job, frames: int) -> Job:
    return replace(
        job,
        truth=_first(job.truth, frames),
        n_frames=None if job.n_frames is None else min(job.n_frames, frames),
        candidates=tuple(
            replace(c, video=_first(c.video, frames), audio=_first(c.audio, frames)) for c in job.candidates
        ),
    )


def _first(span: Span | None, frames: int) -> Span | None:
    if span is None:
        return None
    end = span.start + frames
    return replace(span, stop=end if span.stop is None else min(span.stop, end))


def by_length(result: Result, rows: Mapping[int | None, pd.DataFrame], clips: set[str]) -> list[Shortened]:
    """The figures of the same clips at several lengths.

    Args:
        result: the evaluation of whole clips.
        rows: frames of every clip (None: all) → the rows of ``clips.parquet``.
        clips: ids of the clips to compare.
    """
    labels = {
        (m.name, f"{m.name}.{o.key}" if o.key else m.name): o.label
        for m in result.metrics
        if m.aggregate == "mean"
        for o in m.outputs
    }
    found = []
    for frames, table in rows.items():
        mine = table[table["clip_id"].isin(clips)]
        groups = mine.groupby(["metric", "region", "output", "method"], sort=False)
        for key, group in groups:
            variant, region, output, method = map(str, key)
            if (variant, output) not in labels:
                continue
            values = group["value"][group["reason"] == ""]
            mean = float(values.mean()) if len(values) else None
            label = labels[variant, output]
            found.append(Shortened(variant, region, label, frames, method, mean, len(values), len(group)))
    return found
