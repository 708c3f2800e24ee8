"""The lip-sync expert as a method of the suite: trained like the others, it makes no videos."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag
from torch import Tensor, nn

from baselines.sync_expert.distilling import TaughtStage
from baselines.sync_expert.landmark_stage import LandmarkConfig, LandmarkStage
from baselines.sync_expert.network import SyncNet
from baselines.sync_expert.stage import ExpertConfig, ExpertStage
from models.base import DataInfo, Section, Stage, Trainable
from models.official import official_state


def _sight(table: Any) -> str:
    view = table.get("view") if isinstance(table, dict) else getattr(table, "view", None)
    return "landmarks" if view == "landmarks" else "pictures"


class SyncExpertConfig(Section):
    """Configuration of the method ``sync-expert``; its one table is ``[expert]``, whose ``view`` says what it looks
    at."""

    expert: Annotated[
        Annotated[ExpertConfig, Tag("pictures")] | Annotated[LandmarkConfig, Tag("landmarks")],
        Discriminator(_sight),
    ]


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
        options = config.expert
        stage: Stage
        if isinstance(options, LandmarkConfig):
            stage = LandmarkStage(options, options.build())
        elif options.teach is None:
            stage = ExpertStage(options, options.build())
        else:
            stage = TaughtStage(options, options.build())
        self.networks: dict[str, nn.Module] = dict(stage.networks)
        self.stages: dict[str, Stage] = {"expert": stage}

    @property
    def needed_networks(self) -> tuple[str, ...]:
        """The expert; what reads landmarks of pictures is of use in training only."""
        return ("expert",)

    @classmethod
    def from_official(cls, state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Take ``lipsync_expert.pth`` of Wav2Lip, for ``face96`` at the official size: ``expert`` → its state dict.

        Raises:
            ValueError: it is another; names the first key that does not fit.
        """
        return official_state(state, {"expert": SyncNet}, "a checkpoint of Wav2Lip's expert")
