"""Contact sheets: crops around the face, in rows and columns, with labels."""

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

#: File name of a transfer's sheet beside its videos, and number of frames of the driving clip on it.
SHEET, MOMENTS = "sheet.jpg", 8
#: Side of a face on it, in pixels.
_TILE = 192
#: Side of a crop divided by the longer side of the face's box.
_ROOM = 1.3
_GAP, _LINE, _TEXT, _LIFT = 6, 20, 14, 2
_PAPER, _INK, _BLANK = (250, 250, 248), (20, 20, 20), (226, 226, 222)
#: FaceMesh: inner edges of the lips, then top of the forehead and chin.
_UPPER, _LOWER, _TOP, _CHIN = 13, 14, 10, 152

Tile = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SheetRow:
    """A row of a sheet: its label, and a tile for each column; None: empty."""

    label: str
    tiles: Sequence[Tile | None]


@dataclass(frozen=True)
class Band:
    """Rows with common column titles; every row has a tile for every title."""

    titles: Sequence[str]
    rows: Sequence[SheetRow]


class FaceCrop:
    """Crops squares around the face of a footage, all with the same scale.

    The side is computed from the face's median size, the position from the landmarks of the same frame, or of the
    nearest frame with landmarks. Without any landmarks, it is the square in the middle of the frame.

    Args:
        footage: with the landmarks of the face.
        size: side of the crops, pixels.
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
        """Crop a frame (H, W, 3) uint8, RGB, of the footage or generated for it; pixels outside the frame are
        black.

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
    """The whole frame (H, W, 3) uint8, RGB, resized into the middle of a black (size, size, 3) square."""
    picture = ImageOps.pad(Image.fromarray(frame), (size, size), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def timestamp(frame: int) -> str:
    """The time of a frame at 25 fps: ``1.24 s``."""
    return f"{frame / FPS:.2f} s"


def draw(bands: Sequence[Band]) -> Image.Image:
    """Draw bands below each other.

    Raises:
        ValueError: there is no tile, tiles differ in size, or a row does not have one for every title.
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
    """The text, or its end if it is wider than ``width``, since ids differ at the end."""
    begin = 0
    while begin < len(text) and font.getlength(f"...{text[begin:]}" if begin else text) > width:
        begin += 1
    return f"...{text[begin:]}" if begin else text


def write(path: Path, bands: Sequence[Band]) -> None:
    """Draw bands and write them as JPEG, atomically; the folder is created.

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
    """Frames in which the mouth is open, closed, open …: the frames with a face are divided into ``count`` equal parts,
    and each part gives the frame with the largest or, alternately, the smallest distance of the lips.

    Args:
        footage: the driving clip.
        stop: only frames before this one; at least 1.
        count: largest number of frames.
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
        label: above its row.
        footage: the target's footage.
        video: the generated video.
    """

    label: str
    footage: VideoFootage
    video: Path


def write_transfer(
    path: Path, label: str, driver: VideoFootage, videos: Sequence[Driven], *, cut: bool = True
) -> None:
    """Draw a transfer as in LipFormer's Fig. 6: one column per time, one row per identity.

    The driving clip is the first row. The first tile of each target's row is its original first frame.

    Args:
        path: the JPEG to write.
        label: above the driving clip's row.
        driver: the driving clip, no longer than its sound.
        videos: at least one.
        cut: the generated frames are full frames and the face is cropped; else they are shown whole.

    Raises:
        ClipError: a video cannot be decoded up to a needed frame.
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
