"""IP-LAP's landmark generator: lips and jaw from sound, the pose of the face and landmarks of other frames.

Zhong et al., CVPR 2023, section 3.1. Keys of state dicts, odd spellings included, are those of the official
checkpoints. Where the official code differs from the text of the paper, this is as in the code: 17 points of the
jaw and 40 of the lips (paper: 16 and 41); layer normalisation after attention and MLP (equation 7: before; see
``norm_first``); a linear layer as each head (equations 8 and 9: an MLP); the three embeddings go through one
layer normalisation before they are added to position and type.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.layers.conv import audio_encoder

#: Points of the head's pose, and points of jaw and lips, which are predicted; they come in this order, jaw before lips.
POSE, JAW, LIPS = 74, 17, 40
CONTENT = JAW + LIPS

# Longest window that the positional encoding, part of official checkpoints, knows.
_MAX_FRAMES = 512


class PointBlock(nn.Module):
    """Convolution along a sequence of points, batch normalisation, optional residual, activation.

    Args:
        cin: input channels.
        cout: output channels; equal to ``cin`` where ``residual``.
        kernel_size: points.
        stride: points.
        padding: points.
        residual: add the input before the activation.
        act: activation; ReLU where None.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        residual: bool = False,
        act: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.Conv1d(cin, cout, kernel_size, stride, padding), nn.BatchNorm1d(cout)
        )
        self.act = act or nn.ReLU()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """(B, cin, P) float → (B, cout, P') float."""
        out = self.conv_block(x)
        return self.act(out + x if self.residual else out)


def pose_encoder(width: float, d_model: int) -> nn.Sequential:
    """The pose encoder: (B, 2, 74) in [0, 1] → (B, d_model, 1) in [-1, 1]; ``width`` multiplies inner channels."""
    c4, c8, c16, c32, c64, c128, c256 = _channels(width)
    return nn.Sequential(
        PointBlock(2, c4),
        *_level(c4, c8, 1, residuals=2),
        *_level(c8, c16, 2, residuals=2),
        *_level(c16, c32, 2, residuals=2),
        *_level(c32, c64, 2, residuals=2),
        *_level(c64, c128, 2, residuals=2),
        *_level(c128, c256, 2, residuals=2),
        PointBlock(c256, d_model, padding=0),
        PointBlock(d_model, d_model, 1, padding=0, residual=True, act=nn.Tanh()),
    )


def reference_encoder(width: float, d_model: int) -> nn.Sequential:
    """The reference encoder: (B, 2, 131) in [0, 1] → (B, d_model, 1) in [-1, 1]; ``width`` as for the pose."""
    c4, c8, c16, c32, c64, c128, c256 = _channels(width)
    return nn.Sequential(
        PointBlock(2, c4),
        *_level(c4, c8, 2, residuals=2),
        *_level(c8, c16, 2, residuals=2),
        *_level(c16, c32, 2, residuals=2),
        *_level(c32, c64, 2, residuals=2),
        *_level(c64, c128, 2, residuals=2),
        *_level(c128, c256, 2, residuals=1),
        PointBlock(c256, d_model, padding=0),
        PointBlock(d_model, d_model, 1, padding=0, act=nn.Tanh()),
    )


def _channels(width: float) -> list[int]:
    # Coordinates of many points pass through the first layers, which are narrow as they are: not below 8.
    return [max(min(c, 8), round(c * width)) for c in (4, 8, 16, 32, 64, 128, 256)]


def _level(cin: int, cout: int, stride: int, residuals: int) -> list[PointBlock]:
    return [
        PointBlock(cin, cout, stride=stride),
        *(PointBlock(cout, cout, residual=True) for _ in range(residuals)),
    ]


class PositionalEncoding(nn.Module):
    """Sinusoids (Vaswani et al., NeurIPS 2017, section 3.5) of 512 places, kept as the buffer ``pe``."""

    pe: Tensor

    def __init__(self, d_model: int) -> None:
        super().__init__()
        frequencies = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        angles = torch.arange(_MAX_FRAMES)[:, None] * frequencies
        self.register_buffer(
            "pe", torch.stack([angles.sin(), angles.cos()], dim=2).reshape(1, _MAX_FRAMES, d_model)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_model) float → (1, T, d_model), what to add to it."""
        return self.pe[:, : x.shape[1]]


class FusionTransformer(nn.Module):
    """Equations 4 to 7: embeddings with their type and place, and the transformer encoder over them all."""

    def __init__(
        self, d_model: int, layers: int, heads: int, feedforward: int, dropout: float, norm_first: bool
    ) -> None:
        super().__init__()
        self.position_v = PositionalEncoding(d_model)
        self.position_a = PositionalEncoding(d_model)
        # Row 0 is not used.
        self.modality = nn.Embedding(4, d_model, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            d_model, heads, feedforward, dropout, batch_first=True, norm_first=norm_first
        )
        self.transformer_encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, references: Tensor, audio: Tensor, pose: Tensor) -> Tensor:
        """(B, N, d), (B, T, d), (B, T, d) float → (B, N + 2 T, d) float, in this order."""
        of_pose, of_audio, of_reference = self.modality.weight[1:]
        tokens = [
            references + of_reference,
            audio + self.position_a(audio) + of_audio,
            pose + self.position_v(pose) + of_pose,
        ]
        return self.transformer_encoder(self.dropout(torch.cat(tokens, dim=1)))


class LandmarkNetwork(nn.Module, ABC):
    """Encoders and heads that both landmark generators have.

    Args:
        d_model: size of an embedding.
        width: factor on the channels of the encoders; 1 is the official size. Those of points keep at least 8
            of a layer's channels. Where the audio encoder's 512 ``width`` channels are not ``d_model``, a linear
            layer takes them there.
        residual: not in the paper: predict what is added to the mean jaw and lips of the references, at first 0.
    """

    def __init__(self, d_model: int, width: float, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.mel_encoder = audio_encoder(width)
        # IP-LAP's differs in this from Wav2Lip's.
        self.mel_encoder[-1].act = nn.Tanh()
        features = max(1, round(512 * width))
        self.mel_projection = nn.Identity() if features == d_model else nn.Linear(features, d_model)
        self.ref_encoder = reference_encoder(width, d_model)
        self.pose_encoder = pose_encoder(width, d_model)
        self.mouse_keypoint_map = nn.Linear(d_model, 2 * LIPS)
        self.jaw_keypoint_map = nn.Linear(d_model, 2 * JAW)
        self.Norm = nn.LayerNorm(d_model)

    def forward(
        self, mels: Tensor, pose: Tensor, reference_pose: Tensor, reference_content: Tensor
    ) -> Tensor:
        """Predict the jaw and the lips of a window; all coordinates in [0, 1] over IP-LAP's box.

        Args:
            mels: (B, T, 1, 80, 16) float in [-4, 4], a chunk a frame; T at most 512.
            pose: (B, T, 2, 74) float, all x before all y.
            reference_pose: (B, N, 2, 74) float, of other frames of the same face, in any order.
            reference_content: (B, N, 2, 57) float, jaw before lips.

        Returns:
            (B, T, 57, 2) float32, x and y of each point; 17 of the jaw, 40 of the lips.
        """
        audio = self.mel_projection(self.mel_encoder(mels.flatten(0, 1)).flatten(1))
        # Under autocast to bfloat16 a coordinate would be known to 0.004 only, as much as lips move in a frame.
        with torch.autocast(mels.device.type, enabled=False):
            references = torch.cat([reference_pose, reference_content], dim=3).float()
            reference = self.Norm(self.ref_encoder(references.flatten(0, 1)).flatten(1))
            posed = self.Norm(self.pose_encoder(pose.float().flatten(0, 1)).flatten(1))
        lips, jaw = self.fuse(
            reference.unflatten(0, references.shape[:2]),
            self.Norm(audio).unflatten(0, mels.shape[:2]),
            posed.unflatten(0, pose.shape[:2]),
        )
        with torch.autocast(mels.device.type, enabled=False):
            content = torch.cat(
                [self.jaw_keypoint_map(jaw.float()), self.mouse_keypoint_map(lips.float())], dim=2
            )
            content = content.unflatten(2, (CONTENT, 2))
            if self.residual:
                content = content + reference_content.float().mean(dim=1, keepdim=True).transpose(2, 3)
        return content

    def start(self) -> None:
        """Draw linear layers anew, as the official code does; those of attention and MLPs are among them."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)
        if self.residual:
            nn.init.zeros_(self.mouse_keypoint_map.weight)
            nn.init.zeros_(self.jaw_keypoint_map.weight)

    @abstractmethod
    def fuse(self, references: Tensor, audio: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, d), (B, T, d), (B, T, d) float → what lips and jaw are read from, (B, T, d) float each."""


class LandmarkGenerator(LandmarkNetwork):
    """The transformer-based generator; at its defaults it takes the official weights.

    Args:
        d_model: size of an embedding, a multiple of 2 and of ``heads``.
        layers: of the transformer encoder.
        heads: of its attention.
        feedforward: inner size of its MLPs.
        dropout: rate, of tokens and within the encoder.
        width: see :class:`LandmarkNetwork`.
        norm_first: layer normalisation before attention and MLP, as in equation 7, but not in the code.
        residual: see :class:`LandmarkNetwork`.
    """

    def __init__(
        self,
        d_model: int = 512,
        layers: int = 4,
        heads: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.1,
        width: float = 1.0,
        norm_first: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__(d_model, width, residual)
        self.fusion_transformer = FusionTransformer(d_model, layers, heads, feedforward, dropout, norm_first)
        self.start()

    def fuse(self, references: Tensor, audio: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`LandmarkNetwork.fuse`: lips from the tokens of the sound, the jaw from those of the pose."""
        frames = audio.shape[1]
        tokens = self.fusion_transformer(references, audio, pose)
        return tokens[:, -2 * frames : -frames], tokens[:, -frames:]


class LSTMLandmarkGenerator(LandmarkNetwork):
    """The variant "w/ LSTM" of Table 3, as the paper describes it; no code of it was released.

    The reference embeddings are averaged; a bidirectional LSTM takes pose, sound and that average of each frame.

    Args:
        d_model: size of an embedding, a multiple of 2; each direction has half of it as its state.
        layers: of the LSTM.
        dropout: rate, between these layers.
        width: see :class:`LandmarkNetwork`.
        residual: see :class:`LandmarkNetwork`.
    """

    def __init__(
        self,
        d_model: int = 512,
        layers: int = 4,
        dropout: float = 0.1,
        width: float = 1.0,
        residual: bool = False,
    ) -> None:
        super().__init__(d_model, width, residual)
        self.lstm = nn.LSTM(
            3 * d_model,
            d_model // 2,
            layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
            bidirectional=True,
        )
        self.start()

    def fuse(self, references: Tensor, audio: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`LandmarkNetwork.fuse`; lips and jaw are read from the same."""
        reference = references.mean(dim=1, keepdim=True).expand_as(pose)
        states, _ = self.lstm(torch.cat([pose, audio, reference], dim=2))
        return states, states
