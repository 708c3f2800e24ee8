"""Runs an external command over a list of pairs, in its own environment, to make videos for `bench eval`.

The folder that is written::

    <clip id>.mp4              the unchanged output of the command
    pairs.csv                  which sound drove which video
    generation.json            command, protocol, data, versions, failures: :class:`ExternalGeneration`
    logs/<clip id>.out.txt     the command as it was run, and its standard output
    logs/<clip id>.err.txt     its standard error
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import Field

from bench.clips import protocols
from bench.clips.generation_record import GenerationRecord, claim, complete, one_line, origin, read_record
from bench.clips.inputs import Inputs, from_dataset, from_pairs
from bench.clips.inputs.dataset import NO_SOURCE
from bench.clips.inputs.pairs import read_pairs
from bench.clips.job import TRIVIAL, Voice
from bench.clips.protocols import Pair
from bench.common.errors import BenchError
from bench.common.lock import exclusive
from bench.generate.external_options import ExternalOptions, command_environment, installed
from bench.generate.external_process import Crew, finished, terminable
from bench.generate.pairing import Task


class ExternalGeneration(GenerationRecord):
    """The content of ``generation.json`` for videos of an external command."""

    free = GenerationRecord.free | {"env_dir", "cwd", "timeout", "any_size", "any_length", "allow_silent"}

    kind: Literal["external"] = "external"
    command_template: str
    shell: bool
    commit: str = Field(description="version of the external code, as given by the user")
    environment: dict[str, str] = Field(description="package → version in the command's own environment")
    env_dir: str = ""
    cwd: str = ""
    timeout: float | None = Field(default=None, description="seconds per video")
    silence: int = Field(description="frames of silence appended to the command's input sound")
    any_size: bool
    any_length: bool
    allow_silent: bool


def external(
    name: str,
    out: Path,
    options: ExternalOptions,
    *,
    data: Path | None = None,
    pairs: Path | None = None,
    root: Path | None = None,
    truth: Path | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    command: str = "",
) -> ExternalGeneration:
    """Run a command for every pair. Existing videos of the same command in the folder are kept.

    Args:
        name: of the method, for the provenance.
        out: folder to write.
        options: the command and how it is run.
        data: prepared data set that contains the clips of the pairs; None: ``pairs`` names files.
        pairs: a list instead of that of the protocol, see :func:`bench.clips.protocols.load_pairs`; without ``data`` in
            Wav2Lip's format.
        root: folder of the data set's source videos; None: the folder recorded at preparation.
        truth: without ``data``, the folder of the files that the list names.
        overwrite: delete what another generation left in ``out``.
        on_progress: called after every video, also for existing ones, with the number of videos done and the total.
        command: as typed, for the provenance.

    Returns:
        The content of ``generation.json``. Videos that could not be made are in its ``failures``.

    Raises:
        BenchError: the program, a folder or the list cannot be used, ``out`` holds another generation, or the disk is
            full.
        PrepError: ``data`` is not a data set, or has no such split.
    """
    started = time.monotonic()
    if not name.strip() or name in TRIVIAL:
        raise BenchError(f"{name!r} cannot name a method: give it another name")
    environment = command_environment(options)
    inputs, chosen, tasks = _plan(data, pairs, root, truth, options)
    found = ExternalGeneration(
        complete=False,
        method=name,
        command_template=options.template.text,
        shell=options.template.shell,
        commit=options.commit,
        environment=installed(options.env_dir),
        env_dir="" if options.env_dir is None else str(options.env_dir),
        cwd=options.cwd,
        timeout=options.timeout,
        protocol=options.protocol if pairs is None else "dubbing",
        seed=options.seed if pairs is None and options.protocol == "dubbing" else None,
        pairs_sha256=sha256(protocols.as_csv(chosen).encode()).hexdigest(),
        data=inputs.name,
        split=inputs.split,
        manifest_sha256=inputs.manifest_sha256,
        longer_audio=options.fit.longer,
        shorter_audio=options.fit.shorter,
        crf=options.crf,
        silence=options.silence,
        any_size=options.any_size,
        any_length=options.any_length,
        allow_silent=options.allow_silent,
        command=command,
        **origin("cpu"),
    )
    with one_line(out):
        out.mkdir(parents=True, exist_ok=True)
        with exclusive(out, "bench external"):
            there = [video for task in tasks if (video := finished(out, task.name)) is not None]
            claim(out, found, read_external, there, overwrite)
            protocols.write_pairs(out / protocols.PAIRS, chosen)
            with terminable(), Crew(out, options, environment) as crew:
                return complete(out, found, crew.work(tasks), len(tasks), started, on_progress)


def _plan(
    data: Path | None, pairs: Path | None, root: Path | None, truth: Path | None, options: ExternalOptions
) -> tuple[Inputs, list[Pair], list[Task]]:
    if data is None:
        if pairs is None or truth is None:
            raise BenchError(
                "nothing to make: give --data, or --pairs with the folder of its files as --truth"
            )
        if pairs.suffix.lower() == ".csv":
            raise BenchError(f"{pairs} names the clips of a data set: give it with --data")
        inputs = from_pairs({}, pairs, truth)
        chosen = [Pair(str(n), line.video, line.audio) for n, line in enumerate(read_pairs(pairs))]
        # Jobs are in the order of the lines; their ids begin with the line number.
        tasks = [
            Task(
                pair.name,
                job,
                inputs.voices.get(job.clip_id, Voice(truth)),
                problem=inputs.problems.get(job.clip_id, ""),
            )
            for pair, job in zip(chosen, inputs.jobs, strict=True)
        ]
        return inputs, chosen, tasks[: options.limit]
    if truth is not None:
        raise BenchError("give either --data or --truth, not both")
    inputs = from_dataset({}, data, options.split, root)
    jobs = {job.clip_id: job for job in inputs.jobs}
    if pairs is not None:
        chosen = protocols.load_pairs(pairs, jobs)
    elif options.protocol == "dubbing":
        chosen = protocols.dubbing(jobs, options.seed)
    else:
        chosen = protocols.reconstruction(jobs)
    tasks = [
        Task(
            pair.name,
            jobs[pair.video],
            inputs.voices[pair.audio],
            problem=NO_SOURCE if pair.video in inputs.problems else "",
        )
        for pair in chosen[: options.limit]
    ]
    return inputs, chosen, tasks


def read_external(folder: Path) -> ExternalGeneration:
    """The record of a folder of videos.

    Raises:
        BenchError: the record is missing or not valid, or is not of an external command.
    """
    return read_record(ExternalGeneration, folder, "bench external")
