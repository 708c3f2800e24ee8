"""Training of the lip-sync expert (Prajwal et al., ACM MM 2020, section 3.2; ``color_syncnet_train.py``).

Each window of lips meets the sound that belongs to it and, at once, sound that does not: every batch is balanced,
and what the network makes of a face alone cancels out. The official code tosses a coin for each window instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from baselines.sync_expert.network import FRAMES, SyncNet, cosine_bce
from models.base import Batch, Progress, SampleSpec, Section, Stage, TrainConfig, Update


class ExpertConfig(Section):
    """The expert's stage; defaults are the official code's, or where it has no such thing, off.

    Wrong sound comes from the same clip, so that neither voice nor face tells it: *far* sound from any other
    window, and, once the network knows that, *near* sound from a few frames beside the window.

    Attributes:
        view: the faces that it looks at, a key of :data:`baselines.sync_expert.network.LIPS`.
        width: factor on the channels of every layer; 1 is the official size.
        far: frames between a window and its far sound, at least (code: 1).
        near: frames between a window and its near sound, at least. Chunks of sound last 5 frames.
        reach: the same, at most; windows of training lie so far from both ends of a clip. 0: no near sound.
        near_from: steps with far sound only.
        near_over: steps in which the weight of near sound then rises to ``near_share``.
        near_share: weight of near sound in the cross-entropy of wrong sound; the rest is that of far sound.
        contrast: weight of a second loss, by which the right sound is to be picked out of right, far and all
            near sound (multi-way matching: Chung et al., "Perfect Match", ICASSP 2019). The official code has
            none.
        temperature: of its softmax over cosines.
        flip: mirror half of the windows.
        learning_rate: of Adam.
        stuck_after: steps without learning after which the log says so.
        train: how the runner trains it.
    """

    view: Literal["face96", "mouth416x320"] = "face96"
    width: float = Field(1.0, gt=0)
    far: int = Field(1, ge=1)
    near: int = Field(2, ge=1)
    reach: int = Field(0, ge=0)
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
    def _near_within_reach(self) -> ExpertConfig:
        if 0 < self.reach < self.near:
            raise ValueError(
                f"reach {self.reach} is less than near {self.near}: set it to 0 for no near sound"
            )
        return self

    def build(self) -> SyncNet:
        """Build the network, with torch's default generator."""
        return SyncNet(self.view, self.width)

    def shifts(self) -> list[int]:
        """Frames by which near sound is early (below 0) or late."""
        return [s for s in range(-self.reach, self.reach + 1) if abs(s) >= self.near] if self.reach else []


class ExpertStage(Stage):
    """Lips and sound that belong together, and that do not.

    Args:
        config: of this stage.
        network: what :meth:`ExpertConfig.build` gave.
    """

    name = "expert"

    def __init__(self, config: ExpertConfig, network: SyncNet) -> None:
        self.config = config
        self.train = config.train
        # A wider window than is seen: its frames' own chunks are the near sound of its middle.
        self.sample = SampleSpec(
            window=FRAMES + 2 * config.reach,
            view=config.view,
            view_frames=tuple(range(config.reach, config.reach + FRAMES)),
            frame_mel="wav2lip" if config.reach else None,
            window_mel="wav2lip",
            window_mel_frame=config.reach,
            negative_gap=config.far,
        )
        self.networks = {"expert": network}
        self.frozen = {}
        self._expert = network
        self._learnt_at = 0

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with torch's betas, as in the official code."""
        return {"expert": Adam(self._expert.parameters(), lr=self.config.learning_rate)}

    def near_weight(self, step: int) -> float:
        """Share of near sound in the loss on wrong sound after so many steps."""
        config = self.config
        if not config.reach or step < config.near_from:
            return 0.0
        return config.near_share * min(1.0, (step - config.near_from + 1) / (config.near_over + 1))

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """One step on the cross-entropy of right and wrong sound, half each, and on the contrast.

        Logs ``loss``, the cross-entropy, which is ln 2 for whoever knows nothing; ``contrast``, where it is
        used; ``accuracy``, the share of cosines on their side of 0.5; ``cosine_sync`` and ``cosine_shifted``.
        """
        lips = self._lips(batch)
        if self.config.flip:
            mirrored = torch.rand(len(lips), 1, 1, 1, device=lips.device) < 0.5
            lips = torch.where(mirrored, lips.flip(-1), lips)
        share = self.near_weight(progress.step)
        shifts = self.config.shifts() if progress.step >= self.config.near_from else []
        if shifts and not self.config.contrast:
            # One of them will do: cross-entropy looks at each by itself.
            shifts = [shifts[int(torch.randint(len(shifts), ()))]]
        right, far, near = self._cosines(batch, lips, shifts)
        wrong = cosine_bce(far, 0) * (1 - share)
        if share:
            wrong = wrong + cosine_bce(near, 0) * share
        loss = (cosine_bce(right, 1) + wrong) / 2
        logs = {"loss": loss, **_figures(right, far)}
        total = loss
        if self.config.contrast:
            logits = torch.cat([right[:, None], far[:, None], near], dim=1) / self.config.temperature
            first = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
            logs["contrast"] = F.cross_entropy(logits, first)
            total = loss + self.config.contrast * logs["contrast"]
        yield Update(total, "expert", logs)

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Figures on the right and the far sound of each window, and on all its near sound.

        ``loss``; ``accuracy``, the share of cosines on their side of 0.5; ``rank``, how often the right sound
        has the higher cosine; ``rank_near``, the same over near sound; ``cosine_sync`` and ``cosine_shifted``.
        """
        right, far, near = self._cosines(batch, self._lips(batch), self.config.shifts())
        figures = {"loss": (cosine_bce(right, 1) + cosine_bce(far, 0)) / 2, **_figures(right, far)}
        figures["rank"] = _above(right, far)
        if near.shape[1]:
            figures["rank_near"] = _above(right[:, None].expand_as(near), near)
        return figures

    def hint(self, logs: Mapping[str, float], progress: Progress) -> str | None:
        """Say when the expert has been stuck for ``stuck_after`` steps, and what to try."""
        if "loss" not in logs or logs["loss"] < math.log(2) - 0.01:
            self._learnt_at = progress.step
        if progress.step - self._learnt_at < self.config.stuck_after:
            return None
        return (
            f"stuck: for {self.config.stuck_after} steps the loss has been no better than ln 2 = 0.693, which is "
            "that of guessing. Is the sound in sync with the pictures (bench inspect; filter by offset), and are "
            "there enough clips and speakers? Then try expert.contrast=1, another expert.learning_rate (1e-3 to "
            "1e-5), a larger expert.train.batch_size, expert.far=10 and a later expert.near_from."
        )

    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """The first and the last of the five pictures, as the expert sees them."""
        lips = self._lips(batch)
        return {"first": lips[:, :3].flip(1), "last": lips[:, -3:].flip(1)}

    def state_dict(self) -> dict[str, Any]:
        """The step at which the loss was last better than that of guessing."""
        return {"learnt_at": self._learnt_at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self._learnt_at = int(state["learnt_at"])

    def _lips(self, batch: Batch) -> Tensor:
        return self._expert.lips(batch["images"].float() / 255)

    def _cosines(self, batch: Batch, lips: Tensor, shifts: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Cosines (B,) with the right sound, (B,) with far sound, and (B, S) with sound shifted by ``shifts``."""
        mels = [batch["window_mel"], batch["negative_mel"]]
        mels += [batch["frame_mels"][:, self.config.reach + shift] for shift in shifts]
        # All sound at once: normalisation must not tell one kind from another.
        sounds = self._expert.hear(torch.cat(mels)).unflatten(0, (len(mels), -1))
        cosines = (sounds * self._expert.see(lips)).sum(dim=2)
        return cosines[0], cosines[1], cosines[2:].T


def _figures(right: Tensor, wrong: Tensor) -> dict[str, Tensor]:
    correct = (right > 0.5).float().mean() + (wrong <= 0.5).float().mean()
    return {"accuracy": correct / 2, "cosine_sync": right.mean(), "cosine_shifted": wrong.mean()}


def _above(right: Tensor, wrong: Tensor) -> Tensor:
    """How often ``right`` is the higher one; a tie counts half."""
    return ((right > wrong).float() + (right == wrong).float() / 2).mean()
