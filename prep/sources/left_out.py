"""Media files of a corpus that no clip uses: counted, so that nothing vanishes without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from prep.media import IMAGE_SUFFIXES, MEDIA_SUFFIXES, VIDEO_SUFFIXES, suffix_of
from prep.sources.base import ClipRef
from prep.sources.listing import find_lists, shown, walk


def left_out(root: Path, clips: Iterable[ClipRef]) -> dict[str, int]:
    """How many media files below ``root`` are neither the video, picture nor sound of a clip.

    Args:
        root: of the corpus.
        clips: all clips of the corpus.

    Returns:
        Suffix, in lower case without its dot → number of files; the most frequent suffix first.

    Raises:
        PrepError: a folder cannot be read.
    """
    used = {path for clip in clips for path in (clip.source, clip.sound)}
    paths = walk(root, MEDIA_SUFFIXES)
    count = Counter(suffix_of(path) for path in paths if path not in used and shown(path)[0] not in used)
    return dict(sorted(count.items(), key=lambda item: (-item[1], item[0])))


def there_is(root: Path) -> str:
    """The media files below ``root`` in words, for a corpus without clips. Raises PrepError as :func:`left_out`."""
    return f"there is {_by_suffix(left_out(root, [])) or 'no media file'}"


def in_words(count: Mapping[str, int], root: Path, clips: Iterable[ClipRef]) -> list[str]:
    """One line for files that could be read, such as ``12 videos are in no list``, and one for all others."""
    still = any(clip.still for clip in clips)
    readable = IMAGE_SUFFIXES if still else VIDEO_SUFFIXES
    unlisted = {suffix: n for suffix, n in count.items() if suffix in readable}
    rest = {suffix: n for suffix, n in count.items() if suffix not in readable}
    lines = []
    if unlisted:
        total = sum(unlisted.values())
        what = ("picture" if still else "video") + ("s are" if total > 1 else " is")
        lists = ", ".join(path.name for path in find_lists([root]).values())
        where = f"in no list ({lists})" if lists else "part of no clip"
        lines.append(f"left out: {total:,} {what} {where}: {_by_suffix(unlisted)}")
    if rest:
        lines.append(f"left out: {_by_suffix(rest)}")
    return lines


def _by_suffix(count: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} .{suffix}" for suffix, n in count.items())
