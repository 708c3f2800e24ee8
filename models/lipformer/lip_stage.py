"""Training of LipFormer itself (Wang et al., CVPR 2023, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from models.base import Batch, Progress, Stage, TrainConfig, Update
from models.layers.precision import full
from models.layers.recompute import names_of
from models.layers.side_by_side import side_by_side
from models.layers.stylegan2 import DiscriminatorBlock, StyleGAN2Discriminator
from models.layers.vgg import VGG19
from models.lipformer.audio import AudioEncoder
from models.lipformer.augment import augmented
from models.lipformer.autoencoder import ResidualBlock
from models.lipformer.face_losses import FaceLossConfig, FaceLosses
from models.lipformer.face_warp import FaceWarp
from models.lipformer.inference import SOUND
from models.lipformer.lips import Lips
from models.lipformer.pictures import as_float, likeness_figures, of_lips, with_lips
from models.lipformer.sampling import sample_codes
from models.lipformer.transformer import LipTransformer, Queries
from prep.sample_spec import SampleSpec


class LipFormerConfig(FaceLossConfig):
    """The stage ``lipformer``; defaults are the paper's, or decisions of ``docs/methods/lipformer.md``.

    Attributes:
        warping: False: "w/o Adaptive Warping" of Table 3: the reference's lower encodings stay where they are.
        keypoints: k, heat maps of the key-point extractor.
        warp_hidden: channels of the layers of the key-point extractor and the regressor of offsets.
        audio_width: factor on the channels of the audio encoder; 1 is Wav2Lip's size.
        layers: N, of the transformer.
        heads: of attention, a divisor of ``codebook.dim``.
        feedforward: inner size of the transformer's feed-forward networks.
        queries: see :class:`models.lipformer.transformer.LipTransformer`.
        residual: as ``queries``; not in the paper.
        neighbours: as ``queries``.
        gumbel: False: figure 8's "without Gumbel-softmax": codes by argmax, so that the picture losses train the
            decoder alone, and the cross-entropy everything else.
        hard: the decoder sees one code at each position, and the gradient that of the softmax (Jang et al., ICLR
            2017, "straight-through"); otherwise it sees the mixture.
        temperature: τ of the Gumbel-softmax at the first step.
        temperature_final: τ from ``temperature_steps`` on; exponential between.
        temperature_steps: optimizer steps; 0: ``temperature_final`` from the beginning.
        augment: how much target and reference are changed, both in the same way, see
            :func:`models.lipformer.augment.augmented`; 0: not at all, as in the paper.
        cross_entropy_weight: λ_Tr of equation 11.
        transformer_learning_rate: of Adam, for the transformer; ``learning_rate`` is that of all else.
        decoder_learning_rate: of Adam, for the decoder; None: as all else.
        train: how the runner trains it.
    """

    warping: bool = True
    keypoints: int = Field(16, ge=1)
    warp_hidden: int = Field(64, ge=1)
    audio_width: float = Field(1.0, gt=0)
    layers: int = Field(9, ge=1)
    heads: int = Field(8, ge=1)
    feedforward: int = Field(1024, ge=1)
    queries: Queries = "reference"
    residual: bool = False
    neighbours: int = Field(0, ge=0)
    gumbel: bool = True
    hard: bool = True
    temperature: float = Field(1.0, gt=0)
    temperature_final: float = Field(1.0, gt=0)
    temperature_steps: int = Field(0, ge=0)
    augment: float = Field(0.0, ge=0)
    cross_entropy_weight: float = Field(0.5, ge=0)
    transformer_learning_rate: float = Field(8e-5, gt=0)
    decoder_learning_rate: float | None = Field(None, gt=0)
    train: TrainConfig

    @model_validator(mode="after")
    def _something_teaches_every_network(self) -> LipFormerConfig:
        if not self.pixel_weight and not self.perceptual_weight:
            raise ValueError("pixel_weight and perceptual_weight are both 0: no loss trains the decoder")
        if self.train.batch_size < 2:
            raise ValueError("train.batch_size is at least 2: the audio encoder normalises over the batch")
        if not self.gumbel and not self.cross_entropy_weight:
            raise ValueError("gumbel=false with cross_entropy_weight=0: no loss trains the transformer")
        return self

    def build_audio(self) -> AudioEncoder:
        """Build E_Aud, with torch's default generator."""
        return AudioEncoder(self.audio_width)

    def build_warp(self, dim: int) -> FaceWarp | None:
        """Build M over encodings of ``dim`` elements, with torch's default generator; None without warping."""
        return FaceWarp(dim, self.keypoints, self.warp_hidden) if self.warping else None

    def build_transformer(self, dim: int, codes: int, rows: int, columns: int, audio: int) -> LipTransformer:
        """Build Tr, with torch's default generator; arguments as :class:`LipTransformer` takes them.

        Raises:
            ValueError: ``heads`` does not divide ``dim``.
        """
        return LipTransformer(
            dim,
            codes,
            rows,
            columns,
            audio,
            self.layers,
            self.heads,
            self.feedforward,
            self.queries,
            self.residual,
            self.neighbours,
        )

    def temperature_at(self, step: int) -> float:
        """τ of the Gumbel-softmax at a step."""
        if step >= self.temperature_steps:
            return self.temperature_final
        share = step / self.temperature_steps
        return self.temperature ** (1 - share) * self.temperature_final**share


class LipFormerStage(Stage):
    """Lip codes from a reference, the upper half and the sound, and a decoder that is trained further.

    The decoder is the module that the stage ``codebook`` trained; so is the discriminator, where that had one.

    Args:
        config: of this stage.
        lips: the networks.
        size: S, pixels of a face.
        discriminator: None where ``adversarial_weight`` is 0.
        vgg: None where ``perceptual_weight`` is 0; its weights are loaded before training starts.
    """

    name = "lipformer"

    def __init__(
        self,
        config: LipFormerConfig,
        lips: Lips,
        size: int,
        discriminator: StyleGAN2Discriminator | None,
        vgg: VGG19 | None,
    ) -> None:
        self.config = config
        self.train = config.train
        self.lips = lips
        self.size = size
        self.sample = SampleSpec(window=1, references=1, view="aligned512", size=size, frame_sounds=(SOUND,))
        self.networks: dict[str, nn.Module] = {
            "audio": lips.audio,
            "transformer": lips.transformer,
            "decoder": lips.decoder,
        }
        if lips.warp is not None:
            self.networks["warp"] = lips.warp
        if discriminator is not None:
            self.networks["discriminator"] = discriminator
        self.frozen: dict[str, nn.Module] = {
            "encoder": lips.encoder,
            "upper": lips.upper,
            "lower": lips.lower,
        }
        if vgg is not None:
            self.frozen["vgg"] = vgg
        # Its last layers normalise over the batch alone: rounding is enlarged with what few samples differ by.
        self.float32 = ("audio",)
        self._discriminator = discriminator
        codes = {"cross_entropy": config.cross_entropy_weight}
        self._face = FaceLosses(config, codes, discriminator, vgg)
        self.long_step_every = self._face.long_step_every
        # Not the discriminator: R1 needs a second derivative.
        whole = {**self.networks, **self.frozen}
        self.compiled = tuple(name for name in whole if name not in ("discriminator", "upper", "lower"))
        self.recomputed = names_of(whole, ResidualBlock, DiscriminatorBlock, VGG19)

    def prepare(self, sample: Batch) -> Batch:
        """Name the pictures; the data set has scaled them.

        Returns:
            ``clip``; ``target`` and ``reference`` (3, S, S) uint8 RGB; ``mel`` (80, 16) float32 in [-4, 4].
        """
        return {
            "clip": sample["clip"],
            "target": sample["images"][0],
            "reference": sample["reference_images"][0],
            "mel": sample["frame_mel"][0],
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """``lipformer``: Adam, transformer and decoder with their own learning rates; ``discriminator``: Adam."""
        config = self.config
        rates = {
            "transformer": config.transformer_learning_rate,
            "decoder": config.decoder_learning_rate or config.learning_rate,
        }
        groups: list[dict[str, Any]] = [
            {"params": list(network.parameters()), "lr": rates.get(name, config.learning_rate)}
            for name, network in self.networks.items()
            if name != "discriminator"
        ]
        return {"lipformer": Adam(groups, config.learning_rate, config.betas), **self._face.optimizers()}

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """One step on equation 11, then one of the discriminator.

        Logs, before weighting but that of the mouth: ``cross_entropy``, ``L2``, ``perceptual``, ``adversarial``;
        ``temperature`` of the Gumbel-softmax; the discriminator's ``discriminator`` and, every so often, ``r1``.
        """
        config = self.config
        truth, reference = as_float(batch["target"]), as_float(batch["reference"])
        if config.augment:
            truth, reference = augmented(torch.cat([truth, reference]), config.augment, alike=2).chunk(2)
        upper, true_codes, source, _ = self.lips.encode_both(truth, reference)
        logits = self.lips.predict(self.lips.move(upper, source), batch["mel"])
        temperature = config.temperature_at(progress.step)
        if config.gumbel:
            # Codes last, as they lie in memory.
            last = logits.movedim(1, -1)
            sampled, error = sample_codes(last, self.lips.lower.codes, true_codes, temperature, config.hard)
            lower = sampled.movedim(-1, 1)
        else:
            error = F.cross_entropy(logits, true_codes, reduction="none")
            lower = self.lips.lower.look_up(logits.argmax(dim=1))
        generated = full(side_by_side(self.lips.decoder, upper, lower))
        losses = {
            "cross_entropy": with_lips(error, config.mouth_weight),
            **self._face.likeness(generated, truth),
        }
        if self._discriminator is not None:
            losses["adversarial"], judged = self._face.adversarial(self._discriminator, generated)
        logs = dict(losses)
        if config.gumbel:
            logs["temperature"] = logits.new_tensor(temperature)
        yield Update(self._face.weighted(losses), "lipformer", logs)
        if self._discriminator is not None:
            yield self._face.judge(self._discriminator, truth, judged, progress.step)

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Figures of pictures decoded from the most probable codes.

        ``cross_entropy``, nats a position; ``marginal_entropy``, that of the batch's true codes regardless of place:
        the lowest cross-entropy possible without any input. Estimated from one batch, it is rather too low.
        ``code_accuracy``, and ``reference_accuracy`` for the codes of the reference instead of predicted ones: shares
        of positions. ``L2``; ``loss``, its weighted sum with ``cross_entropy``. ``psnr``, ``psnr_lower`` and
        ``psnr_mouth``, dB, of the whole face, its lower half, and the mouth region; ``mouth_cross_entropy`` and
        ``mouth_accuracy``, of the positions there.
        """
        truth, reference = as_float(batch["target"]), as_float(batch["reference"])
        upper, true_codes, source, still = self.lips.encode_both(truth, reference)
        logits = self.lips.predict(self.lips.move(upper, source), batch["mel"])
        codes = logits.argmax(dim=1)
        generated = full(self.lips.decoder(upper, self.lips.lower.look_up(codes)))
        losses = {
            "cross_entropy": F.cross_entropy(logits, true_codes),
            **self._face.pixels(generated, truth),
        }
        return {
            **losses,
            "loss": self._face.weighted(losses),
            "marginal_entropy": marginal_entropy(true_codes, logits.shape[1]),
            "code_accuracy": (codes == true_codes).float().mean(),
            "reference_accuracy": (still == true_codes).float().mean(),
            **likeness_figures(generated, truth),
            "mouth_cross_entropy": F.cross_entropy(of_lips(logits), of_lips(true_codes)),
            "mouth_accuracy": (of_lips(codes) == of_lips(true_codes)).float().mean(),
        }

    @torch.no_grad()
    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """The reference; its lower half warped under the target's upper half, decoded (figure 7); generated; truth."""
        truth = as_float(batch["target"])
        reference = as_float(batch["reference"])
        upper = self.lips.encode_upper(truth)
        moved = self.lips.move(upper, self.lips.encode(reference))
        codes = self.lips.predict(moved, batch["mel"]).argmax(dim=1)
        return {
            "reference": reference,
            "warped": self.lips.decoder(upper, moved).float().clamp(0, 1),
            "generated": self.lips.decoder(upper, self.lips.lower.look_up(codes)).float().clamp(0, 1),
            "truth": truth,
        }


def marginal_entropy(codes: Tensor, n: int) -> Tensor:
    """Entropy of the frequencies of codes, int64 of any shape in [0, ``n``): () float32, nats."""
    shares = torch.bincount(codes.flatten(), minlength=n).float() / codes.numel()
    return torch.special.entr(shares).sum()
