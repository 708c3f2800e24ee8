"""HDTF (Zhang et al., "Flow-guided one-shot talking face generation", 2021).

Raw downloads are cut and cropped by the official lists, which are in the root or in ``HDTF_dataset``, for each of
the subsets RD, WDA and WRA::

    RD_annotion_time.txt    Radio11.mp4 00:30-01:00 01:30-02:30   [h:]mm:ss, one span a clip
    RD_crop_wh.txt          Radio11_0.mp4 412 599 0 599           x width y height in pixels of the video
    RD_resolution.txt       Radio11.mp4 720                       height of the video that its crops are for

The videos can be anywhere below the root, as ``Radio11.mp4`` or, with the names of universome's downloader,
``RD_Radio11.mp4``. Without those lists, a folder of ready-made clips ``RD_Radio11_000.mp4`` is used unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from prep.errors import ClipError, PrepError
from prep.media import VIDEO_SUFFIXES
from prep.names import composed
from prep.sources.base import ClipRef
from prep.sources.listing import (
    choose,
    file_clips,
    find_lists,
    read_list,
    require_folder,
    split_by_lists,
    walk,
)

_SUBSETS = ("RD", "WDA", "WRA")
_LISTS = "HDTF_dataset"
#: Folder in which universome's downloader stores the raw videos of its clips.
_RAW = "_videos_raw"
_SPAN = re.compile(r"(?:(\d+):)?(\d+):(\d\d(?:\.\d+)?)-(?:(\d+):)?(\d+):(\d\d(?:\.\d+)?)")
_READY_MADE = re.compile(r"(?:(?:RD|WDA|WRA)_)?(.+)_\d+")
_SIDE = 512


class Hdtf:
    """One clip per annotated span; ``clip_id`` is ``RD_Radio11_000``.

    These become clips with a ``problem``: a span without a crop (15 in the official lists) or with one that does not
    fit the listed resolution (5), a line of another form, a missing video. If a ready-made clip of that name exists,
    it is used instead. Whether a video has the height required by its crop is checked when it is opened
    (``ClipRef.height``).

    HDTF has no official split: all clips are ``test``, unless the root contains ``train.txt``, ``val.txt`` or
    ``test.txt``. A line names a clip (``RD_Radio11_000``) or all clips of a video (``RD_Radio11``). Several videos may
    show one person, so ``speaker`` is the name without its number (``AmyKlobuchar`` for ``AmyKlobuchar0`` and
    ``AmyKlobuchar1``). The videos of RD only have numbers, so each counts as a separate speaker.
    """

    summary = (
        "HDTF: raw videos with the official lists (cut and cropped to 512²), or a folder of ready-made clips"
    )
    default_views = ("box128", "face96", "aligned512", "mouth416x320")

    def list_clips(self, root: Path, split: str | None = None) -> list[ClipRef]:
        """List the annotated spans, or the ready-made clips.

        Raises:
            PrepError: there are neither lists nor clips, a list is incomplete, or the split does not exist.
        """
        require_folder(root)
        folders = [
            folder
            for folder in (root, root / _LISTS)
            if any((folder / f"{subset}_annotion_time.txt").is_file() for subset in _SUBSETS)
        ]
        videos = walk(root, VIDEO_SUFFIXES)
        clips = list(_annotated(folders[0], videos)) if folders else _ready_made(root, videos)
        lists = find_lists([root])
        if lists:
            clips = split_by_lists(clips, lists, _names)
        return choose(clips, split, lists or ["test"], root)


def _names(clip: ClipRef) -> tuple[str, ...]:
    """The names that a split list can use for a clip."""
    name = clip.clip_id.rpartition("/")[2]
    return clip.clip_id, name, f"{name}.mp4", name.rpartition("_")[0], clip.source


def _speaker(video: str) -> str:
    name = video.rstrip("0123456789")
    return video if name in ("", "Radio") else name


def _ready_made(root: Path, videos: list[str]) -> list[ClipRef]:
    clips = []
    for clip in file_clips((path for path in videos if _RAW not in path.split("/")), "test", root):
        name = _READY_MADE.fullmatch(clip.source.rpartition("/")[2].rpartition(".")[0])
        if name:
            clips.append(replace(clip, speaker=_speaker(name[1])))
        else:
            problem = (
                "not named as a clip is (RD_Radio11_000), and no list says where the clips of this video lie"
            )
            clips.append(replace(clip, problem=clip.problem or problem))
    if not any(clip.speaker for clip in clips):
        raise PrepError(
            f"{root} is not HDTF: it holds neither RD_annotion_time.txt (or WDA_, WRA_; also in {_LISTS}/) "
            "nor clips named as RD_Radio11_000.mp4"
        )
    return clips


@dataclass(frozen=True, slots=True)
class _Subset:
    """The lists of one subset: video or clip name without suffix -> the other fields of its line."""

    name: str
    spans: dict[str, list[str]]
    crops: dict[str, list[str]]
    heights: dict[str, list[str]]


def _table(path: Path) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for line in read_list(path):
        name, *fields = line.split()
        if table.setdefault(name.removesuffix(".mp4"), fields) is not fields:
            raise PrepError(f"{path} has two lines for {name}: take one of them out")
    return table


def _annotated(folder: Path, videos: list[str]) -> Iterator[ClipRef]:
    on_disk: dict[str, str] = {}
    for path in sorted(videos, key=lambda path: (path.count("/"), path)):
        on_disk.setdefault(composed(path.rpartition("/")[2].rpartition(".")[0]), path)
    for name in _SUBSETS:
        if not (folder / f"{name}_annotion_time.txt").is_file():
            continue
        lists = ("annotion_time", "crop_wh", "resolution")
        subset = _Subset(name, *(_table(folder / f"{name}_{kind}.txt") for kind in lists))
        for video, spans in subset.spans.items():
            for index, span in enumerate(spans or [""]):
                yield _clip(subset, video, index, span, on_disk)


def _clip(subset: _Subset, video: str, index: int, span: str, on_disk: dict[str, str]) -> ClipRef:
    named = f"{subset.name}_{video}"
    clip = ClipRef(f"{named}_{index:03d}", "test", f"{named}.mp4", _speaker(video))
    source = on_disk.get(named) or on_disk.get(video)
    try:
        start, stop = _times(subset, video, span)
        height = _height(subset, video)
        crop = _crop(subset, f"{video}_{index}", height)
        if source is None:
            raise ClipError("source", f"neither {named}.mp4 nor {video}.mp4 is there")
    except ClipError as error:
        ready = on_disk.get(clip.clip_id) or on_disk.get(f"{video}_{index}")
        if ready:
            return replace(clip, source=ready)
        return replace(clip, source=source or clip.source, problem=error.reason)
    return replace(clip, source=source, start=start, stop=stop, crop=crop, size=_SIDE, height=height)


def _times(subset: _Subset, video: str, span: str) -> tuple[float, float]:
    found = _SPAN.fullmatch(span)
    if not found:
        says = (
            f"says {span!r} for {video}, which is not mm:ss-mm:ss" if span else f"gives no span for {video}"
        )
        raise ClipError("source", f"{subset.name}_annotion_time.txt {says}")
    hours, minutes, seconds, to_hours, to_minutes, to_seconds = (float(part or 0) for part in found.groups())
    start = 3600 * hours + 60 * minutes + seconds
    stop = 3600 * to_hours + 60 * to_minutes + to_seconds
    if stop <= start:
        raise ClipError("source", f"{subset.name}_annotion_time.txt says {span} for {video}, which is empty")
    return start, stop


def _height(subset: _Subset, video: str) -> int:
    fields = subset.heights.get(video, [])
    if len(fields) != 1 or not fields[0].isdecimal() or int(fields[0]) == 0:
        says = f"says {' '.join(fields)!r}" if fields else "gives no height"
        raise ClipError(
            "source", f"{subset.name}_resolution.txt {says} for {video}, so the scale of its crops is unknown"
        )
    return int(fields[0])


def _crop(subset: _Subset, clip: str, height: int) -> tuple[int, int, int, int]:
    fields = subset.crops.get(clip)
    where = f"{subset.name}_crop_wh.txt"
    if not fields:
        raise ClipError("source", f"{where} gives no crop for {clip}")
    if len(fields) != 4 or not all(field.isdecimal() for field in fields):
        raise ClipError(
            "source", f"{where} says {' '.join(fields)!r} for {clip}, which is not x width y height"
        )
    x, width, y, tall = map(int, fields)
    if width != tall or width == 0:
        raise ClipError(
            "source", f"{where} gives {clip} a crop of {width} x {tall} pixels, which is not a square"
        )
    if y + tall > height:
        raise ClipError(
            "source",
            f"the crop of {clip} ends at row {y + tall}, but {subset.name}_resolution.txt says {height}",
        )
    return x, y, width, tall
