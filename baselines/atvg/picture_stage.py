"""Training of ATVGnet's picture network (``vgnet.py`` of its code)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.optim import Adam, Optimizer

from baselines.atvg.discriminator import RegressionDiscriminator
from baselines.atvg.faces import Faces
from baselines.atvg.layers import initialise
from baselines.atvg.picture_network import COARSEST, NUMBERS, Painted, PictureNetwork
from baselines.landmarks.drawing import drawn
from baselines.landmarks.points import MOUTH
from models.base import Batch, Progress, Section, Stage, TrainConfig, Update
from models.layers.precision import full
from models.losses import psnr
from prep.sample_spec import SampleSpec

#: The view that is painted, and its side in pixels.
VIEW, SIDE = "atvg128", 128
#: How much more y of the mouth's points counts, before squaring.
MOUTH_WEIGHT = 100.0


class PictureConfig(Section):
    """Stage ``vg``; defaults are those of the code.

    Attributes:
        width: factor on the channels of every layer, also of the discriminator.
        least: the smallest number of channels of a layer of the picture network.
        side: pixels of the pictures, to which the view is scaled.
        blocks: residual blocks.
        dropout: rate within them.
        recur: what the recurrent layer goes along, see :class:`baselines.atvg.picture_network.PictureNetwork`; its
            default is the paper's.
        window: frames of a sample.
        pixel_weight: of the difference of pixels, each times its attention and a half.
        mouth_weight: of the same in the mouth's part of the view, added to it as a multiple of its weight. Neither
            paper nor code has it.
        gan_weight: of the discriminator's decision; 0 with ``landmark_weight`` 0: there is no discriminator.
        landmark_weight: of the landmarks that the discriminator finds.
        learning_rate: of both Adams.
        betas: of both Adams.
        train: how the runner trains it.
    """

    width: float = Field(1.0, gt=0)
    least: int = Field(1, ge=1)
    side: int = Field(SIDE, ge=32, le=SIDE, multiple_of=COARSEST)
    blocks: int = Field(9, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    recur: Literal["time", "batch"] = "time"
    window: int = Field(16, ge=1)
    pixel_weight: float = Field(10.0, gt=0)
    mouth_weight: float = Field(0.0, ge=0)
    gan_weight: float = Field(1.0, ge=0)
    landmark_weight: float = Field(1.0, ge=0)
    learning_rate: float = Field(2e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    train: TrainConfig

    def build(self) -> PictureNetwork:
        """Build the network, with torch's default generator and the code's first weights."""
        network = PictureNetwork(self.width, self.least, self.side, self.blocks, self.dropout, self.recur)
        initialise(network)
        return network

    def build_discriminator(self) -> RegressionDiscriminator | None:
        """Build the discriminator, with torch's own first weights as in the code; None where it has no weight."""
        if self.gan_weight or self.landmark_weight:
            return RegressionDiscriminator(self.width, self.side)
        return None


class PictureStage(Stage):
    """A run of frames, from their true landmarks and another picture of the clip.

    Args:
        config: of this stage.
        network: trained.
        discriminator: trained; None: there is none.
        faces: the fitted space, and how it is used.
    """

    name = "vg"

    def __init__(
        self,
        config: PictureConfig,
        network: PictureNetwork,
        discriminator: RegressionDiscriminator | None,
        faces: Faces,
    ) -> None:
        self.config = config
        self.train = config.train
        self.sample = SampleSpec(
            window=config.window, references=1, view=VIEW, size=config.side, landmarks="ibug68"
        )
        self.networks = {"vg": network}
        if discriminator is not None:
            self.networks["discriminator"] = discriminator
        self.frozen = {"space": faces.space}
        self.float32 = () if discriminator is None else ("discriminator.decision", "discriminator.lstm_fc")
        self.compiled = ("vg",)
        self._network, self._discriminator, self._faces = network, discriminator, faces

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each network, in the order of their steps."""
        config = self.config
        return {
            name: Adam(self.networks[name].parameters(), config.learning_rate, config.betas)
            for name in reversed(self.networks)
        }

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """A step of the discriminator, where there is one, then one of the picture network, on the same pictures.

        The code paints them twice, with other dropout. Logs, before weighting: ``pixels``, and ``mouth`` where it has a
        weight; ``gan`` and ``landmarks``, what the discriminator says of the generated pictures; of its own step
        ``real``, ``fake``, ``real_landmarks`` and ``fake_landmarks``.
        """
        example, truth, shown, targets = self._inputs(batch)
        made = self._network(example, targets, shown)
        pictures = full(made.pictures)
        if self._discriminator is not None:
            real, found = self._judge(truth, shown)
            fake, guessed = self._judge(pictures.detach(), shown)
            logs = {
                "real": F.softplus(-real).mean(),
                "fake": F.softplus(fake).mean(),
                "real_landmarks": landmark_error(found, targets),
                "fake_landmarks": landmark_error(guessed, targets),
            }
            yield Update(torch.stack(list(logs.values())).sum(), "discriminator", logs)
        logs = self._pixels(made, truth)
        if self._discriminator is not None:
            fake, guessed = self._judge(pictures, shown)
            logs |= {"gan": F.softplus(-fake).mean(), "landmarks": landmark_error(guessed, targets)}
        yield Update(self._weighed(logs), "vg", logs)

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``: the weighed sum of ``pixels`` and ``mouth``.

        ``L1`` and ``psnr``, in decibels, are of pictures in [0, 1], and ``copied`` is L1 of the example itself.
        """
        example, truth, shown, targets = self._inputs(batch)
        made = self._network(example, targets, shown)
        figures = self._pixels(made, truth)
        figures["loss"] = self._weighed(figures)
        wanted, found, given = (
            (full(one) + 1).flatten(0, 1) / 2 for one in (truth, made.pictures, example.expand_as(truth))
        )
        figures["L1"], figures["copied"] = F.l1_loss(found, wanted), F.l1_loss(given, wanted)
        figures["psnr"] = psnr(found, wanted)
        return figures

    @torch.no_grad()
    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """The last frame of the window: example, landmarks, what is painted, attention, truth."""
        example, truth, shown, targets = self._inputs(batch)
        made = self._network(example, targets, shown)
        faces = targets[:, -1].unflatten(-1, (-1, 2)).cpu().numpy()
        lines = torch.from_numpy(np.ascontiguousarray(drawn(faces / 2.4 + 0.5, truth.shape[-1])))
        return {
            "example": (example[:, 0] + 1) / 2,
            "landmarks": lines.permute(0, 3, 1, 2).to(truth.device) / 255,
            "painted": (full(made.pictures)[:, -1] + 1) / 2,
            "attention": full(made.attention)[:, -1].expand(-1, 3, -1, -1),
            "truth": (truth[:, -1] + 1) / 2,
        }

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The example (B, 1, 3, S, S), the truth (B, T, 3, S, S), and their landmarks (B, 1, 136), (B, T, 136)."""
        example, truth = (batch[name].float() / 127.5 - 1 for name in ("reference_images", "images"))
        given = batch["reference_landmarks"][:, 0]
        return (
            example,
            truth,
            self._faces.shown(given)[:, None],
            self._faces.targets(batch["landmarks"], given),
        )

    def _judge(self, pictures: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) float32 logits, and (B, T, 136) float32 landmarks."""
        assert self._discriminator is not None
        decision, found = self._discriminator(pictures, shown[:, 0])
        return full(decision), full(found)

    def _pixels(self, made: Painted, truth: Tensor) -> dict[str, Tensor]:
        """The difference of pixels, weighted by attention, and the same of the mouth where it has a weight."""
        off = (full(made.pictures) - truth).abs() * (full(made.attention).detach() + 0.5)
        figures = {"pixels": off.mean()}
        if self.config.mouth_weight:
            figures["mouth"] = off[(..., *mouth_region(truth.shape[-1]))].mean()
        return figures

    def _weighed(self, figures: dict[str, Tensor]) -> Tensor:
        config = self.config
        weights = {
            "pixels": config.pixel_weight,
            "mouth": config.pixel_weight * config.mouth_weight,
            "gan": config.gan_weight,
            "landmarks": config.landmark_weight,
        }
        return torch.stack([weights[name] * value for name, value in figures.items()]).sum()


def mouth_region(side: int) -> tuple[slice, slice]:
    """Rows and columns of the view, ``side`` pixels wide and high, in which mouths lie, also open ones."""
    return slice(side * 5 // 8, side), slice(side // 4, side * 3 // 4)


def landmark_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared error of landmarks, in which y of the mouth counts 10⁴ times: the code weights before squaring.

    Args:
        found: (B, T, 136) float.
        wanted: of the same shape.

    Returns:
        () float, the mean over all numbers.
    """
    weights = found.new_ones(NUMBERS)
    weights[2 * MOUTH.start + 1 :: 2] = MOUTH_WEIGHT
    return F.mse_loss(found * weights, wanted * weights)
