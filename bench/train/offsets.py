"""Finds the clips of a data set whose sound is in sync, with a trained sync expert.

Clips out of sync are useless for training an expert; a partly trained expert can find them. ``bench offsets`` writes
one CSV line per clip; ``bench train --clips`` reads this list (:mod:`bench.clips.clip_lists`).
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from baselines.sync_expert.network import FRAMES, SOUND
from baselines.sync_expert.offsets import Offset, embed_lips, embed_sounds, find_offset
from bench.common.errors import BenchError, Unscorable
from bench.train.inputs import check_view
from prep.dataset import split_shards
from prep.planes import decode_planes
from prep.shards import AtomicFile, open_shard, read_clip, shard_paths
from prep.sound.features import chunk, valid_frames
from prep.sound.mel import RATE
from prep.views import VIEWS

if TYPE_CHECKING:
    from baselines.sync_expert.network import SyncNet
    from prep.schema import Clip

#: Columns of the list. ``offset``: by how many frames the sound is late. ``reason``: why there is no offset.
COLUMNS = ("clip", "split", "offset", "cosine", "confidence", "in_sync", "reason")
VIEW = "face96"
#: If at least this share of the confident clips has the same offset, it counts as the offset of the whole data set.
_CONSTANT = 0.5


@dataclass(frozen=True)
class Rule:
    """When a clip is in sync.

    Attributes:
        reach: largest shift of the sound that is tried, in frames, in both directions.
        most: largest absolute offset of a clip in sync, in frames.
        confidence: smallest confidence of the expert for a clip in sync.
    """

    reach: int = 15
    most: int = 1
    confidence: float = 0.05


@dataclass
class Summary:
    """Counts of the results for all clips.

    Attributes:
        rule: by which they were judged.
        counts: split → what (``clips``, ``in sync``, ``off``, ``unsure``, ``not judged``) → number of clips.
        offsets: offset → number of clips in which the expert is confident, whether in sync or not.
        reasons: why a clip was not judged → number of clips.
    """

    rule: Rule
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    offsets: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, split: str, found: Offset | str) -> None:
        """Count a clip: its offset, or why there is none."""
        counts = self.counts.setdefault(split, Counter())
        counts["clips"] += 1
        if isinstance(found, str):
            counts["not judged"] += 1
            self.reasons[found] += 1
        elif found.confidence < self.rule.confidence:
            counts["unsure"] += 1
        else:
            self.offsets[found.frames] += 1
            counts["in sync" if abs(found.frames) <= self.rule.most else "off"] += 1

    def constant(self) -> int | None:
        """The offset of the whole data set, if most confident clips have the same offset and it is not in sync."""
        for offset, count in self.offsets.most_common(1):
            if abs(offset) > self.rule.most and count >= _CONSTANT * self.offsets.total():
                return offset
        return None


def judge(expert: SyncNet, clip: Clip, reach: int = 15) -> Offset:
    """The offset of a clip, from the windows in which every frame shows a face.

    Args:
        expert: in evaluation mode, for the view ``face96``.
        clip: with its crops of that view and its mel spectrogram.
        reach: largest shift of the sound that is tried, in frames, in both directions.

    Raises:
        Unscorable: no sound, no window, or sound for less than half of the windows.
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
    lips, starts = [], []
    for run in runs:
        encoded = [picture for t in run if (picture := pictures[t]) is not None]
        lips.append(embed_lips(expert, torch.from_numpy(decode_planes(encoded, view.width, view.height))))
        starts.append(torch.arange(run.start, run.stop - FRAMES + 1))
    chunks = np.stack([chunk(clip.mel, frame, SOUND, RATE) for frame in heard])
    try:
        return find_offset(
            torch.cat(lips), embed_sounds(expert, torch.from_numpy(chunks)), reach, torch.cat(starts)
        )
    except ValueError:
        raise Unscorable("sound for less than half of the windows") from None


def _runs(detected: Sequence[bool]) -> list[range]:
    """Runs of frames with a face that are long enough for a window."""
    runs, begin = [], 0
    for t, there in enumerate([*detected, False]):
        if not there:
            if t - begin >= FRAMES:
                runs.append(range(begin, t))
            begin = t + 1
    return runs


def write_offsets(
    data: Sequence[Path],
    out: Path,
    expert: SyncNet,
    *,
    splits: Sequence[str] = (),
    rule: Rule | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Judge every clip of prepared data sets, one in memory at a time, and write the list, atomically.

    Args:
        data: prepared data sets.
        out: the list, CSV with :data:`COLUMNS`; an existing file is replaced.
        expert: in evaluation mode, for the view ``face96``.
        splits: to judge; empty: all.
        rule: when a clip is in sync.
        progress: called with the number of clips done and the total.

    Raises:
        BenchError: a data set lacks the view, two data sets have a clip of the same id, a clip is damaged, or ``out``
            cannot be written.
        PrepError: a folder is not a data set, or lacks the splits.
    """
    summary = Summary(rule or Rule())
    try:
        with AtomicFile(out) as sink:
            sink.write(_line(COLUMNS))
            for clip, found in _judged(data, splits, expert, summary.rule.reach, progress):
                sink.write(_row(clip, found, summary.rule))
                summary.add(clip.split, found)
            sink.commit()
    except OSError as error:
        raise BenchError(f"{out} cannot be written: {error.strerror}") from error
    return summary


def _judged(
    data: Sequence[Path],
    splits: Sequence[str],
    expert: SyncNet,
    reach: int,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[Clip, Offset | str]]:
    """Clips, and their offsets or why there is none."""
    paths = (
        split_shards(data, splits) if splits else [path for folder in data for path in shard_paths(folder)]
    )
    for folder in sorted({path.parent.parent for path in paths}):
        check_view(folder, VIEW, "which the expert needs")
    total = sum(open_shard(path).metadata.num_rows for path in paths)
    seen: dict[str, Path] = {}
    for path in paths:
        file = open_shard(path)
        for group in range(file.num_row_groups):
            clip = read_clip(file, group, [VIEW, "mel"])
            if clip.clip_id in seen:
                raise BenchError(
                    f"{clip.clip_id} is in {seen[clip.clip_id]} and in {path}: the list could not distinguish them; "
                    "make one of each data set"
                )
            seen[clip.clip_id] = path
            try:
                found: Offset | str = judge(expert, clip, reach)
            except Unscorable as problem:
                found = problem.reason
            except ValueError as error:
                raise BenchError(
                    f"{path}, clip {clip.clip_id}: {error}; check it: bench inspect {path.parent.parent} --verify"
                ) from error
            yield clip, found
            progress(len(seen), total)


def _row(clip: Clip, found: Offset | str, rule: Rule) -> bytes:
    if isinstance(found, str):
        return _line((clip.clip_id, clip.split, "", "", "", "false", found))
    in_sync = "true" if found.in_sync(rule.most, rule.confidence) else "false"
    figures = (found.frames, f"{found.cosine:.4f}", f"{found.confidence:.4f}")
    return _line((clip.clip_id, clip.split, *figures, in_sync, ""))


def _line(values: Sequence[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
