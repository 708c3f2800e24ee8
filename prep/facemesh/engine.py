"""Runs the networks on squares of frames: on CPUs with kernels of our own, elsewhere with torch."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from prep.facemesh import kernels
from prep.facemesh.crop import cut
from prep.facemesh.graph import Graph
from prep.facemesh.plan import Plan, plan
from prep.facemesh.weights import NetworkFile

Float = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Input:
    """What a network takes: a square of ``side`` pixels, bytes 0 to 255 as ``low`` to 1; outside of the frame its edge,
    repeated, or zeros."""

    side: int
    low: float
    edge: bool


#: By the name of the network.
INPUTS = {
    "short_range": Input(128, -1.0, False),
    "full_range": Input(192, -1.0, False),
    "mesh": Input(192, 0.0, True),
    "landmarker_detector": Input(128, -1.0, False),
    "landmarker_mesh": Input(256, 0.0, True),
}
#: Squares that a CPU computes at once.
BATCH = 4
#: A square of a frame: the number of the frame, and the matrix (3, 3) of :func:`prep.facemesh.region.matrix`.
Place = tuple[int, Float]


class Engine(Protocol):
    """Runs networks."""

    def take(self, frames: Sequence[Image]) -> Any:
        """Frames (H, W, 3) uint8 RGB for :meth:`run`."""
        ...

    def run(self, network: str, frames: Any, places: Sequence[Place]) -> list[Float32]:
        """Outputs of a network for squares of frames, each (B, …) float32; the order is that of the graph."""
        ...


class CpuEngine:
    """One thread of a CPU: the suite's own kernels.

    Args:
        files: of the networks, by name.
    """

    def __init__(self, files: Mapping[str, NetworkFile]) -> None:
        compile_kernels()
        self._files = files
        self._networks: dict[str, tuple[Plan, Float32]] = {}

    def take(self, frames: Sequence[Image]) -> list[Image]:
        """See :class:`Engine`."""
        return [np.ascontiguousarray(frame) for frame in frames]

    def run(self, network: str, frames: Any, places: Sequence[Place]) -> list[Float32]:
        """See :class:`Engine`."""
        if network not in self._networks:  # The full-range detector is seldom needed.
            made = plan(Graph.load(self._files[network].graph)[0])
            self._networks[network] = made, made.memory(BATCH)
        made, memory = self._networks[network]
        form = INPUTS[network]
        parts = []
        for start in range(0, len(places), BATCH):
            some = places[start : start + BATCH]
            for (number, matrix), own in zip(some, memory, strict=False):
                cut(frames[number], matrix, made.square(own), form.low, 1, edge=form.edge)
            parts.append(made.run(memory[: len(some)]))
        return (
            parts[0] if len(parts) == 1 else [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
        )


def compile_kernels() -> None:
    """Compile the kernels, unless numba has them in its cache; one line says so, for it takes some ten seconds.

    A process that another one started as its worker says nothing.
    """
    if kernels.run.signatures or _cached():
        return
    if multiprocessing.parent_process() is None:
        print("compiling the landmark detector for this processor, once: some ten seconds", file=sys.stderr)
    nothing, values = np.zeros(1, np.int64), np.zeros((1, 1), np.float32)
    kernels.run(np.zeros((0, 1), np.int64), 0, nothing, values[0], values)


def _cached() -> bool:
    """Whether numba has kernels of this source in its cache, compiled by this version of Python."""
    python = "".join(map(str, sys.version_info[:2]))
    source = Path(kernels.__file__)
    folder = kernels.run.stats.cache_path
    compiled = Path(folder).glob(f"{source.stem}.run-*.py{python}.nbi") if folder else ()
    return any(index.stat().st_mtime >= source.stat().st_mtime for index in compiled)
