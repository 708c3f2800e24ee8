"""The CPU's kernels against torch: single operators in random forms, and the whole networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prep.facemesh import region
from prep.facemesh.detector import make_engine
from prep.facemesh.graph import Graph, Node
from prep.facemesh.plan import plan
from prep.facemesh.torch_form import TorchEngine, TorchNetwork
from prep.facemesh.weights import networks


class Draw:
    """A random graph: every method adds an operator and returns the name of its value."""

    def __init__(self, seed: int, height: int, width: int, channels: int = 3) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = (channels, height, width)
        self.nodes: list[Node] = []
        self.weights: dict[str, np.ndarray] = {}

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = (self.rng.normal(size=shape) * scale).astype(np.float32)
        return name

    def add(self, operator: str, *inputs: str, **settings: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(Node(operator, inputs, name, settings))
        return name

    def conv(
        self, x: str, into: int, out: int, kernel: int = 3, stride: int = 1, padding=(1, 1, 1, 1)
    ) -> str:
        weights = self.weight(out, into, kernel, kernel, scale=1 / (kernel * into**0.5))
        settings = {"stride": stride, "padding": list(padding), "groups": 1}
        return self.add("conv", x, weights, self.weight(out), **settings)

    def depthwise(self, x: str, channels: int, stride: int = 1, padding=(1, 1, 1, 1)) -> str:
        weights = self.weight(channels, 1, 3, 3, scale=0.3)
        settings = {"stride": stride, "padding": list(padding), "groups": channels}
        return self.add("conv", x, weights, self.weight(channels), **settings)

    def prelu(self, x: str, channels: int) -> str:
        return self.add("prelu", x, self.weight(channels, 1, 1))

    def check(self, *outputs: tuple[str, int], batch: int = 2) -> None:
        """The rows of some values, with so many channels, are those that torch calculates."""
        names = tuple(self.add("rows", name, length=channels) for name, channels in outputs)
        self.check_flat(*names, batch=batch)

    def check_flat(self, *names: str, batch: int = 2) -> None:
        graph = Graph(tuple(self.nodes), self.weights, "x", self.shape, names)
        values = self.rng.normal(size=(batch, *self.shape)).astype(np.float32)
        made = plan(graph)
        memory = made.memory(batch)
        for own, picture in zip(memory, values, strict=True):
            made.square(own)[:] = picture.transpose(1, 2, 0)
        with torch.inference_mode():
            expected = TorchNetwork(graph, torch.device("cpu"))(torch.from_numpy(values))
        for _ in range(2):  # the borders of the memory are still zero
            for found, right in zip(made.run(memory), expected, strict=True):
                assert np.abs(right.numpy()).max() > 0.1
                np.testing.assert_allclose(found, right.numpy(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("seed", range(10))
def test_convolutions(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(length) for length in rng.integers(5, 27, 2))
    first, second, third = (int(channels) for channels in rng.integers(1, 41, 3))
    stride = int(rng.integers(1, 3))
    draw = Draw(seed, height, width)
    kernel = int(rng.choice([1, 2, 3, 5]))
    padding = rng.integers(0, min(kernel, 3), 4).tolist()
    x = draw.prelu(draw.conv("x", 3, first, kernel, stride, padding), first)
    if seed % 2:
        x = draw.add("relu", draw.conv(x, first, second, 3, 1, (1, 1, 1, 1)))
    else:
        x = draw.conv(x, first, second, 1, 1, (0, 0, 0, 0))
    y = draw.conv(x, second, third, 2, 2, (0, 1, 1, 0))
    draw.check((x, second), (y, third))


@pytest.mark.parametrize("seed", range(10))
def test_depthwise_convolutions_and_blocks(seed):
    rng = np.random.default_rng(100 + seed)
    height, width = (int(length) for length in rng.integers(5, 24, 2))
    first, second = (int(channels) for channels in rng.integers(1, 41, 2))
    stride, padding = (1, (1, 1, 1, 1)) if seed % 2 else (2, (0, 0, 1, 1))
    draw = Draw(seed, height, width)
    x = draw.conv("x", 3, first)
    alone = draw.prelu(draw.depthwise(x, first, stride, padding), first)
    joined = draw.conv(draw.depthwise(x, first, stride, padding), first, second, 1, 1, (0, 0, 0, 0))
    joined = draw.prelu(joined, second) if seed % 3 else draw.add("relu", joined)
    draw.check((alone, first), (joined, second), batch=1 + seed % 4)


@pytest.mark.parametrize(("first", "more"), [(24, 0), (5, 3), (8, 8), (16, 3), (24, 17), (24, 8), (3, 30)])
def test_residual_blocks_with_added_channels(first, more):
    draw = Draw(first, 11, 13)
    x = draw.conv("x", 3, first)
    y = draw.conv(draw.depthwise(x, first), first, first + more, 1, 1, (0, 0, 0, 0))
    skip = draw.add("pad_channels", x, channels=more) if more else x
    total = draw.prelu(draw.add("add", y, skip), first + more)
    turned = draw.add("relu", draw.add("add", x, draw.conv(x, first, first)))
    draw.check((total, first + more), (turned, first))


@pytest.mark.parametrize("seed", range(4))
def test_additions_pooling_and_enlargements(seed):
    height, width, channels = 2 * (3 + seed), 2 * (6 - seed), (8, 5, 17, 24)[seed]
    draw = Draw(seed, height, width)
    x = draw.conv("x", 3, channels)
    pooled = draw.add("max_pool", x, size=2)
    larger = draw.add("upsample", pooled, size=[height, width])
    total = draw.prelu(draw.add("add", larger, x), channels)
    plain = draw.add("add", total, larger)
    draw.check((pooled, channels), (larger, channels), (plain, channels))


@pytest.mark.parametrize(("block", "channels"), [(2, 16), (2, 12), (4, 16), (4, 80)])
def test_depth_to_space(block, channels):
    draw = Draw(block, 5, 7)
    x = draw.add("depth_to_space", draw.conv("x", 3, channels), block=block)
    draw.check((x, channels // block**2))


def test_rows_are_joined_and_multiplied():
    draw = Draw(7, 6, 6)
    a, b = draw.conv("x", 3, 12), draw.conv("x", 3, 12, stride=2)
    rows = draw.add("concat", *(draw.add("rows", name, length=6) for name in (a, b)))
    draw.check_flat(rows, draw.add("scale", rows, draw.weight(1)))


@pytest.mark.parametrize("seed", range(4))
def test_a_sample_about_points(seed):
    """As the mesh with attention: points of a picture, the rotated box about some, what is there, points back."""
    draw = Draw(seed, 16, 16)
    x = draw.conv("x", 3, 13)
    points = draw.add("rows", draw.conv("x", 3, 3, stride=2), length=3)
    draw.weights[f"w{len(draw.weights) - 1}"] += 4  # the middle of the picture, after the scale
    draw.weights["scale"] = np.array([2.0], np.float32)
    points = draw.add("scale", points, "scale")
    settings = {"points": [3, 5, 8, 13, 21, 40], "axis": [2, 9], "scale": [1.5, 2.0], "size": 8}
    matrix = draw.add("region", points, **settings)
    sampled = draw.add("sample", x, matrix, size=[8, 8])
    plane = draw.add("rows", draw.conv(sampled, 13, 2), length=2)
    moved = draw.add("move", plane, matrix)
    draw.check_flat(matrix, draw.add("rows", sampled, length=13), moved)


def test_what_the_kernels_do_not_know_is_refused():
    for operator, settings in (("max_pool", {"size": 3}), ("upsample", {"size": [9, 9]}), ("mean", {})):
        draw = Draw(0, 6, 6)
        draw.add("rows", draw.add(operator, draw.conv("x", 3, 8), **settings), length=8)
        graph = Graph(tuple(draw.nodes), draw.weights, "x", draw.shape, ("v2",))
        with pytest.raises(ValueError, match=r"2×2|by 2|mean"):
            plan(graph)
    draw = Draw(0, 6, 6)
    draw.conv("x", 3, 8, 7, 1, (3, 3, 3, 3))
    with pytest.raises(ValueError, match="larger than the border"):
        plan(Graph(tuple(draw.nodes), draw.weights, "x", draw.shape, ("v0",)))


def test_the_networks_give_the_same_by_both_engines():
    names = ("short_range", "full_range", "mesh")
    cpu, other = make_engine("cpu", *names), TorchEngine(networks(*names), "cpu")
    frames = [np.random.default_rng(i).integers(0, 256, (90 + i, 70, 3), np.uint8) for i in range(5)]
    square = np.array([30, 40, 60, 60, 0.3], np.float32)
    for name, side in zip(names, (128, 192, 192), strict=True):
        places = [(i, region.matrix(square, side)) for i in range(5)]
        outputs = zip(
            cpu.run(name, cpu.take(frames), places), other.run(name, other.take(frames), places), strict=True
        )
        for found, expected in outputs:
            assert len(found) == 5
            np.testing.assert_allclose(found.reshape(5, -1), expected.reshape(5, -1), rtol=1e-3, atol=2e-3)
