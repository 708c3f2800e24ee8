"""Wav2Lip as a method: its configuration, its networks, and what its official checkpoints hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor, nn

from baselines.sync_expert.network import SyncNet
from baselines.wav2lip.discriminator import QualityDiscriminator
from baselines.wav2lip.inference import VIEW, GenerateConfig, speak
from baselines.wav2lip.network import Generator
from baselines.wav2lip.stage import Wav2LipConfig, Wav2LipStage
from models.base import Asset, DataInfo, Drive, Section, Stage, Talker
from models.official import official_state

#: The run that ``bench train sync-expert`` writes without ``--run``.
USUAL_EXPERT = "runs/sync-expert"


def train_expert(expert: str, options: str = "") -> str:
    """How to train an expert that a method lacks.

    Args:
        expert: the folder of its run.
        options: of that command.
    """
    folder = "" if expert == USUAL_EXPERT else f" --run {expert}"
    return f"train one with the same --preset: bench train sync-expert --data DATA{options}{folder}"


def expert_asset(
    module: nn.Module, expert: str, stage: str, remedy: str, view: str, rank: float = 0.0
) -> Asset:
    """The expert as an asset, which the stage does without if its ``sync_weight`` is 0.

    Args:
        module: it.
        expert: the folder of its run, or its name in the list of weights.
        stage: the table that names it.
        remedy: how one is made.
        view: that it looks at.
        rank: how often the right sound must have the higher score of two on held-out clips; the option of the stage
            is ``expert_rank``. 0: any expert is taken.
    """
    return Asset(
        module,
        expert,
        network="expert",
        purpose="the sync loss",
        without=f"{stage}.sync_weight=0",
        remedy=remedy,
        run_of="sync-expert",
        options={"expert.view": view},
        least={"rank": rank},
        anyway=f"{stage}.expert_rank=0",
    )


class Wav2LipMethodConfig(Section):
    """Tables ``[wav2lip]`` and ``[generate]`` of a preset."""

    wav2lip: Wav2LipConfig
    generate: GenerateConfig = GenerateConfig()


class Wav2Lip(Talker):
    """A Lip Sync Expert Is All You Need for Speech to Lip Generation In the Wild (Prajwal et al., ACM MM 2020).

    Args:
        config: a :class:`Wav2LipMethodConfig`.
        data: not used.
    """

    name = "wav2lip"
    title = "Wav2Lip"
    config_class = Wav2LipMethodConfig
    animates_pictures = True
    views = (VIEW,)

    def __init__(self, config: Wav2LipMethodConfig, data: DataInfo) -> None:
        self.config = config
        stage = config.wav2lip
        self.generator = Generator(stage.width, stage.least, stage.residual)
        discriminator = QualityDiscriminator(stage.width) if stage.gan_weight else None
        self._expert = (
            SyncNet("face96", stage.expert_width, stage.expert_coarse, stage.expert_apart)
            if stage.sync_weight
            else None
        )
        self.networks: dict[str, nn.Module] = {"generator": self.generator}
        if discriminator is not None:
            self.networks["discriminator"] = discriminator
        self.stages: dict[str, Stage] = {
            "wav2lip": Wav2LipStage(stage, self.generator, discriminator, self._expert)
        }

    @property
    def assets(self) -> dict[str, Asset]:
        """The expert, unless ``sync_weight`` is 0."""
        if self._expert is None:
            return {}
        stage = self.config.wav2lip
        remedy = train_expert(stage.expert)
        if (stage.expert_width, stage.expert_coarse, stage.expert_apart) == (1, False, False):
            official = "wav2lip_syncnet"
            remedy += f"; or take the official one: bench weights fetch {official}, "
            remedy += f"then --set wav2lip.expert={official}"
        return {"expert": expert_asset(self._expert, stage.expert, "wav2lip", remedy, VIEW)}

    @property
    def needed_networks(self) -> tuple[str, ...]:
        """The generator."""
        return ("generator",)

    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        """See :meth:`models.base.Talker.generate`; the footage is read once."""
        return speak(self.config.generate, self.generator, drive.footage, drive.speech)

    @classmethod
    def from_official(cls, state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Take ``wav2lip.pth``, ``wav2lip_gan.pth`` or ``visual_quality_disc.pth``, for networks of official size.

        Returns:
            ``generator`` or ``discriminator`` → its state dict.

        Raises:
            ValueError: it is none of them; names the first key that does not fit.
        """
        networks = {"generator": Generator, "discriminator": QualityDiscriminator}
        return official_state(state, networks, "a checkpoint of Wav2Lip")
