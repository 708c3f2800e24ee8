"""Generation with DINet, as ``inference.py`` of the official code does it, without its jitter and its seam."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import cv2
import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from baselines.dinet.faces import VIEW, check_size, crops_at, faces_of, matrix_of
from baselines.dinet.network import Generator, Seen
from baselines.dinet.sound import Heard
from models.base import Crop, Footage, Section, Shot, Speech
from models.layers.mouth_square import MouthSquare
from models.layers.paste import paste


class GenerateConfig(Section):
    """How faces are generated.

    Attributes:
        paste: what of the generated face goes back into the frame. ``square``: the square that was hidden, with soft
            edges around it, where the generator was shown what it is to paint; ``box``: as in the official code, all
            rows above the square's lower edge at full width, to the edge, where the box shows; its values are cut off
            to whole numbers.
        feather: width of the soft edges, as a share of the square's side; there is an eighth on three sides of it.
        inner: how far inside of the square they begin, as such a share. Where what is painted does not go on from what
            is around it, as a reference's neck from that of the frame, a line shows at the square's edge unless this
            is about ``feather``; but the frame's own jaw may show there.
        references: which frames with a face are the reference pictures: ``random`` ones, as in the official code, or
            the ``first``.
        seed: of the draw of random ones, which the official code does not fix.
        smallest: side of the square in a frame, as a share of the side at which it is generated, below which the face
            is too small.
        batch_size: frames that are generated at once; changes no figure.
    """

    paste: Literal["square", "box"] = "square"
    feather: float = Field(default=0.125, gt=0, le=0.125)
    inner: float = Field(default=0.0, ge=0, le=0.125)
    references: Literal["random", "first"] = "random"
    seed: int = Field(default=0, ge=0)
    smallest: float = Field(default=0.125, ge=0)
    batch_size: int = Field(default=8, ge=1)

    def mask(self, square: MouthSquare) -> np.ndarray:
        """(H, W) float32 in [0, 1]: the generated face's share of the result with ``square``; 0 along its edge."""
        width, inner = self.feather * square.mouth, self.inner * square.mouth
        rows = _plateau(square.rows, square.height, width, inner)
        return rows[:, None] * _plateau(square.columns, square.width, width, inner)


def speak(
    config: GenerateConfig,
    generator: Generator,
    square: MouthSquare,
    footage: Footage,
    speech: Speech,
    heard: Heard,
) -> Iterator[np.ndarray]:
    """See :meth:`models.base.Talker.generate`. Besides the references, one batch of frames is in memory at a time.

    The references are drawn once, from all frames with a face; the official code spares the last three. The crops of a
    clip have one radius, where the official code's have one for each frame, and so the face trembles. Before and after
    the sound logits are 0, as in training here, where the official code repeats the outermost ones.

    Args:
        config: how.
        generator: in evaluation mode.
        square: of the faces that it makes.
        footage: who speaks.
        speech: what is said.
        heard: what the generator hears of it.

    Raises:
        ValueError: the face is too small.
    """
    places = np.flatnonzero(footage.detected[: footage.n_unique])
    if not len(places):
        yield from (shot.frame for shot in footage.shots())
        return
    check_size(footage, square, config.smallest)
    speaker = _Speaker(config, generator, square, speech, heard)
    seen = speaker.look(footage, places)
    waiting: list[tuple[Shot, Crop | None]] = []
    for shot in footage.shots():
        waiting.append((shot, footage.crop(VIEW, shot)))
        if len(waiting) == config.batch_size:
            yield from speaker.speak(waiting, seen)
            waiting.clear()
    yield from speaker.speak(waiting, seen)


class _Speaker:
    """The parts of :func:`speak`."""

    def __init__(
        self, config: GenerateConfig, generator: Generator, square: MouthSquare, speech: Speech, heard: Heard
    ) -> None:
        self.config, self.generator, self.square = config, generator, square
        self.speech, self.heard = speech, heard
        self.device = next(generator.parameters()).device
        self.mask = config.mask(square)

    def look(self, footage: Footage, places: np.ndarray) -> Seen:
        """Choose the references from frames with a face; where there are fewer, some come several times."""
        crops = crops_at(footage, self._choose(places))
        return self.generator.look(self._faces(crops).flatten(0, 1)[None])

    def _choose(self, places: np.ndarray) -> np.ndarray:
        count = self.generator.references
        if self.config.references == "first":
            return np.resize(places[:count], count)
        rng = np.random.default_rng(self.config.seed)
        return rng.choice(places, count, replace=len(places) < count)

    def speak(self, shots: Sequence[tuple[Shot, Crop | None]], seen: Seen) -> Iterator[np.ndarray]:
        """Yield the frames of consecutive shots, generated where there is a face."""
        shown = [(shot, crop) for shot, crop in shots if crop is not None]
        if shown:
            sources = self.square.hide(self._faces([crop for _, crop in shown]))
            chunks = np.stack([self.speech.chunk(shot.index, self.heard.sound) for shot, _ in shown])
            sounds = torch.from_numpy(self.heard.of(chunks)).to(self.device)
            painted = 255 * self.generator.paint(sources, seen, sounds).float()
            for (shot, crop), picture in zip(shown, painted.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
                self._paste(shot.frame, picture, crop)
        for shot, _ in shots:
            yield shot.frame

    def _faces(self, crops: Sequence[Crop]) -> Tensor:
        return faces_of(crops, self.square).to(self.device)

    def _paste(self, frame: np.ndarray, picture: np.ndarray, crop: Crop) -> None:
        """Put a (H, W, 3) float32 picture, 0 to 255, into a frame."""
        matrix = matrix_of(crop, self.square)
        if self.config.paste == "square":
            paste(frame, np.rint(picture).astype(np.uint8), matrix, self.mask)
            return
        # The box, in whole pixels: 2.5 r wide, 3.25 r high.
        width, height = (round(size / matrix[i, i]) for i, size in enumerate(picture.shape[1::-1]))
        pixels = cv2.resize(picture, (width, height)).astype(np.uint8)[: height * 12 // 13]
        corner = np.array([[1, 0, matrix[0, 2] / matrix[0, 0]], [0, 1, matrix[1, 2] / matrix[1, 1]]])
        paste(frame, pixels, corner, np.ones((1, 1), np.float32))


def _plateau(inside: slice, size: int, feather: float, inner: float) -> np.ndarray:
    """(size,) float32: 1 in the middle, falling smoothly to 0 over ``feather`` pixels from ``inner`` pixels inside."""
    centres = np.arange(size, dtype=np.float32) + 0.5
    outside = np.maximum(inside.start - centres, centres - inside.stop)
    share = np.clip((feather - 0.5 - inner - outside) / feather, 0, 1)
    # Without a kink, which would be visible on a smooth cheek.
    return share * share * (3 - 2 * share)
