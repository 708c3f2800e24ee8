"""How truth and predictions are decoded: settled once for every method, before anything is scored.

Most official code reads video with OpenCV, which before 4.13 decodes by BT.601 whatever the tag, and writes untagged
files. Out of a BT.709 clip the right samples come back, but without their tag. Other code decodes by the tag and writes
samples of BT.601. An untagged file does not say which of the two it is; its colours do, beside those of the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from math import inf, log10
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from bench.clips.inputs import Inputs
from bench.clips.inputs.reading import OTHERS, tagged_matrix
from bench.clips.job import Candidate, Job, Take
from bench.common.errors import BenchError
from bench.eval.video import CandidateVideo
from bench.results import Untagged
from prep.errors import ClipError, PrepError
from prep.pixels import UNTAGGED_MATRIX, Matrix, Pixels

if TYPE_CHECKING:
    from bench.eval.engine import Engine
    from bench.eval.truth import Truth

#: By which matrix predictions are decoded. ``auto``: by their tag; untagged ones of a tagged truth by its matrix or by
#: BT.601, whichever agrees better with its colours. ``tagged``: untagged ones by BT.601. ``bt601``: all by
#: BT.601, and the truth too.
MatrixRule = Literal["auto", "tagged", "bt601"]
MATRIX_RULES: tuple[str, ...] = get_args(MatrixRule)
PIXELS: tuple[str, ...] = get_args(Pixels)

#: Clips of a method that are compared, the first by name, and the first frames of each.
CLIPS, FRAMES = 3, 5
#: Where no landmarks are stored, the border is compared: this share of the frame on each side.
BORDER = 1 / 8
#: Margin around the box of the landmarks, as a share of its size, that is not compared.
MARGIN = 0.25
#: Levels from either end of the range within which a pixel counts as clipped.
CLIPPED = 3
#: Standard deviation in grey levels of the difference between both decodings from which on pixels tell them apart.
DISTINCT = 1.0


def decoded(inputs: Inputs, pixels: Pixels, matrix: MatrixRule) -> Inputs:
    """The same inputs, decoded as asked for; see :func:`choose` for what ``auto`` adds.

    Landmarks that a data set found in other pixels than these are not used: they are detected again.

    Raises:
        BenchError: ``opencv`` together with another matrix than its own, BT.601.
    """
    if pixels == "opencv" and matrix == "tagged":
        raise BenchError(
            "--pixels opencv decodes everything by BT.601: leave --matrix out, or use --pixels exact"
        )
    every: Matrix = "bt601" if matrix == "bt601" and pixels == "exact" else "tagged"
    same = inputs.pixels == pixels and every == "tagged"

    def take(video: Take | None) -> Take | None:
        return None if video is None else replace(video, pixels=pixels, matrix=every)

    def of(candidate: Candidate) -> Candidate:
        return replace(candidate, video=take(candidate.video))

    jobs = [
        replace(
            job,
            truth=take(job.truth),
            shard=job.shard if same else None,
            candidates=tuple(map(of, job.candidates)),
        )
        for job in inputs.jobs
    ]
    return replace(inputs, jobs=jobs)


@dataclass
class _Compared:
    """Errors of one method's untagged videos, one a clip, by either matrix: see :func:`_errors`."""

    as_truth: list[float] = field(default_factory=list)
    by_rule: list[float] = field(default_factory=list)
    matrices: set[str] = field(default_factory=set)

    def outcome(self) -> Untagged:
        """BT.601, the rule, wins where both agree equally well."""
        truth, rule = float(np.mean(self.as_truth)), float(np.mean(self.by_rule))
        tag = ", ".join(sorted(self.matrices))
        return Untagged(
            matrix=tag if truth < rule else UNTAGGED_MATRIX,
            truth=tag,
            as_truth=_decibels(truth),
            by_rule=_decibels(rule),
            clips=len(self.as_truth),
        )


def choose(inputs: Inputs, engine: Engine) -> dict[str, Untagged]:
    """Method → by which matrix its untagged videos of tagged truths are decoded; methods without any are left out.

    The first clips by name are compared in which both are readable, so the choice depends on nothing but the videos.
    """
    found: dict[str, _Compared] = {}
    for job in inputs.jobs:
        left = [
            c
            for c in job.candidates
            if c.video is not None
            and not c.problem
            and len(found.get(c.method, _Compared()).as_truth) < CLIPS
        ]
        if job.truth is not None and left:
            try:
                _compare(job, left, engine, found)
            except (ClipError, PrepError, OSError):
                continue  # the clip becomes a failure when it is scored
    return {method: compared.outcome() for method, compared in found.items()}


def chosen(inputs: Inputs, choices: Mapping[str, Untagged]) -> Inputs:
    """The same inputs, with the untagged videos of every method decoded as :func:`choose` found."""
    as_truth = {method for method, choice in choices.items() if choice.matrix != UNTAGGED_MATRIX}

    def of(candidate: Candidate) -> Candidate:
        return replace(candidate, untagged="truth") if candidate.method in as_truth else candidate

    return replace(
        inputs, jobs=[replace(job, candidates=tuple(map(of, job.candidates))) for job in inputs.jobs]
    )


def _compare(job: Job, candidates: list[Candidate], engine: Engine, found: dict[str, _Compared]) -> None:
    from prep.video_reading import probe

    assert job.truth is not None
    matrix = tagged_matrix(job.truth) if job.matrix is None or job.matrix in OTHERS else None
    if matrix is None:
        return
    truth = None
    for candidate in candidates:
        assert candidate.video is not None
        try:
            if probe(candidate.video.path).matrix_tagged:
                continue
        except ClipError:
            continue
        if truth is None:
            truth = engine.truth_of(job)
            frames = list(islice(truth.frames(), FRAMES))
            truth.at(0, frames)
        errors = _errors(candidate, job, truth, frames)
        if errors is not None:
            mine = found.setdefault(candidate.method, _Compared())
            mine.as_truth.append(errors[0])
            mine.by_rule.append(errors[1])
            mine.matrices.add(matrix)


def _errors(
    candidate: Candidate, job: Job, truth: Truth, frames: list[np.ndarray]
) -> tuple[float, float] | None:
    """How far the truth is from a video decoded by the truth's matrix, and from it decoded by BT.601: variances.

    Outside the face; in the whole frame where the matrices hardly differ there. The mean difference in each channel
    does not count, since reading and writing with FFmpeg's default flags darkens pictures by one to three levels, and
    neither do pixels that are clipped. None if the videos cannot be compared.
    """
    pictures: list[list[np.ndarray]] = []
    for untagged in ("truth", "rule"):
        video = CandidateVideo(replace(candidate, untagged=untagged), job, truth)
        try:
            pictures.append(video.next(0, len(frames), frames))
        finally:
            video.close()
        if video.problem:
            return None
    n = min(len(truth.array), *map(len, pictures))
    if not n:
        return None
    true = truth.array[:n].astype(np.float32)
    mine, ruled = (np.stack(frames[:n]).astype(np.float32) for frames in pictures)
    whole = np.ones(true.shape[:3], bool)
    for array in (true, mine, ruled):
        whole &= ((array > CLIPPED) & (array < 255 - CLIPPED)).all(axis=3)
    pixels = _outside(truth, n) & whole
    if not pixels.any() or _spread((mine - ruled)[pixels]) < DISTINCT**2:
        pixels = whole
    if not pixels.any():
        return None
    return _spread((true - mine)[pixels]), _spread((true - ruled)[pixels])


def _spread(differences: np.ndarray) -> float:
    """Mean variance of (n, 3) differences over the channels."""
    return float(differences.astype(np.float64).var(axis=0).mean())


def _outside(truth: Truth, n: int) -> np.ndarray:
    """(n, H, W) bool: the pixels to compare in the first ``n`` frames."""
    height, width = truth.array.shape[1:3]
    outside = np.ones((n, height, width), bool)
    found = truth.landmarks if truth.job.shard is not None else None
    if found is None:
        y, x = round(height * BORDER), round(width * BORDER)
        outside[:, y : height - y, x : width - x] = False
    else:
        for i, points in enumerate(found[:n, :, :2]):
            if np.isfinite(points).all():
                low, high = points.min(axis=0), points.max(axis=0)
                left, top = np.maximum(low - MARGIN * (high - low), 0).astype(int)
                right, bottom = np.maximum(high + MARGIN * (high - low), 0).astype(int)
                outside[i, top:bottom, left:right] = False
    return outside


def _decibels(error: float) -> float:
    return inf if error == 0 else 10 * log10(255**2 / error)
