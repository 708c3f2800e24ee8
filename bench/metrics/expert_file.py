"""The trained expert of ``lse.expert``: finds its weights in a run and loads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from bench.common.errors import BenchError
from bench.metrics.judge_file import JudgeFile, config_of, find_judge, load_judge

if TYPE_CHECKING:
    from baselines.sync_expert.method import SyncExpertConfig
    from baselines.sync_expert.network import SyncNet

METHOD, NETWORK, VIEW = "sync-expert", "expert", "face96"


def find_expert(run: Path, whose: str = "lse.expert") -> JudgeFile:
    """The best weights of a run of ``sync-expert``.

    Args:
        run: its folder.
        whose: what is judged by it, for messages.

    Raises:
        BenchError: it is not such a run, its expert uses another view than ``face96``, or it has no checkpoint yet.
    """
    view = _options(run.absolute()).expert.view
    if view != VIEW:
        raise BenchError(
            f"{run.absolute()}: this expert uses the view {view}, {whose} uses {VIEW}: name another run"
        )
    return find_judge(run, METHOD, NETWORK, NETWORK, "the expert")


def load_expert(found: JudgeFile, device: str = "cpu") -> SyncNet:
    """The network with the weights found, in evaluation mode.

    Raises:
        BenchError: the file is missing, holds other weights because the run is still training, or is damaged.
    """
    from baselines.sync_expert.stage import ExpertConfig

    options = _options(found.run).expert
    assert isinstance(options, ExpertConfig)  # find_expert takes no other view
    return load_judge(found, options.build(), device)


def _options(run: Path) -> SyncExpertConfig:
    return cast("SyncExpertConfig", config_of(run, METHOD).method_config)
