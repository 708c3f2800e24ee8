"""Lays out a :class:`~prep.facemesh.graph.Graph` for :mod:`prep.facemesh.kernels`.

Operators are joined: a convolution takes up the addition and the activation that follow it, and a depthwise convolution
before it, so that these values are never written to memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from prep.facemesh import kernels
from prep.facemesh.graph import Graph, Node
from prep.facemesh.layout import INPUT_BORDER, Layout, Step, Value

Float32 = npt.NDArray[np.float32]

#: Float32 values that are many: of four pictures, they and those before them fill a cache of the second level.
LARGE = 20_000


@dataclass
class Plan:
    """A network ready to run.

    Attributes:
        steps: (S, fields) int64.
        first: so many steps have large values.
        numbers: int64, tables of indices.
        weights: float32.
        size: float32 values of memory.
        input: where the input is written, (H, W, 3).
        outputs: place and shape of each output.
    """

    steps: npt.NDArray[np.int64]
    first: int
    numbers: npt.NDArray[np.int64]
    weights: Float32
    size: int
    input: Value
    outputs: list[tuple[int, tuple[int, ...]]]

    def memory(self, count: int) -> Float32:
        """Memory for ``count`` pictures at a time; the borders must stay zero."""
        return np.zeros((count, self.size), np.float32)

    def square(self, memory: Float32) -> Float32:
        """The view (H, W, 3) of the input in the memory of one picture."""
        place = self.input
        lines = memory[place.start : place.start + place.height * place.line].reshape(
            place.height, place.line
        )
        return lines[:, : place.width * place.channels].reshape(place.height, place.width, place.channels)

    def run(self, memory: Float32) -> list[Float32]:
        """The outputs (B, …) for the inputs in a memory, copied."""
        kernels.run(self.steps, self.first, self.numbers, self.weights, memory)
        return [
            memory[:, place : place + int(np.prod(shape))].reshape(-1, *shape).copy()
            for place, shape in self.outputs
        ]


def plan(graph: Graph) -> Plan:
    """Lay out a graph.

    Raises:
        ValueError: a form of an operator that the kernels do not know.
    """
    layout = Layout(graph)
    channels, height, width = graph.shape
    line = (width + 2 * INPUT_BORDER) * channels
    start = layout.reserve((height + 2 * INPUT_BORDER) * line) + INPUT_BORDER * (line + channels)
    layout.values[graph.input] = Value(start, height, width, channels, channels, INPUT_BORDER)
    groups = _groups(graph)
    for group in groups:
        layout.left.update(group.inputs(graph))
    layout.left.update(graph.outputs)
    for group in groups:
        if group.first.operator not in _WRITERS:
            raise ValueError(f"the operator {group.first.operator} follows no convolution")
        _WRITERS[group.first.operator](layout, group)
        layout.used(group.inputs(graph))
    large = [number for number, step in enumerate(layout.steps) if step.size > LARGE]
    return Plan(
        np.array([astuple(step) for step in layout.steps], np.int64),
        max(large, default=-1) + 1,
        np.array(layout.numbers or [0], np.int64),
        np.concatenate(layout.parts),
        layout.size,
        layout.values[graph.input],
        [layout.output(name) for name in graph.outputs],
    )


@dataclass
class _Group:
    """Operators that become one step.

    Attributes:
        first: the operator, or the first convolution.
        second: a 1×1 convolution of the depthwise ``first``.
        add: the addition that follows.
        zeros: the added channels of what is added.
        active: the PReLU or ReLU that follows.
    """

    first: Node
    second: Node | None = None
    add: Node | None = None
    zeros: Node | None = None
    active: Node | None = None

    @property
    def members(self) -> list[Node]:
        """In the order in which they are computed."""
        every = (self.first, self.second, self.zeros, self.add, self.active)
        return [node for node in every if node is not None]

    @property
    def output(self) -> str:
        """Name of the value that is written."""
        return self.members[-1].output

    def inputs(self, graph: Graph) -> tuple[str, ...]:
        """Values from outside of the group."""
        inside = {node.output for node in self.members} | graph.weights.keys()
        return tuple(name for node in self.members for name in node.inputs if name not in inside)


def _groups(graph: Graph) -> list[_Group]:
    """All operators, in the order of the last of each group."""
    maker = {node.output: node for node in graph.nodes}
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    taken: set[str] = set()

    def follower(node: Node, *operators: str) -> Node | None:
        """What alone reads the value of a node, if it is one of some operators."""
        nodes = readers.get(node.output, [])
        free = len(nodes) == 1 and node.output not in graph.outputs and nodes[0].output not in taken
        return nodes[0] if free and nodes[0].operator in operators else None

    groups = []
    for node in graph.nodes:
        if node.output in taken or node.operator == "pad_channels":
            continue
        group = _Group(node)
        if node.operator == "conv":
            reader = follower(node, "conv") if _is_depthwise(node) else None
            if reader is not None and not _is_depthwise(reader):
                group.second = reader
            last = group.members[-1]
            group.add = None if _is_depthwise(last) else follower(last, "add")
            for name in group.add.inputs if group.add is not None else ():
                if name in maker and maker[name].operator == "pad_channels":
                    group.zeros = maker[name]
        if node.operator in ("conv", "add"):
            group.active = follower(group.members[-1], "prelu", "relu")
        taken |= {member.output for member in group.members}
        groups.append(group)
    order = {node.output: number for number, node in enumerate(graph.nodes)}
    return sorted(groups, key=lambda group: order[group.output])


def _is_depthwise(node: Node) -> bool:
    return node.settings.get("groups", 1) > 1


def _wide(array: Any, count: int) -> Float32:
    """Zeros added to the last axis."""
    widths = [(0, 0)] * (np.ndim(array) - 1) + [(0, count - np.shape(array)[-1])]
    return np.pad(np.asarray(array, np.float32), widths)


def _slopes(graph: Graph, active: Node | None, out: Value) -> Float32:
    """Factors of negative values: those of a PReLU, 0 of a ReLU, 1 without activation."""
    if active is None:
        return np.ones(out.channels, np.float32)
    given = graph.weights[active.inputs[1]].ravel() if active.operator == "prelu" else np.zeros(out.real)
    return _wide(given, out.channels)


def _convolution(layout: Layout, group: _Group) -> None:
    graph, head = layout.graph, group.first
    source, kernel = layout.values[head.inputs[0]], graph.weights[head.inputs[1]]
    top, left, bottom, right = head.settings["padding"]
    stride = head.settings["stride"]
    height = (source.height + top + bottom - kernel.shape[2]) // stride + 1
    width = (source.width + left + right - kernel.shape[3]) // stride + 1
    if max(top, left, bottom, right) > source.border:
        raise ValueError("a padding larger than the border")
    last = group.second or head
    out = layout.picture(group.output, height, width, len(graph.weights[last.inputs[1]]))
    slopes = _slopes(graph, group.active, out)
    begin = source.start - top * source.line - left * source.channels
    step = Step.between(kernels.CONVOLUTION, source, out, source=begin, stride=stride)
    if _is_depthwise(head):
        if kernel.shape[2:] != (3, 3) or stride not in (1, 2):
            raise ValueError("a depthwise convolution that is not 3×3, or of a larger stride than 2")
        step = replace(
            step,
            operator=kernels.BLOCK if group.second else kernels.DEPTHWISE,
            depth=layout.weight(_wide(kernel.reshape(-1, 9).T, source.channels)),
            depth_bias=layout.weight(_wide(graph.weights[head.inputs[2]], source.channels)),
            depth_slopes=layout.weight(np.ones(source.channels) if group.second else slopes),
        )
    if group.second is not None:
        kernel = graph.weights[last.inputs[1]]
        if kernel.shape[2:] != (1, 1) or last.settings["stride"] != 1:
            raise ValueError("a convolution after a depthwise one that is not 1×1")
        step = replace(step, scratch=layout.line(width * source.channels))
    if not _is_depthwise(last):
        # (O, I, kh, kw) → (kh, kw, I, O)
        matrix = np.moveaxis(_wide(np.moveaxis(kernel, 1, -1), source.channels), 0, -1)
        step = replace(
            step,
            taps=kernel.shape[2],
            length=kernel.shape[3] * source.channels,
            weights=layout.weight(_wide(matrix, out.channels)),
            bias=layout.weight(_wide(graph.weights[last.inputs[2]], out.channels)),
            slopes=layout.weight(slopes),
        )
    if group.add is not None:
        (other,) = (name for name in group.add.inputs if name != last.output)
        value = layout.values[group.zeros.inputs[0] if group.zeros else other]
        step = replace(step, added=value.start, added_line=value.line, added_channels=value.channels)
    layout.steps.append(step)


def _add(layout: Layout, group: _Group) -> None:
    one, other = (layout.values[name] for name in group.first.inputs)
    out = layout.picture(group.output, one.height, one.width, one.real)
    slopes = layout.weight(_slopes(layout.graph, group.active, out))
    more = {"slopes": slopes, "added": other.start, "added_line": other.line}
    layout.steps.append(Step.between(kernels.ADD, one, out, **more))


def _max_pool(layout: Layout, group: _Group) -> None:
    source, size = layout.values[group.first.inputs[0]], group.first.settings["size"]
    if size != 2:
        raise ValueError("a pooling that is not of 2×2")
    out = layout.picture(group.output, source.height // size, source.width // size, source.real)
    layout.steps.append(Step.between(kernels.POOL, source, out, stride=size))


def _upsample(layout: Layout, group: _Group) -> None:
    source = layout.values[group.first.inputs[0]]
    if group.first.settings["size"] != [2 * source.height, 2 * source.width]:
        raise ValueError("an enlargement that is not by 2")
    out = layout.picture(group.output, 2 * source.height, 2 * source.width, source.real)
    layout.steps.append(Step.between(kernels.UPSAMPLE, source, out))


def _depth_to_space(layout: Layout, group: _Group) -> None:
    source, block = layout.values[group.first.inputs[0]], group.first.settings["block"]
    real = source.real // block**2
    # Without border and added channels: only rows are made of it.
    start = layout.reserve(source.height * source.width * source.real)
    out = Value(start, source.height * block, source.width * block, real, real, 0)
    layout.values[group.output] = out
    more = {"height": source.height, "width": source.width, "stride": block}
    layout.steps.append(Step.between(kernels.SPACE, source, out, **more))


def _rows(layout: Layout, group: _Group) -> None:
    source, length = layout.values[group.first.inputs[0]], group.first.settings["length"]
    count = source.height * source.width * source.real
    out = layout.points(group.output, (count // length, length))
    layout.steps.append(Step.between(kernels.ROWS, source, source, out=out, length=source.real))


def _concat(layout: Layout, group: _Group) -> None:
    parts = [layout.flat[name] for name in group.first.inputs]
    out = layout.points(group.output, (sum(shape[0] for _, shape in parts), parts[0][1][1]))
    one = layout.weight([1.0])
    for place, shape in parts:
        count = shape[0] * shape[1]
        layout.steps.append(Step(kernels.SCALE, place, out=out, weights=one, length=count))
        out += count


def _scale(layout: Layout, group: _Group) -> None:
    place, shape = layout.flat[group.first.inputs[0]]
    factors = layout.graph.weights[group.first.inputs[1]]
    more = {"weights": layout.weight(factors), "taps": factors.size, "length": int(np.prod(shape))}
    layout.steps.append(Step(kernels.SCALE, place, out=layout.points(group.output, shape), **more))


def _region(layout: Layout, group: _Group) -> None:
    place, _ = layout.flat[group.first.inputs[0]]
    settings = group.first.settings
    table = [*settings["axis"], *settings["points"]]
    more = {"taps": len(table), "length": len(layout.numbers)}
    layout.numbers += table
    form = layout.weight([*settings["scale"], settings["size"]])
    out = layout.points(group.output, (2, 3))
    layout.steps.append(Step(kernels.REGION, place, out=out, weights=form, **more))


def _sample(layout: Layout, group: _Group) -> None:
    name, matrix = group.first.inputs
    source = layout.values[name]
    height, width = group.first.settings["size"]
    out = layout.picture(group.output, height, width, source.real)
    more = {"added": layout.flat[matrix][0], "taps": source.height, "length": source.width}
    layout.steps.append(Step.between(kernels.SAMPLE, source, out, **more))


def _move(layout: Layout, group: _Group) -> None:
    (place, shape), (matrix, _) = (layout.flat[name] for name in group.first.inputs)
    out = layout.points(group.output, shape)
    layout.steps.append(Step(kernels.MOVE, place, out=out, added=matrix, length=shape[0]))


_WRITERS: dict[str, Callable[[Layout, _Group], None]] = {
    "conv": _convolution,
    "add": _add,
    "max_pool": _max_pool,
    "upsample": _upsample,
    "depth_to_space": _depth_to_space,
    "rows": _rows,
    "concat": _concat,
    "scale": _scale,
    "region": _region,
    "sample": _sample,
    "move": _move,
}
