"""The linear sync judge: canonical variates of lips and sound, and how likely they belong together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from baselines.sync_cca.features import RIGID, Recipe, lip_features, sound_features

Float32 = npt.NDArray[np.float32]


class CcaJudge(nn.Module):
    """Says for each frame how likely lips and sound belong together; linear maps and Gaussians, no gradient.

    Canonical correlation (Hotelling, "Relations between two sets of variates", Biometrika 1936) finds directions in
    what is seen and in what is heard whose variates x_k and y_k, of variance 1, correlate most, by ρ_k. For Gaussians,
    the log-likelihood ratio of "they belong together" against "they are independent" is

        Σ_k [ρ_k x_k y_k - ½ ρ_k² (x_k² + y_k²)] / (1 - ρ_k²) - ½ log(1 - ρ_k²),

    which is the dot product of :meth:`see` and :meth:`hear`, in nats. So the score of sound shifted by d frames is
    ``see[t] @ hear[t + d]``. Before it is fitted, all correlations are 0, and so are all scores.

    Args:
        recipe: what is seen and heard of a frame.
        components: K, the most pairs of variates; unused ones have correlation 0.

    Attributes:
        shape: (46, D) float64, the rigid points of the mean face.
        lip_mean: (P,) float32.
        lip_basis: (P, K) float32: ``(lips - lip_mean) @ lip_basis`` are the variates.
        sound_mean: (Q,) float32.
        sound_basis: (Q, K) float32.
        canonical: (K,) float32, ρ in [0, 1), falling.
        persons: () int64, whom it was fitted on.
        frames: () int64, on which it was fitted.
    """

    shape: Tensor
    lip_mean: Tensor
    lip_basis: Tensor
    sound_mean: Tensor
    sound_basis: Tensor
    canonical: Tensor
    persons: Tensor
    frames: Tensor

    def __init__(self, recipe: Recipe, components: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.register_buffer("shape", torch.zeros(len(RIGID), recipe.dimensions, dtype=torch.float64))
        self.register_buffer("lip_mean", torch.zeros(recipe.lip_size))
        self.register_buffer("lip_basis", torch.zeros(recipe.lip_size, components))
        self.register_buffer("sound_mean", torch.zeros(recipe.sound_size))
        self.register_buffer("sound_basis", torch.zeros(recipe.sound_size, components))
        self.register_buffer("canonical", torch.zeros(components))
        self.register_buffer("persons", torch.zeros((), dtype=torch.int64))
        self.register_buffer("frames", torch.zeros((), dtype=torch.int64))

    def variates_seen(self, points: np.ndarray) -> Float32:
        """(T, 478, 3) float32, pixels → (T, K) float32, of variance about 1; NaN rows without a face."""
        return self._variates(lip_features(points, self.shape.numpy(), self.recipe), "lip")

    def variates_heard(self, mel: np.ndarray, n_frames: int) -> Float32:
        """(C, 80) float32 → (n_frames, K) float32, of variance about 1; NaN rows beyond the sound."""
        return self._variates(sound_features(mel, n_frames, self.recipe), "sound")

    def see(self, points: np.ndarray) -> Float32:
        """Embed the lips of each frame.

        Args:
            points: (T, 478, 3) float32, pixels of the full frame, z scaled like x; NaN rows where there is no face.

        Returns:
            (T, K + 2) float32; NaN rows where a frame has no face, or one of those around it that belong to it.
        """
        x = self.variates_seen(points)
        rho = self.canonical.numpy().astype(np.float64)
        constant = -0.5 * float(np.log1p(-(rho**2)).sum())
        own = constant - (np.square(x) * _own(rho)).sum(axis=1)
        return np.concatenate([x * (rho / (1 - rho**2)), own[:, None], _ones(x)], axis=1, dtype=np.float32)

    def hear(self, mel: np.ndarray, n_frames: int) -> Float32:
        """Embed the sound of each frame.

        Args:
            mel: (C, 80) float32, 80 columns a second.
            n_frames: frames at 25 a second.

        Returns:
            (n_frames, K + 2) float32; NaN rows beyond the sound.
        """
        y = self.variates_heard(mel, n_frames)
        own = -(np.square(y) * _own(self.canonical.numpy().astype(np.float64))).sum(axis=1)
        return np.concatenate([y, _ones(y), own[:, None]], axis=1, dtype=np.float32)

    def _variates(self, features: Float32, side: str) -> Float32:
        mean, basis = getattr(self, f"{side}_mean").numpy(), getattr(self, f"{side}_basis")
        # By torch: the rounding of NumPy's product depends on its threads, which the runner cannot set.
        return (torch.from_numpy(features - mean) @ basis).numpy()


def _own(rho: np.ndarray) -> np.ndarray:
    """What the square of a variate is weighted by."""
    return rho**2 / 2 / (1 - rho**2)


def _ones(variates: np.ndarray) -> np.ndarray:
    """A column of ones, NaN where the variates are."""
    return np.where(np.isfinite(variates[:, :1]), 1.0, np.nan)
