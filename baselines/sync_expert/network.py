"""The expert's network: a colour SyncNet (Prajwal et al., ACM MM 2020, section 3.2), and the part of the picture that
it sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.conv import ConvBlock, audio_encoder
from prep.sample_spec import Sound

#: Consecutive frames that the expert sees at once: 0.2 s, as long as its 16 columns of mel.
FRAMES = 5
#: What it hears with the first of them: the 16 columns of mel that start with it.
SOUND = Sound("mel")


@dataclass(frozen=True)
class Lips:
    """The part of a view that the expert sees.

    Attributes:
        top: first row.
        left: first column.
        height: rows.
        width: columns.
        strides: of the first two convolutions, (down, across); the official ones leave 3×3 of 48×96.
        view: height and width of the view.
    """

    top: int
    left: int
    height: int
    width: int
    strides: tuple[tuple[int, int], tuple[int, int]]
    view: tuple[int, int]

    @property
    def shrinks(self) -> int:
        """By how much the first two convolutions make a picture less high."""
        return self.strides[0][0] * self.strides[1][0]

    def divided(self, by: int) -> Lips:
        """The same part of a view that is ``by`` times smaller; ``by`` divides all sides."""
        return Lips(
            self.top // by,
            self.left // by,
            self.height // by,
            self.width // by,
            self.strides,
            (self.view[0] // by, self.view[1] // by),
        )

    def cut(self, frames: Tensor) -> Tensor:
        """(…, 3, H, W) RGB pictures of the view → (…, 3, height, width), BGR."""
        rows, columns = slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)
        return frames[..., rows, columns].flip(-3)


#: View → what is seen of it: the lower half of Wav2Lip's face, the same for SyncTalkFace, the mouth region of G4G and
#: DINet.
LIPS = {
    "face96": Lips(48, 0, 48, 96, ((1, 1), (1, 2)), (96, 96)),
    "face128": Lips(64, 0, 64, 128, ((1, 1), (1, 2)), (128, 128)),
    "mouth416x320": Lips(128, 32, 256, 256, ((2, 2), (2, 2)), (416, 320)),
}


class SyncNet(nn.Module):
    """Embeds five frames of a mouth, and 16 columns of mel; the cosine of the two is high where they belong together.

    With ``view="face96"`` and ``width=1`` the keys are those of the official ``SyncNet_color``.

    Args:
        view: a key of :data:`LIPS`.
        width: factor on the channels of every layer and on the size D = 512 of the embeddings.
        coarse: whether the picture is halved first.
        apart: whether each frame is encoded by itself, see :class:`FrameEncoder`, and bands of mel are channels, see
            :func:`_band_encoder`: fewer weights and a tenth of the work. The official network is not made so.

    Raises:
        KeyError: unknown view.
    """

    def __init__(
        self, view: str = "face96", width: float = 1.0, coarse: bool = False, apart: bool = False
    ) -> None:
        super().__init__()
        self.seen = LIPS[view]
        self.face_encoder = (
            FrameEncoder(self.seen, width, coarse) if apart else _face_encoder(self.seen, width, coarse)
        )
        if apart:
            self.audio_encoder = _band_encoder(width)
            return
        layers = list(audio_encoder(width))
        c256 = _scaled(256, width)
        self.audio_encoder = nn.Sequential(
            *layers[:11], ConvBlock(c256, c256, 3, 1, 1, residual=True), *layers[11:]
        )

    def lips(self, frames: Tensor) -> Tensor:
        """Cut out what the expert sees.

        Args:
            frames: (B, 5, 3, H, W) float in [0, 1], RGB, of the expert's view; with ``apart`` the view may be by a
                whole number smaller, down to the size at which frames are encoded.

        Returns:
            (B, 15, h, w), BGR, frame after frame.
        """
        return self.seen.divided(self.seen.view[0] // frames.shape[-2]).cut(frames).flatten(1, 2)

    def see(self, lips: Tensor) -> Tensor:
        """(B, 15, h, w) of :meth:`lips` → (B, D) float32, of length 1, no component below 0."""
        return _unit(self.face_encoder(lips))

    def hear(self, mels: Tensor) -> Tensor:
        """(B, 80, 16) in [-4, 4] → (B, D) float32, of length 1, no component below 0."""
        return _unit(self.audio_encoder(mels.unsqueeze(1)))

    def forward(self, mels: Tensor, lips: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 80, 16) and (B, 15, h, w) → what :meth:`hear` and :meth:`see` make of them."""
        return self.hear(mels), self.see(lips)


class FrameEncoder(nn.Module):
    """Encodes frames one by one, each of even brightness and contrast, and joins what it found in five of them.

    Windows that overlap share the work on their frames, and what is found in a frame can be compared with the landmarks
    of that frame (:mod:`baselines.sync_expert.distilling`).

    Args:
        seen: the part of the view.
        width: factor on the channels and on the size F = 192 of a frame's features.
        coarse: whether the picture is halved first.

    Attributes:
        size: F.
    """

    def __init__(self, seen: Lips, width: float, coarse: bool) -> None:
        super().__init__()
        c32, c64, c128, c256, c512 = (_scaled(c, width) for c in (32, 64, 128, 256, 512))
        encoded = seen.divided(seen.shrinks * (2 if coarse else 1))
        left = (_eighth(encoded.height), _eighth(encoded.width))
        self.size = _scaled(192, width)
        self.smaller = nn.AdaptiveAvgPool2d((encoded.height, encoded.width))
        # Variances below (0.05)² are noise.
        self.even = nn.InstanceNorm2d(3, eps=0.0025)
        self.each = nn.Sequential(
            ConvBlock(3, c32, 3, 1, 1),
            ConvBlock(c32, c64, 3, 2, 1),
            ConvBlock(c64, c64, 3, 1, 1),
            ConvBlock(c64, c128, 3, 2, 1),
            ConvBlock(c128, c128, 3, 1, 1),
            ConvBlock(c128, c256, 3, 2, 1),
            ConvBlock(c256, c256, 3, 1, 1),
            nn.Flatten(),
            nn.Linear(c256 * left[0] * left[1], self.size),
        )
        self.joined = ConvBlock(FRAMES * self.size, c512, 1, 1, 0)

    def forward(self, lips: Tensor) -> Tensor:
        """(B, 15, h, w), BGR → (B, D, 1, 1), no component below 0."""
        frames = lips.unflatten(1, (FRAMES, 3)).flatten(0, 1)
        return self.join(self.features(self.smaller(frames)).unflatten(0, (-1, FRAMES)))

    def features(self, frames: Tensor) -> Tensor:
        """What ``smaller`` gives of frames, (n, 3, h', w'), BGR in [0, 1] → (n, F)."""
        # In this layout so few channels take two thirds of the time on a CPU.
        return self.each(self.even(frames).contiguous(memory_format=torch.channels_last))

    def join(self, features: Tensor) -> Tensor:
        """(B, 5, F) of the frames of a window → (B, D, 1, 1), no component below 0."""
        return self.joined(features.flatten(1)[:, :, None, None])


def cosine_bce(cosine: Tensor, target: float) -> Tensor:
    """Binary cross-entropy with a cosine as the probability that sound and mouth belong together.

    The official loss: the embeddings come out of a ReLU, so that their cosine is never negative, and no sigmoid
    is put over it. It is kept away from 0 and 1, which rounding can reach and where loss or gradient would be infinite.

    Args:
        cosine: any shape, in [0, 1].
        target: 1: they belong together; 0: they do not.

    Returns:
        () float32.
    """
    probability = cosine.float().clamp(1e-5, 1 - 1e-5)
    return -(target * probability.log() + (1 - target) * torch.log1p(-probability)).mean()


def _band_encoder(width: float) -> nn.Sequential:
    """(B, 1, 80, 16) → (B, 512 width, 1, 1): convolutions over time, in which the bands are channels."""
    c256, c512 = _scaled(256, width), _scaled(512, width)
    return nn.Sequential(
        ConvBlock(1, c256, (80, 3), 1, (0, 1)),
        ConvBlock(c256, c256, (1, 3), (1, 2), (0, 1)),
        ConvBlock(c256, c256, (1, 3), (1, 2), (0, 1)),
        nn.Dropout(0.3),
        ConvBlock(c256, c512, (1, 4), 1, 0),
    )


def _face_encoder(seen: Lips, width: float, coarse: bool) -> nn.Sequential:
    c32, c64, c128, c256, c512 = (_scaled(c, width) for c in (32, 64, 128, 256, 512))
    first, second = seen.strides
    if coarse:
        first = (2 * first[0], 2 * first[1])
    layers = [
        ConvBlock(3 * FRAMES, c32, 7, first, 3),
        ConvBlock(c32, c64, 5, second, 1),
        ConvBlock(c64, c64, 3, 1, 1, residual=True),
        ConvBlock(c64, c64, 3, 1, 1, residual=True),
        ConvBlock(c64, c128, 3, 2, 1),
        ConvBlock(c128, c128, 3, 1, 1, residual=True),
        ConvBlock(c128, c128, 3, 1, 1, residual=True),
        ConvBlock(c128, c128, 3, 1, 1, residual=True),
        ConvBlock(c128, c256, 3, 2, 1),
        ConvBlock(c256, c256, 3, 1, 1, residual=True),
        ConvBlock(c256, c256, 3, 1, 1, residual=True),
        ConvBlock(c256, c512, 3, 2, 1),
        ConvBlock(c512, c512, 3, 1, 1, residual=True),
        ConvBlock(c512, c512, 3, 1, 1, residual=True),
        ConvBlock(c512, c512, 3, 2, 1),
    ]
    down, across = seen.height, seen.width
    for layer in layers:
        conv = layer.conv_block[0]
        assert isinstance(conv, nn.Conv2d) and isinstance(conv.padding, tuple)
        down = (down + 2 * conv.padding[0] - conv.kernel_size[0]) // conv.stride[0] + 1
        across = (across + 2 * conv.padding[1] - conv.kernel_size[1]) // conv.stride[1] + 1
    # Over all that is left: 3×3 officially.
    layers += [ConvBlock(c512, c512, (down, across), 1, 0), ConvBlock(c512, c512, 1, 1, 0)]
    return nn.Sequential(*layers)


def _eighth(pixels: int) -> int:
    """What three convolutions of stride 2 leave."""
    return -(-pixels // 8)


def _unit(maps: Tensor) -> Tensor:
    # Half precision would round a cosine near 1 by 0.004.
    return F.normalize(maps.float().flatten(1), dim=1)


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))
