"""Pixel errors: PSNR and MSE, in the variants that were used for published figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from bench.common.errors import Unscorable
from bench.metrics.base import Batch, ClipInfo, Image, Meter, Metric, Output, Score, Spec

Floats = npt.NDArray[np.float64]

PEAK = 255.0
#: PSNR in dB of an identical image in a mean; piq's lower limit of the error, 1e-8 of the range, gives the same.
CAP = 80.0


def squared_error(pred: Image, truth: Image) -> Floats:
    """Mean squared error of each picture.

    Args:
        pred: (n, H, W, 3) or (n, H, W) uint8.
        truth: the same shape.

    Returns:
        (n,) float64, in units of the pixel values, 0 to 255². Sums are exact because they are sums of integers.
    """
    return np.array([cv2.norm(p, t, cv2.NORM_L2SQR) for p, t in zip(pred, truth, strict=True)]) / pred[0].size


def grey_error(pred: Image, truth: Image) -> Floats:
    """Mean squared error of each picture's luma: (n, H, W, 3) uint8 twice → (n,) float64, 0 to 255²."""
    return squared_error(*(np.stack([_grey(picture) for picture in video]) for video in (pred, truth)))


def wrapped_error(pred: Image, truth: Image) -> Floats:
    """ATVGnet's mean squared error: in uint8 arithmetic on grey images, which wraps modulo 256."""
    found = []
    for p, t in zip(pred, truth, strict=True):
        found.append(np.mean((_grey(p) - _grey(t)) ** 2))
    return np.array(found, np.float64)


def _grey(picture: Image) -> Image:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def decibels(error: Floats) -> Floats:
    """PSNR in dB of mean squared errors of pixels from 0 to 255; infinite where the error is 0."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(PEAK**2 / np.asarray(error, np.float64))


def mean_decibels(error: Floats) -> float:
    """Mean PSNR of the frames of a clip, each at most :data:`CAP`; infinite if no frame has any error."""
    if not np.any(error):
        return float("inf")
    return float(np.minimum(decibels(error), CAP).mean())


class _ErrorMeter(Meter):
    def __init__(
        self, key: str, error: Callable[[Image, Image], Floats], finish: Callable[[Floats], Score]
    ) -> None:
        self._key = key
        self._error = error
        self._finish = finish
        self._found: list[Floats] = []

    def update(self, batch: Batch) -> None:
        truth = batch.truth
        if truth is None:
            raise Unscorable("there is no true video")
        # Several figures of the same frames share one pass over the pixels.
        self._found.append(batch.pred.shared(self._key, lambda: self._error(batch.pred.array, truth.array)))

    def finish(self) -> Score:
        return self._finish(np.concatenate(self._found))


_TRAPS = (
    "uint8 arithmetic that wraps modulo 256 (ATVGnet's script): with noise of σ 20 it prints 28.8 dB for 22.5 dB",
    "the mean of the frames' PSNR is never less than the PSNR of the mean error",
    "a full frame of an inpainting method is mostly copied background: use the regions face and mouth",
)


def _spec(
    name: str, summary: str, formula: str, reference: str, outputs: tuple[Output, ...], **choices: Any
) -> Spec:
    parameters = {"arithmetic": "exact", "channels": "rgb", "average": "frames", "cap": CAP, **choices}
    quirk = bool(parameters.pop("quirk", False))
    return Spec(
        name=name,
        summary=summary,
        outputs=outputs,
        parameters={"peak": PEAK, **parameters},
        formula=formula,
        reference=reference,
        traps=_TRAPS,
        quirk=quirk,
    )


_PSNR = (Output("", "PSNR", "higher", unit="dB", low=0.0, cap=CAP, decimals=2),)


class PsnrFrame(Metric):
    """Mean over frames of the PSNR."""

    spec: ClassVar[Spec] = _spec(
        "psnr.frame",
        "mean over the frames of a clip of the PSNR in RGB",
        r"$\frac1T\sum_t \min(80,\ 10\log_{10}\frac{255^2}{\mathrm{MSE}_t})$, the MSE over pixels and channels; "
        "infinite where no frame has any error",
        "scikit-image `peak_signal_noise_ratio(data_range=255)` a frame; the cap is piq's, which ViCo's script uses",
        _PSNR,
    )

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _ErrorMeter("error", squared_error, _per_frame)


class PsnrVideo(Metric):
    """PSNR of the mean error over all frames."""

    spec: ClassVar[Spec] = _spec(
        "psnr.video",
        "PSNR in RGB of the mean squared error over all frames of a clip",
        r"$10\log_{10}\frac{255^2}{\frac1T\sum_t\mathrm{MSE}_t}$",
        "as proposed in DinoMan/speech-driven-animation, issue 53",
        _PSNR,
        average="video",
    )

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _ErrorMeter(
            "error", squared_error, lambda error: Score({"": float(decibels(error.mean(keepdims=True))[0])})
        )


class PsnrGrey(Metric):
    """PSNR of grey images: the step between ``psnr.frame`` and ``psnr.uint8``."""

    spec: ClassVar[Spec] = _spec(
        "psnr.grey",
        "as psnr.frame, of grey images (BT.601 luma, rounded to uint8)",
        "as `psnr.frame`, with the MSE over the pixels of the luma",
        "what ATVGnet's script would print if its arithmetic did not wrap",
        _PSNR,
        channels="grey",
        quirk=True,
    )

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _ErrorMeter("grey error", grey_error, _per_frame)


class PsnrUint8(Metric):
    """ATVGnet's figure: on grey images, with an error that wraps modulo 256."""

    spec: ClassVar[Spec] = _spec(
        "psnr.uint8",
        "PSNR of ATVGnet's script: of grey images, with squares that wrap modulo 256",
        r"as `psnr.frame`, with $\mathrm{MSE}=\mathrm{mean}((x-y)^2 \bmod 256)$",
        "lelechen63/ATVGnet `evaluation_matrix.py`",
        _PSNR,
        arithmetic="uint8, wraps",
        channels="grey",
        quirk=True,
    )

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _ErrorMeter("wrapped", wrapped_error, _per_frame)


class Mse(Metric):
    """Mean squared error of pixels in [0, 1]."""

    spec: ClassVar[Spec] = _spec(
        "mse",
        "mean squared error of RGB pixels in [0, 1], mean over frames",
        r"$\frac1T\sum_t\mathrm{MSE}_t / 255^2$",
        "G4G prints 0.0017 to 0.0020, which fits this range",
        (Output("", "MSE", "lower", low=0.0, high=1.0, decimals=5),),
    )

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _ErrorMeter("error", squared_error, _unit_error)


def _per_frame(error: Floats) -> Score:
    return Score({"": mean_decibels(error)}, {"": np.minimum(decibels(error), CAP).astype(np.float32)})


def _unit_error(error: Floats) -> Score:
    unit = error / PEAK**2
    return Score({"": float(unit.mean())}, {"": unit.astype(np.float32)})
