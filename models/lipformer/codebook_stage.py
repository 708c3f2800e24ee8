"""Training of LipFormer's codebooks (Wang et al., CVPR 2023, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from models.base import Batch, Progress, Stage, TrainConfig, Update
from models.layers.precision import full
from models.layers.recompute import names_of
from models.layers.side_by_side import side_by_side
from models.layers.stylegan2 import DiscriminatorBlock, StyleGAN2Discriminator
from models.layers.vgg import VGG19
from models.lipformer.augment import augmented
from models.lipformer.autoencoder import FaceDecoder, FaceEncoder, ResidualBlock
from models.lipformer.codebook import Codebook, Quantized
from models.lipformer.face_losses import FaceLossConfig, FaceLosses
from models.lipformer.pictures import as_float, likeness_figures
from prep.sample_spec import StillSpec

#: A code counts as used where it was chosen in so many of the last batches.
RECENT = 100


class CodebookConfig(FaceLossConfig):
    """The stage ``codebook``; defaults are the paper's, or decisions of ``docs/methods/lipformer.md``.

    Attributes:
        size: S, pixels of a face; a power of two.
        channels: of encoder and decoder at each resolution, the highest first.
        patch: pixels along an edge that the highest resolution takes as one; f = patch * 2 ** (number of channels - 1).
        blocks: residual blocks a resolution.
        attention: self-attention at the lowest resolution.
        dim: d, elements of a code.
        upper_codes: n of C_U.
        lower_codes: n of C_B.
        beta: β of equation 3.
        restart_after: batches after which an unused code is replaced by a feature of the current batch; unused codes
            are looked for as often; 0: never.
        augment: how much pictures of training are changed, see :func:`models.lipformer.augment.augmented`; 0: not at
            all, not even mirrored, as in the paper, which has FFHQ for variety.
        adversarial_from: optimizer steps that the discriminator waits.
        discriminator_width: factor on the discriminator's channels; 1 is StyleGAN2's size.
        train: how the runner trains it.
    """

    size: int = Field(512, ge=16)
    channels: tuple[int, ...] = Field((64, 128, 128, 256, 256, 512), min_length=1)
    patch: int = Field(1, ge=1)
    blocks: int = Field(2, ge=0)
    attention: bool = True
    dim: int = Field(256, ge=1)
    upper_codes: int = Field(1024, ge=1)
    lower_codes: int = Field(1024, ge=1)
    beta: float = Field(0.25, ge=0)
    restart_after: int = Field(1000, ge=0)
    augment: float = Field(0.0, ge=0)
    pixel_weight: float = Field(1.0, gt=0)
    adversarial_from: int = Field(0, ge=0)
    discriminator_width: float = Field(1.0, gt=0)
    train: TrainConfig

    @model_validator(mode="after")
    def _a_grid_of_codes(self) -> CodebookConfig:
        if self.size & (self.size - 1):
            raise ValueError(f"size is a power of two, which {self.size} is not")
        if self.patch & (self.patch - 1):
            raise ValueError(f"patch is a power of two, which {self.patch} is not")
        if self.rows < 1:
            raise ValueError(f"codes of {self.factor} pixels are larger than half a face of {self.size}")
        return self

    @property
    def factor(self) -> int:
        """f, pixels of a code along an edge."""
        return self.patch * 2 ** (len(self.channels) - 1)

    @property
    def rows(self) -> int:
        """h', rows of codes of half a face."""
        return self.size // (2 * self.factor)

    @property
    def columns(self) -> int:
        """w', columns of codes."""
        return 2 * self.rows

    def build_encoder(self) -> FaceEncoder:
        """Build Enc, with torch's default generator; so do the methods below."""
        return FaceEncoder(self.channels, self.dim, self.blocks, self.attention, self.patch)

    def build_decoder(self) -> FaceDecoder:
        """Build Dec."""
        return FaceDecoder(self.channels, self.dim, self.blocks, self.attention, self.patch)

    def build_upper(self) -> Codebook:
        """Build C_U."""
        return Codebook(self.upper_codes, self.dim, self.beta)

    def build_lower(self) -> Codebook:
        """Build C_B."""
        return Codebook(self.lower_codes, self.dim, self.beta)

    def build_discriminator(self) -> StyleGAN2Discriminator | None:
        """Build the discriminator; None where none is used."""
        return (
            StyleGAN2Discriminator(self.size, self.discriminator_width) if self.adversarial_weight else None
        )

    def build_vgg(self) -> VGG19 | None:
        """Build the loss network, without its weights; None where it is not used."""
        return VGG19() if self.perceptual_weight else None


class Reconstruction(NamedTuple):
    """A batch of faces through codes.

    Attributes:
        upper: of the upper halves.
        lower: of the lower halves.
        face: I_Rec, (B, 3, S, S) float32 or float64, about in [0, 1].
    """

    upper: Quantized
    lower: Quantized
    face: Tensor


class CodebookStage(Stage):
    """Faces through two codebooks and back.

    At the first step the codes are set to features of the first batch, so that none starts far from all features.

    Args:
        config: of this stage.
        encoder: from :meth:`CodebookConfig.build_encoder`; the others from the method of their name.
        decoder: Dec.
        upper: C_U.
        lower: C_B.
        discriminator: None: none is trained.
        vgg: with its weights loaded before training starts; None: no perceptual loss.
    """

    name = "codebook"

    def __init__(
        self,
        config: CodebookConfig,
        encoder: FaceEncoder,
        decoder: FaceDecoder,
        upper: Codebook,
        lower: Codebook,
        discriminator: StyleGAN2Discriminator | None,
        vgg: VGG19 | None,
    ) -> None:
        self.config = config
        self.train = config.train
        self.sample = StillSpec(view="aligned512", size=config.size)
        self.networks: dict[str, nn.Module] = {
            "encoder": encoder,
            "decoder": decoder,
            "upper": upper,
            "lower": lower,
        }
        if discriminator is not None:
            self.networks["discriminator"] = discriminator
        self.frozen: dict[str, nn.Module] = {} if vgg is None else {"vgg": vgg}
        self._encoder, self._decoder, self._upper, self._lower = encoder, decoder, upper, lower
        self._discriminator = discriminator
        self._face = FaceLosses(config, {"vq": 1.0}, discriminator, vgg)
        self.long_step_every = self._face.long_step_every
        self._placed = False
        # Not the discriminator: R1 needs a second derivative.
        self.compiled = ("encoder", "decoder", *self.frozen)
        self.recomputed = names_of({**self.networks, **self.frozen}, ResidualBlock, DiscriminatorBlock, VGG19)

    def prepare(self, sample: Batch) -> Batch:
        """Name the picture; the data set has scaled it.

        Returns:
            ``clip``; ``picture`` (3, S, S) uint8 RGB.
        """
        return {"clip": sample["clip"], "picture": sample["image"]}

    def optimizers(self) -> dict[str, Optimizer]:
        """``autoencoder``, of encoder, decoder and codebooks, and ``discriminator``, both Adam."""
        config = self.config
        parts = (self._encoder, self._decoder, self._upper, self._lower)
        parameters = [parameter for part in parts for parameter in part.parameters()]
        return {
            "autoencoder": Adam(parameters, config.learning_rate, config.betas),
            **self._face.optimizers(),
        }

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """One step on equation 4, then one of the discriminator.

        Logs, before weighting: ``vq``, equation 3; ``L2``, ``perceptual`` and ``adversarial``; the discriminator's
        ``discriminator`` and, every so often, ``r1``. ``usage_upper`` and ``usage_lower``: the share of the codes
        that were chosen in the last :data:`RECENT` batches.
        """
        truth = as_float(batch["picture"])
        if self.config.augment:
            truth = augmented(truth, self.config.augment)
        features = self._features(truth)
        if progress.step == 0 and not self._placed:
            self._place(features, progress)
        made = self._reconstruct(features)
        losses = self._losses(made, truth)
        discriminator = self._discriminator if progress.step >= self.config.adversarial_from else None
        if discriminator is not None:
            losses["adversarial"], logits = self._face.adversarial(discriminator, made.face)
        self._upper.note(made.upper.codes, progress.sum)
        self._lower.note(made.lower.codes, progress.sum)
        yield Update(self._face.weighted(losses), "autoencoder", {**losses, **self._usage()})
        self._restart(features, progress)
        if discriminator is not None:
            yield self._face.judge(discriminator, truth, logits, progress.step)

    def changes(self, per_epoch: float) -> tuple[int, ...]:
        """The first step of the discriminator, where it waits."""
        waits = self._discriminator is not None and self.config.adversarial_from
        return (self.config.adversarial_from,) if waits else ()

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Likeness losses as in training and ``loss``, their weighted sum; figures of likeness and of use.

        ``psnr``, ``psnr_lower`` and ``psnr_mouth``, dB, of the whole face, its lower half, and the mouth region.
        ``usage_upper`` and ``usage_lower`` are those of training: they describe the codebooks, not the held-out
        pictures. ``held_out_upper`` and ``held_out_lower``: the share of the codes that one batch chooses; all
        batches together choose at least as many.
        """
        truth = as_float(batch["picture"])
        made = self._reconstruct(self._features(truth))
        losses = self._losses(made, truth)
        return {
            **losses,
            "loss": self._face.weighted(losses),
            **likeness_figures(made.face, truth),
            **self._usage(),
            "held_out_upper": _share(made.upper.codes, self.config.upper_codes),
            "held_out_lower": _share(made.lower.codes, self.config.lower_codes),
        }

    @torch.no_grad()
    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """The truth and what codes make of it."""
        truth = as_float(batch["picture"])
        return {
            "truth": truth,
            "reconstruction": self._reconstruct(self._features(truth)).face.clamp(0, 1),
        }

    def _features(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """F_U and F_B of (B, 3, S, S) float, (B, d, h', w') float each."""
        upper, lower = side_by_side(self._encoder, torch.cat(pictures.chunk(2, dim=2))).chunk(2)
        return upper, lower

    def _reconstruct(self, features: tuple[Tensor, Tensor]) -> Reconstruction:
        upper, lower = self._upper(features[0]), self._lower(features[1])
        return Reconstruction(upper, lower, full(side_by_side(self._decoder, upper.values, lower.values)))

    def _losses(self, made: Reconstruction, truth: Tensor) -> dict[str, Tensor]:
        return {"vq": made.upper.loss + made.lower.loss, **self._face.likeness(made.face, truth)}

    def _usage(self) -> dict[str, Tensor]:
        return {"usage_upper": self._upper.usage(RECENT), "usage_lower": self._lower.usage(RECENT)}

    def _place(self, features: tuple[Tensor, Tensor], progress: Progress) -> None:
        for codebook, found in zip((self._upper, self._lower), features, strict=True):
            codebook.restart(found, torch.ones_like(codebook.idle, dtype=torch.bool), progress.first)
        self._placed = True

    def _restart(self, features: tuple[Tensor, Tensor], progress: Progress) -> None:
        after = self.config.restart_after
        if not after or (progress.step + 1) % after:
            return
        for codebook, found in zip((self._upper, self._lower), features, strict=True):
            codebook.restart(found, codebook.idle >= after, progress.first)


def _share(codes: Tensor, n: int) -> Tensor:
    """Share of n codes that occur among (…) int64 ones: () float32."""
    return (torch.bincount(codes.flatten(), minlength=n) > 0).float().mean()
