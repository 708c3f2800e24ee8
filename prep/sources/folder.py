"""Any folder tree of videos."""

from __future__ import annotations

import sys
from pathlib import Path

from prep.errors import PrepError
from prep.media import VIDEO_SUFFIXES
from prep.sources.base import ClipRef
from prep.sources.left_out import there_is
from prep.sources.listing import choose_files, file_clips, require_folder, walk


class Folder:
    """Every video below the root, with any name.

    ``clip_id`` is the path below the root without its suffix; if both ``a.mov`` and ``a.mp4`` exist, they keep it. All
    videos are ``test``, unless the root contains ``train.txt``, ``val.txt`` or ``test.txt``: a line is a path below the
    root, with or without its suffix, and videos in no list are not used. Hidden files and folders are skipped, links
    are followed. ``speaker`` is the folder directly below the root; a file there is a speaker of its own, with the name
    of the file.
    """

    summary = "any tree of videos; all test, or split by train.txt, val.txt, test.txt with one path a line"
    default_views = ("box128", "face96")

    def list_clips(self, root: Path, split: str | None = None) -> list[ClipRef]:
        """List the videos. A line of a list that names no video becomes a clip with a ``problem``.

        Raises:
            PrepError: there is no video, the split does not exist, or a clip is in two lists.
        """
        require_folder(root)
        clips = file_clips(walk(root, VIDEO_SUFFIXES), "test", root, speaker=_speaker)
        if not clips:
            raise PrepError(f"no video in {root} and its folders: {there_is(root)}")
        return choose_files(clips, split, "test", root)


def _speaker(path: str) -> str:
    first, slash, _ = path.partition("/")
    # One object for all clips of a speaker.
    return sys.intern(first if slash else first.rpartition(".")[0])
