"""The true video of a clip: its frames, landmarks, regions, and the crops of the current batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice

import numpy as np

from bench.clips.inputs.reading import count_frames, take_frames
from bench.clips.job import FULL, Job
from bench.metrics import regions
from bench.metrics.base import Pictures
from bench.results import CLIP_REGION
from prep.errors import ClipError, PrepError
from prep.views import VIEWS, map_points

#: Largest size in bytes of a true video that is kept in memory; a larger one is decoded again if needed twice.
FRAME_BUDGET = 1 << 29

Frames = list[np.ndarray]
#: Finds the landmarks (T, 478, 3) float32 of one face in frames (H, W, 3) uint8.
FindLandmarks = Callable[[Iterable[np.ndarray]], np.ndarray]


class Truth:
    """The true video of a clip, in the output that is scored: full frames, or a view cropped from them.

    Attributes:
        view: the view that is scored, or None for full frames.
        problem: why there is no truth to compare with, in one line, or ``""``.
        n_frames: expected number of frames, according to its file.
        frame_size: height and width of the full frames, pixels; (0, 0) before the first batch.
        start: number of the current batch's first frame.
        array: (n, H, W, 3) uint8, the scored output (full frames or view) of the current batch.

    Args:
        job: the clip.
        region_names: the scored regions, of :data:`bench.metrics.regions.REGIONS`.
        find: finds landmarks if no shard holds them.
        give_landmarks: whether :class:`Pictures` contain the truth's landmarks.
    """

    def __init__(
        self, job: Job, region_names: Sequence[str], find: FindLandmarks, give_landmarks: bool
    ) -> None:
        self.job = job
        self.view = None if job.output == FULL else VIEWS[job.output]
        self.problem = ""
        self.n_frames = 0
        self.frame_size = (0, 0)
        self.start, self.array = 0, np.empty((0, 0, 0, 3), np.uint8)
        self._regions = [region for region in region_names if region != "full"]
        self._find = find
        self._give_landmarks = give_landmarks
        self._held: Frames | None = None
        self._pictures: dict[str, Pictures] = {}
        if job.truth is None:
            return
        try:
            self.n_frames = job.n_frames or count_frames(job.truth)
        except (ClipError, PrepError, OSError) as error:
            self.fail(reason_of(error))

    @property
    def exists(self) -> bool:
        """Whether there is a true video without a problem so far."""
        return self.job.truth is not None and not self.problem

    def fail(self, reason: str) -> None:
        """Record that the video cannot be read."""
        self.problem = f"the true video cannot be read: {reason}"

    def frames(self) -> Iterator[np.ndarray]:
        """The full frames (H, W, 3) uint8 from the beginning, from memory if they are kept there."""
        if self._held is not None:
            yield from self._held
            return
        assert self.job.truth is not None
        yield from take_frames(self.job.truth)

    def hold(self) -> None:
        """Keep the frames in memory if they fit, because they are needed more than once."""
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
        """(T, 478, 3) float32 of the whole clip, in pixels of the scored output (full frame or view).

        NaN where there is no face; None without truth.
        """
        found = self._frame_landmarks
        if self.view is None or found is None or self.transforms is None:
            return found
        return map_points(found, self.transforms).astype(np.float32)

    @cached_property
    def _frame_landmarks(self) -> np.ndarray | None:
        """(T, 478, 3) float32 in pixels of the full frame."""
        if not self.exists:
            return None
        if self.job.shard is not None:
            from prep.shards import open_shard, read_clip

            path, row_group = self.job.shard
            return read_clip(open_shard(path), row_group, ["landmarks"]).landmarks
        self.hold()
        try:
            return self._find(self.frames())
        except ClipError as error:
            self.fail(error.reason)
            return None

    @cached_property
    def transforms(self) -> np.ndarray | None:
        """(T, 2, 3) of the whole clip: full-frame pixels → pixels of :attr:`view`.

        Those stored in the data set are used if it has the view; else they are computed from the landmarks by the
        view's rule. Frames without a face have the transform of the nearest frame with a face, the earlier of two.
        None if no frame has a face, or there is no view.
        """
        landmarks = self._frame_landmarks
        if self.view is None or landmarks is None:
            return None
        found = self._stored_transforms()
        if found is None:
            height, width = self.frame_size
            found = self.view.transforms(landmarks, np.isfinite(landmarks[:, 0, 0]), width, height)
        seen = np.flatnonzero(np.isfinite(found).all(axis=(1, 2)))
        if not len(seen):
            self.problem = f"no face in the truth, where the view {self.view.name} would be cut"
            return None
        frames = np.arange(len(found))
        after = np.minimum(np.searchsorted(seen, frames), len(seen) - 1)
        before = np.maximum(after - 1, 0)
        earlier = np.abs(frames - seen[before]) <= np.abs(seen[after] - frames)
        return found[np.where(earlier, seen[before], seen[after])]

    def _stored_transforms(self) -> np.ndarray | None:
        if self.job.shard is None:
            return None
        from prep.shards import open_shard, read_clip

        path, row_group = self.job.shard
        shard, column = open_shard(path), f"{self.job.output}_transform"
        if column not in shard.schema_arrow.names:
            return None
        return read_clip(shard, row_group, [column]).transforms[self.job.output]

    @cached_property
    def windows(self) -> dict[str, tuple[int, int, np.ndarray]]:
        """Region → width, height and corners; regions without a face are left out."""
        if not self._regions or self.landmarks is None:
            return {}
        height, width = self.array.shape[1:3]
        found = {region: regions.windows(region, self.landmarks, width, height) for region in self._regions}
        return {region: window for region, window in found.items() if window is not None}

    def at(self, start: int, frames: Frames) -> None:
        """Set the current batch: full frames from number ``start`` on."""
        self.start = start
        if frames:
            height, width = frames[0].shape[:2]
            self.frame_size = (height, width)
        cut = self.seen(start, frames)
        self.array = np.stack(cut) if cut else np.empty((0, 0, 0, 3), np.uint8)
        self._pictures = {}

    def seen(self, start: int, frames: Frames) -> Frames:
        """The scored output of full frames of any video: the view at its position in the truth, or the full frames.

        Args:
            start: number of the first frame; frames beyond the truth's end are cropped like its last frame.
            frames: of the truth's size.
        """
        if self.view is None or not frames:
            return frames
        transforms = self.transforms
        if transforms is None:
            return []
        last = len(transforms) - 1
        return [self.view.crop(f, transforms[min(start + i, last)]) for i, f in enumerate(frames)]

    def pictures(self, region: str, n: int) -> Pictures | None:
        """The first ``n`` frames of the current batch, cropped to a region. For the whole batch it is always the same
        object, so that metrics share results.

        None if there are no frames: there is no truth, or it has ended.
        """
        if not n or not len(self.array):
            return None
        if region not in self._pictures:
            landmarks = None
            if self._give_landmarks and self.landmarks is not None:
                landmarks = self.landmarks[self.start : self.start + len(self.array)]
            self._pictures[region] = self.cut(region, self.array, landmarks)
        whole = self._pictures[region]
        if n == len(whole):
            return whole
        landmarks = None if whole.landmarks is None else whole.landmarks[:n]
        return Pictures(whole.array[:n], landmarks, whole.origin[:n])

    def cut(self, region: str, array: np.ndarray, landmarks: np.ndarray | None) -> Pictures:
        """Frames of any video that belong to the current batch, cropped to a region.

        Args:
            region: ``full``, ``clip``, or one in :attr:`windows`.
            array: (n, H, W, 3) uint8.
            landmarks: (n, 478, 3) of these frames, or None.
        """
        if region in ("full", CLIP_REGION):
            return Pictures(array, landmarks)
        width, height, corners = self.windows[region]
        corners = corners[self.start : self.start + len(array)]
        return Pictures(regions.cut(array, width, height, corners), landmarks, corners)


def next_frames(stream: Iterator[np.ndarray], n: int, on_error: Callable[[str], None]) -> Frames:
    """The next ``n`` frames, fewer at the end. None if they cannot be decoded: ``on_error`` gets the reason."""
    try:
        return list(islice(stream, n))
    except ClipError as error:
        on_error(error.reason)
        return []


def reason_of(error: Exception) -> str:
    """A short description of an error in reading a video."""
    if isinstance(error, ClipError):
        return error.reason
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)
