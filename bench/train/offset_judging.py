"""Judging the offset of many clips by a trained or fitted judge, by this process or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import torch

from baselines.sync_expert.embedding import embed_lips, embed_sounds
from baselines.sync_expert.network import FRAMES, SOUND
from baselines.sync_judges import Offset, clip_offset, speech_frames
from bench.common.dask_loop import share
from bench.common.errors import BenchError, Unscorable
from prep.dataset import split_shards
from prep.planes import decode_planes
from prep.shards import open_shard, read_clip, shard_paths
from prep.sound.features import chunk, valid_frames
from prep.sound.mel import RATE
from prep.speakers import speaker_of
from prep.views import VIEWS

if TYPE_CHECKING:
    from baselines.sync_cca.model import CcaJudge
    from baselines.sync_expert.network import SyncNet
    from prep.schema import Clip

VIEW = "face96"


@dataclass(frozen=True)
class Place:
    """Where a clip is, and what is known of it without reading it.

    Attributes:
        path: its shard.
        row: in the shard.
        clip_id: its name.
        split: of the data set.
        person: who speaks, ``<corpus>/<speaker>``.
        n_frames: T.
    """

    path: Path
    row: int
    clip_id: str
    split: str
    person: str
    n_frames: int


@dataclass(frozen=True)
class Judged:
    """What a judge found of a clip.

    Attributes:
        place: of the clip.
        offset: None: it could not be judged.
        frames: with lips and speech.
        reason: why it could not be judged.
        judge: name and digest of the judge.
    """

    place: Place
    offset: Offset | None
    frames: int = 0
    reason: str = ""
    judge: str = ""


class Judge(Protocol):
    """Finds the offset of a clip. It can be pickled if it is to be used by several processes."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the shards, that it sees."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name and digest of the judge of each group."""

    def judge(self, clip: Clip, group: int, reach: int) -> tuple[Offset, int]:
        """The offset of a clip, and the number of frames with lips and speech.

        Raises:
            Unscorable: nothing can be compared.
            ValueError: the clip is damaged.
        """


@dataclass(frozen=True)
class ByExpert:
    """The trained expert: windows of five frames, and the sound that begins with each.

    Attributes:
        expert: in evaluation mode, for the view ``face96``.
        names: its name and digest.
    """

    expert: SyncNet
    names: tuple[str, ...]
    columns: ClassVar[tuple[str, ...]] = (VIEW, "mel")

    def judge(self, clip: Clip, group: int, reach: int) -> tuple[Offset, int]:
        """The offset of a clip, from the windows in which every frame shows a face.

        Args:
            clip: with its crops of the view and its mel spectrogram.
            group: not used.
            reach: largest shift of the sound that is tried, in frames, in both directions.

        Raises:
            Unscorable: no sound, or no window.
            ValueError: a crop cannot be decoded.
        """
        if clip.mel is None:
            raise Unscorable("no sound")
        pictures = clip.images[VIEW]
        runs = _runs([picture is not None for picture in pictures])
        if not runs:
            raise Unscorable(f"no {FRAMES} consecutive frames with a face")
        heard = valid_frames(len(clip.mel), SOUND, RATE)
        if not heard:
            raise Unscorable("the sound is too short")
        view = VIEWS[VIEW]
        chunks = np.stack([chunk(clip.mel, frame, SOUND, RATE) for frame in heard])
        found = embed_sounds(self.expert, torch.from_numpy(chunks)).cpu().numpy()
        sounds = np.full((heard.stop, found.shape[1]), np.nan, np.float32)
        sounds[heard.start :] = found
        lips = np.full((clip.n_frames, found.shape[1]), np.nan, np.float32)
        for run in runs:
            encoded = [picture for t in run if (picture := pictures[t]) is not None]
            planes = torch.from_numpy(decode_planes(encoded, view.width, view.height))
            lips[run.start : run.stop - FRAMES + 1] = embed_lips(self.expert, planes).cpu().numpy()
        return _offset(clip.mel, lips, sounds, reach)


@dataclass(frozen=True)
class ByCca:
    """Linear judges, one for each group of clips, or one for all.

    Attributes:
        judges: in the order of the groups.
        names: name and digest of each.
    """

    judges: tuple[CcaJudge, ...]
    names: tuple[str, ...]
    columns: ClassVar[tuple[str, ...]] = ("detected", "landmarks", "mel")

    def judge(self, clip: Clip, group: int, reach: int) -> tuple[Offset, int]:
        """The offset of a clip by the judge of its group.

        Raises:
            Unscorable: no sound, or no face.
        """
        if clip.mel is None:
            raise Unscorable("no sound")
        if not clip.detected.any():
            raise Unscorable("no face")
        judge = self.judges[group]
        return _offset(clip.mel, judge.see(clip.landmarks), judge.hear(clip.mel, clip.n_frames), reach)


def _offset(mel: np.ndarray, lips: np.ndarray, sounds: np.ndarray, reach: int) -> tuple[Offset, int]:
    speech = speech_frames(mel, len(lips))
    return clip_offset(lips, sounds, speech, reach), int((np.isfinite(lips[:, 0]) & speech).sum())


def _runs(detected: Sequence[bool]) -> list[range]:
    """Runs of frames with a face that are long enough for a window."""
    runs, begin = [], 0
    for t, there in enumerate([*detected, False]):
        if not there:
            if t - begin >= FRAMES:
                runs.append(range(begin, t))
            begin = t + 1
    return runs


def places(data: Sequence[Path], splits: Sequence[str] = ()) -> list[Place]:
    """All clips of data sets, in the order of the shards.

    Args:
        data: prepared data sets.
        splits: of which; empty: all.

    Raises:
        BenchError: two data sets have a clip of the same id.
        PrepError: a folder is not a data set, or lacks the splits.
    """
    paths = (
        split_shards(data, splits) if splits else [path for folder in data for path in shard_paths(folder)]
    )
    found: list[Place] = []
    seen: dict[str, Path] = {}
    for path in paths:
        columns = ["clip_id", "split", "dataset", "speaker", "n_frames"]
        for row, one in enumerate(open_shard(path).read(columns=columns, use_threads=False).to_pylist()):
            clip = one["clip_id"]
            if clip in seen:
                raise BenchError(
                    f"{clip} is in {seen[clip]} and in {path}: the list could not distinguish them; "
                    "make one of each data set"
                )
            seen[clip] = path
            person = f"{one['dataset']}/{speaker_of(clip, one['speaker'])}"
            found.append(Place(path, row, clip, one["split"], person, one["n_frames"]))
    return found


@dataclass(frozen=True)
class _Task:
    """Clips of one shard, and the group of each."""

    places: tuple[Place, ...]
    groups: tuple[int, ...]


@dataclass(frozen=True)
class _Work:
    judge: Judge
    reach: int

    def open(self) -> _Work:
        return self


def judge_all(
    found: Sequence[Place],
    judge: Judge,
    reach: int,
    *,
    groups: Sequence[int] | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Judged]:
    """Judge every clip, one in memory at a time in each process.

    Args:
        found: the clips, those of a shard one after the other.
        judge: of all.
        reach: largest shift of the sound that is tried, in frames, in both directions.
        groups: the group of each clip; None: 0.
        scheduler: address of a Dask scheduler whose workers do it; None: this process.
        progress: called with the number of clips done and the total.

    Returns:
        In the order of ``found``.

    Raises:
        BenchError: a clip is damaged, or a worker was killed.
    """
    each = list(zip(found, groups if groups is not None else [0] * len(found), strict=True))
    tasks = []
    for _, members in groupby(each, key=lambda one: one[0].path):
        mine = list(members)
        tasks.append(_Task(tuple(place for place, _ in mine), tuple(group for _, group in mine)))
    work = _Work(judge, reach)
    results: dict[str, Judged] = {}
    shared = share(tasks, work.open, _judged, _killed, built=work, scheduler=scheduler)
    with closing(shared) as done:
        for part in done:
            results |= {one.place.clip_id: one for one in part}
            progress(len(results), len(found))
    return [results[place.clip_id] for place in found]


def _judged(task: _Task, work: _Work) -> list[Judged]:
    path = task.places[0].path
    file = open_shard(path)
    found = []
    for place, group in zip(task.places, task.groups, strict=True):
        clip = read_clip(file, place.row, work.judge.columns)
        name = work.judge.names[group]
        try:
            offset, frames = work.judge.judge(clip, group, work.reach)
        except Unscorable as problem:
            found.append(Judged(place, None, reason=problem.reason, judge=name))
        except ValueError as error:
            raise BenchError(
                f"{path}, clip {clip.clip_id}: {error}; check it: bench inspect {path.parent.parent} --verify"
            ) from error
        else:
            found.append(Judged(place, offset, frames, offset.undecidable, name))
    return found


def _killed(task: _Task, reason: str) -> list[Judged]:
    raise BenchError(f"{task.places[0].path}: {reason}; run it again with fewer --workers")
