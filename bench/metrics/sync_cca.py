"""Lip sync by a linear judge that was fitted with this suite: correlation, rank and offset.

It sees landmarks, not pixels, and needs no network from elsewhere: videos of real people, of the toy corpus and of any
method are judged alike. It is not SyncNet, so its figures are not called LSE.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from baselines.sync_judges.offset import SIGNIFICANCE, SPEECH_FRAMES, Offset, clip_offset
from baselines.sync_judges.speech import RULE_TEXT, speech_frames
from baselines.sync_judges.windows import Ranked, Windows, right_above_wrong
from bench.common.errors import Unavailable, Unscorable
from bench.metrics.base import Batch, ClipInfo, Context, Float, Meter, Metric, Output, Score, Spec
from bench.metrics.cca_file import METHOD, load_cca
from bench.metrics.judge_file import digests
from prep.rates import SAMPLES_PER_FRAME
from prep.sound.mel import melspectrogram

#: Largest shift of the sound in frames, in both directions, for the offset.
REACH = 15
#: Windows of the rank, and which sound is wrong in them.
WINDOWS = Windows()
# A variate that varies by less than this share of what it does in the training data does not vary.
_STILL = 1e-5


class SyncCca(Metric):
    r"""Lip sync by canonical correlation of lip landmarks and sound: offset, \|offset\|, correlation, confidence, rank.

    The judge is a run of ``sync-cca`` (:class:`baselines.sync_cca.model.CcaJudge`). Landmarks are those of the
    prediction, by the detector that the result names. The correlation is in [-1, 1], the rank in [0, 1] with chance at
    0.5, the confidence ≥ 0 in nats a frame; offsets are in frames, positive if the video is late. An offset that does
    not stand out is not given: see :func:`baselines.sync_judges.offset.clip_offset`.

    Raises:
        Unavailable: no judge is named.
        BenchError: its file was replaced in the meantime, or is damaged.
    """

    spec = Spec(
        name="sync.cca",
        summary="correlation of lips and sound, right above wrong sound, and offset by a linear judge that was fitted "
        "with this suite",
        outputs=(
            Output("corr", "CCA correlation", "higher", low=-1.0, high=1.0),
            Output("rank", "CCA rank", "higher", low=0.0, high=1.0),
            Output("confidence", "CCA confidence", "higher", unit="nats", low=0.0),
            Output("offset", "CCA offset", "none", unit="frames", low=-REACH, high=REACH, decimals=2),
            Output("abs_offset", "CCA |offset|", "lower", unit="frames", low=0.0, high=REACH, decimals=2),
        ),
        parameters={
            "network": f"a fitted {METHOD}, which the digest beside the figures names",
            "fps": 25,
            "pictures": "landmarks of the prediction in every frame",
            "audio": "16 kHz mono",
            "audio_features": "mel spectrogram of Wav2Lip, with the padding of the training data",
            "length": f"min(frames, samples // {SAMPLES_PER_FRAME})",
            "score": "log-likelihood ratio of a frame's lips and sound",
            "correlation": "Pearson's over the frames, of each pair of variates at offset 0; mean by squared canonical "
            "correlations; a variate that does not vary has 0",
            "rank": {
                "window": WINDOWS.window,
                "step": WINDOWS.step,
                "wrong sound": f"shifted by {WINDOWS.nearest} to {WINDOWS.furthest} frames either way, where there is "
                "sound for the whole window",
                "averaging": "share of pairs of a window and a shift in which the right sound's mean is higher; "
                "equal ones count half",
            },
            "vshift": REACH,
            "offset": "embeddings less their means over the clip; mean over the frames for each shift that has sound "
            "beside at least half of them, then the highest, of equals that of the least shift",
            "confidence": "the highest mean less the median over shifts",
            "undecidable": "no offset if the lips do not move, the sound does not change, fewer than "
            f"{SPEECH_FRAMES} frames have speech, or the highest mean is less than {SIGNIFICANCE:g} standard "
            "deviations above those of shifts more than 5 frames away from it, of up to 125",
            "speech": RULE_TEXT,
            "failure": "no sound, or a face in less than half of the frames: no score",
        },
        formula=(
            r"With variates $x_{tk}$ of the lips around frame $t$ and $y_{tk}$ of the sound around it, and canonical "
            r"correlations $\rho_k$: $\text{correlation} = \sum_k \rho_k^2 \operatorname{corr}_t(x_{tk}, y_{tk}) / "
            r"\sum_k \rho_k^2$. The score of frame $t$ with the sound $d$ frames later is $s_t(d) = \sum_k [\rho_k "
            r"x_{tk} y_{t+d,k} - \frac12 \rho_k^2 (x_{tk}^2 + y_{t+d,k}^2)] / (1 - \rho_k^2) - \frac12 \log(1 - "
            r"\rho_k^2)$; $\text{rank}$ is how often its mean over a window is higher at $d = 0$ than at $8 \le |d| "
            r"\le 40$. With the means over the clip subtracted, $m(d)$ is the mean over all frames: $\text{offset} = "
            r"-\arg\max_d m(d)$ for $|d| \le 15$, positive where the picture is late, and $\text{confidence} = \max_d "
            r"m(d) - \operatorname{median}_d m(d)$."
        ),
        reference=(
            "this suite; canonical correlation: Hotelling, Relations between two sets of variates, Biometrika 1936; "
            "offset and confidence after Chung and Zisserman 2016"
        ),
        traps=(
            "These are not SyncNet's figures: neither scale nor order of methods is that of LSE-D and LSE-C.",
            "Another fit gives other figures: results with different digests are never put in one column. The names "
            "and digests of its training data stand beside its own.",
            "It sees the movement of landmarks only: teeth, tongue, and a mouth that is drawn badly in the right place "
            "do not count. A detector that smooths or jitters changes the figures, as it does those of LMD.",
            "Correlation and rank are those at offset 0, and fall with a delay; the confidence is that of the best "
            "shift, and does not.",
            "Of one second by itself even the right sound is often not the best: compare means over clips with the "
            "rows of the ground truth and of the wrong audio.",
            "Offsets that are undecidable are left out of the mean; the number of clips stands beside it. Methods "
            "whose offsets stand out in few clips are compared over few.",
            "Short clips have few windows and few shifts; of less than 33 frames there is no rank, of about a second "
            "no offset.",
        ),
        needs=frozenset({"landmarks", "audio", "sync_cca"}),
        paired=False,
        regions=False,
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if context.sync_cca is None:
            raise Unavailable(
                "no fitted judge of lip sync is named",
                f"bench train {METHOD} --data DATA --run runs/{METHOD}, then the same with --sync-cca runs/{METHOD}",
            )
        self.file = context.sync_cca
        self.judge = load_cca(self.file)

    def digests(self) -> dict[str, str]:
        """``sync-cca`` → SHA-256 of its file, and ``fitted on <name>`` → SHA-256 of a data set's manifest."""
        return digests(self.file, METHOD) | {f"fitted on {name}": sha256 for name, sha256 in self.file.data}

    def meter(self, clip: ClipInfo) -> Meter:
        """Raises :class:`bench.common.errors.Unscorable` if there is no sound."""
        if clip.audio is None:
            raise Unscorable("no audio track")
        return _Meter(self, clip.audio)


class _Meter(Meter):
    def __init__(self, metric: SyncCca, samples: npt.NDArray[np.int16]) -> None:
        self.metric = metric
        self.samples = samples
        self._points: list[Float] = []

    def update(self, batch: Batch) -> None:
        if batch.pred.landmarks is None:
            raise Unscorable("no landmarks")
        self._points.append(batch.pred.landmarks)

    def finish(self) -> Score:
        points = np.concatenate(self._points)
        heard = min(len(points), len(self.samples) // SAMPLES_PER_FRAME)
        if not heard:
            raise Unscorable("the sound is shorter than a frame")
        faces = int(np.isfinite(points[:heard, 0, 0]).sum())
        if 2 * faces < heard:
            raise Unscorable(f"a face in {faces} of {heard} frames")
        judge = self.metric.judge
        mel = melspectrogram(self.samples, self.metric.file.padding)
        seen, sound = points[:heard], mel
        speech = speech_frames(sound, heard)
        lips, sounds = judge.see(seen), judge.hear(sound, heard)
        correlation = variate_correlation(
            judge.variates_seen(seen), judge.variates_heard(sound, heard), judge.canonical.numpy()
        )
        ranked = right_above_wrong(lips, sounds, speech, WINDOWS)
        found = clip_offset(lips, sounds, speech, REACH)
        return _score(correlation, ranked, found, len(points))


def variate_correlation(
    lips: npt.NDArray[np.floating[Any]],
    sounds: npt.NDArray[np.floating[Any]],
    canonical: npt.NDArray[np.floating[Any]],
) -> float:
    """The correlation of lips and sound over the frames of a clip.

    Args:
        lips: (T, K) variates of the lips, of variance about 1 in the training data; NaN rows where there are none.
        sounds: (T, K) variates of the sound beside them.
        canonical: (K,) canonical correlations ρ.

    Returns:
        Pearson's correlation of each pair over the frames that have both, averaged by ρ²; -1 … 1. A variate that does
        not vary has correlation 0. NaN without two such frames, or if every ρ is 0.
    """
    both = np.isfinite(lips).all(axis=1) & np.isfinite(sounds).all(axis=1)
    weights = np.square(canonical.astype(np.float64))
    if both.sum() < 2 or not weights.any():
        return float("nan")
    x, y = (side[both].astype(np.float64) for side in (lips, sounds))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    deviations = [side.std(axis=0) for side in (x, y)]
    varies = np.logical_and(*(deviation > _STILL for deviation in deviations))
    scale = np.where(varies, deviations[0] * deviations[1], 1)
    found = np.where(varies, (x * y).mean(axis=0) / scale, 0)
    return float((found * weights).sum() / weights.sum())


def _score(correlation: float, ranked: Ranked, found: Offset, n_frames: int) -> Score:
    """The figures of a clip, and the share of wrong sound that is below the right one around each frame."""
    values, undecided = {}, {}
    reasons = {
        "corr": (correlation, "no two frames with lips and sound"),
        "rank": (ranked.share, f"no {WINDOWS.window} frames with lips and speech, and wrong sound for them"),
        "confidence": (found.confidence, found.undecidable),
    }
    for key, (value, why) in reasons.items():
        if np.isnan(value):
            undecided[key] = why
        else:
            values[key] = value
    if found.frames is None:
        undecided |= dict.fromkeys(("offset", "abs_offset"), found.undecidable)
    else:
        values |= {"offset": float(found.frames), "abs_offset": float(abs(found.frames))}
    return Score(
        values,
        {"rank": _around(ranked, n_frames)},
        undecided=undecided,
        notes={"windows": ranked.windows, "significance": found.significance},
    )


def _around(ranked: Ranked, n_frames: int) -> npt.NDArray[np.float32]:
    """(n_frames,) the mean share of the windows that a frame is in; NaN where there are none."""
    sums, counts = np.zeros(n_frames), np.zeros(n_frames)
    for start, share in zip(ranked.starts, ranked.shares, strict=True):
        sums[start : start + WINDOWS.window] += share
        counts[start : start + WINDOWS.window] += 1
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)
