"""What a metric is: a named variant with a hashed specification, and meters that get every frame once.

A :class:`Metric` is built once per process and holds the network, if there is one. For every clip, method and region it
makes a :class:`Meter`, which gets the frames in batches and returns a :class:`Score`. If several meters need the same
intermediate result for a frame (features, moments), it is computed once: :meth:`Pictures.shared`.
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
    from bench.metrics.judge_file import JudgeFile
    from bench.weights.store import WeightStore

T = TypeVar("T")
Image = npt.NDArray[np.uint8]
Float = npt.NDArray[np.floating[Any]]
Better = Literal["higher", "lower", "none"]
#: The method :meth:`Pictures.shared` of some frames.
Share = Callable[[Hashable, Callable[[], Any]], Any]


@dataclass(frozen=True)
class Output:
    """One figure that a metric computes.

    Attributes:
        key: appended to the metric's name with a dot; ``""`` if the metric has a single figure.
        label: name in tables: ``PSNR``, ``LSE-D``.
        better: direction.
        unit: ``dB``, ``px`` …; ``""`` for a pure number.
        low: smallest possible value, or None.
        high: largest possible value, or None.
        cap: the value that replaces infinity in a mean with finite values; None: values are always finite.
        decimals: number of decimals in tables.
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
    """The specification of a variant. Everything that changes its numbers is hashed; descriptions are not.

    Attributes:
        name: ``family.variant``.
        summary: one line.
        outputs: the figures.
        parameters: every choice that changes a number (window, range, resize, layout, averaging, detector, failure
            policy …), JSON values. Variants of a family use the same keys, so `bench explain` can compare them.
        formula: Markdown, with ``$…$``.
        reference: the paper and equation, or the implementation that gives the same numbers.
        traps: known reasons why published numbers of the same name differ.
        needs: some of ``truth``, ``landmarks`` (of prediction and truth, with the frames), ``truth_landmarks`` (of the
            whole clip, before its first frame), ``audio``, ``sync_expert``, ``sync_cca``.
        paired: compares frame with frame, so it is not defined if another sound drives the face.
        regions: scored in each region; otherwise once per clip, with the region ``clip``.
        weights: names in the registry of weights.
        extra: optional extra of the package that it needs, or ``""``.
        aggregate: ``mean`` over clips, or ``set``: one figure of all frames together.
        detects: compares points that a detector of landmarks finds anew in the prediction. Only such metrics are scored
            on the row ``shifted``, which shows the detector's floor.
        quirk: exists only to explain published numbers; not in tables unless named.
        revision: increased if the code's numbers changed with the same parameters, so that old and new results have
            different hashes.
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
    detects: bool = False
    quirk: bool = False
    revision: int = 1

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of everything that changes a number."""
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
        if self.revision > 1:  # first revisions keep the hashes from before revisions existed
            data["revision"] = self.revision
        text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def id(self, output: Output) -> str:
        """Name of a figure: ``psnr.frame``, ``lse.lrs.d``."""
        return f"{self.name}.{output.key}" if output.key else self.name

    def described(self) -> dict[str, Any]:
        """All fields and the hash, as plain data."""
        return {**asdict(self), "needs": sorted(self.needs), "hash": self.hash}


class Pictures:
    """Some consecutive frames of one video, cropped to one region.

    Attributes:
        array: (n, H, W, 3) uint8, RGB.
        landmarks: (n, 478, 3) float32 in pixels of the *full* frame, NaN where there is no face; None if no metric
            needs landmarks.
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
        """``compute()``, once for these frames: the result is shared by methods with the same truth and by metrics with
        the same network. ``key`` must identify everything except the frames."""
        if key not in self._shared:
            self._shared[key] = compute()
        value: T = self._shared[key]
        return value


@dataclass(frozen=True)
class Batch:
    """Some consecutive frames of a prediction and of its truth; ``pred is truth`` if both are the same video.

    Attributes:
        start: index of the first frame in the clip.
        pred: the frames to be scored.
        truth: the true frames, of the same shape; None if there are none.
    """

    start: int
    pred: Pictures
    truth: Pictures | None


@dataclass(frozen=True)
class ClipInfo:
    """What a meter gets about its clip before the first frame.

    Attributes:
        clip_id: name.
        n_frames: expected number of frames, at 25 fps.
        width: of the full frame, pixels.
        height: of the full frame, pixels.
        region: ``full``, ``face``, ``mouth``, or ``clip`` for metrics without regions (they get full frames).
        audio: (n,) int16, mono, 16 kHz: the sound of the prediction; None if there is none.
        landmarks: (T, 478, 2 or 3) float32, T ≥ n_frames, full-frame pixels: the truth's, NaN where there is no
            face; None without truth, or if no metric needs ``truth_landmarks``.
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
    """The result of a meter.

    Attributes:
        values: output key → figure of the clip; for ``set`` metrics empty.
        series: output key → (n_frames,) float32, one value per frame if the metric has such values; NaN: no value.
        features: of ``set`` metrics: (n, d) float32 of the prediction and (m, d) of the truth.
        undecided: output key → why this clip has no such figure although it was scored: lips that do not move have no
            offset. Such a clip does not count as missing.
        notes: other facts that are stored, such as the number of frames without a face.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Float] = field(default_factory=dict)
    features: tuple[Float, Float] | None = None
    undecided: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SetScore:
    """The result of a ``set`` metric over all clips.

    Attributes:
        values: output key → figure.
        low: output key → lower end of the 95 % interval, if there is one.
        high: output key → its upper end.
        interval: how it was computed: ``jackknife`` over clips …, or ``""``.
    """

    values: Mapping[str, float]
    low: Mapping[str, float] = field(default_factory=dict)
    high: Mapping[str, float] = field(default_factory=dict)
    interval: str = ""


class Meter(ABC):
    """Scores one clip of one method in one region."""

    @abstractmethod
    def update(self, batch: Batch) -> None:
        """Process the next frames, in order. Raises :class:`bench.common.errors.Unscorable`."""

    @abstractmethod
    def finish(self) -> Score:
        """The score of all frames so far. Raises :class:`bench.common.errors.Unscorable`."""

    def close(self) -> None:  # noqa: B027 - most meters hold nothing
        """Free the meter's resources (temporary files). Called once, also if scoring failed."""


@dataclass(frozen=True)
class Context:
    """What metrics are built with.

    Attributes:
        weights: finds pretrained networks.
        device: of torch: ``cpu``, ``cuda``, ``cuda:1`` …
        sync_expert: the trained expert for lip sync, or None.
        sync_cca: the fitted linear judge of lip sync, or None.
    """

    weights: WeightStore
    device: str = "cpu"
    sync_expert: JudgeFile | None = None
    sync_cca: JudgeFile | None = None


class Metric(ABC):
    """One variant, ready to score. Built once per process.

    Raises:
        bench.common.errors.Unavailable: it cannot be computed here.
    """

    spec: ClassVar[Spec]

    def __init__(self, context: Context) -> None:
        self.context = context

    @abstractmethod
    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip. Raises :class:`bench.common.errors.Unscorable` if the clip lacks something needed."""

    def digests(self) -> dict[str, str]:
        """Name → SHA-256 of the files of its networks; stored with the figures."""
        return {name: self.context.weights.sha256(name) for name in self.spec.weights}

    def reduce(self, clips: Sequence[tuple[Float, Float]]) -> SetScore:
        """For ``set`` metrics: the figure of all clips together.

        Args:
            clips: for each clip the features of its meter's score. They are read from disk at each access, so use one
                clip at a time and keep sums, not features.
        """
        raise NotImplementedError(f"{self.spec.name} is a mean over clips")
