"""Common functions of sources: walking a folder tree, reading split lists, choosing a split.

Listing must be fast for 150,000 clips on a network disk, so nothing here opens or stats a media file: one ``scandir``
per folder is enough.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from prep.errors import PrepError
from prep.media import suffix_of
from prep.names import by_composed, composed
from prep.sources.base import ClipRef

#: Splits that a list file ``<split>.txt`` in the root of a data set may define.
LISTED_SPLITS = ("train", "val", "test")


def require_folder(root: Path) -> None:
    """Raise ``PrepError`` unless ``root`` is a folder."""
    if not root.is_dir():
        raise PrepError(f"{root} is not a folder" if root.exists() else f"there is no folder {root}")


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of ``folder`` sorted by name, hidden ones (``.git``, ``._00001.mp4`` …) left out.

    Raises:
        PrepError: the folder cannot be read.
    """
    return sorted(_entries(folder), key=lambda entry: entry.name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.name[0] != "."]
    except OSError as error:
        raise PrepError(f"cannot read the folder {folder}: {error.strerror}") from error


def names_in(folder: Path) -> dict[str, str]:
    """The composed form of every name in ``folder`` → the name; empty if it does not exist.

    Raises:
        PrepError: the folder cannot be read, or two names differ only in their composition.
    """
    try:
        with os.scandir(folder) as entries:
            return by_composed((entry.name for entry in entries), folder)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise PrepError(f"cannot read the folder {folder}: {error.strerror}") from error


class RealNames:
    """Finds files below a folder whose names on disk may be composed in another way. Each folder is read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, dict[str, str]] = {"": names_in(root)}
        self._stems: dict[str, dict[str, dict[str, str]]] = {}

    def find(self, name: str) -> str | None:
        """The path on disk of the file or folder ``name``; both relative to the root, POSIX separators.

        Raises:
            PrepError: a folder cannot be read, or holds two names that differ only in their composition.
        """
        real = ""
        for part in composed(name).split("/"):
            if part in ("", "."):
                continue
            there = self._names(real).get(part)
            if there is None:
                return None
            real = f"{real}/{there}" if real else there
        return real or None

    def find_any(self, stem: str, suffixes: Iterable[str]) -> str | None:
        """The path on disk of ``stem`` with the first of ``suffixes`` that is there, in lower or upper case.

        Raises:
            PrepError: as :meth:`find`.
        """
        folder, _, last = composed(stem).rpartition("/")
        real = self.find(folder) if folder.strip("./") else ""
        if real is None:
            return None
        if real not in self._stems:
            stems: dict[str, dict[str, str]] = {}
            # Backwards, so that ``a.mp4`` comes before ``a.MP4``.
            for name, there in sorted(self._names(real).items(), reverse=True):
                stems.setdefault(name.rpartition(".")[0], {}).setdefault(suffix_of(name), there)
            self._stems[real] = stems
        here = self._stems[real].get(last, {})
        found = next((here[suffix] for suffix in suffixes if suffix in here), None)
        return found if found is None or not real else f"{real}/{found}"

    def _names(self, folder: str) -> dict[str, str]:
        if folder not in self._folders:
            self._folders[folder] = names_in(self.root / folder)
        return self._folders[folder]


def walk(root: Path, suffixes: frozenset[str]) -> list[str]:
    """Files below ``root`` with one of ``suffixes`` (given in lower case, without a dot), in upper case too.

    Hidden files and folders are skipped. Links are followed. A folder is entered once, with its real path if that
    is below ``root``, so circular links are no problem.

    Returns:
        Sorted paths relative to ``root``, POSIX separators.

    Raises:
        PrepError: a folder cannot be read.
    """
    found: list[str] = []
    entered: set[tuple[int, int]] = set()
    folders: list[str] = [""]
    links: list[str] = []
    while folders or links:
        prefix = folders.pop() if folders else links.pop(0)
        folder = root / prefix
        status = folder.stat()
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        inner = []
        for entry in _entries(folder):
            if entry.is_dir():
                inner.append(entry)
            elif suffix_of(entry.name) in suffixes and _may_be_opened(entry):
                found.append(prefix + entry.name)
        for entry in sorted(inner, key=lambda entry: entry.name):
            (links if entry.is_symlink() else folders).append(f"{prefix}{entry.name}/")
    return sorted(found)


def _may_be_opened(entry: os.DirEntry[str]) -> bool:
    # Opening a pipe would block forever. A broken link is kept: it becomes a failure row, and is not silently
    # missing.
    return entry.is_file() or (entry.is_symlink() and not Path(entry).exists())


def clip_ids(paths: Sequence[str]) -> list[str]:
    """The id of every path: the path without its suffix; if two paths would have the same id, both keep the
    suffix."""
    stems = [path.rpartition(".")[0] for path in paths]
    count = Counter(stems)
    count.update(paths)
    return [stem if count[stem] == 1 else path for stem, path in zip(stems, paths, strict=True)]


def shown(path: str) -> tuple[str, str]:
    """``path`` as it can be written to a shard, and a problem if that differs from the name on disk."""
    if path.isascii():
        return path, ""
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    return name, "" if name == path else "the name of the file is not valid UTF-8"


def file_clips(
    paths: Iterable[str],
    split: str,
    root: Path,
    *,
    still: bool = False,
    speaker: Callable[[str], str] = lambda name: "",
) -> list[ClipRef]:
    """One clip per file, named by ``clip_ids`` of its composed path below ``root``; ``speaker`` of that path speaks.

    Raises:
        PrepError: two paths differ only in their composition.
    """
    files = by_composed(paths, root)
    names = [shown(name)[0] for name in files]
    return [
        ClipRef(clip_id, split, source, speaker(name), still=still, problem=problem)
        for clip_id, name, (source, problem) in zip(
            clip_ids(names), names, map(shown, files.values()), strict=True
        )
    ]


def read_list(path: Path) -> list[str]:
    """Entries of a list file: one per line, whitespace stripped, empty lines ignored, CRLF and a BOM accepted.

    Returns:
        The entries in composed form (:func:`prep.names.composed`).

    Raises:
        PrepError: the file cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", "backslashreplace")
    except OSError as error:
        raise PrepError(f"cannot read the list {path}: {error.strerror}") from error
    return [line for line in map(str.strip, composed(text).split("\n")) if line]


def find_lists(folders: Iterable[Path], splits: Iterable[str] = LISTED_SPLITS) -> dict[str, Path]:
    """Map each of ``splits`` to its ``<split>.txt`` in the first of ``folders`` that has one."""
    found: dict[str, Path] = {}
    for folder in folders:
        for split in splits:
            if split not in found and (folder / f"{split}.txt").is_file():
                found[split] = folder / f"{split}.txt"
    return found


class Claims:
    """Which list names which clip. A duplicate in one list is harmless; in two lists it is a leak between
    splits."""

    def __init__(self) -> None:
        self._owner: dict[str, Path] = {}

    def claim(self, clip_id: str, path: Path) -> bool:
        """Return whether the clip is new; False if ``path`` has named it before.

        Raises:
            PrepError: another list has named it before.
        """
        owner = self._owner.get(clip_id)
        if owner not in (None, path):
            raise PrepError(f"{clip_id} is in {owner} and in {path}: take it out of one of them")
        self._owner[clip_id] = path
        return owner is None


def split_by_lists(
    clips: Iterable[ClipRef],
    lists: Mapping[str, Path],
    names: Callable[[ClipRef], Iterable[str]] = lambda clip: (clip.clip_id, clip.source),
) -> list[ClipRef]:
    """Give each clip the split whose list contains any of ``names(clip)``.

    Clips in no list are left out; a line that names no clip becomes a clip with a problem.

    Raises:
        PrepError: two lists name the same clip.
    """
    by_name: dict[str, list[ClipRef]] = {}
    for clip in clips:
        for name in dict.fromkeys(map(composed, names(clip))):
            by_name.setdefault(name, []).append(clip)
    chosen: list[ClipRef] = []
    claims = Claims()
    for split, path in lists.items():
        for line in read_list(path):
            entry = line.removeprefix("./")
            missing = ClipRef(
                entry, split, entry, problem=f"listed in {path.name}, but there is no such file"
            )
            for clip in by_name.get(entry, [missing]):
                if claims.claim(clip.clip_id, path):
                    chosen.append(replace(clip, split=split))
    return chosen


def choose(
    clips: Iterable[ClipRef], split: str | None, available: Iterable[str], root: Path
) -> list[ClipRef]:
    """Clips of ``split`` (all, for None), sorted by id.

    Raises:
        PrepError: ``split`` is not one of ``available``.
    """
    check_split(split, available, root)
    return sorted((c for c in clips if split in (None, c.split)), key=lambda clip: clip.clip_id)


def choose_files(clips: list[ClipRef], split: str | None, default: str, root: Path) -> list[ClipRef]:
    """Split the files of a tree by the lists in its root, if there are any, and choose a split.

    Raises:
        PrepError: the split does not exist, or a clip is in two lists.
    """
    lists = find_lists([root])
    if lists:
        clips = split_by_lists(clips, lists)
    return choose(clips, split, lists or [default], root)


def check_split(split: str | None, available: Iterable[str], root: Path) -> None:
    """Raise ``PrepError`` with the available splits, unless ``split`` is None or one of ``available``."""
    there = list(available)
    if split is not None and split not in there:
        raise PrepError(f"no split {split!r} in {root}: there is {', '.join(there) or 'none'}")
