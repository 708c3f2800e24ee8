"""LRS3-TED (Afouras et al., "LRS3-TED: a large-scale dataset for visual speech recognition", 2018).

Layout::

    {pretrain,trainval,test}/<youtube-id>/<n>.mp4
    {pretrain,trainval,test}/<youtube-id>/<n>.txt      Text, Conf, Ref, face boxes; see prep.sources.lrs_text

LRS3 has no official validation split. If the root contains ``val.txt``, its clips are held out of training: lines
``trainval/<youtube-id>/<n>``, as in AV-HuBERT's ``lrs3-valid.id``, or ``<youtube-id>/<n>``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from prep.errors import PrepError
from prep.names import by_composed
from prep.sources.base import ClipRef
from prep.sources.listing import check_split, find_lists, names_in, read_list, require_folder, scan, shown

_SPLITS = {"pretrain": "pretrain", "trainval": "train", "test": "test"}


class Lrs3:
    """Every mp4 on disk is used; ``trainval`` is ``train``. ``clip_id`` is ``<folder>/<youtube-id>/<n>``."""

    summary = "LRS3: {pretrain,trainval,test}/<youtube-id>/<n>.mp4; val where a val.txt holds clips out"
    default_views = ("box128", "face96")

    def list_clips(self, root: Path, split: str | None = None) -> list[ClipRef]:
        """List the clips on disk; a clip in ``val.txt`` that is not on disk has a ``problem``.

        Raises:
            PrepError: the folder is not LRS3, the split does not exist, or ``val.txt`` contains a test clip.
        """
        require_folder(root)
        folders = [folder for folder in _SPLITS if (root / folder).is_dir()]
        if not folders:
            raise PrepError(
                f"{root} is not LRS3: it holds none of {', '.join(f'{folder}/' for folder in _SPLITS)}"
            )
        lists = find_lists([root], ["val"])
        check_split(split, [*(_SPLITS[folder] for folder in folders), *lists], root)
        clips = {clip.clip_id: clip for folder in folders for clip in _clips(root, folder)}
        if not clips:
            raise PrepError(
                f"no <youtube-id>/<n>.mp4 in {', '.join(f'{folder}/' for folder in folders)} of {root}"
            )
        if "val" in lists:
            clips |= _held_out(clips, lists["val"])
        return [clips[name] for name in sorted(clips) if split in (None, clips[name].split)]


def _clips(root: Path, folder: str) -> Iterator[ClipRef]:
    speakers = by_composed((entry.name for entry in scan(root / folder) if entry.is_dir()), root / folder)
    for speaker, folder_name in speakers.items():
        there = names_in(root / folder / folder_name)
        for name, file_name in there.items():
            stem = name.removesuffix(".mp4")
            if stem == name or name.startswith("."):
                continue
            source, problem = shown(f"{folder}/{folder_name}/{file_name}")
            text = there.get(f"{stem}.txt", "")
            yield ClipRef(
                clip_id=shown(f"{folder}/{speaker}/{stem}")[0],
                split=_SPLITS[folder],
                source=source,
                speaker=shown(speaker)[0],
                text_file=shown(f"{folder}/{folder_name}/{text}")[0] if text else "",
                cuts="split" if folder == "pretrain" else "refuse",
                problem=problem,
            )


def _held_out(clips: dict[str, ClipRef], path: Path) -> dict[str, ClipRef]:
    held: dict[str, ClipRef] = {}
    for line in read_list(path):
        entry = line.split()[0].removesuffix(".mp4")
        clip_id = entry if entry.count("/") > 1 else f"trainval/{entry}"
        problem = f"listed in {path.name}, but {clip_id}.mp4 is missing"
        clip = clips.get(clip_id) or ClipRef(clip_id, "val", f"{clip_id}.mp4", problem=problem)
        if clip.split == "test":
            raise PrepError(f"{path} names {clip_id}, a test clip: take it out")
        held[clip_id] = replace(clip, split="val")
    return held
