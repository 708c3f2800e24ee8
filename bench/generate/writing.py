"""Generating one video into a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prep.rates import FPS, SAMPLE_RATE
from prep.video_writing import write_video
from prep.views import VIEWS

if TYPE_CHECKING:
    from bench.generate.dub_sound import WrittenSound
    from bench.generate.film import Film
    from models.base import Drive, Footage, Talker
    from prep.pixels import Colour

#: Called with the number and the pixels of every frame.
Watch = Callable[[int, np.ndarray], None]


def write_generated(
    path: Path,
    talker: Talker,
    drive: Drive,
    crf: int,
    watch: Watch | None = None,
    *,
    colour: Colour | None = None,
    film: Film | None = None,
    sound: WrittenSound | None = None,
) -> None:
    """Generate and write a video with its sound, atomically.

    Args:
        path: an MP4; its folder must exist.
        talker: on its device, in evaluation mode.
        drive: footage, speech and pose.
        crf: x264's constant rate factor.
        watch: called with the number and the pixels of every generated frame.
        colour: tags of the file, those of the source; None: BT.601.
        film: the source at its own rate; None: the generated frames are written, at 25 a second.
        sound: to write; None: the one that the method gets, 16 kHz mono.

    Raises:
        ClipError: the video cannot be decoded to its end.
        ValueError: the number or size of the generated frames differs from what the method declares.
        OSError: the file cannot be written.
    """
    import torch

    with torch.inference_mode():
        frames = _checked(talker.generate(drive), drive.footage.n_frames, frame_size(talker, drive.footage))
        watched = frames if watch is None else _watched(frames, watch)
        write_video(
            path,
            watched if film is None else film.frames(watched),
            fps=FPS if film is None else film.times.fps,
            samples=drive.speech.samples if sound is None else sound.samples,
            sample_rate=SAMPLE_RATE if sound is None else sound.sample_rate,
            crf=crf,
            colour=colour,
            times=[m.time for m in film.times.moments] if film is not None and film.times.variable else None,
        )


def frame_size(talker: Talker, footage: Footage) -> tuple[int, int]:
    """Width and height of the frames that a talker generates, in pixels."""
    from models.base import FULL

    if talker.output == FULL:
        return footage.width, footage.height
    view = VIEWS[talker.output]
    return view.width, view.height


def _checked(frames: Iterator[np.ndarray], n_frames: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    count = 0
    shape = (size[1], size[0], 3)
    for frame in frames:
        if frame.shape != shape or frame.dtype != np.uint8:
            raise ValueError(f"frame {count} is {frame.dtype} {frame.shape}, and should be uint8 {shape}")
        count += 1
        yield frame
    if count != n_frames:
        raise ValueError(f"{count} frames were generated for {n_frames}")


def _watched(frames: Iterator[np.ndarray], watch: Watch) -> Iterator[np.ndarray]:
    for number, frame in enumerate(frames):
        watch(number, frame)
        yield frame
