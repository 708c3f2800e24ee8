"""Runs an external command once per video, several at a time, and checks its output, its videos and its
failures."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Literal

from bench.clips.generation_record import Made
from bench.clips.job import FRAME_TOLERANCE
from bench.generate.external_inputs import Given, write_inputs
from bench.generate.external_options import ExternalOptions, working_folder
from bench.generate.pairing import Task
from prep.errors import ClipError, PrepError
from prep.media import VIDEO_SUFFIXES, suffix_of
from prep.shards import AtomicFile
from prep.sources.listing import walk
from prep.video_reading import frames, probe

#: Folder of the commands' printed output, beside the videos.
LOGS = "logs"
#: Number of bytes at the end of a command's standard error in which the last line is searched, and number of
#: characters #: of this line that are kept.
_TAIL, _LINE = 1 << 16, 240
#: Escape sequences of coloured output.
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Crew:
    """Runs several commands at a time. At the end of the ``with`` block, running commands and their children are
    killed."""

    def __init__(self, out: Path, options: ExternalOptions, environment: Mapping[str, str]) -> None:
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

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)
        self._pool.shutdown(cancel_futures=True)

    def work(self, tasks: Sequence[Task]) -> Iterator[Made]:
        """Make the missing videos; yields a result for every task.

        Raises:
            OSError: something cannot be written, or the program cannot be run.
        """
        pending = []
        for task in tasks:
            if finished(self.out, task.name) is not None:
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
            # No space, dot or quote in the name, since official code uses paths in shell commands and splits them
            # at # dots. Files that a container wrote there as another user remain.
            with tempfile.TemporaryDirectory(prefix="bench_external_", ignore_cleanup_errors=True) as folder:
                return Made(task.name, self._attempt(task, Path(folder), worker))
        except Failed as error:
            return Made(task.name, reason=str(error))
        finally:
            self._free.put(worker)

    def _attempt(self, task: Task, folder: Path, worker: int) -> int:
        """Make a video in ``folder`` and move it to ``out``; returns its number of frames. Raises Failed,
        OSError."""
        try:
            given = write_inputs(task, folder, self.options)
        except (ClipError, PrepError, ValueError) as error:
            raise Failed(f"its input cannot be made: {error}") from None
        # Some code names its temporary folder after the last part of this path, so the name must be unique.
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
        """Run the command once. Raises Failed if it fails, OSError if it cannot be started."""
        words = self.options.template.arguments({**paths, "name": name, "worker": str(worker)})
        cwd = working_folder(self.options, worker)
        printed, complaints = _log(self.out, name, "out"), _log(self.out, name, "err")
        printed.parent.mkdir(parents=True, exist_ok=True)
        with printed.open("wb") as stdout, complaints.open("wb") as stderr:
            stdout.write(f"# in {cwd}\n# {shlex.join(words)}\n".encode())
            stdout.flush()
            with self._lock:
                if self._stopped:
                    raise Failed("stopped")
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
                raise Failed(limit + _last_line(complaints, paths)) from None
            finally:
                with self._lock:
                    self._running.discard(process)
        if code:
            ended = f"exit code {code}" if code > 0 else f"ended by {_signal_name(-code)}"
            raise Failed(ended + _last_line(complaints, paths))

    def _result(self, name: str, paths: Mapping[str, str]) -> Path:
        """The file that the command wrote. Raises Failed."""
        said = _last_line(_log(self.out, name, "err"), paths)
        if self.options.template.names_output:
            path = Path(paths["out"])
            if not path.is_file():
                raise Failed(f"exit code 0, but no file {{out}}{said}")
            return path
        folder = Path(paths["out_dir"])
        videos = walk(folder, VIDEO_SUFFIXES)
        found = [video for video in videos if suffix_of(video) != "gif"] or videos  # a GIF may be a preview
        if not found:
            raise Failed(f"exit code 0, but no video in {{out_dir}}{said}")
        if len(found) > 1:
            raise Failed(f"{len(found)} videos in {{out_dir}}: let the command write {{out}}")
        return folder / found[0]

    def _check(self, path: Path, given: Given) -> int:
        """Decode a whole video; returns its number of frames at 25 fps. Raises Failed."""
        try:
            info = probe(path)
            n_frames = sum(1 for _ in frames(path))
        except ClipError as error:
            raise Failed(f"its output cannot be used: {error}") from None
        if (info.width, info.height) != (given.width, given.height) and not self.options.any_size:
            mine, theirs = f"{info.width}×{info.height}", f"{given.width}×{given.height}"
            raise Failed(f"its output is {mine}, its input {theirs}: mend it in the command, or --any-size")
        more = n_frames - given.n_frames
        if abs(more) > FRAME_TOLERANCE and not self.options.any_length:
            remedy = "mend it in the command" if more > 0 else f"try --silence {self.options.silence - more}"
            raise Failed(
                f"its output is {abs(more)} frames {'longer' if more > 0 else 'shorter'} than its input: {remedy}, "
                f"or --any-length"
            )
        if not info.has_audio and not self.options.allow_silent:
            raise Failed("its output has no sound: let the command add {audio}, or --allow-silent")
        return n_frames


class Failed(Exception):
    """Why there is no video of a pair, in one line."""


def _log(out: Path, name: str, kind: Literal["out", "err"]) -> Path:
    return out / LOGS / f"{name}.{kind}.txt"


def _last_line(path: Path, paths: Mapping[str, str]) -> str:
    """``: `` and the last line of a log, with placeholders for paths so that reasons can be counted; or ``""``."""
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
    """Kill a command and its child processes, which are in a separate process group."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the block cleanly, with exit code 143. Otherwise the commands, in separate groups, would go on
    running.
    """

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


def finished(out: Path, name: str) -> Path | None:
    """The existing video of a pair, or None. A video is moved there only after it is complete and checked."""
    # The usual suffix first: each one is a look at the disk.
    paths = (
        out / f"{name}.{suffix}"
        for suffix in sorted(VIDEO_SUFFIXES, key=lambda suffix: (suffix != "mp4", suffix))
    )
    return next((path for path in paths if path.is_file()), None)
