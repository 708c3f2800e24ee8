"""Training of the landmark expert: the right sound is picked out of all sound of the same clip, window by window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from baselines.sync_cca.features import COLUMNS
from baselines.sync_expert.landmark_network import (
    MIRRORED,
    SEEN,
    LandmarkNet,
    between,
    in_pairs,
    lips_of,
    sounds_of,
    standardised,
)
from baselines.sync_judges import Windows, right_above_wrong
from models.base import Batch, Progress, Section, Stage, TrainConfig, Update
from prep.sample_spec import SampleSpec, Sound

# Share of the steps in which the learning rate rises.
_RISE = 0.1


class LandmarkConfig(Section):
    """The stage of the expert that looks at landmarks. There is no paper of it: all options are ours.

    Attributes:
        view: ``landmarks``.
        frames: of a sample; shorter clips are left out.
        members: pairs of networks, whose mean score counts.
        channels: of the lips' hidden layer.
        sound_channels: of the sound's hidden layer.
        size: of an embedding.
        lip_dropout: share of the lips' hidden layer that is left out.
        sound_dropout: the same of the sound's.
        lengths: frames of the windows by whose mean scores the right sound is to be picked.
        nearest: frames between a window's own sound and wrong sound, at least: real clips are a frame or two off.
        stretch: lips and sound pass faster or slower, by a factor of up to e to this power.
        tract: the bands of the sound are moved up or down, by a factor of up to e to this power.
        amplitude: the lips' movement along each axis is made larger or smaller, likewise.
        turn: the lips are turned in the plane of the picture, radians, standard deviation.
        tilt: a smooth curve over the bands is added to the sound, of this standard deviation.
        mirror: mirror half of the samples.
        learning_rate: of AdamW; rises over a tenth of the steps, then falls to 0 as a cosine.
        weight_decay: of AdamW, for weights without biases and factors.
        train: how the runner trains it; ``batch_size`` counts clips; needs ``steps``.
    """

    view: Literal["landmarks"]
    frames: int = Field(75, ge=30)
    members: int = Field(4, ge=1)
    channels: int = Field(96, ge=1)
    sound_channels: int = Field(128, ge=1)
    size: int = Field(64, ge=1)
    lip_dropout: float = Field(0.3, ge=0, lt=1)
    sound_dropout: float = Field(0.5, ge=0, lt=1)
    lengths: tuple[int, ...] = Field((10, 25), min_length=1)
    nearest: int = Field(3, ge=1)
    stretch: float = Field(0.12, ge=0, le=0.7)
    tract: float = Field(0.1, ge=0, le=0.7)
    amplitude: float = Field(0.25, ge=0)
    turn: float = Field(0.06, ge=0)
    tilt: float = Field(0.5, ge=0)
    mirror: bool = True
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    train: TrainConfig

    @model_validator(mode="after")
    def _fits(self) -> LandmarkConfig:
        if min(self.lengths) < 1 or max(self.lengths) + self.nearest >= self.stretched:
            raise ValueError(
                f"windows of {max(self.lengths)} frames have no wrong sound {self.nearest} frames away in the "
                f"{self.stretched} frames that a sample has after stretching: take more frames or shorter windows"
            )
        if self.train.steps is None:
            raise ValueError("the learning rate follows the number of steps: give train.steps")
        return self

    @property
    def stretched(self) -> int:
        """Frames of a sample that there are at any speed."""
        return int(self.frames * math.exp(-self.stretch))

    def build(self) -> LandmarkNet:
        """Build the networks, with torch's default generator."""
        return LandmarkNet(
            self.members,
            self.channels,
            self.sound_channels,
            self.size,
            self.lip_dropout,
            self.sound_dropout,
        )


class LandmarkStage(Stage):
    """Lips and sound of some seconds of each clip: every window has to find its own sound among that of the others.

    Args:
        config: of this stage.
        network: what :meth:`LandmarkConfig.build` gave.
    """

    name = "expert"
    length = "expert.frames, with expert.lengths to match"

    def __init__(self, config: LandmarkConfig, network: LandmarkNet) -> None:
        self.config = config
        self.train = config.train
        self.sample = SampleSpec(
            window=config.frames,
            landmarks="mesh478",
            depth=True,
            window_sounds=(Sound("mel", math.ceil(COLUMNS * config.frames)),),
        )
        self.networks = {"expert": network}
        self.frozen = {}
        self._expert = network

    def prepare(self, sample: Batch) -> Batch:
        """Replace ``landmarks`` by ``lips``, (frames, 120) of :func:`lips_of`."""
        sample["lips"] = torch.from_numpy(lips_of(sample.pop("landmarks").numpy()))
        return sample

    def optimizers(self) -> dict[str, Optimizer]:
        """AdamW; biases and normalisation's factors do not decay."""
        parameters = list(self._expert.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.config.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return {"expert": AdamW(groups, lr=self.config.learning_rate)}

    def rate_at(self, step: int) -> float:
        """What the learning rate is multiplied by at a step."""
        steps = self.train.steps
        assert steps is not None
        rise = max(1, round(_RISE * steps))
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    def schedulers(self, optimizers: Mapping[str, Optimizer]) -> dict[str, LRScheduler]:
        """See ``learning_rate``."""
        return {name: LambdaLR(one, self.rate_at) for name, one in optimizers.items()}

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """One step on the cross-entropy; logs ``loss`` and ``picked``, how often the right sound scored highest."""
        lips, sounds = self._changed(batch)
        loss, picked = self._loss(*self._expert(lips, sounds))
        yield Update(loss, "expert", {"loss": loss, "picked": picked})

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, ``picked``, and ``rank``: how often the right sound of a second scores above that 8 frames away or
        more, over all members together (:func:`baselines.sync_judges.right_above_wrong`)."""
        lips, mel = batch["lips"], standardised(batch["window_mel"].transpose(1, 2))
        ones = torch.ones(len(lips), device=lips.device)
        sounds = sounds_of(in_pairs(mel, ones), _begin(batch), ones, lips.shape[1])
        seen, heard = self._expert(lips, sounds)
        loss, picked = self._loss(seen, heard)
        window = Windows(window=min(25, lips.shape[1] // 2))
        each = [
            right_above_wrong(a.cpu().numpy(), b.cpu().numpy(), windows=window).share
            for a, b in zip(_joined(seen), _joined(heard), strict=True)
        ]
        return {"loss": loss, "picked": picked, "rank": torch.tensor(each, device=lips.device).mean().float()}

    def _loss(self, seen: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of a window's own sound, and the share of windows that pick it, means over lengths."""
        with torch.autocast(seen.device.type, enabled=False):
            scores = (seen @ heard.transpose(2, 3)).flatten(0, 1)
            losses, picks = [], []
            for length in self.config.lengths:
                # Sums along the diagonals: a window of lips with a window of sound.
                diagonal = torch.eye(length, device=scores.device) / math.sqrt(length)
                windows = F.conv2d(scores[:, None], diagonal[None, None])[:, 0]
                place = torch.arange(windows.shape[1], device=scores.device)
                apart = (place[:, None] - place).abs()
                unclear = (apart > 0) & (apart < self.config.nearest)
                logits = windows.masked_fill(unclear, -math.inf).flatten(0, 1)
                own = place.repeat(len(windows))
                losses.append(F.cross_entropy(logits, own))
                picks.append((logits.argmax(dim=1) == own).float().mean())
        return torch.stack(losses).mean(), torch.stack(picks).mean()

    def _changed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Lips (B, S, 120) and sounds of as many frames, stretched and changed at random."""
        config, lips = self.config, batch["lips"]
        n, frames, device = len(lips), config.stretched, lips.device

        def factor(most: float, *shape: int) -> Tensor:
            return torch.exp((2 * torch.rand(n, *shape, device=device) - 1) * most)

        rate = factor(config.stretch)
        start = torch.rand(n, device=device) * (config.frames - rate * frames).clamp(min=0)
        at = start[:, None] + (torch.arange(frames, device=device) + 0.5) * rate[:, None] - 0.5
        seen = between(lips, at).unflatten(2, (SEEN // 3, 3))
        if config.mirror:
            mirrored = seen[:, :, MIRRORED] * torch.tensor([-1.0, 1.0, 1.0], device=device)
            seen = torch.where(torch.rand(n, 1, 1, 1, device=device) < 0.5, mirrored, seen)
        seen = seen * factor(config.amplitude, 1, 1, 3)
        angle = config.turn * torch.randn(n, 1, 1, device=device)
        x, y, z = seen.unbind(dim=3)
        seen = torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos(), z], dim=3)

        mel = in_pairs(standardised(batch["window_mel"].transpose(1, 2)), factor(config.tract))
        sounds = sounds_of(mel, _begin(batch) + COLUMNS * start, rate, frames)
        curve = config.tilt * torch.randn(n, 1, 5, device=device)
        curve = F.interpolate(curve, size=sounds.shape[2], mode="linear", align_corners=True)
        return seen.flatten(2), sounds * factor(0.2, 1, 1) + curve


def _begin(batch: Batch) -> Tensor:
    """(B,) where the first frame begins among the columns of ``window_mel``: its time falls between two columns."""
    first = COLUMNS * batch["frames"][:, 0].double()
    return (first - first.floor()).float()


def _joined(embedded: Tensor) -> Tensor:
    """(members, B, T, D) → (B, T, members · D)."""
    return embedded.permute(1, 2, 0, 3).flatten(2)
