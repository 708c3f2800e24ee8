"""The lip-sync expert as a method of the suite: trained like the others, it makes no videos."""

from __future__ import annotations

from torch import Tensor, nn

from baselines.sync_expert.network import SyncNet
from baselines.sync_expert.stage import ExpertConfig, ExpertStage
from models.base import DataInfo, Section, Stage, Trainable
from models.official import official_state


class SyncExpertConfig(Section):
    """Configuration of the method ``sync-expert``; its one table is ``[expert]``."""

    expert: ExpertConfig


class SyncExpert(Trainable):
    """The expert that Wav2Lip and its successors are trained with (Prajwal et al., ACM MM 2020).

    Args:
        config: a :class:`SyncExpertConfig`.
        data: not used.
    """

    name = "sync-expert"
    title = "Lip-sync expert"
    config_class = SyncExpertConfig

    def __init__(self, config: SyncExpertConfig, data: DataInfo) -> None:
        network = config.expert.build()
        self.networks: dict[str, nn.Module] = {"expert": network}
        self.stages: dict[str, Stage] = {"expert": ExpertStage(config.expert, network)}

    @classmethod
    def from_official(cls, state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Take ``lipsync_expert.pth`` of Wav2Lip, for ``face96`` at the official size: ``expert`` → its state dict.

        Raises:
            ValueError: it is another; names the first key that does not fit.
        """
        return official_state(state, {"expert": SyncNet}, "a checkpoint of Wav2Lip's expert")
