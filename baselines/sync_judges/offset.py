"""The offset between lips and sound of a whole clip, or why there is none to be found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from baselines.sync_judges.scores import Array, Bool, Float, shifted_scores
from baselines.sync_judges.windows import nearest_best

#: The least significance of an offset. Measured with the linear judge on real people that it was not fitted on: of 83
#: clips of 5 to 10 s, 84 % reach it with their own sound, and 1.4 % of 726 pairs with another person's (of 36 clips of
#: 3 s 64 %, and 4.5 % of 311 pairs).
SIGNIFICANCE = 3.5
#: Frames that must have speech.
SPEECH_FRAMES = 25

# Shifts up to 5 s away say how much the mean score varies by chance; those within GAP of the best one do not.
_FAR, _GAP = 125, 5
# Far shifts that the standard deviation needs.
_SHIFTS = 20
# Embeddings that vary by less than this share of their size do not vary.
_STILL = 1e-6


@dataclass(frozen=True)
class Offset:
    """The offset of a clip.

    Attributes:
        frames: by how many the video is late; negative: early. None: it cannot be decided.
        score: the mean over frames at the best shift, less what lips and sound score on average without each other:
            in the unit of the judge's scores; NaN where nothing can be compared.
        confidence: how far ``score`` is above the median over the shifts that were tried, ≥ 0; 0 for lips that do not
            move and for sound that does not change; NaN where nothing can be compared.
        significance: how far ``score`` is above the mean of shifts far from the best, in their standard deviations;
            NaN where there are too few of them.
        undecidable: why it cannot be decided; empty where it can.
    """

    frames: int | None
    score: float
    confidence: float
    significance: float
    undecidable: str = ""

    def in_sync(self, most: int = 1) -> bool:
        """Whether the clip has an offset, and one of at most ``most`` frames either way."""
        return self.frames is not None and abs(self.frames) <= most


def clip_offset(lips: Array, sounds: Array, speech: Bool | None = None, reach: int = 15) -> Offset:
    """Find the offset of a clip: the shift of its sound with the highest mean score.

    The embeddings' means over the clip are subtracted first. So a score is what lips and sound say together: lips
    that do not move, and sound that does not change, score 0 at every shift. A shift counts if at least half of the
    frames with lips have sound at it; of equals, the smallest one.

    An offset is given if the best mean stands out by :data:`SIGNIFICANCE` standard deviations of the means of shifts
    that are more than 5 frames away from it, up to 125 frames either way. These have the autocorrelation of lips and
    sound in them, as the best one has; means over fewer frames count less in proportion.

    Args:
        lips: (T, D), a row a frame; NaN where there are none.
        sounds: (N, D), a row a frame: ``sounds[t]`` belongs to ``lips[t]`` where the clip is in sync.
        speech: of each frame of the clip (bool): fewer than 25 with speech are too few. None: that is not asked.
        reach: frames by which the sound is shifted at most, either way.

    Raises:
        ValueError: lips and sounds are not of one width.
    """
    furthest = max(_FAR, reach)
    seen, heard = _there(lips), _there(sounds)
    if not seen.any() or not heard.any():
        return _undecided("no lips and sound to compare", float("nan"))
    if _constant(lips[seen]):
        return _undecided("the lips do not move", 0.0)
    if _constant(sounds[heard]):
        return _undecided("the sound does not change", 0.0)
    scores = shifted_scores(_centred(lips, seen), _centred(sounds, heard), furthest)
    counts = np.isfinite(scores).sum(axis=0)
    counts[2 * counts < seen.sum()] = 0
    tried = np.abs(np.arange(-furthest, furthest + 1)) <= reach
    if not counts[tried].any():
        return _undecided("sound beside less than half of the lips", float("nan"))
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(counts > 0, np.nansum(scores, axis=0) / counts, np.nan)
    best = int(nearest_best(means[None, tried])[0])
    score = float(means[furthest + best])
    confidence = score - float(np.nanmedian(means[tried]))
    significance = _significance(means, counts, best)
    if speech is not None and int(speech.sum()) < SPEECH_FRAMES:
        reason = f"speech in {int(speech.sum())} frames, {SPEECH_FRAMES} are needed"
    elif np.isnan(significance):
        reason = "too short"
    elif significance < SIGNIFICANCE:
        reason = "no shift stands out"
    else:
        return Offset(-best, score, confidence, significance)
    return Offset(None, score, confidence, significance, reason)


def _undecided(reason: str, value: float) -> Offset:
    return Offset(None, value, value, float("nan"), reason)


def _there(rows: Array) -> Bool:
    """Which rows (n, D) are numbers."""
    return np.asarray(np.isfinite(rows).all(axis=1), np.bool_)


def _constant(rows: Array) -> bool:
    """Whether rows (n, D) are all the same but for rounding."""
    rows = rows.astype(np.float64)
    return bool(rows.std(axis=0).max() <= _STILL * np.sqrt(np.mean(rows**2)))


def _centred(rows: Array, there: Bool) -> Float:
    """Rows (n, D) less their mean; NaN where they are not there."""
    centred = rows.astype(np.float64)
    centred -= centred[there].mean(axis=0)
    centred[~there] = np.nan
    return centred


def _significance(means: Float, counts: np.ndarray, best: int) -> float:
    """How far the best mean is above those far from it, in standard deviations of a mean over as many frames."""
    furthest = len(means) // 2
    far = (np.abs(np.arange(-furthest, furthest + 1) - best) > _GAP) & (counts > 0)
    if far.sum() < _SHIFTS:
        return float("nan")
    middle = np.average(means[far], weights=counts[far])
    # Of one frame, if frames were independent; the autocorrelation is in it as a factor.
    deviation = np.sqrt(np.mean((means[far] - middle) ** 2 * counts[far]))
    if deviation == 0:
        return float("nan")
    return float((means[furthest + best] - middle) * np.sqrt(counts[furthest + best]) / deviation)
