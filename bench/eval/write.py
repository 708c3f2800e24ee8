"""The last step of an evaluation: the folder of a result, locked and checked before scoring, written after it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench.clips.inputs import Inputs
from bench.clips.job import FULL
from bench.common import provenance
from bench.common.errors import BenchError
from bench.common.lock import exclusive
from bench.eval import parts
from bench.eval.plan import EvalOptions, EvalPlan
from bench.metrics.base import Spec
from bench.results import (
    CLIPS,
    FRAMES,
    PREVIEWS,
    RESULT,
    Data,
    MethodResult,
    MetricInfo,
    OutputInfo,
    Provenance,
    Result,
    read_result,
    write_result,
)
from prep.options import suite_version
from prep.shards import sha256 as file_sha256
from prep.shards import write_json

PARTS = "parts"
STAMP = "evaluation.json"


@contextmanager
def claimed(out: Path, plan: EvalPlan, overwrite: bool) -> Iterator[Result | None]:
    """Prepare a folder for an evaluation and keep other processes from writing it while the block runs.

    Yields:
        The result if this same evaluation is already complete there; else None, and ``out / PARTS`` exists.

    Raises:
        BenchError: the folder holds another evaluation that must not be overwritten, is in use, or cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with exclusive(out, "bench eval"):
            yield None if _claim(out, _stamp(plan), overwrite) else read_result(out)
    except OSError as error:
        where = error.filename or out
        raise BenchError(f"{where}: {error.strerror or error}; the same command continues") from error


def _claim(out: Path, stamp: dict[str, Any], overwrite: bool) -> bool:
    """Prepare ``out`` for this evaluation; False if it is already complete there."""
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


def _stamp(plan: EvalPlan) -> dict[str, Any]:
    """The identity of an evaluation: if two are equal, parts of one can be used for the other."""
    options = plan.options
    clips = sha256()
    for job in plan.inputs.jobs:
        clips.update(repr(job).encode())
        for candidate in job.candidates:
            if candidate.video is not None and candidate.video.path.is_file():
                state = candidate.video.path.stat()
                clips.update(f"{state.st_size} {state.st_mtime_ns}".encode())
    stamp = {
        "clips": clips.hexdigest(),
        "data": plan.inputs.name,
        "protocol": plan.inputs.protocol,
        "audio": options.audio,
        "pixels": plan.pixels,
        "matrix": options.matrix,
        "detector": dict(plan.detector),
        "untagged": {method: choice.matrix for method, choice in plan.untagged.items()},
        "regions": list(options.regions),
        "seed": options.seed,
        "device": options.device,
        "metrics": {name: metric.spec.hash for name, metric in plan.metrics.items()},
        "weights": dict(plan.digests),
        "training data": dict(options.training_data),
        "versions": {"suite": suite_version(), **provenance.packages()},
    }
    if plan.inputs.output != FULL:
        painted = {c.method: c.paints for job in plan.inputs.jobs for c in job.candidates}
        stamp["output"] = {"scored": plan.inputs.output, **painted}
    return stamp


def write_evaluation(
    out: Path,
    plan: EvalPlan,
    paths: Sequence[Path],
    methods: list[MethodResult],
    seconds: float,
    command: str,
) -> Result:
    """Write the tables of all clips and the result, and remove the parts.

    Args:
        out: a folder prepared by :func:`claimed`.
        plan: what was scored.
        paths: the parts of all clips, in the order of the clips.
        methods: their figures.
        seconds: wall time so far.
        command: as typed, for the provenance; ``""`` without a command.
    """
    parts.merge(paths, out, "figure", parts.CLIP_COLUMNS, CLIPS)
    parts.merge(paths, out, "figure", parts.FRAME_COLUMNS, FRAMES)
    parts.merge(paths, out, "preview", parts.PREVIEW_COLUMNS, PREVIEWS)
    result = Result(
        data=_data(plan.inputs),
        protocol=plan.inputs.protocol,
        audio=plan.options.audio,
        output=plan.inputs.output,
        pixels=plan.pixels,
        matrix=plan.options.matrix,
        detector=dict(plan.detector),
        regions=list(plan.options.regions),
        metrics=[_info(metric.spec, plan.digests[name]) for name, metric in plan.metrics.items()],
        missing=plan.missing,
        methods=methods,
        provenance=_provenance(plan.options, seconds, command),
    )
    write_result(out, result)
    shutil.rmtree(out / PARTS)
    return result


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


def _provenance(options: EvalOptions, seconds: float, command: str) -> Provenance:
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
