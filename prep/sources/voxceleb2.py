"""VoxCeleb2 (Chung et al., "VoxCeleb2: deep speaker recognition", 2018): pictures and sound in separate files.

Layout, as the archives unpack::

    {dev,test}/mp4/<id>/<youtube-id>/<n>.mp4      the face, 224 x 224; <id> is a person, id00012 …
    {dev,test}/aac/<id>/<youtube-id>/<n>.m4a      its sound

``dev`` is ``train``. There is no official validation split, and no person is in both parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prep.errors import PrepError
from prep.names import composed
from prep.sources.base import ClipRef
from prep.sources.listing import check_split, require_folder, shown, walk
from prep.sources.separate_sound import with_sound

_SPLITS = {"dev": "train", "test": "test"}


class VoxCeleb2:
    """Every mp4 on disk is used, with the sound file of its name; ``clip_id`` is ``<part>/<id>/<youtube-id>/<n>``.

    Sound may have been converted: any suffix of sound in ``aac/`` will do.
    """

    summary = "VoxCeleb2: {dev,test}/mp4/<id>/<youtube-id>/<n>.mp4 with its sound in {dev,test}/aac"
    default_views = ("box128", "face96")

    def list_clips(self, root: Path, split: str | None = None) -> list[ClipRef]:
        """List the clips on disk; one without a sound file has a ``problem``.

        Raises:
            PrepError: the folder is not VoxCeleb2, or the split does not exist.
        """
        require_folder(root)
        parts = [part for part in _SPLITS if (root / part / "mp4").is_dir()]
        if not parts:
            raise PrepError(f"{root} is not VoxCeleb2: it holds neither dev/mp4/ nor test/mp4/")
        check_split(split, [_SPLITS[part] for part in parts], root)
        clips: list[ClipRef] = []
        for part in parts:
            if split in (None, _SPLITS[part]):
                sound = root / part / "aac"
                if not sound.is_dir():
                    raise PrepError(
                        f"{sound} is missing: it should hold the sound of {part}/mp4, as .m4a files"
                    )
                listed = _clips(root, part)
                clips += with_sound(listed, root, sound, videos=f"{part}/mp4/", expected="m4a")
        if not clips:
            raise PrepError(
                f"no <id>/<youtube-id>/<n>.mp4 in {', '.join(f'{part}/mp4' for part in parts)} of {root}"
            )
        return sorted(clips, key=lambda clip: clip.clip_id)


def _clips(root: Path, part: str) -> Iterator[ClipRef]:
    for path in walk(root / part / "mp4", frozenset({"mp4"})):
        source, problem = shown(path)
        name = composed(source).rpartition(".")[0]
        yield ClipRef(
            clip_id=f"{part}/{name}",
            split=_SPLITS[part],
            source=f"{part}/mp4/{source}",
            speaker=name.partition("/")[0],
            cuts="refuse",
            problem=problem,
        )
