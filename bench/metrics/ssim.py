"""Structural similarity, in the variants that papers use (Wang et al., IEEE TIP 2004, equation 13).

The Gaussian variant is one compiled pass in float64 over the rows of both images: each row is filtered horizontally,
then eleven of those vertically. No array of the size of an image is stored, since memory access would cost most of
the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import cv2
import numba
import numpy as np
import numpy.typing as npt

from bench.common.errors import Unscorable
from bench.metrics.base import Batch, ClipInfo, Image, Meter, Metric, Output, Pictures, Score, Spec

Floats = npt.NDArray[np.float64]

#: Side of the Gaussian window in pixels, and its standard deviation.
WINDOW, SIGMA = 11, 1.5
#: Side of scikit-image's uniform window.
UNIFORM = 7
_HALF = WINDOW // 2
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_KERNEL = np.exp(-(np.arange(-_HALF, _HALF + 1) ** 2) / (2 * SIGMA**2))
#: The window's first half and its middle.
_TAPS = tuple(float(tap) for tap in (_KERNEL / _KERNEL.sum())[: _HALF + 1])
#: Columns processed at a time, so that eleven rows of four maps fit into the processor's cache.
_BLOCK = 256

# Reassociation allows vectorised sums; the figures stay within 1e-12 of scikit-image's.
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


def ssim_gaussian(pred: Image | Floats, truth: Image | Floats) -> Floats:
    """SSIM of each image with the Gaussian window, over the windows that lie completely inside.

    Args:
        pred: (n, H, W) or (n, H, W, C), 0 to 255, uint8 or float64, at least 11 pixels a side.
        truth: the same shape.

    Returns:
        (n,) float64, the mean over windows and channels, −1 to 1; exactly 1 for identical pictures. Equal to
        scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=255)``.

    Raises:
        Unscorable: the images are smaller than the window.
    """
    n, height, width = pred.shape[:3]
    _check(height, width, WINDOW)
    step = pred.shape[3] if pred.ndim == 4 else 1
    rows = [np.ascontiguousarray(video).reshape(n, height, width * step) for video in (pred, truth)]
    return np.array([_gaussian(p, t, step) for p, t in zip(*rows, strict=True)])


@_compiled
def _gaussian(pred: Any, truth: Any, step: int) -> float:
    """Mean SSIM of one image; both (H, W · step), with the channels of a pixel side by side."""
    height, width = pred.shape
    inner = width - (WINDOW - 1) * step
    maps = np.empty((4, _BLOCK + (WINDOW - 1) * step))
    rings = np.empty((4, WINDOW, _BLOCK))
    total = 0.0
    for left in range(0, inner, _BLOCK):
        n = min(_BLOCK, inner - left)
        right = left + n + (WINDOW - 1) * step
        for y in range(height):
            _products(pred[y, left:right], truth[y, left:right], maps)
            for i in range(4):
                _across(rings[i, y % WINDOW, :n], maps[i], step)
            if y >= WINDOW - 1:
                for i in range(4):
                    _down(maps[i, :n], rings[i], y)
                total += _similarity(maps[0, :n], maps[1, :n], maps[2, :n], maps[3, :n])
    return total / (inner * (height - WINDOW + 1))


@_compiled
def _products(pred: Any, truth: Any, maps: Any) -> None:
    """Rows of x, y, x y and (x − y)²: exact, because they are integers."""
    x, y, both, apart = maps
    for i in range(len(pred)):
        a, b = np.float64(pred[i]), np.float64(truth[i])
        x[i], y[i] = a, b
        both[i] = a * b
        apart[i] = (a - b) * (a - b)


@_compiled
def _across(out: Any, row: Any, step: int) -> None:
    n, s = len(out), step
    _weighted(
        out,
        row[0:n],
        row[s : s + n],
        row[2 * s : 2 * s + n],
        row[3 * s : 3 * s + n],
        row[4 * s : 4 * s + n],
        row[5 * s : 5 * s + n],
        row[6 * s : 6 * s + n],
        row[7 * s : 7 * s + n],
        row[8 * s : 8 * s + n],
        row[9 * s : 9 * s + n],
        row[10 * s : 10 * s + n],
    )


@_compiled
def _down(out: Any, ring: Any, last: int) -> None:
    """Over the rows ``last − 10`` to ``last`` of a ring of eleven."""
    _weighted(
        out,
        ring[(last + 1) % WINDOW],
        ring[(last + 2) % WINDOW],
        ring[(last + 3) % WINDOW],
        ring[(last + 4) % WINDOW],
        ring[(last + 5) % WINDOW],
        ring[(last + 6) % WINDOW],
        ring[(last + 7) % WINDOW],
        ring[(last + 8) % WINDOW],
        ring[(last + 9) % WINDOW],
        ring[(last + 10) % WINDOW],
        ring[last % WINDOW],
    )


# Eleven separate rows, not an array of rows: only then does the compiler process several pixels at a time.
@_compiled
def _weighted(
    out: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any, i: Any, j: Any, k: Any
) -> None:
    """The Gaussian window over eleven rows."""
    for at in range(len(out)):
        out[at] = (
            _TAPS[5] * f[at]
            + _TAPS[4] * (e[at] + g[at])
            + _TAPS[3] * (d[at] + h[at])
            + _TAPS[2] * (c[at] + i[at])
            + _TAPS[1] * (b[at] + j[at])
            + _TAPS[0] * (a[at] + k[at])
        )


@_compiled
def _similarity(x: Any, y: Any, both: Any, apart: Any) -> float:
    """Sum of SSIM, from the means of x, y, x y and (x − y)² in each window.

    The denominators are written as the numerators plus a term of the difference: without difference, the ratio is
    1.
    """
    total = 0.0
    for i in range(len(x)):
        product, shift = 2 * x[i] * y[i], (x[i] - y[i]) * (x[i] - y[i])
        light, texture = product + _C1, 2 * both[i] - product + _C2
        total += light * texture / ((light + shift) * (texture + (apart[i] - shift)))
    return total


def ssim_uniform(pred: Image, truth: Image) -> Floats:
    """SSIM of each picture with scikit-image's defaults: a 7×7 uniform window and the sample covariance.

    Args:
        pred: (n, H, W, 3) uint8, at least 7 pixels a side.
        truth: the same shape.

    Returns:
        (n,) float64. Equal to scikit-image's ``structural_similarity(data_range=255, channel_axis=2)``.

    Raises:
        Unscorable: the images are smaller than the window.
    """
    _check(pred.shape[1], pred.shape[2], UNIFORM)
    return np.array([_uniform(p, t) for p, t in zip(pred, truth, strict=True)])


def _uniform(pred: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> float:
    edge, count = UNIFORM // 2, UNIFORM**2

    def mean(values: Floats) -> Floats:
        box = cv2.boxFilter(values, -1, (UNIFORM, UNIFORM))
        return np.asarray(box[edge:-edge, edge:-edge])

    a, b = pred.astype(np.float64), truth.astype(np.float64)
    ma, mb = mean(a), mean(b)
    sample = count / (count - 1)
    variances = sample * (mean(a * a + b * b) - (ma * ma + mb * mb))
    covariance = sample * (mean(a * b) - ma * mb)
    above = (2 * ma * mb + _C1) * (2 * covariance + _C2)
    return float((above / ((ma * ma + mb * mb + _C1) * (variances + _C2))).mean())


def _check(height: int, width: int, window: int) -> None:
    if min(height, width) < window:
        raise Unscorable(f"pictures of {width}×{height} are smaller than SSIM's window of {window}×{window}")


def shrunk(pictures: Image) -> Image | Floats:
    """Images downsampled as in piq: means over blocks, so that the smaller side is near 256 pixels; not rounded."""
    factor = max(1, round(min(pictures.shape[1:3]) / 256))
    if factor == 1:
        return pictures
    height, width = (side // factor for side in pictures.shape[1:3])
    whole = pictures[:, : height * factor, : width * factor]
    sums = whole.reshape(-1, height, factor, width, factor, 3).sum(axis=(2, 4), dtype=np.float64)
    return np.asarray(sums / factor**2)


def _grey(pictures: Image) -> Image:
    return np.stack([cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in pictures])


class _SsimMeter(Meter):
    def __init__(
        self, key: str, compute: Callable[[Any, Any], Floats], view: Callable[[Image], Image | Floats]
    ) -> None:
        self._key = key
        self._compute = compute
        self._view = view
        self._found: list[Floats] = []

    def update(self, batch: Batch) -> None:
        truth = batch.truth
        if truth is None:
            raise Unscorable("there is no true video")
        self._found.append(self._compute(self._seen(batch.pred), self._seen(truth)))

    def _seen(self, pictures: Pictures) -> Image | Floats:
        return pictures.shared(("ssim", self._key), lambda: self._view(pictures.array))

    def finish(self) -> Score:
        values = np.concatenate(self._found)
        return Score({"": float(values.mean())}, {"": values.astype(np.float32)})


_OUTPUTS = (Output("", "SSIM", "higher", low=-1.0, high=1.0, decimals=4),)
_FORMULA = (
    r"$\mathrm{SSIM}=\frac{(2\mu_x\mu_y+C_1)(2\sigma_{xy}+C_2)}"
    r"{(\mu_x^2+\mu_y^2+C_1)(\sigma_x^2+\sigma_y^2+C_2)}$, $C_1=(0.01\cdot255)^2$, $C_2=(0.03\cdot255)^2$, "
    "mean over windows and channels, then over frames"
)
_TRAPS = (
    "a 7×7 uniform window (scikit-image's default) and the paper's 11×11 Gaussian give different numbers",
    "piq first downsamples images to about 256 pixels: 512² is scored at 256², 128² is not downsampled",
    "torchmetrics computes the range from the batch unless it is given, so a value depends on the rest of the batch",
    "the full frame of an inpainting method is mostly copied: use the regions face and mouth",
)


def _spec(
    name: str, summary: str, reference: str, quirk: bool = False, revision: int = 1, **choices: Any
) -> Spec:
    parameters = {
        "window": f"gaussian {WINDOW}, sigma {SIGMA}",
        "covariance": "population",
        "border": "windows inside only",
        "channels": "rgb, mean",
        "downsample": "none",
        "data_range": 255,
    }
    return Spec(
        name=name,
        summary=summary,
        outputs=_OUTPUTS,
        parameters={**parameters, **choices},
        formula=_FORMULA,
        reference=reference,
        traps=_TRAPS,
        quirk=quirk,
        revision=revision,
    )


def _as_is(pictures: Image) -> Image:
    return pictures


class SsimWang11(Metric):
    """SSIM as its paper defines it."""

    spec: ClassVar[Spec] = _spec(
        "ssim.wang11",
        "SSIM of Wang et al. 2004: Gaussian window 11×11, σ 1.5, per channel, no down-sampling",
        "scikit-image `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, "
        "data_range=255, channel_axis=2)`",
    )

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _SsimMeter("rgb", ssim_gaussian, _as_is)


class SsimSkimage7(Metric):
    """SSIM with scikit-image's defaults."""

    spec: ClassVar[Spec] = _spec(
        "ssim.skimage7",
        "SSIM with scikit-image's defaults: uniform window 7×7, sample covariance",
        "scikit-image `structural_similarity(data_range=255, channel_axis=2)`, as ATVGnet's script calls it",
        window=f"uniform {UNIFORM}",
        covariance="sample",
    )

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _SsimMeter("rgb", ssim_uniform, _as_is)


class SsimPiq(Metric):
    """SSIM after piq's default downsampling."""

    spec: ClassVar[Spec] = _spec(
        "ssim.piq",
        "as ssim.wang11, after averaging over blocks until the smaller side is near 256 pixels",
        "piq `ssim(downsample=True)`, its default",
        quirk=True,
        downsample="blocks, smaller side near 256",
        revision=2,  # the means over blocks were rounded to uint8 at first
    )

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _SsimMeter("small", ssim_gaussian, shrunk)


class SsimGrey(Metric):
    """SSIM of grey images."""

    spec: ClassVar[Spec] = _spec(
        "ssim.grey",
        "as ssim.wang11, of grey pictures (BT.601 luma)",
        "the form of Wang et al. 2004, whose pictures are grey",
        quirk=True,
        channels="grey",
    )

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _SsimMeter("grey", ssim_gaussian, _grey)
