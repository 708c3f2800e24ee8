"""Linear sync judges fitted on the very clips that they judge: cross-fitted over persons, in rounds.

A clip is judged by a fit on other persons. A fit that contains the clip has learnt its error too, and pulls its offset
towards 0.

After each round but the last, the clips that the judges are sure of are moved to the offset that was found, those
with sound of another clip are left out, and all is fitted again: the first fit has learnt from wrong sound, too.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from baselines.sync_cca.fitting import CcaStage, fill
from baselines.sync_cca.method import SyncCca, SyncCcaConfig
from baselines.sync_cca.solution import Moments, with_ridges
from bench.common.dask_loop import share
from bench.common.errors import BenchError
from bench.train.config import load_config
from bench.train.offset_judging import ByCca, Judged, Place, judge_all
from bench.train.offset_rule import IN_SYNC, OFF, OTHER, Rule, verdicts
from models.base import DataInfo, FitClip, Group, Unfit
from prep.rates import FPS
from prep.shards import open_shard, read_clip
from prep.sound.mel import RATE

if TYPE_CHECKING:
    from baselines.sync_cca.model import CcaJudge

#: Groups of persons, each judged by the fit on the others.
FOLDS = 5
#: Of lips and of sound, in units of the mean variance. The best for real people, and from 1 to 10 nearly equal. A
#: choice by cross-validation for each group and round would take a hundred times as long as the fit.
RIDGE = 3.0
#: With fewer persons, single clips are divided into groups.
FEWEST = 3
#: Frames of a task, about.
FRAMES = 10_000
#: Clips by which the mean face is found; more do not change it.
FACES = 500

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Round:
    """A round in figures.

    Attributes:
        fitted: clips in the fits.
        shifted: how many of them were moved.
        left_out: clips that were left out for their sound.
        canonical: the highest canonical correlation, mean over the fits.
        decided: clips whose offset was found.
    """

    fitted: int
    shifted: int
    left_out: int
    canonical: float
    decided: int


@dataclass(frozen=True)
class CrossFit:
    """What cross-fitting found.

    Attributes:
        judged: each clip.
        rounds: the rounds.
        by: ``persons`` or ``clips``, which were divided into groups.
        groups: how many.
    """

    judged: list[Judged]
    rounds: list[Round]
    by: str
    groups: int


def cross_fit(
    found: Sequence[Place],
    rule: Rule,
    *,
    rounds: int = 3,
    scheduler: str | None = None,
    progress: Progress = lambda step, done, total: None,
) -> CrossFit:
    """Fit linear judges on clips, and judge each clip by a fit on other persons.

    Args:
        found: the clips.
        rule: when a clip is in sync.
        rounds: the most; it ends earlier if a round changes nothing.
        scheduler: address of a Dask scheduler whose workers do it; None: this process.
        progress: called with the step, how much of it is done, and the total.

    Raises:
        BenchError: fewer than three clips can be used, or nothing can be learnt of them.
    """
    by, groups = _groups(found)
    count = max(groups) + 1
    stages = [_stage() for _ in range(count)]
    _mean_face(stages, found, scheduler, progress)
    shifts: dict[str, int] = {}
    out: frozenset[str] = frozenset()
    told: list[Round] = []
    judged: list[Judged] = []
    for number in range(1, rounds + 1):
        sums = _moments(stages[0], found, groups, shifts, out, scheduler, progress, f"round {number}, fit")
        canonical = []
        for group, stage in enumerate(stages):
            others = [one for i, one in enumerate(sums) if i != group and one is not None]
            try:
                canonical.append(_fit(stage, others))
            except ValueError as error:
                raise BenchError(
                    f"no linear judge can be fitted on these clips: {error}; give a judge that was fitted on others: "
                    "--sync-cca RUN"
                ) from error
        judges = tuple(cast("CcaJudge", stage.networks["judge"]) for stage in stages)
        judge = ByCca(judges, tuple(f"sync-cca:{digest(one)}" for one in judges))
        judged = judge_all(
            found,
            judge,
            rule.reach,
            groups=groups,
            scheduler=scheduler,
            progress=partial(progress, f"round {number}, offsets"),
        )
        said = verdicts(judged, rule)
        told.append(
            Round(
                sum(one.clips for one in sums if one is not None),
                len(shifts),
                len(out),
                float(np.mean(canonical)),
                sum(verdict in (IN_SYNC, OFF) for verdict in said),
            )
        )
        before = shifts, out
        shifts = {
            one.place.clip_id: one.offset.frames
            for one in judged
            if one.offset is not None and one.offset.frames
        }
        out = frozenset(
            one.place.clip_id for one, verdict in zip(judged, said, strict=True) if verdict == OTHER
        )
        if before == (shifts, out):
            break
    return CrossFit(judged, told, by, count)


def _fit(stage: CcaStage, groups: Sequence[Group]) -> float:
    """Fit the judge of a stage on the sums of some groups. Returns the highest canonical correlation."""
    if not groups:
        raise ValueError("too few clips have a face and speech")
    moments = [Moments.from_sums(group.sums) for group in groups]
    judge = cast("CcaJudge", stage.networks["judge"])
    variates = with_ridges(sum(moments[1:], moments[0]), RIDGE, RIDGE, len(judge.canonical))
    fill(judge, variates)
    judge.persons.fill_(sum(group.persons for group in groups))
    judge.frames.fill_(int(sum(one.n for one in moments)))
    return float(variates.canonical[0])


def digest(judge: CcaJudge) -> str:
    """12 hex digits of the SHA-256 of a judge's buffers."""
    found = hashlib.sha256()
    for name, value in sorted(judge.state_dict().items()):
        found.update(name.encode())
        found.update(np.ascontiguousarray(value.numpy()).tobytes())
    return found.hexdigest()[:12]


def _groups(found: Sequence[Place]) -> tuple[str, list[int]]:
    """What is divided, and the group of each clip: whoever has most frames first, into the smallest group so far."""
    persons = {place.person for place in found}
    by = "persons" if len(persons) >= FEWEST else "clips"
    frames: Counter[str] = Counter()
    for place in found:
        frames[place.person if by == "persons" else place.clip_id] += place.n_frames
    if len(frames) < FEWEST:
        raise BenchError(
            f"{len(frames)} {'clip is' if len(frames) == 1 else 'clips are'} too few to fit a linear judge on: give "
            "one that was fitted on others: --sync-cca RUN"
        )
    sizes = [0] * min(FOLDS, len(frames))
    group = {}
    for name in sorted(frames, key=lambda one: (-frames[one], one)):
        group[name] = sizes.index(min(sizes))
        sizes[group[name]] += frames[name]
    return by, [group[place.person if by == "persons" else place.clip_id] for place in found]


def _stage() -> CcaStage:
    config = load_config(SyncCca.name, "paper", (), (), Path())
    method = SyncCca(cast("SyncCcaConfig", config.method_config), DataInfo())
    return cast("CcaStage", method.stages["fit"])


# Sums -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """Clips of one group, and by how many frames the video of each is late."""

    group: int
    places: tuple[Place, ...]
    late: tuple[int, ...]


@dataclass(frozen=True)
class _Work:
    stage: CcaStage
    number: int

    def open(self) -> _Work:
        return self


@dataclass
class _Sums:
    group: int
    persons: set[str] = field(default_factory=set)
    clips: int = 0
    sums: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, other: _Sums) -> None:
        for name, value in other.sums.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else np.array(value)
        self.persons |= other.persons
        self.clips += other.clips


def _mean_face(
    stages: Sequence[CcaStage], found: Sequence[Place], scheduler: str | None, progress: Progress
) -> None:
    """The shape of the head's rigid points; it does not depend on the sound, so it is the same for all fits."""
    some = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, min(FACES, len(found))).astype(int))]
    sums = _moments(
        stages[0], some, [0] * len(some), {}, frozenset(), scheduler, progress, "mean face", number=0
    )
    if sums[0] is None:
        raise BenchError("no clip has a face and sound: see bench inspect")
    for stage in stages:
        stage.take(0, [sums[0]])


def _moments(
    stage: CcaStage,
    found: Sequence[Place],
    groups: Sequence[int],
    shifts: Mapping[str, int],
    out: frozenset[str],
    scheduler: str | None,
    progress: Progress,
    step: str,
    number: int = 1,
) -> list[Group | None]:
    """The sums of each group in pass ``number`` of a stage; None where no clip gives something."""
    waiting: dict[int, list[Place]] = {}
    tasks = []

    def task(group: int) -> _Task:
        mine = waiting.pop(group)
        return _Task(group, tuple(mine), tuple(shifts.get(place.clip_id, 0) for place in mine))

    for place, group in zip(found, groups, strict=True):
        if place.clip_id in out:
            continue
        waiting.setdefault(group, []).append(place)
        if sum(one.n_frames for one in waiting[group]) >= FRAMES:
            tasks.append(task(group))
    tasks += [task(group) for group in sorted(waiting)]
    work = _Work(stage, number)
    total, done = sum(len(one.places) for one in tasks), 0
    added = [_Sums(group) for group in range(max(groups) + 1)]
    shared = share(tasks, work.open, _add_up, _killed, built=work, scheduler=scheduler, ordered=True)
    with closing(shared) as results:
        for one, part in zip(tasks, results, strict=True):
            added[one.group].add(part)
            done += len(one.places)
            progress(step, done, total)
    return [Group(len(one.persons), one.clips, one.sums) if one.clips else None for one in added]


def _add_up(task: _Task, work: _Work) -> _Sums:
    added = _Sums(task.group)
    path, file = None, None
    for place, late in zip(task.places, task.late, strict=True):
        if place.path != path:
            path, file = place.path, open_shard(place.path)
        clip = read_clip(file, place.row, ["detected", "landmarks", "mel"])
        if clip.mel is None or not clip.detected.any():
            continue
        landmarks, mel = moved(clip.landmarks, clip.mel, late)
        try:
            sums = work.stage.sums(work.number, FitClip(place.clip_id, place.person, landmarks, mel))
        except Unfit:
            continue
        whole = {name: np.asarray(value) for name, value in sums.items()}
        added.add(_Sums(task.group, {place.person}, 1, whole))
    return added


def _killed(task: _Task, reason: str) -> _Sums:
    raise BenchError(f"{task.places[0].path}: {reason}; run it again with fewer --workers")


def moved(landmarks: np.ndarray, mel: np.ndarray, video_late: int) -> tuple[np.ndarray, np.ndarray]:
    """Lips and the sound that belongs to them, without the frames that have none.

    Args:
        landmarks: (T, 478, 3).
        mel: (C, 80), 80 columns a second, of the same time.
        video_late: by how many frames the picture is late; negative: early.

    Returns:
        (T - abs(video_late), 478, 3); and the columns of these frames' sound, to a fifth of a frame.
    """
    left = max(len(landmarks) - abs(video_late), 0)
    first, heard = max(video_late, 0), max(-video_late, 0)
    begin = round(heard * RATE / FPS)
    return landmarks[first : first + left], mel[begin : begin + math.ceil(left * RATE / FPS) + 1]
