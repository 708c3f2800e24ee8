"""LPIPS, the learned perceptual distance (Zhang et al., CVPR 2018), version 0.1 of package ``lpips``.

The backbone is torchvision's, with weights from the registry; the linear weights are part of the package. The
package's own network is not used: it would download its backbone, and run it again for every pair of frames.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.common.errors import Unavailable, Unscorable
from bench.metrics.base import (
    Batch,
    ClipInfo,
    Context,
    Image,
    Meter,
    Metric,
    Output,
    Pictures,
    Score,
    Spec,
)
from bench.metrics.networks import read_weights
from prep.installing import install

#: For every backbone: name in the registry, torchvision's constructor, the layers of its ``features`` whose outputs
#: are #: used (ReLUs), and the smallest side of an image, in pixels.
BACKBONES: dict[str, tuple[str, str, tuple[int, ...], int]] = {
    "alex": ("alexnet", "alexnet", (1, 4, 7, 9, 11), 31),
    "vgg": ("vgg16", "vgg16", (3, 8, 15, 22, 29), 16),
}
# The package's ScalingLayer: mean and deviation of ImageNet's pictures in -1 … 1.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
# Added to the norms that are divided by.
_EPSILON = 1e-10
# Pixels processed at once: more do not fit into the processor's cache.
_PIXELS = 4 * 256**2
# Bytes of the truth's features cached for one batch; the rest is computed again for every method.
_BUDGET = 512 << 20


class PerceptualNet:
    """A backbone with its linear weights.

    Args:
        context: weights and device.
        name: of :data:`BACKBONES`.
        low: what black is mapped to; white becomes 1. The network was trained with -1.

    Raises:
        Unavailable: the backbone's weights, or package ``lpips``, are missing or damaged.
    """

    def __init__(self, context: Context, name: str, low: float = -1.0) -> None:
        self.device = torch.device(context.device)
        self.layers, self._taps = _backbone(context, name)
        self.layers.to(self.device).to(memory_format=torch.channels_last)
        # The weights are not negative. The features are multiplied by their roots, so a distance is one sum of
        # squares.
        self._roots = [weight.sqrt().to(self.device) for weight in _linear_weights(name)]
        shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (_SHIFT, _SCALE))
        self._gain = ((1 - low) / 255 / scale).to(self.device)
        self._bias = ((low - shift) / scale).to(self.device)

    @torch.inference_mode()
    def features(self, pictures: Image) -> list[Tensor]:
        """The features that are compared: every used layer, of unit length at each position, weighted.

        Args:
            pictures: (n, H, W, 3) uint8 RGB.

        Returns:
            float32 (n, channels, h, w) of each of the five layers, on the device.
        """
        frames = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device).permute(0, 3, 1, 2)
        found: list[Tensor] = []
        x = torch.addcmul(self._bias, frames.float(), self._gain)
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in self._taps:
                length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
                found.append((x / (length + _EPSILON)).mul_(self._roots[len(found)]))
        return found

    @torch.inference_mode()
    def distance(self, a: list[Tensor], b: list[Tensor]) -> npt.NDArray[np.float64]:
        """(n,) distances of pictures by their :meth:`features`."""
        total = torch.zeros(len(a[0]), dtype=torch.float64, device=self.device)
        for x, y in zip(a, b, strict=True):
            total += (x - y).square_().sum(dim=1).mean(dim=(1, 2), dtype=torch.float64)
        result: npt.NDArray[np.float64] = total.cpu().numpy()
        return result


def _backbone(context: Context, name: str) -> tuple[nn.Sequential, tuple[int, ...]]:
    import torchvision

    weights, constructor, taps, _ = BACKBONES[name]
    with torch.device("meta"):
        layers: nn.Sequential = getattr(torchvision.models, constructor)(weights=None).features
    layers = layers[: taps[-1] + 1]
    prefix = "features."
    shapes = {prefix + key: tensor.shape for key, tensor in layers.state_dict().items()}
    state = read_weights(context, weights, shapes)
    layers.load_state_dict({key.removeprefix(prefix): tensor for key, tensor in state.items()}, assign=True)
    return layers.eval().requires_grad_(False), taps


def _linear_weights(name: str) -> list[Tensor]:
    """(1, channels, 1, 1) of each layer, from package ``lpips``."""
    from bench.weights.tensors import load_state_dict

    package = find_spec("lpips")
    if package is None or package.origin is None:
        raise Unavailable("package lpips is not installed", install())
    path = Path(package.origin).parent / "weights" / "v0.1" / f"{name}.pth"
    state = load_state_dict(path)
    return [state[f"lin{i}.model.1.weight"] for i in range(len(BACKBONES[name][2]))]


class _LpipsMeter(Meter):
    """Compares frame with frame."""

    def __init__(self, metric: _Lpips) -> None:
        self._metric = metric
        self._values: list[npt.NDArray[np.float64]] = []

    def update(self, batch: Batch) -> None:
        pred, truth = batch.pred, batch.truth
        if truth is None:
            raise Unscorable("no truth")
        n, height, width = pred.array.shape[:3]
        least = BACKBONES[self._metric.backbone][3]
        if min(height, width) < least:
            raise Unscorable(f"pictures with a side of less than {least} px: too small for the network")
        if pred is truth:
            self._values.append(np.zeros(n))
            return
        net = self._metric.net
        step = max(1, _PIXELS // (height * width))
        for at in range(0, n, step):
            mine = net.features(pred.array[at : at + step])
            self._values.append(net.distance(mine, self._of_truth(truth, at, step)))

    def _of_truth(self, truth: Pictures, at: int, step: int) -> list[Tensor]:
        kept: dict[int, list[Tensor]] = truth.shared((self._metric.key, step), dict)
        if at in kept:
            return kept[at]
        features = self._metric.net.features(truth.array[at : at + step])
        if (len(kept) + 1) * sum(layer.nbytes for layer in features) <= _BUDGET:
            kept[at] = features
        return features

    def finish(self) -> Score:
        if not self._values:
            raise Unscorable("no frames")
        values = np.concatenate(self._values)
        return Score({"": float(values.mean())}, {"": values.astype(np.float32)})


class _Lpips(Metric):
    """LPIPS with one backbone."""

    backbone: ClassVar[str]
    low: ClassVar[float] = -1.0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.net = PerceptualNet(context, self.backbone, self.low)
        #: Identifies the features, so all methods share those of the truth.
        self.key = ("lpips", self.backbone, self.low, context.device)

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _LpipsMeter(self)


def _parameters(**own: Any) -> dict[str, Any]:
    return {
        "version": "0.1",
        "layers": "five ReLUs, each unit length over channels, linear weights",
        "input": "x / 127.5 - 1",
        "resize": "none",
        "colour": "RGB",
        "over_pixels": "mean of each layer, then sum over layers",
        "over_frames": "mean",
        "frame_stride": 1,
        "precision": "float32, no TF32; sums float64",
        **own,
    }


_OUTPUT = Output("", "LPIPS", "lower", low=0.0)
_FORMULA = (
    r"$\frac1T\sum_t\sum_{l=1}^{5}\frac1{H_lW_l}\sum_{h,w}\left\lVert w_l\odot"
    r"\left(\hat y^{l}_{hw}-y^{l}_{hw}\right)\right\rVert_2^2$, $y^l$ the unit features of layer $l$; the package "
    "stores the squares of $w_l$"
)
_REFERENCE = "Zhang et al., CVPR 2018, eq. 1; richzhang/PerceptualSimilarity, package lpips 0.1.4"
_TRAPS = (
    "The networks expect -1 … 1; images in 0 … 1 give other, usually lower figures (lpips.alex_01).",
    "Backbones have different scales: name alex or vgg with the figure.",
    "Layers have receptive fields of fixed size in pixels: another size or crop of the same video gives "
    "another figure.",
    "Version 0.0 lacked the scaling of the input.",
)


class LpipsAlex(_Lpips):
    """LPIPS with AlexNet: the package's default, recommended by its authors for comparisons."""

    backbone = "alex"
    spec = Spec(
        name="lpips.alex",
        summary="LPIPS 0.1 with AlexNet, mean over frames",
        outputs=(_OUTPUT,),
        parameters=_parameters(),
        formula=_FORMULA,
        reference=_REFERENCE,
        traps=_TRAPS,
        weights=("alexnet",),
    )


class LpipsVgg(_Lpips):
    """LPIPS with VGG16."""

    backbone = "vgg"
    spec = Spec(
        name="lpips.vgg",
        summary="LPIPS 0.1 with VGG16, mean over frames",
        outputs=(_OUTPUT,),
        parameters=_parameters(),
        formula=_FORMULA,
        reference=_REFERENCE,
        traps=_TRAPS,
        weights=("vgg16",),
    )


class LpipsAlexUnit(_Lpips):
    """LPIPS with AlexNet and inputs in 0 … 1 instead of -1 … 1: a common mistake."""

    backbone = "alex"
    low = 0.0
    spec = Spec(
        name="lpips.alex_01",
        summary="LPIPS 0.1 with AlexNet, inputs in 0 … 1 instead of -1 … 1",
        outputs=(_OUTPUT,),
        parameters=_parameters(input="x / 255"),
        formula=_FORMULA,
        reference="package lpips 0.1.4, called without normalize=True on images in 0 … 1",
        traps=("A mistake of several published evaluations, included to explain their figures.",),
        weights=("alexnet",),
        quirk=True,
    )
