"""Training a run set: the persons of some data sets, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.clips.clip_lists import read_clips
from bench.common.errors import BenchError
from bench.train.config import CONFIG, RunConfig, check_resume
from bench.train.log import Reporter, Several
from bench.train.one_run import check_run, one_line, train_run, writing
from bench.train.parallel import is_main_process
from bench.train.persons import find_persons
from bench.train.precision import resolve
from bench.train.run_options import Person
from bench.train.run_set import RUN_SET, RunSet
from bench.train.runner import TrainResult
from bench.train.stopping import Stop
from bench.weights.store import WeightStore
from prep.errors import NoSamples


def begin_set(config: RunConfig) -> RunSet:
    """A run set of all persons in the data sets of a configuration; nothing is written.

    Raises:
        BenchError: no person has enough clips, or the list of clips cannot be read.
        PrepError: a folder is not a data set.
    """
    listed = None if config.clips is None else read_clips(config.clips)
    persons = find_persons(config.data, listed)
    if not persons.found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(persons.skipped.items())[:3])
        raise BenchError(
            f"{', '.join(map(str, config.data))}: no person can be trained ({reasons}): prepare more clips of a "
            "person, or shorter ones (bench prep … --clip-seconds)"
        )
    return RunSet(
        out=config.out,
        method=config.method,
        persons=persons.found,
        skipped=persons.skipped,
        config=config.model_dump(mode="json"),
    )


def train_set(
    run_set: RunSet,
    config: RunConfig,
    speakers: Sequence[str],
    resume: bool,
    *,
    stages: Sequence[str] = (),
    store: WeightStore,
    reporter: Reporter | None = None,
) -> TrainResult:
    """Train the persons of a run set. Persons whose runs are finished are skipped.

    A new set is written after the inputs of its first person were checked.

    Args:
        run_set: the run set.
        config: of every run, except for its folder and its person.
        speakers: the persons to train; empty: all.
        resume: continue a run set.
        stages: as for :func:`bench.train.one_run.train_run`.
        store: finds weights.
        reporter: receives the progress.

    Raises:
        BenchError: there is no such person, or as :func:`bench.train.one_run.train_run`.
        PrepError: a data set lacks what a stage needs.
    """
    chosen = [run_set.person(name) for name in dict.fromkeys(speakers)] or run_set.persons
    # Once, so that all runs of the set have the same precision.
    config, precision = resolve(config)
    # All runs are checked, also those not chosen: the runs of a set must have the same options.
    every = [_run_of(config, person, resume) for person in run_set.persons]
    runs = [run for run in every if run.person in chosen]
    if not resume:
        _check_first(runs, stages, store)
    if not is_main_process():
        return _Training(run_set, stages, store, Several()).train(runs)
    with writing(run_set.out, f"{config.method} --per speaker", fresh=not resume):
        run_set = run_set.model_copy(update={"config": config.model_dump(mode="json")})
        with one_line(run_set.out):
            run_set.save()
        reporters = Several([reporter] if reporter else [])
        if precision:
            reporters.note(precision)
        return _Training(run_set, stages, store, reporters).train(runs)


@dataclass(frozen=True)
class _Run:
    person: Person
    config: RunConfig
    saved: RunConfig | None


def _run_of(config: RunConfig, person: Person, resume: bool) -> _Run:
    """A person's run. Raises BenchError if it was begun with other options."""
    mine = config.model_copy(update={"out": config.out / person.folder, "person": person})
    if not (resume and (mine.out / CONFIG).is_file()):
        return _Run(person, mine, None)
    saved = RunConfig.load(mine.out)
    check_resume(saved, mine)
    return _Run(person, mine, saved)


def _check_first(runs: Sequence[_Run], stages: Sequence[str], store: WeightStore) -> None:
    """Check the inputs of the first person who has samples, before anything is written."""
    for run in runs:
        try:
            check_run(run.config, stages, store)
        except NoSamples:
            # That person is skipped in training, and its reason stored.
            continue
        return


class _Training:
    """Trains persons one after the other; all processes execute the same steps."""

    def __init__(
        self, run_set: RunSet, stages: Sequence[str], store: WeightStore, reporter: Reporter
    ) -> None:
        self._set = run_set
        self._stages = stages
        self._store = store
        self._reporter = reporter

    def train(self, runs: Sequence[_Run]) -> TrainResult:
        for name, reason in self._set.skipped.items():
            self._reporter.note(f"{name} is skipped: {reason}")
        done: dict[str, TrainResult] = {}
        with Stop() as stop:
            for number, run in enumerate(runs, 1):
                name = run.person.speaker
                self._reporter.note(f"{name} ({number} of {len(runs)}): {run.config.out}")
                try:
                    done[name] = train_run(
                        run.config,
                        run.saved,
                        stages=self._stages,
                        store=self._store,
                        reporter=self._reporter,
                        stop=stop,
                    )
                except NoSamples as problem:
                    self._skip(name, str(problem))
                else:
                    if done[name].stopped:
                        break
        if not done:
            raise BenchError(f"{self._set.out}: no person could be trained; {RUN_SET} there says why")
        stopped = any(result.stopped for result in done.values())
        return TrainResult(self._set.out, stopped, speakers=done, skipped=self._set.skipped)

    def _skip(self, name: str, reason: str) -> None:
        self._reporter.note(f"{name} is skipped: {reason}")
        persons = tuple(person for person in self._set.persons if person.speaker != name)
        skipped = {**self._set.skipped, name: reason}
        self._set = self._set.model_copy(update={"persons": persons, "skipped": skipped})
        if is_main_process():
            with one_line(self._set.out):
                self._set.save()
