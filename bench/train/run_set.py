"""Run sets: one run per person, for methods that learn one person at a time.

``bench train METHOD --per speaker`` writes ``runset.json`` into its folder, and an ordinary run for each person into a
subfolder.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.common.errors import BenchError
from bench.train.config import CONFIG, RunConfig
from bench.train.run_options import Person
from prep.names import known
from prep.shards import AtomicFile

RUN_SET = "runset.json"


class RunSet(BaseModel):
    """One run per person.

    Attributes:
        out: its current folder; not stored.
        method: name of the method.
        per: what there is one run for: ``speaker``.
        persons: the persons to train, by name; some may not be trained yet.
        skipped: name → why that person is not trained.
        config: the configuration for every person, as :class:`bench.train.config.RunConfig` stores it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: Path = Field(default=Path(), exclude=True)
    method: str
    per: Literal["speaker"] = "speaker"
    persons: tuple[Person, ...]
    skipped: dict[str, str] = Field(default_factory=dict)
    config: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> RunSet | None:
        """The run set of a folder; None if it holds none.

        Raises:
            BenchError: ``runset.json`` is damaged, or of another version of this suite.
        """
        path = folder / RUN_SET
        try:
            stored = path.read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise BenchError(f"{path} cannot be read: {error}") from None
        try:
            return cls.model_validate_json(stored).model_copy(update={"out": folder})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(map(str, problem["loc"]))
            what = f"{where}: {problem['msg']}" if where else problem["msg"]
            raise BenchError(
                f"{path} is not a run set ({what}): restore this file, or train again with another --run"
            ) from None

    def save(self) -> None:
        """Write ``runset.json`` into its folder, atomically."""
        with AtomicFile(self.out / RUN_SET) as sink:
            sink.write((self.model_dump_json(indent=1) + "\n").encode())
            sink.commit()

    def run_config(self) -> RunConfig:
        """The configuration for every person. Raises as :meth:`RunConfig.load`."""
        return RunConfig.from_stored(self.config, self.out, self.out / RUN_SET)

    def person(self, speaker: str) -> Person:
        """A person by name.

        Raises:
            BenchError: there is no person of that name, or the person was skipped.
        """
        found = {person.speaker: person for person in self.persons}
        if speaker in self.skipped:
            raise BenchError(f"{self.out}: {speaker} cannot be trained: {self.skipped[speaker]}")
        known("speaker", [speaker], found)
        return found[speaker]

    def run_of(self, speaker: str) -> Path:
        """The folder of a person's run.

        Raises:
            BenchError: there is no such person, or the person has no run yet.
        """
        folder = self.out / self.person(speaker).folder
        if not (folder / CONFIG).is_file():
            raise BenchError(f"{self.out} has no run of {speaker} yet: {self.resume_command(speaker)}")
        return folder

    def resume_command(self, *speakers: str) -> str:
        """The command that continues the training of some persons."""
        words = ["bench", "train", self.method, "--per", "speaker", "--run", str(self.out), "--resume"]
        for speaker in speakers:
            words += ["--speaker", speaker]
        return shlex.join(words)

    def held_out(self) -> dict[str, tuple[str, ...]]:
        """Speaker → ids of the clips not used in training, for all persons who have a run."""
        return {
            person.speaker: person.test
            for person in self.persons
            if (self.out / person.folder / CONFIG).is_file()
        }


def left_out(run: Path) -> str:
    """One line that names the persons of a run set who have no run yet; ``""`` if there are none, or for a single run.

    Raises as :meth:`RunSet.load`.
    """
    found = RunSet.load(run)
    if found is None:
        return ""
    there = found.held_out()
    absent = [person.speaker for person in found.persons if person.speaker not in there]
    if not absent:
        return ""
    return f"{run}: no videos of {', '.join(absent)}, who have no run yet: {found.resume_command(*absent)}"


def method_of(run: Path) -> str:
    """The name of the method of a run or of a run set.

    Raises:
        BenchError: the folder is neither.
    """
    found = RunSet.load(run)
    return found.method if found is not None else RunConfig.load(run).method
