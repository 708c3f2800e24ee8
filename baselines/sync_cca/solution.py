"""Regularised canonical correlation from sums, cross-validated over folds of persons.

Hotelling, "Relations between two sets of variates", Biometrika 1936; the ridge on both covariances is that of Vinod,
"Canonical ridge and econometrics of joint production", Journal of Econometrics 1976.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

#: Principal components whose variance is below this share of the least ridge are left out: a ridge leaves less than
#: that of their weight.
_SHRUNK = 1e-3
#: Without a ridge, those below this share of the mean variance, which is rounding.
_ROUNDING = 1e-9
#: A mean variance that comes from rounding only; lips are in units of the size of a face, mel in its own.
_STILL = 1e-12
#: The least and the highest correlation that are told from none and from a perfect one.
_NONE, _MOST = 1e-6, 0.999


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

    def projected(self, axes: Tensor) -> Moments:
        """Of x times (P, p) axes, and y."""
        return replace(self, x=self.x @ axes, xx=axes.T @ self.xx @ axes, xy=axes.T @ self.xy)

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


class _Problem:
    """Covariances from which the variates of any ridge follow quickly.

    Args:
        moments: of the frames to learn from.
        x_unit: of ridges on x.
        y_unit: of ridges on y.
    """

    def __init__(self, moments: Moments, x_unit: float, y_unit: float) -> None:
        self.x_mean, self.y_mean = moments.x / moments.n, moments.y / moments.n
        self._xx, self._yy, self._xy = moments.covariances(self.x_mean, self.y_mean)
        self._units = x_unit, y_unit

    def variates(
        self, lip_ridges: Sequence[float], sound_ridge: float, components: int
    ) -> Iterator[Variates]:
        """The first pairs of variates with each ridge on x and one on y, in units of the mean variances."""
        # With A = xx + ridge and B = yy + ridge: A⁻¹ xy B⁻¹ yx has the squared correlations as eigenvalues and the
        # weights of x as eigenvectors. x has far fewer dimensions than y, so the problem is solved there.
        on_y = torch.linalg.cholesky(_ridged(self._yy, sound_ridge * self._units[1]))
        towards = torch.cholesky_solve(self._xy.T, on_y)
        shared = self._xy @ towards
        for ridge in lip_ridges:
            on_x = torch.linalg.cholesky(_ridged(self._xx, ridge * self._units[0]))
            half = torch.linalg.solve_triangular(on_x, shared, upper=False)
            whole = torch.linalg.solve_triangular(on_x, half.T, upper=False)
            values, axes = torch.linalg.eigh((whole + whole.T) / 2)
            rho = values.flip(0)[:components].clamp(min=0).sqrt()
            x_basis = torch.linalg.solve_triangular(on_x.T, axes.flip(1)[:, :components], upper=True)
            y_basis = towards @ x_basis / rho.clamp(min=_NONE)
            yield Variates(self.x_mean, x_basis, self.y_mean, y_basis, rho.clamp(max=_MOST))


def _ridged(covariance: Tensor, ridge: float) -> Tensor:
    return covariance + ridge * torch.eye(len(covariance), dtype=covariance.dtype)


def ratios(variates: Variates, xx: Tensor, yy: Tensor, xy: Tensor) -> Tensor:
    """The mean log-likelihood ratio of each pair of variates over some frames.

    Args:
        variates: K pairs.
        xx: (P, P) mean products of the deviations from the means of ``variates``, see :meth:`Moments.covariances`.
        yy: (Q, Q) of y.
        xy: (P, Q) of both.

    Returns:
        (K,) float64, nats a frame; see :class:`baselines.sync_cca.model.CcaJudge`.
    """
    u, v, rho = variates.x_basis, variates.y_basis, variates.canonical
    var_x, var_y = (u * (xx @ u)).sum(0), (v * (yy @ v)).sum(0)
    both = (u * (xy @ v)).sum(0)
    return (rho * both - rho**2 * (var_x + var_y) / 2) / (1 - rho**2) - torch.log1p(-(rho**2)) / 2


def solve(
    folds: Sequence[Moments], lip_ridges: Sequence[float], sound_ridges: Sequence[float], components: int
) -> tuple[Variates, Choice]:
    """Choose ridges and number of components by folds, and find the variates of all frames with them.

    What is chosen has the highest mean log-likelihood ratio on the frames of the folds, each judged by the variates
    of the others. x is expressed by the principal components of all folds, which say nothing of how lips and sound hang
    together.

    Args:
        folds: moments of each fold, at least two.
        lip_ridges: to choose from, in units of the mean variance of x; above 0, unless x and y have full rank.
        sound_ridges: of y.
        components: the most to choose.

    Raises:
        ValueError: x or y does not vary.
    """
    total = folds[0]
    for fold in folds[1:]:
        total = total + fold
    xx, yy, _ = total.covariances(total.x / total.n, total.y / total.n)
    x_unit, y_unit = _unit(xx, "lips"), _unit(yy, "sound")
    axes = _principal(xx, min(lip_ridges))
    small, whole = [fold.projected(axes) for fold in folds], total.projected(axes)
    most = min(components, axes.shape[1], len(total.y))
    held_out = torch.zeros(len(sound_ridges), len(lip_ridges), most, dtype=torch.float64)
    for fold in small:
        others = _Problem(whole - fold, x_unit, y_unit)
        covariances = fold.covariances(others.x_mean, others.y_mean)
        for row, ridge in enumerate(sound_ridges):
            for column, found in enumerate(others.variates(lip_ridges, ridge, most)):
                held_out[row, column] += ratios(found, *covariances).cumsum(0) * fold.n / whole.n
    row, column, last = (int(i) for i in np.unravel_index(int(held_out.argmax()), held_out.shape))
    choice = Choice(lip_ridges[column], sound_ridges[row], last + 1, float(held_out[row, column, last]))
    problem = _Problem(whole, x_unit, y_unit)
    (found,) = problem.variates([choice.lip_ridge], choice.sound_ridge, choice.components)
    return _signed(replace(found, x_mean=total.x / total.n, x_basis=axes @ found.x_basis)), choice


def with_ridges(moments: Moments, lip_ridge: float, sound_ridge: float, components: int) -> Variates:
    """The variates of given ridges and number of components: those of :func:`solve` without a choice.

    Args:
        moments: of all frames.
        lip_ridge: in units of the mean variance of x.
        sound_ridge: of y.
        components: pairs of variates, at most.

    Raises:
        ValueError: x or y does not vary.
    """
    xx, yy, _ = moments.covariances(moments.x / moments.n, moments.y / moments.n)
    problem = _Problem(moments, _unit(xx, "lips"), _unit(yy, "sound"))
    (found,) = problem.variates([lip_ridge], sound_ridge, min(components, len(moments.x), len(moments.y)))
    return _signed(found)


def _unit(covariance: Tensor, what: str) -> float:
    """The mean variance. Raises ``ValueError`` if there is none."""
    unit = float(covariance.diagonal().mean())
    if not unit > _STILL:
        raise ValueError(f"the {what} of all clips never change")
    return unit


def _principal(covariance: Tensor, ridge: float) -> Tensor:
    """(P, p) axes of a (P, P) covariance that count with a ridge, those with the largest variance first."""
    values, axes = torch.linalg.eigh(covariance)
    return axes[:, values > max(_SHRUNK * ridge, _ROUNDING) * values.mean()].flip(1)


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
