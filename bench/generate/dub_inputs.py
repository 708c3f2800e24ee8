"""The files of a dubbing: checked before a network is loaded, with a remedy for each mistake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bench.common.errors import BenchError
from bench.common.methods import METHODS, get_method, get_talker
from bench.common.places import check_folder
from prep.errors import ClipError
from prep.timeline import VideoInfo
from prep.video_reading import probe


@dataclass(frozen=True)
class Picked:
    """The file in which is dubbed.

    Attributes:
        path: the file.
        info: of the video; None: the file is a picture.
    """

    path: Path
    info: VideoInfo | None


def check_files(video: Path, audio: Path, out: Path) -> Picked:
    """Check the files before a network is loaded.

    Raises:
        BenchError: a file is missing, is a folder, cannot be read or shows nothing, or ``out`` is not a new MP4 in a
            folder that can be written.
    """
    check_out(out, "out.mp4")
    check_file(audio, "--audio takes one sound file, or one video with sound")
    if is_picture(audio):
        raise BenchError(f"{audio} is a picture: --audio takes a sound file, or a video with sound")
    picked = pick(video)
    if out.exists() and (out.samefile(video) or out.samefile(audio)):
        raise BenchError(f"{out} is also an input: give --out another name")
    return picked


def check_out(out: Path, example: str) -> None:
    """Check that an MP4 can be written, without leaving anything there.

    Raises:
        BenchError: ``out`` is a folder, has another suffix, or its folder cannot be made or written.
    """
    if out.is_dir():
        raise BenchError(f"{out} is a folder: give --out the name of a file, such as {out / example}")
    if out.suffix.lower() != ".mp4":
        raise BenchError(f"{out}: only MP4 is written: give --out a name that ends in .mp4")
    check_folder(out.parent, out)


def check_file(path: Path, takes: str) -> None:
    """Raises BenchError if ``path`` is no file; ``takes`` says what the option takes."""
    if path.is_dir():
        raise BenchError(f"{path} is a folder: {takes}")
    if not path.is_file():
        raise BenchError(f"{path}: no such file")


def pick(video: Path) -> Picked:
    """The video or picture in a file, whatever its name.

    Raises:
        BenchError: it is missing, is a folder, or is neither.
    """
    check_file(
        video, "--video takes one video; for many, prepare them (bench prep folder) and use bench generate"
    )
    try:
        return Picked(video, probe(video))
    except ClipError as error:
        if not is_picture(video):
            raise BenchError(f"{video}: {error.reason}") from None
        return Picked(video, None)


def is_picture(path: Path) -> bool:
    """Whether a file is a still picture, whatever its name."""
    try:
        with Image.open(path) as picture:
            return getattr(picture, "n_frames", 1) == 1
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def check_animates(method: str, picked: Picked) -> None:
    """Check that a method takes a picture, if the file is one.

    Raises:
        BenchError: it does not; names the methods that do. Or there is no such method.
    """
    if picked.info is not None or get_talker(method).animates_pictures:
        return
    others = animators()
    remedy = f"these take a picture: {', '.join(others)}" if others else "no method here takes a picture"
    raise BenchError(f"{picked.path} is a picture, and {method} needs a video: {remedy}")


def animators() -> list[str]:
    """Names of the methods that take a picture instead of a video."""
    found = []
    for name in METHODS:
        try:
            kind = get_method(name)
        except BenchError:  # of another package
            continue
        if getattr(kind, "animates_pictures", False):
            found.append(name)
    return found
