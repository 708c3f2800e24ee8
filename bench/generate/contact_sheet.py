"""Contact sheets: frames cut around the face, in rows and columns, under labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps

from bench.generate.footage import VideoFootage
from prep import images
from prep.errors import ClipError
from prep.rates import FPS
from prep.shards import AtomicFile
from prep.video_reading import frames

#: Name of a transfer's sheet beside its videos, and how many moments of the driving clip it shows.
SHEET, MOMENTS = "sheet.jpg", 8
#: Pixels across a face there.
_TILE = 192
#: Side of a crop, of the longer side of the face's box.
_ROOM = 1.3
_GAP, _LINE, _TEXT, _LIFT = 6, 20, 14, 2
_PAPER, _INK, _BLANK = (250, 250, 248), (20, 20, 20), (226, 226, 222)
#: FaceMesh: inner edges of the lips, then top of the forehead and chin.
_UPPER, _LOWER, _TOP, _CHIN = 13, 14, 10, 152

Tile = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SheetRow:
    """A row of a sheet: its label and what stands under each column's title; None: nothing."""

    label: str
    tiles: Sequence[Tile | None]


@dataclass(frozen=True)
class Band:
    """Rows under common titles; every row has a tile for every title."""

    titles: Sequence[str]
    rows: Sequence[SheetRow]


class FaceCrop:
    """Cuts square pictures around the face of a footage, all of one scale.

    The side follows from the face's median size, the place from the landmarks of the same frame, or the nearest one
    that has any. Where none has, it is the square in the middle of the picture.

    Args:
        footage: whose landmarks say where the face is.
        size: side of the pictures, pixels.
    """

    def __init__(self, footage: VideoFootage, size: int) -> None:
        self.size = size
        points = footage.landmarks("face_oval")
        self._seen = np.flatnonzero(footage.detected)
        low, high = points[self._seen].min(axis=1), points[self._seen].max(axis=1)
        self._centres = (low + high) / 2
        if len(self._seen):
            self._side = max(1, round(_ROOM * float(np.median((high - low).max(axis=1)))))

    def __call__(self, frame: np.ndarray, index: int) -> Tile:
        """Cut a frame (H, W, 3) uint8, RGB, the footage's or one generated for it; what lies outside is black.

        Returns:
            (size, size, 3) uint8.
        """
        height, width = frame.shape[:2]
        side, x, y = min(height, width), width / 2, height / 2
        if len(self._seen):
            side = self._side
            x, y = self._centres[np.abs(self._seen - index).argmin()]
        left, top = round(x - side / 2), round(y - side / 2)
        cut = Image.fromarray(frame).crop((left, top, left + side, top + side))
        return np.asarray(cut.resize((self.size, self.size), Image.Resampling.LANCZOS))


def whole(frame: np.ndarray, size: int) -> Tile:
    """A frame (H, W, 3) uint8, RGB, shrunk or enlarged whole into the middle of a black (size, size, 3) square."""
    picture = ImageOps.pad(Image.fromarray(frame), (size, size), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def timestamp(frame: int) -> str:
    """When a frame is seen, at 25 frames a second: ``1.24 s``."""
    return f"{frame / FPS:.2f} s"


def draw(bands: Sequence[Band]) -> Image.Image:
    """Draw bands below each other.

    Raises:
        ValueError: there is no tile at all, they differ in size, or a row has not one for every title.
    """
    sizes = {tile.shape for band in bands for row in band.rows for tile in row.tiles if tile is not None}
    if len(sizes) != 1:
        raise ValueError(f"tiles of {len(sizes)} sizes: a sheet needs one")
    height, width, _ = sizes.pop()
    across = max(len(band.titles) for band in bands) * (width + _GAP) + _GAP
    down = sum(_LINE + len(band.rows) * (_LINE + height + _GAP) for band in bands) + _GAP
    sheet = Image.new("RGB", (across, down), _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_TEXT)
    lefts = range(_GAP, across, width + _GAP)
    top = 0
    for band in bands:
        for left, title in zip(lefts, band.titles, strict=False):
            pen.text((left + width / 2, top + _LIFT), title, _INK, font, anchor="ma")
        top += _LINE
        for row in band.rows:
            if len(row.tiles) != len(band.titles):
                raise ValueError(
                    f"row {row.label!r} has {len(row.tiles)} tiles for {len(band.titles)} titles"
                )
            pen.text((_GAP, top + _LIFT), _shortened(row.label, font, across - 2 * _GAP), _INK, font)
            top += _LINE
            for left, tile in zip(lefts, row.tiles, strict=False):
                if tile is None:
                    pen.rectangle((left, top, left + width - 1, top + height - 1), _BLANK)
                else:
                    sheet.paste(Image.fromarray(tile), (left, top))
            top += height + _GAP
    return sheet


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """The end of a text that is wider than ``width``: ids differ there."""
    begin = 0
    while begin < len(text) and font.getlength(f"...{text[begin:]}" if begin else text) > width:
        begin += 1
    return f"...{text[begin:]}" if begin else text


def write(path: Path, bands: Sequence[Band]) -> None:
    """Draw bands and write them as JPEG, atomically; the folder is made.

    Raises:
        ValueError: as for :func:`draw`.
        OSError: the file cannot be written.
    """
    picture = images.encode(np.asarray(draw(bands)), "jpeg", 92)
    path.parent.mkdir(parents=True, exist_ok=True)
    with AtomicFile(path) as sink:
        sink.write(picture)
        sink.commit()


def telling_moments(footage: VideoFootage, stop: int, count: int = MOMENTS) -> list[int]:
    """Frames in which the mouth is open, closed, open …: in each of ``count`` equal parts of the frames that show a
    face, the one where the lips are farthest apart, or nearest, in turn.

    Args:
        footage: the driving clip.
        stop: frames before this one only; at least 1.
        count: how many at most.
    """
    points = footage.landmarks("mesh478")[:stop]
    apart = np.linalg.norm(points[:, _UPPER] - points[:, _LOWER], axis=1)
    opening = np.nan_to_num(apart / np.linalg.norm(points[:, _TOP] - points[:, _CHIN], axis=1))
    seen = np.flatnonzero(footage.detected[:stop])
    seen = seen if len(seen) else np.arange(len(points))
    parts = np.array_split(seen, min(count, len(seen)))
    return [
        int(part[opening[part].argmin() if number % 2 else opening[part].argmax()])
        for number, part in enumerate(parts)
    ]


@dataclass(frozen=True)
class Driven:
    """A video of a transfer.

    Attributes:
        label: over its row.
        footage: what was to speak.
        video: what was generated for it.
    """

    label: str
    footage: VideoFootage
    video: Path


def write_transfer(
    path: Path, label: str, driver: VideoFootage, videos: Sequence[Driven], *, cut: bool = True
) -> None:
    """Draw a transfer as LipFormer's Fig. 6 does: every column a moment of the sound, every row an identity.

    The driving clip itself stands on top; before the generated frames stands each target's first one, as it was.

    Args:
        path: the JPEG to write.
        label: over the driving clip's row.
        driver: the driving clip, no longer than its sound.
        videos: at least one.
        cut: the generated frames are full frames, of which the face is cut out; else they are shown whole.

    Raises:
        ClipError: a video cannot be decoded as far.
        OSError: the file cannot be written.
    """
    moments = telling_moments(driver, min(driver.n_frames, *(video.footage.n_frames for video in videos)))
    crop = FaceCrop(driver, _TILE)
    shots = driver.pick(moments)
    rows = [SheetRow(label, [None, *(crop(shot.frame, shot.index) for shot in shots)])]
    for video in videos:
        crop = FaceCrop(video.footage, _TILE)
        (first,) = video.footage.pick([0])
        painted = [(_frame(video.video, moment), moment) for moment in moments]
        generated = [crop(frame, moment) if cut else whole(frame, _TILE) for frame, moment in painted]
        rows.append(SheetRow(video.label, [crop(first.frame, 0), *generated]))
    write(path, [Band(["target", *map(timestamp, moments)], rows)])


def _frame(video: Path, number: int) -> np.ndarray:
    found: Iterable[np.ndarray] = frames(video, number, number + 1)
    for frame in found:
        return frame
    raise ClipError("video", f"frame {number} cannot be decoded")
