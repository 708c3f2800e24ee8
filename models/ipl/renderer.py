"""IP-LAP's renderer: from sketches, a half-hidden face and references to the whole face (section 3.2).

Keys are those of the official checkpoints. Pictures are BGR in [0, 1], as the official weights expect.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.conv import audio_encoder
from models.layers.folding import normalised
from models.layers.narrow import Conv2d, RepeatingConv2d
from models.layers.precision import full, in_full
from models.layers.spade import AdaInBlock, Modulation, SpadeBlock
from models.layers.warp import motion_grid, warp

#: Target sketches that one frame is drawn from: its own and two before and after (the paper's k = 2).
SKETCHES = 5

# References are aligned together up to so many pixels: many small operations take longer than few larger ones.
_TOGETHER = 1 << 16
# Keeps the weighted mean finite where all weights vanish.
_EPSILON = 1e-5
# Colours nearer than this to 0 and 1 count as so near, for logits to stay finite.
_MARGIN = 2e-3
# Share of a picture's rows over which the visible target fades into the warped references.
_FADE = 1 / 8


#: What modulates a :class:`~models.layers.spade.SpadeBlock`.
BlockMaps = tuple[Modulation, Modulation]


class References(NamedTuple):
    """Encoded references, of B videos or of one (then B is 1, and they serve any number of its frames).

    Attributes:
        pictures: (B, N, 3, H, W) float, BGR in [0, 1].
        fine: (B, N, C1, h, w) float, the paper's h1; h and w are H and W by the renderer's ``shrink``.
        coarse: (B, N, C2, h/2, w/2) float, the paper's h2.
    """

    pictures: Tensor
    fine: Tensor
    coarse: Tensor


class Aligned(NamedTuple):
    """References brought to the pose and expression of a frame and averaged, equations 14 and 15.

    Attributes:
        picture: (B, 3, H, W) float, BGR.
        fine: (B, C1, h, w) float.
        coarse: (B, C2, h/2, w/2) float.
    """

    picture: Tensor
    fine: Tensor
    coarse: Tensor


class Rendered(NamedTuple):
    """What the renderer makes of a frame.

    Attributes:
        face: (B, 3, H, W) float, BGR in [0, 1].
        warped: (B, 3, H, W) float, BGR, the picture of :class:`Aligned`.
    """

    face: Tensor
    warped: Tensor


class Renderer(nn.Module):
    """The alignment module (``flow_module``) and the translation module.

    Differences from the official code that change no figure of a trained network: what target sketches do to
    the alignment module is computed once for all references, and in training its batch statistics are taken
    over all references of a batch together. SPADE's two convolutions are one of 5 x 5 where this takes much
    less work, see :class:`~models.layers.spade.SpadeMaps`.

    Args:
        width: factor on the channels of every layer; 1 is the official size.
        warping: False: references are averaged where they are ("w/o warping" of Table 4).
        audio: False: the AdaIN layers only normalise ("w/o audio" of Table 4).
        hidden: share of a target's rows, from the lowest up, that the renderer must not see.
        shrink: factor by which pictures are made smaller for the networks, and the result larger again; 1 is
            the paper's. It divides their height and width, and leaves an even number.
        residual: what the translation module gives is added, before the sigmoid, to the target where it is visible
            and to the warped references elsewhere, which keep their full size. It is not in the paper; it
            makes short training more effective.
    """

    def __init__(
        self,
        width: float = 1.0,
        warping: bool = True,
        audio: bool = True,
        hidden: float = 0.5,
        shrink: int = 1,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.shrink = shrink
        self.residual = residual
        self.flow_module = AlignmentModule(width, warping)
        self.translation = TranslationModule(width, audio)
        if residual:
            nn.init.zeros_(self.translation.conv_last.weight)

    def encode_references(self, pictures: Tensor, sketches: Tensor) -> References:
        """Encode references, to be used for several frames.

        Args:
            pictures: (B, N, 3, H, W) float, BGR in [0, 1]; H and W even.
            sketches: (B, N, 3 or 1, H, W) float in [0, 1], theirs.
        """
        fine, coarse = self.flow_module.encode(self._smaller(pictures), self._smaller(sketches))
        return References(pictures, fine, coarse)

    def warp(self, references: References, sketches: Tensor) -> Tensor:
        """The alignment module alone: :attr:`Rendered.warped` for (B, 5, 3 or 1, H, W) float target sketches."""
        return self.flow_module.align(references, self._smaller(sketches).flatten(1, 2)).picture

    def render(self, face: Tensor, sketches: Tensor, references: References, mels: Tensor) -> Rendered:
        """Render frames from encoded references; see :meth:`forward`."""
        drawn = self._smaller(sketches).flatten(1, 2)
        aligned = self.flow_module.align(references, drawn)
        rows = torch.arange(face.shape[-2], device=face.device)[:, None]
        end = round(face.shape[-2] * (1 - self.hidden))
        shown = rows < end
        target = torch.cat([self._smaller(face * shown), drawn], dim=1)
        small = aligned._replace(picture=self._smaller(aligned.picture))
        made = self._larger(self.translation(target, small, mels))
        if self.residual:
            # The target fades out above the hidden part, so that no edge is visible.
            share = ((end - rows - 0.5) / (_FADE * face.shape[-2])).clamp(0, 1)
            made = made + torch.logit(torch.lerp(aligned.picture, face, share), _MARGIN)
        return Rendered(torch.sigmoid(made), aligned.picture)

    def forward(
        self, face: Tensor, sketches: Tensor, references: Tensor, reference_sketches: Tensor, mels: Tensor
    ) -> Rendered:
        """Render frames.

        Args:
            face: (B, 3, H, W) float, BGR in [0, 1], the target, whose lower part is hidden here; H, W even.
            sketches: (B, 5, 3, H, W) float in [0, 1], of the target and its two neighbours on either side. Their three
                channels are equal; one may be given, here and of the references.
            references: (B, N, 3, H, W) float, BGR in [0, 1]; N is 3 in the paper's training.
            reference_sketches: (B, N, 3 or 1, H, W) float in [0, 1].
            mels: (B, 80, 16) float in [-4, 4], of the target; unused without audio.
        """
        return self.render(face, sketches, self.encode_references(references, reference_sketches), mels)

    def _smaller(self, pictures: Tensor) -> Tensor:
        """(..., H, W) → (..., H / shrink, W / shrink), means of squares."""
        if self.shrink == 1:
            return pictures
        small = F.avg_pool2d(pictures.flatten(0, -4), self.shrink)
        return small.unflatten(0, pictures.shape[:-3])

    def _larger(self, pictures: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C, shrink h, shrink w), bilinear."""
        if self.shrink == 1:
            return pictures
        return F.interpolate(pictures, scale_factor=self.shrink, mode="bilinear", align_corners=False)


class AlignmentModule(nn.Module):
    """Predicts a motion field and a weight of each reference, equation 13, and averages what is warped.

    Args:
        width: as in :class:`Renderer`.
        warping: as in :class:`Renderer`.
    """

    def __init__(self, width: float, warping: bool) -> None:
        super().__init__()
        self.warping = warping
        fine, middle, coarse = _channels(width)
        self.conv1 = RepeatingConv2d(3, 1, fine, 7, padding=3)
        self.conv1_bn = nn.BatchNorm2d(fine)
        self.conv2 = Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.conv2_bn = nn.BatchNorm2d(coarse)
        self.spade_layer_1 = SpadeBlock(coarse, 3 * SKETCHES, coarse, threes=True)
        self.spade_layer_2 = SpadeBlock(coarse, 3 * SKETCHES, coarse, threes=True)
        self.spade_layer_4 = SpadeBlock(middle, 3 * SKETCHES, coarse, threes=True)
        if warping:
            self.conv_4 = Conv2d(middle, 2, 7, padding=3)
        self.conv_5 = nn.Sequential(
            Conv2d(middle, fine, 7, padding=3), nn.ReLU(), Conv2d(fine, 1, 7, padding=3), nn.Sigmoid()
        )

    def encode(self, pictures: Tensor, sketches: Tensor) -> tuple[Tensor, Tensor]:
        """Fine and coarse features of references: see :class:`References`."""
        fine = F.relu(
            normalised(self.conv1, self.conv1_bn, torch.cat([pictures, sketches], dim=2).flatten(0, 1))
        )
        coarse = F.relu(normalised(self.conv2, self.conv2_bn, fine))
        n = pictures.shape[:2]
        return fine.unflatten(0, n), coarse.unflatten(0, n)

    def align(self, references: References, sketches: Tensor) -> Aligned:
        """Warp and average encoded references; ``sketches`` (B, 15 or 5, h, w) float in [0, 1]."""
        half = F.interpolate(sketches, scale_factor=0.5, mode="nearest")
        maps = (
            _of_all(self.spade_layer_1.maps(half)),
            _of_all(self.spade_layer_2.maps(half)),
            _of_all(self.spade_layer_4.maps(sketches)),
        )
        sums: list[Tensor] = []
        # Large ones one at a time, so that memory does not grow with their number.
        together = max(1, _TOGETHER // sketches[:, 0].numel())
        for some in zip(*(values.split(together, dim=1) for values in references), strict=True):
            weighted = self._align(References(*some), maps)
            sums = [total + new for total, new in zip(sums, weighted, strict=True)] if sums else weighted
        whole, own, half = _at_all_sizes(sums[3] + _EPSILON, references.pictures)
        return Aligned(sums[0] / whole, sums[1] / own, sums[2] / half)

    def _align(self, references: References, maps: tuple[BlockMaps, BlockMaps, BlockMaps]) -> list[Tensor]:
        """Pictures, fine and coarse features warped and weighted, and the weights: sums over some references."""
        x = self.spade_layer_2(self.spade_layer_1(references.coarse, maps[0]), maps[1])
        x = self.spade_layer_4(F.pixel_shuffle(x, 2), maps[2])
        shape, x = x.shape[:2], x.flatten(0, 1)
        # The same weights multiply and divide, so that they add up to 1: in half precision to 0.4 % only.
        weight = full(self.conv_5(x))
        warped = [source.expand(*shape, -1, -1, -1).flatten(0, 1) for source in references]
        if self.warping:
            grid = motion_grid(in_full(self.conv_4, x))
            warped = [warp(source, grid) for source in warped]
        weights = _at_all_sizes(weight, references.pictures)
        weighted = [s * w for s, w in zip(warped, weights, strict=True)]
        return [one.unflatten(0, shape).sum(dim=1) for one in (*weighted, weight)]


class TranslationModule(nn.Module):
    """From target sketches and the visible part of the target to the face, equation 16.

    Args:
        width: as in :class:`Renderer`.
        audio: as in :class:`Renderer`.
    """

    def __init__(self, width: float, audio: bool) -> None:
        super().__init__()
        fine, middle, coarse = _channels(width)
        vector, units = (max(1, round(c * width)) for c in (512, 128)) if audio else (0, 0)
        if audio:
            self.audio_encoder = audio_encoder(width)
        self.conv1 = RepeatingConv2d(3, SKETCHES, fine, 7, padding=3, bias=False)
        self.conv1_bn = nn.BatchNorm2d(fine)
        self.conv2 = Conv2d(fine, coarse, 3, stride=2, padding=1, bias=False)
        self.conv2_bn = nn.BatchNorm2d(coarse)
        self.spade_1 = SpadeBlock(coarse, coarse, coarse)
        self.adain_1 = AdaInBlock(coarse, vector, units)
        self.spade_2 = SpadeBlock(middle, fine, coarse)
        self.adain_2 = AdaInBlock(middle, vector, units)
        self.spade_4 = SpadeBlock(middle, 3, coarse)
        self.conv_last = Conv2d(middle, 3, 7, padding=3, bias=False)
        self.audio = audio

    def forward(self, target: Tensor, aligned: Aligned, mels: Tensor) -> Tensor:
        """Translate.

        Args:
            target: (B, 18 or 8, H, W) float in [0, 1], the face whose lower part is 0, then five sketches.
            aligned: references.
            mels: (B, 80, 16) float.

        Returns:
            (B, 3, H, W) float; its sigmoid is the face.
        """
        vector = self.audio_encoder(mels[:, None]).flatten(1) if self.audio else None
        x = F.relu(normalised(self.conv1, self.conv1_bn, target))
        x = F.relu(normalised(self.conv2, self.conv2_bn, x))
        x = self.adain_1(self.spade_1(x, self.spade_1.maps(aligned.coarse)), vector)
        x = F.pixel_shuffle(x, 2)
        x = self.adain_2(self.spade_2(x, self.spade_2.maps(aligned.fine)), vector)
        x = self.spade_4(x, self.spade_4.maps(aligned.picture))
        # The official slope of this activation alone is not 0.2.
        return self.conv_last(F.leaky_relu(x, 0.01))


def _of_all(maps: BlockMaps) -> BlockMaps:
    """Maps (B, C, h, w) of sketches, for (B, N, C, h, w) of references."""
    first, second = (Modulation(*(one.unsqueeze(1) for one in each)) for each in maps)
    return first, second


def _at_all_sizes(weight: Tensor, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A map at the size of a picture, at its own, and at half of that."""
    size = (picture.shape[-2], picture.shape[-1])
    whole = weight if weight.shape[-2:] == size else F.interpolate(weight, size, mode="bilinear")
    return whole, weight, F.interpolate(weight, scale_factor=0.5, mode="nearest")


def _channels(width: float) -> tuple[int, int, int]:
    """Of the fine features, of what a pixel shuffle leaves, and of the coarse features (32, 64 and 256)."""
    middle = max(1, round(64 * width))
    return max(1, round(32 * width)), middle, 4 * middle
