"""The shared training runner: it trains the stages of any method one after the other, on one device or several.

A stage defines the losses and their order (:class:`models.base.Stage`). The runner does backward passes, averages
gradients over several processes, clips them, and handles precision, schedules, averages, validation, early stopping and
checkpoints: :mod:`bench.train.stepping`, :mod:`bench.train.stage_run`. A stage without gradient steps
(:class:`models.base.FitStage`) is fitted by :mod:`bench.train.fitting`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator

from bench.common.errors import BenchError
from bench.train.allocator import keep_freed_memory
from bench.train.checkpoint import load_networks
from bench.train.fitting import FitRun
from bench.train.log import Reporter
from bench.train.parallel import make_accelerator
from bench.train.precision import resolve
from bench.train.stage_run import StageRun
from bench.train.stopping import Stop, Stopped
from models.base import FitStage, Trainable

if TYPE_CHECKING:
    from bench.train.config import RunConfig


@dataclass(frozen=True)
class TrainResult:
    """How training ended.

    Attributes:
        run: its folder.
        stopped: training was ended by SIGTERM or Ctrl-C and left a checkpoint to resume from.
        best: stage → figures of its best validation, and its ``step``; empty without validation, and for a run set.
        speakers: of a run set: person → how that person's training ended, in order; else empty.
        skipped: of a run set: person → why there is no run; else empty.
    """

    run: Path
    stopped: bool
    best: dict[str, dict[str, float]] = field(default_factory=dict)
    speakers: dict[str, TrainResult] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def prepared(config: RunConfig, accelerator: Accelerator | None = None) -> tuple[RunConfig, str, Accelerator]:
    """Set this process up for training.

    Args:
        config: of a run.
        accelerator: made from the configuration by default.

    Returns:
        The configuration with the precision that is used, what to say of that choice as
        :func:`bench.train.precision.resolve` does, and the accelerator.
    """
    keep_freed_memory()
    config, chosen = resolve(config)
    torch.use_deterministic_algorithms(config.runner.deterministic)
    return config, chosen, accelerator or make_accelerator(config)


def train_stages(
    config: RunConfig,
    method: Trainable,
    stages: Collection[str],
    run: Path,
    resume: bool,
    reporter: Reporter,
    accelerator: Accelerator | None = None,
    stop: Stop | None = None,
    derived: Mapping[str, str] | None = None,
) -> TrainResult:
    """Train stages of a method, one after the other, each from the best weights of those before it.

    Args:
        config: the resolved configuration.
        method: a built method with its assets loaded.
        stages: names, in any order.
        run: existing folder for checkpoints.
        resume: continue from the last checkpoint; a finished stage is skipped.
        reporter: receives the progress; only that of the main process should show it.
        accelerator: made from the configuration by default.
        stop: an entered context that says when to end early. None: a new one is used, which reacts to signals.
        derived: derivation → the key of the derived columns to use.

    Raises:
        BenchError: a loss is not finite, clips do not suffice for a fit, a checkpoint cannot be written or does not
            fit.
        PrepError: the data set lacks what a stage needs.
    """
    config, _, accelerator = prepared(config, accelerator)
    load_networks(run, method)
    best = {}
    with Stop() if stop is None else nullcontext(stop) as stop:
        for name, stage in method.stages.items():
            if name not in stages:
                continue
            if isinstance(stage, FitStage) and accelerator.num_processes > 1:
                raise BenchError(
                    f"stage {name} is fitted by one process and its workers: leave the launcher out"
                )
            stage_run = (
                FitRun(config, stage, run, reporter, stop)
                if isinstance(stage, FitStage)
                else StageRun(config, stage, run, accelerator, reporter, stop, derived)
            )
            try:
                best[name] = stage_run.train(resume)
            except Stopped:
                return TrainResult(run, True, best)
            # The next stage and generation use the best weights, not the last.
            load_networks(run, method)
    return TrainResult(run, False, best)
