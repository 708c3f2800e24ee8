"""Generation with G4G (Zhang et al., arXiv 2402.18122, sections 3.1 and 3.2): the references first, then the frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from baselines.dinet.faces import VIEW, check_size, crops_at, faces_of, matrix_of
from models.base import Crop, Footage, Section, Shot, Speech
from models.g4g.masks import masks
from models.g4g.network import Generator
from models.g4g.options import SQUARE, G4GConfig
from models.g4g.stages import HEARD, landmark_pictures
from models.layers.mouth_square import MouthSquare
from models.layers.paste import paste


class GenerateConfig(Section):
    """How faces are generated.

    Attributes:
        references: which frames the reference pictures are; the paper does not say. ``spread``: at equal distances over
            all frames with a face; ``first``: the first ones.
        smallest: side of the mouth square in a frame, as a share of the side at which it is generated, below which the
            face is too small.
        batch_size: frames that are generated at once; changes no figure.
    """

    references: Literal["spread", "first"] = "spread"
    smallest: float = Field(default=0.125, ge=0)
    batch_size: int = Field(default=8, ge=1)


class G4GInference:
    """Generates the frames of one footage. Apart from the references, one batch of frames is in memory at a time.

    Args:
        config: how.
        common: the options that the generator was trained with.
        square: of the faces that it makes.
        generator: in evaluation mode.
        footage: the video.
        speech: the sound.
    """

    def __init__(
        self,
        config: GenerateConfig,
        common: G4GConfig,
        square: MouthSquare,
        generator: Generator,
        footage: Footage,
        speech: Speech,
    ) -> None:
        self.config, self.common, self.square = config, common, square
        self.generator, self.footage, self.speech = generator, footage, speech
        self.device = next(generator.parameters()).device
        self.masks = masks(square, (SQUARE,), common.sigma)
        # Where the picture ends, so does its part of the frame, however wide the mask is smoothed.
        self.share = _inside(self.masks.share[0, 0].numpy())

    def frames(self) -> Iterator[np.ndarray]:
        """Yield ``footage.n_frames`` full frames, (H, W, 3) uint8 RGB; those without a face are the originals.

        Raises:
            ValueError: the face is too small.
        """
        places = self._places()
        if not len(places):
            yield from (shot.frame for shot in self.footage.shots())
            return
        check_size(self.footage, self.square, self.config.smallest)
        references, landmarks = self._references(places)
        waiting: list[Shot] = []
        for shot in self.footage.shots():
            waiting.append(shot)
            if len(waiting) == self.config.batch_size:
                yield from self._speak(waiting, references, landmarks)
                waiting.clear()
        yield from self._speak(waiting, references, landmarks)

    def _places(self) -> np.ndarray:
        """(N,) int64: the frames that references are, some twice where there are fewer; empty where none has a face."""
        footage, count = self.footage, self.common.references
        found = np.flatnonzero(footage.detected[: footage.n_unique])
        if not len(found) or self.config.references == "first":
            return found[np.minimum(np.arange(count), len(found) - 1)] if len(found) else found
        return found[np.linspace(0, len(found) - 1, count).round().astype(np.int64)]

    def _references(self, places: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """(1, 3N, H, W) pictures and (1, 1, H, W) landmarks of the first of them, or None where they are not used."""
        crops = crops_at(self.footage, places)
        pictures = self._faces(crops)
        landmarks = None
        if self.common.alignment and self.common.landmarks == "reference":
            landmarks = self._landmarks(places[:1], crops[:1])
        return pictures.flatten(0, 1)[None], landmarks

    def _speak(self, shots: list[Shot], references: Tensor, landmarks: Tensor | None) -> Iterator[np.ndarray]:
        """Yield the frames of consecutive shots, generated where there is a face."""
        cut = [(shot, self.footage.crop(VIEW, shot)) for shot in shots]
        shown = [(shot, crop) for shot, crop in cut if crop is not None]
        if shown:
            frames = np.array([shot.index for shot, _ in shown])
            crops = [crop for _, crop in shown]
            if self.common.alignment and landmarks is None:
                landmarks = self._landmarks(frames, crops)
            mels = np.stack([self.speech.chunk(frame, HEARD) for frame in frames.tolist()])
            made = self.generator(
                self._faces(crops),
                self.masks.to(self.device),
                references,
                landmarks,
                torch.from_numpy(mels).to(self.device),
            )
            pictures = (made.face.float() * 255).round().clamp(0, 255).to(torch.uint8)
            for (shot, crop), picture in zip(shown, pictures.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
                paste(shot.frame, picture, matrix_of(crop, self.square), self.share)
        for shot in shots:
            yield shot.frame

    def _faces(self, crops: list[Crop]) -> Tensor:
        return faces_of(crops, self.square).to(self.device)

    def _landmarks(self, frames: np.ndarray, crops: list[Crop]) -> Tensor:
        """(n, 1, H, W) float in [0, 1]: the landmark pictures of frames and of their crops."""
        points = self.footage.landmarks("ibug68")[frames].astype(np.float64)
        matrices = np.stack([crop.transform for crop in crops])
        points = points @ matrices[:, :, :2].swapaxes(1, 2) + matrices[:, None, :, 2]
        pictures = landmark_pictures(points, self.square, self.common.landmarks)
        return torch.from_numpy(pictures).to(self.device) / 255


def _inside(share: np.ndarray) -> np.ndarray:
    """A mask with 0 along its edge, (H, W) float32."""
    share = share.astype(np.float32)
    inner = np.zeros_like(share)
    inner[1:-1, 1:-1] = share[1:-1, 1:-1]
    return inner
