"""The lip-sync expert as a method of the suite: trained like the others, it makes no videos."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor, nn

from baselines.official import official_state
from baselines.sync_expert.network import SyncNet
from baselines.sync_expert.stage import ExpertConfig, ExpertStage
from models.base import Footage, Method, Section, Speech, Stage


class SyncExpertConfig(Section):
    """Configuration of the method ``sync-expert``; its one table is ``[expert]``."""

    expert: ExpertConfig


class SyncExpert(Method):
    """The expert that Wav2Lip and its successors are trained against (Prajwal et al., ACM MM 2020).

    Args:
        config: a :class:`SyncExpertConfig`.
    """

    name = "sync-expert"
    title = "Lip-sync expert"
    config_class = SyncExpertConfig

    def __init__(self, config: SyncExpertConfig) -> None:
        network = config.expert.build()
        self.networks: dict[str, nn.Module] = {"expert": network}
        self.stages: dict[str, Stage] = {"expert": ExpertStage(config.expert, network)}

    @property
    def generates_with(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def generate(self, footage: Footage, speech: Speech) -> Iterator[np.ndarray]:
        """It cannot. Raises ValueError."""
        raise ValueError("sync-expert makes no videos: it judges them, and trains wav2lip")

    @classmethod
    def from_official(cls, state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Take ``lipsync_expert.pth`` of Wav2Lip, for ``face96`` at the official size: ``expert`` → its state dict.

        Raises:
            ValueError: it is another; names the first key that does not fit.
        """
        return official_state(state, {"expert": SyncNet}, "a checkpoint of Wav2Lip's expert")
