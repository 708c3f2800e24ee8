"""Lip sync by an expert trained with this suite: distance, confidence and offset.

LSE-D and LSE-C are defined by the official SyncNet, which may not be redistributed. A sync metric that anyone can use
needs another network, so it is another metric: it has different names, and contains the SHA-256 of the expert's
weights.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
import numpy.typing as npt

from bench.common.errors import Unavailable, Unscorable
from bench.metrics.base import (
    Batch,
    ClipInfo,
    Context,
    Float,
    Image,
    Meter,
    Metric,
    Output,
    Score,
    Spec,
)
from bench.metrics.expert_file import METHOD, VIEW, load_expert
from bench.metrics.judge_file import digests
from bench.metrics.windowed import Windowed
from prep.rates import SAMPLES_PER_FRAME
from prep.sound.features import chunk
from prep.sound.mel import RATE, melspectrogram
from prep.views import VIEWS

#: Frames in a window of the expert; largest shift of the sound in frames, in both directions.
WINDOW, VSHIFT = 5, 15
#: Number of windows of the median filter of the framewise confidence.
MEDIAN_WINDOW = 9
# Number of sounds whose embeddings are cached: the methods of one clip mostly share one.
_SOUNDS = 4

Table = npt.NDArray[np.float64]


class LseExpert(Metric):
    r"""Lip sync by an expert of this suite: distance, confidence, offset and \|offset\|; not LSE-D and LSE-C.

    The expert is Wav2Lip's (Prajwal et al. 2020, section 3.2), trained by ``bench train sync-expert``. The rule is
    that of SyncNet (Chung and Zisserman 2016) with 1 - cosine as distance and without padding at the ends. All methods
    are cropped by the face boxes of the truth, so the position of a detected face has no influence. Distance and
    confidence are in [0, 1]; offsets are in frames, positive if the video is late.

    Raises:
        Unavailable: no expert is named.
        BenchError: its weights were replaced in the meantime, or are damaged.
    """

    spec = Spec(
        name="lse.expert",
        summary="distance, confidence and offset by a lip-sync expert that was trained with this suite",
        outputs=(
            Output("d", "expert distance", "lower", low=0.0, high=1.0),
            Output("c", "expert confidence", "higher", low=0.0, high=1.0),
            Output("offset", "expert offset", "none", unit="frames", low=-VSHIFT, high=VSHIFT, decimals=2),
            Output("abs_offset", "expert |offset|", "lower", unit="frames", low=0.0, high=VSHIFT, decimals=2),
        ),
        parameters={
            "network": f"a trained {METHOD}, which the digest beside the figures names",
            "fps": 25,
            "pictures": f"lower half of the view {VIEW}",
            "generations": [],
            "coding": "RGB as decoded",
            "resize": "OpenCV bilinear, the face's box to 96x96",
            "layout": "BGR, 0 to 1",
            "window": f"{WINDOW} frames, every frame",
            "audio": "16 kHz mono",
            "audio_features": "mel spectrogram of Wav2Lip, zeros beyond its ends, 16 columns from int(3.2 frame) on",
            "length": f"min(frames, samples // {SAMPLES_PER_FRAME}); no frame beyond the truth's",
            "vshift": VSHIFT,
            "padding": "none: a shift counts over the windows that have sound at it, and only if they are half of all",
            "distance": "1 - cosine",
            "averaging": "mean over windows for each shift, then the least, of equals that of the least shift; the "
            "middle one of all shifts less the least",
            "series": f"middle frame of a window; confidence median-filtered over {MEDIAN_WINDOW} windows",
            "detector": None,
            "shots": None,
            "track": None,
            "crop": "face box of the truth's landmarks in that frame; windows with a frame without one are left out",
            "tracks": None,
            "failure": f"no {WINDOW} successive frames with face and sound: no score",
        },
        formula=(
            r"With unit vectors $l_i$ of frames $i \ldots i+4$ and $a_i$ of the sound beside them, "
            r"$m_s = \frac{1}{|W_s|} \sum_{i \in W_s} (1 - l_i \cdot a_{i-s})$ for shifts $|s| \le 15$ frames, where "
            r"$W_s$ are the windows that have sound at $s$, at least half of all: "
            r"$\text{distance} = \min_s m_s$, $\text{confidence} = \operatorname{median}_s m_s - \min_s m_s$, "
            r"$\text{offset} = \arg\min_s m_s$, positive where the picture is late."
        ),
        reference=(
            "this suite; network and training: Prajwal et al., ACM MM 2020, section 3.2; offset and confidence: Chung "
            "and Zisserman 2016"
        ),
        traps=(
            "These are not LSE-D and LSE-C, which are SyncNet v2's: neither scale nor order of methods is the same.",
            "Another expert gives other figures: results with different digests are never put in one column. Compare "
            "with the rows of the ground truth and of the wrong audio.",
            "A generator trained with this same expert gets figures that are too good.",
            "An expert may have learnt the faces and voices of its training clips: do not score these clips.",
            "The distance is that of the best shift: a video with a constant delay scores as well as one in sync. See "
            "|offset|.",
            "In clips of less than 34 frames the largest shifts do not count, and the confidence is the median of "
            "fewer: compare sets of equal lengths.",
        ),
        needs=frozenset({"truth", "truth_landmarks", "audio", "sync_expert"}),
        paired=False,
        regions=False,
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if context.sync_expert is None:
            raise Unavailable(
                "no sync expert is named",
                f"bench train {METHOD} --data DATA --run runs/{METHOD}, then the same with --sync-expert runs/{METHOD}",
            )
        self.file = context.sync_expert
        self.expert = load_expert(self.file, context.device)
        self._sounds: OrderedDict[Hashable, Float] = OrderedDict()

    def digests(self) -> dict[str, str]:
        """``sync-expert`` → SHA-256 of its weights; and the padding of the sound, where it is not the usual one."""
        return digests(self.file, METHOD)

    def meter(self, clip: ClipInfo) -> Meter:
        """Raises :class:`bench.common.errors.Unscorable` if there is no sound, no true video, or no face in it."""
        if clip.audio is None:
            raise Unscorable("no audio track")
        if clip.landmarks is None:
            raise Unscorable("no true video, whose faces say where to look")
        points = clip.landmarks[: clip.n_frames]
        detected = np.isfinite(points[:, 0, 0])
        transforms = VIEWS[VIEW].transforms(points, detected, clip.width, clip.height)
        if not np.isfinite(transforms).any():
            raise Unscorable("no face in the truth")
        return _Meter(self, clip.n_frames, clip.audio, transforms)

    def see(self, crops: Image) -> Float:
        """Embed all windows of consecutive crops: (n + 4, 96, 96, 3) uint8 RGB → (n, D) float32, of length 1."""
        import torch

        from baselines.sync_expert.embedding import embed_lips

        return embed_lips(self.expert, torch.from_numpy(crops).permute(0, 3, 1, 2)).cpu().numpy()

    def hear(self, samples: npt.NDArray[np.int16], n: int) -> Float:
        """Embed the sound beside the first ``n`` windows: (m,) 16 kHz, m ≥ 640 (n + 4) → (n, D) float32."""
        import torch

        from baselines.sync_expert.embedding import embed_sounds
        from baselines.sync_expert.network import SOUND

        samples = np.ascontiguousarray(samples)
        key = (hashlib.blake2b(samples.tobytes()).digest(), n)
        if key not in self._sounds:
            mel = melspectrogram(samples, self.file.padding)
            chunks = np.stack([chunk(mel, frame, SOUND, RATE) for frame in range(n)])
            self._sounds[key] = embed_sounds(self.expert, torch.from_numpy(chunks)).cpu().numpy()
            while len(self._sounds) > _SOUNDS:
                self._sounds.popitem(last=False)
        return self._sounds[key]


class _Meter(Meter):
    def __init__(
        self, metric: LseExpert, n_frames: int, samples: npt.NDArray[np.int16], transforms: Float
    ) -> None:
        self.metric = metric
        self.samples = samples
        self.transforms = transforms
        self.face: np.ndarray = np.all(np.isfinite(transforms), axis=(1, 2))
        self.last = min(n_frames, len(samples) // SAMPLES_PER_FRAME)
        self.seen = 0
        self._windows = Windowed(WINDOW, self.last, metric.see, ("sync expert lips", metric.expert))
        view = VIEWS[VIEW]
        self._blank = np.zeros((view.height, view.width, 3), np.uint8)

    def update(self, batch: Batch) -> None:
        for picture in batch.pred.array:
            if self.seen < self.last:
                matrix, there = self.transforms[self.seen], self.face[self.seen]
                crop = VIEWS[VIEW].crop(picture, matrix) if there else self._blank
                self._windows.add(crop, batch.pred.shared)
            self.seen += 1

    def finish(self) -> Score:
        lips = self._windows.finish()
        n = sum(map(len, lips))
        usable = np.array([self.face[i : i + WINDOW].all() for i in range(n)], np.bool_)
        if not usable.any():
            raise Unscorable(f"no {WINDOW} successive frames with face and sound")
        table = distance_table(np.concatenate(lips), self.metric.hear(self.samples, n), usable)
        return score_table(table, self.seen)


def distance_table(lips: Float, sounds: Float, usable: npt.NDArray[np.bool_], vshift: int = VSHIFT) -> Table:
    """Distances between windows of pictures and of sound, up to ``vshift`` frames apart.

    Args:
        lips: (n, d), of length 1.
        sounds: (n, d), of length 1.
        usable: (n,), the windows that count.
        vshift: frames.

    Returns:
        (n, 2 vshift + 1) float64: 1 - cosine of ``lips[i]`` and ``sounds[i + j - vshift]``; NaN where there is no
        such sound, or the window does not count.
    """
    n = len(lips)
    table = np.full((n, 2 * vshift + 1), np.nan)
    for shift in range(-vshift, vshift + 1):
        first, last = max(0, -shift), min(n, n - shift)
        if first < last:
            cosines = np.einsum("id,id->i", lips[first:last], sounds[first + shift : last + shift])
            # Rounding can make a cosine greater than 1.
            table[first:last, shift + vshift] = 1 - np.minimum(cosines.astype(np.float64), 1)
    table[~usable] = np.nan
    return table


def score_table(table: Table, n_frames: int) -> Score:
    """The score of a clip from its distances.

    Args:
        table: from :func:`distance_table`, with at least one window that counts.
        n_frames: of the clip.
    """
    from scipy.ndimage import median_filter

    vshift = table.shape[1] // 2
    there = np.isfinite(table)
    windows = int(there.any(axis=1).sum())
    counted = np.flatnonzero(2 * there.sum(axis=0) >= windows)
    means = np.nanmean(table[:, counted], axis=0)
    # If several are equal, the smallest shift.
    best = min(range(len(counted)), key=lambda k: (means[k], abs(counted[k] - vshift)))
    median = float(np.sort(means)[len(means) // 2])
    distance, offset = float(means[best]), float(vshift - counted[best])
    at_best = table[:, counted[best]]
    known = np.isfinite(at_best)
    confidence = np.full_like(at_best, np.nan)
    confidence[known] = median_filter(median - at_best[known], MEDIAN_WINDOW, mode="constant")
    series = {}
    for key, values in (("d", at_best), ("c", confidence)):
        series[key] = np.full(n_frames, np.nan, np.float32)
        series[key][WINDOW // 2 : WINDOW // 2 + len(values)] = values
    return Score(
        {"d": distance, "c": median - distance, "offset": offset, "abs_offset": abs(offset)},
        series,
        notes={"windows": windows},
    )
