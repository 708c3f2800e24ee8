"""A command of somebody else: how it is run, over what, and in which environment."""

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
        any_length: take videos whose frames are more than :data:`bench.clips.job.FRAME_TOLERANCE` more or fewer than
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


def command_environment(options: ExternalOptions) -> dict[str, str]:
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
        cwd = working_folder(options, worker)
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


def working_folder(options: ExternalOptions, worker: int) -> Path:
    """Where a worker runs the command."""
    return Path(fill(options.cwd, {"worker": str(worker)})).absolute()


def installed(env_dir: Path | None) -> dict[str, str]:
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
