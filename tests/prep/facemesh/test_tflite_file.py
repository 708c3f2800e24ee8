"""TFLite files: small ones made here by the package ``tflite``'s own builders, and MediaPipe's."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import tflite
import torch
from torch.nn import functional

from prep.facemesh import tflite_file
from prep.facemesh.graph import Graph
from prep.facemesh.torch_form import TorchNetwork
from prep.facemesh.weights import SOURCES

KINDS = {np.dtype(np.float32): tflite.TensorType.FLOAT32, np.dtype(np.float16): tflite.TensorType.FLOAT16}
KINDS[np.dtype(np.int32)] = tflite.TensorType.INT32


class Writer:
    """A TFLite file: tensors are numbered from 0, the input, in the order in which they are added."""

    def __init__(self, *shape: int) -> None:
        self.builder = flatbuffers.Builder(1024)
        self.tensors: list[tuple[tuple[int, ...], np.ndarray | None]] = [(shape, None)]
        self.operators: list[tuple[int, str, list[int], int, object]] = []

    def constant(self, values: np.ndarray) -> int:
        self.tensors.append((values.shape, values))
        return len(self.tensors) - 1

    def add(
        self, code: int, inputs: list[int], shape: tuple[int, ...], options=None, custom: str = ""
    ) -> int:
        """An operator; ``options`` are the name of a table and its values."""
        self.tensors.append((shape, None))
        self.operators.append((code, custom, inputs, len(self.tensors) - 1, options))
        return len(self.tensors) - 1

    def vector(self, values: list[int], start) -> int:
        start(self.builder, len(values))
        for value in reversed(values):
            self.builder.PrependUOffsetTRelative(value)
        return self.builder.EndVector()

    def table(self, name: str, **values: object) -> int:
        getattr(tflite, f"{name}Start")(self.builder)
        for key, value in values.items():
            getattr(tflite, f"{name}Add{key}")(self.builder, value)
        return getattr(tflite, f"{name}End")(self.builder)

    def write(self, path: Path, *outputs: int) -> Path:
        b = self.builder
        buffers, tensors, codes, operators = [self.table("Buffer")], [], [], []
        for shape, values in self.tensors:
            number = 0
            if values is not None:
                data = b.CreateByteVector(values.tobytes())
                number = len(buffers)
                buffers.append(self.table("Buffer", Data=data))
            kind = KINDS[values.dtype] if values is not None else tflite.TensorType.FLOAT32
            dims = b.CreateNumpyVector(np.array(shape, np.int32))
            tensors.append(self.table("Tensor", Shape=dims, Type=kind, Buffer=number))
        for number, (code, custom, inputs, output, options) in enumerate(self.operators):
            values = {"BuiltinCode": code, "DeprecatedBuiltinCode": min(code, 127)}
            if custom:
                values["CustomCode"] = b.CreateString(custom)
            codes.append(self.table("OperatorCode", **values))
            ins = b.CreateNumpyVector(np.array(inputs, np.int32))
            outs = b.CreateNumpyVector(np.array([output], np.int32))
            values = {"OpcodeIndex": number, "Inputs": ins, "Outputs": outs}
            if options is not None:
                name, settings = options
                values["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, name)
                values["BuiltinOptions"] = self.table(name, **settings)
            operators.append(self.table("Operator", **values))
        graph = {
            "Tensors": self.vector(tensors, tflite.SubGraphStartTensorsVector),
            "Operators": self.vector(operators, tflite.SubGraphStartOperatorsVector),
            "Inputs": b.CreateNumpyVector(np.array([0], np.int32)),
            "Outputs": b.CreateNumpyVector(np.array(outputs, np.int32)),
        }
        graphs = [self.table("SubGraph", **graph)]
        model = {
            "OperatorCodes": self.vector(codes, tflite.ModelStartOperatorCodesVector),
            "Subgraphs": self.vector(graphs, tflite.ModelStartSubgraphsVector),
            "Buffers": self.vector(buffers, tflite.ModelStartBuffersVector),
        }
        b.Finish(self.table("Model", Version=3, **model), b"TFL3")
        path.write_bytes(bytes(b.Output()))
        return path


OPERATOR = tflite.BuiltinOperator
STRIDES = {"StrideH": 2, "StrideW": 2, "DilationHFactor": 1, "DilationWFactor": 1}


def run(graph: Graph, x: np.ndarray) -> list[np.ndarray]:
    return [values.numpy() for values in TorchNetwork(graph, torch.device("cpu"))(torch.from_numpy(x))]


def test_a_small_file_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(4, 3, 3, 3)).astype(np.float16)  # O, kh, kw, I
    bias, slopes = rng.normal(size=4).astype(np.float32), rng.normal(size=(1, 1, 4)).astype(np.float32)
    file = Writer(1, 7, 8, 3)
    wide = file.add(OPERATOR.DEQUANTIZE, [file.constant(kernel)], kernel.shape)
    options = ("Conv2DOptions", {**STRIDES, "Padding": tflite.Padding.SAME})
    y = file.add(OPERATOR.CONV_2D, [0, wide, file.constant(bias)], (1, 4, 4, 4), options)
    y = file.add(OPERATOR.PRELU, [y, file.constant(slopes)], (1, 4, 4, 4))
    rows = file.add(OPERATOR.RESHAPE, [y], (1, 32, 2), ("ReshapeOptions", {}))
    graph = tflite_file.read(file.write(tmp_path / "small.tflite", rows))
    assert graph.shape == (3, 7, 8) and [node.operator for node in graph.nodes] == ["conv", "prelu", "rows"]
    x = rng.normal(size=(2, 3, 7, 8)).astype(np.float32)
    # SAME: an odd height gets a row before and after, an even width a column after only.
    padded = functional.pad(torch.from_numpy(x), (0, 1, 1, 1))
    weights = torch.from_numpy(kernel.astype(np.float32).transpose(0, 3, 1, 2).copy())
    expected = functional.conv2d(padded, weights, torch.from_numpy(bias), stride=2)
    expected = functional.prelu(expected, torch.from_numpy(slopes.ravel())).numpy()
    (found,) = run(graph, x)
    np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1).reshape(2, 32, 2), rtol=1e-5, atol=1e-5)
    graph.save(tmp_path / "small.safetensors", source="a test")
    again, notes = Graph.load(tmp_path / "small.safetensors")
    assert again.nodes == graph.nodes and notes == {"source": "a test"}
    np.testing.assert_array_equal(run(again, x)[0], found)


def test_a_depthwise_convolution_with_its_padding_and_activation(tmp_path):
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(1, 3, 3, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    file = Writer(1, 6, 6, 5)
    widths = file.constant(np.array([[0, 0], [0, 1], [1, 0], [0, 0]], np.int32))
    x = file.add(OPERATOR.PAD, [0, widths], (1, 7, 7, 5))
    relu = tflite.ActivationFunctionType.RELU
    settings = {**STRIDES, "Padding": tflite.Padding.VALID, "FusedActivationFunction": relu}
    options = ("DepthwiseConv2DOptions", {**settings, "DepthMultiplier": 1})
    inputs = [x, file.constant(kernel), file.constant(bias)]
    y = file.add(OPERATOR.DEPTHWISE_CONV_2D, inputs, (1, 3, 3, 5), options)
    graph = tflite_file.read(file.write(tmp_path / "small.tflite", y))
    assert [node.operator for node in graph.nodes] == ["conv", "relu"]
    picture = torch.from_numpy(rng.normal(size=(1, 5, 6, 6)).astype(np.float32))
    weights = torch.from_numpy(kernel.transpose(3, 0, 1, 2).copy())
    padded = functional.pad(picture, (1, 0, 0, 1))
    expected = functional.conv2d(padded, weights, torch.from_numpy(bias), stride=2, groups=5).clamp(min=0)
    np.testing.assert_allclose(run(graph, picture.numpy())[0], expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("code", "custom", "message"),
    [
        (OPERATOR.SOFTMAX, "", "the operator SOFTMAX is not known"),
        (OPERATOR.CUSTOM, "Flourish", "the operator Flourish is not known"),
    ],
)
def test_an_operator_that_is_not_known(tmp_path, code, custom, message):
    file = Writer(1, 4, 4, 3)
    y = file.add(code, [0], (1, 4, 4, 3), custom=custom)
    with pytest.raises(ValueError, match=f"^{message}$"):
        tflite_file.read(file.write(tmp_path / "odd.tflite", y))


# MediaPipe's files ---------------------------------------------------------------------------------------------------


def package_file(name: str) -> Path:
    found = importlib.util.find_spec("mediapipe")
    if found is None or found.origin is None:
        pytest.skip("the package mediapipe is not installed")
    return Path(found.origin).parent / SOURCES[name][0]


@pytest.mark.parametrize("name", ["short_range", "full_range", "mesh", "person"])
def test_every_convolution_of_a_real_file_is_read(name):
    path = package_file(name)
    model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
    entries = model.Subgraphs(0)
    codes = Counter(
        model.OperatorCodes(entries.Operators(i).OpcodeIndex()).BuiltinCode()
        for i in range(entries.OperatorsLength())
    )
    graph = tflite_file.read(path)
    ours = Counter(node.operator for node in graph.nodes)
    assert ours["conv"] == codes[OPERATOR.CONV_2D] + codes[OPERATOR.DEPTHWISE_CONV_2D] > 10
    for operator, code in (
        ("prelu", OPERATOR.PRELU),
        ("add", OPERATOR.ADD),
        ("concat", OPERATOR.CONCATENATION),
    ):
        assert ours[operator] == codes[code], operator
    assert len(graph.outputs) == {"short_range": 2, "full_range": 2, "mesh": 7, "person": 1}[name]
    made = {graph.input, *graph.weights}
    for node in graph.nodes:
        assert made.issuperset(node.inputs)
        made.add(node.output)
    assert made.issuperset(graph.outputs)
    assert all(np.isfinite(values).all() for values in graph.weights.values())


def test_the_sparse_weights_are_where_their_indices_say():
    """Decoded another way: the numbers of the blocks are listed, then written block by block."""
    path = package_file("full_range")
    model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
    entries, weights = model.Subgraphs(0), tflite_file.read(path).weights
    kinds = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}
    checked = 0
    for number in range(entries.OperatorsLength()):
        operator = entries.Operators(number)
        if model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode() != OPERATOR.DENSIFY:
            continue
        tensor = entries.Tensors(int(operator.Inputs(0)))
        sparsity, (rows, high, wide, columns) = tensor.Sparsity(), tensor.ShapeAsNumpy().tolist()
        assert high == wide == 1
        blocks, length = sparsity.BlockMapLength(), 1
        listed = [sparsity.DimMetadata(i) for i in range(sparsity.DimMetadataLength())]
        if blocks:
            assert sparsity.BlockMapAsNumpy().tolist() in ([0], [3])
            length = listed[-1].DenseSize()
        (sparse,) = (entry for entry in listed if entry.Format() == tflite.DimensionType.SPARSE_CSR)
        arrays = []
        for which in ("ArraySegments", "ArrayIndices"):
            vector = kinds[getattr(sparse, f"{which}Type")()]()
            table = getattr(sparse, which)()
            vector.Init(table.Bytes, table.Pos)
            arrays.append(vector.ValuesAsNumpy().astype(int))
        segments, indices = arrays
        kind = np.float16 if tensor.Type() == tflite.TensorType.FLOAT16 else np.float32
        values = model.Buffers(tensor.Buffer()).DataAsNumpy().view(kind).reshape(len(indices), length)
        along_rows = bool(blocks) and sparsity.BlockMap(0) == 0
        owner = np.repeat(np.arange(len(segments) - 1), np.diff(segments))
        dense = np.zeros((rows, columns), np.float32)
        for row, column, block in zip(owner, indices, values, strict=True):
            for i, value in enumerate(block):
                place = (row * length + i, column) if along_rows else (row, column * length + i)
                dense[place] = value
        matching = [
            found
            for found in weights.values()
            if found.shape == (rows, columns, 1, 1) and np.array_equal(found[..., 0, 0], dense)
        ]
        assert matching and 0 < np.count_nonzero(dense) < dense.size
        checked += 1
    assert checked > 5
