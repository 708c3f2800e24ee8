"""An external command: how it is run, for which pairs, and in which environment."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path

from baselines.external import PLACEHOLDERS, CommandTemplate, fill, placeholders
from bench.clips.inputs import Protocol
from bench.common.errors import BenchError
from bench.generate.fit import Fit


@dataclass(frozen=True)
class ExternalOptions:
    """What is run, how, and for which pairs.

    Attributes:
        template: the command.
        env_dir: a virtual or Conda environment whose programs are found first; None: the environment of the bench.
        cwd: working directory of the command; may contain ``{worker}``.
        timeout: seconds per video, after which the command and its child processes are killed; None: no limit.
        workers: number of commands at the same time.
        commit: version of the external code, for the provenance.
        protocol: which sound drives the faces.
        seed: of the pairs in dubbing.
        fit: how a video and a sound of different lengths are combined.
        crf: x264's constant rate factor of the input videos; 0 is lossless.
        silence: frames of silence appended to the input sound, for code that makes fewer frames than its sound has.
        split: of the data set; None: as :func:`bench.clips.inputs.from_dataset` chooses.
        limit: use only this many pairs, the first ones.
        any_size: accept videos of another size than their input.
        any_length: accept videos whose number of frames differs from their input's by more than
            :data:`bench.clips.job.FRAME_TOLERANCE`.
        allow_silent: accept videos without a sound track.
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


def command_environment(options: ExternalOptions) -> dict[str, str]:
    """The environment variables of the command. Raises BenchError if a folder or the program is missing."""
    found = dict(os.environ)
    if options.env_dir is not None:
        programs = (options.env_dir / "bin").absolute()
        if not programs.is_dir():
            raise BenchError(f"{options.env_dir} is not a virtual environment: it has no folder bin")
        found["PATH"] = os.pathsep.join([str(programs), found.get("PATH", os.defpath)])
        found["VIRTUAL_ENV"] = str(options.env_dir.absolute())
        # With these variables the command would find the packages of the bench.
        for name in ("PYTHONHOME", "PYTHONPATH"):
            found.pop(name, None)
    others = sorted(placeholders(options.cwd) - {"worker"})
    if others:
        raise BenchError(f"--cwd {options.cwd}: only {{worker}} can be used in it, not {{{others[0]}}}")
    for worker in range(options.workers):
        cwd = working_folder(options, worker)
        if not cwd.is_dir():
            raise BenchError(f"{cwd} is not a folder: give the checkout of the code with --cwd")
        program = fill(options.template.program, dict.fromkeys(PLACEHOLDERS, "") | {"worker": str(worker)})
        # A path is relative to the working directory; a bare name is searched in PATH.
        path = str(cwd / program) if "/" in program else program
        if shutil.which(path, path=found["PATH"]) is None:
            raise BenchError(
                f"{program}: no such program: give its path, or the environment that has it with --env-dir"
            )
    return found


def working_folder(options: ExternalOptions, worker: int) -> Path:
    """The working directory of a worker's commands."""
    return Path(fill(options.cwd, {"worker": str(worker)})).absolute()


def installed(env_dir: Path | None) -> dict[str, str]:
    """Package → version of an environment; empty if none was given."""
    if env_dir is None:
        return {}
    folders = [str(path) for path in sorted(env_dir.glob("lib/python*/site-packages"))]
    found = {}
    for package in distributions(path=folders):
        # An incompletely removed package has no name.
        if name := package.metadata["Name"]:
            found[name.lower()] = package.version
    return dict(sorted(found.items()))
