"""Pretrained networks: the registry ``weights.toml``, and where its files lie on this machine.

A file is used only after its SHA-256 matched. Where no digest is publicly known, the first file used is trusted and
its digest recorded beside it; another file under that name is then refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.common.errors import BenchError, Unavailable
from prep.names import known

if TYPE_CHECKING:
    import torch

REGISTRY = Path(__file__).with_name("weights.toml")
#: In every folder of weights: file name → SHA-256 of what was first used there.
TRUSTED = "trusted.json"
#: In the first writable folder: path → size, times and SHA-256, so that files are not hashed at every start.
_DIGESTS = ".digests.json"
_BLOCK = 1 << 20
# A file changed less than this before it is hashed may change again without a new time stamp.
_SETTLED_NS = 1_000_000_000
_Stamp = tuple[str, int, int, int]
# Once a process, whatever the number of stores: (path, size, mtime, ctime) → SHA-256.
_hashed: dict[_Stamp, str] = {}


@dataclass(frozen=True)
class Entry:
    """One file of the registry.

    Attributes:
        name: as commands and specifications call it.
        file: name under which it lies in a folder of weights.
        urls: direct addresses, the official one first, then mirrors.
        sha256: hex digest, or ``""`` where none is publicly known.
        sha256_prefix: its first digits, where only these are known.
        size: bytes, or None.
        licence: of the weights, with a word on non-commercial terms.
        enables: what works once it is there: metric variants, losses, methods, detectors.
        page: where a person finds it.
        note: what else to know.
        member: name of the file in the archive, for those of ``urls`` that end in ``.zip``.
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

    @property
    def remedy(self) -> str:
        """The way to get it, in a few words."""
        if self.urls:
            return f"bench weights fetch {self.name}"
        return f"get it from {self.page} and run: bench weights import {self.name} FILE"

    @property
    def expected(self) -> str:
        """What the digest must begin with; ``""`` where nothing is known."""
        return self.sha256 or self.sha256_prefix


@dataclass(frozen=True)
class Checked:
    """One file that was found and hashed anew; ``problem`` is ``""`` where it is right."""

    name: str
    path: Path
    problem: str


@cache
def registry(path: Path = REGISTRY) -> Mapping[str, Entry]:
    """The entries of a registry file, by name.

    Raises:
        BenchError: the file is not such a registry.
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


def cache_folder() -> Path:
    """The folder of weights that is used unless another is named."""
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("talking-face-bench", appauthor=False)) / "weights"


def search_folders(weights_dir: Path | None = None) -> list[Path]:
    """``--weights-dir``, those of ``$BENCH_WEIGHTS`` (separated as in ``$PATH``), and the cache folder."""
    named = [weights_dir] if weights_dir else []
    environment = [Path(word) for word in os.environ.get("BENCH_WEIGHTS", "").split(os.pathsep) if word]
    return [*named, *environment, cache_folder()]


def hub_folder() -> Path:
    """Where torch hub keeps its checkpoints: ``$TORCH_HOME``, ``$XDG_CACHE_HOME/torch`` or ``~/.cache/torch``."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


class WeightStore:
    """Finds the files of a registry and vouches for them. Picklable; a worker checks its own machine's files.

    Args:
        entries: the registry.
        folders: searched in this order; the first that can be written takes new files.
        borrowed: folders of others, searched last and never written; only files with a known digest are taken.
    """

    def __init__(
        self, entries: Mapping[str, Entry], folders: Sequence[Path], borrowed: Sequence[Path] = ()
    ) -> None:
        self.entries = dict(entries)
        self.folders = tuple(dict.fromkeys(Path(folder).expanduser().absolute() for folder in folders))
        self.borrowed = tuple(Path(folder).expanduser().absolute() for folder in borrowed)

    @classmethod
    def default(cls, weights_dir: Path | None = None) -> WeightStore:
        """The suite's registry over :func:`search_folders`, and torch hub's folder as a borrowed one."""
        return cls(registry(), search_folders(weights_dir), [hub_folder()])

    def entry(self, name: str) -> Entry:
        """The entry of that name. Raises ``PrepError`` for an unknown one, proposing the nearest."""
        return self.entries[known("weights", [name], self.entries)[0]]

    def copies(self, name: str) -> list[Path]:
        """All files of that name, in the order of search; not hashed."""
        entry = self.entry(name)
        folders = [*self.folders, *(self.borrowed if entry.expected else ())]
        return [path for folder in folders if _is_file(path := folder / entry.file)]

    def path(self, name: str) -> Path:
        """The file, after its SHA-256 matched.

        It is hashed once a process, or not at all where it was hashed before and size and times are still the same.

        Raises:
            Unavailable: it is missing or is not the file of that name; the message says which command mends it.
        """
        return self._found(name)[0]

    def sha256(self, name: str) -> str:
        """Hex digest of the file that :meth:`path` gives. Raises the same."""
        return self._found(name)[1]

    def verify(self, names: Sequence[str] | None = None) -> list[Checked]:
        """Hash every copy of these entries anew; of all of them where ``names`` is None."""
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
        """The digest of a file that is to be taken for ``name``.

        Args:
            name: the entry.
            path: the file.
            anew: hash it even where that was done before.

        Raises:
            Unavailable: it is another file; the reason gives the first digits of both digests.
        """
        entry = self.entries[name]
        try:
            digest = self._digest(path, anew=anew)
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
        """The folder for new files; made where it is not there yet.

        Raises:
            BenchError: none can be written.
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

    def _digest(self, path: Path, *, anew: bool = False) -> str:
        stamp = _stamp(path)
        if not anew and (known_digest := _hashed.get(stamp) or self._remembered(stamp)):
            _hashed[stamp] = known_digest
            return known_digest
        digest = file_sha256(path)
        if _stamp(path) == stamp and time.time_ns() - max(stamp[2:]) > _SETTLED_NS:
            _hashed[stamp] = digest
            self._remember(stamp, digest)
        return digest

    def _memory(self) -> Path | None:
        return next((folder / _DIGESTS for folder in self.folders if writable(folder)), None)

    def _remembered(self, stamp: _Stamp) -> str:
        memory = self._memory()
        row = _digests(memory).get(stamp[0]) if memory else None
        return str(row[3]) if isinstance(row, list) and len(row) == 4 and tuple(row[:3]) == stamp[1:] else ""

    def _remember(self, stamp: _Stamp, digest: str) -> None:
        memory = self._memory()
        if memory is None:
            return
        # Two processes may lose each other's line here; then a file is hashed once more.
        with suppress(OSError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            rows = {path: row for path, row in _digests(memory).items() if _is_file(Path(path))}
            _write_json(memory, {**rows, stamp[0]: [*stamp[1:], digest]})


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, on the CPU, loaded without running any code that it may hold.

    A checkpoint of a training run is unwrapped: its ``state_dict`` is taken, and ``module.`` is dropped where every
    name begins so (PyTorch's DataParallel).

    Args:
        path: a ``.safetensors`` file, or one written by ``torch.save``.

    Raises:
        BenchError: it is damaged, or holds something else than tensors by name.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            loaded: Any = import_module("safetensors.torch").load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise BenchError(f"{path} needs the package safetensors: pip install safetensors") from error
    except Exception as error:  # torch.load raises nearly anything on foreign bytes.
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BenchError(f"{path} is not a file of tensors: {first}") from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        raise BenchError(f"{path} holds no state dict")
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise BenchError(f"{path} holds no state dict: {key} is not a tensor")
    parallel = all(key.startswith("module.") for key in loaded)
    return {key.removeprefix("module.") if parallel else key: value for key, value in loaded.items()}


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def writable(folder: Path) -> bool:
    """Whether files can be made in ``folder``, or it itself where it is not there yet."""
    for place in (folder, *folder.parents):
        if os.access(place, os.F_OK):
            return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return False


@contextmanager
def temporary(target: Path) -> Iterator[Path]:
    """A name beside ``target`` for a file in the making, which is gone afterwards unless it was renamed."""
    path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def trusted(path: Path, digest: str, *, replace: bool = False) -> str:
    """The digest recorded for a file without a known one; ``digest`` becomes it at the first use.

    Args:
        path: the file.
        digest: its own.
        replace: record ``digest`` also in place of another.

    Returns:
        The recorded digest. Where the folder cannot be written, every use is a first one.

    Raises:
        Unavailable: the record is damaged or cannot be written.
    """
    record = path.with_name(TRUSTED)
    if not replace and (first := _trust(record).get(path.name)):
        return str(first)
    if not writable(path.parent):
        return digest
    try:
        with path.with_name(f".{TRUSTED}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            rows = _trust(record)
            if replace or path.name not in rows:
                rows[path.name] = digest
                _write_json(record, rows)
            return str(rows[path.name])
    except OSError as error:
        raise Unavailable(f"{record} cannot be written: {error.strerror}") from error


def _trust(record: Path) -> dict[str, Any]:
    try:
        return _read_json(record)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = f"{record} is damaged"
        raise Unavailable(reason, "delete it, if the files beside it are the right ones") from error


def _digests(memory: Path) -> dict[str, Any]:
    try:
        return _read_json(memory)
    except (OSError, ValueError):  # It is only a memory: what it does not know is hashed again.
        return {}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:  # In a folder that may not be entered.
        return False


def _stamp(path: Path) -> _Stamp:
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _read_json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no object")
    return found


def _write_json(path: Path, rows: Mapping[str, Any]) -> None:
    with temporary(path) as made:
        with made.open("w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
