"""Scoring one candidate of a clip: its frames are passed to every metric in every region."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from baselines import trivial
from bench.clips.inputs.reading import voice_samples
from bench.clips.job import FRAME_TOLERANCE, SHIFTED, Candidate, Job
from bench.eval.faces import Follower, Wanted
from bench.eval.parts import FeatureBlobs, PartRow
from bench.eval.previews import Previews
from bench.eval.slot import Slot, applies
from bench.eval.truth import Frames, Truth, reason_of
from bench.eval.video import CandidateVideo
from bench.metrics.base import Batch, ClipInfo, Metric, Pictures, Score
from bench.results import CLIP_REGION
from prep.errors import ClipError, PrepError

log = logging.getLogger(__name__)


class CandidateRun:
    """The scoring of one candidate of a clip.

    Args:
        candidate: what is scored.
        job: its clip.
        truth: the true video of the clip.
        metrics: all metrics.
        region_names: of :data:`bench.metrics.regions.REGIONS`.
    """

    def __init__(
        self,
        candidate: Candidate,
        job: Job,
        truth: Truth,
        metrics: Sequence[Metric],
        region_names: Sequence[str],
    ) -> None:
        self.candidate = candidate
        self.job = job
        self.truth = truth
        self.video = CandidateVideo(candidate, job, truth)
        self.slots = [
            Slot(metric, region, job.clip_id)
            for metric in metrics
            if applies(metric.spec, candidate)
            for region in (region_names if metric.spec.regions else (CLIP_REGION,))
        ]
        self._shifted = candidate.method == SHIFTED
        self._follower = Follower()
        self._started = False

    def alive(self, start: int) -> bool:
        """Whether there are frames to score from number ``start`` on."""
        return not self.video.problem and start < self.video.n_frames

    def read(self, start: int, wanted: int, truth: Frames | None, previews: Previews) -> Frames:
        """The frames to score from number ``start`` on, at most ``wanted``; in a paired job, not more than the truth
        has."""
        frames = self.video.next(start, wanted, truth)
        if frames and not self._started:
            self._start(frames[0])
        if frames and not self.video.same:
            previews.keep(self.candidate.method, start, frames, self.video.common)
        return frames

    def wanted(self, start: int, frames: Frames) -> Wanted | None:
        """Those of some frames whose landmarks a metric needs; None if there are none."""
        needing = [slot for slot in self.slots if slot.alive and "landmarks" in slot.metric.spec.needs]
        if not any(slot.alone for slot in needing):
            frames = frames[: self._common(frames)]
        if (self.video.same and not self._shifted) or not frames or not needing:
            return None
        truth = self.truth.landmarks
        near = None if truth is None else truth[start : start + len(frames)]
        return Wanted(self._follower, list(trivial.shifted(frames)) if self._shifted else frames, near)

    def _start(self, frame: np.ndarray) -> None:
        self._started = True
        needs = {need for slot in self.slots for need in slot.metric.spec.needs}
        audio = self._audio() if "audio" in needs else None
        landmarks = self.truth.landmarks if "truth_landmarks" in needs else None
        height, width = frame.shape[:2]
        for slot in self.slots:
            if slot.region not in ("full", CLIP_REGION) and slot.region not in self.truth.windows:
                slot.reason = "no face in the truth"
                continue
            n = self.video.n_frames if slot.alone else self.video.common
            slot.start(ClipInfo(self.job.clip_id, n, width, height, slot.region, audio, landmarks))

    def _audio(self) -> np.ndarray | None:
        if self.candidate.audio is None:
            return None
        try:
            samples = voice_samples(self.candidate.audio)
        except (ClipError, PrepError, OSError) as error:
            log.info("%s, %s: %s", self.job.clip_id, self.candidate.method, reason_of(error))
            return None
        if self.candidate.method == "wrong_audio":
            samples = trivial.fit_audio(samples, self.video.n_frames)
        return samples

    def _common(self, frames: Frames) -> int:
        """How many of the frames the truth has, too."""
        return min(len(frames), len(self.truth.array)) if self.truth.exists else len(frames)

    def score(self, start: int, frames: Frames, landmarks: np.ndarray | None) -> None:
        """Score some frames.

        Args:
            start: number of the first.
            frames: that :meth:`read` returned.
            landmarks: (n, 478, 3) of the frames that were :meth:`wanted`.
        """
        if self._shifted and landmarks is not None:
            landmarks = trivial.shifted_back(landmarks)
        common = self._common(frames)
        array = None
        mine: dict[tuple[str, int], Pictures] = {}
        for slot in self.slots:
            n = len(frames) if slot.alone else common
            if not slot.alive or not n:
                continue
            truth = self.truth.pictures(slot.region, min(n, common))
            if self.video.same and not self._shifted and truth is not None:
                pred = truth
            else:
                if array is None:
                    array = np.stack(frames)
                if (slot.region, n) not in mine:
                    found = None if landmarks is None or len(landmarks) < n else landmarks[:n]
                    mine[slot.region, n] = self.truth.cut(slot.region, array[:n], found)
                pred = mine[slot.region, n]
            slot.update(Batch(start, pred, truth if n == common else None))

    def scores(self) -> Iterator[tuple[Slot, Score | None, str]]:
        """Every slot with its score, or None and, if it is that of the video, the reason."""
        problem = self.video.problem or self.truth.problem
        for slot in self.slots:
            if not slot.reason and self.video.expected(slot.alone) - slot.seen > FRAME_TOLERANCE:
                slot.reason = f"more than {FRAME_TOLERANCE} frames could not be decoded"
            yield slot, None if problem else slot.finish(), problem

    def finish(self, blobs: FeatureBlobs) -> Iterator[PartRow]:
        """A row for every figure; features of ``set`` metrics are added to ``blobs``."""
        for slot, score, problem in self.scores():
            if score is not None and score.features is not None:
                blobs.add(self.candidate.method, slot.region, slot.metric.spec.name, score.features)
            frames = self.video.found_frames, self.truth.n_frames
            yield from slot.rows(score, problem, self.candidate.method, frames)

    def close(self) -> None:
        """Free the resources of meters and decoders."""
        for slot in self.slots:
            slot.close()
        self.video.close()
