"""The videos to generate: the pairs of a protocol or of a list, as tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.clips import protocols
from bench.clips.inputs import Inputs
from bench.clips.inputs.dataset import NO_SOURCE
from bench.clips.job import Job, Voice
from bench.clips.protocols import Cast, Pair
from bench.common.errors import BenchError
from bench.generate.fit import Fit
from bench.generate.record import PoseFrom
from prep.shards import open_shard
from prep.speakers import speaker_of


@dataclass(frozen=True)
class GenerateOptions:
    """The options of a generation.

    Attributes:
        protocol: which sound drives the faces.
        seed: of the pairs in dubbing and transfer.
        cast: driver and targets of a transfer; None for other protocols.
        pose: source of the head pose: ``footage``: the clip that gives the frames; ``driver``: the clip that gives the
            sound; ``still``: none, the head does not move. A column ``pose`` in a list of pairs has priority.
        fit: how a video and a sound of different lengths are combined.
        crf: x264's constant rate factor.
        device: of torch; ``auto``: a GPU if available.
        split: of the data set; None: as :func:`bench.clips.inputs.from_dataset` chooses.
        clips: ids of the clips to generate; None: all of the split, or with a run set those that it held out.
        limit: use only this many pairs, the first ones.
        overrides: ``generate.<option>=<value>``, instead of the options of the run.
    """

    protocol: protocols.Name = "reconstruction"
    seed: int = 0
    cast: Cast | None = None
    pose: PoseFrom = "footage"
    fit: Fit = field(default_factory=Fit)
    crf: int = 18
    device: str = "auto"
    split: str | None = None
    clips: tuple[str, ...] | None = None
    limit: int | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """One video to make; small and picklable.

    Attributes:
        name: of its file, without suffix.
        job: the clip that gives the frames.
        voice: the sound that drives it.
        speaker: the person in the frames.
        pose: the clip that gives the head pose, if it is another one; ``still``: no pose.
        sample: the clip of the same person for adaptation.
        problem: why it cannot be made, or ``""``.
        heard: the id of the clip whose sound ``voice`` is, if it is a clip's.
    """

    name: str
    job: Job
    voice: Voice
    speaker: str = ""
    pose: Job | None = None
    still: bool = False
    sample: Job | None = None
    problem: str = ""
    heard: str = ""


def choose_pairs(inputs: Inputs, options: GenerateOptions, listed: Path | None) -> list[Pair]:
    """The pairs of a protocol, or those of a list.

    Raises:
        BenchError: options contradict each other, or a list cannot be used.
    """
    clips = [job.clip_id for job in inputs.jobs]
    if options.cast is not None and options.protocol != "transfer":
        raise BenchError(
            "--driver, --target and --targets need --protocol transfer: add it, or leave them out"
        )
    if listed is not None and options.protocol == "transfer":
        raise BenchError(f"{listed} and --protocol transfer both define the pairs: give one of them")
    if listed is not None:
        chosen = protocols.load_pairs(listed, clips)
    elif options.protocol == "dubbing":
        chosen = protocols.dubbing(clips, options.seed)
    elif options.protocol == "reconstruction":
        chosen = protocols.reconstruction(clips)
    else:
        chosen = protocols.transfer(_named_speakers(inputs), options.seed, options.cast)
        if chosen[0].audio in inputs.problems:
            raise BenchError(
                f"{chosen[0].audio}, the driving clip: {NO_SOURCE}, or another clip with --driver"
            )
    if options.pose == "driver":
        chosen = [pair if pair.pose else replace(pair, pose=pair.audio) for pair in chosen]
    return chosen


def make_tasks(inputs: Inputs, pairs: list[Pair], still: bool) -> list[Task]:
    """Pairs as tasks: clips and sounds in place of their names.

    Args:
        inputs: all clips.
        pairs: of :func:`choose_pairs`.
        still: heads do not move, for pairs that name no pose.
    """
    jobs = {job.clip_id: job for job in inputs.jobs}
    speakers = {clip: speaker_of(clip, named) for clip, named in _named_speakers(inputs).items()}
    # Adaptation to a person always uses the same clip, independent of the videos to generate.
    samples: dict[str, Job] = {}
    for clip in sorted(jobs):
        if clip not in inputs.problems:
            samples.setdefault(speakers[clip], jobs[clip])
    return [_task(pair, jobs, inputs.voices, inputs.problems, speakers, samples, still) for pair in pairs]


def _task(
    pair: Pair,
    jobs: Mapping[str, Job],
    voices: Mapping[str, Voice],
    problems: Mapping[str, str],
    speakers: Mapping[str, str],
    samples: Mapping[str, Job],
    still: bool,
) -> Task:
    speaker = speakers[pair.video]
    return Task(
        pair.name,
        jobs[pair.video],
        voices[pair.audio],
        speaker,
        jobs[pair.pose] if pair.pose and pair.pose != pair.video else None,
        still and not pair.pose,
        samples.get(speaker),
        NO_SOURCE if pair.video in problems or pair.pose in problems else "",
        pair.audio,
    )


def _named_speakers(inputs: Inputs) -> dict[str, str]:
    """Clip id → speaker, as in the corpus."""
    found: dict[str, str] = {}
    for path in dict.fromkeys(job.shard[0] for job in inputs.jobs if job.shard is not None):
        table = open_shard(path).read(columns=["clip_id", "speaker"], use_threads=False)
        found |= {row["clip_id"]: row["speaker"] for row in table.to_pylist()}
    clips = {job.clip_id for job in inputs.jobs}
    return {clip: speaker for clip, speaker in found.items() if clip in clips}
