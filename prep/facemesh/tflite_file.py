"""Reads the networks of MediaPipe's TFLite files into a :class:`~prep.facemesh.graph.Graph`.

The format is TensorFlow Lite's flatbuffer schema, version 3, read by the package ``tflite``. Only the operators occur
that :mod:`prep.facemesh.graph` lists; any other file is refused. Layouts change from (B, H, W, C) to (B, C, H, W).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tflite
from flatbuffers import flexbuffers

from prep.facemesh.graph import Float32, Graph, Node

_OPERATORS = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
_TYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}
#: Operators of one value without settings.
_SIMPLE = {"RELU": "relu", "HARD_SWISH": "hard_swish", "LOGISTIC": "sigmoid"}
_SAME = 0
_RELU = 1


class _Reader:
    """One file while it is read."""

    def __init__(self, data: bytes) -> None:
        self.model = tflite.Model.GetRootAsModel(data, 0)
        self.graph = self.model.Subgraphs(0)
        self.constants: dict[int, Any] = {}
        #: Spatial padding (top, left, bottom, right) of a tensor that a convolution takes up, and what was padded.
        self.padded: dict[int, tuple[int, tuple[int, ...]]] = {}
        #: Values of which another name is used.
        self.alias: dict[int, int] = {}
        self.weights: dict[str, Float32] = {}
        self.nodes: list[Node] = []

    def shape(self, tensor: int) -> list[int]:
        return [int(length) for length in self.graph.Tensors(tensor).ShapeAsNumpy()]

    def constant(self, tensor: int) -> Any:
        """The array of a tensor, or None if it is computed from the input."""
        if tensor not in self.constants:
            entry = self.graph.Tensors(tensor)
            buffer = self.model.Buffers(entry.Buffer())
            if not buffer.DataLength():
                return None
            values = buffer.DataAsNumpy().view(_TYPES[entry.Type()])
            sparsity = entry.Sparsity()
            shape = tuple(self.shape(tensor))
            self.constants[tensor] = (
                values.reshape(shape) if sparsity is None else _dense(values, sparsity, shape)
            )
        return self.constants[tensor]

    def name(self, tensor: int) -> str:
        while tensor in self.alias:
            tensor = self.alias[tensor]
        return f"t{tensor}"

    def weight(self, tensor: int, *axes: int) -> str:
        """Name of a constant that becomes a weight, its axes transposed."""
        values = np.asarray(self.constant(tensor), np.float32)
        name = f"w{tensor}"
        self.weights[name] = np.array(values.transpose(axes) if axes else values, order="C")
        return name

    def add(self, operator: str, inputs: tuple[str, ...], output: int, **settings: Any) -> None:
        self.nodes.append(Node(operator, inputs, self.name(output), settings))


def _dense(values: Any, sparsity: Any, shape: tuple[int, ...]) -> Any:
    """A matrix from its blocks: only the form occurs whose last compressed dimension is a list of blocks."""
    order = sparsity.TraversalOrderAsNumpy()
    blocks = sparsity.BlockMapAsNumpy() if sparsity.BlockMapLength() else ()
    entries = [sparsity.DimMetadata(i) for i in range(sparsity.DimMetadataLength())]
    sizes = [entry.DenseSize() for entry in entries]
    rank = len(shape)
    result = np.zeros(shape, values.dtype)
    block = [1] * rank
    for axis, length in zip(blocks, sizes[rank:], strict=True):
        block[axis] = length

    def fill(level: int, position: int, index: list[int]) -> int:
        if level == len(entries):
            place = [0] * rank
            for axis, i in zip(order, index, strict=True):
                place[axis if axis < rank else blocks[axis - rank]] += i * block[axis] if axis < rank else i
            result[tuple(place)] = values[position]
            return position
        entry = entries[level]
        if entry.Format() == tflite.DimensionType.DENSE:
            for i in range(sizes[level]):
                fill(level + 1, position * sizes[level] + i, [*index, i])
        else:
            segments, indices = _vector(entry, "ArraySegments"), _vector(entry, "ArrayIndices")
            for j in range(segments[position], segments[position + 1]):
                fill(level + 1, j, [*index, int(indices[j])])
        return position

    fill(0, 0, [])
    return result


def _vector(entry: Any, which: str) -> Any:
    kinds = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}
    vector = kinds[getattr(entry, f"{which}Type")()]()
    table = getattr(entry, which)()
    vector.Init(table.Bytes, table.Pos)
    return vector.ValuesAsNumpy()


def _options(operator: Any, kind: Any) -> Any:
    options, table = kind(), operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return options


def _same(length: int, size: int, stride: int) -> tuple[int, int]:
    """TensorFlow's padding SAME of one side before and after."""
    need = max((-(-length // stride) - 1) * stride + size - length, 0)
    return need // 2, need - need // 2


def read(path: Path) -> Graph:
    """The network in a file.

    Raises:
        ValueError: it contains an operator or a form that is not known here.
        OSError: it cannot be read.
    """
    reader = _Reader(path.read_bytes())
    graph = reader.graph
    for number in range(graph.OperatorsLength()):
        _operator(reader, graph.Operators(number))
    (entry,) = graph.InputsAsNumpy()
    _, height, width, channels = reader.shape(entry)
    outputs = tuple(reader.name(int(tensor)) for tensor in graph.OutputsAsNumpy())
    used = {name for node in reader.nodes for name in node.inputs}
    weights = {name: values for name, values in reader.weights.items() if name in used}
    return Graph(tuple(reader.nodes), weights, reader.name(int(entry)), (channels, height, width), outputs)


def _operator(reader: _Reader, operator: Any) -> None:
    """Add one operator to the graph, or remember what it means for later ones."""
    code = reader.model.OperatorCodes(operator.OpcodeIndex())
    kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    name = code.CustomCode().decode() if kind == tflite.BuiltinOperator.CUSTOM else _OPERATORS[kind]
    inputs = [int(tensor) for tensor in operator.InputsAsNumpy()]
    (output,) = (int(tensor) for tensor in operator.OutputsAsNumpy())
    if name in ("DEQUANTIZE", "DENSIFY"):
        reader.constants[output] = reader.constant(inputs[0])
    elif name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        _convolution(reader, operator, name, inputs, output)
    elif name == "PRELU":
        slopes = reader.weight(inputs[1])
        reader.weights[slopes] = reader.weights[slopes].reshape(-1, 1, 1)
        reader.add("prelu", (reader.name(inputs[0]), slopes), output)
    elif name in _SIMPLE:
        reader.add(_SIMPLE[name], (reader.name(inputs[0]),), output)
    elif name == "ADD":
        activation = _options(operator, tflite.AddOptions).FusedActivationFunction()
        _activated(reader, activation, "add", tuple(map(reader.name, inputs)), output)
    elif name == "MAX_POOL_2D":
        options = _options(operator, tflite.Pool2DOptions)
        size = options.StrideH()
        if {options.FilterHeight(), options.FilterWidth(), options.StrideW()} != {size}:
            raise ValueError("a pooling whose windows overlap")
        reader.add("max_pool", (reader.name(inputs[0]),), output, size=size)
    elif name == "PAD":
        _padding(reader, inputs, output)
    elif name == "RESIZE_BILINEAR":
        options = _options(operator, tflite.ResizeBilinearOptions)
        if options.AlignCorners() or not options.HalfPixelCenters():
            raise ValueError("a resize that moves the centres of pixels")
        size = [int(length) for length in reader.constant(inputs[1])]
        reader.add("upsample", (reader.name(inputs[0]),), output, size=size)
    elif name == "DEPTH_TO_SPACE":
        block = _options(operator, tflite.DepthToSpaceOptions).BlockSize()
        reader.add("depth_to_space", (reader.name(inputs[0]),), output, block=block)
    elif name == "RESHAPE":
        _reshape(reader, inputs[0], output)
    elif name == "STRIDED_SLICE" and reader.shape(inputs[0]) == reader.shape(output):
        reader.alias[output] = inputs[0]
    elif name == "CONCATENATION":
        reader.add("concat", tuple(map(reader.name, inputs)), output)
    elif name == "AVERAGE_POOL_2D":
        if reader.shape(output)[1:3] != [1, 1]:
            raise ValueError("a mean that is not of the whole picture")
        reader.add("mean", (reader.name(inputs[0]),), output)
    elif name == "MUL" and reader.constant(inputs[1]) is None:
        reader.add("times", tuple(map(reader.name, inputs)), output)
    elif name == "MUL":
        factor = reader.constant(inputs[1])
        shape = reader.shape(output)
        # Of a matrix 4×4 only the first two rows, without the third column, are used.
        values = factor[0][:2][:, [0, 1, 3]] if shape[1:] == [4, 4] else factor.reshape(-1)
        weight = reader.weight(inputs[1])
        reader.weights[weight] = np.ascontiguousarray(values, np.float32)
        reader.add("scale", (reader.name(inputs[0]), weight), output)
    elif kind == tflite.BuiltinOperator.CUSTOM:
        _custom(reader, operator, name, inputs, output)
    else:
        raise ValueError(f"the operator {name} is not known")


def _activated(reader: _Reader, activation: int, *node: Any, **settings: Any) -> None:
    """Add an operator and the activation that the file has fused with it."""
    reader.add(*node, **settings)
    if activation == _RELU:
        last = reader.nodes.pop()
        plain = f"{last.output}_"
        reader.nodes.append(Node(last.operator, last.inputs, plain, last.settings))
        reader.nodes.append(Node("relu", (plain,), last.output))
    elif activation:
        raise ValueError(f"the activation {activation} is not known")


def _convolution(reader: _Reader, operator: Any, name: str, inputs: list[int], output: int) -> None:
    depthwise = name == "DEPTHWISE_CONV_2D"
    options = _options(operator, tflite.DepthwiseConv2DOptions if depthwise else tflite.Conv2DOptions)
    if options.DilationHFactor() != 1 or options.StrideH() != options.StrideW():
        raise ValueError("a convolution with dilation or two strides")
    stride, values = options.StrideH(), inputs[0]
    weight = reader.weight(inputs[1], *((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)))
    out, _, kernel_height, kernel_width = reader.weights[weight].shape
    bias = reader.weight(inputs[2])
    if values in reader.padded:
        values, padding = reader.padded[values]
    elif options.Padding() == _SAME:
        _, height, width, _ = reader.shape(values)
        rows, columns = _same(height, kernel_height, stride), _same(width, kernel_width, stride)
        padding = (rows[0], columns[0], rows[1], columns[1])
    else:
        padding = (0, 0, 0, 0)
    _activated(
        reader,
        options.FusedActivationFunction(),
        "conv",
        (reader.name(values), weight, bias),
        output,
        stride=stride,
        padding=list(padding),
        groups=out if depthwise else 1,
    )


def _padding(reader: _Reader, inputs: list[int], output: int) -> None:
    batch, rows, columns, channels = (tuple(map(int, pair)) for pair in reader.constant(inputs[1]))
    if channels == (0, 0) and batch == (0, 0):
        reader.padded[output] = (inputs[0], (rows[0], columns[0], rows[1], columns[1]))
    elif (batch, rows, columns, channels[0]) == ((0, 0), (0, 0), (0, 0), 0):
        reader.add("pad_channels", (reader.name(inputs[0]),), output, channels=channels[1])
    else:
        raise ValueError("a padding of both space and channels")


def _reshape(reader: _Reader, values: int, output: int) -> None:
    before, after = reader.shape(values), reader.shape(output)
    if len(after) == 3:
        reader.add("rows", (reader.name(values),), output, length=after[2])
    elif after == [1, 1, 1, before[1] * before[2]] or (before == [1, 1, 1, 1] and after == [1, 1]):
        reader.alias[output] = values  # Points are returned as points.
    else:
        raise ValueError(f"a reshape from {before} to {after}")


def _custom(reader: _Reader, operator: Any, name: str, inputs: list[int], output: int) -> None:
    settings = operator.CustomOptionsAsNumpy()
    options = flexbuffers.Loads(settings.tobytes()) if operator.CustomOptionsLength() else {}
    if name == "Landmarks2TransformMatrix":
        if options["target_rotation_radians"] or options["output_height"] != options["output_width"]:
            raise ValueError("a region with a rotation of its own")
        reader.add(
            "region",
            (reader.name(inputs[0]),),
            output,
            points=options["subset_idxs"],
            axis=[options["left_rotation_idx"], options["right_rotation_idx"]],
            scale=[options["scale_x"], options["scale_y"]],
            size=options["output_width"],
        )
    elif name == "TransformTensorBilinear":
        size = [options["output_height"], options["output_width"]]
        reader.add("sample", tuple(map(reader.name, inputs)), output, size=size)
    elif name == "TransformLandmarks":
        reader.add("move", tuple(map(reader.name, inputs)), output)
    elif name == "Convolution2DTransposeBias":
        # (O, kh, kw, I) → (I, O, kh, kw)
        weight, bias = reader.weight(inputs[1], 3, 0, 1, 2), reader.weight(inputs[2])
        reader.add("enlarge", (reader.name(inputs[0]), weight, bias), output)
    else:
        raise ValueError(f"the operator {name} is not known")
