"""Training of SyncTalkFace (Park et al., AAAI 2022; ``train.py`` of its withdrawn code)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from baselines.sync_expert.network import FRAMES, SyncNet
from baselines.synctalkface.memory import address_loss, slots_used, store_loss
from baselines.synctalkface.network import CONTEXT, Generator, Painted, lips_of
from baselines.wav2lip.discriminator import QualityDiscriminator
from baselines.wav2lip.losses import likeness, lower_psnr, sync_loss
from baselines.wav2lip.network import see
from baselines.wav2lip.sound import SOUNDS
from models.base import Batch, Progress, Section, Stage, TrainConfig, Update
from models.layers.adversarial import apart, logistic_losses
from models.layers.precision import full
from prep.sample_spec import SampleSpec

#: Frames on each side of the five that are painted: they show the lips around the outer ones.
MARGIN = CONTEXT // 2
#: View → its side, pixels.
SIDES = {"face128": 128, "face96": 96}
#: What the losses of the frames that were painted with the lips that lips recall are called, after the others' names.
BY_LIPS = "_lips"


class SyncTalkFaceConfig(Section):
    """The one stage of SyncTalkFace; defaults are those of the code.

    Attributes:
        view: the faces: ``face128``, as large as in paper and code, or ``face96``, Wav2Lip's, which any data set for
            Wav2Lip has.
        width: factor on the channels of generator and discriminator and on the memory's dimensions; 1 is the code's.
        least: the smallest number of channels of a layer of the generator.
        residual: the output of the generator is added to the reference's lower half; see
            :class:`baselines.wav2lip.network.Generator`.
        slots: of the memory.
        sharpness: of the softmax over slots: the factor on cosines.
        dropout: before the layer that joins sound and recalled lips.
        expert: the folder of a run of ``sync-expert`` for the same view.
        expert_width: that run's ``expert.width``.
        expert_coarse: that run's ``expert.coarse``.
        expert_apart: that run's ``expert.apart``.
        l1_weight: of L1, of each of the two pictures.
        mouth_weight: of L1 within the mouth region, added to that over the face, as a multiple of its weight. Neither
            paper nor code has it.
        sync_weight: of the expert's loss, of each of the two pictures, from the first step on; 0: no expert is needed.
        visual_weight: of the distance of generated lips from real ones as the lip encoder sees them, of each of the
            two pictures; 0: it is not measured.
        gan_weight: of the discriminator's loss, of each of the two pictures; 0: there is no discriminator.
        memory_weight: of what is stored and of how it is addressed.
        divergence: which Kullback-Leibler divergence brings the addresses of sound to those of lips; see
            :func:`baselines.synctalkface.memory.address_loss`.
        learning_rate: of the generator's Adam.
        betas: of the generator's Adam.
        discriminator_learning_rate: of the discriminator's Adam.
        discriminator_betas: of the discriminator's Adam.
        train: how the runner trains it.
    """

    view: Literal["face128", "face96"] = "face128"
    width: float = Field(1.0, gt=0)
    least: int = Field(1, ge=1)
    residual: bool = False
    slots: int = Field(96, ge=2)
    sharpness: float = Field(16.0, gt=0)
    dropout: float = Field(0.5, ge=0, lt=1)
    expert: str = Field("runs/sync-expert", min_length=1)
    expert_width: float = Field(1.0, gt=0)
    expert_coarse: bool = False
    expert_apart: bool = False
    l1_weight: float = Field(10.0, gt=0)
    mouth_weight: float = Field(0.0, ge=0)
    sync_weight: float = Field(0.2, ge=0)
    visual_weight: float = Field(0.2, ge=0)
    gan_weight: float = Field(0.2, ge=0)
    memory_weight: float = Field(0.2, gt=0)
    divergence: Literal["key-value", "value-key"] = "key-value"
    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    discriminator_learning_rate: float = Field(5e-4, gt=0)
    discriminator_betas: tuple[float, float] = (0.5, 0.999)
    train: TrainConfig

    def build(self) -> Generator:
        """Build the generator, with torch's default generator of random numbers."""
        side = SIDES[self.view]
        return Generator(
            self.width, self.least, self.residual, side, self.slots, self.sharpness, self.dropout
        )


class SyncTalkFaceStage(Stage):
    """Five frames whose lower halves are painted twice: with the lips that sound recalls, and with those of lips.

    Args:
        config: of this stage.
        generator: trained.
        discriminator: trained; None where ``gan_weight`` is 0.
        expert: trained already, frozen; None where ``sync_weight`` is 0.
    """

    name = "synctalkface"

    def __init__(
        self,
        config: SyncTalkFaceConfig,
        generator: Generator,
        discriminator: QualityDiscriminator | None,
        expert: SyncNet | None,
    ) -> None:
        self.config = config
        self.train = config.train
        self.sample = SampleSpec(
            window=MARGIN + FRAMES + MARGIN,
            references=FRAMES,
            reference_mode="run",
            view=config.view,
            frame_sounds=(SOUNDS["wav2lip-generator"],),
            window_sounds=(SOUNDS["wav2lip"],),
            window_sound_frame=MARGIN,
            min_frames=16,
        )
        self.networks = {"generator": generator}
        # A softmax that is as sharp as this turns the rounding of a cosine into that of an address.
        self.float32 = ("generator.memory",)
        if discriminator is not None:
            self.networks["discriminator"] = discriminator
            # As Wav2Lip's: at first its deep features differ between pictures by less than bfloat16 resolves.
            deep = range(4, len(discriminator.face_encoder_blocks))
            self.float32 += (
                *(f"discriminator.face_encoder_blocks.{level}" for level in deep),
                "discriminator.binary_pred",
            )
        self.frozen = {} if expert is None else {"expert": expert}
        self._generator, self._discriminator, self._expert = generator, discriminator, expert
        # Compiled, a discriminator would take the gradient of its weights for the generator's loss too.
        self.compiled = ("generator", *self.frozen)

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each network."""
        config = self.config
        rates = {
            "generator": (config.learning_rate, config.betas),
            "discriminator": (config.discriminator_learning_rate, config.discriminator_betas),
        }
        return {name: Adam(network.parameters(), *rates[name]) for name, network in self.networks.items()}

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """A step of the generator, then one of the discriminator on the same pictures.

        Logs, before weighting, of the frames that are painted with what the sound recalls, and, with ``_lips`` behind
        the name, of those with what the lips recall: ``L1``; ``mouth``, ``sync`` and ``visual`` where they have a
        weight. Of the memory ``store``, ``address`` and ``slots``, the number of slots that the sounds of the batch
        use. Of the discriminator ``gan``, the generator's loss, of both frames; ``real``; ``fake``, of both frames.
        """
        truth, made = self._paint(batch)
        by_sound, by_lips = _frames(made.by_sound), _frames(made.by_lips)
        logs = self._figures(batch, truth, by_sound, made)
        for name, value in self._figures(batch, truth, by_lips, made).items():
            logs[name + BY_LIPS] = value
        logs |= self._memory(made)
        if self._discriminator is not None:
            frames = torch.cat([by_sound, by_lips]).flatten(0, 1)
            seen = apart(frames)
            weights = tuple(self._discriminator.parameters())
            # Means over twice the frames; the code adds the means of either half.
            gan, fake = (2 * loss for loss in logistic_losses(self._judge(seen), seen, frames, weights))
            logs["gan"] = gan
        yield Update(self._weighed(logs), "generator", {**logs, "slots": slots_used(made.heard.address)})
        if self._discriminator is not None:
            real = F.softplus(-self._judge(truth.flatten(0, 1))).mean()
            yield Update(real + fake, "discriminator", {"real": real, "fake": fake})

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """The figures of the frames that are painted with what the sound recalls, as in generation, and the memory's.

        ``loss`` is their sum with their weights. ``psnr`` is of the painted halves, in decibels; ``L1_lips`` and
        ``slots`` as in the logs, and ``sharp`` is the mean of the largest weight of an address, 1 / slots to 1.
        """
        truth, made = self._paint(batch)
        by_sound = _frames(made.by_sound)
        figures = self._figures(batch, truth, by_sound, made) | self._memory(made)
        if self._discriminator is not None:
            figures["gan"] = F.softplus(-self._judge(by_sound.flatten(0, 1))).mean()
        figures["loss"] = self._weighed(figures)
        figures["psnr"] = lower_psnr(truth, by_sound)
        figures["L1" + BY_LIPS] = F.l1_loss(_frames(made.by_lips), truth)
        figures["slots"] = slots_used(made.heard.address)
        figures["sharp"] = made.heard.address.exp().amax(dim=1).mean()
        return figures

    @torch.no_grad()
    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """The middle frame of the window: reference, what is painted with either memory, and the truth."""
        middle = FRAMES // 2
        truth, made = self._paint(batch)
        return {
            "reference": batch["reference_images"][:, middle].float() / 255,
            "by sound": _frames(made.by_sound)[:, middle],
            "by lips": _frames(made.by_lips)[:, middle],
            "truth": truth[:, middle],
        }

    def _paint(self, batch: Batch) -> tuple[Tensor, Painted]:
        """The five true frames, (B, 5, 3, S, S) float32 in [0, 1], RGB, and what is painted."""
        shown = batch["images"].float() / 255
        truth = shown[:, MARGIN : MARGIN + FRAMES]
        references = batch["reference_images"].float() / 255
        mels = batch["frame_mel"][:, MARGIN : MARGIN + FRAMES]
        faces = see(truth.flatten(0, 1), references.flatten(0, 1))
        return truth, self._generator(mels.flatten(0, 1), faces, lips_of(shown))

    def _figures(self, batch: Batch, truth: Tensor, frames: Tensor, made: Painted) -> dict[str, Tensor]:
        """What one of the two painted frames, (B, 5, 3, S, S), is measured by."""
        figures = likeness(truth, frames, self.config.mouth_weight > 0)
        if self._expert is not None:
            figures["sync"] = sync_loss(self._expert, batch["window_mel"], frames)
        if self.config.visual_weight:
            real = made.features.unflatten(0, (-1, FRAMES))[:, FRAMES // 2]
            figures["visual"] = F.l1_loss(full(self._criticised(lips_of(frames))), full(real))
        return figures

    def _criticised(self, lips: Tensor) -> Tensor:
        """(N, L): what the lip encoder as it is now makes of generated lips; its weights get no gradient."""
        encoder = self._generator.lip_encoder
        fixed = {name: weights.detach() for name, weights in encoder.named_parameters()}
        # Generated lips leave nothing in the running means of the true ones.
        fixed |= {name: running.clone() for name, running in encoder.named_buffers()}
        return functional_call(encoder, fixed, (lips,))

    def _memory(self, made: Painted) -> dict[str, Tensor]:
        return {
            "store": store_loss(full(made.seen.value), full(made.embedded)),
            "address": address_loss(
                full(made.heard.address), full(made.seen.address), self.config.divergence
            ),
        }

    def _weighed(self, figures: dict[str, Tensor]) -> Tensor:
        config = self.config
        weights = {
            "L1": config.l1_weight,
            "mouth": config.l1_weight * config.mouth_weight,
            "sync": config.sync_weight,
            "visual": config.visual_weight,
            "gan": config.gan_weight,
            "store": config.memory_weight,
            "address": config.memory_weight,
        }
        return torch.stack([weights[name.removesuffix(BY_LIPS)] * v for name, v in figures.items()]).sum()

    def _judge(self, frames: Tensor) -> Tensor:
        """(N,) float32 logits of (N, 3, S, S) RGB frames."""
        assert self._discriminator is not None
        return full(self._discriminator(frames.flip(1)))


def _frames(painted: Tensor) -> Tensor:
    """(B · 5, 3, S, S) BGR → (B, 5, 3, S, S) float32, RGB."""
    return painted.float().flip(1).unflatten(0, (-1, FRAMES))
