"""The ArcFace network (Deng et al., CVPR 2019) and its input images.

Architecture and parameter names are those of insightface's ``arcface_torch`` (``backbones/iresnet.py``), so its
checkpoints can be loaded: a ResNet whose blocks begin with a batch normalisation and whose first layer keeps the
resolution (Duta et al., "Improved Residual Networks", ICPR 2020).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bench.common.errors import BenchError, Unavailable
from bench.weights.tensors import load_state_dict
from prep.landmark_sets import MESH_TO_68
from prep.warping import warp

Float = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

#: Side of the network's input images in pixels, and length of its vectors.
SIZE, FEATURES = 112, 512
#: Positions of eyes, tip of the nose and corners of the mouth in an aligned image, in pixel indices; of two, the
#: left one #: in the image comes first (insightface, ``face_align.py``).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
#: Residual blocks of the four stages of iresnet100, and channels after each.
R100 = (3, 13, 30, 3)
_CHANNELS = (64, 128, 256, 512)


class _Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.prelu = nn.PReLU(out)
        self.conv2 = nn.Conv2d(out, out, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y = self.bn3(self.conv2(y))
        result: torch.Tensor = y + self.downsample(x)
        return result


class IResNet(nn.Module):
    """The backbone of ArcFace.

    Args:
        blocks: residual blocks of the four stages, :data:`R100` for iresnet100.
    """

    def __init__(self, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        channels = _CHANNELS[0]
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        for stage, (count, out) in enumerate(zip(blocks, _CHANNELS, strict=True), start=1):
            layers = [_Block(channels, out, 2), *(_Block(out, out, 1) for _ in range(count - 1))]
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
            channels = out
        self.bn2 = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels * (SIZE // 16) ** 2, FEATURES)
        self.features = nn.BatchNorm1d(FEATURES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, 112, 112) float32 RGB in -1 … 1 → (n, 512), not normalised."""
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        result: torch.Tensor = self.features(self.fc(self.bn2(x).flatten(1)))
        return result


class ArcFace:
    """A network with its weights, for inference.

    Args:
        network: on the CPU or the device.
        device: torch device.
    """

    def __init__(self, network: nn.Module, device: str) -> None:
        self.device = device
        self.network = network.to(device).eval().requires_grad_(False)

    def embed(self, pictures: Image) -> npt.NDArray[np.float32]:
        """Identity vectors of faces.

        Args:
            pictures: (n, 112, 112, 3) uint8 RGB.

        Returns:
            (n, 512) float32, not normalised.
        """
        if not len(pictures):
            return np.empty((0, FEATURES), np.float32)
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device).permute(0, 3, 1, 2)
            features: npt.NDArray[np.float32] = self.network((x.float() / 255 - 0.5) / 0.5).cpu().numpy()
        return features


@lru_cache(maxsize=1)
def load_arcface(path: Path, device: str, remedy: str = "") -> ArcFace:
    """iresnet100 with the weights of a file. The last one loaded is cached for all metrics of the process.

    Args:
        path: a state dict of insightface's ``arcface_torch`` (``backbone.pth``).
        device: torch device.
        remedy: the command that gets the right file.

    Raises:
        Unavailable: the file is damaged, or holds another network.
    """
    try:
        state = load_state_dict(path)
    except BenchError as error:
        raise Unavailable(str(error), remedy) from error
    with torch.device("meta"):
        network = IResNet(R100)
    wanted = network.state_dict()
    for key, tensor in wanted.items():
        if key not in state:
            if not key.endswith("num_batches_tracked"):
                raise Unavailable(f"{path} is not ArcFace r100: it lacks {key}", remedy)
            state[key] = torch.zeros((), dtype=torch.long)
        elif state[key].shape != tensor.shape:
            shapes = f"{tuple(state[key].shape)}, not {tuple(tensor.shape)}"
            raise Unavailable(f"{path} is not ArcFace r100: {key} is {shapes}", remedy)
    if extra := next((key for key in state if key not in wanted), ""):
        raise Unavailable(f"{path} is not ArcFace r100: it holds {extra}", remedy)
    network.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, assign=True
    )
    return ArcFace(network, device)


def five_points(landmarks: npt.ArrayLike) -> Float:
    """The five points for aligning a face, computed from FaceMesh landmarks.

    Args:
        landmarks: (n, 478, 2 or 3), pixels.

    Returns:
        (n, 5, 2) float64 in the same pixels: the middle of the six points of either eye, tip of the nose, corners
        of the mouth; of :data:`~prep.landmark_sets.MESH_TO_68`, in the order of :data:`TEMPLATE`.
    """
    points = np.asarray(landmarks, np.float64)[:, MESH_TO_68, :2]
    eyes = points[:, 36:42].mean(axis=1), points[:, 42:48].mean(axis=1)
    return np.stack([*eyes, points[:, 30], points[:, 48], points[:, 54]], axis=1)


def similarity(source: npt.ArrayLike, target: npt.ArrayLike) -> Float:
    """The similarity transform (rotation, scale, translation) that maps points to others with least squared error.

    In the plane this is a linear regression of complex numbers, without reflection. The result equals that of Umeyama
    (PAMI 1991).

    Args:
        source: (n, k, 2).
        target: (k, 2) or (n, k, 2).

    Returns:
        (n, 2, 3) float64 that map source to target.
    """
    z, w = (np.asarray(points, np.float64) @ np.array([1, 1j]) for points in (source, target))
    z_mean, w_mean = z.mean(axis=-1, keepdims=True), w.mean(axis=-1, keepdims=True)
    a = (np.conj(z - z_mean) * (w - w_mean)).sum(axis=-1) / (np.abs(z - z_mean) ** 2).sum(axis=-1)
    b = w_mean[..., 0] - a * z_mean[..., 0]
    return np.stack([np.stack([a.real, -a.imag, b.real], -1), np.stack([a.imag, a.real, b.imag], -1)], -2)


def align(frames: Image, points: npt.ArrayLike) -> Image:
    """Crop and align faces as in ArcFace's training (insightface, ``norm_crop``): bilinear, black outside the
    frame.

    Args:
        frames: (n, H, W, 3) uint8.
        points: (n, 5, 2) of :func:`five_points`, in continuous pixels of the frame.

    Returns:
        (n, 112, 112, 3) uint8.
    """
    # A pixel's index is half a pixel less than the continuous coordinate of its centre.
    matrices = similarity(np.asarray(points, np.float64) - 0.5, TEMPLATE)
    pairs = zip(frames, matrices, strict=True)
    return np.stack([warp(frame, matrix, (SIZE, SIZE)) for frame, matrix in pairs])


def squash(frames: Image) -> Image:
    """Whole frames (n, H, W, 3) uint8 → (n, 112, 112, 3), by ``cv2.resize``: bilinear, no low-pass filter."""
    return np.stack([cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) for frame in frames])
