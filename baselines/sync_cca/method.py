"""The linear sync judge as a method of the suite: fitted, not trained; it makes no videos."""

from __future__ import annotations

from torch import nn

from baselines.sync_cca.fitting import CcaConfig, CcaStage
from models.base import DataInfo, FitStage, Section, Trainable


class SyncCcaConfig(Section):
    """Configuration of the method ``sync-cca``; its one table is ``[fit]``."""

    fit: CcaConfig


class SyncCca(Trainable):
    """Canonical correlation of lip landmarks and sound (Hotelling, Biometrika 1936); needs no download.

    Args:
        config: a :class:`SyncCcaConfig`.
        data: not used.
    """

    name = "sync-cca"
    title = "Linear sync judge"
    config_class = SyncCcaConfig

    def __init__(self, config: SyncCcaConfig, data: DataInfo) -> None:
        judge = config.fit.build()
        self.networks: dict[str, nn.Module] = {"judge": judge}
        self.stages: dict[str, FitStage] = {"fit": CcaStage(config.fit, judge)}
