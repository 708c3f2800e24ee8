"""LRS2 (BBC; Afouras et al., "Deep audio-visual speech recognition", 2018).

Layout::

    mvlrs_v1/{main,pretrain}/<id>/<n>.mp4      <id> is a broadcast: the nearest to an identity in LRS2
    mvlrs_v1/{main,pretrain}/<id>/<n>.txt      Text, Conf; see prep.sources.lrs_text
    train.txt val.txt test.txt                 lines "<id>/<n>" of main; those of test end in a tag, NF or MV
    pretrain.txt                               lines "<id>/<n>" of pretrain

The lists are downloaded separately from the videos, and are beside ``mvlrs_v1`` or in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prep.errors import PrepError
from prep.sources.base import ClipRef
from prep.sources.listing import Claims, check_split, find_lists, names_in, read_list, require_folder

#: Split -> the folder whose clips its list names.
_FOLDERS = {"train": "main", "val": "main", "test": "main", "pretrain": "pretrain"}


class Lrs2:
    """The clips in the official lists; other files are not used.

    ``clip_id`` is ``<id>/<n>``, and ``pretrain/<id>/<n>`` for the pretrain part, whose ids also occur in ``main``. A
    split whose list or whole video folder is missing (often ``pretrain``) is skipped, unless it is requested. A line
    repeated in a list counts once.
    """

    summary = "LRS2: mvlrs_v1/{main,pretrain}/<id>/<n>.mp4 with train.txt, val.txt, test.txt, pretrain.txt"
    default_views = ("box128", "face96")

    def list_clips(self, root: Path, split: str | None = None) -> list[ClipRef]:
        """List the clips in the official lists; a clip that is not on disk has a ``problem``.

        Raises:
            PrepError: the folder is not LRS2, there is no list (at all, or for ``split``), or a clip is in two lists.
        """
        require_folder(root)
        check_split(split, _FOLDERS, root)
        base = "mvlrs_v1/" if (root / "mvlrs_v1").is_dir() else ""
        claims = Claims()
        clips: list[ClipRef] = []
        for name, path in _usable_lists(root, base, split).items():
            entries = (line.split()[0].removesuffix(".mp4") for line in read_list(path))
            prefix = "pretrain/" if name == "pretrain" else ""
            new = [entry for entry in entries if claims.claim(prefix + entry, path)]
            if split in (None, name):
                clips += _clips(root, f"{base}{_FOLDERS[name]}/", prefix, new, name)
        return sorted(clips, key=lambda clip: clip.clip_id)


def _usable_lists(root: Path, base: str, split: str | None) -> dict[str, Path]:
    folders = {folder for folder in _FOLDERS.values() if (root / base / folder).is_dir()}
    if not folders:
        raise PrepError(
            f"{root} is not LRS2: it holds neither mvlrs_v1/main/<id>/<n>.mp4 nor main/<id>/<n>.mp4"
        )
    lists = find_lists([root, root / base], _FOLDERS)
    if split in lists and _FOLDERS[split] not in folders:
        raise PrepError(f"{lists[split]} is there, but the folder {root / base / _FOLDERS[split]} is not")
    usable = {name: path for name, path in lists.items() if _FOLDERS[name] in folders}
    wanted = [split] if split else [name for name, folder in _FOLDERS.items() if folder in folders]
    if not usable.keys() & set(wanted):
        names = " or ".join(f"{name}.txt" for name in wanted)
        raise PrepError(
            f"no {names} in {root}: the lists come with LRS2, and belong beside mvlrs_v1 or in it"
        )
    return usable


def _clips(root: Path, folder: str, prefix: str, entries: list[str], split: str) -> Iterator[ClipRef]:
    speakers = names_in(root / folder)
    there: dict[str, dict[str, str]] = {}
    for entry in entries:
        speaker, _, number = entry.rpartition("/")
        on_disk = f"{folder}{speakers.get(speaker, speaker)}".rstrip("/")
        if speaker not in there:
            there[speaker] = names_in(root / on_disk)
        names = there[speaker]
        video, text = names.get(f"{number}.mp4"), names.get(f"{number}.txt")
        yield ClipRef(
            clip_id=prefix + entry,
            split=split,
            source=f"{on_disk}/{video or f'{number}.mp4'}",
            speaker=speaker,
            text_file=f"{on_disk}/{text}" if text else "",
            cuts="split" if prefix else "refuse",
            problem="" if video else f"listed in {split}.txt, but {folder}{entry}.mp4 is missing",
        )
