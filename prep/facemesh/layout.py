"""Where the values of a network lie in memory, and the steps that compute them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from prep.facemesh.graph import Graph
from prep.facemesh.vectors import LANES

Float32 = npt.NDArray[np.float32]

#: Zeros about every value, in pixels: what the padding of a convolution reads.
BORDER = 1
#: About the input; its convolution may be larger.
INPUT_BORDER = 2


@dataclass(frozen=True)
class Value:
    """Where a value lies: its first pixel, pixels, channels in memory and real ones, and its border."""

    start: int
    height: int
    width: int
    channels: int
    real: int
    border: int = BORDER

    @property
    def line(self) -> int:
        """From a line to the next one."""
        return (self.width + 2 * self.border) * self.channels


@dataclass(frozen=True)
class Step:
    """One row for :func:`prep.facemesh.kernels.run`; places are indices of float32, -1 is none.

    A convolution reads ``taps`` lines of ``length`` values from ``source`` on; lines are ``line`` apart, pixels
    ``channels``, those of neighbouring output pixels ``stride`` times as much. Other operators use the fields as their
    kernels say.
    """

    operator: int
    source: int = -1
    line: int = 0
    channels: int = 0
    stride: int = 1
    height: int = 0
    width: int = 0
    out_channels: int = 0
    out: int = -1
    out_line: int = 0
    weights: int = -1
    bias: int = -1
    slopes: int = -1
    added: int = -1
    added_line: int = 0
    added_channels: int = 0
    taps: int = 1
    length: int = 0
    depth: int = -1
    depth_bias: int = -1
    depth_slopes: int = -1
    scratch: int = -1

    @property
    def size(self) -> int:
        """Values that it writes."""
        return self.height * self.width * self.out_channels

    @classmethod
    def between(cls, operator: int, one: Value, two: Value, /, **more: int) -> Step:
        """A step from one value of four dimensions to another."""
        form = {
            "source": one.start,
            "line": one.line,
            "channels": one.channels,
            "height": two.height,
            "width": two.width,
            "out_channels": two.channels,
            "out": two.start,
            "out_line": two.line,
        }
        return cls(operator, **form | more)


@dataclass
class Layout:
    """A plan while it is made."""

    graph: Graph
    steps: list[Step] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    parts: list[Float32] = field(default_factory=list)
    n_weights: int = 0
    size: int = 0
    #: Values of four dimensions, and the places and shapes of points, rows and matrices.
    values: dict[str, Value] = field(default_factory=dict)
    flat: dict[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    #: Memory of pictures no longer needed, by size and channels.
    free: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    lines: dict[int, int] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)

    def weight(self, array: Any) -> int:
        """Place of new weights."""
        flat = np.ascontiguousarray(array, np.float32).ravel()
        self.parts.append(flat)
        self.n_weights += flat.size
        return self.n_weights - flat.size

    def picture(self, name: str, height: int, width: int, real: int) -> Value:
        """Memory for a value of four dimensions."""
        channels = -(-real // LANES) * LANES
        value = Value(0, height, width, channels, real)
        pool = self.free.setdefault((height, width, channels), [])
        if not pool:
            pool.append(self.reserve((height + 2 * BORDER) * value.line))
        start = pool.pop() + BORDER * (value.line + channels)
        self.values[name] = replace(value, start=start)
        return self.values[name]

    def reserve(self, count: int) -> int:
        """Place of new memory."""
        start = self.size
        self.size += -(-count // LANES) * LANES
        return start

    def line(self, count: int) -> int:
        """Memory for a line between two operators of one step; others may use it too."""
        if count not in self.lines:
            self.lines[count] = self.reserve(count)
        return self.lines[count]

    def points(self, name: str, shape: tuple[int, ...]) -> int:
        """Memory for a value without pixels."""
        self.flat[name] = self.reserve(int(np.prod(shape))), shape
        return self.flat[name][0]

    def output(self, name: str) -> tuple[int, tuple[int, ...]]:
        """Place and shape of an output: rows, points, or the channels of a single pixel."""
        if name in self.flat:
            return self.flat[name]
        value = self.values[name]
        if (value.height, value.width) != (1, 1):
            raise ValueError("an output of several pixels")
        return value.start, (value.real,)

    def used(self, names: tuple[str, ...]) -> None:
        """Give back the memory of values that nothing reads any more."""
        for name in names:
            self.left[name] -= 1
            value = self.values.get(name)
            if not self.left[name] and value is not None and value.border == BORDER:
                start = value.start - BORDER * (value.line + value.channels)
                self.free[value.height, value.width, value.channels].append(start)
