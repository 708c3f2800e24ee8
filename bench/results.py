"""The typed result of an evaluation: `bench eval` writes it, all later commands read it.

A result is a folder::

    result.json        this model
    clips.parquet      one row per method, clip, region and figure: the value, or the reason why there is none
    frames.parquet     the same with a list of values, one per frame, for figures that have them
    previews.parquet   a few JPEG pictures of every clip and method
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.common.errors import BenchError
from prep.detectors import same, words

SCHEMA_VERSION = 1
RESULT = "result.json"
CLIPS = "clips.parquet"
FRAMES = "frames.parquet"
PREVIEWS = "previews.parquet"

#: Region of figures that belong to no region.
CLIP_REGION = "clip"
#: How a reason begins that is a finding about a scored clip, not a failure: an offset that cannot be told.
UNDECIDABLE = "undecidable: "


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")


class OutputInfo(_Model):
    """One figure of a metric; see :class:`bench.metrics.base.Output`."""

    key: str
    label: str
    better: Literal["higher", "lower", "none"]
    unit: str = ""
    cap: float | None = None
    decimals: int = 4


class MetricInfo(_Model):
    """The specification by which figures were computed, stored with them."""

    name: str
    summary: str
    spec_hash: str
    parameters: dict[str, Any]
    outputs: list[OutputInfo]
    weights: dict[str, str] = Field(
        default_factory=dict, description="name → sha256 of the file that was used"
    )
    aggregate: Literal["mean", "set"] = "mean"
    paired: bool = True


class Missing(_Model):
    """A metric that was requested and could not be computed at all."""

    metric: str
    reason: str
    remedy: str = ""


def is_failure(reason: str) -> bool:
    """Whether there is no figure because a clip could not be scored: there is a reason, and another than a finding."""
    return bool(reason) and not reason.startswith(UNDECIDABLE)


class Figure(_Model):
    """One figure of one method: the mean over clips, or the figure of the whole set.

    ``value`` is None if no clip could be scored; it is infinite for the PSNR of identical videos.
    """

    region: str
    metric: str = Field(description="name of the variant")
    output: str = Field(description="id of the figure: the variant's name and the output's key")
    value: float | None
    std: float | None = None
    low: float | None = Field(default=None, description="lower end of the 95 % interval over clips")
    high: float | None = None
    interval: str = Field(default="", description="bootstrap, jackknife, or nothing")
    asked: int = Field(description="clips asked for")
    scored: int = Field(description="clips behind the value")
    failures: dict[str, int] = Field(
        default_factory=dict, description="reason → clips without a value for it; some may be undecidable"
    )

    @property
    def missing(self) -> int:
        """Clips that could not be scored; those whose figure is undecidable were."""
        found = sum(clips for reason, clips in self.failures.items() if not is_failure(reason))
        return self.asked - self.scored - found


class Untagged(_Model):
    """By which matrix the untagged videos of a method were decoded whose truth is tagged, and how that was found out.

    ``as_truth`` and ``by_rule`` are the agreement of the first ``clips`` clips with the truth outside the face, or in
    the whole frame where nothing else has colour, decoded by the truth's matrix and by BT.601, the rule for untagged
    files: PSNR in dB, without the mean difference in each channel.
    """

    matrix: str = Field(description="bt709, bt2020 or bt601; several names if the truths have several")
    truth: str = Field(description="what the truths are tagged with")
    as_truth: float
    by_rule: float
    clips: int

    def words(self, method: str) -> str:
        """One sentence about the choice."""
        names = {"bt601": "BT.601", "bt709": "BT.709", "bt2020": "BT.2020"}
        truth = ", ".join(names[matrix] for matrix in self.truth.split(", "))
        first = f"{self.clips} clips" if self.clips > 1 else "clip"
        if self.matrix != "bt601":
            taken, left, better, worse = (
                f"{truth}, as their truth is tagged",
                "BT.601",
                self.as_truth,
                self.by_rule,
            )
        else:
            taken, left, better, worse = (
                "BT.601",
                f"{truth}, as their truth is tagged",
                self.by_rule,
                self.as_truth,
            )
        return (
            f"untagged videos of {method} are decoded by {taken}, not by {left}: that agrees better with the colours "
            f"of the truth ({better:.1f} against {worse:.1f} dB in the first {first})"
        )


class MethodResult(_Model):
    """All figures of one method.

    Attributes:
        method: name, as the row of a table.
        kind: ``method``, or ``trivial`` for ground truth, still frame and the like.
        source: folder of the videos, as it was given; ``""`` for trivial rows.
        training_data: what it was trained on, if given.
        generation: what ``bench generate`` wrote beside the videos; empty if they were made otherwise.
        videos: number of its videos; 0 for trivial rows.
        unmatched: its videos that belong to no clip, and so are not scored.
        untagged: how its untagged videos of tagged truths were decoded; None: there are none, or it was not asked.
        figures: in the order of the metrics.
    """

    method: str
    kind: Literal["method", "trivial"] = "method"
    source: str = ""
    training_data: str = ""
    generation: dict[str, Any] = Field(default_factory=dict)
    videos: int = 0
    unmatched: list[str] = Field(default_factory=list)
    untagged: Untagged | None = None
    notes: str = ""
    figures: list[Figure] = Field(default_factory=list)


class Data(_Model):
    """What was scored against what."""

    name: str = Field(description="lrs2, hdtf, toy … or the name of a folder")
    kind: Literal["dataset", "folders", "pairs"]
    split: str = ""
    manifest_sha256: str = Field(default="", description="of the prepared data set; empty for folders")
    clips_sha256: str = Field(
        description="of the sorted clip ids, and of the truth's files where they are plain"
    )
    clips: int


class Provenance(_Model):
    """Where the numbers come from. Two results are comparable where :meth:`Result.comparable` says so."""

    suite_version: str
    git_commit: str = ""
    git_dirty: bool = False
    packages: dict[str, str]
    python: str
    machine: dict[str, str]
    device: str
    seed: int
    created: str = Field(description="UTC, ISO 8601")
    seconds: float = Field(description="wall time of the evaluation")
    command: str = ""


class Result(_Model):
    """One evaluation."""

    schema_version: Literal[1] = 1
    data: Data
    protocol: Literal["reconstruction", "dubbing"]
    audio: Literal["prediction", "truth"]
    output: str = Field(
        default="full",
        description="the pictures that were scored: full frames, or the view that all were cut to by the truth's faces",
    )
    pixels: str = Field(
        default="",
        description="how colours were decoded: exact, opencv; nothing in results from before it was chosen",
    )
    matrix: str = Field(default="", description="by which matrix: auto, tagged, bt601; nothing as for pixels")
    detector: dict[str, str] = Field(
        default_factory=dict,
        description="what found landmarks: name, digest of its networks, and its package with the version; nothing in "
        "results from before detectors had names, whose landmarks are those of mediapipe",
    )
    regions: list[str]
    metrics: list[MetricInfo]
    missing: list[Missing] = Field(default_factory=list)
    methods: list[MethodResult]
    provenance: Provenance

    def method(self, name: str) -> MethodResult | None:
        """The figures of a method."""
        return next((m for m in self.methods if m.method == name), None)

    def figure(self, method: str, output: str, region: str) -> Figure | None:
        """One figure; ``region`` is ignored for figures that belong to none."""
        found = self.method(method)
        for figure in found.figures if found else ():
            if figure.output == output and figure.region in (region, CLIP_REGION):
                return figure
        return None

    def differences(self, other: Result) -> list[str]:
        """Why the figures of two results cannot be compared in one column: one line per reason, empty if they
        can."""
        found = []
        for what, mine, yours in (
            ("data set", self.data.name, other.data.name),
            ("split", self.data.split, other.data.split),
            ("manifest", self.data.manifest_sha256[:12], other.data.manifest_sha256[:12]),
            ("clips", self.data.clips_sha256[:12], other.data.clips_sha256[:12]),
            ("protocol", self.protocol, other.protocol),
            ("audio", self.audio, other.audio),
            ("pictures", self.output, other.output),
            ("pixels", self.pixels, other.pixels),
            ("matrix", self.matrix, other.matrix),
        ):
            if mine != yours:
                found.append(f"{what}: {mine or 'none'} and {yours or 'none'}")
        if not same(self.detector, other.detector):
            found.append(f"detector: {words(self.detector)} and {words(other.detector)}")
        theirs = {metric.name: metric for metric in other.metrics}
        for metric in self.metrics:
            twin = theirs.get(metric.name)
            if twin and (metric.spec_hash, metric.weights) != (twin.spec_hash, twin.weights):
                found.append(f"{metric.name}: another specification or other weights")
        return found


def read_result(folder: Path) -> Result:
    """The result in a folder, or in a JSON file.

    Raises:
        BenchError: there is no result, or the file is not one.
    """
    path = folder / RESULT if folder.is_dir() else folder
    try:
        return Result.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BenchError(f"{folder} holds no {RESULT}; make one with `bench eval`") from None
    except (OSError, ValidationError) as error:
        first = str(error).splitlines()
        raise BenchError(f"{path} is not a result of this suite ({'; '.join(first[:3])})") from None


def write_result(folder: Path, result: Result) -> Path:
    """Write ``result.json`` atomically; returns its path."""
    from prep.shards import AtomicFile

    path = folder / RESULT
    with AtomicFile(path) as sink:
        sink.write((result.model_dump_json(indent=1) + "\n").encode())
        sink.commit()
    return path
