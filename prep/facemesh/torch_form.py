"""Runs the networks with torch, on any of its devices: the same graphs, the same squares to the byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from prep.errors import PrepError
from prep.facemesh.crop import BLOCK
from prep.facemesh.engine import INPUTS, Place
from prep.facemesh.graph import Graph, Node
from prep.facemesh.weights import NetworkFile

Float32 = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

#: Squares that a network sees at once.
BATCH = 64


class TorchEngine:
    """One device.

    Args:
        files: of the networks, by name.
        device: of torch.
    """

    def __init__(self, files: Mapping[str, NetworkFile], device: str) -> None:
        self._files = files
        self._device = usable(device)
        self._networks: dict[str, TorchNetwork] = {}

    def take(self, frames: Sequence[Image]) -> list[Tensor]:
        """See :class:`~prep.facemesh.engine.Engine`; the frames are on the device."""
        return [on_device(frame, self._device) for frame in frames]

    @torch.inference_mode()
    def run(self, network: str, frames: Any, places: Sequence[Place]) -> list[Float32]:
        """See :class:`~prep.facemesh.engine.Engine`."""
        if network not in self._networks:
            graph, _ = Graph.load(self._files[network].graph)
            self._networks[network] = TorchNetwork(graph, self._device)
        form = INPUTS[network]
        parts = []
        for start in range(0, len(places), BATCH):
            squares = [
                square(
                    frames[number],
                    torch.as_tensor(matrix, device=self._device),
                    form.side,
                    form.low,
                    form.edge,
                )
                for number, matrix in places[start : start + BATCH]
            ]
            parts.append(self._networks[network](torch.stack(squares)))
        return [torch.cat(outputs).cpu().numpy() for outputs in zip(*parts, strict=True)]


def usable(device: str) -> torch.device:
    """A device by its name.

    Raises:
        PrepError: torch does not know it, or this machine does not have it.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise PrepError(f"torch cannot use the device {device} here ({reason}): use --device cpu") from error
    return torch.device(device)


def on_device(frame: Image, device: torch.device) -> Tensor:
    """A frame as a tensor; torch warns of arrays that are not writable, so they are copied."""
    frame = np.ascontiguousarray(frame)
    return torch.as_tensor(frame if frame.flags.writeable else frame.copy(), device=device)


def square(frame: Tensor, matrix: Tensor, side: int, low: float, edge: bool) -> Tensor:
    """:func:`prep.facemesh.crop.cut` on the frame's device.

    Args:
        frame: (H, W, 3) uint8.
        matrix: (3, 3) float64.
        side: S, of the result.
        low: the value of byte 0; that of byte 255 is 1.
        edge: repeat the frame's edge outside of it; otherwise the bytes there are 0.

    Returns:
        (3, S, S) float32.
    """
    height, width = frame.shape[:2]
    rows = torch.arange(side, device=frame.device, dtype=torch.float64)[:, None]
    columns = torch.arange(side, device=frame.device, dtype=torch.float64)[None]
    within = columns % BLOCK
    # As the kernel adds: first the place of the block, then the one in it.
    begin = matrix[:, 0, None, None] * (columns - within) + matrix[:, 1, None, None] * rows
    x, y, w = begin + matrix[:, 2, None, None]
    scale = 32.0 / (w + matrix[2, 0] * within)
    across = torch.round((x + matrix[0, 0] * within) * scale).long()
    down = torch.round((y + matrix[1, 0] * within) * scale).long()
    right, below = (across & 31)[..., None], (down & 31)[..., None]
    left, top = across >> 5, down >> 5

    def pixels(i: Tensor, j: Tensor) -> Tensor:
        values = frame[i.clamp(0, height - 1), j.clamp(0, width - 1)].int()
        if not edge:
            values *= ((i >= 0) & (i < height) & (j >= 0) & (j < width))[..., None]
        return values

    upper = pixels(top, left) * (32 - right) + pixels(top, left + 1) * right
    lower = pixels(top + 1, left) * (32 - right) + pixels(top + 1, left + 1) * right
    byte = (upper * (32 - below) + lower * below + 512) >> 10
    return byte.permute(2, 0, 1).float() * float(np.float32((1 - low) / 255)) + low


class TorchNetwork:
    """A graph on a device: of (B, C, H, W) float32 the outputs, in the order of the graph."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self._graph = graph
        self._weights = {
            name: torch.as_tensor(values, device=device) for name, values in graph.weights.items()
        }

    def __call__(self, batch: Tensor) -> list[Tensor]:
        """Run it."""
        values = {**self._weights, self._graph.input: batch}
        for node in self._graph.nodes:
            values[node.output] = _OPERATORS[node.operator](node, *(values[name] for name in node.inputs))
        return [values[name] for name in self._graph.outputs]


def _conv(node: Node, x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    top, left, bottom, right = node.settings["padding"]
    padded = functional.pad(x, (left, right, top, bottom))
    return functional.conv2d(padded, weights, bias, node.settings["stride"], groups=node.settings["groups"])


def _upsample(node: Node, x: Tensor) -> Tensor:
    return functional.interpolate(x, node.settings["size"], mode="bilinear", align_corners=False)


def _depth_to_space(node: Node, x: Tensor) -> Tensor:
    block = node.settings["block"]
    batch, channels, height, width = x.shape
    split = x.view(batch, block, block, channels // block**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return split.reshape(batch, channels // block**2, height * block, width * block)


def _rows(node: Node, x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, node.settings["length"])


def _region(node: Node, points: Tensor) -> Tensor:
    """See :func:`prep.facemesh.kernels._region`."""
    settings, plane = node.settings, points[..., :2]
    first, second = settings["axis"]
    along = plane[:, second] - plane[:, first]
    along = along / along.norm(dim=1, keepdim=True)
    aside = torch.stack([-along[:, 1], along[:, 0]], dim=1)
    axes = torch.stack([along, aside], dim=2)  # (B, 2, 2), columns: unit vectors
    turned = plane[:, settings["points"]] @ axes
    low, high = turned.amin(dim=1), turned.amax(dim=1)
    size = settings["size"]
    linear = axes * ((high - low) * points.new_tensor(settings["scale"]) / size)[:, None]
    middle = (axes @ ((low + high) / 2)[..., None])[..., 0]
    return torch.cat([linear, (middle - linear.sum(dim=2) * size / 2)[..., None]], dim=2)


def _sample(node: Node, x: Tensor, matrix: Tensor) -> Tensor:
    """See :func:`prep.facemesh.kernels._sample`."""
    height, width = node.settings["size"]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=x.device) + 0.5, torch.arange(width, device=x.device) + 0.5, indexing="ij"
    )
    ones = torch.ones_like(rows)
    places = matrix @ torch.stack([columns, rows, ones]).reshape(3, -1) - 0.5  # (B, 2, H·W)
    last = places.new_tensor([x.shape[3] - 1, x.shape[2] - 1])[:, None]
    inside = ((places >= 0) & (places <= last)).all(dim=1).view(-1, 1, height, width)
    grid = (places * 2 / last - 1).transpose(1, 2).view(-1, height, width, 2)
    sampled = functional.grid_sample(x, grid, padding_mode="border", align_corners=True)
    return sampled * inside


def _move(node: Node, points: Tensor, matrix: Tensor) -> Tensor:
    return points @ matrix[..., :2].transpose(1, 2) + matrix[:, None, :, 2]


_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "conv": _conv,
    "relu": lambda node, x: functional.relu(x),
    "prelu": lambda node, x, slopes: functional.prelu(x, slopes.view(-1)),
    "add": lambda node, x, other: x + other,
    "times": lambda node, x, other: x * other,
    "hard_swish": lambda node, x: functional.hardswish(x),
    "sigmoid": lambda node, x: torch.sigmoid(x),
    "mean": lambda node, x: x.mean(dim=(2, 3), keepdim=True),
    "enlarge": lambda node, x, weights, bias: functional.conv_transpose2d(x, weights, bias, stride=2),
    "max_pool": lambda node, x: functional.max_pool2d(x, node.settings["size"]),
    "pad_channels": lambda node, x: functional.pad(x, (0, 0, 0, 0, 0, node.settings["channels"])),
    "upsample": _upsample,
    "depth_to_space": _depth_to_space,
    "rows": _rows,
    "concat": lambda node, *rows: torch.cat(rows, dim=1),
    "scale": lambda node, x, factor: x * factor,
    "region": _region,
    "sample": _sample,
    "move": _move,
}
