"""Sync judges compared: every judge at hand on the same videos, under the same windows.

Figures of a judge without those of another one on the same clips say little: short clips and little speech are hard for
all of them. So each clip is judged by all, by the rules of :mod:`baselines.sync_judges`, over the frames that all of
them see and hear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from bench.clips.inputs import Audio, Inputs, find_inputs
from bench.clips.job import LATE, Candidate, Job
from bench.common.dask_loop import share
from bench.common.device import pick_device
from bench.common.errors import BenchError
from bench.eval.decoding import MATRIX_RULES, PIXELS, MatrixRule, choose, chosen, decoded
from bench.eval.engine import Engine
from bench.eval.judging import LENGTHS, METRICS, REACH, Judged, judged_alike
from bench.eval.plan import with_landmarks_of
from bench.eval.previews import Previews
from bench.eval.score import Step, default_workers
from bench.eval.statistics import RESAMPLES, Value, mean_over_clips, resamples
from bench.metrics.base import Context
from bench.metrics.sync_judges import FoundJudge, build_judge, find_judges
from bench.results import CLIP_REGION, Figure, Missing
from bench.weights.store import WeightStore
from prep import detectors
from prep.names import known

if TYPE_CHECKING:
    from prep.pixels import Pixels

Float = npt.NDArray[np.float64]

#: Rows made from the truth, in the order in which a judge should rank them.
ROWS = ("ground_truth", *LATE, "wrong_audio", "still")
#: Figures by which judges' opinions of clips and of rows are compared.
COMPARED = ("above.25", "confidence")
#: What an undecidable clip counts as in the mean of absolute offsets: one frame more than can be found.
UNDECIDABLE = REACH + 1
# Outputs that a clip without an offset has, too.
_ALWAYS = ("abs_offset", "decided", "confidence", "significance")
#: Why a clip has no figure of windows. The same text for all clips, since reasons are counted.
NO_WINDOW = "no such window with speech, and with sound beside it to compare"
#: Fewest clips, and rows, whose order is compared.
FEWEST_CLIPS, FEWEST_ROWS = 5, 3


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JudgeInfo(_Model):
    """A judge, as results name it; see :class:`bench.metrics.sync_judges.JudgeFacts`."""

    name: str
    kind: str
    file: str
    sha256: str
    training: list[dict[str, str]] = Field(
        description="name and manifest_sha256 of each data set; empty: not recorded"
    )


class RowFigures(_Model):
    """What one judge says of one row.

    The outputs are ``above.N`` and ``within.N`` for windows of N frames (:class:`bench.eval.judging.Judged`),
    ``offset`` in frames over the clips that have one, ``abs_offset`` over all (:data:`UNDECIDABLE` for those that have
    none), ``decided`` (the share of clips with an offset), and ``confidence`` and ``significance``
    (:class:`baselines.sync_judges.offset.Offset`).
    """

    judge: str
    method: str
    figures: list[Figure]


class Agreement(_Model):
    """How far two judges put clips, or rows, in the same order.

    Attributes:
        judges: their names.
        figure: one of :data:`COMPARED`.
        over: ``clips`` of one row, by Spearman's ρ; or ``rows``, by Kendall's τ-b of their means over the clips that
            both judges have of all rows.
        method: the row, for clips.
        value: -1 … 1; None: all equal, so that there is no order.
        low: lower end of the 95 % interval over clips.
        high: its upper end.
        n: clips or rows.
    """

    judges: tuple[str, str]
    figure: str
    over: Literal["clips", "rows"]
    method: str = ""
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int


class SyncExplanation(_Model):
    """Judges compared.

    Attributes:
        data: name of the data set or of the folder of true videos.
        split: of the data set.
        clips: number of clips.
        lengths: of windows, in frames.
        judges: that were at hand.
        missing: the others, each with the way to get it; ``metric`` is the kind of judge.
        rows: judge by judge, method by method.
        agreement: pair by pair.
    """

    data: str
    split: str
    clips: int
    lengths: tuple[int, ...] = LENGTHS
    judges: list[JudgeInfo]
    missing: list[Missing]
    rows: list[RowFigures]
    agreement: list[Agreement]


@dataclass(frozen=True)
class Opinion:
    """What a judge says of one video, or why it says nothing."""

    clip_id: str
    method: str
    judge: str
    judged: Judged | None
    reason: str = ""


@dataclass(frozen=True)
class Judging:
    """Everything needed to judge clips in a process; small and picklable.

    Attributes:
        judges: files of the judges.
        weights: finds networks.
        device: of torch.
        detector: what finds landmarks.
    """

    judges: tuple[FoundJudge, ...]
    weights: WeightStore
    device: str
    detector: str

    def build(self) -> Engine:
        """An engine for this process, whose metrics are the judges."""
        context = Context(self.weights, self.device)
        engine = Engine((), (), context, detector=self.detector)
        for file in self.judges:
            judge = build_judge(file, context)
            engine.metrics.append(METRICS[judge.sight](judge, context))
        return engine


def judge_clip(job: Job, engine: Engine) -> list[Opinion]:
    """The opinions of all judges of an engine of :class:`Judging` on all candidates of a clip."""
    found = []
    with engine.watched(job, Previews(job.clip_id)) as runs:
        for run in runs:
            videos, reasons = {}, {}
            for slot, score, problem in run.scores():
                name = slot.metric.judge.facts.name  # type: ignore[attr-defined]
                reasons[name] = problem or slot.why_not(score)
                if score is not None:
                    videos[name] = score.notes["embedded"]
            judged = dict(zip(videos, judged_alike(list(videos.values())), strict=True)) if videos else {}
            found += [
                Opinion(job.clip_id, run.candidate.method, name, judged.get(name), reason)
                for name, reason in reasons.items()
            ]
    return found


@contextmanager
def _silent() -> Iterator[Callable[[Step], None]]:
    yield lambda _: None


def explain_sync(
    predictions: Mapping[str, Path] | None = None,
    *,
    data: Path | None = None,
    truth: Path | None = None,
    split: str | None = None,
    root: Path | None = None,
    audio: Audio = "prediction",
    pixels: Pixels | None = None,
    matrix: MatrixRule = "auto",
    detector: str = detectors.DEFAULT,
    with_trivial: bool = False,
    sync_cca: Sequence[Path] = (),
    sync_expert: Sequence[Path] = (),
    limit: int | None = None,
    workers: int | None = 1,
    device: str = "auto",
    seed: int = 0,
    weights_dir: Path | None = None,
    progress: Callable[[], AbstractContextManager[Callable[[Step], None]]] = _silent,
) -> SyncExplanation:
    """Let every sync judge at hand judge the same videos: the truth, and those of methods.

    Args:
        predictions: see :func:`bench.eval.evaluate`, also for all arguments not listed here; none are needed.
        with_trivial: also the truth's pictures 1, 2, 3 and 5 frames late and with the sound of another clip, and its
            first frame throughout.
        sync_cca: runs of ``sync-cca``.
        sync_expert: runs of ``sync-expert``, of either view.
        progress: makes the progress callback.

    Raises:
        BenchError: there are no true videos, no judge is at hand, a run is not of its method or has no weights yet, or
            as :func:`bench.eval.evaluate`.
        PrepError: a name is unknown, or a folder or data set cannot be read.
    """
    known("audio", [audio], ("prediction", "truth"))
    known("pixels", [pixels] if pixels else [], PIXELS)
    known("matrix", [matrix], MATRIX_RULES)
    known("detector", [detector], detectors.DETECTORS)
    place = pick_device(device)
    store = WeightStore.default(weights_dir)
    files, missing = find_judges(sync_cca, sync_expert, store)
    if not files:
        raise BenchError(
            "no sync judge is at hand: " + "; ".join(f"{lack.metric}: {lack.remedy}" for lack in missing)
        )
    inputs = find_inputs(
        predictions or {},
        data=data,
        truth=truth,
        split=split,
        root=root,
        audio=audio,
        limit=limit,
        with_trivial=True,
        seed=seed,
    )
    inputs = _rows(inputs, ROWS if with_trivial else ROWS[:1])
    pixels = pixels or inputs.pixels or "exact"
    inputs = with_landmarks_of(detectors.identity(detector), decoded(inputs, pixels, matrix))
    setup = Judging(tuple(files), store, place, detector)
    engine = setup.build()
    if matrix == "auto" and pixels == "exact":
        inputs = chosen(inputs, choose(inputs, engine))
    opinions: list[Opinion] = []
    with progress() as notify:
        for found in share(
            inputs.jobs,
            setup.build,
            judge_clip,
            partial(_given_up, setup),
            built=engine,
            workers=workers or default_workers(place, len(inputs.jobs)),
        ):
            opinions += found
            notify(Step(failures=int(any(o.reason for o in found)), total=len(inputs.jobs)))
    _check_judged(opinions)
    judges = [file.facts.name for file in files]
    methods = [candidate.method for candidate in inputs.jobs[0].candidates]
    return SyncExplanation(
        data=inputs.name,
        split=inputs.split,
        clips=len(inputs.jobs),
        judges=[_info(file) for file in files],
        missing=missing,
        rows=[
            RowFigures(judge=judge, method=method, figures=figures(_of(opinions, judge, method), judge, seed))
            for judge in judges
            for method in methods
        ],
        agreement=agreement(opinions, judges, methods, seed),
    )


def _check_judged(opinions: Sequence[Opinion]) -> None:
    """Check that there is a figure at all: of pictures, and videos without sound, there is none."""
    if any(v.value is not None for o in opinions for name, v in _values(o).items() if name not in _ALWAYS):
        return
    reasons = {v.reason for o in opinions for name, v in _values(o).items() if name == "offset"}
    raise BenchError(f"nothing can be judged ({', '.join(sorted(reasons))}): give videos of faces that speak")


def _given_up(setup: Judging, job: Job, reason: str) -> list[Opinion]:
    return [
        Opinion(job.clip_id, candidate.method, file.facts.name, None, reason)
        for candidate in job.candidates
        for file in setup.judges
    ]


def _info(file: FoundJudge) -> JudgeInfo:
    facts = file.facts
    training = [{"name": d.name, "manifest_sha256": d.manifest_sha256} for d in facts.training]
    return JudgeInfo(
        name=facts.name, kind=facts.kind, file=str(facts.file), sha256=facts.sha256, training=training
    )


def _rows(inputs: Inputs, rows: Sequence[str]) -> Inputs:
    """The methods, then those of the rows that there are."""

    def of(job: Job) -> tuple[Candidate, ...]:
        there = {candidate.method: candidate for candidate in job.candidates}
        truth = there.get("ground_truth")
        if truth is not None:
            there |= {name: _late(truth, name, frames) for name, frames in LATE.items()}
        methods = [candidate for candidate in job.candidates if candidate.kind == "method"]
        return (*methods, *(there[row] for row in rows if row in there))

    return replace(inputs, jobs=[replace(job, candidates=of(job)) for job in inputs.jobs])


def _late(truth: Candidate, name: str, frames: int) -> Candidate:
    voice = truth.audio
    return replace(
        truth, method=name, audio=None if voice is None else replace(voice, start=voice.start + frames)
    )


def _of(opinions: Sequence[Opinion], judge: str, method: str) -> list[Opinion]:
    return [o for o in opinions if (o.judge, o.method) == (judge, method)]


def _values(opinion: Opinion) -> dict[str, Value]:
    """The outputs of one clip."""
    judged = opinion.judged
    names = [f"{what}.{n}" for n in LENGTHS for what in ("above", "within")]
    names += ["offset", "abs_offset", "decided", "confidence", "significance"]
    if judged is None:
        return {name: Value(opinion.clip_id, None, opinion.reason) for name in names}
    offset = judged.offset
    numbers: dict[str, float | None] = {f"above.{n}": share for n, share in judged.above.items()}
    numbers |= {f"within.{n}": share for n, share in judged.within.items()}
    numbers["offset"] = offset.frames
    numbers["abs_offset"] = UNDECIDABLE if offset.frames is None else abs(offset.frames)
    numbers["decided"] = offset.frames is not None
    numbers["confidence"], numbers["significance"] = offset.confidence, offset.significance

    def value(name: str) -> Value:
        number = numbers.get(name)
        if number is not None and np.isfinite(number):
            return Value(opinion.clip_id, float(number))
        windows = name.startswith(("above", "within"))
        return Value(opinion.clip_id, None, NO_WINDOW if windows else f"undecidable: {offset.undecidable}")

    return {name: value(name) for name in names}


def figures(opinions: Sequence[Opinion], judge: str, seed: int) -> list[Figure]:
    """The figures of one judge on one row, with 95 % intervals over clips."""
    clips = [_values(opinion) for opinion in opinions]
    return [
        mean_over_clips([clip[output] for clip in clips], CLIP_REGION, judge, output, None, seed)
        for output in clips[0]
    ]


def agreement(
    opinions: Sequence[Opinion], judges: Sequence[str], methods: Sequence[str], seed: int
) -> list[Agreement]:
    """Every pair of judges: their order of the clips of each row, and of the rows."""
    values = {(o.judge, o.method, o.clip_id): _numbers(o) for o in opinions}
    clips = sorted({opinion.clip_id for opinion in opinions})
    found = []
    for figure in COMPARED:
        # (judges, methods, clips), NaN where there is no figure.
        table = np.array(
            [
                [[values[judge, method, clip][figure] for clip in clips] for method in methods]
                for judge in judges
            ]
        )
        for a, b in combinations(range(len(judges)), 2):
            pair = table[[a, b]]
            for row, method in enumerate(methods):
                both = pair[:, row, np.isfinite(pair[:, row]).all(axis=0)]
                if both.shape[1] >= FEWEST_CLIPS:
                    value, low, high = _with_interval(both, spearman, seed, f"{figure} clips")
                    found.append(
                        Agreement(
                            judges=(judges[a], judges[b]),
                            figure=figure,
                            over="clips",
                            method=method,
                            value=value,
                            low=low,
                            high=high,
                            n=both.shape[1],
                        )
                    )
            there = np.isfinite(pair).any(axis=2).all(axis=0)
            both = pair[:, there]
            both = both[:, :, np.isfinite(both).all(axis=(0, 1))]
            if there.sum() >= FEWEST_ROWS and both.shape[2]:
                value, low, high = _with_interval(both, _kendall_of_means, seed, f"{figure} rows")
                found.append(
                    Agreement(
                        judges=(judges[a], judges[b]),
                        figure=figure,
                        over="rows",
                        value=value,
                        low=low,
                        high=high,
                        n=int(there.sum()),
                    )
                )
    return found


def _numbers(opinion: Opinion) -> dict[str, float]:
    return {name: np.nan if v.value is None else v.value for name, v in _values(opinion).items()}


def _with_interval(
    pair: Float, coefficient: Callable[[Float], float], seed: int, name: str
) -> tuple[float | None, float | None, float | None]:
    """A coefficient of (2, …, clips), and the ends of its 95 % interval over clips.

    Resamples without an order are left out; there is no interval if half of them have none.
    """
    value = coefficient(pair)
    if not np.isfinite(value):
        return None, None, None
    drawn = [coefficient(pair[..., chosen]) for chosen in resamples(pair.shape[-1], seed, name)]
    drawn = [one for one in drawn if np.isfinite(one)]
    if len(drawn) < RESAMPLES / 2:
        return value, None, None
    low, high = np.percentile(drawn, [2.5, 97.5])
    return value, float(low), float(high)


def spearman(pair: Float) -> float:
    """Spearman's ρ of (2, n) values, -1 … 1; NaN if all of one side are equal."""
    from scipy.stats import rankdata

    ranks = rankdata(pair, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    scale = np.sqrt((ranks**2).sum(axis=1).prod())
    return float(ranks[0] @ ranks[1] / scale) if scale else np.nan


def kendall(pair: Float) -> float:
    """Kendall's τ-b of (2, n) values, -1 … 1; NaN if all of one side are equal."""
    signs = np.sign(pair[:, :, None] - pair[:, None, :])
    scale = np.sqrt((signs**2).sum(axis=(1, 2)).prod())
    return float((signs[0] * signs[1]).sum() / scale) if scale else np.nan


def _kendall_of_means(pair: Float) -> float:
    return kendall(pair.mean(axis=2))
