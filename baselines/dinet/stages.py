"""Training of DINet (Zhang et al., AAAI 2023; ``train_DINet_frame.py`` and ``train_DINet_clip.py`` of its code)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from baselines.dinet.faces import VIEW
from baselines.dinet.network import WINDOW, Generator
from baselines.dinet.sound import Heard
from baselines.dinet.sync import sync_loss
from baselines.sync_expert.network import SyncNet
from baselines.sync_expert.score_network import ScoreNet
from models.base import Batch, Progress, Section, Stage, TrainConfig, Update
from models.layers.adversarial import least_squares
from models.layers.mouth_square import MouthSquare
from models.layers.picture_discriminator import PictureDiscriminator
from models.layers.two_scale import two_scale_loss
from models.layers.vgg import VGG19
from models.losses import psnr
from prep.sample_spec import SampleSpec, Sound

#: The large parts of the generator.
BLOCKS = (
    "source_in_conv",
    "ref_in_conv",
    "trans_conv",
    "appearance_conv_list.0",
    "appearance_conv_list.1",
    "adaAT",
    "out_conv",
)
#: What the suite's expert hears with a window.
MEL_OF_WINDOW = Sound("mel")
#: Rows and columns of the hidden square within which lips lie, as shares of its side: of nearly all frames of real
#: people and of the toy corpus.
LIPS = (0.2, 0.7), (0.15, 0.85)


class FrameConfig(Section):
    """A stage of single frames; defaults are those of the code, except for the lengths, which presets give.

    Attributes:
        perception_weight: of VGG-19's loss at two resolutions; 0: it is not computed, and no weights are needed.
        l1_weight: of L1 over the whole face. Neither paper nor code has it.
        mouth_weight: of L1 within the part of the square where lips lie, as a multiple of ``l1_weight``.
        gan_weight: of D_I's loss; 0: there is no D_I.
        reference_mode: where in the clip, outside of the window, references lie: see
            :class:`prep.sample_spec.SampleSpec`.
        learning_rate: of every Adam.
        betas: of every Adam.
        constant_steps: for so many steps the learning rates are constant.
        decay_steps: for so many more they fall evenly, to about 0; 0: they stay.
        train: how the runner trains it.
    """

    perception_weight: float = Field(10.0, ge=0)
    l1_weight: float = Field(0.0, ge=0)
    mouth_weight: float = Field(0.0, ge=0)
    gan_weight: float = Field(1.0, ge=0)
    reference_mode: Literal["random", "run", "first"] = "random"
    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    constant_steps: int = Field(0, ge=0)
    decay_steps: int = Field(0, ge=0)
    train: TrainConfig

    def rate_at(self, step: int) -> float:
        """What the learning rates are multiplied by at a step."""
        if not self.decay_steps:
            return 1.0
        return max(0.0, 1 - max(0, step - self.constant_steps) / (self.decay_steps + 1))


class ClipConfig(FrameConfig):
    """The stage of five consecutive frames.

    Attributes:
        mouth: M, side of the hidden square, pixels.
        references_per_frame: whether each of the five frames has references of its own, as in the code; else they
            share those of one, which are looked at once.
        clip_gan_weight: of D_V's loss; 0: there is no D_V.
        sync_weight: of the expert's loss; 0: no expert is needed.
        expert: the folder of a run of ``sync-expert`` with its presets ``dinet``, or for the view ``mouth416x320``.
        expert_kind: ``scores``: DINet's own, :class:`baselines.sync_expert.score_network.ScoreNet`; ``cosine``: the
            suite's, :class:`baselines.sync_expert.network.SyncNet`.
        expert_width: that run's ``expert.width``.
        expert_coarse: that run's ``expert.coarse``.
        expert_apart: that run's ``expert.apart``, of the suite's.
        expert_even: that run's ``expert.even``, of DINet's own.
        expert_rank: how often the expert must have found the right one of two sounds on held-out clips, as that run's
            validation says (0.5: guessing); else training does not begin. Users of the code report faces that drift
            apart with a bad expert. 0: it may be any.
    """

    mouth: Literal[64, 128, 256] = 256
    references_per_frame: bool = True
    clip_gan_weight: float = Field(1.0, ge=0)
    sync_weight: float = Field(0.1, ge=0)
    expert: str = Field("runs/sync-expert-dinet", min_length=1)
    expert_kind: Literal["scores", "cosine"] = "scores"
    expert_width: float = Field(1.0, gt=0)
    expert_coarse: bool = False
    expert_apart: bool = False
    expert_even: bool = False
    expert_rank: float = Field(0.75, ge=0, le=1)

    def build_expert(self, hears: int) -> ScoreNet | SyncNet | None:
        """Build the expert, without its weights; None where ``sync_weight`` is 0.

        Args:
            hears: channels of what DINet's own is to hear.
        """
        if not self.sync_weight:
            return None
        if self.expert_kind == "scores":
            return ScoreNet(self.expert_width, hears, self.expert_coarse, self.expert_even)
        return SyncNet(VIEW, self.expert_width, self.expert_coarse, self.expert_apart)


class Judge(NamedTuple):
    """A discriminator of a stage.

    Attributes:
        network: it.
        log: what its loss for the generator is called; its own is ``<log>_judge``.
        weight: of the former.
        frames: that it sees at once, one after the other in the channels.
    """

    network: PictureDiscriminator
    log: str
    weight: float
    frames: int = 1

    def loss(self, pictures: Tensor, real: bool) -> Tensor:
        """Least squares over all scores of (N, 3, H, W) pictures, of which ``frames`` are consecutive: () float32."""
        seen = pictures.unflatten(0, (-1, self.frames)).flatten(1, 2)
        return least_squares(self.network(seen), real)


class FrameStage(Stage):
    """Frames whose hidden square is painted from their sound and from other pictures of the person.

    Args:
        name: of the stage.
        config: of the stage.
        square: what is hidden, and with it the size of the faces.
        generator: trained.
        references: N, of one frame.
        heard: what the generator hears with a frame.
        judges: name → discriminator, trained.
        vgg: with its weights loaded before training starts; None where ``perception_weight`` is 0.
    """

    def __init__(
        self,
        name: str,
        config: FrameConfig,
        square: MouthSquare,
        generator: Generator,
        references: int,
        heard: Heard,
        judges: Mapping[str, Judge],
        vgg: VGG19 | None,
    ) -> None:
        self.name = name
        self.config = config
        self.train = config.train
        self.square = square
        self.sample = self._sample(references, heard)
        self.networks = {"generator": generator, **{key: judge.network for key, judge in judges.items()}}
        self.frozen: dict[str, nn.Module] = {} if vgg is None else {"vgg": vgg}
        self._generator, self._references, self._heard = generator, references, heard
        self._judges, self._vgg = judges, vgg
        # Compiled, a discriminator would take the gradient of its weights for the generator's loss too.
        self.compiled = ("generator", *self.frozen)
        self.recomputed = (*(f"generator.{block}" for block in BLOCKS), *self.frozen)

    def _sample(self, references: int, heard: Heard) -> SampleSpec:
        return SampleSpec(
            window=1,
            references=references,
            reference_mode=self.config.reference_mode,
            view=VIEW,
            size=(self.square.height, self.square.width),
            frame_sounds=(heard.sound,),
        )

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam for each network, in the order of the steps."""
        config = self.config
        return {
            name: Adam(self.networks[name].parameters(), config.learning_rate, config.betas)
            for name in (*self._judges, "generator")
        }

    def schedulers(self, optimizers: Mapping[str, Optimizer]) -> dict[str, LRScheduler]:
        """Constant, then falling; the code's steps are whole epochs."""
        return {name: LambdaLR(one, self.config.rate_at) for name, one in optimizers.items()}

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """A step of each discriminator, then one of the generator, which is judged by them as they are now.

        Logs, before weighting: of the generator ``perception``, ``L1`` and ``mouth`` where they have a weight, ``gan``
        and in the clip stage ``clip_gan`` and ``sync``; of the discriminators ``gan_judge`` and ``clip_gan_judge``.
        """
        truth, made = self._paint(batch)
        for name, judge in self._judges.items():
            loss = (judge.loss(made.detach(), real=False) + judge.loss(truth, real=True)) / 2
            yield Update(loss, name, {f"{judge.log}_judge": loss})
        logs = self._figures(batch, truth, made)
        logs |= {judge.log: judge.loss(made, real=True) for judge in self._judges.values()}
        yield Update(self._weighed(logs), "generator", logs)

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """The losses as in training but those of discriminators; ``loss``, their weighted sum; ``psnr_mouth``, dB.

        The latter is that of the hidden square.
        """
        truth, made = self._paint(batch)
        figures = self._figures(batch, truth, made)
        figures["loss"] = self._weighed(figures)
        figures["psnr_mouth"] = psnr(self.square.cut(made), self.square.cut(truth))
        return figures

    @torch.no_grad()
    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """Of the first frame: a reference, what is shown, what is painted, and the truth."""
        truth, made = self._paint(batch)
        frames = batch["images"].shape[1]
        first = truth[::frames]
        return {
            "reference": batch["reference_images"][:, 0].float() / 255,
            "shown": self.square.hide(first),
            "painted": made[::frames],
            "truth": first,
        }

    def _paint(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """True and painted frames, (B T, 3, H, W) float32 in [0, 1] each, those of a window one after the other."""
        truth = batch["images"].flatten(0, 1).float() / 255
        references = batch["reference_images"].flatten(0, 1).float() / 255
        references = references.unflatten(0, (-1, self._references)).flatten(1, 2)
        sounds = self._heard.of(batch[f"frame_{self._heard.sound.feature}"]).flatten(0, 1)
        return truth, self._generator(self.square.hide(truth), references, sounds).float()

    def _figures(self, batch: Batch, truth: Tensor, made: Tensor) -> dict[str, Tensor]:
        config = self.config
        figures = {}
        if self._vgg is not None:
            figures["perception"] = two_scale_loss(self._vgg, made, truth)
        if config.l1_weight:
            figures["L1"] = F.l1_loss(made, truth)
        if config.l1_weight and config.mouth_weight:
            figures["mouth"] = F.l1_loss(self._lips(made), self._lips(truth))
        return figures

    def _lips(self, faces: Tensor) -> Tensor:
        rows, columns = (slice(*(round(self.square.mouth * at) for at in part)) for part in LIPS)
        return self.square.cut(faces)[..., rows, columns]

    def _weights(self) -> dict[str, float]:
        config = self.config
        return {
            "perception": config.perception_weight,
            "L1": config.l1_weight,
            "mouth": config.l1_weight * config.mouth_weight,
            **{judge.log: judge.weight for judge in self._judges.values()},
        }

    def _weighed(self, figures: dict[str, Tensor]) -> Tensor:
        weights = self._weights()
        return torch.stack([weights[name] * value for name, value in figures.items()]).sum()


class ClipStage(FrameStage):
    """Five consecutive frames, judged one by one, together, and by a sync expert.

    Args:
        config: of the stage.
        generator: trained.
        references: N, of one frame.
        heard: what the generator hears with a frame.
        judges: name → discriminator, trained.
        vgg: with its weights loaded before training starts; None where ``perception_weight`` is 0.
        expert: trained already, frozen; None where ``sync_weight`` is 0.
    """

    config: ClipConfig
    sample: SampleSpec

    def __init__(
        self,
        config: ClipConfig,
        generator: Generator,
        references: int,
        heard: Heard,
        judges: Mapping[str, Judge],
        vgg: VGG19 | None,
        expert: ScoreNet | SyncNet | None,
    ) -> None:
        super().__init__("clip", config, MouthSquare(config.mouth), generator, references, heard, judges, vgg)
        self._expert = expert
        if expert is None:
            return
        self._expert_hears = heard.window if isinstance(expert, ScoreNet) else MEL_OF_WINDOW
        self.sample = replace(self.sample, window_sounds=(self._expert_hears,))
        self.frozen["expert"] = expert
        self.compiled = ("generator", *self.frozen)

    def _sample(self, references: int, heard: Heard) -> SampleSpec:
        each = WINDOW if self.config.references_per_frame else 1
        return replace(super()._sample(each * references, heard), window=WINDOW)

    def _figures(self, batch: Batch, truth: Tensor, made: Tensor) -> dict[str, Tensor]:
        figures = super()._figures(batch, truth, made)
        if self._expert is not None:
            sounds = batch[f"window_{self._expert_hears.feature}"]
            if isinstance(self._expert, ScoreNet):
                sounds = self._heard.of(sounds)
            figures["sync"] = sync_loss(self._expert, sounds, made.unflatten(0, (-1, WINDOW)), self.square)
        return figures

    def _weights(self) -> dict[str, float]:
        return super()._weights() | {"sync": self.config.sync_weight}
