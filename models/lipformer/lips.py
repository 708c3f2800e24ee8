"""LipFormer's networks together: from two pictures and sound to lip codes, as training and generation both do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from models.layers.side_by_side import side_by_side
from models.lipformer.audio import AudioEncoder
from models.lipformer.autoencoder import FaceDecoder, FaceEncoder
from models.lipformer.codebook import Codebook
from models.lipformer.face_warp import FaceWarp
from models.lipformer.transformer import LipTransformer


class Halves(NamedTuple):
    """Quantised encodings of a face, H_U and H_B: (B, d, h', w') float each."""

    upper: Tensor
    lower: Tensor


class Both(NamedTuple):
    """What training takes from a target and a reference.

    Attributes:
        upper: H_TU, (B, d, h', w') float.
        lip_codes: the target's lip codes s, (B, h', w') int64.
        reference: H_RU and H_RB.
        reference_codes: the reference's lip codes, (B, h', w') int64.
    """

    upper: Tensor
    lip_codes: Tensor
    reference: Halves
    reference_codes: Tensor


@dataclass(frozen=True)
class Lips:
    """What section 3.2 is made of.

    Attributes:
        encoder: Enc, frozen.
        upper: C_U, frozen.
        lower: C_B, frozen.
        decoder: Dec.
        audio: E_Aud.
        warp: M; None: "w/o Adaptive Warping" of Table 3.
        transformer: Tr.
    """

    encoder: FaceEncoder
    upper: Codebook
    lower: Codebook
    decoder: FaceDecoder
    audio: AudioEncoder
    warp: FaceWarp | None
    transformer: LipTransformer

    @torch.no_grad()
    def encode_upper(self, pictures: Tensor) -> Tensor:
        """(B, 3, S, S) float in [0, 1] → H_U (B, d, h', w') float; the lower halves are not used."""
        top = pictures[:, :, : pictures.shape[2] // 2]
        return self.upper.look_up(self.upper.nearest(self.encoder(top)))

    @torch.no_grad()
    def lip_codes(self, pictures: Tensor) -> Tensor:
        """(B, 3, S, S) float in [0, 1] → the lip codes s of their lower halves, (B, h', w') int64."""
        bottom = pictures[:, :, pictures.shape[2] // 2 :]
        return self.lower.nearest(self.encoder(bottom))

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Halves:
        """(B, 3, S, S) float in [0, 1] → H_U and H_B."""
        return Halves(self.encode_upper(pictures), self.lower.look_up(self.lip_codes(pictures)))

    @torch.no_grad()
    def encode_both(self, target: Tensor, reference: Tensor) -> Both:
        """Both (B, 3, S, S) float in [0, 1]; all halves pass the encoder as one batch."""
        halves = torch.cat([target, reference]).chunk(2, dim=2)
        upper, lower = side_by_side(self.encoder, torch.cat(halves)).chunk(2)
        target_upper, reference_upper = self.upper.look_up(self.upper.nearest(upper)).chunk(2)
        codes, reference_codes = self.lower.nearest(lower).chunk(2)
        return Both(
            target_upper, codes, Halves(reference_upper, self.lower.look_up(reference_codes)), reference_codes
        )

    def move(self, target_upper: Tensor, reference: Halves) -> Tensor:
        """H_TU (B, d, h', w') and the reference → its lower encodings at the target's pose, of the same shape."""
        if self.warp is None:
            return reference.lower
        return self.warp(target_upper, reference.upper, reference.lower)

    def predict(self, moved: Tensor, mel: Tensor) -> Tensor:
        """What :meth:`move` gave and (B, 80, 16) float in [-4, 4] → logits (B, n, h', w') float32 of the lip codes."""
        logits = self.transformer(moved, self.lower.codes, self.audio(mel))
        return logits.transpose(1, 2).unflatten(2, moved.shape[-2:])
