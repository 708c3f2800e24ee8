"""How truth and predictions are decoded: settled once for every method, before anything is scored.

Most official code reads video with OpenCV, which before 4.13 decodes by BT.601 whatever the tag, and writes untagged
files. Out of a BT.709 clip the right samples come back, but without their tag. Other code decodes by the tag and writes
samples of BT.601. An untagged file does not say which of the two it is; its pixels outside the face do.
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
#: BT.601, whichever agrees better with it outside the face. ``tagged``: untagged ones by BT.601. ``bt601``: all by
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
    """Squared errors of one method's untagged videos outside the face, one a clip, by either matrix."""

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
        errors = [_error(replace(candidate, untagged=way), job, truth, frames) for way in ("truth", "rule")]
        if errors[0] is not None and errors[1] is not None:
            mine = found.setdefault(candidate.method, _Compared())
            mine.as_truth.append(errors[0])
            mine.by_rule.append(errors[1])
            mine.matrices.add(matrix)


def _error(candidate: Candidate, job: Job, truth: Truth, frames: list[np.ndarray]) -> float | None:
    """Mean squared difference from the truth outside the face, in grey levels; None if it cannot be compared."""
    video = CandidateVideo(candidate, job, truth)
    try:
        pictures = video.next(0, len(frames), frames)
    finally:
        video.close()
    n = min(len(pictures), len(truth.array))
    if video.problem or not n:
        return None
    outside = _outside(truth, n)
    differences = np.stack(pictures[:n]).astype(np.float64) - truth.array[:n]
    return float(np.mean(differences[outside] ** 2))


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
    return outside if outside.any() else np.ones_like(outside)


def _decibels(error: float) -> float:
    return inf if error == 0 else 10 * log10(255**2 / error)
