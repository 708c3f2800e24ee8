"""ATVGnet's AT-net: from sound and an example's landmarks to landmarks (``AT_net`` of ``models.py``)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.atvg.layers import channels, conv

#: Rows and coefficients of the MFCC of a frame.
ROWS, COEFFICIENTS = 28, 12
#: Recurrent layers.
LAYERS = 3


class LandmarkNetwork(nn.Module):
    """Coefficients of landmarks, frame by frame.

    Args:
        modes: K, coefficients of a face (code: 6).
        width: factor on the channels of every layer; 1 is the code's size.
        least: the smallest number of channels of a convolution.
        residual: what is computed is added to the example's coefficients.
    """

    def __init__(self, modes: int = 6, width: float = 1.0, least: int = 1, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        c64, c128, c256, c512 = (channels(c, width, least) for c in (64, 128, 256, 512))
        feature, wide = channels(256, width), channels(2048, width)
        self.lmark_encoder = nn.Sequential(
            nn.Linear(modes, feature), nn.ReLU(), nn.Linear(feature, 2 * feature), nn.ReLU()
        )
        self.audio_eocder = nn.Sequential(
            conv(1, c64),
            conv(c64, c128),
            nn.MaxPool2d(3, (1, 2)),
            conv(c128, c256),
            conv(c256, c256),
            conv(c256, c512),
            nn.MaxPool2d(3, (2, 2)),
        )
        # 28 x 12 become 26 x 5, and these 12 x 2.
        self.audio_eocder_fc = nn.Sequential(
            nn.Linear(c512 * 12 * 2, wide), nn.ReLU(), nn.Linear(wide, feature), nn.ReLU()
        )
        self.lstm = nn.LSTM(3 * feature, feature, LAYERS, batch_first=True)
        self.lstm_fc = nn.Sequential(nn.Linear(feature, modes))

    def hear(self, sound: Tensor) -> Tensor:
        """Features of sound; those that AudioDVP and Meta Talk take.

        Args:
            sound: (N, 28, 12) float, the MFCC of a frame: rows of 10 ms, coefficients 1 to 12.

        Returns:
            (N, 256 width) float, not negative.
        """
        features: Tensor = self.audio_eocder_fc(self.audio_eocder(sound[:, None]).flatten(1))
        return features

    def speak(self, example: Tensor, features: Tensor) -> Tensor:
        """(B, K) coefficients of an example and (B, T, 256 width) of :meth:`hear` → (B, T, K) coefficients."""
        face = self.lmark_encoder(example)[:, None].expand(-1, features.shape[1], -1)
        states, _ = self.lstm(torch.cat([face, features], dim=2))
        coefficients: Tensor = self.lstm_fc(states)
        return coefficients + example[:, None] if self.residual else coefficients

    def forward(self, example: Tensor, sound: Tensor) -> Tensor:
        """Landmarks of consecutive frames.

        Args:
            example: (B, K) float, coefficients of the example's landmarks.
            sound: (B, T, 28, 12) float, the MFCC of each frame.

        Returns:
            (B, T, K) float.
        """
        return self.speak(example, self.hear(sound.flatten(0, 1)).unflatten(0, sound.shape[:2]))
