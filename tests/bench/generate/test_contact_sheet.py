"""Contact sheets: what is cut from a frame, what stands where, and which moments are shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench.generate.contact_sheet import (
    Band,
    Driven,
    FaceCrop,
    SheetRow,
    draw,
    telling_moments,
    timestamp,
    write,
    write_transfer,
)
from bench.generate.fit import Fit
from bench.generate.footage import VideoFootage
from prep.errors import ClipError
from prep.video_writing import write_video
from tests.bench.fake_method import numbered

HEIGHT, WIDTH = 120, 200


def footage(landmarks: np.ndarray, n_frames: int | None = None, fit: Fit | None = None) -> VideoFootage:
    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        return (numbered(number, HEIGHT, WIDTH) for number in range(start, stop))

    return VideoFootage(
        read,
        landmarks,
        n_frames=n_frames or len(landmarks),
        fit=fit or Fit(),
        width=WIDTH,
        height=HEIGHT,
    )


def faces(centres: list[tuple[float, float] | None], side: float = 40) -> np.ndarray:
    """(n, 478, 2): the points of every face fill a square of ``side`` around its centre; None: no face."""
    unit = np.random.default_rng(0).uniform(-1, 1, (478, 2))
    low, high = unit.min(axis=0), unit.max(axis=0)
    unit = (unit - low) / (high - low) - 0.5
    # The oval alone says where the face is.
    unit[[10, 152, 234, 454]] = [(0, -0.5), (0, 0.5), (-0.5, 0), (0.5, 0)]
    return np.stack([np.full((478, 2), np.nan) if at is None else side * unit + at for at in centres])


def dotted(x: int, y: int) -> np.ndarray:
    """A grey frame with a white square of 4 pixels around a point."""
    frame = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    frame[y - 2 : y + 2, x - 2 : x + 2] = 255
    return frame


def test_a_crop_follows_the_face_at_one_scale() -> None:
    crop = FaceCrop(footage(faces([(60, 50), (130, 70)])), 104)
    for index, (x, y) in enumerate([(60, 50), (130, 70)]):
        tile = crop(dotted(x, y), index)
        assert tile.shape == (104, 104, 3) and tile.dtype == np.uint8
        # 1.3 times 40 pixels on 104: twice as large, the face's middle in the middle.
        bright = np.argwhere(tile[..., 0] > 200)
        assert np.abs(bright.mean(axis=0) - 51.5).max() < 1 and abs(len(bright) - 64) < 20
        assert abs(int(tile[5, 5, 0]) - 90) <= 1


def test_a_crop_that_leaves_the_picture_is_black_there() -> None:
    tile = FaceCrop(footage(faces([(10, 60)])), 52)(dotted(10, 60), 0)
    assert (tile[:, :14] == 0).all() and (abs(tile[:10, 20:].astype(int) - 90) <= 1).all()


def test_without_a_face_the_nearest_is_followed_or_the_middle_shown() -> None:
    crop = FaceCrop(footage(faces([None, (60, 50), None, None, (130, 70), None])), 52)
    for index, (x, y) in enumerate([(60, 50), (60, 50), (60, 50), (130, 70), (130, 70), (130, 70)]):
        assert crop(dotted(x, y), index)[26, 26, 0] > 200
    middle = FaceCrop(footage(faces([None, None])), 60)(dotted(100, 60), 1)
    assert middle[30, 30, 0] > 200 and middle.min() > 80


def tile(level: int, size: tuple[int, int] = (30, 40)) -> np.ndarray:
    return np.full((*size, 3), level, np.uint8)


def test_every_tile_stands_under_its_title_and_label() -> None:
    bands = [
        Band(
            ["one", "two"], [SheetRow("first", [tile(10), tile(60)]), SheetRow("second", [None, tile(110)])]
        ),
        Band(["three"], [SheetRow("third", [tile(160)])]),
    ]
    sheet = np.asarray(draw(bands))
    row = 20 + 30 + 6
    assert sheet.shape == (20 + 2 * row + 20 + row + 6, 2 * 46 + 6, 3)
    for left, top, level in [(6, 40, 10), (52, 40, 60), (52, 40 + row, 110), (6, 60 + 2 * row, 160)]:
        assert (sheet[top : top + 30, left : left + 40] == level).all()
    assert (sheet[40 + row : 70 + row, 6:46] == (226, 226, 222)).all()
    assert (sheet[60 + 2 * row : 90 + 2 * row, 52:92] == (250, 250, 248)).all()
    # There is ink in every line of text, and none between the columns.
    for top in (0, 20, 20 + row, 20 + 2 * row, 40 + 2 * row):
        assert sheet[top : top + 20, 6:46].min() < 120
    assert sheet[:20, 52:92].min() < 120


def test_a_label_that_is_too_long_keeps_its_end() -> None:
    def label(text: str) -> np.ndarray:
        return np.asarray(draw([Band(["t"], [SheetRow(text, [tile(9, (30, 120))])])]))[20:40]

    long = label("a/very/long/folder/name/of/some/speaker/00001")
    assert (long[:, -4:] == (250, 250, 248)).all() and long.min() < 120
    assert (long == label("another/folder/of/some/speaker/00001")).all()
    assert (long != label("a/very/long/folder/name/of/some/speaker/00002")).any()


def test_tiles_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="tiles of 2 sizes"):
        draw([Band(["a"], [SheetRow("r", [tile(1)]), SheetRow("s", [tile(1, (8, 8))])])])
    with pytest.raises(ValueError, match="tiles of 0 sizes"):
        draw([Band(["a"], [SheetRow("r", [None])])])
    with pytest.raises(ValueError, match="row 'r' has 1 tiles for 2 titles"):
        draw([Band(["a", "b"], [SheetRow("r", [tile(1)])])])


def test_a_sheet_is_written_as_jpeg(tmp_path: Path) -> None:
    write(tmp_path / "new" / "sheet.jpg", [Band(["a"], [SheetRow("r", [tile(100)])])])
    assert (tmp_path / "new" / "sheet.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.jpg"]


def talking(openings: list[float | None]) -> VideoFootage:
    """Mouths that are open so far, of the face's height."""
    points = faces([None if opening is None else (100, 60) for opening in openings])
    for number, opening in enumerate(openings):
        points[number, 14] = points[number, 13] + (0, 40 * (opening or 0))
    return footage(points)


def test_moments_are_open_and_closed_in_turn() -> None:
    mouths = [0.1, 0.3, 0.2, 0.2, 0.05, 0.1, None, None, 0.1, 0.1, 0.2, 0.15]
    # Ten frames show a face; in threes of 4, 3 and 3.
    assert telling_moments(talking(mouths), 12, 3) == [1, 4, 10]
    assert telling_moments(talking(mouths), 8, 2) == [1, 4]
    assert telling_moments(talking(mouths), 3) == [0, 1, 2]
    assert telling_moments(talking([None] * 4), 4, 2) == [0, 2]
    assert [timestamp(number) for number in (0, 4)] == ["0.00 s", "0.16 s"]


def test_a_transfer_shows_the_same_moments_of_all(tmp_path: Path) -> None:
    driver = talking([0.1, 0.3, 0.2, 0.0, 0.1, 0.2])
    video = tmp_path / "video.mp4"
    # One level a frame tells which is shown.
    write_video(video, [np.full((HEIGHT, WIDTH, 3), 40 + 20 * number, np.uint8) for number in range(6)])
    other = footage(faces([(100, 60)] * 4), 6)
    write_transfer(tmp_path / "sheet.jpg", "driver", driver, [Driven("x", other, video)])
    sheet = cv2.imread(str(tmp_path / "sheet.jpg"))
    assert sheet.shape == (20 + 2 * 218 + 6, 7 * 198 + 6, 3)
    shown = [
        round(float(sheet[40 + 218 + 96, 6 + 198 * column + 96].mean()) - 40) / 20 for column in range(1, 7)
    ]
    assert np.abs(np.array(shown) - np.arange(6)).max() < 0.2
    short = footage(faces([(100, 60)] * 4), 8)
    long = footage(driver.landmarks("mesh478"), 8)
    with pytest.raises(ClipError, match="frame 6 cannot be decoded"):
        write_transfer(tmp_path / "sheet.jpg", "driver", long, [Driven("x", short, video)])
