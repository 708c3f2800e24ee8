"""Dubbing of one video with any sound, for `bench dub`. Frames are streamed from file to file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.common.device import pick_device
from bench.common.errors import BenchError, first_line
from bench.common.places import check_folder
from bench.generate.adaptation import adapted
from bench.generate.contact_sheet import Band, FaceCrop, SheetRow, Tile, timestamp, whole, write
from bench.generate.derivations import ClipDeriver, sound_deriver
from bench.generate.dub_inputs import Picked, check_animates, check_files, pick
from bench.generate.dub_sound import written_sound
from bench.generate.film import Film
from bench.generate.film_times import GENERATED
from bench.generate.fit import Fit, heard_frames
from bench.generate.footage import VideoFootage, file_footage
from bench.generate.poses import check_pose
from bench.generate.sound import DrivingSound
from bench.generate.talkers import Loaded, Talkers, TalkerSource
from bench.generate.toy_weights import from_toy, is_toy
from bench.generate.writing import frame_size, write_generated
from bench.weights.store import WeightStore
from models.base import FULL, Drive, Shot
from prep.detectors import DEFAULT as DETECTOR
from prep.detectors import identity
from prep.errors import ClipError
from prep.landmarks import LARGEST, FaceChoice
from prep.rates import FPS
from prep.shards import sha256
from prep.sound_reading import sound

#: Frames on a contact sheet, frames per row, and side of a face crop in pixels.
SHEET_FRAMES = 12
_ACROSS, _TILE = 6, 256


@dataclass(frozen=True)
class Dubbed:
    """Facts about the written video.

    Attributes:
        frames: number of frames.
        seconds_long: length.
        fps: frames per second; the average if ``variable``.
        variable: whether the frames have the source's own times.
        generated: number of frames that the method generated, at 25 fps.
        faceless: number of them in which no face was found; these are unchanged.
        width: pixels.
        height: pixels.
        source_fps: frames per second of the input video; 0: a picture.
        sample_rate: of the sound, Hz.
        channels: of the sound.
        seconds: wall time.
        changed: options of generation that differ from those of the run → their value.
        notes: what the user should know about this result, one line each.
        detector: what found the faces, see :func:`prep.detectors.identity`.
    """

    frames: int
    seconds_long: float
    fps: float
    variable: bool
    generated: int
    faceless: int
    width: int
    height: int
    source_fps: float
    sample_rate: int
    channels: int
    seconds: float
    changed: Mapping[str, Any]
    notes: tuple[str, ...]
    detector: Mapping[str, str]


def dub(
    method: str,
    run: Path,
    video: Path,
    audio: Path,
    out: Path,
    *,
    audio_track: int | None = None,
    face: FaceChoice = LARGEST,
    pose: Literal["footage", "still"] | Path = "footage",
    speaker: str | None = None,
    fit: Fit | None = None,
    crf: int = 18,
    detector: str = DETECTOR,
    tracking: bool = False,
    sheet: Path | None = None,
    device: str = "auto",
    weights_dir: Path | None = None,
    overrides: Sequence[str] = (),
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Dubbed:
    """Make the face in a video speak the sound of another file.

    The result has the video's frame rate, size and colours, see :mod:`bench.generate.film_times`, and the sound has its
    own rate and channels. An odd width or height is made even for H.264 by repeating the last column or row. For a
    method that generates a view, the result has the view's size and 25 fps.

    Args:
        method: its name.
        run: folder of its training run, of imported weights, or of a run set.
        video: any format that PyAV reads; or a picture, if the method animates pictures.
        audio: any file with sound that PyAV reads; may be a video, also ``video`` itself.
        audio_track: which sound track of ``audio``, from 0; None: see :func:`prep.containers.audio_stream`.
        face: which of several people.
        out: an MP4; its folder is created.
        pose: source of the head pose: the video itself, another video (its path), or none: the head does not move.
        speaker: for a run set: the person whose run is used.
        fit: how a video and a sound of different lengths are combined.
        crf: x264's constant rate factor.
        detector: what finds the faces, one of :data:`prep.detectors.DETECTORS`.
        tracking: track the face from frame to frame instead of detecting it in each.
        sheet: path of a JPEG with the face in :data:`SHEET_FRAMES` evenly spaced frames, original above generated;
            None: no sheet.
        device: of torch.
        weights_dir: folder of weights that is searched first.
        overrides: ``generate.<option>=<value>``, instead of the options of the run.
        on_progress: called after every frame with the step's name, the frames done and all of them.

    Raises:
        BenchError: see :func:`bench.generate.dub_inputs.check_files` and
            :func:`bench.generate.talkers.load_talker`; or there is no sound or no face, the method does not support the
            pose or a picture, the method fails, or the disk is full.
        PrepError: the detector is unknown, or a package or file that it needs is missing.
    """
    started = time.monotonic()
    picked = check_files(video, audio, out)
    found_by = identity(detector)
    check_animates(method, picked)
    if isinstance(pose, Path):
        if not pose.is_file():
            there = " is a folder:" if pose.is_dir() else ": no such file;"
            raise BenchError(f"--pose {pose}{there} name footage, still, or a video file")
        posed = pick(pose)
    if sheet is not None:
        check_folder(sheet.parent, sheet)
    notify = on_progress or (lambda step, done, total: None)
    try:
        samples = sound(audio, audio_track).samples
    except ClipError as error:
        raise BenchError(f"{audio}: {error.reason}") from None
    store, chosen = WeightStore.default(weights_dir), pick_device(device)
    talkers = TalkerSource(run.absolute(), chosen, method, store, tuple(overrides)).open()
    loaded = _of_speaker(talkers, run, speaker)
    check_pose(loaded.talker, "still" if pose == "still" else "footage", isinstance(pose, Path))

    def footage_of(
        picked: Picked, sound_frames: int, fit: Fit, step: str, choose: FaceChoice = LARGEST
    ) -> VideoFootage:
        try:
            return file_footage(
                picked,
                loaded.talker.views,
                sound_frames,
                fit,
                detector=detector,
                tracking=tracking,
                device=chosen,
                padding=loaded.padding,
                derive=ClipDeriver(loaded),
                on_frame=lambda done, total: notify(step, done, total),
                choose=choose,
                track=audio_track if audio.samefile(picked.path) else None,
            )
        except ClipError as error:
            raise BenchError(f"{picked.path}: {error.reason}") from None

    footage = footage_of(picked, heard_frames(samples), fit or Fit(), "finding the face", face)
    named = str(audio.absolute().with_suffix(""))
    speech = DrivingSound(samples, footage.n_frames, loaded.padding, sound_deriver(loaded), named)
    posing = None if pose == "still" else footage
    if isinstance(pose, Path):
        posing = footage_of(posed, footage.n_frames, Fit(), "finding the pose")
    try:
        shown = _chosen(footage.n_frames) if sheet is not None else ()
        crop = _tiles(footage, loaded.talker.output)
        tiles: dict[int, Tile] = {}

        def watch(number: int, frame: np.ndarray) -> None:
            if number in shown:
                tiles[number] = crop.generated(frame, number)
            notify("generating", number + 1, footage.n_frames)

        spoken = written_sound(audio, audio_track, Fraction(footage.n_frames, FPS))
        film = None
        if picked.info is not None and loaded.talker.output == FULL:
            film = Film(video, footage)
        out.parent.mkdir(parents=True, exist_ok=True)
        own = footage.alone
        with adapted(loaded, sha256(video), str(video), lambda: Drive(own, own.speech, own)):
            write_generated(
                out,
                loaded.talker,
                Drive(footage, speech, posing),
                crf,
                watch,
                colour=None if picked.info is None else picked.info.colour,
                film=film,
                sound=spoken,
            )
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
    times = GENERATED if film is None else film.times
    return Dubbed(
        frames=len(times.moments) or footage.n_frames,
        seconds_long=footage.n_frames / FPS,
        fps=float(times.fps),
        variable=times.variable,
        generated=footage.n_frames,
        faceless=int((~footage.detected).sum()),
        width=width,
        height=height,
        source_fps=0 if picked.info is None else picked.info.source_fps,
        sample_rate=spoken.sample_rate,
        channels=spoken.channels,
        seconds=time.monotonic() - started,
        changed=loaded.changed,
        detector=found_by,
        notes=(*_notes(picked, footage, face, loaded), *spoken.notes),
    )


def _notes(picked: Picked, footage: VideoFootage, face: FaceChoice, loaded: Loaded) -> Iterator[str]:
    """What the user should know about the video and the weights."""
    name, info = picked.path.name, picked.info
    if info is not None and info.light != "sdr":
        yield f"{name} is in {info.light.upper()} (HDR): the result is SDR, in the colours of BT.709"
    if footage.people > 1 and face == LARGEST:
        yield (
            f"{footage.people} faces in the first frame with a face: the largest one speaks; choose another with "
            "--face N, counted from the left, or --face-at X,Y"
        )
    if footage.cuts:
        cuts = "1 cut" if len(footage.cuts) == 1 else f"{len(footage.cuts)} cuts, the first"
        who = "the largest face speaks" if face == LARGEST else "the face is chosen anew"
        yield (
            f"{name} has {cuts} at {footage.cuts[0] / FPS:.2f} s: in every shot {who}; dub shots of different people "
            "one by one, since methods take a face's look from the whole video"
        )
    if is_toy(loaded.run) and not from_toy(picked.path):
        yield (
            f"{loaded.run} was trained on the toy corpus, so it is unfit for real faces: the mouth hardly moves, or "
            "looks wrong; train on a real corpus, or import official weights (docs/generate.md)"
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
