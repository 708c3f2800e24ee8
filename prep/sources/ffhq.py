"""FFHQ (Karras et al., "A style-based generator architecture for generative adversarial networks", 2019).

Layout::

    images1024x1024/00000/00000.png … 69000/69999.png      aligned by FFHQ's rule
    ffhq-dataset-v2.json                                   split and 68 landmarks of every image, 255 MB

The thumbnails and the in-the-wild images are not used. Any other folder tree of images is listed without metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from prep.errors import PrepError
from prep.media import IMAGE_SUFFIXES
from prep.sources.base import ClipRef
from prep.sources.left_out import there_is
from prep.sources.listing import choose, choose_files, file_clips, require_folder, walk

_METADATA = "ffhq-dataset-v2.json"
_IMAGES = "images1024x1024"
_SIDE = 1024
#: The README of the data set: the first 60,000 images are for training, the remaining 10,000 for validation.
_N_TRAIN = 60_000
_SPLITS = {"training": "train", "validation": "val"}

#: Characters read at once, and the longest accepted entry; a real one has 4,000.
_CHUNK = 1 << 20
_LARGEST = 1 << 22
_BLANK = re.compile(r"\s*")
_NUMBERED = re.compile(r"(?:.*/)?(\d{5})\.[^/.]+")


class Ffhq:
    """Stills: one row and one frame per image; ``clip_id`` is ``00000/00000``, or a path in another tree.

    With the metadata, its entries are used, even if an image is missing. Without it, the images on disk are used, with
    splits by number as in the README of FFHQ. In another tree all images are ``train``, unless the root contains
    ``train.txt``, ``val.txt`` or ``test.txt``: a line is a path below the root, with or without its suffix, and images
    in no list are not used. Hidden files and folders are skipped.
    """

    summary = (
        "FFHQ: images1024x1024 with ffhq-dataset-v2.json (official split, landmarks), or any tree of images"
    )
    default_views = ("aligned512",)

    def list_clips(self, root: Path, split: str | None = None) -> list[ClipRef]:
        """List the images. An image in the metadata or a list that is not on disk has a ``problem``.

        Raises:
            PrepError: there is no image, the metadata cannot be read, or the split does not exist.
        """
        require_folder(root)
        folder = f"{_IMAGES}/" if (root / _IMAGES).is_dir() else ""
        if folder or root.resolve().name == _IMAGES:
            return choose(_official(root, folder), split, ["train", "val"], root)
        if (root / _METADATA).is_file():
            raise PrepError(f"{root} holds {_METADATA}, but no folder {_IMAGES}")
        clips = file_clips(walk(root, IMAGE_SUFFIXES), "train", root, still=True)
        if not clips:
            raise PrepError(f"no image in {root} and its folders, neither {_IMAGES}: {there_is(root)}")
        return choose_files(clips, split, "train", root)


def _official(root: Path, folder: str) -> list[ClipRef]:
    # By number, not by path: mirrors of the data set do not have the folders of a thousand images.
    numbered = {
        _number(path): path for path in walk(root / folder, IMAGE_SUFFIXES) if _NUMBERED.fullmatch(path)
    }
    if (root / _METADATA).is_file():
        return list(_described(root / _METADATA, folder, numbered))
    if not numbered:
        raise PrepError(f"no image in {root / folder}: looked for 00000/00000.png to 69000/69999.png")
    return [
        ClipRef(
            clip_id=path.rpartition(".")[0],
            split="train" if int(number) < _N_TRAIN else "val",
            source=folder + path,
            still=True,
            aligned=True,
        )
        for number, path in numbered.items()
    ]


def _number(path: str) -> str:
    match = _NUMBERED.fullmatch(path)
    if not match:
        raise ValueError(f"{path} is not named as an image of FFHQ")
    return match[1]


def _described(metadata: Path, folder: str, numbered: dict[str, str]) -> Iterator[ClipRef]:
    # Coordinates have two decimals: few of the 9.5 million numbers differ, and equal ones share an object.
    shared: dict[float, float] = {}
    for key, entry in _entries(metadata):
        try:
            listed = entry["image"]["file_path"]
            number = _number(listed)
            split = _SPLITS[entry["category"]]
            points = np.array(entry["image"]["face_landmarks"], dtype=np.float64).reshape(136).tolist()
        except (KeyError, TypeError, ValueError) as error:
            raise PrepError(f"{metadata}: entry {key!r} is not in the form of FFHQ's metadata") from error
        path = numbered.get(number)
        yield ClipRef(
            clip_id=listed.removeprefix(f"{_IMAGES}/").rpartition(".")[0],
            split=split,
            source=folder + path if path else listed,
            still=True,
            height=_SIDE,
            aligned=True,
            landmarks68=tuple(shared.setdefault(value, value) for value in points),
            problem="" if path else f"listed in {metadata.name}, but {listed} is missing",
        )


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Keys and values of the one object in ``path``, read one at a time."""
    key = None
    try:
        with path.open(encoding="utf-8") as file:
            text = _Json(file)
            text.take("{")
            while text.peek() != "}":
                key = text.value()
                text.take(":")
                yield key, text.value()
                if text.peek() == ",":
                    text.take(",")
    except OSError as error:
        raise PrepError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        where = f"at entry {key!r}" if key else "at its start"
        raise PrepError(f"{path} is damaged or cut short {where}: download it again") from error


class _Json:
    """Reads JSON value by value from a file too large for memory. Raises ValueError if it is damaged or
    incomplete."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def _more(self) -> bool:
        chunk = self._file.read(_CHUNK)
        self._text = self._text[self._at :] + chunk
        self._at = 0
        return bool(chunk)

    def peek(self) -> str:
        """The next character that is not whitespace."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                raise ValueError("the file ends early")

    def take(self, character: str) -> None:
        """Skip ``character``."""
        if self.peek() != character:
            raise ValueError(f"{character!r} expected")
        self._at += 1

    def value(self) -> Any:
        """The next string, list or object."""
        self.peek()
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._text, self._at)
                return value
            except json.JSONDecodeError:
                # Either the rest of the value has not been read yet, or it is not JSON.
                if len(self._text) - self._at > _LARGEST or not self._more():
                    raise
