"""Videos become a result: what applies is chosen, clips are scored, rows become figures with their provenance."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.clips.inputs.dataset import GENERATION
from bench.clips.job import Job
from bench.common.errors import BenchError, Unavailable, Unscorable
from bench.common.lock import exclusive
from bench.eval import parts
from bench.eval.engine import Engine
from bench.eval.parts import Features, part_path
from bench.eval.summary import Value, summarise
from bench.eval.workers import Plan, Step, run
from bench.metrics import get_spec
from bench.metrics.base import Metric, Spec
from bench.metrics.lse_expert import find_expert
from bench.results import (
    CLIP_REGION,
    CLIPS,
    FRAMES,
    PREVIEWS,
    RESULT,
    Data,
    Figure,
    MethodResult,
    MetricInfo,
    Missing,
    OutputInfo,
    Provenance,
    Result,
    read_result,
    write_result,
)
from prep.shards import sha256 as file_sha256
from prep.shards import write_json

if TYPE_CHECKING:
    import pandas as pd

    from bench.clips.inputs import Inputs
    from bench.weights.store import WeightStore

PARTS = "parts"
STAMP = "evaluation.json"


@dataclass(frozen=True)
class Options:
    """What an evaluation is asked for.

    Attributes:
        metrics: names of variants.
        regions: of :data:`bench.metrics.regions.REGIONS`.
        audio: whose sound the lip-sync metrics hear: that of the prediction's file, or the truth's.
        seed: of the bootstrap and of the wrong audio.
        device: of torch.
        batch: frames scored together; it moves no figure.
        training_data: method → what it was trained on, for the foot of tables.
        sync_expert: run of ``sync-expert`` that ``lse.expert`` judges by, or None.
    """

    metrics: tuple[str, ...]
    regions: tuple[str, ...] = ("full", "face", "mouth")
    audio: Literal["prediction", "truth"] = "prediction"
    seed: int = 0
    device: str = "cpu"
    batch: int = 16
    training_data: tuple[tuple[str, str], ...] = ()
    sync_expert: Path | None = None


def evaluate(
    inputs: Inputs,
    out: Path,
    options: Options,
    weights: WeightStore,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    overwrite: bool = False,
    on_progress: Callable[[Step], None] | None = None,
    command: str = "",
) -> Result:
    """Score all jobs and write a result folder; one that holds the same evaluation, interrupted, is continued.

    Args:
        inputs: what is scored against what.
        out: folder to write; workers on other machines must see it, and everything else, under the same path.
        options: metrics, regions, seed.
        weights: where networks are found.
        workers: local processes; with 1 everything happens in this one.
        scheduler: address of a running Dask scheduler to use instead.
        overwrite: throw away what another evaluation left in ``out``.
        on_progress: called for every finished clip.
        command: as typed, for the provenance.

    Raises:
        BenchError: nothing to score, the folder holds another evaluation or is in use, no metric can be computed,
            or the disk is full.
    """
    if not inputs.jobs:
        raise BenchError("there are no clips to score")
    started = time.monotonic()
    if inputs.protocol == "dubbing":
        inputs = replace(inputs, jobs=[replace(job, paired=False) for job in inputs.jobs])
    specs, missing = _applicable(inputs, options)
    expert = find_expert(options.sync_expert) if options.sync_expert else None
    plan = Plan(tuple(s.name for s in specs), options.regions, options.device, options.batch, weights, expert)
    engine = plan.build()
    missing += engine.missing
    _check_regions(engine, inputs, options)
    metrics = {metric.spec.name: metric for metric in engine.metrics}
    if not metrics:
        reasons = "; ".join(f"{m.metric}: {m.reason}" for m in missing)
        raise BenchError(f"none of the metrics can be computed here: {reasons}")
    plan = replace(plan, metrics=tuple(metrics))
    digests = {name: metric.digests() for name, metric in metrics.items()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with exclusive(out, "bench eval"):
            if not _claim(out, _stamp(inputs, options, metrics, digests), overwrite):
                return read_result(out)
            folder = out / PARTS
            for step in run(inputs.jobs, folder, plan, engine, workers, scheduler):
                if on_progress:
                    on_progress(step)
            paths = [part_path(folder, job.clip_id) for job in inputs.jobs]
            parts.merge(paths, out, "figure", parts.CLIP_COLUMNS, CLIPS)
            parts.merge(paths, out, "figure", parts.FRAME_COLUMNS, FRAMES)
            parts.merge(paths, out, "preview", parts.PREVIEW_COLUMNS, PREVIEWS)
            result = Result(
                data=_data(inputs),
                protocol=inputs.protocol,
                audio=options.audio,
                regions=list(options.regions),
                metrics=[_info(metric.spec, digests[name]) for name, metric in metrics.items()],
                missing=missing,
                methods=_methods(inputs, out, options, metrics),
                provenance=_provenance(options, time.monotonic() - started, command),
            )
            write_result(out, result)
            shutil.rmtree(folder)
    except OSError as error:
        where = error.filename or out
        raise BenchError(f"{where}: {error.strerror or error}; the same command goes on") from error
    return result


def _applicable(inputs: Inputs, options: Options) -> tuple[list[Spec], list[Missing]]:
    """The variants that this kind of evaluation defines, and why the others are not among them."""
    specs, missing = [], []
    truths = any(job.truth is not None for job in inputs.jobs)
    for spec in dict.fromkeys(get_spec(name) for name in options.metrics):
        reason = remedy = ""
        if "truth" in spec.needs and not truths:
            reason, remedy = "it compares with the true videos, and none were given", "give --truth"
        elif spec.paired and inputs.protocol == "dubbing":
            reason = "it compares frame with frame, and a face that speaks other words has no true frame"
        elif (
            "truth_landmarks" in spec.needs
            and not _landmarks_known(inputs)
            and find_spec("mediapipe") is None
        ):
            reason = "MediaPipe is not installed, and landmarks need it"
            remedy = "pip install 'mediapipe<=0.10.21'"
        if reason:
            missing.append(Missing(metric=spec.name, reason=reason, remedy=remedy))
        else:
            specs.append(spec)
    return specs, missing


def _landmarks_known(inputs: Inputs) -> bool:
    return all(job.shard or job.truth is None for job in inputs.jobs)


def _check_regions(engine: Engine, inputs: Inputs, options: Options) -> None:
    if set(options.regions) <= {"full"} or _landmarks_known(inputs):
        return
    try:
        _ = engine.faces
    except Unavailable as error:
        raise BenchError(
            f"the regions face and mouth need landmarks ({error}); or take --region full"
        ) from None


def _claim(out: Path, stamp: dict[str, Any], overwrite: bool) -> bool:
    """Make ``out`` ready for this evaluation; False where it is already complete there.

    Raises:
        BenchError: another evaluation lies there.
    """
    path = out / STAMP
    there = json.loads(path.read_text("utf-8")) if path.is_file() else None
    if overwrite or there is None:
        if there is None and not overwrite and (out / RESULT).exists():
            raise BenchError(f"{out} holds a result without {STAMP}: use another --out, or --overwrite")
        shutil.rmtree(out / PARTS, ignore_errors=True)
        (out / RESULT).unlink(missing_ok=True)
    elif there != stamp:
        keys = sorted(key for key in {*there, *stamp} if there.get(key) != stamp.get(key))
        raise BenchError(
            f"{out} holds another evaluation (other {', '.join(keys)}): use another --out, or --overwrite"
        )
    elif (out / RESULT).is_file():
        return False
    (out / PARTS).mkdir(exist_ok=True)
    for stale in (out / PARTS).glob(".*.tmp"):
        stale.unlink(missing_ok=True)
    write_json(path, stamp)
    return True


def _stamp(
    inputs: Inputs, options: Options, metrics: Mapping[str, Metric], digests: Mapping[str, dict[str, str]]
) -> dict[str, Any]:
    """What makes two evaluations the same; parts of the one may serve the other."""
    from bench.common import provenance
    from prep.options import suite_version

    clips = sha256()
    for job in inputs.jobs:
        clips.update(repr(job).encode())
        for candidate in job.candidates:
            if candidate.video is not None and candidate.video.path.is_file():
                state = candidate.video.path.stat()
                clips.update(f"{state.st_size} {state.st_mtime_ns}".encode())
    return {
        "clips": clips.hexdigest(),
        "data": inputs.name,
        "protocol": inputs.protocol,
        "audio": options.audio,
        "regions": list(options.regions),
        "seed": options.seed,
        "device": options.device,
        "metrics": {name: metric.spec.hash for name, metric in metrics.items()},
        "weights": dict(digests),
        "training data": dict(options.training_data),
        "versions": {"suite": suite_version(), **provenance.packages()},
    }


def _data(inputs: Inputs) -> Data:
    digest = sha256()
    for job in inputs.jobs:
        digest.update(f"{job.clip_id}\n".encode())
        if inputs.kind != "dataset" and job.truth is not None and job.truth.path.is_file():
            digest.update(file_sha256(job.truth.path).encode())
    return Data(
        name=inputs.name,
        kind=inputs.kind,
        split=inputs.split,
        manifest_sha256=inputs.manifest_sha256,
        clips_sha256=digest.hexdigest(),
        clips=len(inputs.jobs),
    )


def _info(spec: Spec, digests: dict[str, str]) -> MetricInfo:
    outputs = [
        OutputInfo(key=o.key, label=o.label, better=o.better, unit=o.unit, cap=o.cap, decimals=o.decimals)
        for o in spec.outputs
    ]
    return MetricInfo(
        name=spec.name,
        summary=spec.summary,
        spec_hash=spec.hash,
        parameters=dict(spec.parameters),
        outputs=outputs,
        weights=digests,
        aggregate=spec.aggregate,
        paired=spec.paired,
    )


def _methods(
    inputs: Inputs, out: Path, options: Options, metrics: Mapping[str, Metric]
) -> list[MethodResult]:
    """The figures of all methods, from the rows of the clips."""
    import pandas as pd

    columns = ["method", "clip_id", "region", "metric", "output", "value", "reason"]
    rows = pd.read_parquet(out / CLIPS, columns=columns)
    groups = dict(iter(rows.groupby(["method", "region", "output"], sort=False)))
    candidates = {c.method: c for job in inputs.jobs for c in job.candidates}
    found = []
    for name, candidate in candidates.items():
        figures: list[Figure] = []
        for metric in metrics.values():
            for region in options.regions if metric.spec.regions else (CLIP_REGION,):
                group = {o.key: groups[name, region, metric.spec.id(o)] for o in metric.spec.outputs}
                if metric.spec.aggregate == "set":
                    figures += _of_set(group, inputs.jobs, out, metric, name, region)
                else:
                    figures += _of_clips(group, metric.spec, region, options.seed)
        source = inputs.sources.get(name, "")
        generation = _generation(Path(source)) if source else {}
        found.append(
            MethodResult(
                method=name,
                kind=candidate.kind,
                source=source,
                training_data=dict(options.training_data).get(name) or generation.get("trained_on", ""),
                generation=generation,
                figures=figures,
            )
        )
    return found


def _generation(folder: Path) -> dict[str, Any]:
    """What `bench generate` wrote beside the videos, if it made them."""
    try:
        return json.loads((folder / GENERATION).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise BenchError(f"{folder / GENERATION} cannot be read: {error}; generate anew") from None


def _of_clips(group: Mapping[str, pd.DataFrame], spec: Spec, region: str, seed: int) -> Iterator[Figure]:
    for output in spec.outputs:
        rows = group[output.key]
        values = [
            Value(clip, None if reason else value, reason)
            for clip, value, reason in zip(rows["clip_id"], rows["value"], rows["reason"], strict=True)
        ]
        yield summarise(values, region, spec.name, spec.id(output), output.cap, seed)


def _of_set(
    group: Mapping[str, pd.DataFrame],
    jobs: Sequence[Job],
    out: Path,
    metric: Metric,
    method: str,
    region: str,
) -> Iterator[Figure]:
    spec = metric.spec
    first = group[spec.outputs[0].key]
    scored = set(first["clip_id"][first["reason"] == ""])
    paths = [part_path(out / PARTS, job.clip_id) for job in jobs if job.clip_id in scored]
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


def _provenance(options: Options, seconds: float, command: str) -> Provenance:
    from bench.common import provenance
    from prep.options import suite_version

    commit, dirty = provenance.git_state()
    return Provenance(
        suite_version=suite_version(),
        git_commit=commit,
        git_dirty=dirty,
        packages=provenance.packages(),
        python=".".join(map(str, sys.version_info[:3])),
        machine=provenance.machine(options.device),
        device=options.device,
        seed=options.seed,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        command=command,
    )


def short_coverage(result: Result) -> list[str]:
    """Figures that some clips are missing from, a line a method and metric; none where all were scored."""
    lines: dict[str, None] = {}
    for method in result.methods:
        for figure in method.figures:
            if figure.scored < figure.asked:
                why = "; ".join(f"{reason} ({n})" for reason, n in figure.failures.items())
                where = "" if figure.region == CLIP_REGION else f" in {figure.region}"
                lines[
                    f"{method.method}, {figure.metric}{where}: {figure.scored} of {figure.asked} clips: {why}"
                ] = None
    return list(lines)
