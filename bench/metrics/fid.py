"""FID, the Fréchet distance between Inception features of predicted and of true frames (Heusel et al., NeurIPS 2017).

The network is that of package pytorch-fid, with weights from the registry. The package's own constructor would
download them, so its blocks are combined here. For speed the batch normalisation is folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from torch import Tensor, nn

from bench.common.errors import Unavailable, Unscorable
from bench.metrics.base import (
    Batch,
    ClipInfo,
    Context,
    Float,
    Image,
    Meter,
    Metric,
    Output,
    Pictures,
    Score,
    SetScore,
    Spec,
)
from bench.metrics.frechet import distance_of, estimate
from bench.metrics.networks import read_weights
from prep.installing import install

#: Side of the network's input images in pixels, and length of its vectors.
SIZE, FEATURES = 299, 2048
#: Number of frames in a batch of IP-LAP's training code, and the side of its images in pixels.
IPLAP_BATCH, IPLAP_SIZE = 96, 128
_WEIGHTS = "fid_inception"
# Frames processed at once: more do not fit into the processor's cache.
_CHUNK = 8
# torchvision's names of the layers, in their order.
_BEFORE_POOL_1 = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3")
_BEFORE_POOL_2 = ("Conv2d_3b_1x1", "Conv2d_4a_3x3")
_MIXED = tuple(f"Mixed_{x}" for x in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"))


class Inception:
    """The Inception network of 2015 by which FID is defined, up to its last average pooling.

    Args:
        context: weights and device.

    Raises:
        Unavailable: the weights, or package pytorch-fid, are missing or damaged.
    """

    def __init__(self, context: Context) -> None:
        self.device = torch.device(context.device)
        self._layers = _layers(context).to(self.device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def features(self, pictures: Image, prepare: Callable[[Image], Tensor]) -> npt.NDArray[np.float32]:
        """Features of frames.

        Args:
            pictures: (n, H, W, 3) uint8 RGB.
            prepare: turns some of them into the network's input: (m, 3, 299, 299) float32.

        Returns:
            (n, 2048) float32.
        """
        result = np.empty((len(pictures), FEATURES), np.float32)
        for at in range(0, len(pictures), _CHUNK):
            x = prepare(pictures[at : at + _CHUNK])
            x = x.to(self.device).contiguous(memory_format=torch.channels_last)
            result[at : at + _CHUNK] = self._layers(x).cpu().numpy()
        return result


def _layers(context: Context) -> nn.Sequential:
    network = _original()
    shapes = {
        key: tensor.shape
        for key, tensor in network.state_dict().items()
        if not key.startswith("fc.") and not key.endswith("num_batches_tracked")
    }
    state = read_weights(context, _WEIGHTS, shapes)
    network.load_state_dict(state, strict=False, assign=True)
    layers = nn.Sequential(
        *(getattr(network, name) for name in _BEFORE_POOL_1),
        nn.MaxPool2d(3, stride=2),
        *(getattr(network, name) for name in _BEFORE_POOL_2),
        nn.MaxPool2d(3, stride=2),
        *(getattr(network, name) for name in _MIXED),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return _folded(layers.eval().requires_grad_(False))


def _original() -> Any:
    """pytorch-fid's network (``fid_inception_v3``) without weights; no memory is allocated."""
    try:
        from pytorch_fid import inception as blocks
    except ImportError as error:
        raise Unavailable("package pytorch-fid is not installed", install()) from error
    from torchvision.models import inception_v3

    with torch.device("meta"):
        network = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
        network.Mixed_5b = blocks.FIDInceptionA(192, pool_features=32)
        network.Mixed_5c = blocks.FIDInceptionA(256, pool_features=64)
        network.Mixed_5d = blocks.FIDInceptionA(288, pool_features=64)
        network.Mixed_6b = blocks.FIDInceptionC(768, channels_7x7=128)
        network.Mixed_6c = blocks.FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6d = blocks.FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6e = blocks.FIDInceptionC(768, channels_7x7=192)
        network.Mixed_7b = blocks.FIDInceptionE_1(1280)
        network.Mixed_7c = blocks.FIDInceptionE_2(2048)
    return network


def _folded(layers: nn.Sequential) -> nn.Sequential:
    """The same function in float32, every batch normalisation folded into its convolution in float64."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval
    from torchvision.models.inception import BasicConv2d

    for block in layers.modules():
        if isinstance(block, BasicConv2d):
            block.conv = fuse_conv_bn_eval(block.conv.double(), block.bn.double()).float()
            block.bn = nn.Identity()
    return layers.requires_grad_(False)


def bilinear(pictures: Image, device: str = "cpu") -> Tensor:
    """The network's input as pytorch-fid makes it: bilinear to 299² without low-pass filter, to -1 … 1.

    Args:
        pictures: (n, H, W, 3) uint8 RGB.
        device: of torch.

    Returns:
        (n, 3, 299, 299) float32.
    """
    x = torch.from_numpy(np.ascontiguousarray(pictures)).to(device).permute(0, 3, 1, 2).float()
    x = nn.functional.interpolate(x, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    return x.mul_(2 / 255).sub_(1)


def antialiased(pictures: Image) -> Tensor:
    """The network's input as clean-fid makes it: Pillow's bicubic in float, clipped to 0 … 255, minus 128, divided
    by 128.

    Args:
        pictures: (n, H, W, 3) uint8 RGB.

    Returns:
        (n, 3, 299, 299) float32.
    """
    result = np.empty((len(pictures), 3, SIZE, SIZE), np.float32)
    for planes, picture in zip(result, pictures, strict=True):
        for plane, channel in zip(planes, np.moveaxis(picture, -1, 0), strict=True):
            plane[:] = Pillow.fromarray(channel.astype(np.float32)).resize(
                (SIZE, SIZE), Pillow.Resampling.BICUBIC
            )
    return torch.from_numpy(result).clamp_(0, 255).sub_(128).div_(128)


def squashed(pictures: Image) -> Image:
    """Pictures (n, H, W, 3) uint8 as IP-LAP trains on them: (n, 128, 128, 3) by ``cv2.resize``, bilinear."""
    size = (IPLAP_SIZE, IPLAP_SIZE)
    return np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR) for picture in pictures])


class _FidMeter(Meter):
    """Collects the features of both videos."""

    def __init__(self, metric: _Fid) -> None:
        self._metric = metric
        self._features: list[tuple[Float, Float]] = []

    def update(self, batch: Batch) -> None:
        if batch.truth is None:
            raise Unscorable("no truth")
        self._features.append((self._of(batch.pred), self._of(batch.truth)))

    def _of(self, pictures: Pictures) -> Float:
        return pictures.shared(self._metric.key, lambda: self._metric.features(pictures.array))

    def finish(self) -> Score:
        if not self._features:
            raise Unscorable("no frames")
        pred, truth = (np.concatenate(side) for side in zip(*self._features, strict=True))
        return Score(features=(pred, truth))


class _Fid(Metric):
    """FID with one way of preparing the network's input."""

    #: How frames are prepared for the network. It identifies the features, so methods and metrics can share them.
    preparation: ClassVar[str]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._network = Inception(context)
        self.key = ("fid", self.preparation, context.device)

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _FidMeter(self)

    def features(self, pictures: Image) -> Float:
        """Features of frames: (n, H, W, 3) uint8 RGB → (n, 2048) float32."""
        return self._network.features(pictures, partial(bilinear, device=self.context.device))

    def reduce(self, clips: Sequence[tuple[Float, Float]]) -> SetScore:
        """The distance over all frames of all clips; see :func:`bench.metrics.frechet.estimate`."""
        found = estimate(clips)
        if found.low is None or found.high is None:
            return SetScore({"": found.value})
        interval = f"jackknife ({found.groups} groups of clips)"
        return SetScore({"": found.value}, {"": found.low}, {"": found.high}, interval)


_BILINEAR = "bilinear to 299² without low-pass filter, x / 127.5 - 1"


def _parameters(**own: Any) -> dict[str, Any]:
    return {
        "features": "2048 of Inception-2015, last average pooling",
        "size": "as it is",
        "input": _BILINEAR,
        "colour": "RGB",
        "frame_stride": 1,
        "pooling": "all frames of all clips together",
        "covariance": "over n - 1",
        "root": "exact: singular values of the product of factors",
        "precision": "features float32, no TF32; statistics float64",
        **own,
    }


_OUTPUT = Output("", "FID", "lower", low=0.0, decimals=2)
_FORMULA = r"$\lVert\mu_1-\mu_2\rVert^2+\mathrm{tr}\left(S_1+S_2-2(S_1S_2)^{1/2}\right)$ of the features of all frames"
_TRAPS = (
    "It falls as the number of frames grows: compare only figures of the same number of frames and the same region.",
    "Frames of a clip are near-duplicates: the interval is over clips.",
    "Below 2049 frames the covariances are singular. Other code uses scipy.linalg.sqrtm, which is then "
    "inexact (observed errors: 1e-6 to 1e-4 of the figure); here the root is exact.",
    "Resizing with or without a low-pass filter, saving as JPEG, whole frames or faces: each of these changes it.",
)


class FidPytorchFid(_Fid):
    """FID as package pytorch-fid computes it."""

    preparation = "bilinear"
    spec = Spec(
        name="fid.pytorch_fid",
        summary="FID with pytorch-fid's network, resize and statistics, over all frames",
        outputs=(_OUTPUT,),
        parameters=_parameters(),
        formula=_FORMULA,
        reference="Heusel et al., NeurIPS 2017, eq. 6; mseitzer/pytorch-fid 0.3.0",
        traps=_TRAPS,
        paired=False,
        weights=(_WEIGHTS,),
        aggregate="set",
    )


class FidClean(_Fid):
    """FID on frames resized with a low-pass filter, as clean-fid does."""

    preparation = "antialiased"
    spec = Spec(
        name="fid.clean",
        summary="FID with clean-fid's antialiased resize, over all frames",
        outputs=(_OUTPUT,),
        parameters=_parameters(
            input="Pillow's bicubic to 299² in float, clipped to 0 … 255, (x - 128) / 128",
        ),
        formula=_FORMULA,
        reference="Parmar et al., CVPR 2022; GaParmar/clean-fid, mode clean",
        traps=(
            *_TRAPS,
            "clean-fid runs a TorchScript copy of the same network; here its weights are pytorch-fid's port.",
            "Enlarging needs no low-pass filter: on frames of less than 299 px it differs little from fid.pytorch_fid.",
        ),
        paired=False,
        weights=(_WEIGHTS,),
        aggregate="set",
    )

    def features(self, pictures: Image) -> Float:
        """Features of frames; see the base class."""
        return self._network.features(pictures, antialiased)


class FidAt128(_Fid):
    """FID on frames squashed to 128²."""

    preparation = "squashed to 128, bilinear"
    spec = Spec(
        name="fid.at128",
        summary="FID with pytorch-fid's network on frames squashed to 128², over all frames",
        outputs=(_OUTPUT,),
        parameters=_parameters(size="squashed to 128² by cv2.resize, bilinear"),
        formula=_FORMULA,
        reference="the images of IP-LAP's train_video_renderer.py (Zhong et al., CVPR 2023)",
        traps=(*_TRAPS, "It separates two effects in fid.batch96: small images, and batches."),
        paired=False,
        weights=(_WEIGHTS,),
        aggregate="set",
        quirk=True,
    )

    def features(self, pictures: Image) -> Float:
        """Features of frames; see the base class."""
        return super().features(squashed(pictures))


class FidBatches(FidAt128):
    """FID as printed by IP-LAP's training code: the mean over batches of 96 frames."""

    spec = Spec(
        name="fid.batch96",
        summary="mean of the FIDs of batches of 96 frames squashed to 128² (IP-LAP's training code)",
        outputs=(_OUTPUT,),
        parameters=_parameters(
            size="squashed to 128² by cv2.resize, bilinear",
            pooling="one frame of a clip, 96 in a batch, mean of the batches' figures",
        ),
        formula=_FORMULA.replace("all frames", "a batch, mean over batches"),
        reference="Weizhi-Zhong/IP_LAP at 9b9dc03, train_video_renderer.py, with FID of package piq",
        traps=(
            "96 frames in 2048 dimensions: its 'about 20 or less' cannot be compared with the FID of a test set.",
            "The code draws clips and frames at random each time. Here clips have a fixed shuffled order, and "
            "each gives its middle frame, or several evenly spaced frames if there are fewer than 96 clips.",
            "piq computes the root by Newton-Schulz iteration; here it is exact.",
            "Its crops are the face with 5 px around the landmarks; here the crops are those of the region.",
        ),
        paired=False,
        weights=(_WEIGHTS,),
        aggregate="set",
        quirk=True,
    )

    def reduce(self, clips: Sequence[tuple[Float, Float]]) -> SetScore:
        """The mean over batches of 96 frames; an incomplete last batch is dropped, unless it is the only one."""
        return SetScore({"": float(np.mean([distance_of(batch) for batch in _batches(clips)]))})


def _batches(clips: Sequence[tuple[Float, Float]]) -> Iterator[list[tuple[Float, Float]]]:
    """Batches of 96 pairs of single frames, all of different clips if there are enough clips."""
    order = np.random.default_rng(0).permutation(len(clips))
    # Frames of each clip: one, or as many as fill one batch.
    rounds = -(-IPLAP_BATCH // len(clips))
    for i in range(max(1, len(clips) // IPLAP_BATCH)):
        batch = []
        for at in range(IPLAP_BATCH * i, IPLAP_BATCH * (i + 1)):
            pred, truth = clips[order[at % len(clips)]]
            frame = int((at // len(clips) + 0.5) / rounds * len(truth))
            batch.append((pred[frame : frame + 1], truth[frame : frame + 1]))
        yield batch
