from __future__ import annotations

import cv2
import numpy as np
import pytest

from prep import images


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth picture whose three channels differ."""
    noise = np.random.default_rng(1).integers(0, 256, (90, 130, 3), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 6).astype(np.float64)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (smooth * [255, 160, 60]).astype(np.uint8)


@pytest.mark.parametrize("encoding", images.ENCODINGS)
def test_there_and_back(picture, encoding):
    data = images.encode(picture, encoding)
    assert images.encode(picture.copy(), encoding) == data
    back = images.decode(data)
    assert back.shape == picture.shape and back.dtype == np.uint8
    # Mixed-up channels would be off by a hundred.
    assert np.abs(back.astype(int) - picture).mean() < 2.5


def test_the_bytes_are_of_the_encoding(picture):
    assert images.encode(picture, "jpeg")[:3] == b"\xff\xd8\xff"
    assert images.encode(picture, "png")[:8] == b"\x89PNG\r\n\x1a\n"
    webp = images.encode(picture, "webp")
    assert (webp[:4], webp[8:12]) == (b"RIFF", b"WEBP")


@pytest.mark.parametrize(("encoding", "quality"), [("png", 95), ("webp", 101)])
def test_lossless(picture, encoding, quality):
    np.testing.assert_array_equal(images.decode(images.encode(picture, encoding, quality)), picture)


@pytest.mark.parametrize("encoding", ["jpeg", "webp"])
def test_quality_matters(picture, encoding):
    assert len(images.encode(picture, encoding, 30)) < len(images.encode(picture, encoding, 95))


def test_jpeg_halves_the_chroma(picture):
    # Component 1 of the frame header has sampling factors 2×2: 4:2:0, which is what the papers' tools write.
    data = images.encode(picture, "jpeg")
    header = data.index(b"\xff\xc0")
    assert data[header + 11] == 0x22


def test_a_slice_of_a_frame_can_be_encoded(picture):
    part = picture[10:50, 20:80]
    assert images.encode(part, "png") == images.encode(part.copy(), "png")


@pytest.mark.parametrize(
    ("rgb", "encoding", "quality", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), "bmp", 95, "unknown encoding 'bmp'; known are jpeg, png, webp"),
        (np.zeros((4, 4, 3), np.uint8), "jpeg", 101, "quality 101 is out of range for jpeg"),
        (np.zeros((4, 4, 3), np.uint8), "webp", 0, "quality 0 is out of range for webp"),
        (np.zeros((4, 4), np.uint8), "jpeg", 95, "not an RGB picture"),
        (np.zeros((4, 4, 4), np.uint8), "jpeg", 95, "not an RGB picture"),
        (np.zeros((0, 4, 3), np.uint8), "jpeg", 95, "not an RGB picture"),
        (np.zeros((4, 4, 3), np.float32), "jpeg", 95, "not an RGB picture: float32"),
        (np.zeros((1, 20_000, 3), np.uint8), "webp", 95, "20000x1 cannot be webp"),
    ],
)
def test_what_cannot_be_encoded_is_refused(rgb, encoding, quality, message):
    with pytest.raises(ValueError, match=message):
        images.encode(rgb, encoding, quality)


@pytest.mark.parametrize("encoding", images.ENCODINGS)
def test_damaged_pictures_are_refused(picture, encoding):
    data = images.encode(picture, encoding)
    for broken in (b"", data[:3], data[: len(data) // 2], b"x" + data):
        with pytest.raises(ValueError, match=f"{len(broken)} bytes that are not a picture"):
            images.decode(broken)


@pytest.mark.parametrize("quality", [5, 50, 75, 95, 100])
@pytest.mark.parametrize("shape", [(128, 128), (127, 129), (96, 96), (416, 320), (1, 1), (7, 51), (33, 17)])
def test_the_fast_decoder_gives_what_opencv_gives(shape, quality):
    pytest.importorskip("simplejpeg", reason="simplejpeg is not installed")
    noise = np.random.default_rng(quality).integers(0, 256, (*shape, 3), np.uint8)
    assert images.fast_jpeg() is not None
    for rgb in (noise, cv2.GaussianBlur(noise, (0, 0), 3)):
        data = images.encode(rgb, "jpeg", quality)
        expected = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(images.decode(data), expected)


def test_a_fast_decoder_that_disagrees_is_not_used(monkeypatch):
    module = pytest.importorskip("simplejpeg", reason="simplejpeg is not installed")
    right = module.decode_jpeg
    monkeypatch.setattr(module, "decode_jpeg", lambda data: right(data) ^ 1)
    images.fast_jpeg.cache_clear()
    try:
        assert images.fast_jpeg() is None
    finally:
        images.fast_jpeg.cache_clear()


def test_decoding_without_the_fast_decoder(monkeypatch, picture):
    data = images.encode(picture, "jpeg")
    expected = images.decode(data)
    monkeypatch.setattr(images, "fast_jpeg", lambda: None)
    np.testing.assert_array_equal(images.decode(data), expected)
    monkeypatch.setattr(images, "_TO_RGB", None)  # OpenCV before 4.11
    np.testing.assert_array_equal(images.decode(data), expected)
    with pytest.raises(ValueError, match="not a picture"):
        images.decode(data[:100])
