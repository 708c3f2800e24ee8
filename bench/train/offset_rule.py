"""What the judged offset of a clip means: in sync, off, sound of another clip, or undecidable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from baselines.sync_judges.offset import SPEECH_FRAMES
from bench.train.offset_judging import Judged

IN_SYNC, OFF, OTHER, UNDECIDABLE = "in sync", "off", "other sound", "undecidable"
VERDICTS = (IN_SYNC, OFF, OTHER, UNDECIDABLE)

#: Clips by which it is known how far the right sound stands out.
_CLIPS = 20
#: If at least this share of the clips with an offset has the same one, it counts as the offset of the whole data set.
_CONSTANT = 0.5


@dataclass(frozen=True)
class Rule:
    """When a clip is in sync, and when its sound is another clip's.

    The sound is another clip's if no shift stands out, although the right sound would. How far it would follows from
    the data set, most of whose clips have their own sound: the significance of an offset grows with the root of the
    number of frames, by a factor whose median over the clips is taken.

    Attributes:
        reach: largest shift of the sound that is tried, in frames, in both directions.
        most: largest absolute offset of a clip in sync, in frames.
        other: highest significance of another clip's sound.
        expected: least significance that the right sound of such a clip would have.
    """

    reach: int = 15
    most: int = 1
    other: float = 2.5
    expected: float = 5.0


def verdicts(judged: Sequence[Judged], rule: Rule) -> list[str]:
    """What the offset of each clip means; one of :data:`VERDICTS`."""
    factor = _factor(judged)
    return [_verdict(one, rule, factor) for one in judged]


def _factor(judged: Sequence[Judged]) -> float:
    """Significance over the root of the number of frames, the median over clips; 0 if there are too few."""
    found = [
        one.offset.significance / one.frames**0.5
        for one in judged
        if one.offset is not None and np.isfinite(one.offset.significance)
    ]
    return float(np.median(found)) if len(found) >= _CLIPS else 0.0


def _verdict(one: Judged, rule: Rule, factor: float) -> str:
    offset = one.offset
    if offset is None:
        return UNDECIDABLE
    if offset.frames is not None:
        return IN_SYNC if abs(offset.frames) <= rule.most else OFF
    if one.frames < SPEECH_FRAMES:
        return UNDECIDABLE
    if offset.significance <= rule.other and factor * one.frames**0.5 >= rule.expected:
        return OTHER
    return UNDECIDABLE


@dataclass
class Summary:
    """Counts of the results for all clips.

    Attributes:
        rule: by which they were judged.
        counts: split → ``clips`` or a verdict → number of clips.
        offsets: offset → number of clips in which it was found, whether in sync or not.
        reasons: why a clip is undecidable → number of clips.
    """

    rule: Rule
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    offsets: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, one: Judged, verdict: str) -> None:
        """Count a clip."""
        counts = self.counts.setdefault(one.place.split, Counter())
        counts["clips"] += 1
        counts[verdict] += 1
        if one.offset is not None and one.offset.frames is not None:
            self.offsets[one.offset.frames] += 1
        if verdict == UNDECIDABLE:
            self.reasons[one.reason] += 1

    def off(self) -> int:
        """Number of clips with a constant offset."""
        return sum(counts[OFF] for counts in self.counts.values())

    def constant(self) -> int | None:
        """The offset of the whole data set, if most clips with an offset have the same and it is not in sync."""
        for offset, count in self.offsets.most_common(1):
            if abs(offset) > self.rule.most and count >= _CONSTANT * self.offsets.total():
                return offset
        return None
