"""LipFormer as a method: its configuration and its networks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import model_validator
from torch import nn

from models.base import Asset, DataInfo, Drive, Section, Stage, Talker
from models.layers.stylegan2 import StyleGAN2Discriminator
from models.layers.vgg import VGG19
from models.lipformer.codebook_stage import CodebookConfig, CodebookStage
from models.lipformer.inference import VIEW, GenerateConfig, LipFormerInference
from models.lipformer.lip_stage import LipFormerConfig, LipFormerStage
from models.lipformer.lips import Lips


class LipFormerMethodConfig(Section):
    """Tables ``[codebook]``, ``[lipformer]`` and ``[generate]`` of a preset."""

    codebook: CodebookConfig
    lipformer: LipFormerConfig
    generate: GenerateConfig = GenerateConfig()

    @model_validator(mode="after")
    def _heads_share_an_encoding(self) -> LipFormerMethodConfig:
        dim, heads = self.codebook.dim, self.lipformer.heads
        if dim % heads:
            raise ValueError(f"codebook.dim {dim} is not a multiple of lipformer.heads {heads}")
        return self


class LipFormer(Talker):
    """High-fidelity and Generalizable Talking Face Generation with A Pre-learned Facial Codebook (Wang et al.,
    CVPR 2023).

    Both stages hold the same decoder, and the same discriminator where both have one: the second stage trains
    further what the first has trained.

    Args:
        config: a :class:`LipFormerMethodConfig`.
        data: not used.
    """

    name = "lipformer"
    title = "LipFormer"
    config_class = LipFormerMethodConfig
    animates_pictures = True
    views = (VIEW,)

    def __init__(self, config: LipFormerMethodConfig, data: DataInfo) -> None:
        self.config = config
        first, second = config.codebook, config.lipformer
        encoder, decoder = first.build_encoder(), first.build_decoder()
        upper, lower = first.build_upper(), first.build_lower()
        audio = second.build_audio()
        self.lips = Lips(
            encoder,
            upper,
            lower,
            decoder,
            audio,
            second.build_warp(first.dim),
            second.build_transformer(first.dim, first.lower_codes, first.rows, first.columns, audio.dim),
        )
        adversarial = first.adversarial_weight or second.adversarial_weight
        discriminator = StyleGAN2Discriminator(first.size, first.discriminator_width) if adversarial else None
        self._vgg = VGG19() if first.perceptual_weight or second.perceptual_weight else None
        codebook = CodebookStage(
            first,
            encoder,
            decoder,
            upper,
            lower,
            discriminator if first.adversarial_weight else None,
            self._vgg if first.perceptual_weight else None,
        )
        lipformer = LipFormerStage(
            second,
            self.lips,
            first.size,
            discriminator if second.adversarial_weight else None,
            self._vgg if second.perceptual_weight else None,
        )
        self.networks: dict[str, nn.Module] = {**codebook.networks, **lipformer.networks}
        self.stages: dict[str, Stage] = {"codebook": codebook, "lipformer": lipformer}

    @property
    def assets(self) -> dict[str, Asset]:
        """VGG-19, where a stage uses it."""
        if self._vgg is None:
            return {}
        stages = [name for name in self.stages if "vgg" in self.stages[name].frozen]
        without = " --set ".join(f"{name}.perceptual_weight=0" for name in stages)
        return {"vgg": Asset(self._vgg, "vgg19", purpose="the perceptual losses", without=without)}

    @property
    def needed_networks(self) -> tuple[str, ...]:
        """All networks but the discriminator."""
        return tuple(name for name in self.networks if name != "discriminator")

    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        """See :meth:`models.base.Talker.generate`; the footage is read once, and the reference before that."""
        config = self.config
        return LipFormerInference(
            config.generate, self.lips, config.codebook.size, drive.footage, drive.speech
        ).frames()
