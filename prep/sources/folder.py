"""Any tree of videos."""

from __future__ import annotations

from pathlib import Path

from prep.errors import PrepError
from prep.sources.base import ClipRef
from prep.sources.listing import VIDEO_SUFFIXES, choose_files, file_clips, require_folder, walk


class Folder:
    """Every video below the root, whatever its name.

    ``clip_id`` is the path below the root without its suffix; ``a.mov`` and ``a.mp4`` side by side keep it.
    All is ``test``, unless ``train.txt``, ``val.txt`` or ``test.txt`` in the root say otherwise: a line is a
    path below the root, with or without its suffix, and what no list names is not used. Hidden files and
    folders are skipped, links are followed.
    """

    summary = "any tree of videos; all test, or split by train.txt, val.txt, test.txt with one path a line"
    default_views = ("box128", "face96")

    def list_clips(self, root: Path, split: str | None = None) -> list[ClipRef]:
        """List the videos; a list's line that names none of them becomes a clip with a ``problem``.

        Raises:
            PrepError: no video there, a split that is not there, or a clip in two lists.
        """
        require_folder(root)
        clips = file_clips(walk(root, VIDEO_SUFFIXES), "test")
        if not clips:
            raise PrepError(
                f"no video in {root}: looked for {', '.join(sorted(VIDEO_SUFFIXES))}, in all its folders"
            )
        return choose_files(clips, split, "test", root)
