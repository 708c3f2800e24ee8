"""What the three forms of input have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from bench.clips.inputs.files import VideoFolder
from bench.clips.job import FULL, TRIVIAL, Candidate, Job, Take, Voice
from bench.common.errors import BenchError
from prep.pixels import Pixels

#: ``reconstruction``: the clip's own sound drives the face. ``dubbing``: another sound does, so no frame has
#: a ground #: truth.
Protocol = Literal["reconstruction", "dubbing"]
#: Which sound belongs to the predicted frames: that of the prediction's file, or the one that drove the face.
Audio = Literal["prediction", "truth"]

#: Why a clip has no prediction. The same text for all clips, since reasons are counted.
NO_PREDICTION = "no prediction: no file of the clip's name"


@dataclass(frozen=True)
class Inputs:
    """What is scored against what.

    Attributes:
        name: of the data set, of the folder of true videos, or of the list.
        kind: which of the three forms of input.
        split: of the data set, else ``""``.
        protocol: what drove the faces.
        jobs: one per clip, sorted by clip id; every job has a candidate of every method.
        manifest_sha256: of the data set's manifest without the path of its media; else ``""``.
        unmatched: method → its videos that belong to no clip; methods without such videos are left out.
        videos: method → number of all its videos.
        sources: method → folder of its videos, as it was given.
        voices: clip id → the sound that drives the face: in reconstruction the clip's own.
        problems: clip id → why its true video is not available.
        output: the pictures that are scored: ``full`` frames, or the name of a view.
        pixels: how the colours of the data set were decoded; None for other forms of input.
        detector: what found the landmarks of the data set, see :func:`prep.detectors.recorded`.
    """

    name: str
    kind: Literal["dataset", "folders", "pairs"]
    split: str
    protocol: Protocol
    jobs: list[Job]
    manifest_sha256: str = ""
    unmatched: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    videos: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    voices: Mapping[str, Voice] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    output: str = FULL
    pixels: Pixels | None = None
    detector: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed_over(self) -> list[str]:
        """One line for every method some of whose videos belong to no clip."""
        return [
            passed_over(self.kind, method, names, self.videos[method])
            for method, names in self.unmatched.items()
        ]


#: What a prediction that is not scored lacks, by the form of input.
_LACKS = {"folders": "true video", "dataset": "clip among those to score", "pairs": "line in the list"}
_NAMED = 10


def passed_over(kind: str, method: str, names: Sequence[str], videos: int) -> str:
    """The words for predictions that are not scored: how many, and the first ten by name.

    Args:
        kind: the form of input.
        method: its name.
        names: of the predictions that belong to no clip.
        videos: number of all predictions of the method.
    """
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    have = "has" if len(names) == 1 else "have"
    return f"{len(names)} of {videos} videos of {method} {have} no {_LACKS[kind]}: {shown}"


def left_over(
    videos: Mapping[str, VideoFolder], taken: Mapping[str, Iterable[str]]
) -> dict[str, tuple[str, ...]]:
    """Method → its videos of other names than those taken; methods without such videos are left out."""
    rest = {method: folder.rest(taken[method]) for method, folder in videos.items()}
    return {method: names for method, names in rest.items() if names}


def counted(videos: Mapping[str, VideoFolder]) -> dict[str, int]:
    """Method → number of its videos."""
    return {method: len(folder.files) for method, folder in videos.items()}


def scan_all(predictions: Mapping[str, Path]) -> dict[str, VideoFolder]:
    """The videos of every method.

    Raises:
        BenchError: a method has the name of a trivial row, or two videos of one name.
        PrepError: a folder is missing or cannot be read.
    """
    for method in predictions:
        if not method.strip():
            raise BenchError("a method without a name: write NAME=FOLDER")
        if method in TRIVIAL:
            raise BenchError(
                f"{method!r} is the name of a row that is made from the truth: give the method another name"
            )
    return {method: VideoFolder.scan(folder) for method, folder in predictions.items()}


def candidate(method: str, path: Path | None, audio: Audio, voice: Voice | None, problem: str) -> Candidate:
    """A method's version of a clip.

    Args:
        method: its name.
        path: its video, or None if it has none.
        audio: which sound belongs to the frames.
        voice: the sound that drove the face; required if ``audio`` is ``truth``.
        problem: what is wrong with the clip itself, or ``""``.
    """
    if path is None:
        return Candidate(method, problem=problem or NO_PREDICTION)
    heard = Voice(path) if audio == "prediction" else voice
    return Candidate(method, Take(path), heard, problem=problem)


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Jobs sorted by clip id.

    Raises:
        BenchError: two jobs have the same id.
    """
    found = sorted(jobs, key=lambda job: job.clip_id)
    for job, following in pairwise(found):
        if job.clip_id == following.clip_id:
            raise BenchError(f"two clips are called {job.clip_id!r}: rename one of them")
    return found


def check_audio(audio: Audio, protocol: Protocol) -> None:
    """Check that the truth's sound is not used for a face that another sound drove.

    Raises:
        BenchError: ``audio`` is ``truth`` in the dubbing protocol.
    """
    if audio == "truth" and protocol == "dubbing":
        raise BenchError(
            "in the dubbing protocol the truth's sound is not the one that drove the face: use --audio prediction"
        )
