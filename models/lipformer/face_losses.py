"""Losses on generated faces, for both stages: pixel, perceptual and adversarial losses (equations 4 and 11)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Adam, Optimizer

from models.base import Section, Update
from models.layers.adversarial import apart, handed_on
from models.layers.stylegan2 import StyleGAN2Discriminator, generator_loss, judge
from models.layers.vgg import VGG19
from models.lipformer.pictures import perceptual_loss, pixel_loss


class FaceLossConfig(Section):
    """Options that both stages have; defaults are the paper's.

    Attributes:
        pixel_weight: of the L2 loss, a mean over pixels and channels, which has no weight in equations 4 and 11.
        mouth_weight: of the L2 loss over the mouth, and of the cross-entropy of lip codes there, as multiples of the
            losses over the whole face; not in the paper.
        perceptual_weight: of equation 4, λ_per of equation 11; 0: VGG-19 is not used.
        adversarial_weight: of equation 4, λ_adv of equation 11; 0: no discriminator is used.
        r1_weight: γ of StyleGAN2's R1 regularisation of the discriminator.
        r1_every: steps between two of those.
        learning_rate: of Adam.
        betas: of Adam.
        discriminator_learning_rate: of the discriminator's Adam.
        discriminator_betas: of the discriminator's Adam.
    """

    pixel_weight: float = Field(1.0, ge=0)
    mouth_weight: float = Field(0.0, ge=0)
    perceptual_weight: float = Field(0.1, ge=0)
    adversarial_weight: float = Field(0.1, ge=0)
    r1_weight: float = Field(10.0, ge=0)
    r1_every: int = Field(16, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    discriminator_learning_rate: float = Field(1e-4, gt=0)
    discriminator_betas: tuple[float, float] = (0.9, 0.95)


class FaceLosses:
    """Losses of a stage by name, weighted as its configuration says.

    Args:
        config: of the stage.
        codes: name → weight of the stage's loss on codes.
        discriminator: None: none is used.
        vgg: None: no perceptual loss.
    """

    def __init__(
        self,
        config: FaceLossConfig,
        codes: dict[str, float],
        discriminator: StyleGAN2Discriminator | None,
        vgg: VGG19 | None,
    ) -> None:
        self._config = config
        self._discriminator, self._vgg = discriminator, vgg
        self._weights = {
            **codes,
            "L2": config.pixel_weight,
            "perceptual": config.perceptual_weight,
            "adversarial": config.adversarial_weight,
        }

    def pixels(self, made: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """``L2`` of (B, 3, S, S) float faces."""
        return {"L2": pixel_loss(made, truth, self._config.mouth_weight)}

    def likeness(self, made: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """``L2`` and, with VGG-19, ``perceptual``."""
        losses = self.pixels(made, truth)
        if self._vgg is not None:
            losses["perceptual"] = perceptual_loss(self._vgg, made, truth)
        return losses

    def weighted(self, losses: dict[str, Tensor]) -> Tensor:
        """() float, the sum of named losses."""
        return torch.stack([self._weights[name] * loss for name, loss in losses.items()]).sum()

    def optimizers(self) -> dict[str, Optimizer]:
        """``discriminator``, Adam; empty where none is used."""
        if self._discriminator is None:
            return {}
        config = self._config
        parameters = self._discriminator.parameters()
        return {
            "discriminator": Adam(parameters, config.discriminator_learning_rate, config.discriminator_betas)
        }

    @property
    def long_step_every(self) -> int:
        """Steps between two with R1, see :attr:`models.base.Stage.long_step_every`."""
        return self._config.r1_every if self._discriminator is not None and self._config.r1_weight else 1

    def adversarial(self, discriminator: StyleGAN2Discriminator, made: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of (B, 3, S, S) float generated faces, () float, and their (B,) logits for :meth:`judge`."""
        seen = apart(made)
        logits = discriminator(seen)
        return handed_on(generator_loss(logits), seen, made), logits

    def judge(
        self, discriminator: StyleGAN2Discriminator, truth: Tensor, logits: Tensor, step: int
    ) -> Update:
        """The discriminator's step on a batch, see :func:`models.layers.stylegan2.judge`."""
        config = self._config
        loss, logs = judge(discriminator, truth, logits, config.r1_weight, config.r1_every, step)
        return Update(loss, "discriminator", logs)
