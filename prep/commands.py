"""The `bench prep` command that makes a data set again, for messages."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from prep.options import PrepOptions


def prep_command(
    manifest: Mapping[str, Any],
    out: Path,
    *,
    fan: bool = False,
    holdout: str | None = None,
    whole: bool = False,
) -> str:
    """The ``bench prep`` command that made a data set, or would make it with 68 landmarks or with splits.

    Args:
        manifest: of the data set.
        out: folder to write.
        fan: with 68 landmarks.
        holdout: share of the speakers to hold out; None: as in the manifest.
        whole: all splits and clips, although the data set holds one split or the first clips only.
    """
    options = dict(manifest.get("options", {}))
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
    made = listing.get("holdout")
    if holdout is not None or made:
        words += ["--holdout", holdout or str(made["share"])]
    if made and made["seed"]:
        words += ["--seed", str(made["seed"])]
    for name in ("sound_root", *(() if whole else ("split", "limit"))):
        if name in listing:
            words += [f"--{name.replace('_', '-')}", str(listing[name])]
    return shlex.join(words)
