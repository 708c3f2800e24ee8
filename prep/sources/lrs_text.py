"""The text files beside the clips of LRS2 and LRS3.

LRS2::

    Text:  WHEN YOU'RE COOKING CHIPS AT HOME
    Conf:  4

    WORD START END ASDSCORE          (pretrain only)
    WHEN 0.00 0.32 9.1

LRS3::

    Text:  ...
    Conf:  4
    Ref:   0af00UcTOSc

    FRAME   X       Y       W       H
    000110  0.421   0.219   0.153   0.272

    WORD START END
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Largest number of bytes read. The longest real file has some hundred kilobytes; a video renamed to .txt must not
#: fill #: the memory.
_MOST_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Word:
    """A spoken word; ``start`` and ``stop`` in seconds from the clip's start, ``score`` from the corpus."""

    text: str
    start: float
    stop: float
    score: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LrsText:
    """The content of a text file; missing fields are empty.

    Attributes:
        text: the transcript, in upper case without punctuation as in the corpora.
        confidence: of the transcript, from the corpora (higher is better), or None.
        ref: YouTube id of the source (LRS3).
        boxes: (n, 5) float64: frame number at 25 fps in the *YouTube video*, then x, y, width, height of the
            face as fractions of that video's frame (LRS3). Not positions in the clip, which is a crop of it.
        words: timed words.
    """

    text: str = ""
    confidence: float | None = None
    ref: str = ""
    boxes: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 5)))
    words: tuple[Word, ...] = ()


def read_lrs_text(path: Path) -> LrsText:
    """Read a text file of LRS2 or LRS3; unexpected content is ignored and never an error.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return parse_lrs_text(file.read(_MOST_BYTES).decode("utf-8-sig", "replace"))


def parse_lrs_text(content: str) -> LrsText:
    """Parse the content of such a file; unknown lines are ignored."""
    header: dict[str, str] = {}
    boxes: list[list[float]] = []
    words: list[Word] = []
    table = ""
    for line in content.splitlines():
        fields = line.split()
        if fields == ["FRAME", "X", "Y", "W", "H"]:
            table = "boxes"
        elif fields[:3] == ["WORD", "START", "END"]:
            table = "words"
        elif table == "boxes":
            row = _numbers(fields)
            if len(row) == 5:
                boxes.append(row)
        elif table == "words":
            times = _numbers(fields[1:])
            if len(times) in (2, 3):
                words.append(Word(fields[0], *times))
        else:
            key, colon, value = line.partition(":")
            if colon:
                header.setdefault(key.strip().lower(), " ".join(value.split()))
    confidence = _numbers([header.get("conf", "")])
    return LrsText(
        text=header.get("text", ""),
        confidence=confidence[0] if confidence else None,
        ref=header.get("ref", ""),
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 5),
        words=tuple(words),
    )


def _numbers(fields: list[str]) -> list[float]:
    """The fields as finite numbers, or an empty list if one of them is not."""
    try:
        numbers = [float(value) for value in fields]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
