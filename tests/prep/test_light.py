"""Recordings in high dynamic range look as the same scene in standard range."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from prep import video_reading
from prep.conversion import Converter
from prep.pixels import Colour

# BT.2087, with more digits than the product has: linear BT.709 to BT.2020.
TO_2020 = np.array(
    [[0.627404, 0.329283, 0.043313], [0.069097, 0.919540, 0.011362], [0.016391, 0.088013, 0.895595]]
)
LUMA = np.array([0.2627, 0.6780, 0.0593])
TRANSFER = {"hlg": 18, "pq": 16}


def hlg(light: np.ndarray) -> np.ndarray:
    """cd/m2 on a display of 1000 cd/m2 to the signal: inverse OOTF, then OETF (BT.2100)."""
    light = light / 1000
    scene = light * np.maximum(light @ LUMA, 1e-9)[..., None] ** (1 / 1.2 - 1)
    curve = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), curve)


def pq(light: np.ndarray) -> np.ndarray:
    """cd/m2 to the signal (SMPTE ST 2084)."""
    power = (light / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def recording(rgb: np.ndarray, light: str, primaries: int = 9, tagged: bool = True) -> VideoFrame:
    """A 10-bit 4:4:4 frame of an SDR picture (H, W, 3) whose white is at 203 cd/m2."""
    shown = 203 * (rgb / 255.0) ** 2.4 @ (TO_2020.T if primaries == 9 else np.eye(3))
    signal = (hlg if light == "hlg" else pq)(shown)
    y = signal @ LUMA
    cb, cr = (signal[..., 2] - y) / 1.8814, (signal[..., 0] - y) / 1.4746
    frame = VideoFrame(rgb.shape[1], rgb.shape[0], "yuv444p10le")
    for plane, values in zip(frame.planes, (64 + 876 * y, 512 + 896 * cb, 512 + 896 * cr), strict=True):
        padded = np.zeros((plane.height, plane.line_size // 2), "<u2")
        padded[:, : plane.width] = values.round()
        plane.update(padded.tobytes())
    frame.color_trc, frame.color_primaries, frame.color_range = TRANSFER[light], primaries, 1
    frame.colorspace = 9 if tagged else 2
    return frame


@pytest.fixture(scope="module")
def colours() -> np.ndarray:
    """(32, 32, 3) uint8: greys, and colours of all kinds but near black, where HDR has few codes for a level."""
    colours = np.random.default_rng(0).integers(30, 256, (32, 32, 3), np.uint8)
    colours[0] = np.linspace(30, 255, 32).round()[:, None]
    return colours


@pytest.mark.parametrize("light", ["hlg", "pq"])
@pytest.mark.parametrize("primaries", [1, 9])
@pytest.mark.parametrize("tagged", [True, False])
def test_colours_come_back(colours: np.ndarray, light: str, primaries: int, tagged: bool) -> None:
    found = Converter()(recording(colours, light, primaries, tagged)).astype(int)
    assert np.abs(found[0] - colours[0]).max() <= 1
    assert np.abs(found - colours).mean() < 0.5 and abs((found - colours).mean()) < 0.05
    # In saturated colours, a step of 10 bits is several levels of the darkest channel.
    assert np.quantile(np.abs(found - colours), 0.99) <= 3


def test_highlights_become_white() -> None:
    signal = np.full((2, 2, 3), 0.9)
    frame = recording(np.full((2, 2, 3), 255, np.uint8), "hlg")
    frame.planes[0].update(
        np.full(frame.planes[0].buffer_size // 2, round(64 + 876 * signal[0, 0, 0]), "<u2").tobytes()
    )
    assert (Converter()(frame) == 255).all()


def test_opencv_knows_no_light(colours: np.ndarray) -> None:
    found = Converter("opencv")(recording(colours, "hlg"))
    assert np.abs(found.astype(int) - colours).mean() > 10


@pytest.mark.parametrize("light", ["hlg", "pq"])
def test_the_light_of_a_file_is_known_and_what_is_made_from_it_is_in_bt709(
    tmp_path: Path, colours: np.ndarray, light: str
) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as sink:
        options = {"preset": "ultrafast", "x265-params": "lossless=1:log-level=none"}
        stream = sink.add_stream("libx265", rate=25, options=options)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv444p10le"
        tags = stream.codec_context
        tags.color_primaries, tags.color_trc, tags.colorspace = 9, TRANSFER[light], 9
        for number in range(3):
            frame = recording(colours.repeat(4, axis=0).repeat(4, axis=1), light)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    info = video_reading.probe(path)
    assert (info.light, info.matrix, info.matrix_tagged) == (light, "bt2020", True)
    assert Colour.of(path) == Colour("bt709", 1, 1)
    for frame in video_reading.frames(path):
        assert np.abs(frame[2::4, 2::4].astype(int) - colours).mean() < 0.5
