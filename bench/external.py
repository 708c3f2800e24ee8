"""Anyone's code over a list of pairs: its own command, in its own environment, makes videos for `bench eval`.

The folder that is written::

    <clip id>.mp4              what the command wrote, as it is
    pairs.csv                  whose sound drove whose face
    generation.json            command, protocol, data, versions, failures: :class:`ExternalGeneration`
    logs/<clip id>.out.txt     the command as it was run, and its standard output
    logs/<clip id>.err.txt     its standard error
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from hashlib import sha256
from importlib.metadata import distributions
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from baselines.external import PLACEHOLDERS, CommandTemplate, fill, placeholders
from bench import protocols, provenance
from bench.errors import BenchError
from bench.footage import Fit, VideoFootage, heard_frames
from bench.generate import Made, Task
from bench.inputs import Inputs, Protocol, from_dataset, from_pairs
from bench.inputs.dataset import GENERATION, NO_SOURCE
from bench.inputs.pairs import read_pairs
from bench.inputs.reading import count_frames, take_frames, voice_samples
from bench.job import TRIVIAL
from bench.protocols import Pair
from prep.errors import ClipError, PrepError
from prep.media import SAMPLE_RATE, SAMPLES_PER_FRAME, frames, probe, write_video
from prep.options import suite_version
from prep.shards import AtomicFile, write_json
from prep.sources.listing import VIDEO_SUFFIXES, shown, walk

#: Folder of what the commands printed, beside the videos.
LOGS = "logs"
#: Bytes at the end of a command's standard error in which its last line is looked for, and characters kept of it.
_TAIL, _LINE = 1 << 16, 240
#: Escape sequences with which programs colour what they print.
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class ExternalGeneration(BaseModel):
    """What ``generation.json`` holds where a command of somebody else made the videos."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    kind: Literal["external"] = "external"
    complete: bool = Field(description="False while videos are being made, and after an interruption")
    method: str
    command_template: str
    shell: bool
    commit: str = Field(description="which version of their code it is, in the user's words")
    environment: dict[str, str] = Field(description="package → version in the command's own environment")
    env_dir: str = ""
    cwd: str = ""
    timeout: float | None = Field(default=None, description="seconds a video")
    protocol: Protocol
    seed: int | None = Field(description="of the pairs; None where they need none, or a list was given")
    pairs_sha256: str = Field(description="of pairs.csv")
    data: str = Field(description="name of the data set, or of the list")
    split: str
    manifest_sha256: str = Field(description="of the data set's manifest, without the place of its media")
    longer_audio: str
    shorter_audio: str
    crf: int = Field(description="of the videos that the command was given")
    any_size: bool
    allow_silent: bool
    clips: int = 0
    made: int = 0
    failures: dict[str, str] = Field(default_factory=dict, description="name of a video → why it is missing")
    frames: int = Field(default=0, description="made in the last run of `bench external`")
    seconds: float = Field(default=0, description="wall time of the last run of `bench external`")
    suite_version: str
    git_commit: str = Field(default="", description="of the bench")
    git_dirty: bool = False
    packages: dict[str, str] = Field(description="of the bench: they wrote the command's inputs")
    python: str
    machine: dict[str, str]
    created: str = Field(description="UTC, ISO 8601")
    command: str = ""


#: What may differ between two generations whose videos stand in one folder.
_FREE = {"complete", "env_dir", "cwd", "timeout", "any_size", "allow_silent", "clips", "made", "failures"} | {
    *("frames", "seconds", "git_commit", "git_dirty", "python", "machine", "created", "command")
}


@dataclass(frozen=True)
class Options:
    """What is run, how, and over what.

    Attributes:
        template: the command.
        env_dir: a virtual or Conda environment, whose programs are found first; None: as the bench finds them.
        cwd: working folder of the command; may hold ``{worker}``.
        timeout: seconds a video, after which the command and all that it started are killed; None: never.
        workers: commands at a time.
        commit: which version of the code it is, for the provenance.
        protocol: whose sound drives the faces.
        seed: of the pairs in dubbing.
        fit: how a video and a sound of another length come together.
        crf: x264's constant rate factor of the videos that the command is given; 0 loses nothing.
        split: of the data set; None: as :func:`bench.inputs.from_dataset` chooses.
        limit: the first so many pairs only.
        any_size: take videos of another size than their input's.
        allow_silent: take videos without a sound track.
    """

    template: CommandTemplate
    env_dir: Path | None = None
    cwd: str = "."
    timeout: float | None = None
    workers: int = 1
    commit: str = ""
    protocol: Protocol = "reconstruction"
    seed: int = 0
    fit: Fit = field(default_factory=Fit)
    crf: int = 0
    split: str | None = None
    limit: int | None = None
    any_size: bool = False
    allow_silent: bool = False


def external(
    name: str,
    out: Path,
    options: Options,
    *,
    data: Path | None = None,
    pairs: Path | None = None,
    root: Path | None = None,
    truth: Path | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    command: str = "",
) -> ExternalGeneration:
    """Run a command for every pair; videos that a folder holds already from the same command are kept.

    Args:
        name: of the method, for the provenance.
        out: folder to write.
        options: the command and how it is run.
        data: prepared data set whose clips are the pairs; None: the files that ``pairs`` names.
        pairs: a list in place of that of the protocol, see :func:`bench.protocols.load_pairs`; without ``data`` one as
            Wav2Lip publishes them.
        root: where the data set's source videos lie now; where None, where they lay at preparation.
        truth: where the names of the list lead to, without ``data``.
        overwrite: throw away what another generation left in ``out``.
        on_progress: called after every video, also for those that are there already, with the number of those done
            and of all.
        command: as typed, for the provenance.

    Returns:
        What was written as ``generation.json``. Videos that could not be made are its ``failures``.

    Raises:
        BenchError: the program, a folder or the list is of no use, ``out`` holds another generation, or the disk is
            full.
        PrepError: it is no data set, or has no such split.
    """
    started = time.monotonic()
    if not name.strip() or name in TRIVIAL:
        raise BenchError(f"{name!r} cannot name a method: give it another name")
    environment = _environment(options)
    inputs, chosen, tasks = _plan(data, pairs, root, truth, options)
    found = ExternalGeneration(
        complete=False,
        method=name,
        command_template=options.template.text,
        shell=options.template.shell,
        commit=options.commit,
        environment=_installed(options.env_dir),
        env_dir="" if options.env_dir is None else str(options.env_dir),
        cwd=options.cwd,
        timeout=options.timeout,
        protocol=inputs.protocol if data is None else _protocol(options, pairs),
        seed=options.seed if pairs is None and options.protocol == "dubbing" else None,
        pairs_sha256=sha256(protocols.as_csv(chosen).encode()).hexdigest(),
        data=inputs.name,
        split=inputs.split,
        manifest_sha256=inputs.manifest_sha256,
        longer_audio=options.fit.longer,
        shorter_audio=options.fit.shorter,
        crf=options.crf,
        any_size=options.any_size,
        allow_silent=options.allow_silent,
        command=command,
        **_provenance(),
    )
    failures, made_frames = {}, 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        _claim(out, found, tasks, overwrite)
        protocols.write_pairs(out / protocols.PAIRS, chosen)
        with _terminable(), _Crew(out, options, environment) as crew:
            for done, made in enumerate(crew.work(tasks), 1):
                made_frames += made.frames
                if made.reason:
                    failures[made.name] = made.reason
                if on_progress is not None:
                    on_progress(done, len(tasks))
        found = found.model_copy(
            update={
                "complete": True,
                "clips": len(tasks),
                "made": len(tasks) - len(failures),
                "failures": dict(sorted(failures.items())),
                "frames": made_frames,
                "seconds": round(time.monotonic() - started, 3),
            }
        )
        _write(out, found)
    except OSError as error:
        where = error.filename or out
        raise BenchError(f"{where}: {error.strerror or error}; the same command goes on") from error
    return found


# --- what is to be made


def _plan(
    data: Path | None, pairs: Path | None, root: Path | None, truth: Path | None, options: Options
) -> tuple[Inputs, list[Pair], list[Task]]:
    if data is None:
        if pairs is None or truth is None:
            raise BenchError("nothing to make: give --data, or --pairs with the folder of its files as --truth")
        if pairs.suffix.lower() == ".csv":
            raise BenchError(f"{pairs} names the clips of a data set: give it with --data")
        inputs = from_pairs({}, pairs, truth)
        chosen = [Pair(str(n), line.video, line.audio) for n, line in enumerate(read_pairs(pairs))]
        # Jobs stand in the order of the lines, by which their ids begin.
        tasks = [
            Task(pair.name, job, inputs.voices[job.clip_id], "")
            if job.clip_id not in inputs.problems
            else Task(pair.name, job, _NO_VOICE, inputs.problems[job.clip_id])
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
            NO_SOURCE if pair.video in inputs.problems else "",
        )
        for pair in chosen[: options.limit]
    ]
    return inputs, chosen, tasks
