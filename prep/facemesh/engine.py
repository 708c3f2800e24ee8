"""Runs the networks on squares of frames: on CPUs as ONNX models, elsewhere with torch, from the same graphs."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from prep.facemesh.crop import cut
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
}
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
    """One thread of a CPU. OpenVINO runs the networks where it is installed, otherwise ONNX Runtime.

    Args:
        files: of the networks, by name.
    """

    #: Squares that are processed at once. More are not faster, and take more memory.
    BATCH = 4

    def __init__(self, files: Mapping[str, NetworkFile]) -> None:
        self._files = files
        self._networks: dict[str, Any] = {}
        #: Inputs, by the name of the network. Fresh memory would have to be cleared by the system each time.
        self._batches: dict[str, Float32] = {}

    def take(self, frames: Sequence[Image]) -> list[Image]:
        """See :class:`Engine`."""
        return [np.ascontiguousarray(frame) for frame in frames]

    def run(self, network: str, frames: Any, places: Sequence[Place]) -> list[Float32]:
        """See :class:`Engine`."""
        if network not in self._networks:  # The full-range detector is seldom needed.
            self._networks[network] = load_onnx(self._files[network].onnx)
            side = INPUTS[network].side
            self._batches[network] = np.empty((self.BATCH, 3, side, side), np.float32)
        form = INPUTS[network]
        parts = []
        for start in range(0, len(places), self.BATCH):
            chosen = places[start : start + self.BATCH]
            batch = self._batches[network][: len(chosen)]
            for (number, matrix), out in zip(chosen, batch, strict=True):
                cut(frames[number], matrix, out, form.low, 1, edge=form.edge)
            parts.append(self._networks[network](batch))
        return (
            parts[0] if len(parts) == 1 else [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
        )


def load_onnx(model: Path) -> Any:
    """The function of a batch (B, C, H, W) float32 that gives the outputs of a network, on one thread.

    OpenVINO is faster (by a quarter on a CPU with AVX-512) but an extra.
    """
    return _openvino(model) if importlib.util.find_spec("openvino") else _onnxruntime(model)


def _onnxruntime(model: Path) -> Any:
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})


def _openvino(model: Path) -> Any:
    core = importlib.import_module("openvino").Core()
    # Where the processor has bfloat16, it would calculate with it.
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()

    def run(batch: Float32) -> list[Float32]:
        outputs = request.infer({0: batch}, share_inputs=True)
        return [np.array(outputs[i]) for i in range(len(outputs))]

    return run
