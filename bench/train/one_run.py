"""One training run from its configuration: checks, loading and records, before and after the stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.common.errors import BenchError
from bench.common.lock import exclusive
from bench.common.methods import get_method
from bench.train.assets import load_assets
from bench.train.config import CONFIG, RunConfig, differences
from bench.train.data_info import gather, load_info, save_info
from bench.train.derivations import check_derived
from bench.train.fitting import check_clips
from bench.train.inputs import build_method, check_folders, check_samples, record
from bench.train.loading import part_clips
from bench.train.log import Reporter, RunLog, Several
from bench.train.parallel import is_main_process
from bench.train.precision import resolve
from bench.train.runner import TrainResult, train_stages
from bench.train.sound import mixed_versions
from bench.train.starting import Start, load_start
from bench.train.stopping import Stop
from bench.weights.store import WeightStore
from models.base import DataInfo, FitStage, Stage, Trainable
from prep.names import known


def train_run(
    config: RunConfig,
    saved: RunConfig | None,
    *,
    stages: Sequence[str] = (),
    store: WeightStore,
    reporter: Reporter | None = None,
    stop: Stop | None = None,
) -> TrainResult:
    """Train stages of one run. Its folder is created after all inputs were checked.

    Args:
        config: of the run, resolved.
        saved: the configuration of the run to resume; None: a new run.
        stages: names, in any order; empty: all.
        store: finds the weights of assets.
        reporter: receives the progress, in addition to the log of the run; in the main process only.
        stop: says when to end early. None: the run reacts to signals while stages are trained.

    Raises:
        BenchError: data, weights or options are not usable, another process trains the run, a loss is not finite, or
            something cannot be written.
        PrepError: a folder is not a data set, or lacks what a stage needs.
    """
    checked = check_run(config, stages, store)
    method, wanted, derived = checked.method, checked.stages, checked.derived
    config, chosen = resolve(config)
    if not is_main_process():
        return train_stages(
            config, method, wanted, config.out, saved is not None, Several(), stop=stop, derived=derived
        )
    with writing(config.out, config.method, fresh=saved is None):
        changed = None if saved is None else differences(saved, config)
        with one_line(config.out):
            record(
                config.out,
                config,
                dict(checked.assets)
                | {f"derived columns {d}": key for d, key in derived.items()}
                | (checked.start.digests() if checked.start else {}),
                changed,
            )
            if saved is None:
                save_info(config.out, checked.info)
                if checked.start:
                    checked.start.write(config.out)
            # Written last, because this file marks the folder as a run.
            config.save(config.out)
        with RunLog(config.out, tensorboard=config.runner.tensorboard) as log:
            reporters = Several([log] if reporter is None else [log, reporter])
            for line in checked.start.notes if checked.start else ():
                reporters.note(line)
            if chosen:
                reporters.note(chosen)
            if warning := mixed_versions(config.data):
                reporters.note(f"warning: {warning}")
            return train_stages(
                config, method, wanted, config.out, saved is not None, reporters, stop=stop, derived=derived
            )


@dataclass(frozen=True)
class Checked:
    """A method whose inputs were checked.

    Attributes:
        info: facts about its training data.
        method: built, with its assets loaded.
        stages: names of those to train.
        derived: derivation → the key of the derived columns to use.
        assets: name of the weights → SHA-256.
        start: the weights that a new run begins with, already loaded; None: random ones, or the run is resumed.
    """

    info: DataInfo
    method: Trainable
    stages: tuple[str, ...]
    derived: Mapping[str, str]
    assets: Mapping[str, str]
    start: Start | None


def check_run(
    config: RunConfig, stages: Sequence[str], store: WeightStore, *, weights: bool = True
) -> Checked:
    """Check all inputs of a run, and build its method; nothing is written. Arguments as for :func:`train_run`.

    Args:
        weights: load the weights of assets; without them they keep random ones.

    Raises:
        BenchError: data, weights or options are not usable.
        NoSamples: of prep; the clips have no sample for a stage.
        PrepError: a folder is not a data set, or lacks what a stage needs.
    """
    main = is_main_process()
    if main:
        check_folders(config)
    info = _data_info(config)
    method = build_method(config, info)
    wanted = tuple(known("stage", stages, method.stages) if stages else method.stages)
    chosen = [stage for name, stage in method.stages.items() if name in wanted]
    stepped = [stage for stage in chosen if isinstance(stage, Stage)]
    derived = check_derived(method, stepped, config, store)
    if main or config.person is not None:
        # In a run set, all processes must know which persons to skip.
        check_samples(config, stepped, derived)
    for stage in chosen:
        if isinstance(stage, FitStage):
            check_clips(config, stage)
    start = None if (config.out / CONFIG).is_file() else load_start(config, method, wanted)
    assets = load_assets(method, {"train"}, store, stages=chosen) if weights else {}
    return Checked(info, method, wanted, derived, assets, start)


def refuse_used(folder: Path) -> None:
    """Check that the folder of a new run is empty or does not exist.

    Raises:
        BenchError: it exists and is not empty, or is not a folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BenchError(f"{folder} exists already: continue it with --resume, or name another with --run")


@contextmanager
def writing(folder: Path, method: str, *, fresh: bool) -> Iterator[None]:
    """Create the folder of a run, and keep other processes from writing it while the block runs.

    Raises:
        BenchError: another process writes it, ``fresh`` is set and the folder is not empty, or it cannot be created.
    """
    with one_line(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder, f"bench train {method}"):
        if fresh:
            # Another process may have started since the first check.
            refuse_used(folder)
        yield


@contextmanager
def one_line(folder: Path) -> Iterator[None]:
    """Turn an error of the file system into one line about the folder."""
    try:
        yield
    except OSError as error:
        raise BenchError(f"{folder} cannot be written: {error.strerror}") from error


def _data_info(config: RunConfig) -> DataInfo:
    if (config.out / CONFIG).is_file():
        return load_info(config.out)
    splits, clips = part_clips(config, "train")
    return gather(config.data, splits, clips, get_method(config.method).background)
