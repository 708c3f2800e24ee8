r"""The Fréchet distance between two sets of vectors, each modelled as a normal distribution, and its uncertainty.

.. math:: \lVert\mu_1-\mu_2\rVert^2 + \mathrm{tr}\,S_1 + \mathrm{tr}\,S_2 - 2\,\mathrm{tr}\,(S_1S_2)^{1/2}

(Dowson and Landau 1982; Heusel et al., NeurIPS 2017, eq. 6.) With factors :math:`S_i=F_i^TF_i` the last trace is the
sum of the singular values of :math:`F_1F_2^T`. This is exact even if there are fewer vectors than
dimensions and the covariances are singular: nothing is added to their diagonals, and there can be no imaginary part.
pytorch-fid and clean-fid compute the root with ``scipy.linalg.sqrtm``, which is inaccurate exactly in that case;
otherwise both agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from bench.common.errors import Unscorable

Array = npt.NDArray[np.floating[Any]]
Float = npt.NDArray[np.float64]
FeaturePair = tuple[Array, Array]

#: Largest number of groups of clips that the jackknife leaves out in turn.
GROUPS = 20
#: Half the width of a 95 % interval of a normal distribution, in standard errors.
_Z = 1.96


class Moments:
    """Number, mean and scatter of vectors, in float64. Vectors are added in parts and not stored.

    Sums are of deviations from running means (Chan, Golub and LeVeque 1983), so a large mean costs no precision.

    Attributes:
        n: vectors so far.
        mean: (d,).
        scatter: (d, d), sum of the outer products of deviations from the mean.
    """

    def __init__(self, dimensions: int) -> None:
        self.n = 0
        self.mean: Float = np.zeros(dimensions)
        self.scatter: Float = np.zeros((dimensions, dimensions))

    def add(self, vectors: Array) -> None:
        """Add (n, d) vectors."""
        if not len(vectors):
            return
        rows = np.asarray(vectors, np.float64)
        mean, n = rows.mean(axis=0), self.n + len(rows)
        shift = mean - self.mean
        # The distance of the two means counts as one more deviation.
        deviations = np.vstack([rows - mean, shift * np.sqrt(self.n * len(rows) / n)])
        self.scatter += deviations.T @ deviations
        self.mean = self.mean + shift * (len(rows) / n)
        self.n = n

    def without(self, part: Moments) -> Moments:
        """The moments without some of the vectors; at least one vector must remain."""
        rest = Moments.__new__(Moments)
        rest.n = self.n - part.n
        rest.mean = self.mean + (self.mean - part.mean) * (part.n / rest.n)
        shift = (part.mean - rest.mean) * np.sqrt(part.n * rest.n / self.n)
        rest.scatter = self.scatter - part.scatter - np.outer(shift, shift)
        return rest

    @property
    def covariance(self) -> Float:
        """(d, d), the unbiased covariance: divided by n - 1."""
        return self.scatter / (self.n - 1)

    def factor(self) -> Float:
        """F, (rank, d), with Fᵀ F equal to the covariance: pivoted Cholesky decomposition."""
        lower, pivots, rank, _ = lapack.dpstrf(self.covariance, lower=1, overwrite_a=1)
        factor = np.zeros((rank, len(self.mean)))
        factor[:, pivots - 1] = np.tril(lower)[:, :rank].T
        return factor


def factor_of(vectors: Array) -> Float:
    """(n, d) vectors → F, (n, d), with Fᵀ F equal to their covariance."""
    rows = np.asarray(vectors, np.float64)
    deviations: Float = (rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)
    return deviations


def distance(mean_a: Array, factor_a: Float, mean_b: Array, factor_b: Float) -> float:
    """The Fréchet distance of two normal distributions.

    Args:
        mean_a: (d,).
        factor_a: F, (k, d), with Fᵀ F equal to the covariance.
        mean_b: (d,).
        factor_b: (m, d).

    Returns:
        At least 0.
    """
    shift = np.asarray(mean_a, np.float64) - mean_b
    cross = np.linalg.svd(factor_a @ factor_b.T, compute_uv=False).sum()
    value = shift @ shift + np.square(factor_a).sum() + np.square(factor_b).sum() - 2 * cross
    return max(0.0, float(value))


def distance_of(pairs: Sequence[FeaturePair]) -> float:
    """The Fréchet distance between all vectors on the one side and all on the other.

    Args:
        pairs: (n, d) and (m, d) of each clip; at least two vectors on each side.
    """
    a, b = (np.concatenate(side).astype(np.float64) for side in zip(*pairs, strict=True))
    return distance(a.mean(axis=0), factor_of(a), b.mean(axis=0), factor_of(b))


def moments_of(clips: Iterable[FeaturePair]) -> tuple[Moments, Moments]:
    """Number, mean and scatter of both sides, over at least one clip; one clip is read at a time."""
    sides: tuple[Moments, ...] = ()
    for clip in clips:
        sides = sides or tuple(Moments(vectors.shape[1]) for vectors in clip)
        for side, vectors in zip(sides, clip, strict=True):
            side.add(vectors)
    a, b = sides
    return a, b


def distance_of_moments(a: Moments, b: Moments) -> float:
    """The Fréchet distance between two sets of at least two vectors each, given by their :class:`Moments`."""
    return distance(a.mean, a.factor(), b.mean, b.factor())


def quick_distance(a: Moments, b: Moments) -> float:
    """As :func:`distance_of_moments`, in half the time: from eigenvalues of a product of three matrices.

    Singular values below 1e-8 of the largest are lost by rounding. This changes the figure by about 1e-6 of the traces,
    which is negligible for a standard error.
    """
    factor, covariance = b.factor(), a.covariance
    values = np.linalg.eigvalsh(factor @ covariance @ factor.T)
    shift = a.mean - b.mean
    cross = np.sqrt(values.clip(min=0)).sum()
    return float(shift @ shift + np.trace(covariance) + np.square(factor).sum() - 2 * cross)


@dataclass(frozen=True)
class Estimate:
    """A distance over clips with its 95 % interval.

    Attributes:
        value: the distance.
        low: lower end of the interval, not below 0; None if there is no interval.
        high: upper end.
        groups: number of groups of clips that were left out in turn; 0 if there is no interval.
    """

    value: float
    low: float | None = None
    high: float | None = None
    groups: int = 0


def estimate(clips: Sequence[FeaturePair]) -> Estimate:
    r"""The Fréchet distance over clips, with an interval by a jackknife that leaves out groups of clips.

    Clips are left out, not frames, because frames of one clip are near-duplicates. The clips are divided into at
    most :data:`GROUPS` consecutive groups of equal size. So neighbours in the list, often clips of one speaker,
    stay together. The squared standard error is :math:`\frac{G-1}G\sum_g(\theta_g-\bar\theta)^2` of the distances
    without one group each.

    Args:
        clips: (n, d) and (m, d) of each; read from disk at each access. If a side has more vectors than dimensions,
            only sums are stored; then every clip is read twice, the first ones three times.

    Raises:
        Unscorable: there are fewer than two vectors on a side.
    """
    few = _few(clips)
    sample = _Sums(clips) if few is None else _Vectors(few)
    counts = sample.counts.sum(axis=0)
    if counts.min() < 2:
        raise Unscorable("a covariance needs at least 2 frames")
    groups = _groups(len(clips))
    left = [counts - sample.counts[group.start : group.stop].sum(axis=0) for group in groups]
    if len(groups) < 2 or np.min(left) < 2:
        return Estimate(sample.distance())
    if sample.same:
        return Estimate(0.0, 0.0, 0.0, len(groups))
    value, parts = sample.distance(), np.array([sample.without(group) for group in groups])
    half = _Z * float(np.sqrt((len(parts) - 1) * parts.var()))
    return Estimate(value, max(0.0, value - half), value + half, len(groups))


def _groups(n: int) -> list[range]:
    count = min(n, GROUPS)
    return [range(n * i // count, n * (i + 1) // count) for i in range(count)]


def _few(clips: Sequence[FeaturePair]) -> list[FeaturePair] | None:
    """All clips, or None if a side has more vectors than dimensions."""
    held: list[FeaturePair] = []
    seen = np.zeros(2, np.int64)
    for i in range(len(clips)):
        held.append(clips[i])
        seen += [len(side) for side in held[-1]]
        if seen.max() > held[-1][0].shape[1]:
            return None
    return held


class _Vectors:
    """The case of few vectors, which are stored.

    Attributes:
        counts: (clips, 2) vectors of each clip.
        same: whether both sides are equal.
    """

    def __init__(self, pairs: Sequence[FeaturePair]) -> None:
        self._pairs = pairs
        self.counts = np.array([[len(side) for side in pair] for pair in pairs]).reshape(-1, 2)
        self.same = all(np.array_equal(*pair) for pair in pairs)

    def distance(self) -> float:
        """Over all clips."""
        return distance_of(self._pairs)

    def without(self, group: range) -> float:
        """Over all other clips."""
        return distance_of([*self._pairs[: group.start], *self._pairs[group.stop :]])


class _Sums:
    """The case of many vectors, of which only sums are stored; attributes as in :class:`_Vectors`."""

    def __init__(self, clips: Sequence[FeaturePair]) -> None:
        self._clips = clips
        self.same = True
        counts: list[list[int]] = []

        def watched() -> Iterator[FeaturePair]:
            for clip in self._read(range(len(clips))):
                counts.append([len(side) for side in clip])
                self.same = self.same and np.array_equal(*clip)
                yield clip

        self._sides = moments_of(watched())
        self.counts = np.array(counts)

    def _read(self, wanted: range) -> Iterator[FeaturePair]:
        return (self._clips[i] for i in wanted)

    def distance(self) -> float:
        """Over all clips."""
        return distance_of_moments(*self._sides)

    def without(self, group: range) -> float:
        """Over all other clips."""
        (a, b), (gone_a, gone_b) = self._sides, moments_of(self._read(group))
        return quick_distance(a.without(gone_a), b.without(gone_b))
