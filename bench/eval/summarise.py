"""The third step of an evaluation: computes the figures of every method from the rows of the clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.clips.inputs.declared import read_declared
from bench.common.errors import Unscorable
from bench.eval.parts import Features, figures
from bench.eval.plan import EvalPlan
from bench.eval.slot import applies
from bench.eval.statistics import Value, mean_over_clips
from bench.metrics.base import Metric, Spec
from bench.results import CLIP_REGION, Figure, MethodResult, Result

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("method", "clip_id", "region", "metric", "output", "value", "reason")


def summarise(plan: EvalPlan, parts: Sequence[Path]) -> list[MethodResult]:
    """The figures of all methods, in the order of the candidates.

    Args:
        plan: what was scored.
        parts: of all clips, in the order of the clips.

    Raises:
        BenchError: a ``generation.json`` beside the videos cannot be read.
    """
    rows = figures(parts, _COLUMNS)
    groups = dict(iter(rows.groupby(["method", "region", "output"], sort=False)))
    of_clip = {job.clip_id: part for job, part in zip(plan.inputs.jobs, parts, strict=True)}
    training_data = dict(plan.options.training_data)
    candidates = {c.method: c for job in plan.inputs.jobs for c in job.candidates}
    declared = read_declared({name: Path(source) for name, source in plan.inputs.sources.items() if source})
    found = []
    for name, candidate in candidates.items():
        mine: list[Figure] = []
        for metric in plan.metrics.values():
            if not applies(metric.spec, candidate):
                continue
            for region in plan.options.regions if metric.spec.regions else (CLIP_REGION,):
                group = {o.key: groups[name, region, metric.spec.id(o)] for o in metric.spec.outputs}
                if metric.spec.aggregate == "set":
                    mine += _of_set(group, of_clip, metric, name, region)
                else:
                    mine += _of_clips(group, metric.spec, region, plan.options.seed)
        source = plan.inputs.sources.get(name, "")
        said = declared.get(name)
        found.append(
            MethodResult(
                method=name,
                kind=candidate.kind,
                source=source,
                training_data=training_data.get(name) or (said.trained_on if said else ""),
                generation=dict(said.record) if said else {},
                videos=plan.inputs.videos.get(name, 0),
                unmatched=list(plan.inputs.unmatched.get(name, ())),
                untagged=plan.untagged.get(name),
                figures=mine,
            )
        )
    return found


def _of_clips(group: Mapping[str, pd.DataFrame], spec: Spec, region: str, seed: int) -> Iterator[Figure]:
    for output in spec.outputs:
        rows = group[output.key]
        values = [
            Value(clip, None if reason else value, reason)
            for clip, value, reason in zip(rows["clip_id"], rows["value"], rows["reason"], strict=True)
        ]
        yield mean_over_clips(values, region, spec.name, spec.id(output), output.cap, seed)


def _of_set(
    group: Mapping[str, pd.DataFrame], parts: Mapping[str, Path], metric: Metric, method: str, region: str
) -> Iterator[Figure]:
    spec = metric.spec
    first = group[spec.outputs[0].key]
    scored = set(first["clip_id"][first["reason"] == ""])
    paths = [part for clip, part in parts.items() if clip in scored]
    failures = dict(sorted(Counter(reason for reason in first["reason"] if reason).items()))
    score, interval = None, ""
    if paths:
        try:
            score = metric.reduce(Features(paths, method, region, spec.name))
            interval = score.interval
        except Unscorable as error:
            failures[error.reason] = failures.get(error.reason, 0) + len(paths)
            paths = []
    for output in spec.outputs:
        yield Figure(
            region=region,
            metric=spec.name,
            output=spec.id(output),
            value=score.values.get(output.key) if score else None,
            low=score.low.get(output.key) if score else None,
            high=score.high.get(output.key) if score else None,
            interval=interval,
            asked=len(first),
            scored=len(paths),
            failures=failures,
        )


def short_coverage(result: Result) -> list[str]:
    """Figures that lack some clips: one line per method and metric; empty if all clips were scored.

    A clip that was scored and of which the figure is undecidable is not lacking.
    """
    lines: dict[str, None] = {}
    for method in result.methods:
        for figure in method.figures:
            if figure.missing:
                why = "; ".join(f"{reason} ({n})" for reason, n in figure.failures.items())
                where = "" if figure.region == CLIP_REGION else f" in {figure.region}"
                counts = f"{figure.scored} of {figure.asked} clips"
                lines[f"{method.method}, {figure.metric}{where}: {counts}: {why}"] = None
    return list(lines)
