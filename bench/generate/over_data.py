"""A trained method over the clips of a data set: videos that `bench eval` can score, and where they come from.

The folder that is written::

    <clip id>.mp4      the generated frames at 25 fps with the sound that drove them
    pairs.csv          whose sound drove whose face
    sheet.jpg          in transfer: moments of the driving clip, the generated frames below
    generation.json    method, weights, protocol, data, versions, failures: :class:`Generation`
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, ValidationError

from bench.clips import protocols
from bench.clips.generation_record import GenerationRecord, Made, claim, complete, one_line, origin
from bench.clips.inputs import Inputs, from_dataset
from bench.clips.inputs.dataset import NO_SOURCE
from bench.clips.inputs.declared import GENERATION
from bench.clips.inputs.reading import voice_samples
from bench.clips.job import Job, Voice
from bench.clips.protocols import Cast, Pair
from bench.common.dask_loop import share
from bench.common.errors import BenchError
from bench.common.lock import exclusive
from bench.generate import contact_sheet
from bench.generate.contact_sheet import Driven
from bench.generate.fit import Fit, heard_frames
from bench.generate.footage import VideoFootage, clip_footage
from bench.generate.sound import DrivingSound
from bench.train.inputs import trained_on
from prep.errors import ClipError, PrepError
from prep.shards import open_shard, read_manifest
from prep.video_writing import write_video

if TYPE_CHECKING:
    from bench.train.config import RunConfig
    from models.base import Talker

log = logging.getLogger(__name__)


class Generation(GenerationRecord):
    """What ``generation.json`` holds where a method of the suite made the videos."""

    free = GenerationRecord.free | {"run"}

    run: str = Field(description="folder of the training run, as it was given")
    config_sha256: str = Field(description="of the method's configuration")
    weights: dict[str, str] = Field(description="network → SHA-256 of its file in the run")
    trained_on: str = Field(
        "", description="names of the data sets of the training run, where it has a record"
    )
    driver: str = Field("", description="in transfer: the clip whose sound drives all others")
    device: str


@dataclass(frozen=True)
class Options:
    """What a generation is asked for.

    Attributes:
        protocol: whose sound drives the faces.
        seed: of the pairs in dubbing and transfer.
        cast: who takes part in a transfer; None where the protocol is another.
        fit: how a video and a sound of another length come together.
        crf: x264's constant rate factor.
        device: of torch.
        split: of the data set; None: as :func:`bench.clips.inputs.from_dataset` chooses.
        limit: the first so many pairs only.
    """

    protocol: protocols.Name = "reconstruction"
    seed: int = 0
    cast: Cast | None = None
    fit: Fit = field(default_factory=Fit)
    crf: int = 18
    device: str = "cpu"
    split: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Task:
    """One video to make; small and picklable.

    Attributes:
        name: of its file, without suffix.
        job: the clip that is seen.
        voice: the sound that drives it.
        problem: why it cannot be made, or ``""``.
    """

    name: str
    job: Job
    voice: Voice
    problem: str = ""


@dataclass(frozen=True)
class Plan:
    """What videos are made with and how; small and picklable."""

    run: Path
    fit: Fit
    crf: int
    device: str
    padding: str

    def build(self) -> Talker:
        """The method, in this process."""
        return load_method(self.run, self.device)[1]


def generate(
    method: str,
    run: Path,
    data: Path,
    out: Path,
    options: Options,
    *,
    root: Path | None = None,
    pairs: Path | None = None,
    workers: int = 1,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    command: str = "",
) -> Generation:
    """Make the videos of a split; those that a folder holds already from the same generation are kept.

    Args:
        method: name of the method.
        run: folder of its training run.
        data: prepared data set.
        out: folder to write.
        options: protocol, seed, device.
        root: where the source videos lie now; where None, where they lay at preparation.
        pairs: a list in place of that of the protocol, see :func:`bench.clips.protocols.load_pairs`.
        workers: local processes; with 1 everything happens in this one.
        overwrite: throw away what another generation left in ``out``.
        on_progress: called after every video, also for those that are there already, with the number of those done
            and of all.
        command: as typed, for the provenance.

    Returns:
        What was written as ``generation.json``. Videos that could not be made are its ``failures``.

    Raises:
        BenchError: the run, the list or the cast of a transfer is of no use, the folder holds another generation, or
            the disk is full.
        PrepError: it is no data set, or has no such split.
    """
    started = time.monotonic()
    inputs = from_dataset({}, data, options.split, root)
    chosen = _pairs(inputs, options, pairs)
    config, built = load_method(run, options.device, method)
    jobs = {job.clip_id: job for job in inputs.jobs}
    seeded = pairs is None and options.protocol != "reconstruction"
    seeded = seeded and not (options.cast is not None and options.cast.named)
    driver = chosen[0].audio if options.protocol == "transfer" else ""
    padding = (read_manifest(data).get("options") or {}).get("mel_padding", "constant")
    plan = Plan(run.absolute(), options.fit, options.crf, options.device, padding)
    found = Generation(
        complete=False,
        method=method,
        run=str(run),
        config_sha256=sha256(config.method_config.model_dump_json().encode()).hexdigest(),
        weights=weight_hashes(run, built),
        trained_on=", ".join(trained_on(run)),
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
        device=options.device,
        command=command,
        **origin(options.device),
    )
    tasks = [_task(pair, jobs, inputs.voices, inputs.problems) for pair in chosen[: options.limit]]
    with one_line(out):
        out.mkdir(parents=True, exist_ok=True)
        with exclusive(out, "bench generate"):
            there = [video for task in tasks if (video := _video_path(out, task.name)).is_file()]
            claim(out, found, read_generation, there, overwrite)
            protocols.write_pairs(out / protocols.PAIRS, chosen)
            outcomes = _make_all(tasks, out, plan, built, workers)
            done = complete(out, found, outcomes, len(tasks), started, on_progress)
            made = [task for task in tasks if task.name not in done.failures]
            if driver and made:
                _draw(out, jobs[driver], made, options.fit)
            return done


def load_method(run: Path, device: str, name: str | None = None) -> tuple[RunConfig, Talker]:
    """A trained method on its device, in evaluation mode.

    Args:
        run: folder of a training run.
        device: of torch.
        name: what the method must be.

    Raises:
        BenchError: there is no such method or run, it is a run of another method, or its weights do not fit.
    """
    from bench.common.methods import get_talker
    from bench.train.checkpoint import load_run
    from models.base import Talker

    if name is not None:
        get_talker(name)
    config, method = load_run(run)
    if name is not None and config.method != name:
        raise BenchError(f"{run} is a run of {config.method}, not of {name}: give another --run")
    if not isinstance(method, Talker):
        raise BenchError(f"{run} is a run of {config.method}, which makes no videos: give another --run")
    for network in method.networks.values():
        network.to(device)
    return config, method


def weight_hashes(run: Path, method: Talker) -> dict[str, str]:
    """Network → SHA-256 of the file that :func:`bench.train.checkpoint.load_run` takes it from."""
    from bench.train.checkpoint import best_files
    from prep.shards import sha256 as file_sha256

    files: dict[str, Path] = {}
    for stage in method.stages.values():
        files |= {n: path for n, path in best_files(run, stage.name).items() if n in stage.networks}
    return {name: file_sha256(path) for name, path in sorted(files.items())}


def write_generated(
    path: Path,
    method: Talker,
    footage: VideoFootage,
    sound: DrivingSound,
    crf: int,
    watch: Watch | None = None,
) -> None:
    """Generate and write a video with its sound; it appears when it is complete.

    Args:
        path: an MP4; its folder must exist.
        method: on its device, in evaluation mode.
        footage: what is seen.
        sound: what is heard, as long.
        crf: x264's constant rate factor.
        watch: called with the number and the picture of every frame.

    Raises:
        ClipError: the video cannot be decoded to its end.
        ValueError: the method gives frames of another number or size than it was given.
        OSError: the file cannot be written.
    """
    import torch

    from models.base import Drive

    with torch.inference_mode():
        frames = _checked(method.generate(Drive(footage, sound, footage)), footage, watch)
        write_video(path, frames, samples=sound.samples, crf=crf)


Watch = Callable[[int, np.ndarray], None]


def _checked(
    frames: Iterator[np.ndarray], footage: VideoFootage, watch: Watch | None
) -> Iterator[np.ndarray]:
    count = 0
    shape = (footage.height, footage.width, 3)
    for frame in frames:
        if frame.shape != shape or frame.dtype != np.uint8:
            raise ValueError(f"frame {count} is {frame.dtype} {frame.shape}, the footage uint8 {shape}")
        if watch is not None:
            watch(count, frame)
        count += 1
        yield frame
    if count != footage.n_frames:
        raise ValueError(f"{count} frames were generated for {footage.n_frames}")


def _pairs(inputs: Inputs, options: Options, listed: Path | None) -> list[Pair]:
    """The pairs of a protocol, or those of a list. Raises BenchError: options that do not go together."""
    clips = [job.clip_id for job in inputs.jobs]
    if options.cast is not None and options.protocol != "transfer":
        raise BenchError(
            "--driver, --target and --targets are of --protocol transfer alone: give it, or none"
        )
    if listed is not None and options.protocol == "transfer":
        raise BenchError(f"{listed} says who drives whom, and so does --protocol transfer: give one")
    if listed is not None:
        return protocols.load_pairs(listed, clips)
    if options.protocol == "dubbing":
        return protocols.dubbing(clips, options.seed)
    if options.protocol == "reconstruction":
        return protocols.reconstruction(clips)
    chosen = protocols.transfer(_speakers(inputs), options.seed, options.cast)
    if chosen[0].audio in inputs.problems:
        raise BenchError(f"{chosen[0].audio}, the driving clip: {NO_SOURCE}, or another clip with --driver")
    return chosen


def _speakers(inputs: Inputs) -> dict[str, str]:
    """Clip id → who speaks, as the corpus tells."""
    found: dict[str, str] = {}
    for path in dict.fromkeys(job.shard[0] for job in inputs.jobs if job.shard is not None):
        table = open_shard(path).read(columns=["clip_id", "speaker"], use_threads=False)
        found |= {row["clip_id"]: row["speaker"] for row in table.to_pylist()}
    return found


def _draw(out: Path, driver: Job, made: Sequence[Task], fit: Fit) -> None:
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
        )
    except ClipError as error:
        raise BenchError(
            f"{out / contact_sheet.SHEET} cannot be drawn ({error.reason}): make the videos anew with --overwrite"
        ) from None


def _task(
    pair: Pair, jobs: Mapping[str, Job], voices: Mapping[str, Voice], problems: Mapping[str, str]
) -> Task:
    problem = NO_SOURCE if pair.video in problems else ""
    return Task(pair.name, jobs[pair.video], voices[pair.audio], problem)


def _video_path(out: Path, name: str) -> Path:
    return out / f"{name}.mp4"


def make_video(task: Task, method: Talker, out: Path, plan: Plan) -> Made:
    """Make one video; what is wrong with its clip becomes the reason why there is none.

    Raises:
        OSError: it cannot be written.
    """
    if task.problem:
        return Made(task.name, reason=task.problem)
    path = _video_path(out, task.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        samples = voice_samples(task.voice)
        footage = clip_footage(task.job, method.views, heard_frames(samples), plan.fit)
        sound = DrivingSound(samples, footage.n_frames, plan.padding)
        write_generated(path, method, footage, sound, plan.crf)
    except (ClipError, PrepError) as error:
        return Made(task.name, reason=str(error))
    except (ValueError, RuntimeError, ArithmeticError) as error:
        # What networks and geometry raise; the first line, since torch adds a page.
        lines = str(error).strip().splitlines() or [""]
        log.debug("%s", task.name, exc_info=True)
        return Made(task.name, reason=f"{type(error).__name__}: {lines[0]}")
    return Made(task.name, footage.n_frames)


def _make_all(tasks: Sequence[Task], out: Path, plan: Plan, method: Talker, workers: int) -> Iterator[Made]:
    """Make the videos that are not there yet; yields a result for every task."""
    pending = []
    for task in tasks:
        if _video_path(out, task.name).is_file():
            yield Made(task.name)
        else:
            pending.append(task)
    yield from share(
        pending,
        plan.build,
        partial(make_video, out=out.absolute(), plan=plan),
        lambda task, reason: Made(task.name, reason=reason),
        built=method,
        workers=workers,
    )


def read_generation(folder: Path) -> Generation:
    """Where the videos of a folder come from.

    Raises:
        BenchError: the folder does not say it in a form that is understood.
    """
    path = folder / GENERATION
    try:
        return Generation.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = str(error).splitlines()
        raise BenchError(f"{path} cannot be read ({'; '.join(first[:3])}): make the videos anew") from None
