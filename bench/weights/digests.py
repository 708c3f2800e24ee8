"""SHA-256 digests of files: each file is hashed once, and a file without a known digest is trusted once."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.common.errors import Unavailable
from prep.weight_folders import writable

#: A file in every folder of weights: file name → SHA-256 of the file that was first used there.
TRUSTED = "trusted.json"
#: A file in a writable folder: path → size, times and SHA-256. It avoids hashing all files at every start.
MEMORY = ".digests.json"
_BLOCK = 1 << 20
#: Path, size, modification time (mtime) and change time (ctime) of a file, times in nanoseconds.
_Stamp = tuple[str, int, int, int]


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class Digests:
    """Cache of the digests of files, in this process and in a file that other processes read too.

    Args:
        settled: in seconds. A file that was changed more recently than this may change again without a new time stamp.
            Its digest is not cached.
        sha256: hashes a file.
    """

    def __init__(self, settled: float = 1.0, sha256: Callable[[Path], str] = file_sha256) -> None:
        self.settled = settled
        self._sha256 = sha256
        self._kept: dict[_Stamp, str] = {}

    def digest(self, path: Path, folder: Path | None, *, anew: bool = False) -> str:
        """Hex digest of a file. A file with unchanged size and times is not hashed again.

        Args:
            path: the file.
            folder: the writable folder of :data:`MEMORY`. None: the digest is cached in this process only.
            anew: hash the file in any case.

        Raises:
            OSError: the file cannot be read.
        """
        memory = None if folder is None else folder / MEMORY
        stamp = _stamp(path)
        if not anew and (found := self._kept.get(stamp) or _remembered(memory, stamp)):
            self._kept[stamp] = found
            return found
        digest = self._sha256(path)
        if _stamp(path) == stamp and time.time_ns() - max(stamp[2:]) > self.settled * 1e9:
            self._kept[stamp] = digest
            _remember(memory, stamp, digest)
        return digest


#: The cache of this process, shared by all stores.
SHARED = Digests()


def _stamp(path: Path) -> _Stamp:
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _remembered(memory: Path | None, stamp: _Stamp) -> str:
    row = _rows(memory).get(stamp[0]) if memory else None
    return str(row[3]) if isinstance(row, list) and len(row) == 4 and tuple(row[:3]) == stamp[1:] else ""


def _remember(memory: Path | None, stamp: _Stamp, digest: str) -> None:
    if memory is None:
        return
    # Two processes may overwrite each other's entry here; then a file is hashed once more.
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        rows = {path: row for path, row in _rows(memory).items() if is_file(Path(path))}
        _write_json(memory, {**rows, stamp[0]: [*stamp[1:], digest]})


def _rows(memory: Path) -> dict[str, Any]:
    try:
        return _read_json(memory)
    except (OSError, ValueError):  # It is only a cache: missing files are hashed again.
        return {}


@contextmanager
def temporary(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target``. The file is deleted afterwards unless it was renamed."""
    path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def trusted(path: Path, digest: str, *, replace: bool = False) -> str:
    """The recorded digest of a file for which the registry has none. At the first use, ``digest`` is recorded.

    Args:
        path: the file.
        digest: the digest of its content.
        replace: record ``digest`` even if another one is recorded.

    Returns:
        The recorded digest. In a folder that cannot be written, every use counts as the first one.

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


def is_file(path: Path) -> bool:
    """Whether the file exists and this user may see it."""
    try:
        return path.is_file()
    except PermissionError:  # The folder may not be entered.
        return False


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
