"""Reads single frames of a shard directly from its Parquet pages.

Parquet always parses a file's whole footer: opening a shard of 256 clips needs 3.6 ms and 5.6 MB. Training in random
order over hundreds of shards would need this for nearly every sample and in every worker. But an uncompressed PLAIN
page holds its values unchanged, each binary value after its length
(https://parquet.apache.org/docs/file-format/data-pages/). So the index of a training set stores the positions of each
clip's column chunks, and any frame of any clip is read from the memory-mapped file without a footer.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prep.errors import PrepError

#: Number of files that a process keeps mapped; each needs one file descriptor.
MAX_MAPPED = 256

_LENGTH = struct.Struct("<I")
# Values of the format's enumerations PageType and Encoding.
_DATA_PAGE = 0
_PLAIN = 0
# Types of Thrift's compact protocol; a boolean is its type.
_BOOLEANS = (1, 2)
_INTEGERS = (3, 4, 5, 6)
_BINARY = 8
_STRUCT = 12


class MappedShards:
    """Byte ranges of many files, mapped when first read. Can be forked, and pickled (the copy maps its own).

    Args:
        paths: the files; ranges are addressed by position in this list.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self._mapped: OrderedDict[int, memoryview] = OrderedDict()

    def read(self, file: int, start: int, size: int) -> memoryview:
        """``size`` bytes from byte ``start`` of a file, read-only.

        Raises:
            PrepError: the file cannot be opened, or has become shorter.
        """
        view = self._mapped.get(file)
        if view is None:
            view = self._map(file)
        else:
            self._mapped.move_to_end(file)
        if start + size > len(view):
            raise PrepError(f"{self.paths[file]} was changed while in use; start again")
        return view[start : start + size]

    def _map(self, file: int) -> memoryview:
        try:
            with self.paths[file].open("rb") as stream:
                view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:
            raise PrepError(f"{self.paths[file]} cannot be read ({error})") from None
        self._mapped[file] = view
        if len(self._mapped) > MAX_MAPPED:
            # Existing references keep the mapping alive.
            self._mapped.popitem(last=False)
        return view

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "_mapped": OrderedDict()}


def fixed_values(chunk: memoryview, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """The values of a binary column chunk that all have the same length, as float32, without copying.

    Args:
        chunk: an uncompressed PLAIN column chunk of one page.
        count: number of values that are not null.
        shape: of one value.

    Returns:
        (count, *shape) float32, a read-only view into ``chunk``.

    Raises:
        ValueError: the chunk holds something else.
    """
    width = math.prod(shape)
    stride = 4 * (width + 1)
    start = len(chunk) - count * stride
    # The header and levels before the values are shorter than any value.
    if count == 0 or not 0 < start < stride:
        raise ValueError(f"{len(chunk)} bytes do not hold {count} values of {4 * width}")
    for position in (start, len(chunk) - stride):
        if _LENGTH.unpack_from(chunk, position)[0] != 4 * width:
            raise ValueError(f"not {count} values of {4 * width} bytes")
    return (
        np.frombuffer(chunk, "<f4", count * (width + 1), start)
        .reshape(count, -1)[:, 1:]
        .reshape(count, *shape)
    )


def float_values(chunk: memoryview, count: int) -> np.ndarray:
    """The values of an uncompressed PLAIN float column chunk of one page without nulls.

    Returns:
        (count,) float32, a read-only view into ``chunk``.

    Raises:
        ValueError: the chunk is too short.
    """
    start = len(chunk) - 4 * count
    if start <= 0:
        raise ValueError(f"{len(chunk)} bytes do not hold {count} values of 4")
    return np.frombuffer(chunk, "<f4", count, start)


def last_value(chunk: memoryview, size: int) -> memoryview:
    """The only value of a binary column chunk, without copying.

    Args:
        chunk: an uncompressed PLAIN column chunk.
        size: bytes of the value.

    Raises:
        ValueError: the chunk holds something else.
    """
    start = len(chunk) - size
    if start < _LENGTH.size or _LENGTH.unpack_from(chunk, start - _LENGTH.size)[0] != size:
        raise ValueError(f"{len(chunk)} bytes do not hold one value of {size}")
    return chunk[start:]


def binary_places(chunk: memoryview, count: int) -> np.ndarray:
    """The positions of the values of a binary column chunk, found by stepping from length to length.

    Args:
        chunk: an uncompressed PLAIN column chunk of any number of pages, whose values are elements of lists.
        count: number of values that are not null.

    Returns:
        (count,) uint32, first byte of each value's length, for :func:`binary_value`.

    Raises:
        ValueError: the chunk holds something else.
    """
    length_at = _LENGTH.unpack_from
    places: list[int] = []
    try:
        for position, end in _pages(chunk):
            while position < end:
                places.append(position)
                position += 4 + length_at(chunk, position)[0]
            if position != end:
                raise ValueError("values run over the end of their page")
    except (IndexError, KeyError, struct.error):
        raise ValueError("not a PLAIN data page") from None
    if len(places) != count:
        raise ValueError(f"{len(places)} values instead of {count}")
    return np.array(places, np.uint32)


def binary_value(chunk: memoryview, place: int) -> bytes:
    """The value at one of :func:`binary_places`."""
    return bytes(chunk[place + 4 : place + 4 + _LENGTH.unpack_from(chunk, place)[0]])


def _pages(chunk: memoryview) -> Iterator[tuple[int, int]]:
    """Begin and end of the values of each data page."""
    position = 0
    while position < len(chunk):
        header, position = _thrift_struct(chunk, position)
        end = position + header[3]
        data = header.get(5)
        if header[1] != _DATA_PAGE or data is None or data[2] != _PLAIN or end > len(chunk):
            raise ValueError("not a PLAIN data page")
        for _ in ("repetition levels", "definition levels"):
            position += 4 + _LENGTH.unpack_from(chunk, position)[0]
        yield position, end
        position = end


def _thrift_struct(data: memoryview, position: int) -> tuple[dict[int, Any], int]:
    """One struct in Thrift's compact protocol: its integer and struct fields by number, and the position of its
    end."""
    fields: dict[int, Any] = {}
    number = 0
    while kind := data[position]:
        position += 1
        if kind < 16:
            raise ValueError("not a page header")
        number += kind >> 4
        kind &= 15
        if kind == _STRUCT:
            fields[number], position = _thrift_struct(data, position)
        elif kind in _INTEGERS or kind == _BINARY:
            value = data[position]
            position += 1
            if value > 127:
                value &= 127
                shift = 7
                while True:
                    byte = data[position]
                    position += 1
                    value |= (byte & 127) << shift
                    if byte < 128:
                        break
                    shift += 7
            if kind == _BINARY:
                position += value
            else:
                fields[number] = (value >> 1) ^ -(value & 1)
        elif kind not in _BOOLEANS:
            raise ValueError("not a page header")
    return fields, position + 1
