"""One metric in one region for one candidate of a clip."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from bench.clips.job import SHIFTED, Candidate
from bench.common.errors import Unscorable
from bench.eval.parts import PartRow
from bench.metrics.base import Batch, ClipInfo, Meter, Metric, Score, Spec
from bench.results import CLIP_REGION, UNDECIDABLE

log = logging.getLogger(__name__)

T = TypeVar("T")


def applies(spec: Spec, candidate: Candidate) -> bool:
    """Whether a metric is scored on a candidate; on ``shifted`` only those of detected landmarks are."""
    return spec.detects or candidate.method != SHIFTED


@dataclass
class Slot:
    """One metric in one region for one candidate.

    Attributes:
        metric: the metric.
        region: of :data:`bench.metrics.regions.REGIONS`, or ``clip``.
        clip_id: the clip.
        meter: computes the score; None before the first frame.
        reason: why there is no score, or ``""``.
        seen: number of scored frames.
    """

    metric: Metric
    region: str
    clip_id: str
    meter: Meter | None = None
    reason: str = ""
    seen: int = 0

    @property
    def alone(self) -> bool:
        """Whether the metric uses only the prediction, and so also frames that the truth does not have."""
        return self.region in ("full", CLIP_REGION) and "truth" not in self.metric.spec.needs

    @property
    def alive(self) -> bool:
        """Whether it was started and no step has failed."""
        return self.meter is not None and not self.reason

    def start(self, info: ClipInfo) -> None:
        """Create the meter of a clip."""
        self.meter = self._guarded(lambda: self.metric.meter(info))

    def update(self, batch: Batch) -> None:
        """Score some frames, unless an earlier step failed."""
        meter = self.meter
        if meter is not None and not self.reason:
            self.seen += len(batch.pred)
            self._guarded(lambda: meter.update(batch))

    def finish(self) -> Score | None:
        """The score of all frames, or None if a step failed."""
        return None if self.meter is None or self.reason else self._guarded(self.meter.finish)

    def why_not(self, score: Score | None) -> str:
        """Why there is no score; ``""`` if there is one."""
        return self.reason or ("" if score else "no frames")

    def close(self) -> None:
        """Free the resources of the meter."""
        if self.meter is not None:
            self.meter.close()

    def _guarded(self, action: Callable[[], T]) -> T | None:
        """Run a step of the metric. An error becomes the reason of this metric's failure on this clip."""
        try:
            return action()
        except Unscorable as error:
            self.reason = error.reason
        except Exception as error:
            log.exception("%s failed on %s", self.metric.spec.name, self.clip_id)
            self.reason = f"the metric failed: {type(error).__name__}: {error}"
        return None

    def rows(
        self, score: Score | None, problem: str, method: str, frames: tuple[int, int]
    ) -> Iterator[PartRow]:
        """A row for every figure.

        Args:
            score: what :meth:`finish` returned.
            problem: the problem of the video itself, or ``""``.
            method: of the candidate.
            frames: of the prediction and of the truth.
        """
        spec = self.metric.spec
        reason = problem or self.why_not(score)
        for output in spec.outputs:
            value = score.values.get(output.key) if score else None
            why = reason
            if score and value is not None and np.isnan(value):
                value, why = None, "not a number"
            elif score and output.key in score.undecided:
                why = UNDECIDABLE + score.undecided[output.key]
            elif score and value is None and spec.aggregate == "mean":
                why = "not given for this clip"
            series = score.series.get(output.key) if score else None
            yield PartRow(
                kind="figure",
                clip_id=self.clip_id,
                method=method,
                region=self.region,
                metric=spec.name,
                output=spec.id(output),
                value=None if value is None else float(value),
                reason=why,
                frames=self.seen if score else 0,
                pred_frames=frames[0],
                truth_frames=frames[1],
                values=None if series is None else np.asarray(series, np.float32).tolist(),
            )
