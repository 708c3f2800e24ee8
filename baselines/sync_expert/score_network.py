"""DINet's expert: a network that scores how well five mouths and their sound fit, place by place (Zhang et al., AAAI
2023; ``models/Syncnet.py`` of the official code)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.sync_expert.network import FRAMES
from models.layers.narrow import Conv2d

#: Channels of what is heard: logits of speech; mel.
LOGITS, MEL = 29, 80
#: By how much a map of scores is smaller than the mouths.
SMALLER = 32
_Conv = nn.Conv1d | nn.Conv2d


class ScoreNet(nn.Module):
    """Scores five frames of a mouth and their sound; 1: they belong together, 0: they do not.

    The two are encoded apart, and joined by convolutions at each place of the map. With ``width=1`` and 29 channels of
    sound its keys are official. It has no normalisation, and takes mouths of any size.

    Args:
        width: factor on the channels of every layer; 1 is the official size.
        hears: channels of the sound, :data:`LOGITS` or :data:`MEL`.
        coarse: whether the mouths are halved first, and the map with them; not so officially.
        even: each colour of each frame is brought to an even brightness and contrast first; not so officially.

    Attributes:
        size: channels of what is seen and heard, 128 at the official size.
    """

    def __init__(
        self, width: float = 1.0, hears: int = LOGITS, coarse: bool = False, even: bool = False
    ) -> None:
        super().__init__()
        c64, c128 = (max(1, round(c * width)) for c in (64, 128))
        self.size = c128
        self.coarse = coarse
        self.even = even
        self.face_encoder = _FaceEncoder(c64, c128)
        self.audio_encoder = _SoundEncoder(hears, c128)
        self.merge_encoder = nn.Sequential(
            Conv2d(2 * c128, c128, 3, padding=1), nn.LeakyReLU(0.2), Conv2d(c128, 1, 3, padding=1)
        )
        self._start()

    def see(self, mouths: Tensor) -> Tensor:
        """(B, 15, M, M) in [0, 1], RGB, frame after frame; M a multiple of 32 → (B, 128 width, M / 32, M / 32)."""
        if self.coarse:
            mouths = F.avg_pool2d(mouths, 2)
        if self.even:
            # Variances below (0.05)² are noise.
            mouths = F.instance_norm(mouths, eps=0.0025)
        return self.face_encoder(mouths)

    def hear(self, sounds: Tensor) -> Tensor:
        """(B, ``hears``, columns) float: 9 columns of logits, 16 of mel → (B, 128 width)."""
        return self.audio_encoder(sounds)

    def judge(self, seen: Tensor, heard: Tensor) -> Tensor:
        """What :meth:`see` and :meth:`hear` gave of B pairs → (B, 1, M / 32, M / 32) scores, not limited."""
        everywhere = heard[:, :, None, None].expand(-1, -1, *seen.shape[2:])
        return self.merge_encoder(torch.cat([seen, everywhere], dim=1))

    def _start(self) -> None:
        """Twenty layers without normalisation: as torch begins, hardly any of what is seen and heard arrives."""
        for module in self.modules():
            if isinstance(module, _Conv):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, _Residual):
                nn.init.normal_(module.conv2.weight, std=0.01)
        last = self.merge_encoder[-1]
        assert isinstance(last, _Conv) and last.bias is not None
        # The first guess is one half.
        nn.init.normal_(last.weight, std=0.01)
        nn.init.constant_(last.bias, 0.5)

    def forward(self, mouths: Tensor, sounds: Tensor) -> Tensor:
        """Scores of :meth:`judge`, of mouths and sounds as :meth:`see` and :meth:`hear` take them."""
        return self.judge(self.see(mouths), self.hear(sounds))


def squared_error(scores: Tensor, target: float) -> Tensor:
    """Mean squared distance of scores from 0 or 1, () float32: by this DINet's clip stage measures them."""
    return (scores.float() - target).square().mean()


class _FaceEncoder(nn.Module):
    """Mouths at five resolutions, each half the one before."""

    def __init__(self, c64: int, c128: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_Layer(_plane(3 * FRAMES, c64, 7))]
        cin = c64
        for _ in range(5):
            residual = _Residual(_plane(cin, cin), _plane(cin, cin))
            layers += [residual, _Halved(_plane(cin, cin)), _Layer(_plane(cin, c128))]
            cin = c128
        layers[-1] = _Layer(_plane(c128, c128, 1))
        self.face_conv = nn.Sequential(*layers)

    def forward(self, mouths: Tensor) -> Tensor:
        # In this layout few channels take less time on a CPU.
        return self.face_conv(mouths.contiguous(memory_format=torch.channels_last))


class _SoundEncoder(nn.Module):
    """Sound at four resolutions, each half the one before; then its mean over time."""

    def __init__(self, hears: int, c128: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_Layer(_line(hears, c128, 7))]
        for _ in range(3):
            residual = _Residual(_line(c128, c128), _line(c128, c128))
            layers += [residual, _Layer(_line(c128, c128, stride=2))]
        self.audio_conv = nn.Sequential(*layers, _Layer(_line(c128, c128)))

    def forward(self, sounds: Tensor) -> Tensor:
        return self.audio_conv(sounds).mean(2)


class _Layer(nn.Module):
    """Convolution and ReLU."""

    def __init__(self, conv: _Conv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu()


class _Halved(_Layer):
    """As :class:`_Layer`; then means over 2×2."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(super().forward(x), 2)


class _Residual(nn.Module):
    """Adds to its input: twice ReLU and convolution."""

    def __init__(self, conv1: _Conv, conv2: _Conv) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv1, conv2

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x.relu()).relu())


def _plane(cin: int, cout: int, kernel_size: int = 3) -> _Conv:
    return Conv2d(cin, cout, kernel_size, padding=kernel_size // 2)


def _line(cin: int, cout: int, kernel_size: int = 3, stride: int = 1) -> _Conv:
    return nn.Conv1d(cin, cout, kernel_size, stride, kernel_size // 2)
