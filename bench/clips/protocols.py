"""Which sound drives which video: the protocols of `bench generate`, as lists of pairs.

In *reconstruction* every clip is driven by its own sound. In *dubbing* another clip's sound drives it. Which one
depends only on the seed and the set of clip ids (:func:`baselines.trivial.wrong_audio`): clips are sorted in a cyclic
order by SHA-256 of ``<seed>\\0<clip id>``, and each has the sound of the next. So every sound is used once, no clip has
its own, and the list can be reproduced on any machine. The list is also written beside the videos.

*Transfer* is LipFormer's experiment (Wang et al., CVPR 2023, section 4.3 and Fig. 6): the sound of one clip drives one
clip of each of several other speakers, since the same sound must give everybody the same mouth. In the same order by
SHA-256, the first clip is the driver, and the first clip of every other speaker is a target.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from baselines.trivial import wrong_audio
from bench.clips.inputs.files import some
from bench.clips.inputs.pairs import read_pairs
from bench.common.errors import BenchError
from prep.names import composed
from prep.speakers import speaker_of

#: File name of the list of pairs beside generated videos.
PAIRS = "pairs.csv"
_COLUMNS = ("name", "video", "audio")
#: Protocols of `bench generate`. Transfer is dubbing with a special list, and is scored as dubbing.
Name = Literal["reconstruction", "dubbing", "transfer"]
#: Default number of targets of a transfer, if there are enough speakers.
TARGETS = 5


@dataclass(frozen=True)
class Pair:
    """One video to generate.

    Attributes:
        name: of its file, without suffix: the clip id of ``video``, or the line number in a list of Wav2Lip's format.
        video: id of the clip that gives the frames.
        audio: id of the clip that gives the sound.
        pose: id of the clip that gives the head pose, or ``""``: as the option of the command says.
    """

    name: str
    video: str
    audio: str
    pose: str = ""


def reconstruction(clips: Iterable[str]) -> list[Pair]:
    """Every clip with its own sound, sorted by id."""
    return [Pair(clip, clip, clip) for clip in sorted(clips)]


def dubbing(clips: Collection[str], seed: int) -> list[Pair]:
    """Every clip with the sound of another, sorted by id of the video.

    Raises:
        BenchError: there are fewer than two clips.
    """
    others = wrong_audio(clips, seed)
    if not others:
        raise BenchError("dubbing needs two clips at least: each is driven by the sound of another")
    return [Pair(clip, clip, others[clip]) for clip in sorted(others)]


@dataclass(frozen=True)
class Cast:
    """Who takes part in a transfer.

    Attributes:
        driver: id, or last parts of the id, of the clip whose sound drives the others. None: chosen by the seed.
        targets: ids, or last parts of ids, of the clips that are driven. Empty: chosen by the seed.
        count: how many targets the seed chooses. None: :data:`TARGETS`, or fewer if there are fewer speakers.
    """

    driver: str | None = None
    targets: tuple[str, ...] = ()
    count: int | None = None

    @property
    def named(self) -> bool:
        """Whether all clips are named, so that the seed chooses none."""
        return self.driver is not None and bool(self.targets)


def transfer(speakers: Mapping[str, str], seed: int, cast: Cast | None = None) -> list[Pair]:
    """Clips of several speakers with the sound of one clip. Named targets keep their order; else the seed chooses.

    Named clips are used without a check of their speaker, who may be the driver's.

    Args:
        speakers: clip id → speaker, as in the corpus. If ``""``, the folder in the clip's id stands for the speaker; a
            clip without a folder counts as a separate speaker.
        seed: any integer.
        cast: who takes part.

    Raises:
        BenchError: a name fits no clip or several clips; a clip is named twice; both names and a number of targets are
            given; or there are too few other speakers.
    """
    cast = cast or Cast()
    if cast.targets and cast.count is not None:
        raise BenchError("both names and a number of targets are given: use --target or --targets")
    names = _Names(speakers)
    order = sorted(speakers, key=lambda clip: (hashlib.sha256(f"{seed}\0{clip}".encode()).digest(), clip))
    targets = [names.find(name, "--target") for name in cast.targets]
    if cast.driver is not None:
        driver = names.find(cast.driver, "--driver")
    else:
        # With a driver of the target's own speaker, the target would show its own mouth.
        taken = {speaker_of(clip, speakers[clip]) for clip in targets}
        free = [clip for clip in order if speaker_of(clip, speakers[clip]) not in taken]
        if not free:
            raise BenchError("all clips are of the targets' speakers: name a clip with --driver")
        driver = free[0]
    if driver in targets:
        raise BenchError(f"{driver} is both driver and target: take it out of --target")
    if len(set(targets)) < len(targets):
        raise BenchError("a clip is a target twice: give each --target once")
    return [Pair(clip, clip, driver) for clip in targets or _others(driver, order, speakers, cast.count)]


def _others(driver: str, order: Iterable[str], speakers: Mapping[str, str], count: int | None) -> list[str]:
    """The first clip of each speaker, except the driver's speaker."""
    first: dict[str, str] = {}
    for clip in order:
        first.setdefault(speaker_of(clip, speakers[clip]), clip)
    first.pop(speaker_of(driver, speakers[driver]))
    if not first:
        raise BenchError(
            f"all clips are of the speaker of {driver}: name clips with --target, or use another --split"
        )
    if count is not None and count > len(first):
        raise BenchError(
            f"speakers besides that of {driver}: {len(first)}; use --targets {len(first)} at most"
        )
    return list(first.values())[: count or TARGETS]


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write a list as CSV with the columns name, video, audio and, where a pair has one, pose; atomically."""
    from prep.shards import AtomicFile

    with AtomicFile(path) as sink:
        sink.write(as_csv(pairs).encode())
        sink.commit()


def as_csv(pairs: Iterable[Pair]) -> str:
    """The text that :func:`write_pairs` writes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = list(pairs)
    columns = (*_COLUMNS, "pose") if any(pair.pose for pair in rows) else _COLUMNS
    writer.writerow(columns)
    writer.writerows([getattr(pair, column) for column in columns] for pair in rows)
    return text.getvalue()


def load_pairs(path: Path, clips: Collection[str]) -> list[Pair]:
    """Read a list of pairs and keep its order.

    Two formats are read. CSV with a header: columns ``video`` and ``audio``, optionally ``name`` (file name, if it is
    not the id of the video) and ``pose`` (clip that gives the head pose). Lists in Wav2Lip's format
    (:func:`bench.clips.inputs.pairs.read_pairs`): their videos are named by line number, as ``bench eval --pairs``
    expects.

    Args:
        path: the list.
        clips: ids of the data set's clips. A clip may be named by the last parts of its id, with or without suffix, if
            no other id ends with them.

    Raises:
        BenchError: the list cannot be parsed, a clip is unknown, or a name occurs twice. The message names file and
            line.
    """
    named = _Names(clips)
    if path.suffix.lower() == ".csv":
        rows = _read_csv(path)
    else:
        rows = [(n, Pair(str(n - 1), p.video, p.audio)) for n, p in enumerate(read_pairs(path), 1)]
    pairs: list[Pair] = []
    seen: set[str] = set()
    for number, row in rows:
        where = f"{path}, line {number}"
        video, audio = named.find(row.video, where), named.find(row.audio, where)
        name = row.name or video
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise BenchError(f"{where}: the name {name!r} points outside the folder of the videos")
        if name in seen:
            raise BenchError(f"{where}: a second video called {name}: give names in a column `name`")
        seen.add(name)
        pose = named.find(row.pose, where) if row.pose else ""
        pairs.append(Pair(name, video, audio, pose))
    return pairs


def _read_csv(path: Path) -> list[tuple[int, Pair]]:
    try:
        reader = csv.DictReader(io.StringIO(path.read_text("utf-8-sig")))
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not CSV in UTF-8"
        raise BenchError(f"the list {path} cannot be read: {reason}") from None
    lacking = {"video", "audio"} - set(reader.fieldnames or ())
    if lacking:
        raise BenchError(f"{path}, line 1: no column {', '.join(sorted(lacking))}: write video,audio first")
    if not rows:
        raise BenchError(f"the list {path} is empty")
    for number, row in rows:
        if not row["video"] or not row["audio"]:
            raise BenchError(f"{path}, line {number}: a video or a sound is missing")
    return [
        (number, Pair(row.get("name") or "", row["video"], row["audio"], row.get("pose") or ""))
        for number, row in rows
    ]


class _Names:
    """Finds clip ids by their last parts."""

    def __init__(self, clips: Collection[str]) -> None:
        self._clips: Mapping[str, str] = {composed(clip): clip for clip in clips}
        self._endings: dict[str, list[str]] = {}
        for name, clip in self._clips.items():
            parts = name.split("/")
            for begin in range(1, len(parts)):
                self._endings.setdefault("/".join(parts[begin:]), []).append(clip)

    def find(self, name: str, where: str) -> str:
        """The clip with this name. Raises BenchError if no clip or several clips fit."""
        stem = composed(name)
        for form in dict.fromkeys((stem, stem.rpartition(".")[0] or stem)):
            if form in self._clips:
                return self._clips[form]
            found = self._endings.get(form, [])
            if len(found) == 1:
                return found[0]
            if found:
                raise BenchError(f"{where}: {name!r} can be {some(found)}: write the whole clip id")
        raise BenchError(f"{where}: no clip is called {name!r} (there are {some(self._clips.values())})")
