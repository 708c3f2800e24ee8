"""Generation with IP-LAP: landmarks from sound, sketches, faces, and full frames with the faces in them.

Zhong et al., CVPR 2023, sections 3 and 4.1, and ``inference_single.py`` where the paper says nothing: every frame
has a window of its own, whose landmarks are predicted together and drawn as the sketches around that frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import cv2
import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from models.base import Footage, Section, Shot, Speech
from models.ipl.landmark import POSE, LandmarkNetwork
from models.ipl.renderer import SKETCHES, References, Renderer
from models.ipl.sketch import SIZE, draw_sketches
from models.ipl.sound import SOUNDS
from models.ipl.track import Track
from models.layers.paste import paste

# The face's outline: temples and jaw, and the upper edges of the brows.
_OUTLINE = np.array([*range(8), *range(8, 13), *range(18, 23), *range(74, 91)])
# Pixels over which the mask falls to 0 inside of a box without much room around the face.
_RAMP = 5


class GenerateConfig(Section):
    """How faces are generated.

    Attributes:
        margin: pixels around the landmarks that are cut out and generated; 5 in training, 25 in the official
            inference.
        over: landmarks count over the ``box`` as it is, as in training, or over the integer ``crop``, as in the
            official inference.
        smoothing: frames, odd, over which detected landmarks are averaged; 1: none, as in the official code.
        references: pictures that the renderer takes the face from, as a share of the frames with a face.
        max_references: such pictures at most.
        mel: what is heard with a frame, a key of :data:`models.ipl.sound.SOUNDS`;
            ``iplap-inference`` lets frames 0 and 1 hear what frame 2 hears.
        blur: pixels, odd, of the Gaussian that softens the mask; its sigma is 11/21 of it.
        batch_size: frames that are generated at once.
    """

    margin: float = Field(default=5, ge=0)
    over: Literal["box", "crop"] = "box"
    smoothing: int = Field(default=1, ge=1)
    references: float = Field(default=0.2, gt=0, le=1)
    max_references: int = Field(default=50, ge=1)
    mel: Literal["iplap", "iplap-inference"] = "iplap"
    blur: int = Field(default=21, ge=1)
    batch_size: int = Field(default=8, ge=1)

    @field_validator("smoothing", "blur")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd")
        return value


class IPLInference:
    """Generates the frames of one footage. Memory grows with the references, not with the footage's pictures.

    Args:
        config: how.
        landmark: in evaluation mode.
        renderer: in evaluation mode, on the same device.
        window: frames whose landmarks are predicted together, T.
        n_landmarks: frames whose landmarks the landmark generator is given, N_l.
        footage: the video.
        speech: the sound.
    """

    def __init__(
        self,
        config: GenerateConfig,
        landmark: LandmarkNetwork,
        renderer: Renderer,
        window: int,
        n_landmarks: int,
        footage: Footage,
        speech: Speech,
    ) -> None:
        self.config = config
        self.landmark = landmark
        self.renderer = renderer
        self.window = max(window, SKETCHES)
        self.n_landmarks = n_landmarks
        self.footage = footage
        self.speech = speech
        self.device = next(renderer.parameters()).device
        self.track = Track(
            footage,
            config.margin,
            config.over,
            config.smoothing,
        )

    def frames(self) -> Iterator[np.ndarray]:
        """Yield ``footage.n_frames`` full frames, (H, W, 3) uint8 RGB; those without a face are the originals."""
        if not self.track.found.any():
            yield from (shot.frame for shot in self.footage.shots())
            return
        prior = self._prior_landmarks()
        references = self._references()
        waiting: list[Shot] = []
        for shot in self.footage.shots():
            waiting.append(shot)
            if len(waiting) == self.config.batch_size:
                yield from self._speak(waiting, prior, references)
                waiting.clear()
        yield from self._speak(waiting, prior, references)

    def _prior_landmarks(self) -> Tensor:
        """(1, N_l, 2, 131) float32, at equal ranks of how far the lips are open."""
        frames = self.track.ranked(self.n_landmarks, self.footage.n_unique)
        return self._tensor(self.track.points(frames).swapaxes(1, 2))[None]

    def _references(self) -> References:
        """Pictures and sketches, at equal ranks of how far the lips are open."""
        track, end = self.track, self.footage.n_unique
        count = round(self.config.references * int(track.found[:end].sum()))
        frames = track.ranked(min(max(count, 1), self.config.max_references), end)
        # Read in order and cropped at once: full frames of all of them could be gigabytes.
        wanted, last, crops = set(frames.tolist()), int(frames.max()), {}
        for shot in self.footage.shots():
            if shot.index in wanted:
                crops[shot.index] = self._crop(shot)
            if shot.index == last:
                break
        pictures = _pictures(np.stack([crops[frame] for frame in frames.tolist()]), self.device)
        sketches = draw_sketches(track.points(frames), track.sizes(frames))
        return self.renderer.encode_references(pictures[None], _three(self._tensor(sketches))[None])

    def _speak(self, shots: list[Shot], prior: Tensor, references: References) -> Iterator[np.ndarray]:
        """Yield the frames of consecutive shots, generated where there is a face."""
        shown = [shot for shot in shots if self.track.found[shot.index]]
        if shown:
            frames = np.array([shot.index for shot in shown])
            sketches, mels = self._listen(frames, prior)
            targets = _pictures(np.stack([self._crop(shot) for shot in shown]), self.device)
            rendered = self.renderer.render(targets, sketches, references, mels).face
            faces = (rendered.float().flip(1) * 255).round().clamp(0, 255).to(torch.uint8)
            for shot, face in zip(shown, faces.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
                self._paste(shot, face)
        for shot in shots:
            yield shot.frame

    def _listen(self, frames: np.ndarray, prior: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 5, 3, 128, 128) target sketches and (B, 80, 16) mel chunks of (B,) frames.

        A window that leaves the footage repeats its first or last frame; where a frame of it has no face, the
        pose of the nearest frame with a face is used.
        """
        before = self.window // 2
        windows = frames[:, None] + np.arange(-before, self.window - before)
        windows = windows.clip(0, self.footage.n_frames - 1)
        heard, which = np.unique(windows, return_inverse=True)
        chunks = self._tensor(np.stack([self.speech.chunk(int(f), SOUNDS[self.config.mel]) for f in heard]))
        mels = chunks[torch.from_numpy(which.reshape(windows.shape)).to(self.device)]

        posed = self.track.nearest[windows]
        points = self.track.points(posed)
        pose = self._tensor(points[:, :, :POSE].swapaxes(2, 3))
        known = prior.expand(len(frames), -1, -1, -1)
        content = self.landmark(mels[:, :, None], pose, known[..., :POSE], known[..., POSE:])
        points[:, :, POSE:] = content.float().cpu().numpy()

        around = np.s_[:, before - SKETCHES // 2 : before + SKETCHES // 2 + 1]
        sizes = self.track.sizes(posed[around])
        sketches = draw_sketches(points[around].reshape(-1, 131, 2), sizes.reshape(-1, 2))
        return _three(self._tensor(sketches)).unflatten(0, (len(frames), SKETCHES)), mels[:, before]

    def _crop(self, shot: Shot) -> np.ndarray:
        """(128, 128, 3) uint8, what the box of a frame shows."""
        x0, y0, x1, y1 = self.track.boxes[shot.index]
        return cv2.resize(shot.frame[y0:y1, x0:x1], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)

    def _paste(self, shot: Shot, face: np.ndarray) -> None:
        x0, y0, x1, y1 = self.track.boxes[shot.index].tolist()
        scale_x, scale_y = SIZE / (x1 - x0), SIZE / (y1 - y0)
        transform = [[scale_x, 0, -x0 * scale_x], [0, scale_y, -y0 * scale_y]]
        size = (self.footage.width, self.footage.height)
        mask = face_mask(self.track.pixels(shot.index), (x0, y0, x1, y1), size, self.config.blur)
        paste(shot.frame, face, transform, mask)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


def face_mask(
    points: np.ndarray, box: tuple[int, int, int, int], frame_size: tuple[int, int], blur: int
) -> np.ndarray:
    """The Gaussian-smoothed mask of figure 3: the face from the brows to the jaw.

    IP-LAP's code draws it from the 68 points of a second detector, here the mesh gives the same outline. It
    counts on a box with room around the face, 25 pixels; in narrower ones the mask fades out before the edge.

    Args:
        points: (131, 2) float, full-frame pixels.
        box: x0, y0, x1, y1, within the frame.
        frame_size: width and height of the frame.
        blur: pixels, odd, of the Gaussian; its sigma is 11/21 of it, as 11 to 21 in the official code.

    Returns:
        (y1 - y0, x1 - x0) float32 in [0, 1], 0 or near it along each edge that is not the frame's.
    """
    x0, y0, x1, y1 = box
    mask = np.zeros((y1 - y0, x1 - x0), np.float32)
    outline = (points[_OUTLINE] - (x0, y0)).astype(np.int32, order="C")
    cv2.fillConvexPoly(mask, cv2.convexHull(outline), 1.0)
    mask = cv2.GaussianBlur(mask, (blur, blur), blur * 11 / 21, borderType=cv2.BORDER_REPLICATE)
    for axis, (low, high, size) in enumerate(((y0, y1, frame_size[1]), (x0, x1, frame_size[0]))):
        ramp = np.minimum((np.arange(high - low, dtype=np.float32) + 0.5) / _RAMP, 1)
        fade = (ramp if low > 0 else 1) * (ramp[::-1] if high < size else 1)
        mask *= np.expand_dims(fade, 1 - axis)
    return mask


def _pictures(crops: np.ndarray, device: torch.device) -> Tensor:
    """(n, 128, 128, 3) uint8 RGB → (n, 3, 128, 128) float32 BGR in [0, 1]."""
    return torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).flip(1) / 255


def _three(sketches: Tensor) -> Tensor:
    """(n, 128, 128) uint8 → (n, 3, 128, 128) float32 in [0, 1]."""
    return (sketches[:, None] / 255).expand(-1, 3, -1, -1)
