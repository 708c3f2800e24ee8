"""Training of G4G (Zhang et al., arXiv 2402.18122, section 3.3): stages of single frames, coarse to fine, then one of
five consecutive frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from baselines.dinet.faces import VIEW, WHOLE
from baselines.dinet.sync import in_view
from baselines.sync_expert.network import FRAMES, SOUND, SyncNet
from models.base import Batch, Progress, Stage, Update
from models.g4g.contrast import Pairs, contrast
from models.g4g.landmarks import draw_landmarks
from models.g4g.losses import attribute_loss, expert_contrast, reconstruction_loss
from models.g4g.masks import masks, regions
from models.g4g.network import Generator, Made
from models.g4g.options import SQUARE, FrameConfig, G4GConfig, Landmarks
from models.layers.adversarial import apart, handed_on
from models.layers.mouth_square import MouthSquare
from models.layers.picture_discriminator import PictureDiscriminator
from models.layers.precision import full
from models.layers.two_scale import two_scale_loss
from models.layers.vgg import VGG19
from models.losses import psnr
from prep.sample_spec import SampleSpec, Sound

#: What the generator hears with a frame: 16 columns of mel, 0.2 s, the middle of which is the frame's.
HEARD = Sound("mel", offset=-2)


class Judges(NamedTuple):
    """The discriminators of equation 21, D_I of single frames and D_V of five; None where there is none."""

    picture: PictureDiscriminator | None = None
    clip: PictureDiscriminator | None = None


class G4GStage(Stage):
    """Faces whose mouth region is painted from sound, references and landmarks.

    Args:
        name: of the stage.
        common: the options that stages share.
        config: of this stage.
        mouth: M, side of the mouth square, pixels.
        window: consecutive frames, 1 or 5. The expert takes part where there are five.
        generator: trained.
        judges: trained.
        vgg: with its weights loaded before training starts; None where ``lambda_p`` is 0.
        expert: trained already; None: it takes no part.
    """

    def __init__(
        self,
        name: str,
        common: G4GConfig,
        config: FrameConfig,
        mouth: int,
        window: int,
        generator: Generator,
        judges: Judges,
        vgg: VGG19 | None,
        expert: SyncNet | None,
    ) -> None:
        self.name, self.common, self.config, self.train = name, common, config, config.train
        self.square = MouthSquare(mouth)
        self.window = window
        self.sample = SampleSpec(
            window=window,
            references=common.references,
            reference_mode=common.reference_mode,
            view=VIEW,
            size=None if mouth == 256 else (self.square.height, self.square.width),
            landmarks="ibug68" if common.alignment else None,
            normalise="view",
            frame_sounds=(HEARD,),
            window_sounds=() if expert is None else (SOUND,),
        )
        self.networks: dict[str, nn.Module] = {"generator": generator}
        self.frozen: dict[str, nn.Module] = {}
        if judges.picture is not None:
            self.networks["discriminator"] = judges.picture
        if judges.clip is not None:
            self.networks["clip_discriminator"] = judges.clip
        if vgg is not None:
            self.frozen["vgg"] = vgg
        if expert is not None:
            self.frozen["expert"] = expert
        self._generator, self._judges, self._vgg, self._expert = generator, judges, vgg, expert
        # Its last layers normalise over the batch alone: rounding is enlarged with what two samples differ by.
        self.float32 = ("generator.audio_encoder", *(generator.FLOAT32 if common.alignment else ()))
        # Compiled, a discriminator would take the gradient of its weights for the generator's loss too.
        self.compiled = ("generator", *self.frozen)
        self.recomputed = self._large_parts()
        self._hidden = masks(self.square, common.hidden_regions, common.sigma)
        self._shown = masks(self.square, (SQUARE,), common.sigma)
        self._expert_region = regions(self.square, (common.expert_region,))
        self._supervised = regions(self.square, common.supervised_regions)

    def _large_parts(self) -> tuple[str, ...]:
        """For :attr:`recomputed`."""
        judges = [
            f"{name}.down_blocks.{level}"
            for name, judge in self._each_judge()
            for level in range(len(judge.down_blocks))
        ]
        return (
            *(f"generator.{name}" for name in self._generator.parts),
            *judges,
            *(self.frozen.keys() & {"vgg"}),
        )

    def prepare(self, sample: Batch) -> Batch:
        """Draw the landmarks.

        Returns:
            ``clip``; ``images`` (T, 3, H, W) and ``references`` (N, 3, H, W), uint8 RGB; ``frame_mel`` (T, 80, 16) and,
            with an expert, ``window_mel`` (80, 16) float32 in [-4, 4]; with the alignment, ``landmarks`` (1 or
            T, 1, H, W) uint8, of the first reference or of the frames.
        """
        found: Batch = {
            name: sample[name] for name in ("clip", "images", "frame_mel", "window_mel") if name in sample
        }
        found["references"] = sample["reference_images"]
        reading = self.common.landmarks
        if self.common.alignment:
            points = sample["reference_landmarks"][:1] if reading == "reference" else sample["landmarks"]
            found["landmarks"] = torch.from_numpy(landmark_pictures(points.numpy(), self.square, reading))
        return found

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each network."""
        config = self.config
        return {
            name: Adam(network.parameters(), config.learning_rate, config.betas)
            for name, network in self.networks.items()
        }

    def schedulers(self, optimizers: Mapping[str, Optimizer]) -> dict[str, LRScheduler]:
        """See ``constant``."""
        constant, steps = self.config.constant, self.train.steps
        if constant == 1:
            return {}
        assert steps is not None
        first = constant * steps

        def factor(step: int) -> float:
            return min(1.0, max(0.0, (steps - step) / (steps - first)))

        return {name: LambdaLR(one, factor) for name, one in optimizers.items()}

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """A step of the generator on equation 24, then one of each discriminator on the same pictures.

        Logs, unweighted and under the paper's names: ``L_r``; ``L_p``, ``L_v``, ``L_con`` (the batch's contrast) and
        ``L_sync`` (the expert's) where they take part; ``L_GAN``, the sum over the discriminators, of which each logs
        ``real`` and ``fake`` with its name before.
        """
        truth = _pictures(batch["images"])
        made = self._make(batch, truth, training=True)
        losses = self._losses(batch, truth, made)
        shown = [(name, judge, *self._views_of(name, truth, made.face)) for name, judge in self._each_judge()]
        later = []
        for name, judge, real, fake in shown:
            seen = apart(fake)
            scores = full(judge(seen))
            later.append((name, judge, real, scores))
            judged = handed_on((scores - 1).square().mean(), seen, fake)
            losses["L_GAN"] = losses.get("L_GAN", 0) + judged
        yield Update(self._weighted(losses), "generator", losses)
        for name, judge, real, scores in later:
            right, wrong = (full(judge(real)) - 1).square().mean(), scores.square().mean()
            logs = {f"{name}_real": right, f"{name}_fake": wrong}
            yield Update((right + wrong) / 2, name, logs)

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of the logs, with the mouth square hidden as in generation; ``loss``, their weighted sum; ``psnr``
        of the mouth square, in decibels; with an expert, ``cosine``: its mean similarity of sound and painted lips."""
        truth = _pictures(batch["images"])
        made = self._make(batch, truth, training=False)
        figures = self._losses(batch, truth, made)
        for name, judge in self._each_judge():
            _, fake = self._views_of(name, truth, made.face)
            figures["L_GAN"] = figures.get("L_GAN", 0) + (full(judge(fake)) - 1).square().mean()
        figures["loss"] = self._weighted(figures)
        figures["psnr"] = psnr(self.square.cut(made.face), self.square.cut(truth.flatten(0, 1)))
        if self._expert is not None:
            seen, heard = self._judged(batch, truth, made.face)
            figures["cosine"] = (seen * heard).sum(dim=1).mean()
        return figures

    @torch.no_grad()
    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """The middle frame of the window: first reference, what is painted, the result, and the truth."""
        truth = _pictures(batch["images"])
        made = self._make(batch, truth, training=False)
        middle = self.window // 2
        return {
            "reference": _pictures(batch["references"])[:, 0],
            "painted": made.painted.float().unflatten(0, (-1, self.window))[:, middle],
            "result": made.face.float().unflatten(0, (-1, self.window))[:, middle],
            "truth": truth[:, middle],
        }

    def _make(self, batch: Batch, truth: Tensor, training: bool) -> Made:
        """What the generator makes of (B, T, 3, H, W) frames, as B · T pictures."""
        frames = truth.flatten(0, 1)
        if training:
            kinds = torch.randint(len(self._hidden.hidden), (len(truth),), device=truth.device)
            shown = self._hidden.to(truth.device).pick(kinds.repeat_interleave(self.window))
        else:
            shown = self._shown.to(truth.device)
        references = _pictures(batch["references"]).flatten(1, 2)
        landmarks = _pictures(batch["landmarks"]).flatten(0, 1) if self.common.alignment else None
        made: Made = self._generator(frames, shown, references, landmarks, batch["frame_mel"].flatten(0, 1))
        return made

    def _losses(self, batch: Batch, truth: Tensor, made: Made) -> dict[str, Tensor]:
        """The losses of the generator, but for the adversarial ones."""
        common, wanted = self.common, truth.flatten(0, 1)
        losses = {"L_r": reconstruction_loss(made.face, wanted, self._supervised.to(wanted.device))}
        if self._vgg is not None:
            losses["L_p"] = two_scale_loss(self._vgg, made.face, wanted)
        if made.landmark is not None and made.pairs is not None:
            losses["L_v"] = attribute_loss(made.source, made.landmark)
            # Neighbouring frames hear almost the same: one frame of a window takes part.
            middle = slice(self.window // 2, None, self.window)
            losses["L_con"] = contrast(Pairs(*(one[middle] for one in made.pairs)), common.temperature)
        if self._expert is not None:
            losses["L_sync"] = expert_contrast(
                *self._judged(batch, truth, made.face), common.expert_temperature
            )
        return losses

    def _judged(self, batch: Batch, truth: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) each: what the expert makes of the painted windows, and of their sounds."""
        assert self._expert is not None
        shown = self._expert_region.to(truth.device)
        frames = torch.lerp(truth, faces.float().unflatten(0, (-1, FRAMES)), shown)
        frames = in_view(self._expert, frames)
        lips = self._expert.lips(frames)
        return self._expert.see(lips), self._expert.hear(batch["window_mel"])

    def _each_judge(self) -> Iterator[tuple[str, PictureDiscriminator]]:
        for name, judge in zip(("discriminator", "clip_discriminator"), self._judges, strict=True):
            if judge is not None:
                yield name, judge

    def _views_of(self, judge: str, truth: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
        """True and painted pictures as a discriminator takes them: single, or the five of a window stacked."""
        if judge == "discriminator":
            return truth.flatten(0, 1), faces
        return truth.flatten(1, 2), faces.unflatten(0, (-1, self.window)).flatten(1, 2)

    def _weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        common = self.common
        weights = {
            "L_v": common.lambda_v,
            "L_p": common.lambda_p,
            "L_GAN": common.lambda_gan,
            "L_r": common.lambda_r,
            "L_con": common.lambda_con,
            "L_sync": common.lambda_sync,
        }
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


def landmark_pictures(points: np.ndarray, square: MouthSquare, reading: Landmarks) -> np.ndarray:
    """L_r.

    Args:
        points: (n, 68, 2) float, pixels of the view.
        square: of the faces that L_r is given with.
        reading: whose landmarks they are; ``upper``: jaw and lips are left out.

    Returns:
        (n, 1, H, W) uint8, 0 or 255.
    """
    # Landmarks are given in pixels of the whole view.
    scale = square.mouth / WHOLE.mouth
    return draw_landmarks(
        points * scale, square.height, square.width, "upper" if reading == "upper" else "all"
    )


def _pictures(stored: Tensor) -> Tensor:
    return stored.float() / 255
