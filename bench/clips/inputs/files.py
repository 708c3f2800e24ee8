"""Videos in a folder, found by name; or one video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.common.errors import BenchError
from prep.media import VIDEO_SUFFIXES, suffix_of
from prep.names import composed
from prep.sources.listing import require_folder, shown, walk


@dataclass(frozen=True)
class VideoFolder:
    """The videos below a folder, or one video.

    Attributes:
        path: the folder.
        files: name of a clip → file, relative to ``path``. A name is the file's path without its suffix, with POSIX
            separators and in Unicode's composed form (NFC), since file systems use different forms.
        given: the folder or the file, as it was given.
    """

    path: Path
    files: dict[str, str]
    given: Path

    @classmethod
    def scan(cls, path: Path) -> VideoFolder:
        """Find the videos below ``path``; hidden files and folders are skipped, links are followed. A file is a video
        by itself. A GIF beside another video of its name is taken for a preview of that.

        Raises:
            BenchError: the names of two videos differ only in the suffix.
            PrepError: there is no such folder, or it cannot be read.
        """
        if path.is_file():
            return cls(
                path.parent, {composed(shown(path.name)[0].rpartition(".")[0] or path.name): path.name}, path
            )
        require_folder(path)
        files: dict[str, str] = {}
        for file in walk(path, VIDEO_SUFFIXES):
            name = composed(shown(file)[0].rpartition(".")[0])
            if name in files and suffix_of(file) == "gif":
                continue
            if name in files and suffix_of(files[name]) != "gif":
                raise BenchError(
                    f"{path} holds two videos of one clip, {shown(files[name])[0]} and {shown(file)[0]}: remove one"
                )
            files[name] = file
        return cls(path, files, path)

    @property
    def single(self) -> bool:
        """Whether a file was given, and not a folder."""
        return self.given != self.path

    def file(self, name: str) -> Path:
        """Absolute path of a clip's video, for processes with another working directory."""
        return (self.path / self.files[name]).absolute()

    def match(self, wanted: Iterable[str]) -> dict[str, str]:
        """Pair clips with videos.

        First by the whole name. The rest is paired by the last part of the name, if that part is unique among the
        remaining clips and among the remaining videos.

        Args:
            wanted: names of clips.

        Returns:
            clip → name in :attr:`files`.
        """
        keys = {clip: composed(clip) for clip in wanted}
        found = {clip: name for clip, name in keys.items() if name in self.files}
        taken = set(found.values())
        here = _by_last_part({name: name for name in self.files})
        for last, clip in _by_last_part(keys).items():
            if clip not in found and last in here and here[last] not in taken:
                found[clip] = here[last]
        return found

    def rest(self, taken: Iterable[str]) -> tuple[str, ...]:
        """The files of all other names than ``taken``, as they can be shown, sorted by name."""
        return tuple(shown(self.files[name])[0] for name in sorted(self.files.keys() - set(taken)))

    def examples(self) -> str:
        """Two names, for messages."""
        return some(self.files)


def some(names: Iterable[str], count: int = 2) -> str:
    """The first names in order, for messages; ``no videos`` where there are none."""
    first = sorted(names)
    more = " …" if len(first) > count else ""
    return ", ".join(first[:count]) + more if first else "no videos"


def _by_last_part(names: Mapping[str, str]) -> dict[str, str]:
    """Last part of a value → its key, for last parts that only one value has."""
    lasts = {owner: name.rpartition("/")[2] for owner, name in names.items()}
    count = Counter(lasts.values())
    return {last: owner for owner, last in lasts.items() if count[last] == 1}
