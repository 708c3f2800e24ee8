"""Generation with Wav2Lip, as ``inference.py`` of the official code does it, and with a softer seam."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from baselines.wav2lip.network import SIZE, see
from baselines.wav2lip.sound import SOUNDS
from models.base import Crop, Footage, Section, Shot, Speech
from models.layers.paste import paste

#: The view that the network sees.
VIEW = "face96"


class GenerateConfig(Section):
    """How faces are generated.

    Attributes:
        paste: what of the generated face goes back into the frame. ``lower``: the lower half, which is all that
            the method paints anew, with soft edges; ``face``: all of it, with soft edges; ``box``: all of it, to
            the edge, as in the official code, where the box shows.
        feather: width of soft edges, as a share of the face's box, of which less than a tenth lies under the chin.
        batch_size: frames that are generated at once (code: 128).
        reference: which picture of the face the generator is given besides the upper half. ``self``: the frame itself,
            with its mouth, as in the official code, so that where a clip is driven by its own sound, the generator sees
            the mouth that it is to generate; ``first``: the first frame with a face.
        sound: what is heard with a frame, a key of :data:`baselines.wav2lip.sound.SOUNDS`. ``wav2lip``: as the
            official inference; ``wav2lip-generator``: as the official training, a frame earlier.
    """

    paste: Literal["lower", "face", "box"] = "lower"
    feather: float = Field(default=0.08, gt=0, le=0.25)
    batch_size: int = Field(default=16, ge=1)
    reference: Literal["self", "first"] = "self"
    sound: Literal["wav2lip", "wav2lip-generator"] = "wav2lip"

    def mask(self, side: int = SIZE) -> np.ndarray:
        """(side, side) float32 in [0, 1]: the generated face's share of the result."""
        rows = columns = np.ones(side, np.float32)
        if self.paste != "box":
            columns = _trapezium(0, side, self.feather)
            rows = _trapezium(side // 2 if self.paste == "lower" else 0, side, self.feather)
        return rows[:, None] * columns


def speak(
    config: GenerateConfig,
    generator: nn.Module,
    footage: Footage,
    speech: Speech,
    view: str = VIEW,
    side: int = SIZE,
) -> Iterator[np.ndarray]:
    """See :meth:`models.base.Talker.generate`. One batch of frames is in memory at a time.

    Args:
        config: how.
        generator: takes and gives what :meth:`baselines.wav2lip.network.Generator.forward` does.
        footage: who speaks.
        speech: what is said.
        view: that the generator sees, a square.
        side: of the view, pixels.
    """
    mask = config.mask(side)
    waiting: list[tuple[Shot, Crop | None]] = []
    reference = None
    for shot in footage.shots():
        crop = footage.crop(view, shot)
        if reference is None and config.reference == "first" and crop is not None:
            reference = crop.picture
        waiting.append((shot, crop))
        if len(waiting) == config.batch_size:
            yield from _speak(generator, waiting, reference, speech, config.sound, mask)
            waiting.clear()
    yield from _speak(generator, waiting, reference, speech, config.sound, mask)


def _speak(
    generator: nn.Module,
    shots: list[tuple[Shot, Crop | None]],
    reference: np.ndarray | None,
    speech: Speech,
    sound: str,
    mask: np.ndarray,
) -> Iterator[np.ndarray]:
    shown = [(shot, crop) for shot, crop in shots if crop is not None]
    if shown:
        device = next(generator.parameters()).device
        crops = torch.from_numpy(np.stack([crop.picture for _, crop in shown])).to(device)
        mels = torch.from_numpy(np.stack([speech.chunk(shot.index, SOUNDS[sound]) for shot, _ in shown])).to(
            device
        )
        frames = crops.permute(0, 3, 1, 2) / 255
        # The frame itself: head and light are right, and the generator has learnt not to copy the mouth from it.
        references = frames
        if reference is not None:
            first = torch.from_numpy(reference).to(device).permute(2, 0, 1) / 255
            references = first.expand_as(frames)
        painted = generator(mels, see(frames, references)).float().flip(1) * 255
        # Rounded where the official code cuts off.
        pictures = painted.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        for (shot, crop), picture in zip(shown, pictures, strict=True):
            paste(shot.frame, picture, crop.transform, mask)
    for shot, _ in shots:
        yield shot.frame


def _trapezium(start: int, side: int, feather: float) -> np.ndarray:
    """(side,) float32: 0 before ``start``, rising smoothly to 1 over ``feather`` of the side from both ends."""
    inside = np.arange(side, dtype=np.float32)
    ramp = np.minimum(inside - start, side - 1 - inside) / (feather * side)
    ramp = np.clip(ramp, 0, 1)
    # Without a kink, which would be visible on a smooth cheek.
    return ramp * ramp * (3 - 2 * ramp)
