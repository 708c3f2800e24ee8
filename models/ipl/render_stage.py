"""Training of IP-LAP's renderer (Zhong et al., CVPR 2023, section 3.2; ``train_video_renderer.py``)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.optim import Adam, Optimizer

from models.base import Batch, Progress, Section, Stage, TrainConfig, Update
from models.ipl.render_losses import (
    Reading,
    feature_matching_loss,
    gan_loss,
    perceptual_loss,
    pixel_loss,
    style_loss,
    vgg_features,
)
from models.ipl.renderer import SKETCHES, Rendered, Renderer
from models.ipl.sketch import draw_sketches
from models.ipl.sound import SOUNDS
from models.layers.adversarial import apart, handed_on
from models.layers.patchgan import PatchGAN
from models.layers.recompute import names_of
from models.layers.side_by_side import side_by_side
from models.layers.spade import AdaInBlock, SpadeBlock
from models.layers.vgg import VGG19
from models.losses import psnr
from prep.sample_spec import SampleSpec

_MIDDLE = SKETCHES // 2


class RenderConfig(Section):
    """The rendering stage; defaults are the paper's, or its code's where the paper says nothing.

    Attributes:
        width: factor on the channels of renderer and discriminator.
        references: N in training (section 4.1: 3).
        warping: False: "w/o warping" of Table 4. L_w, which is there to find the motion, goes with it.
        audio: False: "w/o audio" of Table 4.
        hidden: share of the target's rows, from the lowest up, that the renderer must not see.
        shrink: factor by which the networks see pictures smaller than 128 × 128; 1 is the paper's.
        residual: what is made is added to the visible target and the warped references; not in the paper.
        perceptual: ``vgg19``: L_w, L_r and L_s; ``pixels``: in their place, where VGG-19's weights are not
            available, ``warp_pixels`` and ``face_pixels``, mean absolute differences at three resolutions. That is
            not the paper's training.
        reading: how VGG-19 is given pictures, see :data:`models.ipl.render_losses.Reading`.
        lambda_w: weight of the warping loss L_w, as the next four of equation 20 and section 3.2.3.
        lambda_r: of the reconstruction loss L_r.
        lambda_s: of the style loss L_s.
        lambda_g: of the patch-GAN loss L_g.
        lambda_f: of the feature matching loss L_f. Where this and ``lambda_g`` are 0, no discriminator is
            trained.
        lambda_warp_pixels: of ``warp_pixels``, where ``perceptual`` is ``pixels``.
        lambda_face_pixels: of ``face_pixels``, where ``perceptual`` is ``pixels``.
        warp_only_epochs: passes over the training split with L_w alone. The paper trains jointly, hence 0; its
            code has 26.
        warp_only_steps: optimizer steps with L_w alone; the longer of the two counts.
        learning_rate: of the generator's Adam (code: 1e-4).
        betas: of the generator's Adam (code: torch's).
        discriminator_learning_rate: of the discriminator's Adam (code: 1e-4).
        discriminator_betas: of the discriminator's Adam (code: 0.5 and 0.999).
        train: how the runner trains it.
    """

    width: float = Field(1.0, gt=0)
    references: int = Field(3, ge=1)
    warping: bool = True
    audio: bool = True
    hidden: float = Field(0.5, gt=0, le=1)
    shrink: Literal[1, 2, 4] = 1
    residual: bool = False
    perceptual: Literal["vgg19", "pixels"] = "vgg19"
    reading: Reading = "iplap"
    lambda_w: float = Field(2.5, ge=0)
    lambda_r: float = Field(4.0, ge=0)
    lambda_s: float = Field(1000.0, ge=0)
    lambda_g: float = Field(0.25, ge=0)
    lambda_f: float = Field(2.5, ge=0)
    lambda_warp_pixels: float = Field(10.0, ge=0)
    lambda_face_pixels: float = Field(20.0, ge=0)
    warp_only_epochs: float = Field(0.0, ge=0)
    warp_only_steps: int = Field(0, ge=0)
    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    discriminator_learning_rate: float = Field(1e-4, gt=0)
    discriminator_betas: tuple[float, float] = (0.5, 0.999)
    train: TrainConfig

    @model_validator(mode="after")
    def _a_warp_to_learn(self) -> RenderConfig:
        if not self.warping and (self.warp_only_epochs or self.warp_only_steps):
            raise ValueError("without warping there is no warp to train alone: set warp_only_… to 0")
        return self

    @model_validator(mode="after")
    def _enough_to_normalise(self) -> RenderConfig:
        if self.audio and self.train.batch_size < 2:
            raise ValueError(
                "batch normalisation of the sound needs two samples: set render.train.batch_size to 2 or more"
            )
        return self

    @model_validator(mode="after")
    def _a_figure_to_monitor(self) -> RenderConfig:
        if self.perceptual == "pixels" and self.train.monitor in ("L_w", "L_r", "L_s"):
            raise ValueError(
                f"with perceptual=pixels there is no {self.train.monitor}: set render.train.monitor=loss"
            )
        return self

    @property
    def adversarial(self) -> bool:
        """Whether a discriminator takes part."""
        return self.lambda_g > 0 or self.lambda_f > 0

    def build_renderer(self) -> Renderer:
        """Build the renderer, with torch's default generator."""
        return Renderer(self.width, self.warping, self.audio, self.hidden, self.shrink, self.residual)

    def build_discriminator(self) -> PatchGAN | None:
        """Build the discriminator, with torch's default generator; None where none is trained."""
        return PatchGAN(width=self.width) if self.adversarial else None

    def build_vgg(self) -> VGG19 | None:
        """Build the loss network, without its weights; None where ``perceptual`` does not use it."""
        return VGG19() if self.perceptual == "vgg19" else None


class RenderStage(Stage):
    """Faces from sketches, references and sound.

    Unlike in the official code the gradient of the generator's loss does not reach the discriminator.

    Args:
        config: of this stage.
        renderer: from :meth:`RenderConfig.build_renderer`; the others from the method of their name.
        discriminator: None: none is trained.
        vgg: with its weights loaded before training starts; None: the losses on pixels are used.
    """

    name = "render"

    def __init__(
        self, config: RenderConfig, renderer: Renderer, discriminator: PatchGAN | None, vgg: VGG19 | None
    ) -> None:
        self.config = config
        self.train = config.train
        self.sample = SampleSpec(
            window=SKETCHES,
            references=config.references,
            view="box128",
            view_frames=(_MIDDLE,),
            landmarks="face131",
            normalise="box",
            window_sounds=(SOUNDS["iplap"],),
            window_sound_frame=_MIDDLE,
            min_frames=25,
        )
        self.networks = {"renderer": renderer}
        if discriminator is not None:
            self.networks["discriminator"] = discriminator
        self.frozen = {} if vgg is None else {"vgg": vgg}
        # The last convolution: rounded faces change L_s by 4 %.
        self.float32 = ("renderer.translation.conv_last",)
        if config.audio:
            # Its last layers normalise over the batch alone: rounding is enlarged with what two samples differ by.
            self.float32 += ("renderer.translation.audio_encoder",)
        # Compiled, a discriminator would take the gradient of its weights for the generator's loss too.
        self.compiled = ("renderer", *self.frozen)
        self.recomputed = names_of({**self.networks, **self.frozen}, SpadeBlock, AdaInBlock, VGG19)
        self._weights = {
            "L_w": config.lambda_w,
            "L_r": config.lambda_r,
            "L_s": config.lambda_s,
            "L_g": config.lambda_g,
            "L_f": config.lambda_f,
            "warp_pixels": config.lambda_warp_pixels,
            "face_pixels": config.lambda_face_pixels,
        }

    def prepare(self, sample: Batch) -> Batch:
        """Draw the sketches, once for their three equal channels.

        Returns:
            ``clip``; ``target`` (3, H, W), ``references`` (N, 3, H, W), ``sketches`` (5, H, W) and
            ``reference_sketches`` (N, H, W), all uint8, pictures RGB; ``mel`` (80, 16) float32 in [-4, 4].
        """
        points = torch.cat([sample["landmarks"], sample["reference_landmarks"]]).numpy()
        boxes = torch.cat([sample["boxes"], sample["reference_boxes"]]).numpy()
        sketches = torch.from_numpy(draw_sketches(points, np.subtract(boxes[:, 2:], boxes[:, :2])))
        return {
            "clip": sample["clip"],
            "target": sample["images"][0],
            "references": sample["reference_images"],
            "sketches": sketches[:SKETCHES],
            "reference_sketches": sketches[SKETCHES:],
            "mel": sample["window_mel"],
        }

    def optimizers(self) -> dict[str, Optimizer]:
        """``generator`` and ``discriminator``, both Adam."""
        config = self.config
        found: dict[str, Optimizer] = {
            "generator": Adam(self.networks["renderer"].parameters(), config.learning_rate, config.betas)
        }
        if "discriminator" in self.networks:
            found["discriminator"] = Adam(
                self.networks["discriminator"].parameters(),
                config.discriminator_learning_rate,
                config.discriminator_betas,
            )
        return found

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """One step of the generator on equation 20, then one of the discriminator, logged as ``L_d``.

        While the warp is trained alone, there is only the former, on its first term. Logs are unweighted.
        """
        config = self.config
        inputs = _inputs(batch)
        truth = inputs[0]
        if progress.epoch < config.warp_only_epochs or progress.step < config.warp_only_steps:
            _, sketches, references, reference_sketches, _ = inputs
            renderer = self._renderer
            encoded = renderer.encode_references(references, reference_sketches)
            losses = self._likeness(truth, warped=renderer.warp(encoded, sketches))
            yield Update(self._weighted(losses), "generator", losses)
            return
        rendered: Rendered = side_by_side(self._renderer, *inputs)
        losses = self._likeness(truth, rendered.warped if config.warping else None, rendered.face)
        if not config.adversarial:
            yield Update(self._weighted(losses), "generator", losses)
            return
        discriminator = self.networks["discriminator"]
        real = discriminator(truth)
        seen = apart(rendered.face)
        fake = discriminator(seen)
        judged = {
            "L_g": gan_loss(fake, real=True),
            "L_f": feature_matching_loss(fake, [[one.detach() for one in maps] for maps in real]),
        }
        # Together, so that one backward pass of the discriminator serves both.
        adversarial = handed_on(self._weighted(judged), seen, rendered.face)
        yield Update(self._weighted(losses) + adversarial, "generator", losses | judged)
        # The discriminator has not changed meanwhile, so what it made of both pictures still holds.
        loss = (gan_loss(fake, real=False) + gan_loss(real, real=True)) / 2
        yield Update(loss, "discriminator", {"L_d": loss})

    def changes(self, per_epoch: float) -> tuple[int, ...]:
        """The first step after those of the warp alone, where there are any."""
        config = self.config
        joint = max(math.ceil(config.warp_only_epochs * per_epoch), config.warp_only_steps)
        return (joint,) if joint else ()

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Likeness losses as in training; ``loss``, their weighted sum; ``psnr`` and ``psnr_mouth``, dB.

        The latter is that of the lower half.
        """
        inputs = _inputs(batch)
        truth = inputs[0]
        rendered: Rendered = side_by_side(self._renderer, *inputs)
        losses = self._likeness(truth, rendered.warped if self.config.warping else None, rendered.face)
        half = truth.shape[2] // 2
        return {
            **losses,
            "loss": self._weighted(losses),
            "psnr": psnr(rendered.face, truth),
            "psnr_mouth": psnr(rendered.face[:, :, half:], truth[:, :, half:]),
        }

    @torch.no_grad()
    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """The target's sketch, a reference, all references warped, the generated face and the truth."""
        inputs = _inputs(batch)
        truth, sketches, references, _, _ = inputs
        rendered: Rendered = side_by_side(self._renderer, *inputs)
        pictures = {
            "sketch": sketches[:, _MIDDLE].expand(-1, 3, -1, -1),
            "reference": references[:, 0],
            "warped": rendered.warped,
            "generated": rendered.face,
            "truth": truth,
        }
        return {name: picture.float().clamp(0, 1).flip(1) for name, picture in pictures.items()}

    @property
    def _renderer(self) -> Renderer:
        renderer = self.networks["renderer"]
        assert isinstance(renderer, Renderer)
        return renderer

    def _likeness(
        self, truth: Tensor, warped: Tensor | None = None, face: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Losses of the pictures that are given, against (B, 3, H, W) float ``truth``, BGR in [0, 1]."""
        losses = {}
        if self.config.perceptual == "pixels":
            if warped is not None:
                losses["warp_pixels"] = pixel_loss(warped, truth)
            if face is not None:
                losses["face_pixels"] = pixel_loss(face, truth)
            return losses
        vgg, reading = self.frozen["vgg"], self.config.reading
        assert isinstance(vgg, VGG19)
        with torch.no_grad():
            wanted = vgg_features(vgg, truth, reading)
        if warped is not None:
            losses["L_w"] = perceptual_loss(vgg_features(vgg, warped, reading), wanted)
        if face is not None:
            found = vgg_features(vgg, face, reading)
            losses["L_r"] = perceptual_loss(found, wanted)
            losses["L_s"] = style_loss(found, wanted)
        return losses

    def _weighted(self, losses: dict[str, Tensor]) -> Tensor:
        return torch.stack([self._weights[name] * loss for name, loss in losses.items()]).sum()


def _inputs(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What :meth:`Renderer.forward` takes, of a batch of what :meth:`RenderStage.prepare` gave."""

    def picture(name: str) -> Tensor:
        return batch[name].flip(-3).float() / 255

    def sketch(name: str) -> Tensor:
        # Their three channels are equal: the networks take one.
        return (batch[name].float() / 255).unsqueeze(2)

    return (
        picture("target"),
        sketch("sketches"),
        picture("references"),
        sketch("reference_sketches"),
        batch["mel"],
    )
