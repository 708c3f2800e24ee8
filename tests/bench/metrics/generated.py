"""Generated weights in the official files' formats and key names, and pictures to try them on.

Figures made with them can be compared with the reference packages', which get the same weights, and say nothing of
faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import cv2
import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from bench.metrics.base import Batch, ClipInfo, Meter, Metric, Pictures, Score
from bench.weights.store import Entry, WeightStore

#: Registry's name → name of the file.
FILES = {
    "alexnet": "alexnet-owt-7be5be79.pth",
    "vgg16": "vgg16-397923af.pth",
    "fid_inception": "pt_inception-2015-12-05-6726825d.pth",
}


def _features(name: str) -> nn.Sequential:
    with torch.device("meta"):
        features: nn.Sequential = getattr(torchvision.models, name)(weights=None).features
    return features


def _inception_shapes() -> dict[str, torch.Size]:
    from pytorch_fid import inception

    shapes = {}

    def note(network: nn.Module, state: dict[str, Tensor]) -> None:
        shapes.update({key: tensor.shape for key, tensor in network.state_dict().items()})

    with (
        torch.device("meta"),
        mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: {}),
        mock.patch.object(torchvision.models.Inception3, "load_state_dict", note),
    ):
        inception.fid_inception_v3()
    # BatchNorm's counters came with PyTorch 0.4.1 and are not everywhere in old files.
    return {key: shape for key, shape in shapes.items() if not key.endswith("num_batches_tracked")}


def shapes(name: str) -> dict[str, torch.Size]:
    """Key → shape of an official file; of AlexNet's and VGG's classifiers, which nobody needs, one bias only."""
    if name == "fid_inception":
        return _inception_shapes()
    found = {f"features.{key}": tensor.shape for key, tensor in _features(name).state_dict().items()}
    return {**found, "classifier.6.bias": torch.Size([1000])}


def state_dict(name: str, seed: int = 0) -> dict[str, Tensor]:
    """Weights under which signals keep their size from layer to layer, as they do under trained ones."""
    rng = np.random.default_rng(seed)
    state = {}
    for key, shape in shapes(name).items():
        if len(shape) > 1:
            values = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
        elif key.endswith((".running_var", ".bn.weight")):
            values = rng.uniform(0.5, 1.5, shape)
        else:
            values = rng.normal(0, 0.1, shape)
        state[key] = torch.from_numpy(values.astype(np.float32))
    return state


def weight_store(folder: Path, *names: str) -> WeightStore:
    """A store with generated files of these names; the others are known and missing."""
    for name in names:
        torch.save(state_dict(name), folder / FILES[name])
    urls = ("https://example.org/weights",)
    return WeightStore({name: Entry(name, file, urls) for name, file in FILES.items()}, [folder])


def lpips_package(name: str, state: dict[str, Tensor]) -> nn.Module:
    """The network of package ``lpips`` (``alex`` or ``vgg``) with its own linear weights and ``state``'s backbone."""
    import lpips

    constructor = {"alex": "alexnet", "vgg": "vgg16"}[name]
    features = _features(constructor)
    of_features = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    features.load_state_dict(of_features, assign=True)
    with mock.patch.object(torchvision.models, constructor, lambda **_: SimpleNamespace(features=features)):
        return lpips.LPIPS(net=name, verbose=False)


def fid_package(state: dict[str, Tensor]) -> nn.Module:
    """The network of package pytorch-fid with ``state``."""
    from pytorch_fid import inception

    with mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
        return inception.InceptionV3().eval()


def pictures(n: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """(n, height, width, 3) uint8: soft blots with some grain, another picture each time."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 6, 6, 3), np.uint8)
    soft = np.stack([cv2.resize(c, (width, height), interpolation=cv2.INTER_CUBIC) for c in coarse])
    return noisy(soft, 6, seed)


def noisy(frames: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    """The same with noise, uint8."""
    grain = np.random.default_rng(seed).normal(0, sigma, frames.shape)
    return np.clip(frames + grain, 0, 255).astype(np.uint8)


def feed(meter: Meter, pred: Sequence[Pictures], truth: Sequence[Pictures]) -> Score:
    """The score of batches, in order."""
    start = 0
    for mine, real in zip(pred, truth, strict=True):
        meter.update(Batch(start, mine, real))
        start += len(mine)
    return meter.finish()


def cut(frames: np.ndarray, size: int) -> list[Pictures]:
    """Frames in batches of ``size``."""
    return [Pictures(frames[at : at + size]) for at in range(0, len(frames), size)]


def score(metric: Metric, pred: np.ndarray, truth: np.ndarray, size: int = 16) -> Score:
    """The score of a clip that is fed in batches of ``size``."""
    n, height, width = pred.shape[:3]
    meter = metric.meter(ClipInfo("clip", n, width, height, "full"))
    return feed(meter, cut(pred, size), cut(truth, size))
