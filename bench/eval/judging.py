"""One clip by sync judges: lips and sound are embedded as the frames come, then judged by the rules that all judges
share."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from baselines.sync_judges.offset import Offset, clip_offset
from baselines.sync_judges.speech import speech_frames
from baselines.sync_judges.windows import Windows, right_above_wrong, window_offsets
from bench.common.errors import Unscorable
from bench.metrics.base import Batch, ClipInfo, Context, Float, Image, Meter, Metric, Score, Spec
from bench.metrics.lossy import JpegEncoder, decode_jpeg
from bench.metrics.sync_judges import SyncJudge, centred, without_mean
from bench.metrics.syncnet import SIZE
from bench.metrics.windowed import Windowed
from prep.rates import SAMPLES_PER_FRAME
from prep.sound.mel import melspectrogram
from prep.views import VIEWS

#: Lengths of windows, in frames: 0.5, 1, 2 and 4 s.
LENGTHS = (12, 25, 50, 100)
#: Largest shift of the sound, in frames, and the largest offset that counts as right.
REACH, NEAR = 15, 1
# Clips whose landmarks' embeddings are kept: rows of the same frames follow each other.
_CLIPS = 2
_VIEW = VIEWS["face96"]


@dataclass(frozen=True)
class Judged:
    """What a judge says of one video.

    Attributes:
        above: frames of a window → share of (window, wrong shift) pairs in which the right sound has the higher score;
            a length is left out if the clip has no such window.
        within: frames of a window → share of windows whose best shift is at most :data:`NEAR`; likewise.
        offset: of the whole clip, or why there is none.
    """

    above: Mapping[int, float]
    within: Mapping[int, float]
    offset: Offset


@dataclass(frozen=True)
class Embedded:
    """A video as a judge sees and hears it.

    Attributes:
        lips: (T, D), NaN rows where there is nothing to be seen.
        sounds: (N, D), NaN rows where there is nothing to be heard.
        speech: (T,), frames with speech.
    """

    lips: Float
    sounds: Float
    speech: npt.NDArray[np.bool_]


def judged_alike(videos: Sequence[Embedded]) -> list[Judged]:
    """What several judges say of one video, each of the same frames: those that all of them see and hear.

    Args:
        videos: the same, as each of them sees and hears it.
    """
    seen = np.all([np.isfinite(one.lips).all(axis=1) for one in videos], axis=0)
    n = min(len(one.sounds) for one in videos)
    heard = np.all([np.isfinite(one.sounds[:n]).all(axis=1) for one in videos], axis=0)
    return [
        _judged(
            np.where(seen[:, None], one.lips, np.nan),
            np.where(heard[:, None], one.sounds[:n], np.nan),
            one.speech,
        )
        for one in videos
    ]


def _judged(lips: Float, sounds: Float, speech: npt.NDArray[np.bool_]) -> Judged:
    above, within = {}, {}
    for length in LENGTHS:
        ranked = right_above_wrong(lips, sounds, speech, Windows(window=length))
        if ranked.pairs:
            above[length] = ranked.share
        offsets = window_offsets(lips, sounds, speech, window=length, reach=REACH)
        if len(offsets):
            within[length] = float((np.abs(offsets) <= NEAR).mean())
    return Judged(above, within, clip_offset(lips, sounds, speech, REACH))


def _spec(name: str, need: str) -> Spec:
    """What the engine must know."""
    return Spec(
        name=name,
        summary="a sync judge",
        outputs=(),
        parameters={},
        formula="",
        reference="",
        needs=frozenset({"truth", "audio", need}),
        paired=False,
        regions=False,
    )


class JudgeMetric(Metric):
    """A sync judge in the engine. Its scores hold an :class:`Embedded` in their notes, and no values."""

    def __init__(self, judge: SyncJudge, context: Context) -> None:
        super().__init__(context)
        self.judge = judge

    def hear(self, samples: npt.NDArray[np.int16], n_frames: int) -> tuple[Float, npt.NDArray[np.bool_]]:
        """The embedded sound, and in which of the first ``n_frames`` frames there is speech."""
        return self.judge.hear(samples), speech_frames(melspectrogram(samples), n_frames)


class _JudgeMeter(Meter):
    """Collects the lips of a clip.

    Args:
        metric: with the judge.
        clip: with sound.
    """

    def __init__(self, metric: JudgeMetric, clip: ClipInfo) -> None:
        if clip.audio is None:
            raise Unscorable("no audio track")
        if len(clip.audio) < SAMPLES_PER_FRAME:
            raise Unscorable("the sound is shorter than a frame")
        self.judge = metric.judge
        self.metric = metric
        self.samples = clip.audio

    def lips(self) -> Float:
        """(T, D) of all frames so far, NaN rows where there is nothing to be seen."""
        raise NotImplementedError

    def finish(self) -> Score:
        lips = self.lips()
        if not np.isfinite(lips[:, 0]).any():
            raise Unscorable("no face")
        sounds, speech = self.metric.hear(self.samples, len(lips))
        if self.judge.moves:
            lips, sounds = without_mean(lips), without_mean(sounds)
        return Score(notes={"embedded": Embedded(lips, sounds, speech)})


class LandmarkMetric(JudgeMetric):
    """A judge of landmarks, which are detected in every video."""

    spec = _spec("judge.landmarks", "landmarks")

    def __init__(self, judge: SyncJudge, context: Context) -> None:
        super().__init__(judge, context)
        self._seen: OrderedDict[bytes, Float] = OrderedDict()

    def meter(self, clip: ClipInfo) -> Meter:
        """Raises :class:`Unscorable` if there is no sound."""
        return _LandmarkMeter(self, clip)

    def see(self, points: Float) -> Float:
        """(T, 478, 3) of a clip → (T, D); rows of the same landmarks are embedded once."""
        key = hashlib.blake2b(np.ascontiguousarray(points).data).digest()
        if key not in self._seen:
            self._seen[key] = self.judge.see(points)
            while len(self._seen) > _CLIPS:
                self._seen.popitem(last=False)
        return self._seen[key]


class _LandmarkMeter(_JudgeMeter):
    metric: LandmarkMetric

    def __init__(self, metric: LandmarkMetric, clip: ClipInfo) -> None:
        super().__init__(metric, clip)
        self._points: list[Float] = []

    def update(self, batch: Batch) -> None:
        assert batch.pred.landmarks is not None
        self._points.append(batch.pred.landmarks)

    def lips(self) -> Float:
        return self.metric.see(np.concatenate(self._points))


class PictureMetric(JudgeMetric):
    """A judge of crops, which are cut by the truth's landmarks."""

    spec = _spec("judge.pictures", "truth_landmarks")

    def meter(self, clip: ClipInfo) -> Meter:
        """Raises :class:`Unscorable` if there is no sound, or no face in the true video."""
        return _PictureMeter(self, clip)


class _WindowMeter(_JudgeMeter):
    """Embeds windows of pictures as they come."""

    def __init__(self, metric: JudgeMetric, clip: ClipInfo) -> None:
        super().__init__(metric, clip)
        judge = self.judge
        self._windows = Windowed(judge.frames, clip.n_frames, judge.see, ("sync judge", judge))

    def picture(self, frame: Image, number: int) -> Image:
        """What the judge sees of a frame."""
        raise NotImplementedError

    def update(self, batch: Batch) -> None:
        for frame in batch.pred.array:
            self._windows.add(self.picture(frame, self._windows.count), batch.pred.shared)

    def lips(self) -> Float:
        found, count = self._windows.finish(), self._windows.count
        if not found:
            raise Unscorable(f"{count} frames, {self.judge.frames} are needed")
        return centred(np.concatenate(found), self.judge.frames, count)


class _PictureMeter(_WindowMeter):
    def __init__(self, metric: JudgeMetric, clip: ClipInfo) -> None:
        super().__init__(metric, clip)
        if clip.landmarks is None:
            raise Unscorable("no true video, whose faces say where to look")
        points = clip.landmarks[: clip.n_frames]
        detected = np.isfinite(points[:, 0, 0])
        self._transforms = _VIEW.transforms(points, detected, clip.width, clip.height)
        self._face: np.ndarray = np.all(np.isfinite(self._transforms), axis=(1, 2))
        self._blank = np.zeros((_VIEW.height, _VIEW.width, 3), np.uint8)

    def picture(self, frame: Image, number: int) -> Image:
        if not self._face[number]:
            return self._blank
        return _VIEW.crop(frame, self._transforms[number])

    def lips(self) -> Float:
        found = super().lips()
        gone = np.flatnonzero(~self._face[: len(found)])
        reach = self.judge.frames // 2
        for frame in gone:
            found[max(0, frame - reach) : frame + reach + 1] = np.nan
        return found


class SyncNetMetric(JudgeMetric):
    """SyncNet: whole frames through JPEG, as ``lse.lrs``."""

    spec = _spec("judge.syncnet", "truth")

    def meter(self, clip: ClipInfo) -> Meter:
        """Raises :class:`Unscorable` if there is no sound."""
        return _SyncNetMeter(self, clip)


class _SyncNetMeter(_WindowMeter):
    def __init__(self, metric: JudgeMetric, clip: ClipInfo) -> None:
        super().__init__(metric, clip)
        self._encoder = JpegEncoder()

    def picture(self, frame: Image, number: int) -> Image:
        import cv2

        return cv2.resize(decode_jpeg(self._encoder.encode(frame)), (SIZE, SIZE))


#: By what a judge looks at.
METRICS: dict[str, type[JudgeMetric]] = {
    "landmarks": LandmarkMetric,
    "face96": PictureMetric,
    "frames": SyncNetMetric,
}
