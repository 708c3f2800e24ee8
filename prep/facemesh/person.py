"""MediaPipe's selfie segmentation: which pixels of a picture show a person."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch

from prep.facemesh import region
from prep.facemesh.graph import Graph
from prep.facemesh.torch_form import TorchNetwork, on_device, square
from prep.facemesh.weights import networks

#: Side in pixels of the network's input.
SIDE = 256


@torch.inference_mode()
def person(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """How likely each pixel shows a person, by the general model of MediaPipe 0.10.21's selfie segmentation.

    Args:
        picture: (H, W, 3) uint8 RGB.

    Returns:
        (H, W) float32, 0 to 1.

    Raises:
        PrepError: the weights cannot be had.
    """
    height, width = picture.shape[:2]
    graph, _ = Graph.load(networks("person")["person"].graph)
    whole = np.array([width / 2, height / 2, width, height, 0], np.float32)
    device = torch.device("cpu")
    matrix = torch.as_tensor(region.matrix(whole, SIDE))
    sample = square(on_device(picture, device), matrix, SIDE, 0.0, False)
    (mask,) = TorchNetwork(graph, device)(sample[None])
    return cv2.resize(mask[0, 0].numpy(), (width, height))
