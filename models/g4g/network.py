"""G4G's networks (Zhang et al., arXiv 2402.18122, sections 3.1 and 3.2). Pictures are RGB in [0, 1].

The paper has no code and gives no layers. Where it is silent, sizes are those of DINet (Zhang et al., AAAI 2023), whose
crop, deformation and losses it shares; docs/methods/g4g.md lists what was decided.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from models.g4g.alignment import PlainConvolutions, Summary, VisualAlignment, residual_block, vector_of
from models.g4g.contrast import Others, Pairs, Projections
from models.g4g.fusion import Blend, FusionNetwork, logits
from models.g4g.masks import Masks
from models.layers.adaat import AdaAT
from models.layers.conv import ConvBlock, audio_encoder
from models.layers.narrow import Conv2d

#: ``own``: L_r has an encoder of its own, as the text says; ``source``: that of the source, as equation 4 prints it.
LandmarkEncoder = Literal["own", "source"]
#: What is concatenated to make the coefficients of the deformation: ``projected``: the diagonal's projections, on which
#: the contrast works; ``features``: what they are projected from.
Fused = Literal["projected", "features"]


class Made(NamedTuple):
    """What the generator makes of B frames.

    Attributes:
        face: (B, 3, H, W) float in [0, 1], the result.
        composite: (B, 3, H, W) float in [0, 1], what the fusion network is given.
        painted: (B, 3, H, W) float in [0, 1], what the decoder paints.
        source: (B, D) float: ī_s as a vector.
        landmark: (B, D) float: l_r; None without alignment.
        pairs: of the contrast; None without alignment.
    """

    face: Tensor
    composite: Tensor
    painted: Tensor
    source: Tensor
    landmark: Tensor | None
    pairs: Pairs | None


class Generator(nn.Module):
    """Encoders, alignment, deformation, decoder and fusion network.

    Args:
        width: factor on the channels of every layer; 1 is DINet's size, with 256 channels that are deformed.
        references: N, number of reference pictures.
        blocks: residual blocks of two convolutions before the deformation, and as many after it.
        alignment: False: "w/o alignment" of table 2: no landmarks, no AdaIN, no projections.
        fusion: False: "w/o fusion" of table 2: the composite is the result.
        landmark_encoder: see :data:`LandmarkEncoder`.
        others: see :data:`models.g4g.contrast.Others`.
        fused: see :data:`Fused`.
        mixed: the deformation has the form of DINet's code, which mixes neighbouring channels; equation 18 does not.
        blend: see :data:`models.g4g.fusion.Blend`.
        spoken: the decoder is also given, at every place, what the coefficients are made of. It is not in the paper,
            where sound reaches the picture through the deformation alone.
        unmoved: at first the deformation leaves references where they are. It is not in the paper, nor in DINet's code,
            whose first angles are of chance.
        residual: what the decoder gives is added, before the sigmoid, to the source where it is visible and to the
            first reference elsewhere, and is 0 at first. It is not in the paper, but makes short training more
            effective.
    """

    #: Modules that half precision would harm, as a stage names them: a temperature multiplies what it loses.
    FLOAT32: ClassVar[tuple[str, ...]] = ("generator.projections",)

    def __init__(
        self,
        width: float = 1.0,
        references: int = 5,
        blocks: int = 4,
        alignment: bool = True,
        fusion: bool = True,
        landmark_encoder: LandmarkEncoder = "own",
        others: Others = "own",
        fused: Fused = "projected",
        mixed: bool = False,
        spoken: bool = False,
        unmoved: bool = False,
        blend: Blend = "direct",
        residual: bool = False,
    ) -> None:
        super().__init__()
        c64, c128, c256, c512 = (max(1, round(c * width)) for c in (64, 128, 256, 512))
        self.alignment, self.fusion, self.fused = alignment, fusion, fused
        self.spoken, self.residual = spoken, residual
        self.source_encoder = _encoder(3, c64, c128, c256)
        self.reference_encoder = _encoder(3 * references, c64, c128, c256)
        self.audio_encoder = audio_encoder(width)
        self.sound = nn.Linear(c512, c256)
        self.join = ConvBlock(2 * c256, c256, 1, 1, 0)
        self.summary = Summary(c256)
        if alignment:
            if landmark_encoder == "own":
                self.landmark_encoder = _encoder(1, c64, c128, c256)
            self.landmark_summary = Summary(c256)
            self.align = VisualAlignment(c256, c256)
            self.projections = Projections(c256, others)
        else:
            self.plain = PlainConvolutions(c256)
        self.landmark_own = landmark_encoder == "own"
        self.before = nn.Sequential(*(residual_block(c256) for _ in range(blocks)))
        self.deform = AdaAT(2 * c256, c256, mixed=mixed)
        self.after = nn.Sequential(*(residual_block(c256) for _ in range(blocks)))
        last = Conv2d(c64, 3, 7, padding=3)
        coarse = nn.Sequential(
            ConvBlock((4 if spoken else 2) * c256, c128, 3, 1, 1),
            nn.Upsample(scale_factor=2),
            ConvBlock(c128, c128, 3, 1, 1),
            residual_block(c128),
        )
        fine = nn.Sequential(nn.Upsample(scale_factor=2), ConvBlock(c128, c64, 3, 1, 1), last)
        self.decoder = nn.Sequential(OrderedDict(coarse=coarse, fine=fine))
        if unmoved:
            for head in (self.deform.scale, self.deform.rotation, self.deform.translation):
                _silence(head[0])
        if residual:
            _silence(last)
        if fusion:
            self.fusion_network = FusionNetwork(c64, blend)

    def forward(
        self, sources: Tensor, masks: Masks, references: Tensor, landmarks: Tensor | None, mels: Tensor
    ) -> Made:
        """Paint what is hidden of frames.

        References that several consecutive frames share are given once: R divides B, and each serves B / R frames.

        Args:
            sources: (B, 3, H, W) float in [0, 1]; of any content where hidden. H and W are multiples of 4.
            masks: of the B frames, or one for all.
            references: (R, 3N, H, W) float in [0, 1], channels 3k + c.
            landmarks: (R or B, 1, H, W) float in [0, 1], of :func:`models.g4g.landmarks.draw_landmarks`; not looked at,
                and may be None, without alignment.
            mels: (B, 80, 16) in [-4, 4].
        """
        visible = sources * (1 - masks.hidden)
        seen = self.source_encoder(visible)
        reference = self.reference_encoder(references)
        joined = self.join(torch.cat([seen, _each(reference, seen)], dim=1))
        heard = self.sound(self.audio_encoder(mels[:, None]).flatten(1))
        landmark, pairs = None, None
        if self.alignment:
            assert landmarks is not None
            landmark = _each(self._landmark(landmarks), seen)
            visual = self.summary(self.align(joined, landmark))
            pairs = self.projections(visual, heard)
            fused = pairs[:2] if self.fused == "projected" else (visual, heard)
        else:
            fused = (self.summary(self.plain(joined)), heard)
        code = torch.cat(fused, dim=1)
        deformed = self.after(self.deform(_each(self.before(reference), seen), code))
        shown = [seen, deformed]
        if self.spoken:
            shown.append(code[:, :, None, None].expand(-1, -1, *seen.shape[2:]))
        painted = self.decoder(torch.cat(shown, dim=1)).float()
        if self.residual:
            first = _each(references[:, :3], seen)
            painted = painted + logits(torch.lerp(visible, first, masks.share))
        painted = torch.sigmoid(painted)
        composite = torch.lerp(visible, painted, masks.share)
        face = self.fusion_network(composite, masks.share) if self.fusion else composite
        return Made(face, composite, painted, vector_of(joined), landmark, pairs)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the modules to compute again where memory is short: they take and give little, and keep much."""
        names = ("source_encoder", "reference_encoder", "landmark_encoder", "before", "after", "summary")
        all_names = (*names, "decoder.coarse", "decoder.fine", "fusion_network")
        return tuple(name for name in all_names if hasattr(self, name.split(".")[0]))

    def _landmark(self, landmarks: Tensor) -> Tensor:
        """(R, 1, H, W) → l_r, (R, D), equation 4."""
        if self.landmark_own:
            return self.landmark_summary(self.landmark_encoder(landmarks))
        return self.landmark_summary(self.source_encoder(landmarks.expand(-1, 3, -1, -1)))


def _encoder(cin: int, *channels: int) -> nn.Sequential:
    """DINet's: a convolution of 7 x 7, then two of 3 x 3, each of which halves the size."""
    first, *others = channels
    layers = [ConvBlock(cin, first, 7, 1, 3)]
    for before, after in zip(channels, others, strict=False):
        layers.append(ConvBlock(before, after, 3, 2, 1))
    return nn.Sequential(*layers)


def _silence(layer: nn.Module) -> None:
    """Let a layer give 0 at first."""
    for weights in layer.parameters():
        nn.init.zeros_(weights)


def _each(shared: Tensor, of: Tensor) -> Tensor:
    """(R, ...) → (B, ...): each repeated for the frames that share it."""
    if len(shared) == len(of):
        return shared
    return shared.repeat_interleave(len(of) // len(shared), dim=0)
