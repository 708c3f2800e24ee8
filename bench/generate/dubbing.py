"""One video, any sound: what `bench dub` does. Frames stream from file to file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.common.errors import BenchError
from bench.generate.contact_sheet import Band, FaceCrop, Row, Tile, timestamp, write
from bench.generate.fit import Fit, heard_frames
from bench.generate.footage import VideoFootage, file_footage
from bench.generate.over_data import write_generated
from bench.generate.sound import DrivingSound
from prep.errors import ClipError
from prep.sound_reading import sound
from prep.video_reading import probe

if TYPE_CHECKING:
    from models.base import Talker

#: Frames on a contact sheet, frames side by side, and pixels across the face crop of one.
SHEET_FRAMES = 12
_ACROSS, _TILE = 6, 256


@dataclass(frozen=True)
class Dubbed:
    """What was written.

    Attributes:
        frames: at 25 a second.
        faceless: of these, frames in which no face was found; they are as they were.
        width: pixels.
        height: pixels.
        source_fps: frames a second of the video that was read.
        seconds: wall time.
    """

    frames: int
    faceless: int
    width: int
    height: int
    source_fps: float
    seconds: float


def check_files(video: Path, audio: Path, out: Path) -> None:
    """Refuse what cannot work, before a network is loaded.

    Raises:
        BenchError: a file is not there, cannot be read or has no picture or sound, or ``out`` is no new MP4.
    """
    for path in (video, audio):
        if not path.is_file():
            raise BenchError(f"{path}: no such file")
    if out.suffix.lower() != ".mp4":
        raise BenchError(f"{out}: only MP4 is written: give --out a name that ends in .mp4")
    if out.exists() and (out.samefile(video) or out.samefile(audio)):
        raise BenchError(f"{out} is also an input: give --out another name")
    try:
        probe(video)
    except ClipError as error:
        raise BenchError(f"{video}: {error.reason}") from None


def dub(
    method: Talker,
    video: Path,
    audio: Path,
    out: Path,
    *,
    fit: Fit | None = None,
    crf: int = 18,
    tracking: bool = False,
    sheet: Path | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Dubbed:
    """Make the face in a video say what is heard in another file.

    The result has 25 frames a second, whatever the video has, and the video's size, but for the last row or column
    that is doubled where H.264 needs an even number.

    Args:
        method: on its device, in evaluation mode.
        video: anything PyAV reads.
        audio: anything PyAV reads that holds sound; may be a video, and the same one.
        out: an MP4; its folder is made.
        fit: how video and sound of different lengths come together.
        crf: x264's constant rate factor.
        tracking: follow the face from frame to frame instead of looking afresh in each.
        sheet: where to draw a JPEG of the face in :data:`SHEET_FRAMES` frames, evenly spaced, original over
            generated; None: nowhere.
        on_progress: called after every frame with the step's name, the frames done and all of them.

    Raises:
        BenchError: see :func:`check_files`; no sound, no face, or the method or the disk fails.
    """
    started = time.monotonic()
    check_files(video, audio, out)
    notify = on_progress or (lambda step, done, total: None)
    try:
        samples = sound(audio).samples
    except ClipError as error:
        raise BenchError(f"{audio}: {error.reason}") from None
    try:
        footage = file_footage(
            video,
            method.views,
            heard_frames(samples),
            fit or Fit(),
            tracking=tracking,
            on_frame=lambda done, total: notify("finding the face", done, total),
        )
        speech = DrivingSound(samples, footage.n_frames)
        shown = _chosen(footage.n_frames) if sheet is not None else ()
        crop = FaceCrop(footage, _TILE)
        tiles: dict[int, Tile] = {}

        def watch(number: int, frame: np.ndarray) -> None:
            if number in shown:
                tiles[number] = crop(frame, number)
            notify("generating", number + 1, footage.n_frames)

        out.parent.mkdir(parents=True, exist_ok=True)
        write_generated(out, method, footage, speech, crf, watch)
        if sheet is not None:
            write(sheet, _bands(footage, crop, tiles))
    except ClipError as error:
        raise BenchError(f"{video}: {error.reason}") from None
    except (ValueError, RuntimeError) as error:
        # The first line, since torch adds a page.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BenchError(f"{video}: {method.name} fails: {reason}") from error
    except OSError as error:
        raise BenchError(f"{error.filename or out}: {error.strerror or error}") from error
    return Dubbed(
        footage.n_frames,
        int((~footage.detected).sum()),
        footage.width,
        footage.height,
        probe(video).source_fps,
        time.monotonic() - started,
    )


def _chosen(n_frames: int) -> tuple[int, ...]:
    spread = np.linspace(0, n_frames - 1, min(SHEET_FRAMES, n_frames)).round().astype(int)
    return tuple(np.unique(spread).tolist())


def _bands(footage: VideoFootage, crop: FaceCrop, generated: Mapping[int, Tile]) -> list[Band]:
    """What the sheet shows: originals, the generated frames below each."""
    numbers = sorted(generated)
    # One at a time: twelve whole frames may be large.
    originals = {number: crop(footage.pick([number])[0].frame, number) for number in numbers}
    return [
        Band(
            [timestamp(number) for number in part],
            [
                Row("original", [originals[number] for number in part]),
                Row("generated", [generated[number] for number in part]),
            ],
        )
        for part in (numbers[begin : begin + _ACROSS] for begin in range(0, len(numbers), _ACROSS))
    ]
