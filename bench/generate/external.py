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
import tempfile
import threading
import time
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.metadata import distributions
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from baselines.external import PLACEHOLDERS, CommandTemplate, fill, placeholders
from bench.clips import protocols
from bench.clips.generation_record import GenerationRecord, Made, claim, complete, one_line, origin
from bench.clips.inputs import Inputs, Protocol, from_dataset, from_pairs
from bench.clips.inputs.dataset import GENERATION, NO_SOURCE
from bench.clips.inputs.pairs import read_pairs
from bench.clips.inputs.reading import count_frames, take_frames, voice_samples
from bench.clips.job import FRAME_TOLERANCE, TRIVIAL, Voice
from bench.clips.protocols import Pair
from bench.common.errors import BenchError
from bench.common.lock import exclusive
from bench.generate.fit import Fit, heard_frames
from bench.generate.footage import VideoFootage
from bench.generate.over_data import Task
from prep.errors import ClipError, PrepError
from prep.rates import SAMPLE_RATE, SAMPLES_PER_FRAME
from prep.shards import AtomicFile
from prep.sources.listing import VIDEO_SUFFIXES, walk
from prep.video_reading import frames, probe
from prep.video_writing import write_video

#: Folder of what the commands printed, beside the videos.
LOGS = "logs"
#: Bytes at the end of a command's standard error in which its last line is looked for, and characters kept of it.
_TAIL, _LINE = 1 << 16, 240
#: Escape sequences with which programs colour what they print.
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class ExternalGeneration(GenerationRecord):
    """What ``generation.json`` holds where a command of somebody else made the videos."""

    free = GenerationRecord.free | {"env_dir", "cwd", "timeout", "any_size", "any_length", "allow_silent"}

    kind: Literal["external"] = "external"
    command_template: str
    shell: bool
    commit: str = Field(description="which version of their code it is, in the user's words")
    environment: dict[str, str] = Field(description="package → version in the command's own environment")
    env_dir: str = ""
    cwd: str = ""
    timeout: float | None = Field(default=None, description="seconds a video")
    silence: int = Field(description="frames of it after the sound that the command was given")
    any_size: bool
    any_length: bool
    allow_silent: bool


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
        silence: frames of it after the sound that the command is given, for code that makes fewer frames than it hears.
        split: of the data set; None: as :func:`bench.clips.inputs.from_dataset` chooses.
        limit: the first so many pairs only.
        any_size: take videos of another size than their input's.
        any_length: take videos whose frames are more than :data:`bench.eval.engine.FRAME_TOLERANCE` more or fewer than
            their input's.
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
    silence: int = 0
    split: str | None = None
    limit: int | None = None
    any_size: bool = False
    any_length: bool = False
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
        pairs: a list in place of that of the protocol, see :func:`bench.clips.protocols.load_pairs`; without
            ``data`` one as Wav2Lip publishes them.
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
            there = [video for task in tasks if (video := _finished(out, task.name)) is not None]
            claim(out, found, read_external, there, overwrite)
            protocols.write_pairs(out / protocols.PAIRS, chosen)
            with _terminable(), _Crew(out, options, environment) as crew:
                return complete(out, found, crew.work(tasks), len(tasks), started, on_progress)


# --- what is to be made


def _plan(
    data: Path | None, pairs: Path | None, root: Path | None, truth: Path | None, options: Options
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
        # Jobs stand in the order of the lines, by which their ids begin.
        tasks = [
            Task(
                pair.name,
                job,
                inputs.voices.get(job.clip_id, Voice(truth)),
                inputs.problems.get(job.clip_id, ""),
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
            NO_SOURCE if pair.video in inputs.problems else "",
        )
        for pair in chosen[: options.limit]
    ]
    return inputs, chosen, tasks


# --- where it is run


def _environment(options: Options) -> dict[str, str]:
    """The environment variables of the command. Raises BenchError: a folder or the program is not there."""
    found = dict(os.environ)
    if options.env_dir is not None:
        programs = (options.env_dir / "bin").absolute()
        if not programs.is_dir():
            raise BenchError(f"{options.env_dir} is no virtual environment: there is no folder bin in it")
        found["PATH"] = os.pathsep.join([str(programs), found.get("PATH", os.defpath)])
        found["VIRTUAL_ENV"] = str(options.env_dir.absolute())
        # They would lead the command to the packages of the bench.
        for name in ("PYTHONHOME", "PYTHONPATH"):
            found.pop(name, None)
    others = sorted(placeholders(options.cwd) - {"worker"})
    if others:
        raise BenchError(f"--cwd {options.cwd}: only {{worker}} can stand in it, not {{{others[0]}}}")
    for worker in range(options.workers):
        cwd = _working_folder(options, worker)
        if not cwd.is_dir():
            raise BenchError(f"{cwd} is not a folder: give the checkout of the code with --cwd")
        program = fill(options.template.program, dict.fromkeys(PLACEHOLDERS, "") | {"worker": str(worker)})
        # A path is looked for from the working folder, a bare name in PATH.
        path = str(cwd / program) if "/" in program else program
        if shutil.which(path, path=found["PATH"]) is None:
            raise BenchError(
                f"{program}: no such program: give its path, or the environment that has it with --env-dir"
            )
    return found


def _working_folder(options: Options, worker: int) -> Path:
    return Path(fill(options.cwd, {"worker": str(worker)})).absolute()


def _installed(env_dir: Path | None) -> dict[str, str]:
    """Package → version of an environment; empty where none was given."""
    if env_dir is None:
        return {}
    folders = [str(path) for path in sorted(env_dir.glob("lib/python*/site-packages"))]
    found = {}
    for package in distributions(path=folders):
        # A package that was removed by halves has no name.
        if name := package.metadata["Name"]:
            found[name.lower()] = package.version
    return dict(sorted(found.items()))


# --- one video


@dataclass(frozen=True)
class Given:
    """What a command is given: the face without sound, and the sound that drives it.

    Attributes:
        video: an MP4 at 25 frames a second.
        audio: a WAV, 16 kHz, mono, 16 bit.
        width: pixels of the video; even, since H.264 holds no other.
        height: likewise.
        n_frames: of the video.
    """

    video: Path
    audio: Path
    width: int
    height: int
    n_frames: int


def write_inputs(task: Task, folder: Path, options: Options) -> Given:
    """Write what a command is given for a pair: video and sound equally long, then ``options.silence``.

    Raises:
        ClipError: the video or the sound cannot be read.
        PrepError: the shard is none.
        ValueError: there is no frame to write.
        OSError: they cannot be written.
    """
    take = task.job.truth
    if take is None:
        raise ClipError("source", "the clip has no source video")
    samples = voice_samples(task.voice)
    n_frames = task.job.n_frames or count_frames(take)
    info = probe(take.path)
    width, height = (
        (take.size, take.size) if take.size else (take.crop or (0, 0, info.width, info.height))[2:]
    )

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        return take_frames(replace(take, start=take.start + start, stop=take.start + stop))

    fit = options.fit
    footage = VideoFootage(
        read,
        np.empty((n_frames, 0, 2), np.float32),
        n_frames=fit.frames(n_frames, heard_frames(samples)),
        fit=fit,
        width=width,
        height=height,
    )
    given = Given(
        folder / "video.mp4", folder / "audio.wav", width + width % 2, height + height % 2, footage.n_frames
    )
    write_video(given.video, (shot.frame for shot in footage.shots()), crf=options.crf)
    samples = samples[: given.n_frames * SAMPLES_PER_FRAME]
    wanted = (given.n_frames + options.silence) * SAMPLES_PER_FRAME
    samples = np.pad(samples, (0, wanted - len(samples)))
    with wave.open(str(given.audio), "wb") as sink:
        sink.setparams((1, 2, SAMPLE_RATE, len(samples), "NONE", "not compressed"))
        sink.writeframes(samples.astype("<i2").tobytes())
    return given


class _Crew:
    """Runs commands, some at a time; leaving the ``with`` block kills those that still run, with their children."""

    def __init__(self, out: Path, options: Options, environment: Mapping[str, str]) -> None:
        self.out = out
        self.options = options
        self.environment = environment
        self._pool = ThreadPoolExecutor(options.workers)
        self._free: SimpleQueue[int] = SimpleQueue()
        for worker in range(options.workers):
            self._free.put(worker)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)
        self._pool.shutdown(cancel_futures=True)

    def work(self, tasks: Sequence[Task]) -> Iterator[Made]:
        """Make the videos that are not there yet; yields a result for every task.

        Raises:
            OSError: something cannot be written, or the program cannot be run.
        """
        pending = []
        for task in tasks:
            if _finished(self.out, task.name) is not None:
                yield Made(task.name)
            elif task.problem:
                yield Made(task.name, reason=task.problem)
            else:
                pending.append(self._pool.submit(self._make, task))
        for future in as_completed(pending):
            yield future.result()

    def _make(self, task: Task) -> Made:
        worker = self._free.get()
        try:
            # No space, dot or quote in its name: official code puts paths into shell commands and splits them at
            # dots. What a container wrote there as another user stays.
            with tempfile.TemporaryDirectory(prefix="bench_external_", ignore_cleanup_errors=True) as folder:
                return Made(task.name, self._attempt(task, Path(folder), worker))
        except _Failed as error:
            return Made(task.name, reason=str(error))
        finally:
            self._free.put(worker)

    def _attempt(self, task: Task, folder: Path, worker: int) -> int:
        """Make a video in ``folder`` and move it to its place; returns its frames. Raises _Failed, OSError."""
        try:
            given = write_inputs(task, folder, self.options)
        except (ClipError, PrepError, ValueError) as error:
            raise _Failed(f"its input cannot be made: {error}") from None
        # Some code calls a temporary folder of its own by the last part of this one: hence no name that comes twice.
        out_dir = folder / f"out_{folder.name}"
        out_dir.mkdir()
        paths = {
            "video": str(given.video),
            "audio": str(given.audio),
            "out": str(out_dir / "result.mp4"),
            "out_dir": str(out_dir),
        }
        self._run(task.name, paths, worker)
        result = self._result(task.name, paths)
        n_frames = self._check(result, given)
        target = self.out / f"{task.name}{result.suffix.lower()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        with result.open("rb") as source, AtomicFile(target) as sink:
            shutil.copyfileobj(source, sink)
            sink.commit()
        return n_frames

    def _run(self, name: str, paths: Mapping[str, str], worker: int) -> None:
        """Run the command once. Raises _Failed where it failed, OSError where it cannot be started."""
        words = self.options.template.arguments({**paths, "name": name, "worker": str(worker)})
        cwd = _working_folder(self.options, worker)
        printed, complaints = _log(self.out, name, "out"), _log(self.out, name, "err")
        printed.parent.mkdir(parents=True, exist_ok=True)
        with printed.open("wb") as stdout, complaints.open("wb") as stderr:
            stdout.write(f"# in {cwd}\n# {shlex.join(words)}\n".encode())
            stdout.flush()
            with self._lock:
                if self._stopped:
                    raise _Failed("stopped")
                process = subprocess.Popen(
                    words,
                    cwd=cwd,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    start_new_session=True,
                )
                self._running.add(process)
            try:
                code = process.wait(self.options.timeout)
            except subprocess.TimeoutExpired:
                _kill(process)
                process.wait()
                limit = f"killed, not done after {self.options.timeout:g} s"
                raise _Failed(limit + _last_line(complaints, paths)) from None
            finally:
                with self._lock:
                    self._running.discard(process)
        if code:
            ended = f"exit code {code}" if code > 0 else f"ended by {_signal_name(-code)}"
            raise _Failed(ended + _last_line(complaints, paths))

    def _result(self, name: str, paths: Mapping[str, str]) -> Path:
        """The file that the command wrote. Raises _Failed."""
        said = _last_line(_log(self.out, name, "err"), paths)
        if self.options.template.names_output:
            path = Path(paths["out"])
            if not path.is_file():
                raise _Failed(f"exit code 0, but no file {{out}}{said}")
            return path
        folder = Path(paths["out_dir"])
        found = walk(folder, VIDEO_SUFFIXES)
        if not found:
            raise _Failed(f"exit code 0, but no video in {{out_dir}}{said}")
        if len(found) > 1:
            raise _Failed(f"{len(found)} videos in {{out_dir}}: let the command write {{out}}")
        return folder / found[0]

    def _check(self, path: Path, given: Given) -> int:
        """Decode a video to its end; returns its frames at 25 a second. Raises _Failed."""
        try:
            info = probe(path)
            n_frames = sum(1 for _ in frames(path))
        except ClipError as error:
            raise _Failed(f"its output cannot be used: {error}") from None
        if (info.width, info.height) != (given.width, given.height) and not self.options.any_size:
            mine, theirs = f"{info.width}×{info.height}", f"{given.width}×{given.height}"
            raise _Failed(f"its output is {mine}, its input {theirs}: mend it in the command, or --any-size")
        more = n_frames - given.n_frames
        if abs(more) > FRAME_TOLERANCE and not self.options.any_length:
            remedy = "mend it in the command" if more > 0 else f"try --silence {self.options.silence - more}"
            raise _Failed(
                f"its output is {abs(more)} frames {'longer' if more > 0 else 'shorter'} than its input: {remedy}, "
                f"or --any-length"
            )
        if not info.has_audio and not self.options.allow_silent:
            raise _Failed("its output has no sound: let the command add {audio}, or --allow-silent")
        return n_frames


class _Failed(Exception):
    """Why there is no video of a pair, in one line."""


def _log(out: Path, name: str, kind: Literal["out", "err"]) -> Path:
    return out / LOGS / f"{name}.{kind}.txt"


def _last_line(path: Path, paths: Mapping[str, str]) -> str:
    """``: `` and the last line of a log, paths as placeholders, so that reasons can be counted; ``""`` without one."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        text = _COLOURS.sub("", file.read().decode(errors="replace"))
    # Progress bars end their lines with carriage returns.
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    if not lines:
        return ""
    last = lines[-1]
    for name, value in sorted(paths.items(), key=lambda item: -len(item[1])):
        last = last.replace(value, f"{{{name}}}")
    return f": {last[:_LINE]}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and all that it started: its process group is its own."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the block in order, with exit code 143: else the commands, in groups of their own, would stay."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --- the folder


def _finished(out: Path, name: str) -> Path | None:
    """The video of a pair that is there already; it appeared when it was complete and checked."""
    paths = (out / f"{name}.{suffix}" for suffix in sorted(VIDEO_SUFFIXES))
    return next((path for path in paths if path.is_file()), None)


def read_external(folder: Path) -> ExternalGeneration:
    """Where the videos of a folder come from.

    Raises:
        BenchError: the folder does not say it in a form that is understood, or its videos come from elsewhere.
    """
    path = folder / GENERATION
    try:
        return ExternalGeneration.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise BenchError(
            f"{path} is not of `bench external`, or damaged: use another --out, or --overwrite"
        ) from None
