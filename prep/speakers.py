"""The speaker of a clip."""

from __future__ import annotations

from pathlib import PurePosixPath


def speaker_of(clip_id: str, named: str) -> str:
    """The name of the speaker of a clip.

    Args:
        clip_id: its id.
        named: the speaker given by the corpus, or ``""``.

    Returns:
        ``named``; if empty, the name of the folder in the clip's id; without a folder, the whole id, so the clip counts
        as a separate speaker.
    """
    return named or PurePosixPath(clip_id).parent.name or clip_id
