"""The rows that are made from the truth, added to the methods' own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from baselines.trivial import wrong_audio
from bench.clips.inputs.base import Inputs, Protocol
from bench.clips.job import TRIVIAL, Candidate, Codec, Job, Voice
from bench.common.errors import BenchError
from prep.errors import ClipError
from prep.names import known

#: Why a row has no video for a clip. The same text for all clips, since reasons are counted.
NO_OTHER_CLIP = "there is no other clip whose sound could be taken"
OWN_SOUND = "the pair is a video with its own sound"
NO_SOUND = "there is no sound that drives the face"
NO_CODEC = "no prediction whose codec could be taken"


def trivial_rows(protocol: Protocol) -> tuple[str, ...]:
    """The rows that a protocol defines, in the order of tables.

    In dubbing another sound drives the face. The true frames with that sound are ``wrong_audio``: the lips speak other
    words than the sound. ``still`` is the first frame with that sound. The other rows are
    left out: the true video has its own sound, so its figures could not be compared with those of the methods.
    """
    return TRIVIAL if protocol == "reconstruction" else ("still", "wrong_audio")


def with_trivial(inputs: Inputs, rows: Sequence[str] = TRIVIAL, seed: int = 0) -> Inputs:
    """Add candidates that are made from the truth, after the methods.

    In reconstruction ``wrong_audio`` has the sound of another clip, the other rows have the clip's own. In dubbing both
    rows have the sound that drives the face: that of the list, else that of the first method's prediction. The codec of
    ``reencoded`` is that of the first method's prediction, or of the next method's if that cannot be read; without any
    method it is x264 with a constant rate factor of 18.

    Args:
        inputs: what is scored.
        rows: of :data:`bench.clips.job.TRIVIAL`; those that the protocol does not define are left out.
        seed: of the choice of wrong sounds.

    Raises:
        BenchError: there are no true videos, or the protocol defines none of the rows.
        PrepError: a row is unknown.
    """
    asked = known("row", list(rows), TRIVIAL)
    wanted = [row for row in asked if row in trivial_rows(inputs.protocol)]
    if asked and not wanted:
        raise BenchError(f"the {inputs.protocol} protocol does not define {', '.join(asked)}")
    if wanted and not any(job.truth for job in inputs.jobs) and not inputs.problems:
        raise BenchError(f"the rows {', '.join(wanted)} are made from the true videos, and none were given")
    others = wrong_audio(inputs.voices, seed) if inputs.protocol == "reconstruction" else None
    jobs = []
    for job in inputs.jobs:
        added = (_candidate(row, job, inputs, others) for row in wanted)
        jobs.append(replace(job, candidates=(*job.candidates, *added)))
    return replace(inputs, jobs=jobs)


def _candidate(row: str, job: Job, inputs: Inputs, others: Mapping[str, str] | None) -> Candidate:
    made = Candidate(row, kind="trivial", audio=_driving(job, inputs))
    if job.truth is None:
        return replace(made, problem=inputs.problems[job.clip_id])
    if row == "wrong_audio" and others is not None:
        if job.clip_id not in others:
            return replace(made, audio=None, problem=NO_OTHER_CLIP)
        return replace(made, audio=inputs.voices[others[job.clip_id]])
    if made.audio is None:
        return replace(made, problem=NO_SOUND)
    if row == "wrong_audio" and made.audio.path == job.truth.path:
        return replace(made, audio=None, problem=OWN_SOUND)
    return _coded(made, job) if row == "reencoded" else made


def _driving(job: Job, inputs: Inputs) -> Voice | None:
    """The sound of the list, of the data set or of the true video; in dubbing without a list, that of a prediction."""
    if job.clip_id in inputs.voices or inputs.kind == "pairs":
        return inputs.voices.get(job.clip_id)
    return next((Voice(c.video.path) for c in job.candidates if c.video is not None), None)


def _coded(made: Candidate, job: Job) -> Candidate:
    from bench.clips.codec import probe_codec

    methods = [candidate for candidate in job.candidates if candidate.kind == "method"]
    if not methods:
        return replace(made, codec=Codec())
    problem = NO_CODEC
    for method in methods:
        if method.video is not None:
            try:
                # Coded like that video, and with the same output: the bit rate of a video of a view is for
                # frames of a view.
                codec = probe_codec(method.video.path)
                return replace(made, codec=codec, paints=method.paints, like=method.method)
            except ClipError as error:
                problem = f"the codec of the prediction cannot be taken: {error.reason}"
    return replace(made, problem=problem)
