"""Training of Wav2Lip (Prajwal et al., ACM MM 2020, section 3; ``wav2lip_train.py``, ``hq_wav2lip_train.py``)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from baselines.sync_expert.network import FRAMES, SyncNet
from baselines.wav2lip.discriminator import QualityDiscriminator
from baselines.wav2lip.losses import likeness, lower_psnr, sync_loss
from baselines.wav2lip.network import HALF, Generator, see
from baselines.wav2lip.sound import SOUNDS
from models.base import Batch, Progress, Section, Stage, TrainConfig, Update
from models.layers.adversarial import apart, logistic_losses
from models.layers.precision import full
from models.layers.side_by_side import side_by_side
from prep.sample_spec import SampleSpec


class Wav2LipConfig(Section):
    """The one stage of Wav2Lip; defaults are the paper's without its GAN.

    Attributes:
        width: factor on the channels of generator and discriminator; 1 is the official size.
        least: the smallest number of channels of a layer of the generator.
        residual: the output of the generator is added to the reference's lower half; see
            :class:`baselines.wav2lip.network.Generator`.
        expert: the trained expert: the folder of a run of ``sync-expert``, or ``wav2lip_syncnet``, the official
            weights.
        expert_width: that run's ``expert.width``.
        expert_coarse: that run's ``expert.coarse``.
        expert_apart: that run's ``expert.apart``.
        sync_weight: s_w, of the expert's loss (paper: 0.03; ``wav2lip_train.py``: 0.01); 0: no expert is needed, and
            its loss is not measured.
        sync_below: the expert's loss takes part once its mean over held-out clips has fallen below this.
        mouth_weight: of L1 within :data:`baselines.wav2lip.network.MOUTH`, added to that over the face, as a
            multiple of the latter's weight. Neither paper nor code has it.
        gan_weight: s_g, of the quality discriminator's loss; 0: there is none; 0.07: Wav2Lip + GAN. L1
            has the rest of the weight, up to a sum of 1.
        learning_rate: of the generator's Adam.
        betas: of the generator's Adam (``hq_wav2lip_train.py``, with the GAN: 0.5 and 0.999).
        discriminator_learning_rate: of the discriminator's Adam.
        discriminator_betas: of the discriminator's Adam.
        train: how the runner trains it.
    """

    width: float = Field(1.0, gt=0)
    least: int = Field(1, ge=1)
    residual: bool = False
    expert: str = Field("runs/sync-expert", min_length=1)
    expert_width: float = Field(1.0, gt=0)
    expert_coarse: bool = False
    expert_apart: bool = False
    sync_weight: float = Field(0.03, ge=0, lt=1)
    sync_below: float = Field(0.75, gt=0)
    mouth_weight: float = Field(0.0, ge=0)
    gan_weight: float = Field(0.0, ge=0, lt=1)
    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    discriminator_learning_rate: float = Field(1e-4, gt=0)
    discriminator_betas: tuple[float, float] = (0.5, 0.999)
    train: TrainConfig

    @model_validator(mode="after")
    def _something_is_left_for_l1(self) -> Wav2LipConfig:
        if self.sync_weight + self.gan_weight >= 1:
            raise ValueError(
                f"sync_weight {self.sync_weight} and gan_weight {self.gan_weight} leave nothing for L1"
            )
        return self


class Wav2LipStage(Stage):
    """Five frames whose lower halves are painted from sound and from five other frames.

    Args:
        config: of this stage.
        generator: trained.
        discriminator: trained; None where ``gan_weight`` is 0.
        expert: trained already, frozen; None where ``sync_weight`` is 0.
    """

    name = "wav2lip"

    def __init__(
        self,
        config: Wav2LipConfig,
        generator: Generator,
        discriminator: QualityDiscriminator | None,
        expert: SyncNet | None,
    ) -> None:
        self.config = config
        self.train = config.train
        self.sample = SampleSpec(
            window=FRAMES,
            references=FRAMES,
            reference_mode="run",
            view="face96",
            frame_sounds=(SOUNDS["wav2lip-generator"],),
            window_sounds=(SOUNDS["wav2lip"],),
        )
        self.networks = {"generator": generator}
        if discriminator is not None:
            self.networks["discriminator"] = discriminator
        self.frozen = {} if expert is None else {"expert": expert}
        if discriminator is not None:
            # At first its deep features differ between pictures by less than bfloat16 resolves.
            self.float32 = (
                *(f"discriminator.face_encoder_blocks.{level}" for level in (4, 5, 6)),
                "discriminator.binary_pred",
            )
        self._generator, self._discriminator, self._expert = generator, discriminator, expert
        self._sync_on = False
        # Compiled, a discriminator would take the gradient of its weights for the generator's loss too.
        self.compiled = ("generator", *self.frozen)

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each network."""
        config = self.config
        found: dict[str, Optimizer] = {
            "generator": Adam(self._generator.parameters(), config.learning_rate, config.betas)
        }
        if self._discriminator is not None:
            parameters = self._discriminator.parameters()
            found["discriminator"] = Adam(
                parameters, config.discriminator_learning_rate, config.discriminator_betas
            )
        return found

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """A step of the generator, then one of the discriminator on the same pictures.

        Logs, before weighting: ``L1``; ``mouth``, where it has a weight; ``sync``, once it takes part; ``gan``, the
        generator's; ``real`` and ``fake``, the discriminator's.
        """
        truth, painted = self._paint(batch)
        logs = self._likeness(truth, painted)
        weights = self._weights(self._sync_on)
        if weights["sync"]:
            logs["sync"] = self._sync_loss(batch, painted)
        if self._discriminator is not None:
            frames = painted.flatten(0, 1)
            seen = apart(frames)
            weights_of = tuple(self._discriminator.parameters())
            logs["gan"], fake = logistic_losses(self._judge(seen), seen, frames, weights_of)
        loss = torch.stack([weights[name] * value for name, value in logs.items()]).sum()
        yield Update(loss, "generator", logs)
        if self._discriminator is not None:
            # Binary cross-entropy of a sigmoid, written so that nothing overflows.
            real = F.softplus(-self._judge(truth.flatten(0, 1))).mean()
            yield Update(real + fake, "discriminator", {"real": real, "fake": fake})

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """``L1``; ``mouth``, ``sync`` and ``gan`` where they have weights; ``psnr`` in decibels.

        ``sync`` is measured from the beginning. ``loss`` is their sum with the weights that they have in the end, so
        that it can be compared at all steps.
        ``psnr`` is of the painted halves.
        """
        truth, painted = self._paint(batch)
        figures = self._likeness(truth, painted)
        if self._expert is not None:
            figures["sync"] = self._sync_loss(batch, painted)
        if self._discriminator is not None:
            figures["gan"] = F.softplus(-self._judge(painted.flatten(0, 1))).mean()
        weights = self._weights(True)
        figures["loss"] = torch.stack([weights[name] * value for name, value in figures.items()]).sum()
        figures["psnr"] = lower_psnr(truth, painted)
        return figures

    def validated(self, figures: Mapping[str, float]) -> None:
        """Let the expert's loss take part from now on, if it has fallen below ``sync_below``."""
        self._sync_on = self._sync_on or figures.get("sync", math.inf) < self.config.sync_below

    @torch.no_grad()
    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """The middle frame of the window: reference, what is shown of it, what is painted, and the truth."""
        middle = FRAMES // 2
        truth, painted = self._paint(batch)
        shown = truth[:, middle].clone()
        shown[:, :, HALF:] = 0
        return {
            "reference": batch["reference_images"][:, middle].float() / 255,
            "shown": shown,
            "painted": painted[:, middle],
            "truth": truth[:, middle],
        }

    def state_dict(self) -> dict[str, Any]:
        """Whether the expert's loss takes part."""
        return {"sync_on": self._sync_on}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self._sync_on = bool(state["sync_on"])

    def _paint(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """True and painted frames, each (B, 5, 3, 96, 96) float32 in [0, 1], RGB."""
        truth = batch["images"].float() / 255
        references = batch["reference_images"].float() / 255
        faces = see(truth.flatten(0, 1), references.flatten(0, 1))
        painted = side_by_side(self._generator, batch["frame_mel"].flatten(0, 1), faces)
        return truth, painted.float().flip(1).unflatten(0, (-1, FRAMES))

    def _likeness(self, truth: Tensor, painted: Tensor) -> dict[str, Tensor]:
        return likeness(truth, painted, self.config.mouth_weight > 0)

    def _sync_loss(self, batch: Batch, painted: Tensor) -> Tensor:
        assert self._expert is not None
        return sync_loss(self._expert, batch["window_mel"], painted)

    def _judge(self, frames: Tensor) -> Tensor:
        """(N,) float32 logits of (N, 3, 96, 96) RGB frames."""
        assert self._discriminator is not None
        return full(self._discriminator(frames.flip(1)))

    def _weights(self, sync_on: bool) -> dict[str, float]:
        sync, gan = self.config.sync_weight if sync_on else 0.0, self.config.gan_weight
        like = 1 - sync - gan
        return {"L1": like, "mouth": like * self.config.mouth_weight, "sync": sync, "gan": gan}
