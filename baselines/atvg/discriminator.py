"""ATVGnet's regression-based discriminator: it also finds the landmarks (``GL_Discriminator`` of ``models.py``)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.atvg.layers import channels, conv
from baselines.atvg.picture_network import COARSEST, NUMBERS
from models.layers.narrow import Conv2d


class RegressionDiscriminator(nn.Module):
    """Whether a run of pictures is real, and where its landmarks are.

    Args:
        width: factor on the channels of every layer; 1 is the code's size.
        side: S, of the pictures, pixels, a multiple of 16 (code: 128).
    """

    def __init__(self, width: float = 1.0, side: int = 128) -> None:
        super().__init__()
        c64, c128, c256, c512 = (channels(c, width) for c in (64, 128, 256, 512))
        self.image_encoder_dis = nn.Sequential(
            nn.Sequential(Conv2d(3, c64, 3, 2, 1), nn.ReLU()),
            conv(c64, c128, 3, 2),
            conv(c128, c256, 3, 2),
            conv(c256, c512, 3, 2),
        )
        self.encoder = nn.Sequential(nn.Linear(NUMBERS, c256), nn.ReLU(), nn.Linear(c256, c512), nn.ReLU())
        # Of the official keys; the code never calls it.
        self.decoder = nn.Sequential(
            nn.Linear(2 * c512, c512), nn.ReLU(), nn.Linear(c512, NUMBERS), nn.Tanh()
        )
        self.img_fc = nn.Sequential(nn.Linear(c512 * (side // COARSEST) ** 2, c512), nn.ReLU())
        self.lstm = nn.LSTM(2 * c512, c256, 3, batch_first=True)
        self.lstm_fc = nn.Sequential(nn.Linear(c256, NUMBERS), nn.Tanh())
        self.decision = nn.Sequential(nn.Linear(c256, 1))

    def forward(self, pictures: Tensor, example: Tensor) -> tuple[Tensor, Tensor]:
        """Judge consecutive frames; the code takes 16.

        Args:
            pictures: (B, T, 3, S, S) float in [-1, 1], RGB.
            example: (B, 136) float, landmarks of the example.

        Returns:
            (B,) float logits, whose sigmoid is the code's decision: the mean over the frames. (B, T, 136) float, the
            landmarks that are found.
        """
        batch, frames = pictures.shape[:2]
        seen = self.img_fc(self.image_encoder_dis(pictures.flatten(0, 1)).flatten(1))
        face = self.encoder(example)[:, None].expand(-1, frames, -1)
        states, _ = self.lstm(torch.cat([face, seen.unflatten(0, (batch, frames))], dim=2))
        return self.decision(states).mean((1, 2)), self.lstm_fc(states) + example[:, None]
