"""What is to be scored, as data: small, picklable, holding paths and no pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

#: Rows that are derived from the truth, in the order of tables.
TRIVIAL = ("ground_truth", "reencoded", "still", "wrong_audio")
#: What videos show that are no view: full frames.
FULL = "full"
#: Frames by which a prediction may be shorter or longer than the truth.
FRAME_TOLERANCE = 2


@dataclass(frozen=True)
class Take:
    """A span of a video file, read through :func:`prep.video_reading.frames`.

    Attributes:
        path: the file.
        start: first frame at 25 fps.
        stop: frame after the last, or None for the end.
        crop: ``(x, y, width, height)`` in pixels of the file, or None.
        size: side to which the crop is resized, or None.
    """

    path: Path
    start: int = 0
    stop: int | None = None
    crop: tuple[int, int, int, int] | None = None
    size: int | None = None


@dataclass(frozen=True)
class Voice:
    """A span of sound, 16 kHz mono: that of a media file, or of a row of a shard.

    Attributes:
        path: the media file, or the shard.
        start: first frame at 25 fps (640 samples each).
        stop: frame after the last, or None for the end.
        row_group: the clip's row group where ``path`` is a shard; None where it is a media file.
    """

    path: Path
    start: int = 0
    stop: int | None = None
    row_group: int | None = None


@dataclass(frozen=True)
class Codec:
    """How a video is coded, so that the truth can be coded in the same way.

    Attributes:
        name: FFmpeg's name of the encoder: ``libx264``, ``mpeg4`` …
        pix_fmt: ``yuv420p`` …
        bit_rate: bits a second of the picture; None: by ``crf``.
        crf: constant rate factor of libx264, where ``bit_rate`` is None.
    """

    name: str = "libx264"
    pix_fmt: str = "yuv420p"
    bit_rate: int | None = None
    crf: int = 18


@dataclass(frozen=True)
class Candidate:
    """One method's version of a clip.

    Attributes:
        method: its row in tables.
        video: the prediction; None for a row of :data:`TRIVIAL`, which is made from the truth.
        audio: the sound that belongs to the frames; None where there is none (``no_audio`` says why).
        codec: for ``reencoded``: how.
        problem: why there is nothing to score (no such file …), in one line, or ``""``.
        kind: a method's own, or made from the truth.
        paints: what its pictures show: :data:`FULL`, or the name of a view.
    """

    method: str
    video: Take | None = None
    audio: Voice | None = None
    codec: Codec | None = None
    problem: str = ""
    kind: Literal["method", "trivial"] = "method"
    # Not in the repr, which tells evaluations apart: those of full frames keep theirs.
    paints: str = field(default=FULL, repr=False)


@dataclass(frozen=True)
class Job:
    """One clip with all its candidates: the unit of work, so that the truth is decoded once for all of them.

    Attributes:
        clip_id: unique in the evaluation.
        truth: the true video; None where there is none at all.
        n_frames: of the truth where that is known already.
        shard: shard and row group that hold the truth's landmarks, or None: they are detected when needed.
        candidates: what is scored.
        paired: frame t of a prediction belongs to frame t of the truth; in dubbing the sound sets the length instead:
            what looks at the prediction alone sees all of it, what compares sees the frames that both have.
        output: the pictures that are scored: :data:`FULL`, or the name of a view, which is then cut out of all full
            frames as it lies in the truth.
    """

    clip_id: str
    truth: Take | None
    n_frames: int | None = None
    shard: tuple[Path, int] | None = None
    candidates: tuple[Candidate, ...] = field(default_factory=tuple)
    paired: bool = True
    output: str = field(default=FULL, repr=False)
