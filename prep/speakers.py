"""Who speaks in a clip."""

from __future__ import annotations

from pathlib import PurePosixPath


def speaker_of(clip_id: str, named: str) -> str:
    """Whom a clip shows.

    Args:
        clip_id: its id.
        named: the speaker that the corpus names, or ``""``.

    Returns:
        That name; without one, the name of the folder in the clip's id; without a folder, the whole id: the clip is a
        speaker of its own.
    """
    return named or PurePosixPath(clip_id).parent.name or clip_id
