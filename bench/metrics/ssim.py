"""Structural similarity, in the forms under which papers print it (Wang et al., IEEE TIP 2004, equation 13).

The Gaussian form is one pass over the rows of both pictures: vertical sums of four maps, whose integers are exact in
float32, then horizontal ones in float64. Nothing of the size of a picture is kept, which is where the time goes else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import cv2
import numba
import numpy as np
import numpy.typing as npt

from bench.errors import Unscorable
from bench.metrics.base import Batch, ClipInfo, Image, Meter, Metric, Output, Pictures, Score, Spec

Floats = npt.NDArray[np.float64]

#: Side of the Gaussian window in pixels, and its standard deviation.
WINDOW, SIGMA = 11, 1.5
#: Side of scikit-image's uniform window.
UNIFORM = 7
_HALF = WINDOW // 2
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_KERNEL = np.exp(-(np.arange(-_HALF, _HALF + 1) ** 2) / (2 * SIGMA**2))
_KERNEL /= _KERNEL.sum()


def ssim_gaussian(pred: Image, truth: Image) -> Floats:
    """SSIM of each picture with the Gaussian window, over the windows that lie wholly inside.

    Args:
        pred: (n, H, W) or (n, H, W, C) uint8, at least 11 pixels a side.
        truth: the same shape.

    Returns:
        (n,) float64, the mean over windows and channels, −1 to 1; exactly 1 for identical pictures. Equal to
        scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=255)``.

    Raises:
        Unscorable: the pictures are smaller than the window.
    """
    n, height, width = pred.shape[:3]
    _check(height, width, WINDOW)
    step = pred.shape[3] if pred.ndim == 4 else 1
    rows = [np.ascontiguousarray(video).reshape(n, height, width * step) for video in (pred, truth)]
    return np.array([_gaussian(p, t, _KERNEL, step) for p, t in zip(*rows, strict=True)])


# Reassociation lets the sums be vectorised; the figures stay within 1e-11 of scikit-image's.
@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _gaussian(pred: Any, truth: Any, kernel: Any, step: int) -> float:
    height, width = pred.shape
    inner = width - (WINDOW - 1) * step
    a = np.empty((WINDOW, width), np.float32)
    b = np.empty((WINDOW, width), np.float32)
    squares = np.empty((WINDOW, width), np.float32)
    products = np.empty((WINDOW, width), np.float32)
    va, vb, vs, vp = np.empty(width), np.empty(width), np.empty(width), np.empty(width)
    total = 0.0
    same = True
    for y in range(height):
        row = y % WINDOW
        for i in range(width):
            x, z = np.float32(pred[y, i]), np.float32(truth[y, i])
            a[row, i], b[row, i] = x, z
            squares[row, i], products[row, i] = x * x + z * z, x * z
            same &= pred[y, i] == truth[y, i]
        if y < WINDOW - 1:
            continue
        middle = (y - _HALF) % WINDOW
        k = kernel[_HALF]
        for i in range(width):
            va[i], vb[i] = k * np.float64(a[middle, i]), k * np.float64(b[middle, i])
            vs[i], vp[i] = k * np.float64(squares[middle, i]), k * np.float64(products[middle, i])
        for j in range(1, _HALF + 1):
            up, down, k = (y - _HALF - j) % WINDOW, (y - _HALF + j) % WINDOW, kernel[_HALF - j]
            for i in range(width):
                va[i] += k * np.float64(a[up, i] + a[down, i])
                vb[i] += k * np.float64(b[up, i] + b[down, i])
                vs[i] += k * np.float64(squares[up, i] + squares[down, i])
                vp[i] += k * np.float64(products[up, i] + products[down, i])
        for i in range(inner):
            ma = mb = ms = mp = 0.0
            for j in range(WINDOW):
                at = i + j * step
                ma += kernel[j] * va[at]
                mb += kernel[j] * vb[at]
                ms += kernel[j] * vs[at]
                mp += kernel[j] * vp[at]
            both, each = ma * mb, ma * ma + mb * mb
            above = (2 * both + _C1) * (2 * (mp - both) + _C2)
            total += above / ((each + _C1) * (ms - each + _C2))
    return 1.0 if same else total / (inner * (height - WINDOW + 1))


def ssim_uniform(pred: Image, truth: Image) -> Floats:
    """SSIM of each picture with scikit-image's defaults: a 7×7 uniform window and the sample covariance.

    Args:
        pred: (n, H, W, 3) uint8, at least 7 pixels a side.
        truth: the same shape.

    Returns:
        (n,) float64. Equal to scikit-image's ``structural_similarity(data_range=255, channel_axis=2)``.

    Raises:
        Unscorable: the pictures are smaller than the window.
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
    variances = sample * (mean(a * a + b * b) - ma * ma - mb * mb)
    covariance = sample * (mean(a * b) - ma * mb)
    above = (2 * ma * mb + _C1) * (2 * covariance + _C2)
    return float((above / ((ma * ma + mb * mb + _C1) * (variances + _C2))).mean())


def _check(height: int, width: int, window: int) -> None:
    if min(height, width) < window:
        raise Unscorable(f"pictures of {width}×{height} are smaller than SSIM's window of {window}×{window}")


def _shrunk(pictures: Image) -> Image:
    """Pictures as piq sees them: averaged over blocks, so that the smaller side is near 256 pixels."""
    factor = max(1, round(min(pictures.shape[1:3]) / 256))
    if factor == 1:
        return pictures
    height, width = (side // factor * factor for side in pictures.shape[1:3])
    size = width // factor, height // factor
    return np.stack([cv2.resize(p[:height, :width], size, interpolation=cv2.INTER_AREA) for p in pictures])


def _grey(pictures: Image) -> Image:
    return np.stack([cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in pictures])


class _SsimMeter(Meter):
    def __init__(
        self, key: str, compute: Callable[[Image, Image], Floats], view: Callable[[Image], Image]
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

    def _seen(self, pictures: Pictures) -> Image:
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
    "piq shrinks pictures to about 256 pixels first, so that 512² is scored at 256² and 128² is not",
    "torchmetrics takes the range from the batch unless it is given, so that a value depends on its neighbours",
    "the full frame of an inpainting method is mostly copied: look at the regions face and mouth",
)


def _spec(name: str, summary: str, reference: str, quirk: bool = False, **choices: Any) -> Spec:
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
    """SSIM after piq's silent down-sampling."""

    spec: ClassVar[Spec] = _spec(
        "ssim.piq",
        "as ssim.wang11, after averaging over blocks until the smaller side is near 256 pixels",
        "piq `ssim(downsample=True)`, its default; here pictures are rounded to 8 bits after averaging",
        quirk=True,
        downsample="blocks, smaller side near 256",
    )

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _SsimMeter("small", ssim_gaussian, _shrunk)


class SsimGrey(Metric):
    """SSIM of grey pictures."""

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
