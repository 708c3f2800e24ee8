"""Training of DINet's expert (Zhang et al., AAAI 2023). The authors did not publish how they trained theirs: what is
chosen here, and why, is in docs/methods/sync-expert.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from baselines.sync_expert.network import SOUND
from baselines.sync_expert.score_network import LOGITS, MEL, SMALLER, ScoreNet, squared_error
from baselines.sync_expert.stage import PairsConfig, PairsStage
from baselines.sync_expert.teaching import other_sound, varied
from models.base import Batch, Progress
from models.layers.mouth_square import MouthSquare
from prep.sample_spec import SampleSpec, Sound

#: What it looks at.
VIEW = "mouth416x320"
#: What it hears of a window: nine frames of logits, 25 a second, from two before the first on; or mel.
SOUNDS = {"speech": Sound("speech.logits", columns=17, lead=4), "mel": SOUND}


class ScoreConfig(PairsConfig):
    """DINet's expert.

    Attributes:
        form: ``scores``.
        view: ``mouth416x320``.
        hears: ``speech``: logits, as the official one does; ``mel``.
        coarse: whether the mouths are halved first, which makes the rest four times cheaper.
        even: whether they are brought to an even brightness and contrast, see
            :class:`baselines.sync_expert.score_network.ScoreNet`.
        mouths: pixels of a side of the mouths that it sees, coarse to fine; multiples of 32.
        mouths_until: the step from which on the next of them is taken, for each but the last.
        vary: how much pictures and sound are varied, see :func:`baselines.sync_expert.teaching.varied`.
    """

    form: Literal["scores"]
    view: Literal["mouth416x320"] = "mouth416x320"
    hears: Literal["speech", "mel"] = "speech"
    coarse: bool = False
    even: bool = False
    mouths: tuple[int, ...] = (64, 128, 256)
    mouths_until: tuple[int, ...] = (0, 0)
    vary: float = Field(0.0, ge=0, le=2)

    @model_validator(mode="after")
    def _mouths_grow(self) -> ScoreConfig:
        sizes, least = self.mouths, SMALLER * (2 if self.coarse else 1)
        if not sizes or list(sizes) != sorted(sizes) or any(m % least or sizes[-1] % m for m in sizes):
            raise ValueError(
                f"mouths are multiples of {least} that divide the last, the smallest first: not {sizes}"
            )
        if len(self.mouths_until) != len(self.mouths) - 1 or list(self.mouths_until) != sorted(
            self.mouths_until
        ):
            raise ValueError(
                f"mouths_until are {len(self.mouths) - 1} steps in order, one for each of mouths but the last: not "
                f"{self.mouths_until}"
            )
        return self

    def build(self) -> ScoreNet:
        """Build the network, with torch's default generator."""
        hears = LOGITS if self.hears == "speech" else MEL
        return ScoreNet(self.width, hears, self.coarse, self.even)


class ScoreStage(PairsStage):
    """The expert sees mouths as the clip stage paints them, small ones at first.

    Args:
        config: of this stage.
        network: what :meth:`ScoreConfig.build` gave.
    """

    config: ScoreConfig
    scores = "score"
    guessing = 0.25

    def __init__(self, config: ScoreConfig, network: ScoreNet) -> None:
        self._square = MouthSquare(config.mouths[-1])
        size = (self._square.height, self._square.width)
        sample = SampleSpec(view=VIEW, size=size, window_sounds=(SOUNDS[config.hears],))
        super().__init__(config, network, sample)
        self._expert = network
        self._mouth = config.mouths[0]

    def mouth(self, step: int) -> int:
        """Pixels of a side of the mouths that are seen after so many steps."""
        passed = sum(step >= until for until in self.config.mouths_until)
        return self.config.mouths[passed]

    def changes(self, per_epoch: float) -> tuple[int, ...]:
        """As :class:`PairsStage`, and the first step of each size."""
        return tuple(sorted({*super().changes(per_epoch), *self.config.mouths_until} - {0}))

    def schedulers(self, optimizers: Mapping[str, Optimizer]) -> dict[str, LRScheduler]:
        """Half of all steps with the whole rate, which then falls linearly to 0, as in all stages of DINet."""
        steps = self.train.steps
        if steps is None:
            return {}
        return {"expert": LambdaLR(optimizers["expert"], lambda step: min(1.0, 2 * (1 - step / steps)))}

    def varied(self, batch: Batch, progress: Progress) -> tuple[Tensor, Tensor]:
        """As :meth:`PairsStage.varied`, and as ``vary`` says; all windows of a clip in the same way."""
        self._mouth = self.mouth(progress.step)
        frames, sounds = self._frames(batch), self.sounds(batch)
        with torch.autocast(frames.device.type, enabled=False):
            frames, _ = varied(frames, self.config.vary, self.config.flip)
        if self.config.hears == "mel":
            sounds = other_sound(sounds, self.config.vary)
        return self._windows(frames), sounds

    def shown(self, batch: Batch) -> Tensor:
        """As :meth:`PairsStage.shown`; RGB, at the size that was last trained with."""
        return self._windows(self._frames(batch))

    def sounds(self, batch: Batch) -> Tensor:
        """As :meth:`PairsStage.sounds`; of logits, every second column."""
        sounds = super().sounds(batch)
        return sounds[..., ::2] if self.config.hears == "speech" else sounds

    def compared(self, lips: Tensor, sounds: Tensor) -> Tensor:
        """As :meth:`PairsStage.compared`, in every place of the map."""
        clips, count = sounds.shape[:2]
        heard = self._expert.hear(sounds.flatten(0, 1)).unflatten(0, (clips, 1, count))
        seen = self._expert.see(lips).unflatten(0, (clips, -1))
        windows = seen.shape[1]
        # Half precision would round scores near 1 by 0.004.
        with torch.autocast(lips.device.type, enabled=False):
            pairs = seen.float()[:, :, None].expand(-1, -1, count, -1, -1, -1).flatten(0, 2)
            beside = heard.float().expand(-1, windows, -1, -1).flatten(0, 2)
            return self._expert.judge(pairs, beside).flatten(1).unflatten(0, (clips, windows, count))

    def error(self, scores: Tensor, target: float) -> Tensor:
        """Squared, as the clip stage measures it."""
        return squared_error(scores, target)

    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """The first and the last picture of each clip's first window, as the expert sees them."""
        mouths = self.shown(batch)[:: self.config.windows]
        return {"first": mouths[:, :3], "last": mouths[:, -3:]}

    def state_dict(self) -> dict[str, Any]:
        """As :class:`PairsStage`, and the size that was last trained with."""
        return {**super().state_dict(), "mouth": self._mouth}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        super().load_state_dict(state)
        self._mouth = int(state["mouth"])

    def _frames(self, batch: Batch) -> Tensor:
        """(B, T, 3, M, M) float in [0, 1], RGB: all mouths, at the size that is seen."""
        frames = self._square.cut(batch["images"]).float() / 255
        by = self._square.mouth // self._mouth
        return F.avg_pool2d(frames.flatten(0, 1), by).unflatten(0, frames.shape[:2]) if by > 1 else frames

    def _windows(self, frames: Tensor) -> Tensor:
        return frames[:, self._pictures].flatten(0, 1).flatten(1, 2)
