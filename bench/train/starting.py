"""Fine-tuning: a new run that begins with the weights of another run, or of imported weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.common.errors import BenchError
from bench.train.checkpoint import best_files, load_into, read_tensors, write_networks
from bench.train.config import RunConfig, differences
from bench.train.config_checks import show
from bench.train.run_set import RunSet
from bench.weights.digests import file_sha256
from models.base import FitStage, Trainable


@dataclass(frozen=True)
class Start:
    """The weights that a new run begins with.

    Attributes:
        run: where they come from.
        files: stage → network → file.
        notes: what to tell the user.
    """

    run: Path
    files: Mapping[str, Mapping[str, Path]]
    notes: tuple[str, ...]

    def digests(self) -> dict[str, str]:
        """Names of the weights, for the record → SHA-256 of the files."""
        found = {}
        for stage, files in self.files.items():
            for network, path in files.items():
                found[f"begun from {self.run} ({stage}/{network})"] = file_sha256(path)
        return found

    def write(self, run: Path) -> None:
        """Store the weights in a new run, as the best so far of each stage; a stage still begins at its first step.

        Raises:
            BenchError: they cannot be written.
        """
        for stage, files in self.files.items():
            networks = {network: read_tensors(path) for network, path in files.items()}
            write_networks(run, stage, networks, f"begun from {self.run}", last=False)


def load_start(config: RunConfig, method: Trainable, stages: Collection[str]) -> Start | None:
    """Load into a new method the weights that its run begins with: the best ones of another run.

    Args:
        config: of the new run; ``begun_from`` names the other one.
        method: built from it; its networks are changed.
        stages: that will be trained. What a fit stage is fitted to is taken over only where it is none of these.

    Returns:
        What was loaded; None if the run begins with random weights.

    Raises:
        BenchError: the other folder is not a run of this method, has no weights, or they do not fit; names the
            difference.
    """
    source = config.begun_from
    if source is None:
        return None
    if (run_set := RunSet.load(source)) is not None:
        person = run_set.persons[0].folder
        raise BenchError(
            f"{source} is a run set: name the run of one person in it, such as {source / person}"
        )
    saved = RunConfig.load(source)
    if saved.method != config.method:
        raise BenchError(
            f"{source} is a run of {saved.method}, not of {config.method}: name another with --from"
        )
    files, notes = {}, []
    for stage in method.stages.values():
        if isinstance(stage, FitStage) and stage.name in stages:
            others = [name for name, one in method.stages.items() if not isinstance(one, FitStage)]
            named = "".join(f" --stage {name}" for name in others)
            raise BenchError(
                f"stage {stage.name} of {config.method} is fitted anew from its clips: leave --from out"
                + (f", or train the others with{named}" if named else "")
            )
        there = {
            name: path for name, path in best_files(source, stage.name).items() if name in stage.networks
        }
        for name, path in there.items():
            try:
                load_into(stage.networks[name], read_tensors(path), path)
            except BenchError as error:
                raise BenchError(f"{error}{_options(saved, config)}") from None
        absent = [name for name in stage.networks if name not in there]
        if there:
            files[stage.name] = there
            notes.append(f"{stage.name} begins with the weights of {source}: {', '.join(there)}")
        if absent:
            notes.append(
                f"{stage.name}: {source} has no {', '.join(absent)}, which begins with random weights"
            )
    if not files:
        raise BenchError(f"{source} has no checkpoint yet: train it first, or name another run with --from")
    if saved.sound != config.sound:
        now, before = config.sound.mel_padding, saved.sound.mel_padding
        notes.append(f"the data was prepared with mel_padding={now}, that of {source} with {before}")
    return Start(source, files, tuple(notes))


def _options(saved: RunConfig, config: RunConfig) -> str:
    """Options of the method, other than those of training, in which two runs differ, as part of a message."""
    changed = [
        f"{key} was {show(before)}, is now {show(now)}"
        for key, (before, now) in differences(saved, config).items()
        if ".train." not in key and key.partition(".")[0] not in ("runner", "sound")
    ]
    if saved.preset != config.preset:
        changed.insert(0, f"the preset was {saved.preset}, is now {config.preset}")
    return f" ({'; '.join(changed[:4])})" if changed else ""
