"""The output of a source: references to clips on disk, before any file is opened."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class ClipRef:
    """One continuous span of one source file, as listed; nothing is read from the media file itself.

    Attributes:
        clip_id: unique within the data set, ``speaker/clip`` style, POSIX separators.
        split: ``train``, ``val``, ``test`` or ``pretrain``.
        source: the media file, relative to the root of the data set, POSIX separators.
        sound: a sound file of its own, relative to the root, POSIX separators, or ``""`` for the sound of ``source``.
            Its time zero is the video's first frame.
        speaker: identity, or ``""`` if the corpus does not give it.
        start: seconds from the video's first frame.
        stop: seconds from the video's first frame, or None for the end of the file.
        still: the source is an image; the row has one frame and no sound.
        crop: ``(x, y, width, height)`` in source pixels, applied before anything else, or None.
        size: side in pixels to which a (square) crop is resized, or None.
        height: the height in pixels that the source must have for ``crop`` or ``landmarks68`` to be right, or
            None.
        text_file: a file in the LRS format (``Text:``, ``Conf:`` …), relative to the root, or ``""``.
        aligned: of a still: it is already aligned by FFHQ's rule.
        landmarks68: 136 values x0, y0, x1, y1 … in source pixels delivered by the corpus, or None.
        cuts: what becomes of a clip with cuts in it: ``split``, a row for each shot; or ``refuse``, a failure, where
            the corpus's own ids say which clips there are.
        problem: why the clip cannot be used, if the listing already shows it (a missing file …), or ``""``.
    """

    clip_id: str
    split: str
    source: str
    speaker: str = ""
    start: float = 0.0
    stop: float | None = None
    still: bool = False
    crop: tuple[int, int, int, int] | None = None
    size: int | None = None
    height: int | None = None
    text_file: str = ""
    aligned: bool = False
    landmarks68: tuple[float, ...] | None = field(default=None, repr=False)
    problem: str = ""
    sound: str = ""
    cuts: Literal["split", "refuse"] = "split"


class Source(Protocol):
    """A corpus layout: turns the files on disk into a list of clips."""

    #: One line for ``bench ls sources``.
    summary: str
    #: Views that this corpus is usually wanted in.
    default_views: tuple[str, ...]

    def list_clips(self, root: Path, split: str | None = None) -> Iterable[ClipRef]:
        """List the clips under ``root``, of one split or of all, without opening any media file.

        Raises:
            PrepError: the folder does not contain this corpus; the message names the expected files.
        """
        ...
