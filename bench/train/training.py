"""Training as a function: ``bench train`` without the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bench.common.errors import BenchError
from bench.common.methods import get_method
from bench.train.config import RunConfig, change_config, check_resume, load_config
from bench.train.log import Reporter
from bench.train.one_run import refuse_used, train_run
from bench.train.parallel import is_main_process
from bench.train.run_set import RunSet
from bench.train.run_set_training import begin_set, train_set
from bench.train.runner import TrainResult
from bench.train.sound import data_sound
from bench.weights.store import WeightStore


def train(
    method: str,
    data: Sequence[Path] = (),
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    clips: Path | None = None,
    stages: Sequence[str] = (),
    run: Path | None = None,
    resume: bool = False,
    from_run: Path | None = None,
    per: Literal["speaker"] | None = None,
    speakers: Sequence[str] = (),
    weights_dir: Path | None = None,
    reporter: Reporter | None = None,
) -> TrainResult:
    """Train the stages of a method one after the other, in one run or in a separate run for every person.

    Under ``accelerate launch`` every process calls it in the same way; only the main process writes and reports. In the
    main thread, SIGTERM and Ctrl-C end training with a checkpoint to resume from.

    Args:
        method: name, see ``bench ls methods``.
        data: prepared data sets; may be empty if a run is resumed.
        preset: ``paper``, ``tiny``, or the path of a TOML file; None: ``paper``, or that of the resumed run.
        overrides: ``key=value`` over the preset, such as ``runner.seed=1``.
        clips: list of the clips to train on (:func:`bench.clips.clip_lists.read_clips`); None: all of the split.
        stages: names of those to train; empty: all.
        run: folder to write; None: ``runs/METHOD``.
        resume: continue in an existing folder.
        from_run: a run of the same method, or imported weights (:func:`bench.train.official.import_official`):
            fine-tune from its best weights, with new optimizers, from step 0. None: begin with random weights.
        per: ``speaker``: a run set, see :class:`bench.train.run_set.RunSet`.
        speakers: with ``per``: train only these persons; empty: all.
        weights_dir: folder of weights that is searched first.
        reporter: receives the progress, in addition to the log in the run.

    Returns:
        How it ended.

    Raises:
        BenchError: an option, a data set, weights or the folder is not usable; a loss is not finite; something cannot
            be written. One line each.
        PrepError: a folder is not a data set, or lacks what a stage needs.
    """
    get_method(method)
    folder = run or Path("runs") / method
    if speakers and per is None:
        raise BenchError("persons are named, but one run is trained: name them with --per speaker")
    if is_main_process() and not resume:
        refuse_used(folder)
    store = WeightStore.default(weights_dir)
    if per is None:
        config, saved = _configured(method, preset, overrides, data, clips, folder, resume, from_run)
        return train_run(config, saved, stages=stages, store=store, reporter=reporter)
    run_set, config = _configured_set(method, preset, overrides, data, clips, folder, resume, from_run)
    return train_set(run_set, config, speakers, resume, stages=stages, store=store, reporter=reporter)


def _configured(
    method: str,
    preset: str | None,
    overrides: Sequence[str],
    data: Sequence[Path],
    clips: Path | None,
    folder: Path,
    resume: bool,
    from_run: Path | None,
) -> tuple[RunConfig, RunConfig | None]:
    """The configuration, and that of the run to resume."""
    if not resume:
        return new_config(method, preset, overrides, data, clips, folder, from_run), None
    if RunSet.load(folder) is not None:
        raise BenchError(f"{folder} is a run set: continue it with --per speaker --resume")
    saved = RunConfig.load(folder)
    _check_start(saved, from_run)
    return _changed(saved, method, preset, overrides, data, clips)


def _configured_set(
    method: str,
    preset: str | None,
    overrides: Sequence[str],
    data: Sequence[Path],
    clips: Path | None,
    folder: Path,
    resume: bool,
    from_run: Path | None,
) -> tuple[RunSet, RunConfig]:
    """The run set, and the configuration of each of its runs."""
    if not resume:
        config = new_config(method, preset, overrides, data, clips, folder, from_run)
        return begin_set(config), config
    run_set = RunSet.load(folder)
    if run_set is None:
        raise BenchError(f"{folder} is not a run set: start one without --resume")
    saved = run_set.run_config()
    _check_start(saved, from_run)
    config, _ = _changed(saved, method, preset, overrides, data, clips)
    return run_set, config


def new_config(
    method: str,
    preset: str | None,
    overrides: Sequence[str],
    data: Sequence[Path],
    clips: Path | None,
    folder: Path,
    from_run: Path | None,
) -> RunConfig:
    """The configuration of a new run; arguments as for :func:`train`. Raises as that, for what is not usable."""
    if not data:
        raise BenchError("nothing to train on: name a prepared data set with --data")
    config = load_config(method, preset or "paper", overrides, data, folder, clips)
    sound = data_sound(data)
    for name, value in config.sound.model_dump(exclude_unset=True).items():
        prepared = getattr(sound, name)
        if value != prepared:
            raise BenchError(
                f"sound.{name}={value}: {', '.join(map(str, data))} was prepared with {prepared}: leave that out, or "
                f"prepare it again with --{name.replace('_', '-')} {value}"
            )
    return config.model_copy(update={"sound": sound, "begun_from": from_run})


def _check_start(saved: RunConfig, from_run: Path | None) -> None:
    """Check that a resumed run began with the weights that are named, if any are."""
    begun = saved.begun_from
    if from_run is None or (begun is not None and begun.resolve() == from_run.resolve()):
        return
    raise BenchError(
        f"{saved.out} was begun from {begun or 'random weights'}, not from {from_run}: leave --from out, or start a "
        "new training with another --run"
    )


def _changed(
    saved: RunConfig,
    method: str,
    preset: str | None,
    overrides: Sequence[str],
    data: Sequence[Path],
    clips: Path | None,
) -> tuple[RunConfig, RunConfig]:
    """The new and the previous configuration of a run to resume."""
    folder = saved.out
    if saved.method != method:
        raise BenchError(f"{folder} is a run of {saved.method}, not of {method}: name another with --run")
    sound = data_sound(data or saved.data)
    if "sound" not in saved.model_fields_set:
        # Begun by an earlier version, with the sound of its data sets, which must be the same data sets now.
        saved = saved.model_copy(update={"sound": sound})
    if preset is None:
        config = change_config(saved, overrides, data, clips)
    else:
        words = [f"sound.{name}={value}" for name, value in saved.sound.model_dump().items()]
        config = load_config(
            method, preset, [*words, *overrides], data or saved.data, folder, clips or saved.clips
        )
        config = config.model_copy(update={"person": saved.person, "begun_from": saved.begun_from})
    if config.runner.precision == "auto":
        # What was chosen when the run began stays.
        runner = config.runner.model_copy(update={"precision": saved.runner.precision})
        config = config.model_copy(update={"runner": runner})
    check_resume(saved, config)
    config = config.model_copy(update={"sound": sound})
    check_resume(saved, config)
    return config, saved
