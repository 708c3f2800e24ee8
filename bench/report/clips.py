"""Reads the values per clip and per frame of a result folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.common.errors import BenchError
from bench.results import CLIPS, FRAMES, RESULT

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClipValues:
    """One figure for every clip.

    Attributes:
        clip_ids: sorted.
        values: method → (clips,) float64; NaN where there is no value, infinite for the PSNR of identical videos.
    """

    clip_ids: list[str]
    values: dict[str, Floats] = field(default_factory=dict)

    def best_first(self, method: str, better: str) -> list[tuple[str, float]]:
        """The clips of a method that have a value, best first; equal values are sorted by name."""
        sign = -1 if better == "higher" else 1
        found = [
            (clip, float(value))
            for clip, value in zip(self.clip_ids, self.values.get(method, ()), strict=False)
            if not np.isnan(value)
        ]
        return sorted(found, key=lambda pair: (sign * pair[1], pair[0]))


class ResultFiles:
    """The Parquet files of one result. If there are none (only a summary was given), nothing is found.

    Args:
        path: the result's folder, or its JSON file.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path.parent if path.name == RESULT else path

    def figure(self, output: str, region: str) -> ClipValues | None:
        """One figure of all methods, or None if the result does not contain it."""
        return self._figures.get((output, region))

    @cached_property
    def _figures(self) -> dict[tuple[str, str], ClipValues]:
        path = self.folder / CLIPS
        if not path.is_file():
            return {}
        table = read_table(path, columns=["method", "clip_id", "region", "output", "value"]).to_pandas()
        found = {}
        for key, rows in table.groupby(["output", "region"], sort=False, observed=True):
            wide = rows.pivot(index="clip_id", columns="method", values="value").sort_index()
            ids = [str(clip) for clip in wide.index]
            values = {str(method): wide[method].to_numpy(np.float64) for method in wide.columns}
            found[(str(key[0]), str(key[1]))] = ClipValues(ids, values)
        return found

    def clips_with_series(self, output: str, region: str) -> set[str]:
        """Clips for which values per frame are stored."""
        return self._series_index.get((output, region), set())

    @cached_property
    def _series_index(self) -> dict[tuple[str, str], set[str]]:
        path = self.folder / FRAMES
        if not path.is_file():
            return {}
        table: pd.DataFrame = read_table(path, columns=["clip_id", "region", "output"]).to_pandas()
        found: dict[tuple[str, str], set[str]] = {}
        for clip, region, output in table.drop_duplicates().itertuples(index=False):
            found.setdefault((str(output), str(region)), set()).add(str(clip))
        return found

    def series(self, clip_id: str, output: str, region: str) -> dict[str, Floats]:
        """Method → values per frame of one clip, NaN where a frame has none."""
        wanted = [("clip_id", "=", clip_id), ("output", "=", output), ("region", "=", region)]
        table = read_table(self.folder / FRAMES, columns=["method", "values"], filters=wanted)
        return {
            row["method"]: np.array([np.nan if v is None else v for v in row["values"]], np.float64)
            for row in table.to_pylist()
        }


def read_table(path: Path, **options: Any) -> pa.Table:
    """A Parquet file of a result.

    Raises:
        BenchError: it is damaged, or lacks a column.
    """
    try:
        return pq.read_table(path, **options)
    except (OSError, pa.ArrowException) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BenchError(f"{path} cannot be read ({first}); run `bench eval` again") from None
