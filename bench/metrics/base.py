"""What a metric is: a named variant with a hashed specification, and meters that see every frame once.

A :class:`Metric` is built once a process and holds the network, if there is one. For every clip, method and region
it gives out a :class:`Meter`, which takes the frames in batches and ends in a :class:`Score`. What two meters would
both compute of one picture (features, moments) is computed once: :meth:`Pictures.shared`.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from bench.metrics.expert_file import ExpertFile
    from bench.weights.store import WeightStore

T = TypeVar("T")
Image = npt.NDArray[np.uint8]
Float = npt.NDArray[np.floating[Any]]
Better = Literal["higher", "lower", "none"]
#: :meth:`Pictures.shared` of some pictures.
Share = Callable[[Hashable, Callable[[], Any]], Any]


@dataclass(frozen=True)
class Output:
    """One figure that a metric gives.

    Attributes:
        key: appended to the metric's name with a dot; ``""`` where it gives a single figure.
        label: as tables print it: ``PSNR``, ``LSE-D``.
        better: direction.
        unit: ``dB``, ``px`` …; ``""`` for a pure number.
        low: least possible value, or None.
        high: greatest possible value, or None.
        cap: what an infinite value counts as in a mean with finite ones; None where there is none.
        decimals: usual in tables.
    """

    key: str
    label: str
    better: Better
    unit: str = ""
    low: float | None = None
    high: float | None = None
    cap: float | None = None
    decimals: int = 4


@dataclass(frozen=True, eq=False)
class Spec:
    """The specification of a variant. What moves its numbers is hashed; the words about it are not.

    Attributes:
        name: ``family.variant``.
        summary: one line.
        outputs: the figures.
        parameters: every choice that moves a number (window, range, resize, layout, averaging, detector, failure
            policy …), JSON values; variants of a family use the same keys, so that `bench explain` can compare them.
        formula: Markdown, with ``$…$``.
        reference: the paper and equation, or the implementation whose numbers these equal.
        traps: known ways in which others' numbers of this name differ.
        needs: of ``truth``, ``landmarks`` (of prediction and truth, with the pictures), ``truth_landmarks`` (through
            the clip, before its first frame), ``audio``, ``sync_expert``.
        paired: compares frame with frame, so it is not defined where another sound drives the face.
        regions: scored in each region; otherwise once a clip, under the region ``clip``.
        weights: names in the registry of weights.
        extra: optional extra of the package that it needs, or ``""``.
        aggregate: ``mean`` over clips, or ``set``: one figure of all frames together.
        quirk: kept only to explain published numbers; in no table unless named.
        revision: raised where the code's numbers moved under the same parameters, so that the hash tells old results
            from new ones.
    """

    name: str
    summary: str
    outputs: tuple[Output, ...]
    parameters: Mapping[str, Any]
    formula: str
    reference: str
    traps: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset({"truth"})
    paired: bool = True
    regions: bool = True
    weights: tuple[str, ...] = ()
    extra: str = ""
    aggregate: Literal["mean", "set"] = "mean"
    quirk: bool = False
    revision: int = 1

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of everything that moves a number."""
        data = {
            "name": self.name,
            "outputs": [
                {"key": o.key, "better": o.better, "unit": o.unit, "cap": o.cap} for o in self.outputs
            ],
            "parameters": dict(self.parameters),
            "paired": self.paired,
            "regions": self.regions,
            "weights": list(self.weights),
            "aggregate": self.aggregate,
        }
        if self.revision > 1:  # first revisions have the hashes that were given before there were any
            data["revision"] = self.revision
        text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def id(self, output: Output) -> str:
        """Name of a figure: ``psnr.frame``, ``lse.lrs.d``."""
        return f"{self.name}.{output.key}" if output.key else self.name

    def described(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {**asdict(self), "needs": sorted(self.needs), "hash": self.hash}


class Pictures:
    """Some successive frames of one video, cut to one region.

    Attributes:
        array: (n, H, W, 3) uint8, RGB.
        landmarks: (n, 478, 3) float32 in pixels of the *full* frame, NaN where there is no face; None where no
            metric asked for landmarks.
        origin: (n, 2) int64, x and y of the region's corner in the full frame.
    """

    def __init__(
        self, array: Image, landmarks: Float | None = None, origin: npt.NDArray[np.int64] | None = None
    ):
        self.array = array
        self.landmarks = landmarks
        self.origin = np.zeros((len(array), 2), np.int64) if origin is None else origin
        self._shared: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self.array)

    def shared(self, key: Hashable, compute: Callable[[], T]) -> T:
        """``compute()``, once for these pictures: methods with the same truth, and metrics with the same network,
        share it. ``key`` names everything but the pictures."""
        if key not in self._shared:
            self._shared[key] = compute()
        value: T = self._shared[key]
        return value


@dataclass(frozen=True)
class Batch:
    """Some successive frames of a prediction and of its truth; ``pred is truth`` where they are one video.

    Attributes:
        start: index of the first frame in the clip.
        pred: the frames to be scored.
        truth: what they are compared with, of the same shape; None where there is nothing.
    """

    start: int
    pred: Pictures
    truth: Pictures | None


@dataclass(frozen=True)
class ClipInfo:
    """What a meter knows of its clip before the first frame.

    Attributes:
        clip_id: name.
        n_frames: that will come, at 25 a second.
        width: of the full frame, pixels.
        height: of the full frame, pixels.
        region: ``full``, ``face``, ``mouth``, or ``clip`` for metrics without regions (they see full frames).
        audio: (n,) int16, mono, 16 kHz: the sound of the prediction; None where there is none.
        landmarks: (T, 478, 2 or 3) float32, T ≥ n_frames, full-frame pixels: the truth's, NaN where there is no
            face; None where there is no truth, or no metric needs ``truth_landmarks``.
    """

    clip_id: str
    n_frames: int
    width: int
    height: int
    region: str
    audio: npt.NDArray[np.int16] | None = None
    landmarks: Float | None = None


@dataclass(frozen=True)
class Score:
    """What a meter found.

    Attributes:
        values: output key → figure of the clip; for ``set`` metrics empty.
        series: output key → (n_frames,) float32, one value a frame where that makes sense, NaN where there is none.
        features: of ``set`` metrics: (n, d) float32 of the prediction and (m, d) of the truth.
        notes: facts worth keeping that are no figures: how many frames had no face …
    """

    values: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Float] = field(default_factory=dict)
    features: tuple[Float, Float] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SetScore:
    """What a ``set`` metric finds over all clips.

    Attributes:
        values: output key → figure.
        low: output key → lower end of the 95 % interval, where one can be given.
        high: output key → its upper end.
        interval: how it was found: ``jackknife`` over clips …, or ``""``.
    """

    values: Mapping[str, float]
    low: Mapping[str, float] = field(default_factory=dict)
    high: Mapping[str, float] = field(default_factory=dict)
    interval: str = ""


class Meter(ABC):
    """Scores one clip of one method in one region."""

    @abstractmethod
    def update(self, batch: Batch) -> None:
        """Take the next frames, in order. Raises :class:`bench.common.errors.Unscorable`."""

    @abstractmethod
    def finish(self) -> Score:
        """The score of all frames seen. Raises :class:`bench.common.errors.Unscorable`."""

    def close(self) -> None:  # noqa: B027 - most meters hold nothing
        """Free what the meter holds (temporary files); called once, also where scoring failed."""


@dataclass(frozen=True)
class Context:
    """What metrics are built with.

    Attributes:
        weights: where pretrained networks are found.
        device: of torch: ``cpu``, ``cuda``, ``cuda:1`` …
        sync_expert: the trained expert that judges lip sync, or None.
    """

    weights: WeightStore
    device: str = "cpu"
    sync_expert: ExpertFile | None = None


class Metric(ABC):
    """One variant, ready to score. Built once a process.

    Raises:
        bench.common.errors.Unavailable: it cannot be computed here.
    """

    spec: ClassVar[Spec]

    def __init__(self, context: Context) -> None:
        self.context = context

    @abstractmethod
    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip. Raises :class:`bench.common.errors.Unscorable` where the clip lacks what is needed."""

    def digests(self) -> dict[str, str]:
        """SHA-256 of the files that its networks were read from, by name; kept with the figures."""
        return {name: self.context.weights.sha256(name) for name in self.spec.weights}

    def reduce(self, clips: Sequence[tuple[Float, Float]]) -> SetScore:
        """Of ``set`` metrics: the figure of all clips together.

        Args:
            clips: for each clip the features of its meter's score; read from disk anew at each access, so take one
                at a time and keep sums, not features.
        """
        raise NotImplementedError(f"{self.spec.name} is a mean over clips")
