"""A network as data: the operators of a graph, its weights, and the file that holds both.

It is the one definition of the networks of this folder. :mod:`prep.facemesh.tflite_file` makes it from MediaPipe's
files, :mod:`prep.facemesh.plan` and :mod:`prep.facemesh.torch_form` run it.

Values are of layout (B, C, H, W) or, after ``rows`` and the operators on points, (B, N, K); all float32. Operators:

- ``conv``: inputs x, weights (O, I/groups, kh, kw), bias (O); ``stride``, ``padding`` (top, left, bottom, right),
  ``groups``.
- ``relu``; ``prelu``: slopes (C, 1, 1); ``add``; ``max_pool``: ``size`` = stride.
- ``pad_channels``: zeros for ``channels`` more channels at the end.
- ``upsample``: bilinear to ``size`` (H, W), the centres of pixels kept; ``depth_to_space``: ``block``, as TensorFlow.
- ``rows``: (B, C, H, W) in the order H, W, C to (B, H·W·C/K, K); ``concat``: of rows; ``scale``: times a constant.
- ``region``: points (B, N, 3) to the matrix (B, 2, 3) of the rotated box about some of them; ``sample``: x and a matrix
  to a bilinear sample (B, C, *size); ``move``: points (B, N, 2) by a matrix.
- Only with torch, for the segmentation: ``hard_swish``, ``sigmoid``, ``mean`` of a whole picture, ``times`` of two
  values, ``enlarge``: a transposed convolution of stride 2.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save_file

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Node:
    """One operator: its name, the names of its inputs, values or weights, the name of its value, its settings."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """A network with one input.

    Attributes:
        nodes: in an order in which they can be computed.
        weights: by name.
        input: name of the input.
        shape: (C, H, W) of the input.
        outputs: names of the outputs.
    """

    nodes: tuple[Node, ...]
    weights: dict[str, Float32]
    input: str
    shape: tuple[int, int, int]
    outputs: tuple[str, ...]

    def only(self, count: int) -> Graph:
        """The part of it that the first ``count`` outputs need."""
        outputs = self.outputs[:count]
        needed, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if node.output in needed:
                nodes.append(node)
                needed |= set(node.inputs)
        weights = {name: values for name, values in self.weights.items() if name in needed}
        return Graph(tuple(reversed(nodes)), weights, self.input, self.shape, outputs)

    def save(self, path: Path, **notes: str) -> None:
        """Write a safetensors file; ``notes`` are kept beside the graph in its metadata."""
        nodes = [[node.operator, node.inputs, node.output, node.settings] for node in self.nodes]
        form = {"nodes": nodes, "input": self.input, "shape": self.shape, "outputs": self.outputs}
        save_file(self.weights, path, metadata={"graph": json.dumps(form), **notes})

    @classmethod
    def load(cls, path: Path) -> tuple[Graph, dict[str, str]]:
        """The graph in a file that :meth:`save` wrote, and the notes.

        Raises:
            OSError, safetensors.SafetensorError, KeyError: not such a file.
        """
        with safe_open(path, framework="numpy") as file:
            notes = dict(file.metadata() or {})
            form = json.loads(notes.pop("graph"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        nodes = tuple(
            Node(op, tuple(inputs), output, settings) for op, inputs, output, settings in form["nodes"]
        )
        graph = cls(nodes, weights, form["input"], tuple(form["shape"]), tuple(form["outputs"]))
        return graph, notes
