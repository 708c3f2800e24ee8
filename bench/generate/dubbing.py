"""Dubbing of one video with any sound, for `bench dub`. Frames are streamed from file to file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.common.device import pick_device
from bench.common.errors import BenchError, first_line
from bench.generate.adaptation import adapted
from bench.generate.contact_sheet import Band, FaceCrop, SheetRow, Tile, timestamp, whole, write
from bench.generate.derivations import ClipDeriver, sound_deriver
from bench.generate.fit import Fit, heard_frames
from bench.generate.footage import VideoFootage, file_footage
from bench.generate.poses import check_pose
from bench.generate.sound import DrivingSound
from bench.generate.talkers import Loaded, Talkers, TalkerSource
from bench.generate.writing import frame_size, write_generated
from bench.weights.store import WeightStore
from models.base import FULL, Drive, Shot
from prep.errors import ClipError
from prep.shards import sha256
from prep.sound_reading import sound
from prep.video_reading import probe

#: Frames on a contact sheet, frames per row, and side of a face crop in pixels.
SHEET_FRAMES = 12
_ACROSS, _TILE = 6, 256


@dataclass(frozen=True)
class Dubbed:
    """Facts about the written video.

    Attributes:
        frames: number of frames, at 25 fps.
        faceless: number of frames in which no face was found; these are unchanged.
        width: pixels.
        height: pixels.
        source_fps: frames per second of the input video.
        seconds: wall time.
        changed: options of generation that differ from those of the run → their value.
    """

    frames: int
    faceless: int
    width: int
    height: int
    source_fps: float
    seconds: float
    changed: Mapping[str, Any]


def check_files(video: Path, audio: Path, out: Path) -> None:
    """Check the files before a network is loaded.

    Raises:
        BenchError: a file is missing, cannot be read or has no video or sound, or ``out`` is not a new MP4.
    """
    if not audio.is_file():
        raise BenchError(f"{audio}: no such file")
    check_video(video)
    if out.suffix.lower() != ".mp4":
        raise BenchError(f"{out}: only MP4 is written: give --out a name that ends in .mp4")
    if out.exists() and (out.samefile(video) or out.samefile(audio)):
        raise BenchError(f"{out} is also an input: give --out another name")


def check_video(path: Path) -> None:
    """Raises BenchError if a video is missing or cannot be read."""
    if not path.is_file():
        raise BenchError(f"{path}: no such file")
    try:
        probe(path)
    except ClipError as error:
        raise BenchError(f"{path}: {error.reason}") from None


def dub(
    method: str,
    run: Path,
    video: Path,
    audio: Path,
    out: Path,
    *,
    pose: Literal["footage", "still"] | Path = "footage",
    speaker: str | None = None,
    fit: Fit | None = None,
    crf: int = 18,
    tracking: bool = False,
    sheet: Path | None = None,
    device: str = "auto",
    weights_dir: Path | None = None,
    overrides: Sequence[str] = (),
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Dubbed:
    """Make the face in a video speak the sound of another file.

    The result always has 25 fps. It has the video's size; an odd width or height is made even for H.264 by repeating
    the last column or row. For a method that generates a view, it has the view's size.

    Args:
        method: its name.
        run: folder of its training run, of imported weights, or of a run set.
        video: any format that PyAV reads.
        audio: any file with sound that PyAV reads; may be a video, also ``video`` itself.
        out: an MP4; its folder is created.
        pose: source of the head pose: the video itself, another video (its path), or none: the head does not move.
        speaker: for a run set: the person whose run is used.
        fit: how a video and a sound of different lengths are combined.
        crf: x264's constant rate factor.
        tracking: track the face from frame to frame instead of detecting it in each.
        sheet: path of a JPEG with the face in :data:`SHEET_FRAMES` evenly spaced frames, original above generated;
            None: no sheet.
        device: of torch.
        weights_dir: folder of weights that is searched first.
        overrides: ``generate.<option>=<value>``, instead of the options of the run.
        on_progress: called after every frame with the step's name, the frames done and all of them.

    Raises:
        BenchError: see :func:`check_files` and :func:`bench.generate.talkers.load_talker`; or there is no sound or
            no face, the method does not support the pose, the method fails, or the disk is full.
    """
    started = time.monotonic()
    check_files(video, audio, out)
    if isinstance(pose, Path):
        if not pose.is_file():
            raise BenchError(f"--pose {pose}: no such file; name footage, still, or a video file")
        check_video(pose)
    notify = on_progress or (lambda step, done, total: None)
    try:
        samples = sound(audio).samples
    except ClipError as error:
        raise BenchError(f"{audio}: {error.reason}") from None
    store = WeightStore.default(weights_dir)
    talkers = TalkerSource(run.absolute(), pick_device(device), method, store, tuple(overrides)).open()
    loaded = _of_speaker(talkers, run, speaker)
    check_pose(loaded.talker, "still" if pose == "still" else "footage", isinstance(pose, Path))

    def footage_of(path: Path, sound_frames: int, fit: Fit, step: str) -> VideoFootage:
        try:
            return file_footage(
                path,
                loaded.talker.views,
                sound_frames,
                fit,
                tracking=tracking,
                padding=loaded.padding,
                derive=ClipDeriver(loaded),
                on_frame=lambda done, total: notify(step, done, total),
            )
        except ClipError as error:
            raise BenchError(f"{path}: {error.reason}") from None

    footage = footage_of(video, heard_frames(samples), fit or Fit(), "finding the face")
    speech = DrivingSound(samples, footage.n_frames, loaded.padding, sound_deriver(loaded))
    posing = None if pose == "still" else footage
    if isinstance(pose, Path):
        posing = footage_of(pose, footage.n_frames, Fit(), "finding the pose")
    try:
        shown = _chosen(footage.n_frames) if sheet is not None else ()
        crop = _tiles(footage, loaded.talker.output)
        tiles: dict[int, Tile] = {}

        def watch(number: int, frame: np.ndarray) -> None:
            if number in shown:
                tiles[number] = crop.generated(frame, number)
            notify("generating", number + 1, footage.n_frames)

        out.parent.mkdir(parents=True, exist_ok=True)
        own = footage.alone
        with adapted(loaded, sha256(video), str(video), lambda: Drive(own, own.speech, own)):
            write_generated(out, loaded.talker, Drive(footage, speech, posing), crf, watch)
        if sheet is not None:
            write(sheet, _bands(footage, crop, tiles))
    except ClipError as error:
        raise BenchError(f"{video}: {error.reason}") from None
    except (ValueError, RuntimeError) as error:
        reason = first_line(error) or type(error).__name__
        raise BenchError(f"{video}: {method} fails: {reason}") from error
    except OSError as error:
        raise BenchError(f"{error.filename or out}: {error.strerror or error}") from error
    width, height = frame_size(loaded.talker, footage)
    return Dubbed(
        footage.n_frames,
        int((~footage.detected).sum()),
        width,
        height,
        probe(video).source_fps,
        time.monotonic() - started,
        loaded.changed,
    )


def _of_speaker(talkers: Talkers, run: Path, speaker: str | None) -> Loaded:
    """The talker to use."""
    if talkers.run_set is None:
        if speaker is not None:
            raise BenchError(f"{run} is not a run set: leave out --speaker")
        return talkers.of("")
    if speaker is None:
        there = ", ".join(sorted(talkers.run_set.held_out()))
        raise BenchError(f"{run} has one run per person: choose one with --speaker ({there})")
    return talkers.of(speaker)


@dataclass(frozen=True)
class _Tiles:
    """Makes the tiles of a sheet from original and generated frames."""

    original: Callable[[Shot], Tile]
    generated: Callable[[np.ndarray, int], Tile]


def _tiles(footage: VideoFootage, output: str) -> _Tiles:
    if output == FULL:
        crop = FaceCrop(footage, _TILE)
        return _Tiles(lambda shot: crop(shot.frame, shot.index), crop)

    def original(shot: Shot) -> Tile:
        seen = footage.crop(output, shot)
        return whole(shot.frame if seen is None else seen.picture, _TILE)

    return _Tiles(original, lambda frame, number: whole(frame, _TILE))


def _chosen(n_frames: int) -> tuple[int, ...]:
    spread = np.linspace(0, n_frames - 1, min(SHEET_FRAMES, n_frames)).round().astype(int)
    return tuple(np.unique(spread).tolist())


def _bands(footage: VideoFootage, crop: _Tiles, generated: Mapping[int, Tile]) -> list[Band]:
    """The content of the sheet: originals, and the generated frames below."""
    numbers = sorted(generated)
    # One at a time, since twelve whole frames may need much memory.
    originals = {number: crop.original(footage.pick([number])[0]) for number in numbers}
    return [
        Band(
            [timestamp(number) for number in part],
            [
                SheetRow("original", [originals[number] for number in part]),
                SheetRow("generated", [generated[number] for number in part]),
            ],
        )
        for part in (numbers[begin : begin + _ACROSS] for begin in range(0, len(numbers), _ACROSS))
    ]
