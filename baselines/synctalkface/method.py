"""SyncTalkFace as a method: its configuration, its networks, and generation with what sound recalls."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import nn

from baselines.sync_expert.network import SyncNet
from baselines.synctalkface.stage import SIDES, SyncTalkFaceConfig, SyncTalkFaceStage
from baselines.wav2lip.discriminator import QualityDiscriminator
from baselines.wav2lip.inference import GenerateConfig, speak
from baselines.wav2lip.method import expert_asset, train_expert
from models.base import Asset, DataInfo, Drive, Section, Stage, Talker


class SyncTalkFaceMethodConfig(Section):
    """Tables ``[synctalkface]`` and ``[generate]`` of a preset; the second is Wav2Lip's."""

    synctalkface: SyncTalkFaceConfig
    generate: GenerateConfig = GenerateConfig(sound="wav2lip-generator")


class SyncTalkFace(Talker):
    """Talking Face Generation with Precise Lip-Syncing via Audio-Lip Memory (Park et al., AAAI 2022).

    Args:
        config: a :class:`SyncTalkFaceMethodConfig`.
        data: not used.
    """

    name = "synctalkface"
    title = "SyncTalkFace"
    config_class = SyncTalkFaceMethodConfig
    animates_pictures = True

    def __init__(self, config: SyncTalkFaceMethodConfig, data: DataInfo) -> None:
        self.config = config
        stage = config.synctalkface
        self.views = (stage.view,)
        self.generator = stage.build()
        judge = QualityDiscriminator(stage.width, SIDES[stage.view]) if stage.gan_weight else None
        self._expert = (
            SyncNet(stage.view, stage.expert_width, stage.expert_coarse, stage.expert_apart)
            if stage.sync_weight
            else None
        )
        self.networks: dict[str, nn.Module] = {"generator": self.generator}
        if judge is not None:
            self.networks["discriminator"] = judge
        self.stages: dict[str, Stage] = {
            "synctalkface": SyncTalkFaceStage(stage, self.generator, judge, self._expert)
        }

    @property
    def assets(self) -> dict[str, Asset]:
        """The expert, unless ``sync_weight`` is 0."""
        if self._expert is None:
            return {}
        stage = self.config.synctalkface
        options = "" if stage.view == "face96" else f" --set expert.view={stage.view}"
        remedy = train_expert(stage.expert, options)
        return {"expert": expert_asset(self._expert, stage.expert, "synctalkface", remedy, stage.view)}

    @property
    def needed_networks(self) -> tuple[str, ...]:
        """The generator."""
        return ("generator",)

    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        """See :meth:`models.base.Talker.generate`; the footage is read once."""
        view = self.config.synctalkface.view
        return speak(self.config.generate, self.generator, drive.footage, drive.speech, view, SIDES[view])
