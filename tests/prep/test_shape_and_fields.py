"""The shape of pixels, and interlaced recordings: what is read is what is displayed, one moment a frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from prep import video_reading
from prep.errors import ClipError
from tests.prep.test_reading_and_writing import assert_same_frames, refusal, with_matrix

WIDTH, HEIGHT = 96, 64


def write(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    aspect: Fraction | None = None,
    params: str = "",
    field: str = "",
) -> None:
    """Write frames at 25 fps, as two fields of which the upper (``tff``) or lower (``bff``) is the earlier if asked."""
    if field:
        params = f"interlaced=1:{params}"
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=25, options={"crf": "6", "x264-params": params})
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(frames):
            if not number:
                stream.height, stream.width = picture.shape[:2]
                if aspect is not None:
                    stream.codec_context.sample_aspect_ratio = aspect
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if field:
                frame = with_field(frame.reformat(format="yuv420p"), field)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))


def with_field(frame: av.VideoFrame, field: str) -> av.VideoFrame:
    """The frame with the flag of its first field, which PyAV cannot set."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    graph.link_nodes(source, graph.add("setfield", f"mode={field}"), graph.add("buffersink")).configure()
    frame.pts = 0
    graph.vpush(frame)
    return graph.vpull()


def disc(width: int, height: int) -> np.ndarray:
    """A disc that fills three quarters of the frame's height when the frame is shown as 4:3."""
    rows, columns = np.mgrid[:height, :width]
    x, y = (columns + 0.5) / width * 4 / 3 - 2 / 3, (rows + 0.5) / height - 0.5
    inside = x * x + y * y < 0.375**2
    return np.where(inside, 220, 40).astype(np.uint8)[..., None].repeat(3, axis=2)


def extent(picture: np.ndarray) -> tuple[int, int]:
    """Width and height of what is bright."""
    bright = picture[..., 0] > 130
    return int(bright.any(axis=0).sum()), int(bright.any(axis=1).sum())


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "h264", "mov"])
@pytest.mark.parametrize(("stored", "aspect"), [((90, 90), Fraction(4, 3)), ((160, 90), Fraction(3, 4))])
def test_a_circle_is_a_circle(tmp_path: Path, suffix: str, stored: tuple[int, int], aspect: Fraction) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, [disc(*stored)] * 5, aspect=aspect)
    info = video_reading.probe(path)
    assert info.sample_aspect == pytest.approx(float(aspect))
    assert (info.width, info.height) == ((120, 90) if aspect > 1 else (160, 120))
    for frame in video_reading.frames(path):
        assert frame.shape == (info.height, info.width, 3)
        width, height = extent(frame)
        assert abs(width - height) <= 2
    _, own = next(video_reading.native_frames(path, square=False))
    assert own.shape == (stored[1], stored[0], 3)
    assert next(video_reading.native_frames(path))[1].shape == (info.height, info.width, 3)


def test_a_recording_on_its_side_keeps_its_shape(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [disc(90, 90)] * 3, aspect=Fraction(4, 3))
    with_matrix(tmp_path / "a.mp4", tmp_path / "b.mp4", (0, 1, -1, 0))
    info = video_reading.probe(tmp_path / "b.mp4")
    assert (info.width, info.height, info.sample_aspect) == (90, 120, pytest.approx(0.75))
    width, height = extent(next(video_reading.frames(tmp_path / "b.mp4")))
    assert abs(width - height) <= 2


def test_crops_are_in_displayed_pixels(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [disc(90, 90)] * 3, aspect=Fraction(4, 3))
    whole = next(video_reading.frames(tmp_path / "a.mp4"))
    cut = next(video_reading.frames(tmp_path / "a.mp4", crop=(100, 10, 20, 30)))
    assert np.array_equal(cut, whole[10:40, 100:120])


@pytest.mark.parametrize("suffix", ["h264", "ts"])
def test_a_change_of_shape_inside_a_file_is_named(tmp_path: Path, suffix: str) -> None:
    one, two, both = (tmp_path / f"{name}.{suffix}" for name in ("one", "two", "both"))
    write(one, [disc(90, 90)] * 25, aspect=Fraction(4, 3))
    write(two, [disc(90, 90)] * 25, aspect=Fraction(1))
    both.write_bytes(one.read_bytes() + two.read_bytes())
    reason = refusal(lambda: list(video_reading.frames(both)))
    assert reason.startswith("video: frame size changes from 120x90 to 90x90 at ")
    assert abs(float(reason.split(" at ")[1].split(" s:")[0]) - 1) < 0.2
    assert len(list(video_reading.frames(both, 0, 20))) == 20
    if suffix == "h264":  # the times of the other begin anew
        with pytest.raises(ClipError, match="frame size changes from 120x90 to 90x90"):
            list(video_reading.frames(both, 30, 32))


def test_two_ways_to_store_one_shape_are_no_change(tmp_path: Path) -> None:
    one, two, both = (tmp_path / f"{name}.h264" for name in ("one", "two", "both"))
    write(one, [disc(90, 90)] * 10, aspect=Fraction(4, 3), params="bframes=0")
    write(two, [disc(120, 90)] * 10, aspect=Fraction(1), params="bframes=0")
    both.write_bytes(one.read_bytes() + two.read_bytes())
    found = list(video_reading.frames(both))
    assert len(found) == 20
    assert np.abs(found[2].astype(int) - found[17]).mean() < 3


# Interlaced recordings


def moments(n: int) -> list[np.ndarray]:
    """A bright bar that moves by four pixels a field over a texture at rest."""
    rng = np.random.default_rng(3)
    grey = cv2.GaussianBlur(rng.integers(30, 120, (HEIGHT, WIDTH)).astype(np.uint8), (0, 0), 3)
    ground = grey[..., None].repeat(3, axis=2)
    found = []
    for number in range(n):
        picture = ground.copy()
        left = 8 + (4 * number) % (WIDTH - 32)
        picture[:, left : left + 16] = 220
        found.append(picture)
    return found


def woven(n: int, first: int = 0) -> list[np.ndarray]:
    """Frames of two fields, of which the upper (``first`` = 0) or the lower one is the earlier."""
    fields = moments(2 * n)
    frames = []
    for number in range(n):
        picture = fields[2 * number].copy()
        picture[1 - first :: 2] = fields[2 * number + 1][1 - first :: 2]
        frames.append(picture)
    return frames


def combing(picture: np.ndarray) -> float:
    grey = picture.astype(float).mean(axis=2)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


@pytest.mark.parametrize(("field", "first"), [("tff", 0), ("bff", 1)])
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
def test_two_fields_become_the_picture_of_the_first(
    tmp_path: Path, field: str, first: int, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, woven(20, first), field=field)
    info = video_reading.probe(path)
    assert info.interlaced and info.n_frames == 20
    found = list(video_reading.frames(path))
    assert len(found) == 20
    for number, (frame, combed, moment) in enumerate(
        zip(found, woven(20, first), moments(40)[::2], strict=True)
    ):
        assert combing(frame) < combing(moment) + 0.1 * combing(combed), number
        rows = frame[first::2].astype(int) - moment[first::2]
        assert np.abs(rows).mean() < 4, number  # the first field's rows are its own


def test_progressive_recordings_are_left_alone(tmp_path: Path) -> None:
    write(
        tmp_path / "a.mkv", woven(10)
    )  # looks combed, but is not flagged: a picture of stripes may be meant
    info = video_reading.probe(tmp_path / "a.mkv")
    assert not info.interlaced
    assert combing(next(islice(video_reading.frames(tmp_path / "a.mkv"), 3, None))) > 10


@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
def test_a_deinterlaced_frame_does_not_depend_on_the_start(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, woven(30), params="keyint=7:bframes=2:open-gop=1", field="tff")
    whole = list(video_reading.frames(path))
    for start in range(30):
        assert_same_frames(list(video_reading.frames(path, start, start + 2)), whole[start : start + 2])


def test_a_file_that_becomes_interlaced_later(tmp_path: Path) -> None:
    one, two, both = (tmp_path / f"{name}.h264" for name in ("one", "two", "both"))
    write(one, moments(10), params="keyint=5:bframes=0")
    write(two, woven(10), params="keyint=5:bframes=0", field="tff")
    both.write_bytes(one.read_bytes() + two.read_bytes() + one.read_bytes())
    found = list(video_reading.frames(both))
    assert len(found) == 30
    plain = list(video_reading.frames(one))
    assert_same_frames(found[:9], plain[:9])
    assert_same_frames(found[21:], plain[1:])
    for frame, combed, moment in zip(found[10:20], woven(10), moments(20)[::2], strict=True):
        assert combing(frame) < combing(moment) + 0.1 * combing(combed)


def test_two_packets_of_one_interlaced_frame_are_one_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp4"
    write(path, [disc(WIDTH, HEIGHT)] * 6, field="tff")
    assert video_reading.native_times(path) == [Fraction(number, 25) for number in range(6)]
    found = video_reading.timeline_of(path)
    ticks = found.times[1] - found.times[0]
    paired = replace(
        found,
        info=replace(found.info, source_fps=50.0),
        times=np.sort(np.concatenate([found.times, found.times + ticks // 2])),
    )
    monkeypatch.setattr(video_reading, "timeline_of", lambda path: paired)
    assert video_reading.native_times(path) == [Fraction(number, 25) for number in range(6)]
