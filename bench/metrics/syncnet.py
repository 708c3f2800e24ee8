"""SyncNet v2: features of lips and of sound, their distances, and LSE-D and LSE-C computed from them.

Chung and Zisserman, *Out of time: automated lip sync in the wild*, 2016. The numbers equal those of ``evaluate`` in
``SyncNetInstance.py`` of joonson/syncnet_python, with the ``vshift`` of 15 used by its scripts and Wav2Lip's.

The network is that of package syncnet-python. For speed its batch normalisation is folded into the convolutions.
Three-dimensional convolutions, which all cover five frames, run as two-dimensional convolutions on 15 channels.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.common.errors import BenchError, Unavailable, Unscorable
from bench.metrics.base import Context, Float, Image, Share
from prep.installing import install
from prep.sound.mfcc import mfcc

T = TypeVar("T")

#: Side of SyncNet's input images in pixels, frames per window, MFCC columns per window, samples per frame.
SIZE, WINDOW, COLUMNS, SAMPLES_PER_FRAME = 224, 5, 20, 640
#: Largest shift of the sound in frames, in both directions.
VSHIFT = 15
#: Frames (with their sound) of the shortest clip that has a window: the last window is never used.
MIN_FRAMES = WINDOW + 1
#: Added to every difference before the norm is taken, as ``torch.nn.functional.pairwise_distance`` does.
EPSILON = 1e-6
#: Number of windows of the median filter of the framewise confidence.
MEDIAN_WINDOW = 9
# Windows processed at once. The groups start at the clip's first window, so no figure depends on how frames arrive.
_CHUNK = 8
_AUDIO_CHUNK = 64
# Number of sounds whose features are cached: the methods of one clip mostly share one.
_SOUNDS = 4


class SyncNetV2:
    """The two networks, ready to run.

    Args:
        state: the state dict of ``syncnet_v2.model``: 102 tensors.
        device: of torch.

    Raises:
        Unavailable: package syncnet-python is not installed.
        RuntimeError: ``state`` is of another network.
    """

    def __init__(self, state: Mapping[str, Tensor], device: str = "cpu") -> None:
        net = original(state)
        self.device = torch.device(device)
        self.lip = nn.Sequential(_folded(net.netcnnlip), nn.Flatten(), net.netfclip)
        self.sound = nn.Sequential(_folded(net.netcnnaud), nn.Flatten(), net.netfcaud)
        for part in (self.lip, self.sound):
            part.requires_grad_(False).eval().to(self.device).to(memory_format=torch.channels_last)
        self._sounds: OrderedDict[Hashable, Float] = OrderedDict()

    def lip_features(self, pictures: Image) -> Float:
        """Features of all windows of five successive pictures.

        Args:
            pictures: (n + 4, 224, 224, 3) uint8, BGR.

        Returns:
            (n, 1024) float32.
        """
        n = len(pictures) - WINDOW + 1
        frames = torch.from_numpy(pictures).to(self.device)
        # Channel 5 c + t is colour c of frame t, innermost in memory: the layout in which convolutions are fastest.
        windows = torch.stack([frames[t : t + n] for t in range(WINDOW)], dim=-1)
        windows = windows.reshape(n, SIZE, SIZE, 3 * WINDOW).permute(0, 3, 1, 2).float()
        return self._run(self.lip, windows)

    def sound_features(self, samples: npt.NDArray[np.int16], n: int) -> Float:
        """Features of the sound beside the first ``n`` windows.

        Args:
            samples: (m,) int16, 16 kHz; m ≥ 640 (n + 5).
            n: windows.

        Returns:
            (n, 1024) float32.
        """
        samples = np.ascontiguousarray(samples)
        key = (hashlib.blake2b(samples.tobytes()).digest(), n)
        if key not in self._sounds:
            columns = torch.from_numpy(np.ascontiguousarray(mfcc(samples).T))
            windows = columns.unfold(1, COLUMNS, COLUMNS // WINDOW)[:, :n].permute(1, 0, 2)[:, None]
            chunks = [self._run(self.sound, chunk.to(self.device)) for chunk in windows.split(_AUDIO_CHUNK)]
            self._sounds[key] = np.concatenate(chunks)
            while len(self._sounds) > _SOUNDS:
                self._sounds.popitem(last=False)
        return self._sounds[key]

    def _run(self, net: nn.Module, windows: Tensor) -> Float:
        with torch.inference_mode():
            features: Float = net(windows).cpu().numpy()
        return features


def original(state: Mapping[str, Tensor]) -> Any:
    """The network of package syncnet-python, with ``state`` loaded.

    Raises:
        Unavailable: the package is not installed.
        RuntimeError: ``state`` is of another network.
    """
    try:
        from syncnet_python.SyncNetModel import S
    except ImportError as error:
        raise Unavailable("package syncnet-python is not installed", install()) from error
    net = S()
    net.load_state_dict(dict(state))
    return net.eval()


def load_syncnet(context: Context) -> SyncNetV2:
    """SyncNet with the registry's weights ``syncnet_v2``; one network per process and device.

    Raises:
        Unavailable: the weights, or package syncnet-python, are missing.
        BenchError: the file holds other weights.
    """
    return _load_syncnet(context.weights.path("syncnet_v2"), context.device)


@lru_cache(maxsize=2)
def _load_syncnet(path: Path, device: str) -> SyncNetV2:
    return load_network(path, "SyncNet v2", lambda state: SyncNetV2(state, device))


def load_network(path: Path, name: str, build: Callable[[dict[str, Tensor]], T]) -> T:
    """The network that ``build`` makes from the weights in a file.

    Raises:
        bench.common.errors.BenchError: they do not fit.
    """
    from bench.weights.tensors import load_state_dict

    state = load_state_dict(path)
    try:
        return build(state)
    except RuntimeError as error:
        raise BenchError(f"{path} does not hold the weights of {name}: get that file again") from error


def _folded(layers: nn.Sequential) -> nn.Sequential:
    """The same function as ``layers`` in evaluation: normalisation folded in, time folded into the channels."""
    result: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            result[-1] = _normalised(result[-1], layer)
        elif isinstance(layer, nn.Conv3d):
            result.append(_flat_conv(layer))
        elif isinstance(layer, nn.MaxPool3d):
            kernel, stride, padding = (_sides(x) for x in (layer.kernel_size, layer.stride, layer.padding))
            result.append(nn.MaxPool2d(kernel, stride, padding))
        else:
            result.append(layer)
    return nn.Sequential(*result)


def _sides(size: Any) -> tuple[int, int]:
    """Height and width of a size that is one number, or one of time, height and width."""
    return (size, size) if isinstance(size, int) else (size[-2], size[-1])


def _flat_conv(layer: nn.Conv3d) -> nn.Conv2d:
    out, channels, time, height, width = layer.weight.shape
    flat = nn.Conv2d(
        channels * time, out, (height, width), _sides(layer.stride), padding=_sides(layer.padding)
    )
    flat.weight.data = layer.weight.data.reshape(out, channels * time, height, width)
    assert layer.bias is not None
    flat.bias = layer.bias
    return flat


def _normalised(conv: nn.Module, norm: nn.BatchNorm2d | nn.BatchNorm3d) -> nn.Conv2d:
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = (conv.bias.double() - norm.running_mean.double()) * scale + norm.bias.double()
    result = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        _sides(conv.kernel_size),
        _sides(conv.stride),
        padding=_sides(conv.padding),
    )
    result.weight.data = (conv.weight.double() * scale.view(-1, 1, 1, 1)).float()
    result.bias = nn.Parameter(bias.float())
    return result


def distances(lips: Float, sounds: Float, vshift: int = VSHIFT) -> npt.NDArray[np.float64]:
    r"""Distances between windows of pictures and of sound, up to ``vshift`` frames apart.

    ``d[i, j]`` is :math:`\lVert l_i - s_{i + j - v} + 10^{-6} \rVert_2`. Beyond both ends the features of the sound
    are zero: the reference pads in this way and includes these distances in its means.

    Args:
        lips: (n, d) features.
        sounds: (n, d) features.
        vshift: frames.

    Returns:
        (n, 2 vshift + 1) float64.
    """
    n = len(lips)
    lips = lips.astype(np.float64) + EPSILON
    padded = np.pad(sounds.astype(np.float64), ((vshift, vshift), (0, 0)))
    result = np.empty((n, 2 * vshift + 1))
    for i in range(n):
        difference = lips[i] - padded[i : i + 2 * vshift + 1]
        result[i] = np.sqrt(np.einsum("jd,jd->j", difference, difference))
    return result


@dataclass(frozen=True)
class Sync:
    """The result for the distances of one video.

    Attributes:
        offset: shift of the smallest mean distance, frames at 25 fps; positive if the video is late: the sound that
            fits best is ``offset`` frames earlier.
        distance: LSE-D, the mean distance at that shift.
        confidence: LSE-C, the median over the shifts of the mean distance, minus ``distance``.
        distances: (n,) float64, the distance of every window at that shift.
        confidences: (n,) float64, the median minus these, median-filtered over 9 windows (zeros beyond the ends).
    """

    offset: int
    distance: float
    confidence: float
    distances: npt.NDArray[np.float64]
    confidences: npt.NDArray[np.float64]


def judge(table: npt.NDArray[np.float64]) -> Sync:
    """Offset, LSE-D and LSE-C of the (n, 2 vshift + 1) ``table`` that :func:`distances` returns, n ≥ 1."""
    from scipy.ndimage import median_filter

    means = table.mean(axis=0)
    best = int(means.argmin())
    # torch.median is the lower of two middle values; an odd number of shifts has one.
    median = float(np.sort(means)[(len(means) - 1) // 2])
    at_best = table[:, best]
    return Sync(
        offset=table.shape[1] // 2 - best,
        distance=float(means[best]),
        confidence=median - float(means[best]),
        distances=at_best,
        confidences=median_filter(median - at_best, MEDIAN_WINDOW, mode="constant"),
    )


class SyncReader:
    """Judges one video whose frames arrive in order. It stores the features, but only about a dozen frames.

    Args:
        net: the network.
        samples: (m,) int16, 16 kHz: the sound; sample 0 belongs to the first frame.
        n_frames: expected number of frames, so that the last ones are processed with their batch.
        vshift: see :func:`distances`.

    Attributes:
        seen: number of frames so far.
        heard: number of frames that have sound.
        kept: (224, 224, 3) uint8, BGR: the frames needed for the next windows.
    """

    def __init__(
        self,
        net: SyncNetV2,
        samples: npt.NDArray[np.int16],
        n_frames: int | None = None,
        vshift: int = VSHIFT,
    ) -> None:
        self.net = net
        self.samples = samples
        self.vshift = vshift
        self.n_frames = n_frames
        self.heard = len(samples) // SAMPLES_PER_FRAME
        self.seen = 0
        self.kept: list[Image] = []
        self._features: list[Float] = []
        self._done = 0  # windows whose features are known

    @property
    def n_windows(self) -> int:
        """Number of windows of the frames so far; the last window is dropped, as in the reference."""
        return max(0, min(self.seen, self.heard) - WINDOW)

    def add(self, pictures: Iterable[Image], share: Share | None = None) -> None:
        """Process the next frames.

        Args:
            pictures: (H, W, 3) uint8, BGR each, resized to 224² with OpenCV's bilinear.
            share: :meth:`bench.metrics.base.Pictures.shared` of the original frames.
        """
        for picture in pictures:
            self.seen += 1
            if self.seen <= self.heard:
                self.kept.append(cv2.resize(picture, (SIZE, SIZE)))
            if self.n_windows - self._done == _CHUNK:
                self._take(_CHUNK, share)
        if self.seen == self.n_frames:
            self._take(self.n_windows - self._done, share)

    def _take(self, n: int, share: Share | None) -> None:
        """Run ``n`` windows through the network, unless this was done for the same frames before."""
        if not n:
            return
        pictures = np.stack(self.kept[: n + WINDOW - 1])
        if share is None:
            features = self.net.lip_features(pictures)
        else:
            # Identified by content: the JPEG encoding of a frame depends on earlier frames, which may differ.
            key = ("syncnet lips", self.net, hashlib.blake2b(pictures.data).digest())
            features = share(key, lambda: self.net.lip_features(pictures))
        self._features.append(features)
        self.kept = self.kept[n:]
        self._done += n

    def finish(self) -> Sync:
        """The result for all frames so far.

        Raises:
            Unscorable: there are fewer than 6 frames with sound.
        """
        if not self.n_windows:
            n = min(self.seen, self.heard)
            raise Unscorable(f"{n} frames with sound, at least {MIN_FRAMES} are needed")
        self._take(self.n_windows - self._done, None)
        lips = np.concatenate(self._features)
        return judge(distances(lips, self.net.sound_features(self.samples, len(lips)), self.vshift))
