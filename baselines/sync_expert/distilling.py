"""Training of the expert with landmarks as its teacher: what made it learn on minutes of real people.

The official training asks the network to find the mouth, to forget the face and to compare with sound, all by one bit
a window. Here lip landmarks, which every prepared data set has, first say what to look for. Then scores are compared
as a judge uses them: as means over consecutive windows, of embeddings without their mean over the sample. The mean
holds the face and the voice. See docs/methods/sync-expert.md for what each part is worth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from baselines.sync_expert.network import FRAMES, FrameEncoder, SyncNet, cosine_bce
from baselines.sync_expert.stage import ExpertStage, above, figures_of
from baselines.sync_expert.teaching import (
    LANDMARKS,
    LipReader,
    aligned_lips,
    mirrored_lips,
    other_sound,
    varied,
)
from models.base import Batch, Progress, Update

if TYPE_CHECKING:
    from baselines.sync_expert.stage import ExpertConfig


class TaughtStage(ExpertStage):
    """Lips and sound of one stretch of each clip, with the landmarks of its frames.

    Args:
        config: of this stage, with ``teach``, ``apart`` and ``stride`` 1.
        network: what :meth:`ExpertConfig.build` gave.
    """

    length = "expert.windows, with expert.teach.averages to match"

    def __init__(self, config: ExpertConfig, network: SyncNet) -> None:
        super().__init__(config, network)
        assert config.teach is not None and isinstance(network.face_encoder, FrameEncoder)
        self.teach = config.teach
        self._encoder = network.face_encoder
        # Frames are made smaller before they are encoded: those of a large view come so, in a sixteenth of the memory.
        by = network.seen.shrinks
        self._seen = network.seen.divided(by)
        self.sample = replace(self.sample, landmarks=LANDMARKS, size=self._seen.view if by > 1 else None)
        self._reader = LipReader(self._encoder.size)
        self.networks = {"expert": network, "lip_reader": self._reader}
        # Frames are encoded apart from their windows.
        self.compiled = ("expert.face_encoder.each", "expert.audio_encoder")

    def optimizers(self) -> dict[str, Optimizer]:
        """Adam with torch's betas."""
        parameters = [*self._expert.parameters(), *self._reader.parameters()]
        return {"expert": Adam(parameters, lr=self.config.learning_rate)}

    def schedulers(self, optimizers: Mapping[str, Optimizer]) -> dict[str, LRScheduler]:
        """From a twentieth up to ``learning_rate`` over the first tenth of all steps, then down to 0 as a cosine."""
        steps = self.train.steps
        assert steps is not None
        rise = max(1, steps // 10)

        def factor(step: int) -> float:
            if step < rise:
                return 0.05 + 0.95 * step / rise
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

        return {"expert": LambdaLR(optimizers["expert"], factor)}

    def changes(self, per_epoch: float) -> tuple[int, ...]:
        """The first step that hears sound."""
        return (self.teach.first,) if self.teach.first else ()

    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """One step on the landmarks' error and, after ``teach.first`` steps, on cross-entropy and contrast.

        Logs ``landmarks``, 1 where no movement is found; then also ``loss``, the cross-entropy, which is ln 2 for
        guessing; ``contrast``; ``accuracy``, ``cosine_sync`` and ``cosine_shifted`` as :class:`ExpertStage`.
        """
        frames = self._frames(batch)
        # Places in pictures, and differences of features, would be too coarse in half precision.
        with torch.autocast(frames.device.type, enabled=False):
            frames, mirrored = varied(frames, self.teach.vary, self.config.flip)
        features = self._features(frames)
        lips = aligned_lips(batch["landmarks"])
        lips = torch.where(mirrored[:, None, None], mirrored_lips(lips), lips)
        with torch.autocast(frames.device.type, enabled=False):
            error = self._reader(features.float(), lips)
        logs = {"landmarks": error}
        total = self.teach.weight * error
        if progress.step >= self.teach.first:
            seen, heard = self._embedded(features, other_sound(batch["frame_mel"], self.teach.vary))
            loss, figures = self._cross_entropy(seen, heard)
            logs |= {"loss": loss, "contrast": self._averaged(seen, heard)[0], **figures}
            total = total + self.teach.entropy * loss + self.config.contrast * logs["contrast"]
        yield Update(total, "expert", logs)

    @torch.no_grad()
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Figures on the sample, without variations.

        ``landmarks``, ``loss`` and ``contrast`` as in training; ``rank``, how often the right sound has the higher
        cosine of two, over single windows and sound ``far`` frames away or more; ``rank_mean``, how often the right
        sound has the higher mean score over ``teach.averages[-1]`` windows, embeddings less their means over the
        sample, over sound ``far`` frames away or more where the sample is so long; ``accuracy``, ``cosine_sync`` and
        ``cosine_shifted``.
        """
        features = self._features(self._frames(batch))
        seen, heard = self._embedded(features, batch["frame_mel"])
        loss, figures = self._cross_entropy(seen, heard)
        contrast, scores = self._averaged(seen, heard)
        cosines = seen @ heard.transpose(1, 2)
        own = cosines[:, self._right, None].expand_as(cosines)
        away = _apart(scores.shape[-1]).to(scores.device)
        far = away >= min(self.config.far, scores.shape[-1] - 1)
        means = scores.diagonal(dim1=1, dim2=2)[:, :, None].expand_as(scores)
        return {
            "landmarks": self._reader(features.float(), aligned_lips(batch["landmarks"])),
            "loss": loss,
            "contrast": contrast,
            "rank": above(own[:, self._far], cosines[:, self._far]),
            "rank_mean": above(means[:, far], scores[:, far]),
            **figures,
        }

    def hint(self, logs: Mapping[str, float], progress: Progress) -> str | None:
        """As :class:`ExpertStage`, from the step on at which sound is heard."""
        if progress.step < self.teach.first:
            self._learnt_at = progress.step
            return None
        return super().hint(logs, progress)

    def _frames(self, batch: Batch) -> Tensor:
        """(B, T, 3, h', w') float in [0, 1], BGR: what is seen of each frame, at the size at which it is encoded."""
        frames = self._seen.cut(batch["images"])
        return self._encoder.smaller(frames.flatten(0, 1).float() / 255).unflatten(0, frames.shape[:2])

    def _features(self, frames: Tensor) -> Tensor:
        return self._encoder.features(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def _embedded(self, features: Tensor, mels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F) and (B, T, 80, 16) → (B, T - 4, D) of lips and of sound, float32 and of length 1."""
        windows = features.unfold(1, FRAMES, 1).movedim(-1, 2)
        shape = windows.shape[:2]
        seen = F.normalize(self._encoder.join(windows.flatten(0, 1)).float().flatten(1), dim=1)
        heard = self._expert.hear(mels[:, : shape[1]].flatten(0, 1))
        return seen.unflatten(0, shape), heard.unflatten(0, shape)

    def _cross_entropy(self, seen: Tensor, heard: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(seen.device.type, enabled=False):
            cosines = seen @ heard.transpose(1, 2)
        right, far = cosines[:, self._right], cosines[:, self._far]
        return (cosine_bce(right, 1) + cosine_bce(far, 0)) / 2, figures_of(right, far)

    def _averaged(self, seen: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        """The contrast, () float32, and the scores of the longest mean, (B, P, P): place of lips, place of sound."""
        with torch.autocast(seen.device.type, enabled=False):
            seen, heard = (x - x.mean(dim=1, keepdim=True) for x in (seen, heard))
            products = (seen @ heard.transpose(1, 2))[:, None]
            losses = []
            for length in self.teach.averages:
                kernel = torch.eye(length, device=seen.device)[None, None] / length
                scores = F.conv2d(products, kernel, stride=1)[:, 0]
                away = _apart(scores.shape[-1]).to(seen.device)
                # Means are the surer the longer they are.
                logits = scores * math.sqrt(length) / self.config.temperature
                logits = logits.masked_fill((away > 0) & (away < self.teach.nearest), -math.inf)
                right = away == 0
                picked = (
                    logits.log_softmax(dim=2)[:, right].mean() + logits.log_softmax(dim=1)[:, right].mean()
                )
                losses.append(-picked / 2)
        return torch.stack(losses).mean(), scores


def _apart(places: int) -> Tensor:
    """(places, places) int64: frames between them."""
    at = torch.arange(places)
    return (at[:, None] - at).abs()
