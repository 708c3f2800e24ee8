"""Lists of clips, for ``--clips``: written by ``bench offsets`` or by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from bench.common.errors import BenchError
from prep.names import composed

#: What a list of clips may look like, for messages.
FORMATS = "write one clip id per line, or CSV with the column `clip`"


def read_clips(path: Path) -> frozenset[str]:
    """The clips that a list names, in composed form (:func:`prep.names.composed`).

    Two formats are read: a ``.csv`` file with a column ``clip``, where lines with a false ``in_sync`` are skipped if
    that column exists; and text with one clip id per line.

    Raises:
        BenchError: the list is missing, names no clip, or has another format; the message names file and
            line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise BenchError(f"the list of clips {path} is missing: {FORMATS}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise BenchError(f"the list of clips {path} cannot be read: {reason}") from None
    if path.suffix.lower() == ".csv":
        clips = _from_csv(path, text)
    else:
        clips = {line.strip() for line in text.splitlines()} - {""}
    if not clips:
        raise BenchError(
            f"the list of clips {path} names no clip: {FORMATS} (lines with a false in_sync are skipped)"
        )
    return frozenset(map(composed, clips))


def _from_csv(path: Path, text: str) -> set[str]:
    reader = csv.DictReader(io.StringIO(text))
    clips = set()
    try:
        if "clip" not in (reader.fieldnames or ()):
            raise BenchError(f"{path}, line 1: no column clip: {FORMATS}")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if not row["clip"]:
                raise BenchError(f"{where}: no clip id: write one, or take the line out")
            # Spreadsheets and data frames write true in different ways.
            word = (row.get("in_sync") or "").lower() if "in_sync" in row else "true"
            if word not in ("true", "false"):
                raise BenchError(f"{where}: in_sync is {row['in_sync']!r}: write true or false")
            if word == "true":
                clips.add(row["clip"])
    except csv.Error as error:
        raise BenchError(f"{path}, line {reader.line_num}: {error}: it is not CSV") from None
    return clips
