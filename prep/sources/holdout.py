"""Splits for a corpus that has none: some speakers are held out of training, for validation and for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prep.errors import PrepError
from prep.sources.base import ClipRef
from prep.sources.listing import find_lists
from prep.speakers import speaker_of


@dataclass(frozen=True)
class Holdout:
    """How a corpus without splits is split.

    Attributes:
        share: of the speakers, above 0 and below 0.5: about this share is held out for each new split.
        seed: any integer; another seed holds out other speakers.
    """

    share: float
    seed: int = 0


def read_share(text: str) -> float:
    """The number of ``10%`` or ``0.1``.

    Raises:
        PrepError: it is none, or not above 0 and below a half.
    """
    number, percent, _ = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 0.5:
        raise PrepError(
            f"--holdout {text} is not a share above 0 and below a half, for validation and as much for tests: "
            "write 10% or 0.1"
        )
    return share


def can_hold_out(splits: Collection[str], root: Path) -> bool:
    """Whether :func:`hold_out` makes splits for a corpus in ``root`` whose clips have ``splits``."""
    return not find_lists([root]) and (len(splits) == 1 or set(splits) == {"train", "test"})


def hold_out(clips: Sequence[ClipRef], root: Path, holdout: Holdout) -> tuple[list[ClipRef], dict[str, Any]]:
    """Give clips the splits that the corpus lacks.

    A corpus whose clips all have one split gets ``train``, ``val`` and ``test``; one with ``train`` and ``test`` gets
    ``val`` out of ``train``. No speaker is in two splits. The split of a speaker depends on the seed and the speaker's
    name only: SHA-256 of ``<seed>\\0<name>`` as a number from 0 to 1 is below the share for ``test``, below twice the
    share for ``val``. So more videos do not move the speakers that were there before. If a split stays empty, it gets
    the speaker whose number comes nearest. With fewer speakers than splits, clips are divided in the same way.

    Args:
        clips: all clips of the corpus.
        root: its folder.
        holdout: how many to hold out.

    Returns:
        The clips in their order, and a record for the manifest: ``share``, ``seed``, ``by`` (``speaker`` or ``clip``)
        and ``units``, the number of those in each split.

    Raises:
        PrepError: the corpus has splits, or too few clips.
    """
    pool, splits = _places(clips, root)
    names = {clip.clip_id: speaker_of(clip.clip_id, clip.speaker) for clip in clips if clip.split == pool}
    by = "speaker"
    if len(set(names.values())) < len(splits):
        by, names = "clip", {clip_id: clip_id for clip_id in names}
    units = _divide(
        {name: _number(holdout.seed, name) for name in set(names.values())}, holdout.share, splits
    )
    chosen = [
        replace(clip, split=units[names[clip.clip_id]]) if clip.split == pool else clip for clip in clips
    ]
    counts = {split: sum(found == split for found in units.values()) for split in splits}
    return chosen, {"share": holdout.share, "seed": holdout.seed, "by": by, "units": counts}


def _places(clips: Sequence[ClipRef], root: Path) -> tuple[str, Sequence[str]]:
    """The split to take speakers from, and those that they are given: the ones to hold out first, then ``train``."""
    splits: Sequence[str]
    lists = find_lists([root])
    if lists:
        names = ", ".join(path.name for path in lists.values())
        raise PrepError(f"{root} has lists of its splits ({names}): leave --holdout out, or move them away")
    there = {clip.split for clip in clips}
    if not can_hold_out(there, root):
        raise PrepError(f"{root} has the splits {', '.join(sorted(there))}: leave --holdout out")
    pool, splits = next(iter(there)), ("test", "val", "train")
    if len(there) > 1:
        pool, splits = "train", ("val", "train")
    count = sum(clip.split == pool for clip in clips)
    if count < len(splits):
        raise PrepError(
            f"{root} has too few videos for --holdout ({count}): {len(splits)} at least, one each for "
            f"{', '.join(reversed(splits))}. Cut a long video into several files; or prepare it without --holdout and "
            "train on one person with `bench train METHOD --per speaker`, which holds out the end of the video"
        )
    return pool, splits


def _number(seed: int, name: str) -> float:
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def _divide(numbers: Mapping[str, float], share: float, splits: Sequence[str]) -> dict[str, str]:
    """The split of every name; none of ``splits`` is empty."""
    rest = splits[-1]
    found = {name: splits[min(int(number / share), len(splits) - 1)] for name, number in numbers.items()}
    for split in splits:
        if split in found.values():
            continue
        # From the largest split: the lowest number to hold out, the highest number to train on.
        sizes = {other: sum(value == other for value in found.values()) for other in splits}
        donor = max(splits, key=lambda other: (sizes[other], other == rest))
        members = sorted((numbers[name], name) for name, value in found.items() if value == donor)
        found[members[-1 if split == rest else 0][1]] = split
    return found
