"""What the ``generation.json`` of `bench generate` says about a folder of predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.clips.inputs.base import Inputs, Protocol
from bench.clips.job import FULL
from bench.common.errors import BenchError
from prep.names import composed

#: The file beside generated videos.
GENERATION = "generation.json"


@dataclass(frozen=True)
class Declared:
    """What the ``generation.json`` of one folder says.

    Attributes:
        path: of the file.
        protocol: what drove the faces; None if the file does not say it.
        output: what the videos show: ``full`` frames, or the name of a view.
        clips: ids of the clips to generate, composed (:func:`prep.names.composed`), if these are not all clips of a
            split; None if the file does not say it.
        trained_on: names of the data sets that the method was trained on, or ``""``.
        record: the whole content of the file.
    """

    path: Path
    protocol: Protocol | None
    output: str = FULL
    clips: tuple[str, ...] | None = None
    trained_on: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)


def read_declared(predictions: Mapping[str, Path]) -> dict[str, Declared]:
    """Method → what the ``generation.json`` of its folder, or beside its video, says. Methods without this file are
    left out.

    Raises:
        BenchError: a file cannot be read, or names an unknown view.
    """
    found = {}
    for method, folder in predictions.items():
        path = (folder.parent if folder.is_file() else folder) / GENERATION
        if path.is_file():
            found[method] = _read(path)
    return found


def _read(path: Path) -> Declared:
    from prep.views import VIEWS

    try:
        record: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{path} cannot be read ({error}): make the videos again with `bench generate`"
        ) from None
    if not isinstance(record, dict):
        raise BenchError(
            f"{path} is not a record of a generation: make the videos again with `bench generate`"
        )
    protocol, output, clips = (record.get(key) for key in ("protocol", "output", "clips_list"))
    if output not in (None, FULL) and output not in VIEWS:
        raise BenchError(
            f"{path} says that the videos show {output!r}; the known views are {', '.join(VIEWS)}"
        )
    return Declared(
        path,
        protocol if protocol in ("reconstruction", "dubbing") else None,
        output or FULL,
        None if clips is None else tuple(map(composed, clips)),
        str(record.get("trained_on", "")),
        record,
    )


def declared_protocol(declared: Mapping[str, Declared]) -> Protocol:
    """What drove the faces of all methods; reconstruction if there is no record.

    Raises:
        BenchError: a record has no protocol, or two records have different ones.
    """
    said: dict[Protocol, str] = {}
    for method, record in declared.items():
        if record.protocol is None:
            raise BenchError(
                f"{record.path} does not name the protocol: make the videos again with `bench generate`"
            )
        said[record.protocol] = method
    if len(said) > 1:
        raise BenchError(
            f"{said['dubbing']} was dubbed and {said['reconstruction']} reconstructed: score them separately"
        )
    return next(iter(said), "reconstruction")


def declared_clips(declared: Mapping[str, Declared]) -> frozenset[str] | None:
    """The clips that the methods had to generate; None if no record names any.

    Raises:
        BenchError: two records name different clips.
    """
    named = {
        method: frozenset(record.clips) for method, record in declared.items() if record.clips is not None
    }
    for method, clips in named.items():
        first = next(iter(named))
        if clips != named[first]:
            raise BenchError(
                f"{first} and {method} were generated for different clips: name those to score with --clips FILE"
            )
    return next(iter(named.values()), None)


def in_view(inputs: Inputs, declared: Mapping[str, Declared]) -> Inputs:
    """The same clips, scored in the view that a method generates; unchanged if all generate full frames.

    Raises:
        BenchError: two methods generate different views; or one generates full frames and there is no true video, from
            whose face the position of the view is computed.
    """
    painted = {record.output: method for method, record in declared.items() if record.output != FULL}
    if not painted:
        return inputs
    if len(painted) > 1:
        (a, first), (b, second) = list(painted.items())[:2]
        raise BenchError(f"{first} shows the view {a} and {second} the view {b}: score them separately")
    ((view, method),) = painted.items()
    jobs = []
    for job in inputs.jobs:
        candidates = tuple(
            replace(c, paints=declared[c.method].output if c.method in declared else FULL)
            for c in job.candidates
        )
        for c in candidates:
            if job.truth is None and not c.problem and c.paints == FULL:
                raise BenchError(
                    f"{method} shows the view {view}, {c.method} full frames, out of which it can only be cut beside "
                    "true videos: give --data or --truth, or score them apart"
                )
        jobs.append(replace(job, output=view, candidates=candidates))
    return replace(inputs, jobs=jobs, output=view)
