"""The first step of an evaluation: which metrics are defined and can be computed, and which are missing and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.clips.inputs import Audio, Inputs
from bench.clips.job import FULL, SHIFTED
from bench.common.errors import BenchError, Unavailable
from bench.eval.decoding import MatrixRule, choose, chosen, decoded
from bench.eval.engine import Engine
from bench.metrics import get_spec
from bench.metrics.base import Context, Metric, Spec
from bench.metrics.cca_file import find_cca
from bench.metrics.expert_file import find_expert
from bench.results import Missing, Untagged
from prep import detectors
from prep.pixels import Pixels

if TYPE_CHECKING:
    from bench.metrics.judge_file import JudgeFile
    from bench.weights.store import WeightStore


@dataclass(frozen=True)
class EvalOptions:
    """The options of an evaluation.

    Attributes:
        metrics: names of variants.
        regions: of :data:`bench.metrics.regions.REGIONS`.
        audio: the sound for lip-sync metrics: that of the prediction's file, or the truth's.
        seed: of the bootstrap and of the choice of wrong audio.
        device: of torch.
        batch: frames scored together; it changes no figure.
        training_data: method → what it was trained on, for notes below tables.
        sync_expert: run of ``sync-expert`` for ``lse.expert``, or None.
        sync_cca: run of ``sync-cca`` for ``sync.cca``, or None.
        pixels: how colours are decoded; None: as the data set's were, without a data set ``exact``.
        matrix: by which matrix, of :data:`bench.eval.decoding.MATRIX_RULES`.
        detector: what finds landmarks, one of :data:`prep.detectors.DETECTORS`.
    """

    metrics: tuple[str, ...]
    regions: tuple[str, ...] = ("full", "face", "mouth")
    audio: Audio = "prediction"
    seed: int = 0
    device: str = "cpu"
    batch: int = 16
    training_data: tuple[tuple[str, str], ...] = ()
    sync_expert: Path | None = None
    sync_cca: Path | None = None
    pixels: Pixels | None = None
    matrix: MatrixRule = "auto"
    detector: str = detectors.DEFAULT


@dataclass(frozen=True)
class EngineSetup:
    """Everything needed to build an engine; small and picklable.

    Attributes:
        metrics: names of variants.
        regions: of :data:`bench.metrics.regions.REGIONS`.
        device: of torch.
        batch: frames scored together.
        weights: finds networks.
        sync_expert: the trained expert, or None.
        sync_cca: the fitted linear judge, or None.
        detector: what finds landmarks.
    """

    metrics: tuple[str, ...]
    regions: tuple[str, ...]
    device: str
    batch: int
    weights: WeightStore
    sync_expert: JudgeFile | None = None
    sync_cca: JudgeFile | None = None
    detector: str = detectors.DEFAULT

    def build(self) -> Engine:
        """An engine for this process."""
        context = Context(self.weights, self.device, self.sync_expert, self.sync_cca)
        return Engine(self.metrics, self.regions, context, self.batch, self.detector)

    def build_whole(self) -> Engine:
        """An engine for this process with all metrics. Raises BenchError if one cannot be computed here."""
        engine = self.build()
        if engine.missing:
            lack = engine.missing[0]
            raise BenchError(f"a worker cannot compute {lack.metric}: {lack.reason}; {lack.remedy}")
        return engine


@dataclass(frozen=True)
class EvalPlan:
    """What is scored, and by which metrics.

    Attributes:
        inputs: clips and candidates.
        options: of the evaluation.
        metrics: the metrics that are computed, by name.
        digests: name of a metric → name of weights → SHA-256.
        missing: metrics that were requested and are not computed.
        setup: for the engines of other processes.
        engine: of this process.
        pixels: how colours are decoded.
        untagged: method → by which matrix its untagged videos of tagged truths are decoded.
        detector: identity of what finds landmarks, see :func:`prep.detectors.identity`.
    """

    inputs: Inputs
    options: EvalOptions
    metrics: Mapping[str, Metric]
    digests: Mapping[str, dict[str, str]]
    missing: list[Missing]
    setup: EngineSetup
    engine: Engine
    pixels: Pixels
    untagged: Mapping[str, Untagged]
    detector: Mapping[str, str]


def plan_evaluation(inputs: Inputs, options: EvalOptions, weights: WeightStore) -> EvalPlan:
    """Choose the metrics that are defined for these inputs and can be computed here, and load their networks.

    Raises:
        BenchError: there is nothing to score, no metric can be computed, or a region needs landmarks that are not
            available.
        PrepError: the detector is unknown, or the package that it is in is not installed.
    """
    detector = detectors.identity(options.detector)
    if not inputs.jobs:
        raise BenchError("there are no clips to score")
    if inputs.protocol == "dubbing":
        inputs = replace(inputs, jobs=[replace(job, paired=False) for job in inputs.jobs])
    pixels = options.pixels or inputs.pixels or "exact"
    inputs = with_landmarks_of(detector, decoded(inputs, pixels, options.matrix))
    specs, missing = _applicable(inputs, options)
    expert = find_expert(options.sync_expert) if options.sync_expert else None
    names = tuple(spec.name for spec in specs)
    cca = find_cca(options.sync_cca) if options.sync_cca else None
    setup = EngineSetup(
        names, options.regions, options.device, options.batch, weights, expert, cca, options.detector
    )
    engine = setup.build()
    missing += engine.missing + _without_landmarks(engine, inputs)
    _check_regions(engine, inputs, options)
    metrics = {metric.spec.name: metric for metric in engine.metrics}
    if not metrics:
        reasons = "; ".join(f"{m.metric}: {m.reason}" for m in missing)
        raise BenchError(f"none of the metrics can be computed here: {reasons}")
    digests = {name: metric.digests() for name, metric in metrics.items()}
    if not any(metric.spec.detects for metric in metrics.values()):
        inputs = _without(inputs, SHIFTED)
    untagged = choose(inputs, engine) if options.matrix == "auto" and pixels == "exact" else {}
    return EvalPlan(
        chosen(inputs, untagged),
        options,
        metrics,
        digests,
        missing,
        replace(setup, metrics=tuple(metrics)),
        engine,
        pixels,
        untagged,
        detector,
    )


def with_landmarks_of(detector: Mapping[str, str], inputs: Inputs) -> Inputs:
    """The same inputs; landmarks that another detector found for a data set are not used, but detected again."""
    if detectors.same(detector, inputs.detector):
        return inputs
    return replace(inputs, jobs=[replace(job, shard=None) for job in inputs.jobs])


def _applicable(inputs: Inputs, options: EvalOptions) -> tuple[list[Spec], list[Missing]]:
    """The variants that are defined for these inputs, and why the others are not."""
    specs, missing = [], []
    truths = any(job.truth is not None for job in inputs.jobs)
    for spec in dict.fromkeys(get_spec(name) for name in options.metrics):
        reason = remedy = ""
        if "truth" in spec.needs and not truths:
            reason, remedy = "it compares with the true videos, and none were given", "give --truth"
        elif spec.paired and inputs.protocol == "dubbing":
            reason = "it compares frame with frame, and a face that speaks other words has no true frame"
        if reason:
            missing.append(Missing(metric=spec.name, reason=reason, remedy=remedy))
        else:
            specs.append(spec)
    return specs, missing


def _without(inputs: Inputs, row: str) -> Inputs:
    """The inputs without one row."""
    kept = ((job, tuple(c for c in job.candidates if c.method != row)) for job in inputs.jobs)
    return replace(inputs, jobs=[replace(job, candidates=candidates) for job, candidates in kept])


def _without_landmarks(engine: Engine, inputs: Inputs) -> list[Missing]:
    """Take the metrics away that need landmarks of the truth, if these must be detected and cannot be."""
    needing = [metric for metric in engine.metrics if "truth_landmarks" in metric.spec.needs]
    if not needing or _landmarks_known(inputs):
        return []
    try:
        _ = engine.faces
    except Unavailable as error:
        engine.metrics = [metric for metric in engine.metrics if metric not in needing]
        return [
            Missing(metric=metric.spec.name, reason=error.reason, remedy=error.remedy) for metric in needing
        ]
    return []


def _landmarks_known(inputs: Inputs) -> bool:
    return all(job.shard or job.truth is None for job in inputs.jobs)


def _check_regions(engine: Engine, inputs: Inputs, options: EvalOptions) -> None:
    if (set(options.regions) <= {"full"} and inputs.output == FULL) or _landmarks_known(inputs):
        return
    try:
        _ = engine.faces
    except Unavailable as error:
        if inputs.output != FULL:
            raise BenchError(f"the view {inputs.output} is cut by landmarks ({error})") from None
        raise BenchError(
            f"the regions face and mouth need landmarks ({error}); or use --region full"
        ) from None
