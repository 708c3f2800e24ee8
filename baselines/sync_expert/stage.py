"""Training of the lip-sync expert (Prajwal et al., ACM MM 2020, section 3.2; ``color_syncnet_train.py``).

Lips are compared with the sound that belongs to them and, in the same step, with sound that does not: every batch is
balanced, and the loss cannot fall by the face alone. The official code chooses one of both at random for each window.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from baselines.sync_expert.network import FRAMES, SOUND, SyncNet, cosine_bce
from baselines.sync_expert.teaching import TeachConfig
from models.base import Batch, Progress, Section, Stage, TrainConfig, Update
from prep.sample_spec import SampleSpec


class PairsConfig(Section):
    """What every expert that looks at pictures is asked; defaults are the official code's of Wav2Lip; options that it
    does not have are off.

    Wrong sound comes from the same clip, so that it cannot be recognised by voice or face: *far* sound, and *near*
    sound, which is harder to detect and may be used later. The official code takes one window of a clip, and one
    other chunk of its sound. With more ``windows``, the sound of each is wrong for all others: every embedding is
    used that often.

    Attributes:
        width: factor on the channels of every layer; 1 is the official size.
        windows: of each clip and sample; 1: as in the official code.
        stride: frames from the start of one of these windows to that of the next.
        far: frames between a window and its far sound, at least (code: 1).
        near: frames between a window and its near sound, at least; none is nearer. With 1 window there is no
            near sound.
        near_from: steps with far sound only.
        near_over: steps in which the weight of near sound then rises to ``near_share``.
        near_share: weight of near sound in the loss of wrong sound; the rest is that of far sound.
        contrast: weight of a second loss, by which the right sound is to be picked out of all that a window
            is compared with, and the right window for a sound (multi-way matching: Chung et al., "Perfect Match",
            ICASSP 2019). The official code has none.
        temperature: of its softmax over scores.
        flip: mirror half of the windows.
        learning_rate: of Adam.
        stuck_after: steps without learning after which the log says so.
        train: how the runner trains it; ``batch_size`` counts clips.
    """

    width: float = Field(1.0, gt=0)
    windows: int = Field(1, ge=1)
    stride: int = Field(3, ge=1)
    far: int = Field(1, ge=1)
    near: int = Field(2, ge=1)
    near_from: int = Field(0, ge=0)
    near_over: int = Field(0, ge=0)
    near_share: float = Field(0.5, ge=0, le=1)
    contrast: float = Field(0.0, ge=0)
    temperature: float = Field(0.1, gt=0)
    flip: bool = False
    learning_rate: float = Field(1e-4, gt=0)
    stuck_after: int = Field(20_000, ge=1)
    train: TrainConfig

    @model_validator(mode="after")
    def _far_sound_exists(self) -> PairsConfig:
        reach = self.stride * (self.windows - 1)
        if 0 < reach < self.far:
            raise ValueError(
                f"{self.windows} windows, {self.stride} frames from one to the next, reach {reach} frames, and far "
                f"sound begins at {self.far}: take more windows, a longer stride or a smaller far"
            )
        return self

    def distances(self) -> Tensor:
        """(windows, sounds) int64: frames between a window and each chunk that it is compared with; 0: its own."""
        if self.windows == 1:
            return torch.tensor([[0, self.far]])
        starts = self.stride * torch.arange(self.windows)
        return (starts[:, None] - starts).abs()


class ExpertConfig(PairsConfig):
    """The expert of Wav2Lip.

    Attributes:
        view: the faces that it looks at, a key of :data:`baselines.sync_expert.network.LIPS`.
        coarse: whether the pictures are halved first, which makes the rest four times cheaper.
        apart: whether each frame is encoded by itself, see :class:`baselines.sync_expert.network.FrameEncoder`.
        teach: landmarks teach the expert, see :mod:`baselines.sync_expert.distilling`; None: they do not.
    """

    view: Literal["face96", "face128", "mouth416x320"] = "face96"
    coarse: bool = False
    apart: bool = False
    teach: TeachConfig | None = None

    @model_validator(mode="after")
    def _landmarks_can_teach(self) -> ExpertConfig:
        if self.teach is None:
            return self
        if not self.apart or self.stride != 1 or self.train.steps is None:
            raise ValueError("with teach, take apart=true, stride=1 and a number of train.steps")
        if not self.teach.averages or min(self.teach.averages) < 1:
            raise ValueError(
                f"teach.averages is empty or not of whole numbers from 1 on: {self.teach.averages}"
            )
        if self.windows <= max(self.teach.averages) + self.teach.nearest:
            raise ValueError(
                f"{self.windows} windows cannot be compared by means over {max(self.teach.averages)}: take more "
                "windows or shorter teach.averages"
            )
        return self

    def build(self) -> SyncNet:
        """Build the network, with torch's default generator."""
        return SyncNet(self.view, self.width, self.coarse, self.apart)


class PairsStage(Stage):
    """Lips and sound that belong together, and that do not.

    Args:
        config: of this stage.
        network: trained.
        sample: the view and its size, and under ``window_sounds`` what is heard with a window's first frame.
    """

    name = "expert"
    sample: SampleSpec
    length = "expert.windows or expert.stride"
    #: What scores are called in figures, and the loss of one half, which is that of guessing.
    scores: ClassVar[str]
    guessing: ClassVar[float]

    def __init__(self, config: PairsConfig, network: nn.Module, sample: SampleSpec) -> None:
        self.config = config
        self.train = config.train
        one = config.windows == 1
        self._starts = [config.stride * k for k in range(config.windows)]
        shown = sorted({start + f for start in self._starts for f in range(FRAMES)})
        self.sample = replace(
            sample,
            window=self._starts[-1] + FRAMES,
            view_frames=tuple(shown),
            frame_sounds=() if one else sample.window_sounds,
            window_sounds=sample.window_sounds if one else (),
            negative_gap=config.far if one else 0,
        )
        (self._sound,) = sample.window_sounds
        #: Where each window's pictures stand among those shown; (windows, 5).
        self._pictures = torch.tensor([[shown.index(s + f) for f in range(FRAMES)] for s in self._starts])
        distances = config.distances()
        self._right = distances == 0
        self._far = distances >= config.far
        self._near = (distances >= config.near) & (distances < config.far)
        self._has_near = bool(self._near.any())
        self.networks = {"expert": network}
        self.frozen = {}
        self.compiled = ("expert.face_encoder", "expert.audio_encoder")
        self._learnt_at = 0

    @abstractmethod
    def shown(self, batch: Batch) -> Tensor:
        """(B · windows, 15, h, w) float in [0, 1]: what is seen, the windows of a clip after one another."""

    @abstractmethod
    def compared(self, lips: Tensor, sounds: Tensor) -> Tensor:
        """Score all windows of a clip with all its sounds.

        Args:
            lips: of :meth:`shown`.
            sounds: (B, sounds, C, columns) float.

        Returns:
            (B, windows, sounds, places) float32, as :meth:`PairsConfig.distances` lays them out.
        """

    @abstractmethod
    def error(self, scores: Tensor, target: float) -> Tensor:
        """() float32: the loss of scores that should be ``target``, 0 or 1."""

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with torch's betas, as in the official code."""
        return {"expert": Adam(self.networks["expert"].parameters(), lr=self.config.learning_rate)}

    def near_weight(self, step: int) -> float:
        """Share of near sound in the loss on wrong sound after so many steps."""
        config = self.config
        if not self._has_near or step < config.near_from:
            return 0.0
        return config.near_share * min(1.0, (step - config.near_from + 1) / (config.near_over + 1))

    def changes(self, per_epoch: float) -> tuple[int, ...]:
        """The first step with near sound, where it waits."""
        waits = self.config.near_from and self.config.near_share and self._has_near
        return (self.config.near_from,) if waits else ()

    def varied(self, batch: Batch, progress: Progress) -> tuple[Tensor, Tensor]:
        """What is seen and heard in training: half of it mirrored, where ``flip`` says so."""
        lips = self.shown(batch)
        if self.config.flip:
            mirrored = torch.rand(len(lips), 1, 1, 1, device=lips.device) < 0.5
            lips = torch.where(mirrored, lips.flip(-1), lips)
        return lips, self.sounds(batch)

    def sounds(self, batch: Batch) -> Tensor:
        """(B, sounds, C, columns) float: what is heard with the windows of a clip."""
        feature = self._sound.feature
        if self.config.windows == 1:
            return torch.stack([batch[f"window_{feature}"], batch[f"negative_{feature}"]], dim=1)
        return batch[f"frame_{feature}"][:, self._starts]

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """One step on the loss of right and wrong sound, half each, and on the contrast.

        Logs ``loss``, that of right and wrong sound; ``contrast``, where it is used; ``accuracy``, the share of scores
        on their side of 0.5; the mean scores of right and far sound, ``cosine_sync`` and ``cosine_shifted``, or
        ``score_…``.
        """
        scores = self.compared(*self.varied(batch, progress))
        share = self.near_weight(progress.step)
        right, far = scores[:, self._right], scores[:, self._far]
        wrong = self.error(far, 0) * (1 - share)
        if share:
            wrong = wrong + self.error(scores[:, self._near], 0) * share
        loss = (self.error(right, 1) + wrong) / 2
        logs = {"loss": loss, **figures_of(right, far, self.scores)}
        total = loss
        if self.config.contrast:
            logs["contrast"] = self._contrast(scores.mean(dim=3), near=share > 0)
            total = loss + self.config.contrast * logs["contrast"]
        yield Update(total, "expert", logs)

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Figures on the right and the far sound of each window, and on its near sound where there is any.

        ``loss``; ``accuracy``, the share of scores on their side of 0.5; ``rank``, how often the right sound
        has the higher score of two; ``rank_near``, the same over near sound; the mean scores, as in training.
        """
        scores = self.compared(self.shown(batch), self.sounds(batch))
        right, far = scores[:, self._right], scores[:, self._far]
        figures = {
            "loss": (self.error(right, 1) + self.error(far, 0)) / 2,
            **figures_of(right, far, self.scores),
        }
        scores = scores.mean(dim=3)
        # Each window's own sound in every column.
        own = scores[:, self._right, None].expand_as(scores)
        figures["rank"] = above(own[:, self._far], scores[:, self._far])
        if self._has_near:
            figures["rank_near"] = above(own[:, self._near], scores[:, self._near])
        return figures

    def hint(self, logs: Mapping[str, float], progress: Progress) -> str | None:
        """Say when the expert has been stuck for ``stuck_after`` steps, and what to try."""
        if "loss" not in logs or logs["loss"] < self.guessing - 0.01:
            self._learnt_at = progress.step
        if progress.step - self._learnt_at < self.config.stuck_after:
            return None
        return (
            f"stuck: for {self.config.stuck_after} steps the loss has been no better than {self.guessing:.3g}, which "
            "is that of guessing. Is the sound in sync with the pictures (bench offsets), and are there enough clips "
            "and speakers? Then try expert.windows=8 with expert.contrast=1, another expert.learning_rate (2e-3 to "
            "1e-5), a larger expert.train.batch_size, expert.far=10 and a later expert.near_from."
        )

    def state_dict(self) -> dict[str, Any]:
        """The step at which the loss was last better than that of guessing."""
        return {"learnt_at": self._learnt_at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self._learnt_at = int(state["learnt_at"])

    def _contrast(self, scores: Tensor, *, near: bool) -> Tensor:
        """Cross-entropy of the right one among all that count, of (B, windows, sounds); () float32."""
        counts = self._right | self._far | self._near if near else self._right | self._far
        logits = (scores / self.config.temperature).masked_fill(~counts.to(scores.device), -math.inf)
        right = self._right.to(scores.device)
        picked = logits.log_softmax(dim=2)[:, right].mean()
        if self.config.windows > 1:
            picked = (picked + logits.log_softmax(dim=1)[:, right].mean()) / 2
        return -picked


class ExpertStage(PairsStage):
    """Training of Wav2Lip's expert.

    Args:
        config: of this stage.
        network: what :meth:`ExpertConfig.build` gave.
    """

    config: ExpertConfig
    scores = "cosine"
    guessing = math.log(2)

    def __init__(self, config: ExpertConfig, network: SyncNet) -> None:
        super().__init__(config, network, SampleSpec(view=config.view, window_sounds=(SOUND,)))
        self._expert = network

    def shown(self, batch: Batch) -> Tensor:
        """As :meth:`PairsStage.shown`; BGR."""
        frames = batch["images"][:, self._pictures].flatten(0, 1)
        return self._expert.lips(frames.float() / 255)

    def compared(self, lips: Tensor, sounds: Tensor) -> Tensor:
        """As :meth:`PairsStage.compared`: cosines, in one place."""
        # All sound at once: normalisation must not distinguish one kind from another.
        heard = self._expert.hear(sounds.flatten(0, 1)).unflatten(0, sounds.shape[:2])
        seen = self._expert.see(lips).unflatten(0, (len(sounds), -1))
        # bfloat16 knows a cosine to 0.004 only, and the cross-entropy of one near 0 or 1 to much less.
        with torch.autocast(lips.device.type, enabled=False):
            return (seen @ heard.transpose(1, 2))[..., None]

    def error(self, scores: Tensor, target: float) -> Tensor:
        """Cross-entropy with the cosines as probabilities."""
        return cosine_bce(scores, target)

    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """The first and the last picture of each clip's first window, as the expert sees them."""
        lips = self.shown(batch)[:: self.config.windows]
        return {"first": lips[:, :3].flip(1), "last": lips[:, -3:].flip(1)}


def figures_of(right: Tensor, wrong: Tensor, scores: str = "cosine") -> dict[str, Tensor]:
    """``accuracy``, the share of scores on their side of 0.5, half of them of right sound; and the mean scores."""
    correct = (right > 0.5).float().mean() + (wrong <= 0.5).float().mean()
    return {"accuracy": correct / 2, f"{scores}_sync": right.mean(), f"{scores}_shifted": wrong.mean()}


def above(right: Tensor, wrong: Tensor) -> Tensor:
    """How often ``right`` is the higher one; a tie counts half."""
    return ((right > wrong).float() + (right == wrong).float() / 2).mean()
