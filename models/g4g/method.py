"""G4G as a method: its configuration, its networks and its stages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import model_validator
from torch import nn

from baselines.dinet.faces import VIEW
from baselines.sync_expert.network import SyncNet
from baselines.wav2lip.method import train_expert
from models.base import Asset, DataInfo, Drive, Section, Stage, Talker
from models.g4g.generation import G4GInference, GenerateConfig
from models.g4g.options import ClipConfig, FrameConfig, G4GConfig
from models.g4g.stages import G4GStage, Judges
from models.layers.mouth_square import MouthSquare
from models.layers.picture_discriminator import PictureDiscriminator
from models.layers.vgg import VGG19

#: Stages of single frames → M, side of their mouth square in pixels, coarse to fine.
FRAME_STAGES = {"frame64": 64, "frame128": 128, "frame256": 256}


class G4GMethodConfig(Section):
    """Table ``[g4g]``, a table for each stage that is trained, and ``[generate]``."""

    g4g: G4GConfig
    frame64: FrameConfig | None = None
    frame128: FrameConfig | None = None
    frame256: FrameConfig | None = None
    clip: ClipConfig | None = None
    generate: GenerateConfig = GenerateConfig()

    @model_validator(mode="after")
    def _something_to_train(self) -> G4GMethodConfig:
        if not self.mouths:
            raise ValueError(f"no stage: give a table of {', '.join(FRAME_STAGES)} and clip")
        return self

    @model_validator(mode="after")
    def _rates_fall_by_steps(self) -> G4GMethodConfig:
        for name in self.mouths:
            config = self.stage(name)
            if config.constant < 1 and config.train.steps is None:
                raise ValueError(f"{name}.constant={config.constant} needs {name}.train.steps")
        return self

    @property
    def mouths(self) -> dict[str, int]:
        """Stages that are trained, in order → M."""
        found = {name: mouth for name, mouth in FRAME_STAGES.items() if getattr(self, name) is not None}
        if self.clip is not None:
            found["clip"] = self.clip.mouth
        return found

    def stage(self, name: str) -> FrameConfig:
        """The options of a stage that is trained."""
        config = getattr(self, name)
        assert isinstance(config, FrameConfig)
        return config


class G4G(Talker):
    """G4G: A Generic Framework for High Fidelity Talking Face Generation with Fine-grained Intra-modal Alignment
    (Zhang et al., 2024).

    All stages train the same generator, and the same discriminator of frames.

    Args:
        config: a :class:`G4GMethodConfig`.
        data: not used.
    """

    name = "g4g"
    title = "G4G"
    config_class = G4GMethodConfig
    animates_pictures = True
    views = (VIEW,)

    def __init__(self, config: G4GMethodConfig, data: DataInfo) -> None:
        self.config = config
        common = config.g4g
        self.generator = common.build()
        adversarial, clips = common.lambda_gan > 0, config.clip is not None
        judge = PictureDiscriminator(3, common.width) if adversarial else None
        of_clips = PictureDiscriminator(15, common.width) if adversarial and clips else None
        self._vgg = VGG19() if common.lambda_p else None
        self._expert = None
        if clips and common.lambda_sync:
            self._expert = SyncNet(VIEW, common.expert_width, common.expert_coarse, common.expert_apart)
        self.networks: dict[str, nn.Module] = {"generator": self.generator}
        if judge is not None:
            self.networks["discriminator"] = judge
        if of_clips is not None:
            self.networks["clip_discriminator"] = of_clips
        self.stages: dict[str, Stage] = {}
        for name, mouth in config.mouths.items():
            clip = name == "clip"
            self.stages[name] = G4GStage(
                name,
                common,
                config.stage(name),
                mouth,
                5 if clip else 1,
                self.generator,
                Judges(judge, of_clips if clip else None),
                self._vgg,
                self._expert if clip else None,
            )

    @property
    def assets(self) -> dict[str, Asset]:
        """VGG-19 unless ``lambda_p`` is 0, and the expert unless ``lambda_sync`` is 0 or there is no clip stage."""
        found = {}
        if self._vgg is not None:
            found["vgg"] = Asset(self._vgg, "vgg19", purpose="the perception loss", without="g4g.lambda_p=0")
        if self._expert is not None:
            expert = self.config.g4g.expert
            found["expert"] = Asset(
                self._expert,
                expert,
                network="expert",
                purpose="the contrast of equation 23",
                without="g4g.lambda_sync=0",
                remedy=train_expert(expert, f" --set expert.view={VIEW}"),
                least={"rank": self.config.g4g.expert_rank},
                anyway="g4g.expert_rank=0",
            )
        return found

    @property
    def needed_networks(self) -> tuple[str, ...]:
        """The generator."""
        return ("generator",)

    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        """See :meth:`models.base.Talker.generate`; the footage is read once, and the references before that."""
        square = MouthSquare(list(self.config.mouths.values())[-1])
        inference = G4GInference(
            self.config.generate, self.config.g4g, square, self.generator, drive.footage, drive.speech
        )
        return inference.frames()
