"""Scores one clip with all its candidates: every video is decoded once, and every metric gets its frames in
batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property

from bench.clips.job import FULL, Job
from bench.common.errors import Unavailable
from bench.eval.candidate import CandidateRun
from bench.eval.faces import Faces
from bench.eval.parts import FeatureBlobs, PartRow
from bench.eval.previews import TRUTH, Previews
from bench.eval.truth import Frames, Truth, next_frames
from bench.metrics import get_metric
from bench.metrics.base import Context, Metric
from bench.results import Missing
from prep.detectors import DEFAULT

#: Bytes of frames from which on the faces in them are detected: so many are held at once, of all predictions together.
HELD = 1 << 26


class Engine:
    """The metrics of an evaluation, ready to score clips. Built once per process.

    Args:
        metrics: names of variants; those that cannot be computed here are listed in :attr:`missing`.
        region_names: of :data:`bench.metrics.regions.REGIONS`.
        context: weights and device.
        batch: frames that are scored together.
        detector: what finds landmarks, one of :data:`prep.detectors.DETECTORS`.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        region_names: Sequence[str],
        context: Context,
        batch: int = 16,
        detector: str = DEFAULT,
    ) -> None:
        self.regions = tuple(region_names)
        self.batch = batch
        self.device = context.device
        self.detector = detector
        self.metrics: list[Metric] = []
        self.missing: list[Missing] = []
        for name in metrics:
            try:
                metric = get_metric(name)
                if "landmarks" in metric.spec.needs:
                    _ = self.faces
                self.metrics.append(metric(context))
            except Unavailable as error:
                spec = get_metric(name).spec
                self.missing.append(Missing(metric=spec.name, reason=error.reason, remedy=error.remedy))

    @cached_property
    def faces(self) -> Faces:
        """The detector, made when the first landmark is needed."""
        return Faces(self.detector, self.device)

    @property
    def needs_landmarks(self) -> bool:
        """Whether faces must be detected in predictions."""
        return any("landmarks" in metric.spec.needs for metric in self.metrics)

    def score(self, job: Job) -> list[PartRow]:
        """All rows of a clip: figures, or the reasons why there are none, features and preview images."""
        blobs = FeatureBlobs(job.clip_id)
        previews = Previews(job.clip_id)
        with self.watched(job, previews) as runs:
            rows = [row for run in runs for row in run.finish(blobs)]
        return [*rows, *blobs.rows, *previews.rows]

    @contextmanager
    def watched(self, job: Job, previews: Previews) -> Iterator[list[CandidateRun]]:
        """Every candidate of a clip, all of whose frames the metrics have seen.

        Args:
            job: the clip.
            previews: get some of its frames.
        """
        truth, runs = self._prepare(job)
        if truth.exists and (self._must_find_faces(job) or any(run.video.derived for run in runs)):
            truth.hold()
        try:
            with self._precision():
                if not truth.problem:
                    self._run(job, truth, runs, previews)
                yield runs
        finally:
            for run in runs:
                run.close()

    def failed(self, job: Job, reason: str) -> list[PartRow]:
        """The rows of a clip that could not be scored at all."""
        candidates = tuple(replace(candidate, problem=reason) for candidate in job.candidates)
        _, runs = self._prepare(replace(job, truth=None, candidates=candidates))
        return [row for run in runs for row in run.finish(FeatureBlobs(job.clip_id))]

    def truth_of(self, job: Job) -> Truth:
        """The true video of a clip."""
        return Truth(job, self.regions, lambda frames: self.faces.of_truth(frames), self.needs_landmarks)

    def _prepare(self, job: Job) -> tuple[Truth, list[CandidateRun]]:
        truth = self.truth_of(job)
        runs = [CandidateRun(c, job, truth, self.metrics, self.regions) for c in job.candidates]
        return truth, runs

    def _must_find_faces(self, job: Job) -> bool:
        """Whether the truth's landmarks are needed and must be detected."""
        needs = {need for metric in self.metrics for need in metric.spec.needs}
        wanted = (
            needs & {"landmarks", "truth_landmarks"} or set(self.regions) - {"full"} or job.output != FULL
        )
        return bool(wanted) and job.shard is None

    def _precision(self) -> AbstractContextManager[None]:
        """On a GPU the networks of all metrics run without TF32."""
        if self.device == "cpu":
            return nullcontext()
        from bench.metrics.networks import full_precision

        return full_precision()

    def _run(self, job: Job, truth: Truth, runs: list[CandidateRun], previews: Previews) -> None:
        stream = truth.frames() if truth.exists else None
        start = 0
        while alive := [run for run in runs if run.alive(start)]:
            wanted = min(self.batch, max(run.video.n_frames for run in alive) - start)
            frames: Frames | None = None
            if stream is not None:
                frames = next_frames(stream, wanted, truth.fail)
                truth.at(start, frames)
                if truth.problem or (not frames and job.paired):
                    break
                previews.keep(TRUTH, start, list(truth.array), truth.n_frames)
            read = _Read(self, start)
            for run in alive:
                read.add(run, run.read(start, wanted, frames, previews))
            read.score()
            start += wanted


@dataclass
class _Read:
    """The frames of several predictions from one number on, which are scored together: faces are found in one batch.

    Attributes:
        engine: that finds them.
        start: number of the first frame.
    """

    engine: Engine
    start: int
    _runs: list[tuple[CandidateRun, Frames]] = field(default_factory=list)
    _bytes: int = 0

    def add(self, run: CandidateRun, frames: Frames) -> None:
        """Add a prediction; what is too much to be held is scored."""
        if frames:
            self._runs.append((run, frames))
            self._bytes += sum(frame.nbytes for frame in frames)
        if self._bytes >= HELD:
            self.score()

    def score(self) -> None:
        """Score what was added."""
        wanted = [run.wanted(self.start, frames) for run, frames in self._runs]
        some = [one for one in wanted if one is not None]
        found = iter(self.engine.faces.of_predictions(some) if some else ())
        for (run, frames), one in zip(self._runs, wanted, strict=True):
            run.score(self.start, frames, None if one is None else next(found))
        self._runs, self._bytes = [], 0
