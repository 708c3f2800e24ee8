"""Every suffix that is listed: a small file of the container that has this name is read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, features

from prep import sound_reading, stills, video_reading
from prep.errors import ClipError
from prep.media import IMAGE_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES, suffix_of

#: Suffixes → FFmpeg's name of the container, codecs of pictures and sound ("" for a container of pictures alone).
FILMS = {
    "mp4 m4v mov qt mj2": ("mov", "h264", "aac"),
    "3gp 3gpp": ("3gp", "mpeg4", "aac"),
    "3g2 3gp2": ("3g2", "mpeg4", "aac"),
    "f4v": ("f4v", "h264", "aac"),
    "mkv": ("matroska", "h264", "flac"),
    "webm": ("webm", "libvpx", "libopus"),
    "avi divx": ("avi", "mpeg4", "pcm_s16le"),
    "mpg mpeg mpe m2p mod": ("mpeg", "mpeg1video", "mp2"),
    "vob": ("vob", "mpeg2video", "ac3"),
    "ts mts m2ts m2t tp trp tod": ("mpegts", "h264", "ac3"),
    "flv": ("flv", "flv", "mp3"),
    "wmv asf": ("asf", "wmv2", "wmav2"),
    # FFmpeg's wheels have no encoder of Theora.
    "ogv ogm": ("ogg", "libvpx", "libopus"),
    "mxf": ("mxf", "mpeg2video", "pcm_s16le"),
    "dv": ("dv", "dvvideo", "pcm_s16le"),
    "ivf": ("ivf", "libvpx", ""),
    "m1v m2v mpv": ("mpeg2video", "mpeg2video", ""),
    "h264 264": ("h264", "h264", ""),
    "h265 265 hevc": ("hevc", "libx265", ""),
    "y4m": ("yuv4mpegpipe", "wrapped_avframe", ""),
    "gif": ("gif", "gif", ""),
}
#: Suffixes → container and codec.
SOUNDS = {
    "wav wave": ("wav", "pcm_s16le"),
    "w64": ("w64", "pcm_s16le"),
    "aif aiff aifc": ("aiff", "pcm_s16be"),
    "au snd": ("au", "pcm_s16be"),
    "mp3 mpga": ("mp3", "mp3"),
    "mp2": ("mp2", "mp2"),
    "m4a m4b": ("ipod", "aac"),
    "aac": ("adts", "aac"),
    "ac3": ("ac3", "ac3"),
    "flac": ("flac", "flac"),
    "ogg oga opus": ("ogg", "libopus"),
    "wma": ("asf", "wmav2"),
    "caf": ("caf", "pcm_s16le"),
    "mka weba": ("matroska", "libopus"),
}
#: Those of which no file can be made with the codecs in FFmpeg's wheels.
NOT_MADE = {"spx", "amr"}
N_FRAMES = 25


def each(table: dict[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [(suffix, *made) for suffixes, made in table.items() for suffix in suffixes.split()]


def add_sound(container: av.container.OutputContainer, codec: str) -> av.AudioStream:
    stream = container.add_stream(codec, rate=48000, layout="stereo")
    stream.bit_rate = 128_000
    return stream


def sound_packets(stream: av.AudioStream, seconds: int = 1) -> list[av.Packet]:
    count = seconds * 48000
    tone = (8000 * np.sin(np.arange(count) / 20)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(tone.repeat(2)[None], format="s16", layout="stereo")
    frame.sample_rate, frame.time_base, frame.pts = 48000, Fraction(1, 48000), 0
    fitted = av.AudioResampler(stream.format.name, stream.layout.name, 48000, stream.frame_size or 1920)
    frames = [*fitted.resample(frame), *fitted.resample(None), None]
    return [packet for piece in frames for packet in stream.encode(piece)]


def film_packets(stream: av.VideoStream) -> list[av.Packet]:
    found = []
    for index in range(N_FRAMES):
        grey = np.full((stream.height, stream.width, 3), 60 + 4 * index, np.uint8)
        frame = av.VideoFrame.from_ndarray(grey).reformat(format=stream.pix_fmt)
        frame.pts, frame.time_base = index, Fraction(1, 25)
        found += stream.encode(frame)
    return found + stream.encode(None)


def write_film(path: Path, form: str, codec: str, sound: str) -> None:
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = (720, 576) if form == "dv" else (96, 64)
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        heard = add_sound(container, sound) if sound else None
        container.start_encoding()
        packets = film_packets(stream) + (sound_packets(heard) if heard is not None else [])
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)


@pytest.mark.parametrize(("suffix", "form", "codec", "sound"), each(FILMS))
def test_a_film_with_this_suffix_is_read(
    tmp_path: Path, suffix: str, form: str, codec: str, sound: str
) -> None:
    path = tmp_path / f"a.{suffix.upper()}"
    write_film(path, form, codec, sound)
    greys = [frame.mean() for frame in video_reading.frames(path)]
    assert len(greys) == N_FRAMES
    assert np.allclose(greys, 60 + 4 * np.arange(N_FRAMES), atol=4)
    if sound:
        found = sound_reading.sound(path)
        assert 0.9 < found.duration < 1.1 and found.samples[4000:12000].std() > 3000
    else:
        with pytest.raises(ClipError):
            sound_reading.sound(path)


@pytest.mark.parametrize(("suffix", "form", "codec"), each(SOUNDS))
def test_a_sound_with_this_suffix_is_read(tmp_path: Path, suffix: str, form: str, codec: str) -> None:
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w", format=form) as container:
        for packet in sound_packets(add_sound(container, codec)):
            container.mux(packet)
    found = sound_reading.sound(path)
    assert 0.9 < found.duration < 1.1 and found.samples[4000:12000].std() > 3000


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_a_picture_with_this_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    if suffix in ("jp2", "j2k", "jpx") and not features.check("jpg_2000"):
        pytest.skip("this Pillow has no JPEG 2000")
    path = tmp_path / f"a.{suffix}"
    grey = np.full((48, 64, 3), 120, np.uint8)
    Image.fromarray(grey[..., 0] if suffix in ("pgm", "pbm") else grey).save(path)
    found = stills.image(path)
    assert found.shape == grey.shape and (np.abs(found.astype(int) - 120) < 3).all()


def test_every_suffix_is_tried_here() -> None:
    assert {suffix for suffix, *_ in each(FILMS)} == VIDEO_SUFFIXES
    assert {suffix for suffix, *_ in each(SOUNDS)} | NOT_MADE == SOUND_SUFFIXES


def test_the_suffix_of_a_name() -> None:
    assert [suffix_of(name) for name in ("a/B.MP4", "a.b/c", ".mp4", "a.tar.Gz")] == [
        "mp4",
        "b/c",
        "mp4",
        "gz",
    ]
