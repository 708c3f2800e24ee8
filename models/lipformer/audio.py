"""LipFormer's audio encoder (Wang et al., CVPR 2023, equation 5)."""

from __future__ import annotations

from torch import Tensor, nn

from models.layers.conv import audio_encoder


class AudioEncoder(nn.Module):
    """E_Aud: the sound around a frame, as a vector.

    The paper names "a convolutional network" on Wav2Lip's 16 × 80 mel spectrogram, so it is Wav2Lip's.

    Args:
        width: factor on the channels of every layer; 1 is Wav2Lip's size.

    Attributes:
        dim: elements of F_Aud, 512 ``width``.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.layers = audio_encoder(width)
        self.dim = max(1, round(512 * width))

    def forward(self, mel: Tensor) -> Tensor:
        """(B, 80, 16) float in [-4, 4] → F_Aud, (B, dim) float, not negative."""
        return self.layers(mel.unsqueeze(1)).flatten(1)
