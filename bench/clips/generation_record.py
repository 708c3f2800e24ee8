"""``generation.json``: the record beside generated videos. It prevents mixing the videos of two
generations."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.clips.inputs import Protocol
from bench.clips.inputs.declared import GENERATION
from bench.common import provenance
from bench.common.errors import BenchError
from prep.options import suite_version
from prep.shards import write_json


class GenerationRecord(BaseModel):
    """The fields of every ``generation.json``."""

    model_config = ConfigDict(extra="forbid")

    #: Fields that may differ between two generations whose videos are in one folder.
    free: ClassVar[frozenset[str]] = frozenset(
        {"complete", "clips", "made", "failures", "frames", "seconds", "command", "created"}
        | {"git_commit", "git_dirty", "python", "machine"}
    )

    schema_version: Literal[1] = 1
    complete: bool = Field(description="False while videos are being made, and after an interruption")
    method: str
    protocol: Protocol
    seed: int | None = Field(description="of the pairs; None if they need none or a list was given")
    pairs_sha256: str = Field(description="of pairs.csv")
    data: str = Field(description="name of the data set, or of the list")
    split: str
    manifest_sha256: str = Field(description="of the data set's manifest, without the path of its media")
    longer_audio: str
    shorter_audio: str
    crf: int
    clips: int = 0
    made: int = 0
    failures: dict[str, str] = Field(default_factory=dict, description="name of a video → why it is missing")
    frames: int = Field(default=0, description="made in the last run of the command")
    seconds: float = Field(default=0, description="wall time of the last run of the command")
    suite_version: str
    git_commit: str = ""
    git_dirty: bool = False
    packages: dict[str, str]
    python: str
    machine: dict[str, str]
    created: str = Field(description="UTC, ISO 8601")
    command: str = ""


R = TypeVar("R", bound=GenerationRecord)


def read_record(kind: type[R], folder: Path, command: str) -> R:
    """The record of a folder of videos, which ``command`` wrote.

    Raises:
        BenchError: the record is missing or not valid, or another command wrote it.
    """
    path = folder / GENERATION
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise BenchError(
            f"{path} is not of `{command}`, or damaged: use another --out, or --overwrite"
        ) from None


@dataclass(frozen=True)
class Made:
    """The outcome of a task: frames, or the reason why there are none."""

    name: str
    frames: int = 0
    reason: str = ""


def origin(device: str) -> dict[str, Any]:
    """The fields of a record about the version of the suite and the machine."""
    commit, dirty = provenance.git_state()
    return {
        "suite_version": suite_version(),
        "git_commit": commit,
        "git_dirty": dirty,
        "packages": provenance.packages(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "machine": provenance.machine(device),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def claim(
    out: Path, mine: GenerationRecord, read: Callable[[Path], R], there: Sequence[Path], overwrite: bool
) -> None:
    """Make ``out`` ready for a generation, and write its record.

    Args:
        out: folder of the videos.
        mine: the record of the generation that starts now.
        read: reads the record that is already in ``out``.
        there: videos with these names that are already in ``out``.
        overwrite: delete them.

    Raises:
        BenchError: the folder holds videos of another generation, or of unknown origin.
    """
    if overwrite:
        for video in there:
            video.unlink()
    elif (out / GENERATION).is_file():
        old, new = read(out).model_dump(), mine.model_dump()
        other = sorted(name for name in old if name not in mine.free and old[name] != new[name])
        if other:
            raise BenchError(
                f"{out} holds another generation (other {', '.join(other)}): use another --out, or --overwrite"
            )
    elif there:
        raise BenchError(f"{out} holds videos without {GENERATION}: use another --out, or --overwrite")
    write(out, mine)


def complete(
    out: Path,
    record: R,
    outcomes: Iterable[Made],
    total: int,
    started: float,
    on_progress: Callable[[int, int], None] | None,
) -> R:
    """Collect the outcomes of ``total`` videos and write the record with their sums. ``started`` is monotonic
    time."""
    failures, frames = {}, 0
    for done, made in enumerate(outcomes, 1):
        frames += made.frames
        if made.reason:
            failures[made.name] = made.reason
        if on_progress is not None:
            on_progress(done, total)
    record = record.model_copy(
        update={
            "complete": True,
            "clips": total,
            "made": total - len(failures),
            "failures": dict(sorted(failures.items())),
            "frames": frames,
            "seconds": round(time.monotonic() - started, 3),
        }
    )
    write(out, record)
    return record


@contextmanager
def one_line(out: Path) -> Iterator[None]:
    """Turn an OSError of the disk into a :class:`BenchError`."""
    try:
        yield
    except OSError as error:
        where = error.filename or out
        raise BenchError(f"{where}: {error.strerror or error}; the same command continues") from error


def write(out: Path, record: GenerationRecord) -> None:
    """Write ``generation.json`` atomically."""
    write_json(out / GENERATION, record.model_dump(mode="json"))
