"""ATVGnet's VG-net: from a picture and landmarks to pictures (``VG_net`` of ``models.py``)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from baselines.atvg.layers import ConvGRU, ResidualBlock, channels, conv, doubled
from models.layers.narrow import Conv2d

#: Numbers of a face's landmarks: x, y of one point after the other.
NUMBERS = 136
#: The side of the smallest map is that of the pictures over this.
COARSEST = 16


class Painted(NamedTuple):
    """What is painted of T frames.

    Attributes:
        pictures: (B, T, 3, S, S) in [-1, 1], RGB: colour where there is attention, else the example's picture.
        attention: (B, T, 1, S, S) in [0, 1].
        colour: (B, T, 3, S, S) in [-1, 1], RGB.
        landmark_attention: (B, T, 1, S / 4, S / 4) in [0, 1]: where features follow the landmarks, not the example.
        state: of the recurrent layer after the last frame.
    """

    pictures: Tensor
    attention: Tensor
    colour: Tensor
    landmark_attention: Tensor
    state: Tensor


class PictureNetwork(nn.Module):
    """Paints an example's face with other landmarks: MMCRNN, with attention.

    Frames are computed together where the code goes through them one by one, so batch normalisation in training takes
    its moments over all frames of a batch.

    Args:
        width: factor on the channels of every layer; 1 is the code's size.
        least: the smallest number of channels of a layer.
        side: S, of the pictures, pixels, a multiple of 16 (code: 128).
        blocks: residual blocks after the recurrent layer (code: 9).
        dropout: rate within them (code: 0.5).
        recur: what the recurrent layer goes along. ``time``: the frames, as the paper says; ``batch``: the samples of a
            batch, as the code does, which leaves out ``batch_first``: the frames of one sample alone know nothing of
            each other. Official weights were trained so.
    """

    def __init__(
        self,
        width: float = 1.0,
        least: int = 1,
        side: int = 128,
        blocks: int = 9,
        dropout: float = 0.5,
        recur: Literal["time", "batch"] = "time",
    ) -> None:
        super().__init__()
        c32, c64, c128, c256, c512 = (channels(c, width, least) for c in (32, 64, 128, 256, 512))
        self.recur = recur
        self._coarse = side // COARSEST
        self.image_encoder1 = nn.Sequential(
            nn.ReflectionPad2d(3), conv(3, c64, 7, 1, 0), conv(c64, c64, 3, 2), conv(c64, c128, 3, 2)
        )
        self.image_encoder2 = nn.Sequential(conv(c128, c256, 3, 2), conv(c256, c512, 3, 2))
        self.landmark_encoder = nn.Sequential(nn.Linear(NUMBERS, self._coarse**2), nn.ReLU())
        self.landmark_encoder_stage2 = nn.Sequential(conv(1, c256))
        self.lmark_att = nn.Sequential(
            *doubled(2 * c256, c256, bias=True),
            *doubled(c256, c128, bias=True),
            nn.Sequential(Conv2d(c128, 1, 3, 1, 1), nn.Sigmoid()),
        )
        self.lmark_feature = nn.Sequential(conv(c256, c512))
        self.generator1 = nn.Sequential(
            *(ResidualBlock(c512, dropout) for _ in range(blocks)),
            *doubled(c512, c256, bias=False),
            *doubled(c256, c128, bias=False),
        )
        self.base = nn.Sequential(*doubled(c128, c64, bias=False), *doubled(c64, c32, bias=False))
        self.generator_color = nn.Sequential(Conv2d(c32, 3, 7, 1, 3), nn.Tanh())
        self.generator_attention = nn.Sequential(Conv2d(c32, 1, 7, 1, 3), nn.Sigmoid())
        self.bottle_neck = nn.Sequential(conv(2 * c512, c128))
        self.convGRU = ConvGRU(c128, c512)

    def forward(
        self, example: Tensor, landmarks: Tensor, example_landmarks: Tensor, state: Tensor | None = None
    ) -> Painted:
        """Paint consecutive frames.

        Args:
            example: (B, E, 3, S, S) float in [-1, 1], RGB: E is T, an example for each frame, or 1, one for all.
            landmarks: (B, T, 136) float, about -1 to 1.
            example_landmarks: (B, E, 136) float, those of the examples.
            state: of the frames before, with ``recur="time"``; None: there are none.
        """
        batch, frames = landmarks.shape[:2]
        shallow = self.image_encoder1(example.flatten(0, 1))
        known, asked = self._place(example_landmarks), self._place(landmarks)
        # One example for all frames is encoded once.
        deep, shallow, known_feature, known, under = (
            one.unflatten(0, (batch, -1)).expand(-1, frames, -1, -1, -1).flatten(0, 1)
            for one in (
                self.image_encoder2(shallow),
                shallow,
                self.lmark_feature(known),
                known,
                example.flatten(0, 1),
            )
        )
        followed = self.lmark_att(torch.cat([asked, known], dim=1))
        change = self.lmark_feature(asked) - known_feature
        maps = self.bottle_neck(torch.cat([deep, change], dim=1)).unflatten(0, (batch, frames))
        if self.recur == "time":
            maps, state = self.convGRU(maps.transpose(0, 1), state)
            maps = maps.transpose(0, 1)
        else:
            maps, state = self.convGRU(maps)
        made = self.generator1(maps.flatten(0, 1))
        base = self.base(shallow * (1 - followed) + made * followed)
        colour, attention = self.generator_color(base), self.generator_attention(base)
        pictures = attention * colour + (1 - attention) * under
        shaped = (one.unflatten(0, (batch, frames)) for one in (pictures, attention, colour, followed))
        return Painted(*shaped, state)  # type: ignore[call-arg]

    def _place(self, landmarks: Tensor) -> Tensor:
        """(B, T, 136) → (B T, 256 width, S / 16, S / 16)."""
        spread = self.landmark_encoder(landmarks.flatten(0, 1))
        placed: Tensor = self.landmark_encoder_stage2(spread.view(-1, 1, self._coarse, self._coarse))
        return placed
