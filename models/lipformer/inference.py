"""Generation with LipFormer (Wang et al., CVPR 2023, section 3.2): lip codes of each frame, decoded and put back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from models.base import Crop, Footage, Section, Shot, Speech
from models.layers.paste import paste
from models.lipformer.lips import Halves, Lips
from models.lipformer.pictures import scaled
from prep.sample_spec import Sound

#: The sound of a frame: 16 columns of mel, centred on the frame to within one of them.
SOUND = Sound("mel", offset=-2)

#: Pixels of the view ``aligned512``, along both edges.
VIEW = "aligned512"
SIDE = 512

# Half the width of the pasted region, as a share of the view's. By FFHQ's rule the eyes are at 0.47 of its height, the
# mouth at 0.75 and the chin at about 0.93; cheeks are within 0.3 of the middle.
_FACE = 0.32

# Difference of two faces, 0 to 1, at which the detail of one is added to the other with a factor of 1 / e. With 0.05,
# 0.1 and none LipLMD on the toy test clips was 0.0204, 0.0202 and 0.0222.
_ALIKE = 0.1


class GenerateConfig(Section):
    """How faces are generated.

    Attributes:
        reference: the frame from which the texture of the mouth is taken: the ``first`` with a face (section 4.2), or
            the one with a face that is nearest to the ``middle`` of the video.
        smooth: frames, odd, over which probabilities of lip codes are averaged, those farther away counting less, so
            that a still mouth does not flicker between codes of about the same probability; 1: none.
        paste: what of the generated face goes back into the frame: the lower half of the ``face``, or all of the
            ``lower`` half of the view, neck and background with it.
        feather: width of soft edges, as a share of the view's size.
        detail: how much of what the codes lose of the reference is added to every frame, 0 to 1, see
            :class:`Detail`; not in the paper.
        batch_size: frames that are generated at once.
    """

    reference: Literal["first", "middle"] = "first"
    smooth: int = Field(default=3, ge=1)
    paste: Literal["face", "lower"] = "face"
    feather: float = Field(default=0.05, gt=0, le=0.25)
    detail: float = Field(default=0.0, ge=0, le=1)
    batch_size: int = Field(default=8, ge=1)

    @field_validator("smooth")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd")
        return value

    def mask(self, size: int) -> np.ndarray:
        """(size, size) float32 in [0, 1]: the generated face's share of the result; 0 all over the upper half."""
        at = (np.arange(size, dtype=np.float32) + 0.5) / size
        middle, below = np.abs(at - 0.5)[None], (at - 0.5)[:, None]
        if self.paste == "face":
            # Half of an ellipse with shoulders, so that the jaw is in it.
            radius = ((middle / _FACE) ** 3 + (below.clip(0) / 0.5) ** 3) ** (1 / 3)
            inside = np.minimum((1 - radius) * _FACE, below)
        else:
            inside = np.minimum(np.minimum(0.5 - middle, 0.5 - below), below)
        share = np.clip(inside / self.feather, 0, 1)
        # Without a kink, which would be visible on a smooth cheek.
        return (share * share * (3 - 2 * share)).astype(np.float32)


class Detail:
    """What codes lose of the reference, for frames that are similar to it.

    Where a decoded frame differs from the decoded reference, as an open mouth from a closed one, the reference's detail
    would look like a shadow; there its weight falls, by half at a difference of 0.08 (mean over the colours and a
    neighbourhood of about a twenty-fifth of the face).

    Args:
        reference: (1, 3, S, S) float in [0, 1].
        decoded: what its codes make of it, (1, 3, S, S) float.
        share: of it that is added, 0 to 1.
    """

    def __init__(self, reference: Tensor, decoded: Tensor, share: float) -> None:
        self._decoded = decoded
        self._lost = share * (reference - decoded)

    def added(self, pictures: Tensor) -> Tensor:
        """(B, 3, S, S) float, decoded frames → the same with detail."""
        change = (pictures - self._decoded).abs().mean(dim=1, keepdim=True)
        around = pictures.shape[-1] // 50
        change = F.avg_pool2d(change, 2 * around + 1, stride=1, padding=around, count_include_pad=False)
        return pictures + self._lost * torch.exp(-((change / _ALIKE) ** 2))


class _Reference(NamedTuple):
    """The reference.

    Attributes:
        halves: its encodings, a batch of one.
        detail: for decoded frames; None: none.
    """

    halves: Halves
    detail: Detail | None


@dataclass(frozen=True)
class _Pending:
    """A frame that waits for those after it.

    Attributes:
        shot: it.
        transform: (2, 3) float64, full-frame to view pixels; None where no face was found.
        upper: H_TU, (d, h', w') float; None where no face was found.
        probabilities: of the lip codes, (n, h', w') float32; None where no face was found.
    """

    shot: Shot
    transform: np.ndarray | None = None
    upper: Tensor | None = None
    probabilities: Tensor | None = None


class LipFormerInference:
    """Generates the frames of one footage. About ``batch_size`` frames are in memory at a time.

    Args:
        config: how.
        lips: networks in evaluation mode, on one device.
        size: S, pixels of the faces that the networks see.
        footage: the video.
        speech: the sound.
    """

    def __init__(
        self, config: GenerateConfig, lips: Lips, size: int, footage: Footage, speech: Speech
    ) -> None:
        self.config = config
        self.lips = lips
        self.size = size
        self.footage = footage
        self.speech = speech
        self.device = next(lips.decoder.parameters()).device
        self.mask = config.mask(size)
        self.reach = config.smooth // 2

    def frames(self) -> Iterator[np.ndarray]:
        """Yield ``footage.n_frames`` full frames, (H, W, 3) uint8 RGB; those without a face are the originals."""
        reference = self._reference()
        if reference is None:
            yield from (shot.frame for shot in self.footage.shots())
            return
        # What is yet to be made, after as many of those already made as smoothing looks back at.
        pending: deque[_Pending] = deque()
        done = 0
        for shots in self._batches():
            pending.extend(self._predict(shots, reference.halves))
            ready = len(pending) - self.reach
            if ready > done:
                yield from self._finish(pending, done, ready, reference.detail)
                done = ready
                while done > self.reach:
                    pending.popleft()
                    done -= 1
        yield from self._finish(pending, done, len(pending), reference.detail)

    def _batches(self) -> Iterator[list[Shot]]:
        waiting: list[Shot] = []
        for shot in self.footage.shots():
            waiting.append(shot)
            if len(waiting) == self.config.batch_size:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def _reference(self) -> _Reference | None:
        """What generation takes from the reference; None where no frame has a face."""
        found = np.flatnonzero(self.footage.detected[: self.footage.n_unique])
        if self.config.reference == "middle":
            found = found[np.argsort(np.abs(found - (self.footage.n_unique - 1) / 2), kind="stable")]
        for index in found.tolist():
            # A face may have been found but lie outside of the frame.
            (shot,) = self.footage.pick([index])
            crop = self.footage.crop(VIEW, shot)
            if crop is not None:
                picture = self._pictures([crop])
                halves = self.lips.encode(picture)
                if not self.config.detail:
                    return _Reference(halves, None)
                decoded = self.lips.decoder(halves.upper, halves.lower).float()
                return _Reference(halves, Detail(picture, decoded, self.config.detail))
        return None

    def _predict(self, shots: Sequence[Shot], reference: Halves) -> list[_Pending]:
        seen = [(shot, self.footage.crop(VIEW, shot)) for shot in shots]
        crops = [crop for _, crop in seen if crop is not None]
        if not crops:
            return [_Pending(shot) for shot in shots]
        chunks = [self.speech.chunk(shot.index, SOUND) for shot, crop in seen if crop is not None]
        mels = torch.from_numpy(np.stack(chunks)).to(self.device)
        upper = self.lips.encode_upper(self._pictures(crops))
        repeated = Halves(*(half.expand(len(crops), -1, -1, -1) for half in reference))
        logits = self.lips.predict(self.lips.move(upper, repeated), mels)
        rows = iter(zip(upper, logits.softmax(dim=1), strict=True))
        return [
            _Pending(shot) if crop is None else _Pending(shot, crop.transform, *next(rows))
            for shot, crop in seen
        ]

    def _finish(
        self, pending: Sequence[_Pending], start: int, stop: int, detail: Detail | None
    ) -> Iterator[np.ndarray]:
        """Make frames ``start`` to ``stop`` of ``pending``, of which smoothing sees all."""
        faces: list[tuple[Shot, np.ndarray]] = []
        uppers, codes = [], []
        for place in range(start, stop):
            one = pending[place]
            if one.upper is not None and one.transform is not None:
                faces.append((one.shot, one.transform))
                uppers.append(one.upper)
                codes.append(self._smoothed(pending, place).argmax(dim=0))
        # The last time, those that waited for smoothing come on top of a batch.
        made: list[np.ndarray] = []
        for begin in range(0, len(faces), self.config.batch_size):
            part = slice(begin, begin + self.config.batch_size)
            lower = self.lips.lower.look_up(torch.stack(codes[part]))
            pictures = self.lips.decoder(torch.stack(uppers[part]), lower).float()
            if detail is not None:
                pictures = detail.added(pictures)
            pictures = (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
            made.extend(pictures.permute(0, 2, 3, 1).cpu().numpy())
        for (shot, transform), picture in zip(faces, made, strict=True):
            paste(shot.frame, picture, transform * (self.size / SIDE), self.mask)
        for place in range(start, stop):
            yield pending[place].shot.frame

    def _smoothed(self, pending: Sequence[_Pending], place: int) -> Tensor:
        """Probabilities of the lip codes of one frame, (n, h', w'): a triangle over its neighbours with a face."""
        total = torch.zeros_like(_given(pending[place]))
        for direction in (-1, 1):
            for distance in range(self.reach + 1):
                other = place + direction * distance
                if not 0 <= other < len(pending) or pending[other].probabilities is None:
                    break  # beyond a gap it may be another shot
                # The frame itself comes twice, hence half.
                weight = (self.reach + 1 - distance) / (1 if distance else 2)
                total = total.add(_given(pending[other]), alpha=weight)
        return total

    def _pictures(self, crops: Sequence[Crop]) -> Tensor:
        """(512, 512, 3) uint8 each → (B, 3, S, S) float32 in [0, 1], scaled as in training."""
        return torch.stack([scaled(crop.picture, self.size) for crop in crops]).to(self.device).float() / 255


def _given(one: _Pending) -> Tensor:
    assert one.probabilities is not None
    return one.probabilities
