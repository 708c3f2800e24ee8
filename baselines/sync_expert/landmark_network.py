"""The landmark expert's networks: what they see of lips and hear of sound, and the judge that they make."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from baselines.sync_cca.features import COLUMNS, LIPS, RIGID, aligned

Float32 = npt.NDArray[np.float32]

#: Numbers that are seen of a frame: x, y and z of 40 points.
SEEN = 3 * len(LIPS)
#: Pairs of bands of mel that are heard.
HEARD = 40
#: Where the mirror image of each of :data:`baselines.sync_cca.features.LIPS` stands.
MIRRORED = [*range(10, -1, -1), *range(19, 10, -1), *range(30, 19, -1), *range(39, 30, -1)]

# The rigid points of a mean face of 50 people, symmetric, centred, of size 1; in thousandths, right half and middle.
_HALF = {
    33: (-191, -71, 9), 246: (-184, -63, -1), 161: (-176, -59, -9), 160: (-163, -55, -19), 159: (-141, -52, -25),
    158: (-120, -50, -26), 157: (-98, -51, -19), 173: (-82, -49, -8), 133: (-74, -48, -1), 155: (-81, -47, 1),
    154: (-94, -42, 0), 153: (-114, -37, 2), 145: (-135, -36, 4), 144: (-157, -42, 7), 163: (-171, -51, 9),
    7: (-181, -60, 9), 168: (0, -6, -61), 6: (0, 29, -45), 197: (0, 64, -33), 195: (0, 100, -24),
    5: (0, 138, -14), 48: (-81, 118, 68), 115: (-65, 133, 45), 220: (-46, 150, 26), 45: (-24, 166, 11),
    4: (0, 168, 9),
}  # fmt: skip
# Right → left.
_TWINS = {
    33: 263, 246: 466, 161: 388, 160: 387, 159: 386, 158: 385, 157: 384, 173: 398, 133: 362, 155: 382, 154: 381,
    153: 380, 145: 374, 144: 373, 163: 390, 7: 249, 48: 278, 115: 344, 220: 440, 45: 275,
}  # fmt: skip
_ALL = {**_HALF, **{twin: (-_HALF[k][0], *_HALF[k][1:]) for k, twin in _TWINS.items()}}
_SHAPE = np.array([_ALL[int(k)] for k in RIGID]) / 1000.0
_SHAPE -= _SHAPE.mean(axis=0)
_SHAPE /= np.sqrt(np.square(_SHAPE).sum())

# Lips move by about a hundredth of the size of the rigid points.
_SCALE = 100.0
# Points of sound a frame, and how many frames of them are heard with a frame.
_GRID, _SPAN = 4, 8
# Added to the standard deviation of a band, which has units of 25 dB: quiet bands are not blown up to full size.
_QUIET = 0.5


def lips_of(points: np.ndarray) -> Float32:
    """The lips of frames without the movement of the head and without their mean over the frames.

    Args:
        points: (T, 478, 3) float32, pixels of the full frame, z scaled like x; no NaN.

    Returns:
        (T, 120) float32: x, y, z of 40 points, of size about 1.
    """
    found = aligned(points, _SHAPE).reshape(len(points), SEEN)
    return (_SCALE * (found - found.mean(axis=0))).astype(np.float32)


def standardised(mel: Tensor) -> Tensor:
    """(B, C, 80) → the same without the mean of each band over the columns, and with about the same variance."""
    return (mel - mel.mean(dim=1, keepdim=True)) / (mel.std(dim=1, keepdim=True, correction=0) + _QUIET)


def in_pairs(mel: Tensor, tract: Tensor) -> Tensor:
    """Bands of mel in pairs, as a longer or shorter vocal tract would have them.

    Args:
        mel: (B, C, 80).
        tract: (B,) factor on the numbers of bands; 1: as they are.

    Returns:
        (B, C, 40): at each, a mean of bands that weighs them by their distance.
    """
    bands = torch.arange(80.0, device=mel.device)
    middle = ((torch.arange(HEARD, device=mel.device) + 0.5) * 80 / HEARD - 0.5) * tract[:, None]
    weights = (1 - (middle.clamp(0, 79)[..., None] - bands).abs()).clamp(min=0)
    return mel @ (weights / weights.sum(dim=2, keepdim=True)).transpose(1, 2)


def sounds_of(mel: Tensor, start: Tensor, rate: Tensor, n_frames: int) -> Tensor:
    """Sound at four points a frame, for successive frames and as many before and after as are heard with them.

    Args:
        mel: (B, C, F), columns at 80 a second; beyond its ends it is as at its ends.
        start: (B,) column at which the first frame begins.
        rate: (B,) by how much faster than as they are frames and sound are passed through; 1: 3.2 columns a frame.
        n_frames: T.

    Returns:
        (B, 4 (T + 7), F), between columns by linear interpolation.
    """
    before = (_SPAN - 1) * _GRID // 2
    points = torch.arange(_GRID * (n_frames + _SPAN - 1), device=mel.device)
    frames = (points - before + 0.5) / _GRID
    at = start[:, None] + COLUMNS * rate[:, None] * frames - 0.5
    return between(mel, at)


def between(values: Tensor, at: Tensor) -> Tensor:
    """(B, N, F) at (B, M) positions 0 … N - 1, by linear interpolation, and at the ends beyond them → (B, M, F)."""
    last = values.shape[1] - 1
    at = at.clamp(0, last)
    low = at.long()
    part = (at - low)[..., None]

    def taken(index: Tensor) -> Tensor:
        return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))

    return taken(low) * (1 - part) + taken((low + 1).clamp(max=last)) * part


class LandmarkMember(nn.Module):
    """One pair of networks: lips of ±3 frames, and sound of ±4.

    Args:
        channels: of the lips' hidden layer.
        sound_channels: of the sound's.
        size: D, of the embeddings.
        lip_dropout: share of the hidden layer that is left out in training.
        sound_dropout: the same of the sound's.
    """

    def __init__(
        self, channels: int, sound_channels: int, size: int, lip_dropout: float, sound_dropout: float
    ) -> None:
        super().__init__()
        self.lips = nn.Sequential(
            nn.Conv1d(SEEN, channels, 5, padding=2, padding_mode="replicate"),
            nn.BatchNorm1d(channels),
            nn.GELU(),
            nn.Dropout(lip_dropout),
            nn.Conv1d(channels, size, 3, padding=1, padding_mode="replicate"),
        )
        self.sounds = nn.Sequential(
            nn.Conv1d(HEARD, sound_channels, _GRID * _SPAN, _GRID),
            nn.BatchNorm1d(sound_channels),
            nn.GELU(),
            nn.Dropout(sound_dropout),
            nn.Conv1d(sound_channels, size, 1),
        )


class LandmarkNet(nn.Module):
    """Embeds lips and sound once a frame; the dot product says how well they belong together.

    Several pairs of networks are trained side by side on the same samples; the score is the mean of theirs.

    Args:
        members: pairs of networks.
        channels: see :class:`LandmarkMember`, and so the others.
        sound_channels: of a hidden layer.
        size: D.
        lip_dropout: a share.
        sound_dropout: a share.

    Attributes:
        size: numbers of an embedding of all members together.
    """

    def __init__(
        self,
        members: int,
        channels: int,
        sound_channels: int,
        size: int,
        lip_dropout: float = 0.0,
        sound_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            LandmarkMember(channels, sound_channels, size, lip_dropout, sound_dropout) for _ in range(members)
        )
        self.size = members * size

    def _pairs(self) -> list[LandmarkMember]:
        return cast("list[LandmarkMember]", list(self.members))

    def see(self, lips: Tensor) -> Tensor:
        """(B, T, 120) of :func:`lips_of` → (members, B, T, D) float32."""
        given = lips.transpose(1, 2)
        return torch.stack([member.lips(given).transpose(1, 2) for member in self._pairs()]).float()

    def hear(self, sounds: Tensor) -> Tensor:
        """(B, 4 (T + 7), 40) of :func:`sounds_of` → (members, B, T, D) float32."""
        given = sounds.transpose(1, 2)
        return torch.stack([member.sounds(given).transpose(1, 2) for member in self._pairs()]).float()

    def forward(self, lips: Tensor, sounds: Tensor) -> tuple[Tensor, Tensor]:
        """Lips and sound of as many frames → what :meth:`see` and :meth:`hear` make of them, without their means over
        the frames."""
        seen, heard = self.see(lips), self.hear(sounds)
        return seen - seen.mean(dim=2, keepdim=True), heard - heard.mean(dim=2, keepdim=True)


class LandmarkJudge:
    """A trained landmark expert as a sync judge: numbers of whole clips in, one embedding a frame out.

    ``see(points)[t] @ hear(mel, n)[t + d]`` is the score of sound shifted by d frames. It has no unit; a clip's means
    are removed, so that lips that do not move score 0.

    Args:
        network: trained; is put into evaluation mode.
    """

    def __init__(self, network: LandmarkNet) -> None:
        self.network = network.eval()

    @torch.no_grad()
    def see(self, points: np.ndarray) -> Float32:
        """Embed the lips of each frame of a clip.

        Args:
            points: (T, 478, 3) float32, pixels of the full frame, z scaled like x; NaN rows where there is no face. For
                the frames around it, such a frame is the nearest one with a face.

        Returns:
            (T, members · D) float32; NaN rows where there is no face.
        """
        there = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
        found = np.full((len(points), self.network.size), np.nan, np.float32)
        if len(there):
            nearest = np.abs(np.arange(len(points))[:, None] - there).argmin(axis=1)
            lips = torch.from_numpy(lips_of(points[there])[nearest])[None].to(self._device)
            seen = self.network.see(lips)[:, 0][:, torch.from_numpy(there)]
            found[there] = _flat(seen) / len(self.network.members)
        return found

    @torch.no_grad()
    def hear(self, mel: np.ndarray, n_frames: int) -> Float32:
        """Embed the sound of each frame of a clip.

        Args:
            mel: (C, 80) float32 in [-4, 4], 80 columns a second.
            n_frames: frames at 25 a second.

        Returns:
            (n_frames, members · D) float32; NaN rows of frames whose middle lies beyond the sound.
        """
        found = np.full((n_frames, self.network.size), np.nan, np.float32)
        heard = int((((np.arange(n_frames) + 0.5) * COLUMNS).astype(int) < len(mel)).sum())
        if heard:
            given = torch.from_numpy(np.ascontiguousarray(mel, np.float32))[None].to(self._device)
            one = torch.ones(1, device=self._device)
            sounds = sounds_of(in_pairs(standardised(given), one), 0 * one, one, heard)
            found[:heard] = _flat(self.network.hear(sounds)[:, 0])
        return found

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


def _flat(embedded: Tensor) -> Float32:
    """(members, T, D) → (T, members · D) less the mean over frames."""
    centred = embedded - embedded.mean(dim=1, keepdim=True)
    flat: Float32 = centred.transpose(0, 1).flatten(1).cpu().numpy()
    return flat
