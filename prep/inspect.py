"""Statistics and a contact sheet of a prepared data set."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from prep import detectors, images, landmark_sets, shards
from prep.errors import PrepError
from prep.schema import SINCE_VERSION_2, Clip
from prep.views import map_points

_INK, _PAPER, _FAINT = (32, 32, 36), (250, 250, 248), (150, 150, 150)
_LINES = (
    (landmark_sets.FACE_OVAL, (90, 200, 250), False),
    (landmark_sets.LEFT_EYE, (120, 230, 120), True),
    (landmark_sets.RIGHT_EYE, (120, 230, 120), True),
    (landmark_sets.LIPS_OUTER, (255, 110, 110), True),
    (landmark_sets.LIPS_INNER, (255, 200, 90), True),
)
_TILE, _GAP, _MARGIN = 160, 6, 16


@dataclass
class SplitCounts:
    """Sums over the clips of one split; ``detected`` counts frames with a face."""

    clips: int = 0
    frames: int = 0
    seconds: float = 0.0
    detected: int = 0
    speakers: int = 0


@dataclass
class Inspection:
    """The result of :func:`inspect_folder`.

    Attributes:
        splits: counts by split.
        failures: (step, reason) → ids of the clips, most frequent reason first.
        bytes_by_column: bytes on disk of every column, in all shards.
        schema_version: of the data set.
        read_as: how sources were read, such as ``sound: mean of the channels`` → number of clips. Empty for a data set
            of version 1, which does not say.
        detector: what found the landmarks, see :func:`prep.detectors.words`.
        shifted: number of clips whose sound was shifted (:mod:`prep.correcting`); None: the data set was not corrected.
    """

    splits: dict[str, SplitCounts]
    failures: dict[tuple[str, str], list[str]]
    bytes_by_column: dict[str, int]
    schema_version: int
    read_as: dict[str, int]
    detector: str
    shifted: int | None = None


def inspect_folder(folder: Path) -> Inspection:
    """Count the content of a data set; only small columns are read.

    Raises:
        PrepError: the folder is not a prepared data set.
    """
    manifest = shards.read_manifest(folder)
    read_as: Counter[str] = Counter()
    splits: dict[str, SplitCounts] = defaultdict(SplitCounts)
    speakers: dict[str, set[str]] = defaultdict(set)
    columns: Counter[str] = Counter()
    failures: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in shards.shard_paths(folder):
        file = shards.open_shard(path)
        for group in range(file.metadata.num_row_groups):
            row_group = file.metadata.row_group(group)
            for i in range(row_group.num_columns):
                chunk = row_group.column(i)
                columns[chunk.path_in_schema.split(".")[0]] += chunk.total_compressed_size
        light = file.read(columns=["split", "speaker", "n_frames", "start", "stop", "detected"])
        for row in light.to_pylist():
            counts = splits[row["split"]]
            counts.clips += 1
            counts.frames += row["n_frames"]
            counts.seconds += row["stop"] - row["start"]
            counts.detected += sum(row["detected"])
            speakers[row["split"]].add(row["speaker"])
        if set(SINCE_VERSION_2) <= set(file.schema_arrow.names):
            for row in file.read(columns=["fps", *SINCE_VERSION_2]).to_pylist():
                read_as.update(_read_as(row))
        for failure in shards.shard_failures(path):
            failures[failure.step, failure.reason].append(failure.clip_id)
    for split, counts in splits.items():
        counts.speakers = len(speakers[split])
    by_frequency = sorted(failures.items(), key=lambda item: (-len(item[1]), item[0]))
    return Inspection(
        dict(sorted(splits.items())),
        dict(by_frequency),
        dict(columns),
        shards.schema_version(folder),
        dict(sorted(read_as.items())),
        detectors.words(detectors.recorded(manifest.get("options", {}))),
        manifest["corrected"]["clips"] if "corrected" in manifest else None,
    )


def _read_as(row: dict[str, Any]) -> Iterator[str]:
    """How a video was read, one line for each thing that differs between sources."""
    if not row["fps"]:  # a still
        return
    mixes = {"mono": "one channel", "mean": "mean of the channels"}
    yield f"sound: {mixes.get(row['audio_mix'], row['audio_mix'] + ' of channels that cancel')}"
    if row["audio_track"] > 0:
        yield f"sound: track {row['audio_track']}"
    if row["video_track"] > 0:
        yield f"picture: track {row['video_track']}"
    yield f"colours: {row['matrix']}, {'tagged' if row['matrix_tagged'] else 'not tagged'}"
    if row["light"] != "sdr":
        yield f"light: {row['light']}, converted"
    if row["deinterlaced"]:
        yield "frames: deinterlaced"
    if row["sample_aspect"] != 1:
        yield "frames: pixels made square"
    if row["small_faces"]:
        yield "faces: small, found by the full-range detector"


def verify_folder(folder: Path) -> int:
    """Compare every shard with the manifest's SHA-256. Returns the number of shards.

    Raises:
        PrepError: the data set is incomplete, or a shard is missing or differs; the message names it.
    """
    manifest = shards.read_manifest(folder)
    command = shards.made_by(manifest)
    if not manifest.get("complete"):
        raise PrepError(
            f"{folder} is not complete: run the same {command} again, it continues where it stopped"
        )
    for entry in manifest["shards"]:
        path = folder / shards.SHARDS / entry["name"]
        if not path.is_file():
            raise PrepError(f"{path} is missing: run the same {command} again to make it")
        if shards.sha256(path) != entry["sha256"]:
            raise PrepError(f"{path} differs from the manifest: delete it and run the same {command} again")
    return len(manifest["shards"])


def contact_sheet(folder: Path, path: Path, clips: int = 6, frames: int = 7) -> Path:
    """Draw a PNG: one row per clip, with evenly spaced crops of its first view with landmarks, then its other views.

    Args:
        folder: a prepared data set.
        path: the PNG to write.
        clips: number of rows; clips are evenly spaced in the data set.
        frames: crops per row.

    Raises:
        PrepError: the data set has no clips or no views to draw, or ``path`` cannot be written.
    """
    paths = shards.shard_paths(folder)
    places = [(p, g) for p in paths for g in range(shards.open_shard(p).num_row_groups)]
    if not places:
        raise PrepError(f"{folder} has no clips to draw; `bench inspect` counts why they failed")
    views = shards.stored_views(folder)
    if not views:
        raise PrepError(f"{folder} has no pictures to draw")
    picks = np.unique(np.linspace(0, len(places) - 1, min(clips, len(places))).round().astype(int))
    rows = [
        _row(shards.read_clip(shards.open_shard(places[i][0]), places[i][1]), views, frames) for i in picks
    ]
    width = max(row.shape[1] for row in rows)
    rows = [
        cv2.copyMakeBorder(r, 0, 0, 0, width - r.shape[1], cv2.BORDER_CONSTANT, value=_PAPER) for r in rows
    ]
    sheet = np.vstack(rows)
    sheet = cv2.copyMakeBorder(sheet, _MARGIN, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_CONSTANT, value=_PAPER)
    try:
        with shards.AtomicFile(path) as sink:
            sink.write(images.encode(sheet, "png"))
            sink.commit()
    except OSError as error:
        raise PrepError(
            f"cannot write {path}: {error.strerror or error}; name another file with `bench inspect --sheet`"
        ) from None
    return path


def _row(clip: Clip, views: Sequence[str], frames: int) -> np.ndarray:
    seen = np.flatnonzero(clip.detected)
    times = seen[np.unique(np.linspace(0, len(seen) - 1, min(frames, len(seen))).round().astype(int))]
    tiles = [_tile(clip, views[0], int(t)) for t in times]
    tiles += [_tile(clip, view, int(times[len(times) // 2])) for view in views[1:]]
    row = np.hstack([cv2.copyMakeBorder(t, 0, 0, 0, _GAP, cv2.BORDER_CONSTANT, value=_PAPER) for t in tiles])
    strips = [_caption(clip, row.shape[1]), row]
    if clip.mel is not None:
        strips.append(_mel_strip(clip.mel, len(times) * (_TILE + _GAP) - _GAP, row.shape[1]))
    return np.vstack([*strips, np.full((_GAP * 2, row.shape[1], 3), _PAPER, np.uint8)])


def _tile(clip: Clip, view: str, frame: int) -> np.ndarray:
    data = clip.images[view][frame]
    if data is None:
        raise PrepError(f"{clip.clip_id}: frame {frame} counts as detected but has no {view} picture")
    picture = images.decode(data)
    scale = _TILE / picture.shape[0]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    width = round(picture.shape[1] * scale)
    picture = cv2.resize(picture, (width, _TILE), interpolation=interpolation)
    points = map_points(clip.landmarks[frame, :, :2].astype(np.float64), clip.transforms[view][frame]) * scale
    for indices, colour, closed in _LINES:
        line = np.round((points[indices] - 0.5) * 16).astype(np.int32)
        cv2.polylines(picture, [line], closed, colour, 1, cv2.LINE_AA, shift=4)
    _label(picture, f"{view} {frame}")
    return picture


def _label(picture: np.ndarray, text: str) -> None:
    _write(picture, (5, _TILE - 7), text, (255, 255, 255), outline=1)


def _caption(clip: Clip, width: int) -> np.ndarray:
    strip = np.full((22, width, 3), _PAPER, np.uint8)
    what = f"{clip.n_frames / clip.fps:.1f} s" if clip.fps else "still"
    end = _write(strip, (0, 15), f"{clip.clip_id}  {clip.split}  {what}  {clip.width}x{clip.height}", _INK)
    _write(strip, (end + 16, 15), clip.text.encode("ascii", "replace").decode(), _FAINT)
    return strip


def _write(
    picture: np.ndarray, at: tuple[float, float], text: str, colour: tuple[int, ...], outline: int = 0
) -> float:
    """Write into a picture, from the left end of the base line on; returns where the text ends."""
    # Not by OpenCV, whose letters depend on its version.
    page, font = Image.fromarray(picture), ImageFont.load_default(12)
    draw = ImageDraw.Draw(page)
    draw.text(at, text, colour, font, anchor="ls", stroke_width=outline, stroke_fill=(0, 0, 0))
    picture[:] = np.asarray(page)
    return at[0] + draw.textlength(text, font)


def _mel_strip(mel: np.ndarray, width: int, total: int) -> np.ndarray:
    grey = np.clip((mel.T[::-1] + 4) * (255 / 8), 0, 255).astype(np.uint8)
    picture = cv2.applyColorMap(
        cv2.resize(grey, (width, 40), interpolation=cv2.INTER_AREA), cv2.COLORMAP_MAGMA
    )
    picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return cv2.copyMakeBorder(picture, _GAP, 0, 0, total - width, cv2.BORDER_CONSTANT, value=_PAPER)
