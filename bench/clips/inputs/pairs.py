"""Lists of pairs as Wav2Lip publishes them for evaluation: each line names a video and the sound that drives
it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from bench.clips.inputs.base import Audio, Inputs, candidate, counted, in_order, left_over, scan_all
from bench.clips.inputs.declared import in_view, read_declared
from bench.clips.inputs.files import some
from bench.clips.job import Job, Take, Voice
from bench.common.errors import BenchError
from prep.media import SOUND_SUFFIXES, VIDEO_SUFFIXES, suffix_of
from prep.sources.listing import RealNames, require_folder

#: Which comes first in a line. ``auto``: names without suffix are sound and video, names with one video and sound.
Order = Literal["auto", "audio-video", "video-audio"]

#: Why a line cannot be scored. The same text for all lines, since reasons are counted.
NO_VIDEO = "the video of the pair is missing: give the folder of the list's files with --truth"
NO_AUDIO = "the sound of the pair is missing: give the folder of the list's files with --truth"


@dataclass(frozen=True)
class PairLine:
    """One line of a list: names relative to the folder of the media, with or without their suffix."""

    video: str
    audio: str


def from_pairs(
    predictions: Mapping[str, Path],
    pairs: Path,
    truth: Path | None = None,
    *,
    audio: Audio = "prediction",
    order: Order = "auto",
) -> Inputs:
    """Use the lines of a list as the clips. The protocol is dubbing.

    The prediction of the first line is ``0.mp4``, that of the second ``1.mp4``, as Wav2Lip's
    ``gen_videos_from_filelist.py`` names its results. That program skips lines where it finds no face or where the
    video is shorter than the sound, and cuts the video to the length of the sound. Here a skipped line counts as a
    missing prediction.

    Args:
        predictions: method → folder.
        pairs: the list, see :func:`read_pairs`.
        truth: folder of the files that the list names; required by metrics that compare with the true video.
        audio: which sound is used: that of the prediction's file, or the one that the list names.
        order: which comes first in a line.

    Raises:
        BenchError: the list cannot be parsed, ``truth`` holds none of its files, or no method predicted any of it.
        PrepError: a folder is missing or cannot be read.
    """
    lines = read_pairs(pairs, order)
    if truth is None and audio == "truth":
        raise BenchError("--audio truth needs the sound files of the list: give their folder with --truth")
    media = _Media(truth, lines)
    declared = read_declared(predictions)
    videos = scan_all(predictions)
    numbers = {str(i): i for i in range(len(lines))}
    for folder in videos.values():
        if not numbers.keys() & folder.files.keys():
            raise BenchError(
                f"no video in {folder.given} ({folder.examples()}) is named after a line of {pairs}: "
                "0.mp4 for the first"
            )
    jobs, voices, problems = [], {}, {}
    for name, i in numbers.items():
        pair = lines[i]
        clip = _clip_id(i, pair, len(lines))
        video, voice = media.video(pair), media.voice(pair)
        if truth is not None and video is None:
            problems[clip] = NO_VIDEO
        elif truth is not None and voice is None:
            problems[clip] = NO_AUDIO
        if voice is not None:
            voices[clip] = voice
        # A missing file is a problem only if it is needed: the true video always, the sound if it is used.
        harm = problems.get(clip, "") if video is None or audio == "truth" else ""
        candidates = tuple(
            candidate(method, folder.file(name) if name in folder.files else None, audio, voice, harm)
            for method, folder in videos.items()
        )
        jobs.append(Job(clip, None if video is None else Take(video), candidates=candidates))
    inputs = Inputs(
        name=pairs.stem,
        kind="pairs",
        split="",
        protocol="dubbing",
        jobs=in_order(jobs),
        unmatched=left_over(videos, dict.fromkeys(videos, numbers)),
        videos=counted(videos),
        sources={method: str(path) for method, path in predictions.items()},
        voices=voices,
        problems=problems,
    )
    return in_view(inputs, declared)


def read_pairs(path: Path, order: Order = "auto") -> list[PairLine]:
    """Read a list.

    A line holds two names, separated by spaces, or by a tab if names contain spaces. The lists for LRS2, LRS3 and LRW
    name the sound, then the video, without suffixes; those of ReSyncED the video, then the sound, with suffixes.

    Args:
        path: the list, UTF-8.
        order: which comes first.

    Raises:
        BenchError: a line does not hold two names, is empty or a comment (results are numbered by line, so such a line
            would shift them all), a name points outside the folder, or lines have different orders. The message names
            file and line.
    """
    try:
        lines = path.read_text("utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BenchError(f"the list {path} cannot be read: {reason}") from None
    if not lines:
        raise BenchError(f"the list {path} is empty")
    pairs: list[PairLine] = []
    first = ""
    for number, line in enumerate(lines, 1):
        try:
            names = _names(line)
            form = _order(*names) if order == "auto" else order
            if form != (first := first or form):
                raise _Malformed(
                    f"has {_words(form)}, the first line {_words(first)}: write all lines in one order"
                )
            video, audio = names[::-1] if form == "audio-video" else names
            if suffix_of(video) in SOUND_SUFFIXES:
                raise _Malformed(f"names the sound {video} where the video should be")
        except _Malformed as error:
            raise BenchError(f"{path}, line {number}: {error}") from None
        pairs.append(PairLine(video, audio))
    return pairs


class _Malformed(Exception):
    """A line that cannot be parsed. The text follows the file and the line number in the message."""


def _names(line: str) -> tuple[str, str]:
    if not line.strip():
        raise _Malformed("is empty, and results are numbered by line: remove it")
    if line.lstrip().startswith("#"):
        raise _Malformed("is a comment, and results are numbered by line: remove it")
    names = [name.strip() for name in line.strip().split("\t")] if "\t" in line.strip() else line.split()
    if len(names) != 2 or not all(names):
        raise _Malformed(f"holds {len(names)} names, not 2: {line.strip()[:80]!r}")
    for name in names:
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise _Malformed(f"points outside the folder of the media: {name!r}")
    return names[0], names[1]


def _order(first: str, second: str) -> Literal["audio-video", "video-audio"]:
    kinds = suffix_of(first), suffix_of(second)
    sounds = [kind in SOUND_SUFFIXES for kind in kinds]
    known = [kind in SOUND_SUFFIXES or kind in VIDEO_SUFFIXES for kind in kinds]
    if sounds == [True, False]:
        return "audio-video"
    if sounds == [False, True] or known == [True, True]:
        return "video-audio"
    if known == [False, False]:
        return "audio-video"
    raise _Malformed("has one name with a suffix and one without: write both with, or both without")


def _words(order: str) -> str:
    return " before ".join({"audio": "the sound", "video": "the video"}[part] for part in order.split("-"))


def _clip_id(number: int, pair: PairLine, count: int) -> str:
    """``00017_<video>_<sound>``: the number of the prediction's file first, so that ids sort as lines do."""
    names = (re.sub(r"[^\w.-]+", "-", name)[:80] for name in (pair.video, pair.audio))
    return "_".join([f"{number:0{max(5, len(str(count - 1)))}d}", *names])


class _Media:
    """The files that a list names, below its root. Each file is searched for once."""

    def __init__(self, root: Path | None, pairs: Iterable[PairLine]) -> None:
        self._videos: dict[str, Path | None] = {}
        self._sounds: dict[str, Path | None] = {}
        if root is None:
            return
        require_folder(root)
        real = RealNames(root)
        videos = ("mp4", *sorted(VIDEO_SUFFIXES - {"mp4"}))
        pairs = list(pairs)
        self._videos = {name: _find(real, name, videos) for name in {pair.video for pair in pairs}}
        # Videos first: the published lists mean the sound of ``.mp4`` files, although sound files may be
        # there too.
        sounds = (*videos, "wav", *sorted(SOUND_SUFFIXES - {"wav"}))
        self._sounds = {name: _find(real, name, sounds) for name in {pair.audio for pair in pairs}}
        if not any(self._videos.values()):
            raise BenchError(
                f"{root} holds none of the list's videos ({some(self._videos)}): give their folder with --truth"
            )

    def video(self, pair: PairLine) -> Path | None:
        return self._videos.get(pair.video)

    def voice(self, pair: PairLine) -> Voice | None:
        path = self._sounds.get(pair.audio)
        return None if path is None else Voice(path)


def _find(real: RealNames, name: str, suffixes: Iterable[str]) -> Path | None:
    """The absolute path of a file with this name; a name without suffix has any of ``suffixes``, in any case."""
    found = (
        real.find(name)
        if suffix_of(name) in VIDEO_SUFFIXES | SOUND_SUFFIXES
        else real.find_any(name, suffixes)
    )
    path = None if found is None else (real.root / found).absolute()
    return path if path is not None and path.is_file() else None
