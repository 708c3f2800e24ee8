"""The frames of one candidate of a clip, together with those of the truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from bench.clips.inputs.reading import count_frames, decoded_as, take_frames
from bench.clips.job import FRAME_TOLERANCE, FULL, OWN_PICTURES, Candidate, Codec, Job, Take
from bench.eval.truth import Frames, Truth, next_frames, reason_of
from prep.errors import ClipError, PrepError


class CandidateVideo:
    """One candidate's video: read, or made from the truth's frames.

    Attributes:
        problem: why it cannot be scored, in one line, or ``""``.
        found_frames: number of its frames.
        n_frames: number of frames to score: in a paired job not more than the truth has.
    """

    def __init__(self, candidate: Candidate, job: Job, truth: Truth) -> None:
        self.candidate = candidate
        self.job = job
        self.truth = truth
        self.found_frames = self.n_frames = 0
        self.problem = candidate.problem or truth.problem
        self._stream: Iterator[np.ndarray] | None = None
        self._odd: tuple[int, int] | None = None
        self._read_frames = 0
        self._take: Take | None = None
        if not self.problem:
            try:
                self._take = decoded_as(candidate, job.truth)
                self._count()
            except (ClipError, PrepError, OSError) as error:
                self._fail(reason_of(error))

    @property
    def same(self) -> bool:
        """Whether the frames are the truth's own."""
        return self.candidate.video is None and self.candidate.method in OWN_PICTURES

    @property
    def derived(self) -> bool:
        """Whether the frames are made from the truth's, which are then needed twice."""
        return self.candidate.video is None and not self.same

    @property
    def common(self) -> int:
        """Number of frames that both the prediction and the truth (if there is one) have."""
        return min(self.n_frames, self.truth.n_frames) if self.truth.exists else self.n_frames

    def _count(self) -> None:
        video = self.candidate.video
        self.found_frames = self.truth.n_frames if video is None else count_frames(video)
        self.n_frames = self.found_frames
        if not self.truth.exists or not self.job.paired:
            return
        if abs(self.found_frames - self.truth.n_frames) > FRAME_TOLERANCE:
            self.problem = f"more than {FRAME_TOLERANCE} frames longer or shorter than the truth"
        self.n_frames = self.common

    def expected(self, alone: bool) -> int:
        """Number of frames that a metric should have processed.

        Args:
            alone: whether the metric uses only the prediction.
        """
        if not self.truth.exists:
            return self.found_frames
        if self.job.paired:
            return self.truth.n_frames
        return self.found_frames if alone else min(self.found_frames, self.truth.n_frames)

    def next(self, start: int, wanted: int, truth: Frames | None) -> Frames:
        """The output to score from frame ``start`` on; empty at the end, or if there is a :attr:`problem`.

        Args:
            start: number of the first frame.
            wanted: largest number of frames.
            truth: the truth's full frames from ``start`` on; a paired job needs no more frames than these; None without
                truth.
        """
        n = min(wanted, self.n_frames - start)
        if truth is not None and (self.job.paired or self.same):
            n = min(n, len(truth))
        if self.same and truth is not None:
            return list(self.truth.array[:n])
        frames = self._read(n)
        if not frames:
            return []
        view = self.truth.view
        if view is not None and self.candidate.paints == view.name:
            self._check_size(frames[0], (view.height, view.width), "view", view.name)
            return [] if self.problem else frames
        frames = self._unpadded(frames, truth)
        if truth:
            self._check_size(frames[0], truth[0].shape[:2], "truth")
        return [] if self.problem else self.truth.seen(start, frames)

    def _read(self, n: int) -> Frames:
        if self._stream is None:
            self._stream = iter(self._open())
        frames = next_frames(self._stream, n, self._fail)
        self._read_frames += len(frames)
        if len(frames) < n:
            # Decoding stopped early: there are no more frames; missing frames are counted at the end.
            self.n_frames = self._read_frames
        return frames

    def _open(self) -> Iterable[np.ndarray]:
        if self._take is not None:
            return take_frames(self._take)
        from baselines import trivial

        if self.candidate.method == "still":
            return islice(trivial.still(self.truth.frames()), self.truth.n_frames)
        from bench.clips.codec import reencode

        codec = self._codec()
        return trivial.reencoded(self._pictures(), lambda frames: reencode(frames, codec))

    def _codec(self) -> Codec:
        """How ``reencoded`` is coded and decoded: as the prediction that it imitates."""
        codec = self.candidate.codec or Codec()
        liked = next((c for c in self.job.candidates if c.method == self.candidate.like), None)
        take = self.job.truth if liked is None else decoded_as(liked, self.job.truth)
        if take is None:
            return codec
        matrix = "bt601" if take.pixels == "opencv" else take.matrix
        colour = codec.colour if matrix == "tagged" else replace(codec.colour, matrix=matrix)
        return replace(codec, colour=colour, pixels=take.pixels)

    def _pictures(self) -> Iterator[np.ndarray]:
        """The truth's frames in the output of the candidate (full frames or view)."""
        for i, frame in enumerate(self.truth.frames()):
            yield from [frame] if self.candidate.paints == FULL else self.truth.seen(i, [frame])

    def _fail(self, reason: str) -> None:
        self.problem = f"the prediction cannot be read: {reason}"

    def _unpadded(self, frames: Frames, truth: Frames | None) -> Frames:
        """``frames`` without the extra last column or row of videos that can only have even sizes."""
        if truth:
            height, width = truth[0].shape[:2]
            even = (height + height % 2, width + width % 2)
            self._odd = (height, width) if even != (height, width) and frames[0].shape[:2] == even else None
        if self._odd is None:
            return frames
        return [np.ascontiguousarray(frame[: self._odd[0], : self._odd[1]]) for frame in frames]

    def _check_size(self, frame: np.ndarray, size: tuple[int, ...], what: str, name: str = "") -> None:
        if frame.shape[:2] != size:
            mine, right = (f"{width}×{height}" for height, width in (frame.shape[:2], size))
            whose = " ".join(filter(None, ("the", what, name)))
            self.problem = f"the prediction is {mine}, {whose} {right}: write it at the {what}'s size"

    def close(self) -> None:
        """Free the resources of the decoder."""
        if self._stream is not None and hasattr(self._stream, "close"):
            self._stream.close()
