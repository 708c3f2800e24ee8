"""Metrics with figures that can be told by heart."""

from __future__ import annotations

import numpy as np

from bench.common.errors import Unavailable, Unscorable
from bench.metrics.base import Batch, ClipInfo, Context, Meter, Metric, Output, Score, SetScore, Spec
from models.registry import Registry


def _spec(name: str, **changes: object) -> Spec:
    fields = {
        "name": name,
        "summary": "for tests",
        "outputs": (Output("", "X", "lower"),),
        "parameters": {},
        "formula": "",
        "reference": "",
        **changes,
    }
    return Spec(**fields)


class _Mean(Meter):
    def __init__(self, clip: ClipInfo) -> None:
        self.clip, self.values, self.next = clip, [], 0

    def update(self, batch: Batch) -> None:
        assert batch.start == self.next and len(batch.pred) == len(batch.truth)
        assert batch.pred.array.shape == batch.truth.array.shape
        self.next += len(batch.pred)
        difference = batch.pred.array.astype(float) - batch.truth.array
        self.values += list(np.abs(difference).mean(axis=(1, 2, 3)))

    def finish(self) -> Score:
        return Score({"": float(np.mean(self.values))}, {"": np.array(self.values, np.float32)})


class MeanDifference(Metric):
    spec = _spec("fake.mean")

    def meter(self, clip: ClipInfo) -> Meter:
        return _Mean(clip)


class _Collect(Meter):
    def __init__(self) -> None:
        self.pred, self.truth = [], []

    def update(self, batch: Batch) -> None:
        for pictures, rows in ((batch.pred, self.pred), (batch.truth, self.truth)):
            rows.append(
                pictures.shared("mean", lambda p=pictures: p.array.mean(axis=(1, 2)).astype(np.float32))
            )

    def finish(self) -> Score:
        return Score(features=(np.concatenate(self.pred), np.concatenate(self.truth)))


class SetDifference(Metric):
    spec = _spec("fake.set", aggregate="set")

    def meter(self, clip: ClipInfo) -> Meter:
        return _Collect()

    def reduce(self, clips) -> SetScore:
        pred = np.concatenate([clips[i][0] for i in range(len(clips))])
        truth = np.concatenate([clips[i][1] for i in range(len(clips))])
        return SetScore({"": float(np.abs(pred.mean(axis=0) - truth.mean(axis=0)).mean())})


class _Loudness(Meter):
    def __init__(self, clip: ClipInfo) -> None:
        if clip.audio is None:
            raise Unscorable("no audio track")
        self.value = float(np.abs(clip.audio.astype(float)).mean())

    def update(self, batch: Batch) -> None:
        assert batch.pred.array.ndim == 4

    def finish(self) -> Score:
        return Score({"": self.value})


class Loudness(Metric):
    spec = _spec("fake.loudness", needs=frozenset({"audio"}), paired=False, regions=False)

    def meter(self, clip: ClipInfo) -> Meter:
        return _Loudness(clip)


class _Seen(Meter):
    def __init__(self, clip: ClipInfo) -> None:
        self.clip, self.next = clip, 0

    def update(self, batch: Batch) -> None:
        assert batch.start == self.next
        self.next += len(batch.pred)

    def finish(self) -> Score:
        assert self.next == self.clip.n_frames
        return Score({"": float(self.next)})


class FramesSeen(Metric):
    spec = _spec("fake.seen", needs=frozenset(), paired=False, regions=False)

    def meter(self, clip: ClipInfo) -> Meter:
        return _Seen(clip)


class Absent(Metric):
    spec = _spec("fake.absent")

    def __init__(self, context: Context) -> None:
        raise Unavailable("weights fake are missing", "bench weights fetch fake")

    def meter(self, clip: ClipInfo) -> Meter:
        raise AssertionError("never built")


class Broken(Metric):
    spec = _spec("fake.broken")

    def meter(self, clip: ClipInfo) -> Meter:
        raise RuntimeError("a fault of ours")


NAMES = Registry(
    {
        metric.spec.name: f"tests.bench.fake_metrics:{metric.__name__}"
        for metric in (MeanDifference, SetDifference, Loudness, FramesSeen, Absent, Broken)
    },
    "metric",
)
