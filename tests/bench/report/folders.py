"""Result folders to draw and to lay out, without an evaluation: three clips, two regions, pictures."""

from __future__ import annotations

from math import inf
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.results import CLIPS, FRAMES, PREVIEWS, Figure, Missing, Result, write_result
from prep import images
from tests.bench.report import factory

CLIP_IDS = ["a/1", "a/2", "a/3"]
#: PSNR of every clip; None: not scored.
PSNR: dict[str, list[float | None]] = {
    "plain": [30.0, 31.0, 29.0],
    "b <b>&amp; $x_1$": [33.0, 30.5, None],
    "mute": [25.0, 26.0, 27.0],
    "ground_truth": [inf, inf, inf],
    "still": [20.0, 21.0, 22.0],
}
LSE: dict[str, list[float | None]] = {
    "plain": [8.0, 7.0, 9.0],
    "b <b>&amp; $x_1$": [7.5, 7.0, 8.0],
    "mute": [None, None, None],
    "ground_truth": [6.5, 6.0, 7.0],
    "still": [10.0, 11.0, 12.0],
}
NASTY = "b <b>&amp; $x_1$"
NO_AUDIO = "no audio in the prediction"
MISSING = Missing(metric="lpips.alex", reason="alexnet is not here", remedy="bench weights fetch alexnet")


def result(dataset: str = "lrs2", clips_sha256: str = "c" * 64, methods: list[str] | None = None) -> Result:
    """The summary of the figures above, with LPIPS missing."""
    rows = []
    for name in methods or PSNR:
        figures = [
            _figure("psnr.frame", PSNR[name], "full"),
            _figure("psnr.frame", [None if v is None else v - 4 for v in PSNR[name]], "face"),
            _figure("lse.lrs.d", LSE[name], "clip"),
        ]
        rows.append(
            factory.method(name, figures, training_data="" if name in ("ground_truth", "still") else "LRS2")
        )
    return factory.result(rows, dataset=dataset, missing=[MISSING], clips_sha256=clips_sha256)


def _figure(output: str, values: list[float | None], region: str) -> Figure:
    known = [v for v in values if v is not None]
    return factory.figure(
        output,
        sum(known) / len(known) if known else None,
        region,
        asked=len(values),
        scored=len(known),
        failures={NO_AUDIO: len(values) - len(known)} if len(known) < len(values) else {},
    )


def write(folder: Path, found: Result | None = None) -> tuple[Path, Result]:
    """A whole result folder, as `bench eval` leaves it."""
    found = found or result()
    folder.mkdir(parents=True)
    write_result(folder, found)
    names = [m.method for m in found.methods]
    pq.write_table(_clips(names), folder / CLIPS)
    pq.write_table(_frames(names), folder / FRAMES)
    pq.write_table(_previews(names), folder / PREVIEWS)
    return folder, found


def _clips(names: list[str]) -> pa.Table:
    rows = []
    for name in names:
        for i, clip in enumerate(CLIP_IDS):
            psnr, lse = PSNR[name][i], LSE[name][i]
            for region, less in (("full", 0), ("face", 4)):
                value = None if psnr is None else psnr - less
                rows.append(
                    {
                        "method": name,
                        "clip_id": clip,
                        "region": region,
                        "output": "psnr.frame",
                        "value": value,
                    }
                )
            rows.append(
                {"method": name, "clip_id": clip, "region": "clip", "output": "lse.lrs.d", "value": lse}
            )
    return pa.Table.from_pylist(rows, pa.schema([*_strings("method", "clip_id", "region", "output"), _VALUE]))


def _frames(names: list[str]) -> pa.Table:
    rows = []
    for name in names:
        for i, clip in enumerate(CLIP_IDS):
            if (mean := PSNR[name][i]) is not None:
                values = [mean + (frame % 5) for frame in range(25)]
                if name == "mute":
                    values[3:6] = [float("nan")] * 3
                rows.append(
                    {
                        "method": name,
                        "clip_id": clip,
                        "region": "full",
                        "output": "psnr.frame",
                        "values": values,
                    }
                )
    values = pa.field("values", pa.list_(pa.float32()))
    return pa.Table.from_pylist(rows, pa.schema([*_strings("method", "clip_id", "region", "output"), values]))


def picture(name: str, clip: str, frame: int) -> bytes:
    """The preview of a method ("truth": of the truth): a plain colour of its own."""
    seed = [ord(letter) for letter in f"{name}/{clip}"] + [frame]
    colour = np.random.default_rng(seed).integers(0, 256, 3, np.uint8)
    return images.encode(np.ascontiguousarray(np.broadcast_to(colour, (32, 48, 3))), "jpeg")


def _previews(names: list[str]) -> pa.Table:
    rows = [
        {
            "method": name,
            "clip_id": clip,
            "frame": frame,
            "width": 48,
            "height": 32,
            "jpeg": picture(name, clip, frame),
        }
        for clip in CLIP_IDS
        for name in ("truth", *names)
        for frame in (2, 12)
    ]
    numbers = [pa.field(name, pa.int32()) for name in ("frame", "width", "height")]
    return pa.Table.from_pylist(
        rows, pa.schema([*_strings("method", "clip_id"), *numbers, ("jpeg", pa.binary())])
    )


_VALUE = pa.field("value", pa.float64())


def _strings(*names: str) -> list[pa.Field]:
    return [pa.field(name, pa.string()) for name in names]
