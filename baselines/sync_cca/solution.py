"""Regularised canonical correlation from sums, cross-validated over folds of persons.

Hotelling, "Relations between two sets of variates", Biometrika 1936; the ridge on both covariances is that of Vinod,
"Canonical ridge and econometrics of joint production", Journal of Econometrics 1976.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

#: Principal components whose variance is below this share of the mean variance are left out: with any ridge of use,
#: they have no weight.
_LEAST = 1e-4
#: A mean variance that comes from rounding only; lips are in units of the size of a face, mel in its own.
_STILL = 1e-12


@dataclass(frozen=True)
class Moments:
    """Sums over frames of two sets of variates, x (P) and y (Q); float64.

    Attributes:
        n: frames.
        x: (P,) sums of x.
        y: (Q,) sums of y.
        xx: (P, P) sums of products.
        yy: (Q, Q) sums of products.
        xy: (P, Q) sums of products.
    """

    n: float
    x: Tensor
    y: Tensor
    xx: Tensor
    yy: Tensor
    xy: Tensor

    @classmethod
    def of(cls, lips: np.ndarray, sounds: np.ndarray) -> Moments:
        """The moments of (n, P) and (n, Q) float32 rows. Products of a clip are float32, their sums float64."""
        # Copies, because the rounding of a product may depend on where in memory its factors begin.
        x, y = torch.from_numpy(lips).clone(), torch.from_numpy(sounds).clone()
        return cls(
            float(len(x)),
            x.double().sum(0),
            y.double().sum(0),
            *((a.T @ b).double() for a, b in ((x, x), (y, y), (x, y))),
        )

    @classmethod
    def from_sums(cls, sums: Mapping[str, np.ndarray]) -> Moments:
        """What :meth:`sums` gave, or several such added up."""
        return cls(float(sums["n"]), *(torch.from_numpy(sums[key]) for key in ("x", "y", "xx", "yy", "xy")))

    def sums(self) -> dict[str, np.ndarray]:
        """Their parts by name."""
        return {
            "n": np.array(self.n),
            **{key: getattr(self, key).numpy() for key in ("x", "y", "xx", "yy", "xy")},
        }

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(getattr(self, f) + getattr(other, f) for f in ("n", "x", "y", "xx", "yy", "xy")))

    def __sub__(self, other: Moments) -> Moments:
        return Moments(*(getattr(self, f) - getattr(other, f) for f in ("n", "x", "y", "xx", "yy", "xy")))

    def projected(self, lips: Tensor, sounds: Tensor) -> Moments:
        """Of the rows times (P, p) and (Q, q)."""
        return Moments(
            self.n,
            self.x @ lips,
            self.y @ sounds,
            lips.T @ self.xx @ lips,
            sounds.T @ self.yy @ sounds,
            lips.T @ self.xy @ sounds,
        )

    def covariances(self, x_mean: Tensor, y_mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means of the products of deviations from given means: of xx, yy and xy."""
        mx, my = self.x / self.n, self.y / self.n
        return (
            self.xx / self.n
            - torch.outer(mx, x_mean)
            - torch.outer(x_mean, mx)
            + torch.outer(x_mean, x_mean),
            self.yy / self.n
            - torch.outer(my, y_mean)
            - torch.outer(y_mean, my)
            + torch.outer(y_mean, y_mean),
            self.xy / self.n
            - torch.outer(mx, y_mean)
            - torch.outer(x_mean, my)
            + torch.outer(x_mean, y_mean),
        )


@dataclass(frozen=True)
class Variates:
    """Canonical variates.

    Attributes:
        x_mean: (P,) float64.
        x_basis: (P, K) float64: ``(x - x_mean) @ x_basis``.
        y_mean: (Q,) float64.
        y_basis: (Q, K) float64.
        canonical: (K,) float64, in [0, 1), falling.
    """

    x_mean: Tensor
    x_basis: Tensor
    y_mean: Tensor
    y_basis: Tensor
    canonical: Tensor


@dataclass(frozen=True)
class Choice:
    """What cross-validation chose.

    Attributes:
        lip_ridge: in units of the mean variance of x.
        sound_ridge: of y.
        components: pairs of variates.
        held_out: mean log-likelihood ratio of held-out frames, nats.
    """

    lip_ridge: float
    sound_ridge: float
    components: int
    held_out: float


class _Whitened:
    """Covariances from which the variates of any ridge follow quickly."""

    def __init__(self, moments: Moments, x_unit: float, y_unit: float) -> None:
        self.means = moments.x / moments.n, moments.y / moments.n
        xx, yy, self._xy = moments.covariances(*self.means)
        self._x, self._y = torch.linalg.eigh(xx), torch.linalg.eigh(yy)
        self._units = x_unit, y_unit
        self._between = self._x.eigenvectors.T @ self._xy @ self._y.eigenvectors

    def variates(self, lip_ridge: float, sound_ridge: float, components: int) -> Variates:
        x_scale, y_scale = (
            (values.clamp(min=0) + ridge * unit).rsqrt()
            for values, ridge, unit in zip(
                (self._x.eigenvalues, self._y.eigenvalues), (lip_ridge, sound_ridge), self._units, strict=True
            )
        )
        u, s, vt = torch.linalg.svd(x_scale[:, None] * self._between * y_scale, full_matrices=False)
        u, v = u[:, :components], vt.T[:, :components]
        x_basis = self._x.eigenvectors @ (x_scale[:, None] * u)
        y_basis = self._y.eigenvectors @ (y_scale[:, None] * v)
        return Variates(self.means[0], x_basis, self.means[1], y_basis, s[:components].clamp(max=0.999))


def ratios(variates: Variates, moments: Moments) -> Tensor:
    """The mean log-likelihood ratio of each pair of variates over the frames of some moments.

    Args:
        variates: K pairs.
        moments: of any frames.

    Returns:
        (K,) float64, nats a frame; see :class:`baselines.sync_cca.model.CcaJudge`.
    """
    xx, yy, xy = moments.covariances(variates.x_mean, variates.y_mean)
    u, v, rho = variates.x_basis, variates.y_basis, variates.canonical
    var_x, var_y = (u * (xx @ u)).sum(0), (v * (yy @ v)).sum(0)
    both = (u * (xy @ v)).sum(0)
    return (rho * both - rho**2 * (var_x + var_y) / 2) / (1 - rho**2) - torch.log1p(-(rho**2)) / 2


def solve(
    folds: Sequence[Moments], lip_ridges: Sequence[float], sound_ridges: Sequence[float], components: int
) -> tuple[Variates, Choice]:
    """Choose ridges and number of components by folds, and find the variates of all frames with them.

    What is chosen has the highest mean log-likelihood ratio on the frames of the folds, each judged by the variates
    of the others. First all rows are expressed by the principal components of all folds, which say nothing of how lips
    and sound hang together.

    Args:
        folds: moments of each fold, at least two.
        lip_ridges: to choose from, in units of the mean variance of x.
        sound_ridges: of y.
        components: the most to choose.

    Raises:
        ValueError: x or y does not vary.
    """
    total = folds[0]
    for fold in folds[1:]:
        total = total + fold
    xx, yy, _ = total.covariances(total.x / total.n, total.y / total.n)
    x_unit, y_unit = float(xx.diagonal().mean()), float(yy.diagonal().mean())
    for unit, what in ((x_unit, "lips"), (y_unit, "sound")):
        if not unit > _STILL:
            raise ValueError(f"the {what} of all clips never change")
    x_axes, y_axes = _principal(xx), _principal(yy)
    small = [fold.projected(x_axes, y_axes) for fold in folds]
    whole = total.projected(x_axes, y_axes)
    most = min(components, x_axes.shape[1], y_axes.shape[1])
    pairs = [(a, b) for a in lip_ridges for b in sound_ridges]
    held_out = torch.zeros(len(pairs), most, dtype=torch.float64)
    for fold in small:
        others = _Whitened(whole - fold, x_unit, y_unit)
        for row, (a, b) in enumerate(pairs):
            held_out[row] += ratios(others.variates(a, b, most), fold).cumsum(0) * fold.n / whole.n
    row, last = divmod(int(held_out.argmax()), most)
    choice = Choice(*pairs[row], last + 1, float(held_out[row, last]))
    found = _Whitened(whole, x_unit, y_unit).variates(choice.lip_ridge, choice.sound_ridge, choice.components)
    return _signed(
        Variates(
            total.x / total.n,
            x_axes @ found.x_basis,
            total.y / total.n,
            y_axes @ found.y_basis,
            found.canonical,
        )
    ), choice


def _principal(covariance: Tensor) -> Tensor:
    """(P, p) axes of a (P, P) covariance, those with the largest variance first."""
    values, axes = torch.linalg.eigh(covariance)
    kept = values > _LEAST * values.mean()
    return axes[:, kept].flip(1)


def _signed(variates: Variates) -> Variates:
    """Each pair with the sign by which its largest weight on x is positive."""
    largest = variates.x_basis.abs().argmax(0, keepdim=True)
    sign = variates.x_basis.gather(0, largest).sign()
    return Variates(
        variates.x_mean,
        variates.x_basis * sign,
        variates.y_mean,
        variates.y_basis * sign,
        variates.canonical,
    )
