"""Corpora whose sound lies in files of its own, in a tree like that of the videos."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from prep.errors import PrepError
from prep.media import SOUND_SUFFIXES
from prep.sources.base import ClipRef
from prep.sources.listing import RealNames, require_folder, shown

#: In the order of preference: without loss first.
_SUFFIXES = ("wav", "flac", *sorted(SOUND_SUFFIXES - {"wav", "flac"}))


def with_sound(
    clips: Iterable[ClipRef], root: Path, sound_root: Path, *, videos: str = "", expected: str = "wav"
) -> list[ClipRef]:
    """Give every clip the sound file that has its video's path, with another suffix.

    Args:
        clips: with videos below ``root``.
        root: of the corpus.
        sound_root: folder that has the same tree as ``root``, with sound files.
        videos: beginning of the videos' paths that the sound files' paths do not have, with ``/`` at the end.
        expected: suffix to name in messages.

    Returns:
        The clips with ``sound``; one whose sound is missing has a ``problem`` that names the file expected.

    Raises:
        PrepError: there is no folder ``sound_root``, a folder in it cannot be read, or a clip is a still picture.
    """
    require_folder(sound_root)
    clips = list(clips)
    if any(clip.still for clip in clips):
        raise PrepError(f"{root} holds still pictures, which have no sound: leave --sound-root out")
    real = RealNames(sound_root)
    prefix = os.path.relpath(sound_root.resolve(), root.resolve()).replace(os.sep, "/")
    prefix = "" if prefix == "." else f"{prefix}/"
    found = []
    for clip in clips:
        stem = clip.source.removeprefix(videos).rpartition(".")[0]
        sound = real.find_any(stem, _SUFFIXES)
        if sound is not None:
            path, problem = shown(prefix + sound)
            found.append(replace(clip, sound=path, problem=clip.problem or problem))
        else:
            missing = (
                f"its sound {sound_root / stem}.{expected} is missing, also with another suffix of sound"
            )
            found.append(replace(clip, problem=clip.problem or missing))
    return found
