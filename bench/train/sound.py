"""How the sound of data sets was prepared, as stored in a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.common.errors import BenchError
from bench.train.run_options import SoundConfig
from prep.index import build_index
from prep.shards import read_manifest, schema_version, shard_paths


def data_sound(folders: Sequence[Path]) -> SoundConfig:
    """The sound options of prepared data sets. Data sets without sound (still images) are ignored.

    Raises:
        BenchError: two data sets differ.
        PrepError: a folder is not a data set.
    """
    found = {folder: _sound(folder) for folder in folders}
    if len(set(map(_key, found.values()))) > 1:
        found = {folder: sound for folder, sound in found.items() if _has_sound(folder)}
    for folder, sound in found.items():
        first, wanted = next(iter(found.items()))
        for name, value in sound.model_dump().items():
            before = getattr(wanted, name)
            if value != before:
                raise BenchError(
                    f"{first} was prepared with {name} {before}, {folder} with {value}: prepare one of them again "
                    f"with the other's --{name.replace('_', '-')}"
                )
    return next(iter(found.values()), SoundConfig())


def mixed_versions(folders: Sequence[Path]) -> str:
    """A warning if sound was mixed by different rules in data sets that are trained on together; ``""`` if it was not.

    Data sets without sound (still images) are ignored.

    Raises:
        PrepError: a folder is not a data set.
    """
    versions = {folder: schema_version(folder) for folder in folders}
    if len(set(versions.values())) > 1:
        versions = {folder: version for folder, version in versions.items() if _has_sound(folder)}
    old = [str(folder) for folder, version in versions.items() if version == 1]
    if not old or len(old) == len(versions):
        return ""
    return (
        f"stereo sound in {', '.join(old)} is up to 3 dB louder than in the others (schema version 1): prepare "
        "the corpus again to train on one level"
    )


def _sound(folder: Path) -> SoundConfig:
    options = read_manifest(folder).get("options") or {}
    return SoundConfig.model_validate(
        {name: options[name] for name in SoundConfig.model_fields if name in options}
    )


def _key(sound: SoundConfig) -> str:
    return sound.model_dump_json()


def _has_sound(folder: Path) -> bool:
    return bool(build_index(shard_paths(folder)[:1], []).mel_columns.any())
