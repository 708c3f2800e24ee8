"""Fitting of a stage without gradient steps: sums over clips, by this process or several, and what follows of them.

The clips of a group are divided into tasks of about :data:`FRAMES` frames, in the order of the shards. Sums of tasks
are added in the order of the tasks, whichever is done first, so the result depends on the data alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bench.common.dask_loop import share
from bench.common.errors import BenchError
from bench.train.checkpoint import Checkpoints, load_into, read_state, read_training
from bench.train.data_info import clip_rows
from bench.train.inputs import recorded_data
from bench.train.loading import cores, part_clips
from bench.train.log import Reporter
from bench.train.stopping import Stop, Stopped
from models.base import FitClip, FitStage, Group, Unfit
from prep.cluster import open_cluster
from prep.dataset import split_shards
from prep.shards import open_shard, read_clip

if TYPE_CHECKING:
    from bench.train.config import RunConfig

#: Frames of a task, about; a clip is not divided.
FRAMES = 10_000
#: With fewer frames in all passes, ``runner.workers=auto`` is this process: others take seconds to start.
WORTH_WORKERS = 100_000


@dataclass(frozen=True)
class _Clip:
    """Where a clip is, and what is known of it without reading it."""

    path: Path
    row: int
    person: str
    n_frames: int


@dataclass(frozen=True)
class _Task:
    """Clips of one group whose sums a process adds up."""

    group: int
    clips: tuple[_Clip, ...]


@dataclass
class _Added:
    """Sums of some clips of one group.

    Attributes:
        sums: name → array; empty before the first clip.
        persons: whose clips gave something.
        clips: that gave something.
        unfit: why a clip gave nothing → number of clips.
        killed: why there is no result at all; empty if all went well.
    """

    sums: dict[str, np.ndarray] = field(default_factory=dict)
    persons: set[str] = field(default_factory=set)
    clips: int = 0
    unfit: Counter[str] = field(default_factory=Counter)
    killed: str = ""

    def add(self, other: _Added) -> None:
        if self.sums:
            for name, value in other.sums.items():
                self.sums[name] += value
        else:
            self.sums = {name: np.array(value) for name, value in other.sums.items()}
        self.persons |= other.persons
        self.clips += other.clips
        self.unfit += other.unfit


@dataclass(frozen=True)
class _Pass:
    """What a process needs for the tasks of a pass."""

    stage: FitStage
    number: int

    def open(self) -> _Pass:
        return self


@dataclass
class _Place:
    """How far a fit has come: in which pass, how many of its tasks are added, and how many clips were read in all."""

    number: int = 0
    tasks: int = 0
    step: int = 0


class FitRun:
    """Fits one stage.

    Args:
        config: of the run.
        stage: the stage.
        run: folder of the run.
        reporter: receives the progress; a step is one clip in one pass.
        stop: says when to end early.
    """

    def __init__(self, config: RunConfig, stage: FitStage, run: Path, reporter: Reporter, stop: Stop) -> None:
        self._config = config
        self._stage = stage
        self._run = run
        self._reporter = reporter
        self._stop = stop
        self._checkpoints = Checkpoints(run / stage.name / "checkpoints", config.runner.keep_last)

    def train(self, resume: bool) -> dict[str, float]:
        """Make all passes.

        Args:
            resume: continue where the run was stopped.

        Returns:
            The figures of the last pass, and its ``step``.

        Raises:
            Stopped: it was asked to end, and left a checkpoint.
            BenchError: the clips do not suffice, a worker was killed, or a checkpoint cannot be written.
            PrepError: a shard is damaged.
        """
        name, passes = self._stage.name, self._stage.passes
        last = self._checkpoints.last() if resume else None
        state = read_state(last) if last is not None else {}
        if state.get("complete"):
            return state["best"]
        groups = {part: self._groups(part) for part in dict.fromkeys(one.part for one in passes)}
        place, added = _Place(), None
        if last is not None:
            place, added = self._restore(last, state)
        total = sum(len(clips) for one in passes for clips in groups[one.part])
        self._reporter.begin(name, place.step, total)
        if self._config.runner.device == "cuda":
            self._reporter.note(f"{name}: a fit runs on the CPU")
        figures: dict[str, float] = {}
        frames = sum(clip.n_frames for one in passes for clips in groups[one.part] for clip in clips)
        with _one_thread(), self._workers(frames) as scheduler:
            while place.number < len(passes):
                divided = groups[passes[place.number].part]
                added = added or [_Added() for _ in divided]
                self._add_up(place, divided, added, scheduler)
                figures = self._take(place.number, added)
                place, added = _Place(place.number + 1, 0, place.step), None
        best = {**figures, "step": place.step}
        self._reporter.validation(name, place.step, figures, True)
        networks = {key: network.state_dict() for key, network in self._stage.networks.items()}
        self._checkpoints.save(
            f"step-{place.step:08d}",
            networks,
            {},
            {"complete": True, "step": place.step, "best": best},
            best=True,
            about=self._about(),
        )
        self._reporter.end(name, f"{len(passes)} passes")
        return best

    # A pass -----------------------------------------------------------------------------------------------------

    def _groups(self, part: Any) -> list[list[_Clip]]:
        clips = _part(self._config, part)
        return _folds(clips, self._stage.config.folds) if part == "train" else [clips]

    @contextmanager
    def _workers(self, frames: int) -> Iterator[str | None]:
        """The address of the scheduler of worker processes for all passes; None: this process does it all."""
        asked = self._config.runner.workers
        workers = (cores() if frames >= WORTH_WORKERS else 1) if asked == "auto" else asked
        if workers <= 1:
            yield None
            return
        with open_cluster(workers, None) as cluster:
            yield cluster.scheduler_address

    def _add_up(
        self,
        place: _Place,
        groups: Sequence[Sequence[_Clip]],
        added: list[_Added],
        scheduler: str | None,
    ) -> None:
        """Add up the tasks of a pass that are not done yet."""
        stage, begun = self._stage, time.perf_counter()
        called = stage.passes[place.number].name
        tasks = [task for number, clips in enumerate(groups) for task in _tasks(number, clips)]
        waiting = tasks[place.tasks :]
        frames = sum(clip.n_frames for task in waiting for clip in task.clips)
        source = _Pass(stage, place.number)
        shared = share(waiting, source.open, _work, _killed, scheduler=scheduler, ordered=True)
        with closing(shared) as results:
            for task, result in zip(waiting, results, strict=True):
                if result.killed:
                    shards = ", ".join(sorted({clip.path.name for clip in task.clips}))
                    raise BenchError(
                        f"stage {stage.name}, pass {called}, {shards}: {result.killed}; run it again with fewer "
                        "runner.workers"
                    )
                added[task.group].add(result)
                place.tasks += 1
                place.step += len(task.clips)
                self._reporter.advance(stage.name, place.step)
                if self._stop.asked:
                    self._save_part(place, added)
                    self._reporter.note(
                        f"stopped in the pass {called}, after {place.tasks} of {len(tasks)} tasks; go on with --resume"
                    )
                    raise Stopped
        seconds = time.perf_counter() - begun
        self._reporter.note(
            f"{stage.name}, pass {called}: {frames:,} frames in {seconds:.1f} s ({frames / seconds:,.0f} a second)"
        )

    def _take(self, number: int, added: Sequence[_Added]) -> dict[str, float]:
        """Give the sums of a pass to the stage. Returns its figures."""
        stage, one = self._stage, self._stage.passes[number]
        unfit: Counter[str] = sum((group.unfit for group in added), Counter())
        left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(unfit.items()))
        if left_out:
            self._reporter.note(f"{stage.name}, pass {one.name}: clips left out: {left_out}")
        groups = [Group(len(group.persons), group.clips, group.sums) for group in added if group.clips]
        if len(groups) < (2 if one.part == "train" else 1):
            raise BenchError(_too_few(stage, one.part, sum(group.persons for group in groups), left_out))
        try:
            figures = stage.take(number, groups)
        except ValueError as error:
            raise BenchError(f"stage {stage.name}, pass {one.name}: {error}") from error
        if figures and number < len(stage.passes) - 1:
            said = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            self._reporter.note(f"{stage.name}, pass {one.name}: {said}")
        return figures

    # Checkpoints ------------------------------------------------------------------------------------------------

    def _save_part(self, place: _Place, added: Sequence[_Added]) -> None:
        """Save the sums so far. Networks are not there yet: nothing must take them for fitted ones."""
        tensors = {f"network/{key}": value for key, value in self._buffers().items()}
        groups = []
        for number, group in enumerate(added):
            tensors |= {f"sums/{number}/{key}": torch.from_numpy(value) for key, value in group.sums.items()}
            groups.append(
                {"persons": sorted(group.persons), "clips": group.clips, "unfit": dict(group.unfit)}
            )
        state = {
            "complete": False,
            "step": place.step,
            "pass": place.number,
            "tasks": place.tasks,
            "groups": groups,
        }
        self._checkpoints.save(f"step-{place.step:08d}", {}, tensors, state)

    def _restore(self, checkpoint: Path, state: Mapping[str, Any]) -> tuple[_Place, list[_Added]]:
        tensors = read_training(checkpoint)
        for name, network in self._stage.networks.items():
            prefix = f"network/{name}/"
            load_into(
                network, {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}, checkpoint
            )
        added = []
        for number, group in enumerate(state["groups"]):
            prefix = f"sums/{number}/"
            sums = {k[len(prefix) :]: v.numpy() for k, v in tensors.items() if k.startswith(prefix)}
            added.append(_Added(sums, set(group["persons"]), group["clips"], Counter(group["unfit"])))
        return _Place(state["pass"], state["tasks"], state["step"]), added

    def _buffers(self) -> dict[str, Tensor]:
        return {
            f"{name}/{key}": value
            for name, network in self._stage.networks.items()
            for key, value in network.state_dict().items()
        }

    def _about(self) -> dict[str, Any]:
        """What the file of the networks says of itself."""
        data = [{key: one[key] for key in ("name", "manifest_sha256")} for one in recorded_data(self._run)]
        return {"method": self._config.method, "data": data, **self._stage.about()}


def check_clips(config: RunConfig, stage: FitStage) -> None:
    """Check that there are clips for each pass of a stage, and training clips of two persons at least.

    Raises:
        BenchError: there are not.
        PrepError: a data set is damaged, or lacks a split.
    """
    if config.person is not None:
        raise BenchError(
            f"stage {stage.name} is cross-validated over persons, so none can be fitted alone: leave --per out"
        )
    for part in dict.fromkeys(one.part for one in stage.passes):
        persons = len({clip.person for clip in _part(config, part)})
        if persons < (2 if part == "train" else 1):
            raise BenchError(_too_few(stage, part, persons, ""))


def _too_few(stage: FitStage, part: str, persons: int, left_out: str) -> str:
    because = f" (left out: {left_out})" if left_out else ""
    if part == "val":
        return f"stage {stage.name}: no clip of the split val can be used{because}: prepare others for it"
    who = "1 person" if persons == 1 else f"{persons} persons"
    return (
        f"stage {stage.name}: usable training clips are of {who}{because}; it is cross-validated over persons and "
        "needs two at least: add a data set with --data, or clips to the list of --clips"
    )


def _part(config: RunConfig, part: Any) -> list[_Clip]:
    """The clips of a part, in the order of the shards."""
    splits, listed = part_clips(config, part)
    rows = clip_rows(split_shards(config.data, splits), listed)
    return [_Clip(r["path"], r["row"], f"{r['dataset']}/{r['person']}", r["n_frames"]) for r in rows]


def _folds(clips: Sequence[_Clip], folds: int) -> list[list[_Clip]]:
    """Clips in groups of persons with about as many frames each; no more groups than persons.

    The persons with most frames come first, each into the group that has the fewest so far.
    """
    frames: Counter[str] = Counter()
    for clip in clips:
        frames[clip.person] += clip.n_frames
    sizes = [0] * min(folds, len(frames))
    group_of = {}
    for person in sorted(frames, key=lambda who: (-frames[who], who)):
        group_of[person] = sizes.index(min(sizes))
        sizes[group_of[person]] += frames[person]
    groups: list[list[_Clip]] = [[] for _ in sizes]
    for clip in clips:
        groups[group_of[clip.person]].append(clip)
    return groups


def _tasks(group: int, clips: Sequence[_Clip]) -> Iterator[_Task]:
    waiting: list[_Clip] = []
    for clip in clips:
        waiting.append(clip)
        if sum(one.n_frames for one in waiting) >= FRAMES:
            yield _Task(group, tuple(waiting))
            waiting = []
    if waiting:
        yield _Task(group, tuple(waiting))


def _work(task: _Task, source: _Pass) -> _Added:
    """Add up the clips of a task."""
    added = _Added()
    path, file = None, None
    for clip in task.clips:
        if clip.path != path:
            path, file = clip.path, open_shard(clip.path)
        found = read_clip(file, clip.row, ["detected", "landmarks", "mel"])
        try:
            if found.mel is None:
                raise Unfit("without sound")
            if not found.detected.any():
                raise Unfit("without a face")
            sums = source.stage.sums(
                source.number, FitClip(found.clip_id, clip.person, found.landmarks, found.mel)
            )
        except Unfit as reason:
            added.unfit[str(reason)] += 1
            continue
        added.add(_Added({name: np.asarray(value) for name, value in sums.items()}, {clip.person}, 1))
    return added


def _killed(task: _Task, reason: str) -> _Added:
    return _Added(killed=reason)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in the workers: the rounding of a product of matrices depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
