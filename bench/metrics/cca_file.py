"""The fitted linear judge of ``sync.cca``: finds its matrices in a run and loads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from bench.metrics.judge_file import JudgeFile, config_of, find_judge, load_judge

if TYPE_CHECKING:
    from baselines.sync_cca.method import SyncCcaConfig
    from baselines.sync_cca.model import CcaJudge

METHOD, STAGE, NETWORK = "sync-cca", "fit", "judge"


def find_cca(run: Path) -> JudgeFile:
    """The fitted judge of a run of ``sync-cca``.

    Raises:
        BenchError: it is not such a run, or it is not fitted yet.
    """
    return find_judge(run, METHOD, STAGE, NETWORK, "the judge")


def load_cca(found: JudgeFile) -> CcaJudge:
    """The judge found, on the CPU.

    Raises:
        BenchError: the file is missing, holds other matrices because the run was fitted again, or is damaged.
    """
    config = cast("SyncCcaConfig", config_of(found.run, METHOD).method_config)
    return load_judge(found, config.fit.build())
