"""The listing of a corpus with all that can be asked of it: new splits, separate sound, what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prep.sources import get_source
from prep.sources.base import ClipRef
from prep.sources.holdout import Holdout, hold_out
from prep.sources.left_out import in_words, left_out
from prep.sources.listing import check_split, require_folder
from prep.sources.separate_sound import with_sound


@dataclass(frozen=True)
class Gathered:
    """The clips of a corpus.

    Attributes:
        clips: as listed.
        record: for the manifest: ``clips``, how many the corpus has; ``left_out`` (suffix → number of media files that
            no clip uses); and what was asked for: ``holdout`` (:func:`prep.sources.holdout.hold_out`), ``split``,
            ``sound_root``.
        notes: the same in words, for people.
    """

    clips: list[ClipRef]
    record: dict[str, Any]
    notes: list[str]


def gather(
    source: str,
    root: Path,
    split: str | None = None,
    *,
    holdout: Holdout | None = None,
    sound_root: Path | None = None,
) -> Gathered:
    """List the clips of a corpus.

    Args:
        source: its layout, a name in :data:`prep.sources.SOURCES`.
        root: its folder.
        split: only this split; None: all.
        holdout: make splits; None: those of the corpus.
        sound_root: folder with a sound file for every video, see :func:`prep.sources.separate_sound.with_sound`; None:
            as the layout says, most often the sound in the videos.

    Raises:
        PrepError: the folder does not contain this corpus, the split does not exist, the corpus has splits or too few
            clips for ``holdout``, or there is no folder ``sound_root``.
    """
    corpus = get_source(source)
    require_folder(root)
    record: dict[str, Any] = {}
    clips = list(corpus.list_clips(root, None if holdout else split))
    # What is left out is what no split uses.
    every = clips if holdout or split is None else list(corpus.list_clips(root))
    if holdout is not None:
        every, record["holdout"] = hold_out(clips, root, holdout)
        check_split(split, sorted({clip.split for clip in every}), root)
    if split is not None:
        record["split"] = split
    if sound_root is not None:
        every = with_sound(every, root, sound_root)
        record["sound_root"] = str(sound_root.resolve())
    record |= {"clips": len(every), "left_out": left_out(root, every)}
    notes = [*_split_in_words(record), *in_words(record["left_out"], root, every)]
    return Gathered([clip for clip in every if split in (None, clip.split)], record, notes)


def _split_in_words(record: dict[str, Any]) -> list[str]:
    if "holdout" not in record:
        return []
    made = record["holdout"]
    counts = ", ".join(f"{split} {n:,}" for split, n in reversed(made["units"].items()))
    lines = [f"held out by {made['by']}, seed {made['seed']}: {made['by']}s: {counts}"]
    if made["by"] == "clip":
        lines.append(
            "there are too few speakers to hold out by speaker: figures will be of people seen in training. "
            "A speaker is a folder directly below the root, or a file there"
        )
    return lines
