"""Fitting of the linear sync judge: the mean face, canonical variates of lips and sound, and how it judges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from baselines.sync_cca.features import Recipe, lip_features, rigid_shape, sound_features
from baselines.sync_cca.model import CcaJudge
from baselines.sync_cca.solution import Moments, Variates, solve
from baselines.sync_judges.speech import RULE, speech_frames
from baselines.sync_judges.windows import right_above_wrong
from models.base import FitClip, FitConfig, FitStage, Group, Pass, Sums, Unfit

Ridge = Annotated[float, Field(gt=0)]


class CcaConfig(FitConfig):
    """Options of the fit.

    Attributes:
        recipe: what is seen and heard of a frame.
        speech: only frames with speech take part in the fit; judging leaves out windows without speech in any case.
        components: pairs of variates, at most; cross-validation chooses how many count.
        lip_ridges: what is added to the variance of lips, in units of their mean variance; the best is chosen.
        sound_ridges: the same of sound.
    """

    recipe: Recipe
    speech: bool
    components: int = Field(ge=1)
    lip_ridges: tuple[Ridge, ...] = Field(min_length=1)
    sound_ridges: tuple[Ridge, ...] = Field(min_length=1)

    def build(self) -> CcaJudge:
        """A judge that is not fitted yet."""
        return CcaJudge(self.recipe, self.components)


class CcaStage(FitStage):
    """Fits a :class:`baselines.sync_cca.model.CcaJudge`.

    Three passes: the mean shape of the rigid points, over clips; the moments of lips and sound over the frames with
    speech, from which everything follows; and how the judge does on the clips of validation.

    Args:
        config: its options.
        judge: to be fitted.
    """

    name = "fit"
    passes: ClassVar = (Pass("shape", "train"), Pass("moments", "train"), Pass("judging", "val"))

    def __init__(self, config: CcaConfig, judge: CcaJudge) -> None:
        self.config = config
        self._options, self._judge = config, judge
        self.networks, self.frozen = {"judge": judge}, {}

    def sums(self, number: int, clip: FitClip) -> Sums:
        """See :meth:`models.base.FitStage.sums`."""
        return (self._shape, self._moments, self._judged)[number](clip)

    def take(self, number: int, groups: Sequence[Group]) -> dict[str, float]:
        """See :meth:`models.base.FitStage.take`.

        Returns:
            Of the moments: what was chosen, with ``held_out``, the mean log-likelihood ratio of held-out frames, nats,
            and the highest canonical correlations. Of judging, on the clips of validation: ``rank``, how often the
            right sound scores above wrong sound (mean over clips), ``ratio``, the mean log-likelihood ratio, and
            ``corr_1`` … ``corr_3``, correlations of the first variates.
        """
        return (self._take_shape, self._take_moments, self._take_judged)[number](groups)

    def about(self) -> dict[str, object]:
        """Landmarks, sound, which frames of clips, and on whom it was fitted."""
        return {
            "landmarks": "FaceMesh: lips, about right_eye, left_eye, nose_bridge, nose_wings",
            "sound": "mel",
            "frames_used": f"with speech by {RULE}" if self._options.speech else "all with a face",
            "recipe": self._options.recipe.model_dump(),
            "components": int((self._judge.canonical > 0).sum()),
            "persons": int(self._judge.persons),
            "frames": int(self._judge.frames),
        }

    # The mean face ----------------------------------------------------------------------------------------------

    def _shape(self, clip: FitClip) -> Sums:
        return {"shape": rigid_shape(clip.landmarks, self._options.recipe.dimensions)}

    def _take_shape(self, groups: Sequence[Group]) -> dict[str, float]:
        shape = sum((group.sums["shape"] for group in groups), np.zeros(tuple(self._judge.shape.shape)))
        shape = shape - shape.mean(axis=0)
        self._judge.shape.copy_(torch.from_numpy(shape / np.sqrt((shape**2).sum())))
        return {}

    # The variates -----------------------------------------------------------------------------------------------

    def _moments(self, clip: FitClip) -> Sums:
        recipe, frames = self._options.recipe, len(clip.landmarks)
        lips = lip_features(clip.landmarks, self._judge.shape.numpy(), recipe)
        sounds = sound_features(clip.mel, frames, recipe)
        seen, spoken = np.isfinite(lips[:, 0]), speech_frames(clip.mel, frames)
        used = seen & np.isfinite(sounds[:, 0]) & (spoken | (not self._options.speech))
        if not used.any():
            raise Unfit(
                "without speech" if not spoken.any() else "without a run of frames with a face and speech"
            )
        return Moments.of(lips[used], sounds[used]).sums()

    def _take_moments(self, groups: Sequence[Group]) -> dict[str, float]:
        options, judge = self._options, self._judge
        folds = [Moments.from_sums(group.sums) for group in groups]
        variates, chosen = solve(folds, options.lip_ridges, options.sound_ridges, options.components)
        fill(judge, variates)
        judge.persons.fill_(sum(group.persons for group in groups))
        judge.frames.fill_(int(sum(fold.n for fold in folds)))
        return {
            "persons": int(judge.persons),
            "frames": int(judge.frames),
            "lip_ridge": chosen.lip_ridge,
            "sound_ridge": chosen.sound_ridge,
            "components": chosen.components,
            "held_out": chosen.held_out,
            **{f"canonical_{k}": float(rho) for k, rho in enumerate(judge.canonical[:3], 1)},
        }

    # Judging ----------------------------------------------------------------------------------------------------

    def _judged(self, clip: FitClip) -> Sums:
        judge, frames = self._judge, len(clip.landmarks)
        spoken = speech_frames(clip.mel, frames)
        lips, sounds = judge.see(clip.landmarks), judge.hear(clip.mel, frames)
        x, y = judge.variates_seen(clip.landmarks), judge.variates_heard(clip.mel, frames)
        used = np.isfinite(x[:, 0]) & np.isfinite(y[:, 0]) & spoken
        if not used.any():
            raise Unfit(
                "without speech" if not spoken.any() else "without a run of frames with a face and speech"
            )
        x, y = x[used].astype(np.float64), y[used].astype(np.float64)
        ranked = right_above_wrong(lips, sounds, spoken)
        return {
            "n": np.array(float(used.sum())),
            "ratio": (lips[used] * sounds[used]).sum(dtype=np.float64),
            "x": x.sum(axis=0),
            "y": y.sum(axis=0),
            "xx": (x * x).sum(axis=0),
            "yy": (y * y).sum(axis=0),
            "xy": (x * y).sum(axis=0),
            "rank": np.array(ranked.share if ranked.pairs else 0.0),
            "ranked": np.array(1 if ranked.pairs else 0),
        }

    def _take_judged(self, groups: Sequence[Group]) -> dict[str, float]:
        (sums,) = (group.sums for group in groups)
        n = sums["n"]
        x, y = sums["x"] / n, sums["y"] / n
        spread = np.sqrt((sums["xx"] / n - x * x) * (sums["yy"] / n - y * y))
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (sums["xy"] / n - x * y) / spread
        figures = {"ratio": float(sums["ratio"] / n)}
        if sums["ranked"]:
            figures = {"rank": float(sums["rank"] / sums["ranked"]), **figures}
        used = int((self._judge.canonical > 0).sum())
        return figures | {f"corr_{k}": float(rho) for k, rho in enumerate(found[: min(3, used)], 1)}


def fill(judge: CcaJudge, variates: Variates) -> None:
    """Set the variates of a judge, which may have more components than they."""
    judge.lip_mean.copy_(variates.x_mean)
    judge.sound_mean.copy_(variates.y_mean)
    for name, values in (
        ("lip_basis", variates.x_basis),
        ("sound_basis", variates.y_basis),
        ("canonical", variates.canonical),
    ):
        buffer = getattr(judge, name)
        buffer.zero_()[..., : values.shape[-1]] = values
