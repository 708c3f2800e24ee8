"""A trained method over the clips of a data set: videos that `bench eval` can score, and where they come from.

The folder that is written::

    <clip id>.mp4      the generated frames at 25 fps with the sound that drove them
    pairs.csv          whose sound drove whose face
    sheet.jpg          in transfer: moments of the driving clip, the generated frames below
    generation.json    method, weights, protocol, data, versions, failures (:mod:`bench.generate.record`)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from bench.clips import protocols
from bench.clips.generation_record import Made, claim, complete, one_line, origin
from bench.clips.inputs import from_dataset
from bench.clips.inputs.reading import voice_samples
from bench.clips.job import Job
from bench.common.dask_loop import share
from bench.common.device import pick_device
from bench.common.errors import BenchError
from bench.common.lock import exclusive
from bench.generate import contact_sheet
from bench.generate.adaptation import adapted
from bench.generate.contact_sheet import Driven
from bench.generate.derivations import ClipDeriver, derivation_keys, sound_deriver
from bench.generate.fit import Fit, heard_frames
from bench.generate.footage import VideoFootage, clip_footage
from bench.generate.pairing import GenerateOptions, Task, choose_pairs, make_tasks
from bench.generate.poses import check_pose
from bench.generate.record import TalkerGeneration, read_generation
from bench.generate.sound import DrivingSound
from bench.generate.talkers import Loaded, Talkers, TalkerSource
from bench.generate.writing import write_generated
from bench.train.inputs import trained_on
from bench.weights.store import WeightStore
from models.base import FULL, Drive
from prep.errors import ClipError, PrepError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manner:
    """How videos are made; small and picklable."""

    fit: Fit
    crf: int
    manifest_sha256: str


def generate(
    method: str,
    run: Path,
    data: Path,
    out: Path,
    options: GenerateOptions | None = None,
    *,
    root: Path | None = None,
    pairs: Path | None = None,
    workers: int = 1,
    overwrite: bool = False,
    weights_dir: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    command: str = "",
) -> TalkerGeneration:
    """Make the videos of a split; those that a folder holds already from the same generation are kept.

    With a run set every clip is made by the run of its person, and only clips that no run was trained on are made.

    Args:
        method: name of the method.
        run: folder of its training run, or of its run set.
        data: prepared data set.
        out: folder to write.
        options: protocol, seed, pose, device; None: the defaults.
        root: where the source videos lie now; where None, where they lay at preparation.
        pairs: a list in place of that of the protocol, see :func:`bench.clips.protocols.load_pairs`.
        workers: local processes; with 1 everything happens in this one.
        overwrite: throw away what another generation left in ``out``.
        weights_dir: folder of weights that is searched first.
        on_progress: called after every video, also for those that are there already, with the number of those done
            and of all.
        command: as typed, for the provenance.

    Returns:
        What was written as ``generation.json``. Videos that could not be made are its ``failures``.

    Raises:
        BenchError: the run, an asset, the list or the cast of a transfer is of no use, the method does not take such
            a pose, the folder holds another generation, or the disk is full.
        PrepError: it is no data set, or has no such split.
    """
    started = time.monotonic()
    options = options or GenerateOptions()
    device = pick_device(options.device)
    source = TalkerSource(run.absolute(), device, method, WeightStore.default(weights_dir))
    talkers = source.open()
    held_out = _held_out(talkers)
    inputs = from_dataset({}, data, options.split, root, clips=held_out)
    chosen = choose_pairs(inputs, options, pairs)
    loaded = talkers.any()
    check_pose(loaded.talker, options.pose, any(pair.pose for pair in chosen))
    seeded = pairs is None and options.protocol != "reconstruction"
    seeded = seeded and not (options.cast is not None and options.cast.named)
    driver = chosen[0].audio if options.protocol == "transfer" else ""
    manner = Manner(options.fit, options.crf, inputs.manifest_sha256)
    found = TalkerGeneration(
        complete=False,
        method=method,
        run=str(run),
        config_sha256=sha256(loaded.config.method_config.model_dump_json().encode()).hexdigest(),
        weights=talkers.weights(),
        assets=dict(loaded.assets),
        trained_on=", ".join(dict.fromkeys(name for one in talkers.runs() for name in trained_on(one))),
        per="speaker" if talkers.run_set is not None else "",
        clips_list=held_out,
        protocol="reconstruction" if options.protocol == "reconstruction" and pairs is None else "dubbing",
        seed=options.seed if seeded else None,
        pairs_sha256=sha256(protocols.as_csv(chosen).encode()).hexdigest(),
        data=inputs.name,
        split=inputs.split,
        manifest_sha256=inputs.manifest_sha256,
        longer_audio=options.fit.longer,
        shorter_audio=options.fit.shorter,
        crf=options.crf,
        driver=driver,
        pose="listed" if pairs is not None and any(pair.pose for pair in chosen) else options.pose,
        output=loaded.talker.output,
        mel_padding=loaded.padding,
        adapted=loaded.talker.adapts,
        derived=derivation_keys(loaded),
        device=device,
        command=command,
        **origin(device),
    )
    tasks = make_tasks(inputs, chosen[: options.limit], options.pose == "still")
    with one_line(out):
        out.mkdir(parents=True, exist_ok=True)
        with exclusive(out, "bench generate"):
            there = [video for task in tasks if (video := _video_path(out, task.name)).is_file()]
            claim(out, found, read_generation, there, overwrite)
            protocols.write_pairs(out / protocols.PAIRS, chosen)
            outcomes = _make_all(tasks, out, manner, talkers, workers)
            done = complete(out, found, outcomes, len(tasks), started, on_progress)
            made = [task for task in tasks if task.name not in done.failures]
            if driver and made:
                _draw(out, {job.clip_id: job for job in inputs.jobs}[driver], made, options.fit, done.output)
            return done


def _held_out(talkers: Talkers) -> list[str] | None:
    """Ids of the clips that a run set did not train on; None where there is one run for everybody."""
    if talkers.run_set is None:
        return None
    return sorted(clip for clips in talkers.run_set.held_out().values() for clip in clips)


def _draw(out: Path, driver: Job, made: Sequence[Task], fit: Fit, output: str) -> None:
    """Draw the sheet of a transfer, whose videos are there. Raises BenchError: one cannot be read."""
    heard = heard_frames(voice_samples(made[0].voice))
    try:
        contact_sheet.write_transfer(
            out / contact_sheet.SHEET,
            f"driving clip: {driver.clip_id}",
            clip_footage(driver, (), heard, Fit(longer="cut")),
            [
                Driven(task.name, clip_footage(task.job, (), heard, fit), _video_path(out, task.name))
                for task in made
            ],
            cut=output == FULL,
        )
    except ClipError as error:
        raise BenchError(
            f"{out / contact_sheet.SHEET} cannot be drawn ({error.reason}): make the videos anew with --overwrite"
        ) from None


def _video_path(out: Path, name: str) -> Path:
    return out / f"{name}.mp4"


def make_video(task: Task, talkers: Talkers, out: Path, manner: Manner) -> Made:
    """Make one video; what is wrong with its clip becomes the reason why there is none.

    Raises:
        BenchError: a talker cannot be loaded, or fine-tuning fails.
        OSError: it cannot be written.
    """
    if task.problem:
        return Made(task.name, reason=task.problem)
    loaded = talkers.of(task.speaker)
    path = _video_path(out, task.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        drive = _drive(task, loaded, manner.fit)
        sample = task.sample or task.job
        with adapted(
            loaded, f"{manner.manifest_sha256} {sample.clip_id}", lambda: _own_drive(sample, loaded)
        ):
            write_generated(path, loaded.talker, drive, manner.crf)
    except (ClipError, PrepError) as error:
        return Made(task.name, reason=str(error))
    except (ValueError, RuntimeError, ArithmeticError) as error:
        # What networks and geometry raise; the first line, since torch adds a page.
        lines = str(error).strip().splitlines() or [""]
        log.debug("%s", task.name, exc_info=True)
        return Made(task.name, reason=f"{type(error).__name__}: {lines[0]}")
    return Made(task.name, drive.footage.n_frames)


def _drive(task: Task, loaded: Loaded, fit: Fit) -> Drive:
    """What a task's video is generated from."""
    samples = voice_samples(task.voice)
    footage = _footage(task.job, loaded, heard_frames(samples), fit)
    speech = DrivingSound(samples, footage.n_frames, loaded.padding, sound_deriver(loaded))
    pose = None if task.still else footage
    if task.pose is not None:
        pose = _footage(task.pose, loaded, footage.n_frames, Fit(shorter="cut"))
    return Drive(footage, speech, pose)


def _own_drive(job: Job, loaded: Loaded) -> Drive:
    """A clip with its own sound."""
    footage = _footage(job, loaded, 0, Fit(shorter="pad"))
    return Drive(footage, footage.speech, footage)


def _footage(job: Job, loaded: Loaded, sound: int, fit: Fit) -> VideoFootage:
    return clip_footage(
        job, loaded.talker.views, sound, fit, padding=loaded.padding, derive=ClipDeriver(loaded, job)
    )


def _make_all(
    tasks: Sequence[Task], out: Path, manner: Manner, talkers: Talkers, workers: int
) -> Iterator[Made]:
    """Make the videos that are not there yet; yields a result for every task."""
    pending = []
    for task in tasks:
        if _video_path(out, task.name).is_file():
            yield Made(task.name)
        else:
            pending.append(task)
    # Clips of one person follow one another, so that each run of a run set is loaded once.
    pending.sort(key=lambda task: task.speaker if talkers.run_set is not None else "")
    yield from share(
        pending,
        talkers.source.open,
        partial(make_video, out=out.absolute(), manner=manner),
        lambda task, reason: Made(task.name, reason=reason),
        built=talkers,
        workers=workers,
    )
