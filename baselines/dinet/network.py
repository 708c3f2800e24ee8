"""DINet's generator (Zhang et al., AAAI 2023, section 3), and what the authors' checkpoints hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from models.layers.adaat import AdaAT
from models.layers.doubling import DoublingConv2d
from models.layers.folding import normalised
from models.layers.mouth_square import MouthSquare
from models.layers.narrow import Conv2d
from models.layers.picture_discriminator import PictureDiscriminator
from models.official import official_state

#: Channels and columns of what is heard with a frame: logits of speech, frame and two on either side; mel.
LOGITS, MEL = (29, 5), (80, 16)
#: Pictures of the person that the generator deforms.
REFERENCES = 5
#: Consecutive frames that D_V judges, and the clip expert sees.
WINDOW = 5
_WHAT = "a checkpoint of DINet"


class Seen(NamedTuple):
    """What the generator makes of reference pictures, which serve any number of frames.

    Attributes:
        encoded: (R, 256 width, H / 4, W / 4) float.
        deep: of the same shape: what is deformed.
        first: (R, 3, H, W) in [0, 1]: the first of the pictures.
    """

    encoded: Tensor
    deep: Tensor
    first: Tensor


class Generator(nn.Module):
    """Generates the hidden square of a face, from the rest of it, other pictures of the person, and sound.

    Features of the other pictures are deformed channel by channel, and decoded together with those of the face. With
    ``width=1`` and five references its keys are the official ones; official pictures come out with ``mixed``.

    Args:
        width: factor on the channels of every layer; 1 is the official size.
        references: N, pictures of the person.
        hears: channels and columns of the sound: :data:`LOGITS`, or :data:`MEL`, which goes through the same layers.
        mixed: the official code's form of AdaAT, else the paper's: see :func:`models.layers.adaat.turned`.
        residual: what is painted is added, as logits, to the face where it is visible and to the first of the other
            pictures in the square; the untrained network returns these. The official network adds nothing.

    Attributes:
        references: as given.
    """

    def __init__(
        self,
        width: float = 1.0,
        references: int = REFERENCES,
        hears: tuple[int, int] = LOGITS,
        mixed: bool = True,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.references = references
        c64, c128, c256 = (max(1, round(c * width)) for c in (64, 128, 256))
        self.source_in_conv = _encoder(3, c64, c128, c256)
        self.ref_in_conv = _encoder(3 * references, c64, c128, c256)
        self.trans_conv = nn.Sequential(
            _Layer(2 * c256, c128),
            _Layer(c128, c128, 11),
            _Layer(c128, c128, 11),
            _Layer(c128, c128, stride=2),
            _Layer(c128, c128, 7),
            _Layer(c128, c128, 7),
            _Layer(c128, c128, stride=2),
            _Layer(c128, c128),
            _Layer(c128, c128, stride=2),
            _Layer(c128, c128),
            _Layer(c128, c128, stride=2),
        )
        self.audio_encoder = nn.Sequential(
            _SoundLayer(hears[0], c128, 5),
            _SoundResidual(c128),
            _SoundLayer(c128, c128, stride=2),
            _SoundResidual(c128),
            _SoundLayer(c128, c128, stride=2),
            _SoundLayer(c128, c128),
        )
        self.appearance_conv_list = nn.ModuleList(
            nn.Sequential(*(_Residual(c256) for _ in range(4))) for _ in range(2)
        )
        self.adaAT = AdaAT(2 * c128, c256, mixed)
        self.out_conv = nn.Sequential(
            _Layer(2 * c256, c128),
            _Layer(c128, c128, up=True),
            _Residual(c128),
            _Layer(c128, c128, up=True),
            Conv2d(c128, 3, 7, padding=3),
            nn.Sigmoid(),
        )
        self.residual = residual
        if residual:
            last = cast(nn.Conv2d, self.out_conv[-2])
            nn.init.zeros_(last.weight)
            nn.init.zeros_(cast(Tensor, last.bias))

    def forward(self, sources: Tensor, references: Tensor, sounds: Tensor) -> Tensor:
        """Paint frames.

        Args:
            sources: (B, 3, H, W) in [0, 1], RGB: faces with the square hidden, as
                :meth:`models.layers.mouth_square.MouthSquare.hide` gives them; H and W are multiples of 4.
            references: (R, 3 N, H, W) in [0, 1], RGB, channel c of picture k at 3 k + c; R divides B: each serves as
                many consecutive frames.
            sounds: (B, channels, columns) float, as ``hears`` says.

        Returns:
            (B, 3, H, W) in [0, 1], RGB: whole faces.
        """
        return self.paint(sources, self.look(references), sounds)

    def look(self, references: Tensor) -> Seen:
        """(R, 3 N, H, W) references, as :meth:`forward` takes them → what :meth:`paint` needs of them."""
        encoded = self.ref_in_conv(references)
        return Seen(encoded, self.appearance_conv_list[0](encoded), references[:, :3])

    def paint(self, sources: Tensor, seen: Seen, sounds: Tensor) -> Tensor:
        """As :meth:`forward`, with references that :meth:`look` has seen."""
        face = self.source_in_conv(sources)
        encoded, deep, first = (_for_each(features, len(face)) for features in seen)
        place = self.trans_conv(torch.cat([face, encoded], dim=1)).mean((2, 3))
        code = torch.cat([place, self.audio_encoder(sounds).mean(2)], dim=1)
        deformed = self.appearance_conv_list[1](self.adaAT(deep, code))
        maps = torch.cat([face, deformed], dim=1)
        if not self.residual:
            return self.out_conv(maps)
        under = sources.clone()
        square = MouthSquare(sources.shape[-1] * 4 // 5)
        square.cut(under)[:] = square.cut(first)
        # Far enough from black and white for moderate logits and useful gradients.
        return (self.out_conv[:-1](maps) + under.clamp(0.02, 0.98).logit()).sigmoid()


def official_networks(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Sort what a checkpoint of the authors' training holds.

    Args:
        state: tensors by name, which begins with that of their network: ``net_g.``, ``net_dI.`` or ``net_dV.``; or a
            generator alone, without. After it there may be ``module.``.

    Returns:
        ``generator``, ``discriminator`` (D_I) or ``clip_discriminator`` (D_V) → its state dict, for networks of the
        official size.

    Raises:
        ValueError: it is none of them; names the first key that does not fit.
    """
    kinds: dict[str, tuple[str, Callable[[], nn.Module]]] = {
        "net_g.": ("generator", Generator),
        "net_dI.": ("discriminator", PictureDiscriminator),
        "net_dV.": ("clip_discriminator", lambda: PictureDiscriminator(3 * WINDOW)),
    }
    found: dict[str, dict[str, Tensor]] = {}
    for beginning, (name, build) in kinds.items():
        part = {key.removeprefix(beginning): state[key] for key in state if key.startswith(beginning)}
        if part:
            found |= official_state(part, {name: build}, _WHAT)
    return found or official_state(state, {"generator": Generator}, _WHAT)


def _for_each(features: Tensor, frames: int) -> Tensor:
    return features.repeat_interleave(frames // len(features), dim=0)


def _encoder(cin: int, c64: int, c128: int, c256: int) -> nn.Sequential:
    """(B, cin, H, W) → (B, c256, H / 4, W / 4)."""
    return nn.Sequential(_Layer(cin, c64, 7), _Layer(c64, c128, stride=2), _Layer(c128, c256, stride=2))


class _Layer(nn.Module):
    """Convolution, batch normalisation, ReLU; with ``up``, of the picture at twice its size."""

    def __init__(self, cin: int, cout: int, kernel_size: int = 3, stride: int = 1, up: bool = False) -> None:
        super().__init__()
        self.conv = (
            DoublingConv2d(cin, cout) if up else Conv2d(cin, cout, kernel_size, stride, kernel_size // 2)
        )
        self.norm = nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        return normalised(self.conv, self.norm, x).relu()


class _Residual(nn.Module):
    """Adds to its input: twice batch normalisation, ReLU, convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = (nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        inner = normalised(self.conv1, self.norm2, self.norm1(x).relu())
        return x + self.conv2(inner.relu())


class _SoundLayer(nn.Module):
    """Convolution over time, batch normalisation, ReLU."""

    def __init__(self, cin: int, cout: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(cin, cout, kernel_size, stride, kernel_size // 2)
        self.norm = nn.BatchNorm1d(cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu()


class _SoundResidual(nn.Module):
    """As :class:`_Residual`, over time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv1d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = (nn.BatchNorm1d(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv1(self.norm1(x).relu()))
        return x + self.conv2(inner.relu())
