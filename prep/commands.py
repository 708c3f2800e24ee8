"""The commands that make a data set again, for messages."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from prep.detectors import recorded
from prep.options import PrepOptions
from prep.sources.holdout import can_hold_out

#: Number of videos that can be split into three.
FEWEST = 3


def prep_command(
    manifest: Mapping[str, Any],
    out: Path,
    *,
    fan: bool = False,
    holdout: Mapping[str, Any] | None = None,
    whole: bool = False,
) -> str:
    """The ``bench prep`` command that made a data set, or would make it with 68 landmarks or with splits.

    Args:
        manifest: of the data set.
        out: folder to write.
        fan: with 68 landmarks.
        holdout: ``share`` of the speakers to hold out and ``seed``; None: as in the manifest.
        whole: all splits and clips, although the data set holds one split or the first clips only.
    """
    options = dict(manifest.get("options", {}))
    if options:
        options["detector"] = recorded(options)["name"]
    words = [
        "bench",
        "prep",
        options.get("source", "SOURCE"),
        manifest.get("root", "ROOT"),
        "--out",
        str(out),
    ]
    if options.get("views"):
        words += ["--views", ",".join(options["views"])]
    if options.get("name") != options.get("source"):
        words += ["--name", options["name"]]
    for field in fields(PrepOptions):
        value = fan or options.get(field.name) if field.name == "fan" else options.get(field.name)
        if field.default is MISSING or value in (None, field.default):
            continue
        words.append(f"--{field.name.replace('_', '-')}")
        if value is not True:
            words.append(str(value))
    listing = manifest.get("listing", {})
    made = holdout or listing.get("holdout")
    if made:
        words += ["--holdout", f"{100 * made['share']:g}%"]
        words += ["--seed", str(made["seed"])] if made["seed"] else []
    for name in ("sound_root", *(() if whole else ("split", "limit"))):
        if name in listing:
            words += [f"--{name.replace('_', '-')}", str(listing[name])]
    return shlex.join(words)


def split_remedy(manifest: Mapping[str, Any], folder: Path, splits: Collection[str]) -> str:
    """How to get a data set that has clips for training and for validation.

    Args:
        manifest: of a data set that lacks one of both.
        folder: where it is.
        splits: those that it has.

    Returns:
        A remedy with its command.
    """
    listing, root = manifest.get("listing", {}), Path(manifest.get("root", "ROOT"))
    again = Path(f"{folder}-split")
    if "split" in listing:
        return f"prepare all splits: {prep_command(manifest, again, whole=True)}"
    if made := listing.get("holdout"):
        other = {**made, "seed": made["seed"] + 1}
        command = prep_command(manifest, Path(f"{folder}-seed{other['seed']}"), holdout=other)
        return f"none of the clips held out could be used, hold out others: {command}"
    if not can_hold_out(splits, root):
        command = prep_command(manifest, again, whole=True)
        return f"name its clips in lists in {root} (train.txt, val.txt), then: {command}"
    if listing.get("clips", FEWEST) < FEWEST:
        words = ["bench", "train", "ipl", "--data", str(folder), "--per", "speaker"]
        return f"train on one person: {shlex.join(words)}"
    command = prep_command(manifest, again, holdout={"share": 0.1, "seed": 0}, whole=True)
    return f"hold some speakers out: {command}"
