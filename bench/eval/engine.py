"""One clip with all its candidates: every video is decoded once, and every metric sees its frames in batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

import cv2
import numpy as np

from bench.clips.inputs.reading import count_frames, take_frames, voice_samples
from bench.clips.job import FRAME_TOLERANCE, Candidate, Job
from bench.common.errors import Unavailable, Unscorable
from bench.eval import parts
from bench.eval.faces import Faces, Follower
from bench.eval.parts import FeatureBlobs, Row
from bench.metrics import get_metric, regions
from bench.metrics.base import Batch, ClipInfo, Context, Meter, Metric, Pictures, Score
from bench.results import CLIP_REGION, Missing
from prep.errors import ClipError, PrepError

log = logging.getLogger(__name__)

#: Bytes of a true video that is held in memory; a larger one is decoded again where its frames are needed twice.
FRAME_BUDGET = 1 << 29
#: Height in pixels of the pictures that are kept for people to look at, and their JPEG quality.
PREVIEW_HEIGHT, PREVIEW_QUALITY = 256, 88
#: Where in the clip they are taken, as shares of its length.
PREVIEW_PLACES = (1 / 6, 1 / 2, 5 / 6)
#: Method under which the pictures of the true video are kept.
TRUTH = "truth"

Frames = list[np.ndarray]


class Engine:
    """The metrics of an evaluation, ready to score clips. Built once a process.

    Args:
        metrics: names of variants; those that cannot be computed here end in :attr:`missing`.
        region_names: of :data:`bench.metrics.regions.REGIONS`.
        context: weights and device.
        batch: frames that are scored together.
    """

    def __init__(
        self, metrics: Sequence[str], region_names: Sequence[str], context: Context, batch: int = 16
    ) -> None:
        self.regions = tuple(region_names)
        self.batch = batch
        self.device = context.device
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
        """FaceMesh, made when the first landmark is needed."""
        return Faces()

    @property
    def needs_landmarks(self) -> bool:
        """Whether predictions must be searched for faces."""
        return any("landmarks" in metric.spec.needs for metric in self.metrics)

    @property
    def needs_truth_landmarks(self) -> bool:
        """Whether a metric is told of the truth's landmarks through a clip."""
        return any("truth_landmarks" in metric.spec.needs for metric in self.metrics)

    def score(self, job: Job) -> list[Row]:
        """All rows of a clip: figures, or the reasons why there are none, features and pictures."""
        truth = _Truth(job, self)
        takes = [_Take(candidate, job, truth, self) for candidate in job.candidates]
        if truth.exists and any(take.derived for take in takes):
            truth.hold()
        blobs = FeatureBlobs(job.clip_id)
        pictures = _Previews(job.clip_id)
        try:
            with self._precision():
                self._run(job, truth, takes, pictures)
                rows = [row for take in takes for row in take.finish(blobs)]
        finally:
            for take in takes:
                take.close()
        return [*rows, *blobs.rows, *pictures.rows]

    def _precision(self) -> AbstractContextManager[None]:
        """On a GPU the networks of all metrics run without TF32."""
        if self.device == "cpu":
            return nullcontext()
        from bench.metrics.networks import full_precision

        return full_precision()

    def failed(self, job: Job, reason: str) -> list[Row]:
        """The rows of a clip that could not be scored at all."""
        truth = _Truth(replace(job, truth=None), self)
        takes = [_Take(replace(c, problem=reason), job, truth, self) for c in job.candidates]
        return [row for take in takes for row in take.finish(FeatureBlobs(job.clip_id))]

    def _run(self, job: Job, truth: _Truth, takes: list[_Take], pictures: _Previews) -> None:
        stream = truth.frames() if truth.exists else None
        start = 0
        while alive := [take for take in takes if take.alive(start)]:
            wanted = min(self.batch, max(take.n_frames for take in alive) - start)
            frames: Frames | None = None
            if stream is not None:
                frames = _next(stream, wanted, truth.fail)
                if not frames and (truth.problem or job.paired):
                    break
                truth.at(start, frames)
                pictures.keep(TRUTH, start, frames, truth.n_frames)
            for take in alive:
                take.step(start, wanted, frames, pictures)
            start += wanted


def _next(stream: Iterator[np.ndarray], n: int, on_error: Callable[[str], None]) -> Frames:
    try:
        return list(islice(stream, n))
    except ClipError as error:
        on_error(error.reason)
        return []


class _Truth:
    """The true video of a clip: its frames, its landmarks, its windows, and the pictures of the current batch."""

    def __init__(self, job: Job, engine: Engine) -> None:
        self.job = job
        self.engine = engine
        self.problem = ""
        self.n_frames = 0
        self._held: Frames | None = None
        self._pictures: dict[str, Pictures] = {}
        self.start, self.array = 0, np.empty((0, 0, 0, 3), np.uint8)
        if job.truth is None:
            return
        try:
            self.n_frames = job.n_frames or count_frames(job.truth)
        except (ClipError, PrepError, OSError) as error:
            self.problem = f"the true video cannot be read: {_reason(error)}"

    @property
    def exists(self) -> bool:
        return self.job.truth is not None and not self.problem

    def fail(self, reason: str) -> None:
        self.problem = f"the true video cannot be read: {reason}"

    def frames(self) -> Iterator[np.ndarray]:
        """The frames from the beginning, from memory where they fit in."""
        if self._held is not None:
            yield from self._held
            return
        assert self.job.truth is not None
        yield from take_frames(self.job.truth)

    def hold(self) -> None:
        """Keep the frames in memory if they fit in, for they are needed more than once."""
        if self._held is not None:
            return
        stream = self.frames()
        try:
            first = next(stream, None)
            if first is not None and first.nbytes * self.n_frames <= FRAME_BUDGET:
                self._held = [first, *stream]
        except ClipError as error:
            self.fail(error.reason)

    @cached_property
    def landmarks(self) -> np.ndarray | None:
        """(T, 478, 3) float32 of the whole clip; None where there is no truth."""
        if not self.exists:
            return None
        if self.job.shard is not None:
            from prep.shards import open_shard, read_clip

            path, row_group = self.job.shard
            return read_clip(open_shard(path), row_group, ["landmarks"]).landmarks
        self.hold()
        try:
            return self.engine.faces.of_truth(self.frames())
        except ClipError as error:
            self.fail(error.reason)
            return None

    @cached_property
    def windows(self) -> dict[str, tuple[int, int, np.ndarray]]:
        """Region → width, height and corners; regions without a face are absent."""
        wanted = [region for region in self.engine.regions if region != "full"]
        if not wanted or self.landmarks is None:
            return {}
        height, width = self.array.shape[1:3]
        found = {region: regions.windows(region, self.landmarks, width, height) for region in wanted}
        return {region: window for region, window in found.items() if window is not None}

    def at(self, start: int, frames: Frames) -> None:
        """Make ``frames`` the current batch."""
        self.start = start
        self.array = np.stack(frames) if frames else np.empty((0, 0, 0, 3), np.uint8)
        self._pictures = {}

    def pictures(self, region: str, n: int) -> Pictures | None:
        """The first ``n`` pictures of the current batch in a region; one object for all who ask for all of them.

        None where there are none: no truth, or one that ended.
        """
        if not n or not len(self.array):
            return None
        if region not in self._pictures:
            landmarks = None
            if self.engine.needs_landmarks and self.landmarks is not None:
                landmarks = self.landmarks[self.start : self.start + len(self.array)]
            self._pictures[region] = self.cut(region, self.array, landmarks)
        whole = self._pictures[region]
        if n == len(whole):
            return whole
        landmarks = None if whole.landmarks is None else whole.landmarks[:n]
        return Pictures(whole.array[:n], landmarks, whole.origin[:n])

    def cut(self, region: str, array: np.ndarray, landmarks: np.ndarray | None) -> Pictures:
        """Frames of the current batch, of whichever video, in a region."""
        if region in ("full", CLIP_REGION):
            return Pictures(array, landmarks)
        width, height, corners = self.windows[region]
        corners = corners[self.start : self.start + len(array)]
        return Pictures(regions.cut(array, width, height, corners), landmarks, corners)


@dataclass
class _Slot:
    """One metric in one region for one candidate."""

    metric: Metric
    region: str
    meter: Meter | None = None
    reason: str = ""
    seen: int = 0

    @property
    def alone(self) -> bool:
        """Whether it looks at the prediction alone, and so also at frames that the truth does not have."""
        return self.region in ("full", CLIP_REGION) and "truth" not in self.metric.spec.needs


@dataclass
class _Take:
    """One candidate of a clip on its way through the engine."""

    candidate: Candidate
    job: Job
    truth: _Truth
    engine: Engine
    n_frames: int = 0
    found_frames: int = 0
    problem: str = ""
    slots: list[_Slot] = field(default_factory=list)
    _stream: Iterator[np.ndarray] | None = None
    _follower: Follower | None = None
    _started: bool = False
    _odd: tuple[int, int] | None = None
    _seen: int = 0

    def __post_init__(self) -> None:
        for metric in self.engine.metrics:
            for region in self.engine.regions if metric.spec.regions else (CLIP_REGION,):
                self.slots.append(_Slot(metric, region))
        self.problem = self.candidate.problem or self.truth.problem
        if not self.problem:
            try:
                self._count()
            except (ClipError, PrepError, OSError) as error:
                self.problem = f"the prediction cannot be read: {_reason(error)}"

    @property
    def same(self) -> bool:
        """Whether the frames are the truth's own."""
        return self.candidate.video is None and self.candidate.method in ("ground_truth", "wrong_audio")

    @property
    def derived(self) -> bool:
        """Whether the frames are made from the truth's, which are then needed twice."""
        return self.candidate.video is None and not self.same

    def _count(self) -> None:
        video = self.candidate.video
        self.found_frames = self.truth.n_frames if video is None else count_frames(video)
        self.n_frames = self.found_frames
        if not self.truth.exists:
            return
        if self.job.paired and abs(self.found_frames - self.truth.n_frames) > FRAME_TOLERANCE:
            self.problem = f"more than {FRAME_TOLERANCE} frames longer or shorter than the truth"
        if self.job.paired:
            self.n_frames = self.common

    @property
    def common(self) -> int:
        """Frames that the prediction and the truth, if there is one, both have."""
        return min(self.n_frames, self.truth.n_frames) if self.truth.exists else self.n_frames

    def alive(self, start: int) -> bool:
        """Whether there are frames to score from ``start`` on."""
        return not self.problem and start < self.n_frames

    def step(self, start: int, wanted: int, truth: Frames | None, pictures: _Previews) -> None:
        """Score the frames from ``start`` on, at most ``wanted``; a paired job no more than there are of the truth."""
        n = min(wanted, self.n_frames - start)
        if truth is not None and (self.job.paired or self.same):
            n = min(n, len(truth))
        frames = truth[:n] if self.same and truth is not None else self._read(n)
        if not frames:
            return
        frames = self._unpadded(frames, truth)
        self._check_size(frames[0], truth)
        if self.problem:
            return
        if not self._started:
            self._start(frames[0])
        self._seen += len(frames)
        if not self.same:
            pictures.keep(self.candidate.method, start, frames, self.common)
        self._feed(start, frames)

    def _read(self, n: int) -> Frames:
        if self._stream is None:
            self._stream = iter(self._open())
        frames = _next(self._stream, n, self._fail)
        if len(frames) < n:
            # Decoding stopped early: no more comes, and what is missing is judged at the end.
            self.n_frames = self._seen + len(frames)
        return frames

    def _open(self) -> Iterable[np.ndarray]:
        if self.candidate.video is not None:
            return take_frames(self.candidate.video)
        from baselines import trivial

        if self.candidate.method == "still":
            return islice(trivial.still(self.truth.frames()), self.truth.n_frames)
        from bench.clips.codec import reencode
        from bench.clips.job import Codec

        codec = self.candidate.codec or Codec()
        return trivial.reencoded(self.truth.frames(), lambda frames: reencode(frames, codec))

    def _fail(self, reason: str) -> None:
        self.problem = f"the prediction cannot be read: {reason}"

    def _unpadded(self, frames: Frames, truth: Frames | None) -> Frames:
        """``frames`` without the last column or row that videos get which can hold even sizes only."""
        if truth:
            height, width = truth[0].shape[:2]
            even = (height + height % 2, width + width % 2)
            self._odd = (height, width) if even != (height, width) and frames[0].shape[:2] == even else None
        if self._odd is None:
            return frames
        return [np.ascontiguousarray(frame[: self._odd[0], : self._odd[1]]) for frame in frames]

    def _check_size(self, frame: np.ndarray, truth: Frames | None) -> None:
        if truth and frame.shape != truth[0].shape:
            mine, theirs = (f"{a.shape[1]}×{a.shape[0]}" for a in (frame, truth[0]))
            self.problem = f"the prediction is {mine}, the truth {theirs}: write it at the truth's size"

    def _start(self, frame: np.ndarray) -> None:
        self._started = True
        audio = self._audio() if any("audio" in slot.metric.spec.needs for slot in self.slots) else None
        if self.engine.needs_landmarks and not self.same:
            self._follower = self.engine.faces.follow()
        landmarks = self.truth.landmarks if self.engine.needs_truth_landmarks else None
        height, width = frame.shape[:2]
        for slot in self.slots:
            if slot.region not in ("full", CLIP_REGION) and slot.region not in self.truth.windows:
                slot.reason = "no face in the truth"
                continue
            n = self.n_frames if slot.alone else self.common
            info = ClipInfo(self.job.clip_id, n, width, height, slot.region, audio, landmarks)
            slot.meter = self._guard(slot, slot.metric.meter, info)

    def _audio(self) -> np.ndarray | None:
        if self.candidate.audio is None:
            return None
        try:
            samples = voice_samples(self.candidate.audio)
        except (ClipError, PrepError, OSError) as error:
            log.info("%s, %s: %s", self.job.clip_id, self.candidate.method, _reason(error))
            return None
        if self.candidate.method == "wrong_audio":
            from baselines.trivial import fit_audio

            samples = fit_audio(samples, self.n_frames)
        return samples

    def _feed(self, start: int, frames: Frames) -> None:
        common = min(len(frames), len(self.truth.array)) if self.truth.exists else len(frames)
        array = landmarks = None
        mine: dict[tuple[str, int], Pictures] = {}
        for slot in self.slots:
            if slot.meter is None or slot.reason:
                continue
            n = len(frames) if slot.alone else common
            if not n:
                continue
            truth = self.truth.pictures(slot.region, min(n, common))
            if self.same and truth is not None:
                pred = truth
            else:
                if array is None:
                    array = np.stack(frames)
                    landmarks = self._landmarks(start, frames[:common])
                if (slot.region, n) not in mine:
                    found = landmarks if n == common else None
                    mine[slot.region, n] = self.truth.cut(slot.region, array[:n], found)
                pred = mine[slot.region, n]
            slot.seen += n
            self._guard(slot, slot.meter.update, Batch(start, pred, truth if n == common else None))

    def _landmarks(self, start: int, frames: Frames) -> np.ndarray | None:
        if self._follower is None or not frames:
            return None
        truth = self.truth.landmarks
        return self._follower.detect(frames, None if truth is None else truth[start : start + len(frames)])

    def _guard(self, slot: _Slot, action: Callable[..., Any], *arguments: object) -> Any:
        """Run a step of a metric; what goes wrong is this metric's failure on this clip, with its reason."""
        try:
            return action(*arguments)
        except Unscorable as error:
            slot.reason = error.reason
        except Exception as error:
            log.exception("%s failed on %s", slot.metric.spec.name, self.job.clip_id)
            slot.reason = f"the metric failed: {type(error).__name__}: {error}"
        return None

    def finish(self, blobs: FeatureBlobs) -> Iterator[Row]:
        """A row for every figure."""
        if not self.problem and self.truth.problem:
            self.problem = self.truth.problem
        for slot in self.slots:
            if not slot.reason and self._expected(slot) - slot.seen > FRAME_TOLERANCE:
                slot.reason = f"more than {FRAME_TOLERANCE} frames could not be decoded"
            score = None
            if not self.problem and not slot.reason and slot.meter is not None:
                score = self._guard(slot, slot.meter.finish)
            if score is not None and score.features is not None:
                blobs.add(self.candidate.method, slot.region, slot.metric.spec.name, score.features)
            yield from self._rows(slot, score)

    def _expected(self, slot: _Slot) -> int:
        """Frames that a metric should have seen."""
        if not self.truth.exists:
            return self.found_frames
        if self.job.paired:
            return self.truth.n_frames
        return self.found_frames if slot.alone else min(self.found_frames, self.truth.n_frames)

    def _rows(self, slot: _Slot, score: Score | None) -> Iterator[Row]:
        spec = slot.metric.spec
        reason = self.problem or slot.reason or ("" if score else "no frames")
        for output in spec.outputs:
            value = score.values.get(output.key) if score else None
            why = reason
            if score and value is not None and np.isnan(value):
                value, why = None, "not a number"
            elif score and value is None and spec.aggregate == "mean":
                why = "not given for this clip"
            series = score.series.get(output.key) if score else None
            yield Row(
                kind="figure",
                clip_id=self.job.clip_id,
                method=self.candidate.method,
                region=slot.region,
                metric=spec.name,
                output=spec.id(output),
                value=None if value is None else float(value),
                reason=why,
                frames=slot.seen if score else 0,
                pred_frames=self.found_frames,
                truth_frames=self.truth.n_frames,
                values=None if series is None else np.asarray(series, np.float32).tolist(),
            )

    def close(self) -> None:
        """Free what meters and decoders hold."""
        for slot in self.slots:
            if slot.meter is not None:
                slot.meter.close()
        if self._stream is not None and hasattr(self._stream, "close"):
            self._stream.close()


class _Previews:
    """Keeps a few pictures of every video of a clip."""

    def __init__(self, clip_id: str) -> None:
        self.clip_id = clip_id
        self.rows: list[parts.Row] = []

    def keep(self, method: str, start: int, frames: Frames, total: int) -> None:
        """Keep those of ``frames`` whose turn it is in a video of ``total`` frames."""
        for place in sorted({int(share * total) for share in PREVIEW_PLACES}):
            if start <= place < start + len(frames):
                picture = _shrunk(frames[place - start])
                quality = [cv2.IMWRITE_JPEG_QUALITY, PREVIEW_QUALITY]
                data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)[1].tobytes()
                height, width = picture.shape[:2]
                self.rows.append(
                    Row("preview", self.clip_id, method, frame=place, width=width, height=height, data=data)
                )


def _shrunk(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    if height <= PREVIEW_HEIGHT:
        return picture
    size = (max(1, round(width * PREVIEW_HEIGHT / height)), PREVIEW_HEIGHT)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _reason(error: Exception) -> str:
    if isinstance(error, ClipError):
        return error.reason
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)
