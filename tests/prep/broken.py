"""Some two hundred files that no careful tool would have written; whatever reads media must survive them."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from prep.video_writing import write_video

FRAMES, SIDE, RATE = 12, 96, 16_000


def write_broken_files(folder: Path, seed: int, source: Path | None = None) -> list[Path]:
    """Write at least 200 broken or odd media files into ``folder``; the same seed gives the same files.

    Args:
        folder: where to, created if need be.
        seed: of the truncation points, mutated bytes and noise.
        source: an MP4 to break; by default 12 noisy frames of 96 x 96 with half a second of sound.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    whole = folder / "whole.mp4"
    if source is None:
        write_video(whole, pictures(rng), samples=noise(rng, FRAMES / 25))
    else:
        whole.write_bytes(source.read_bytes())
    data = whole.read_bytes()
    paths = [whole]
    for name, content in _contents(data, rng):
        paths.append(folder / name)
        paths[-1].write_bytes(content)
    paths.extend(_encoded(folder, rng))
    return paths


def pictures(
    rng: np.random.Generator, count: int = FRAMES, size: tuple[int, int] = (SIDE, SIDE)
) -> list[np.ndarray]:
    """Frames of a gradient under noise, each with its own brightness; size is (height, width)."""
    height, width = size
    ramp = np.linspace(0, 160, width)[None, :, None] + np.zeros((height, 1, 3))
    result = []
    for number in range(count):
        grain = rng.integers(0, 40, (height, width, 3))
        result.append((ramp + grain + 50 * number / max(1, count)).astype(np.uint8))
    return result


def noise(rng: np.random.Generator, seconds: float, rate: int = RATE) -> np.ndarray:
    """int16 white noise at a quarter of full scale."""
    return rng.integers(-8000, 8000, round(seconds * rate)).astype(np.int16)


def encode(
    path: Path,
    frames: list[np.ndarray] | None,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    pts: list[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    options: dict[str, str] | None = None,
    sound: np.ndarray | None = None,
    sound_codec: str = "aac",
    sound_format: str = "s16",
    layout: str = "mono",
    rate: int = RATE,
    sound_start: int = 0,
) -> None:
    """Write a file with any codec, any times and any sound; what :func:`prep.video_writing.write_video` would not.

    ``pts`` are in ``time_base``; ``sound`` is (channels, n) or, for packed formats, (1, n * channels), and
    starts at sample ``sound_start``.
    """
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        video = None
        if frames is not None:
            video = container.add_stream(codec, rate=25, options={"mbtree": "0", **(options or {})})
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = pix_fmt
            video.codec_context.time_base = time_base
            video.codec_context.thread_count = 1
        voice = container.add_stream(sound_codec, rate=rate, layout=layout) if sound is not None else None
        if video is not None and frames is not None:
            for number, rgb in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                frame.pts = number if pts is None else pts[number]
                frame.time_base = time_base
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if voice is not None and sound is not None:
            block = av.AudioFrame.from_ndarray(sound, format=sound_format, layout=layout)
            block.sample_rate = rate
            block.pts = sound_start
            block.time_base = Fraction(1, rate)
            container.mux(voice.encode(block))
            container.mux(voice.encode(None))


def _contents(data: bytes, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Files made by cutting and overwriting the bytes of a good one."""
    size = len(data)
    moov = data.index(b"moov") - 4
    mdat = data.index(b"mdat") - 4
    boxes = sorted([(moov, b"moov"), (mdat, b"mdat")])
    moov_end = boxes[1][0] if boxes[0][1] == b"moov" else size

    for number, at in enumerate(np.linspace(1, size - 1, 30).astype(int)):
        yield f"truncated-{number:02}.mp4", data[:at]
    for number, at in enumerate(sorted(rng.integers(1, size, 15))):
        yield f"truncated-anywhere-{number:02}.mp4", data[:at]

    yield "empty.mp4", b""
    yield "empty.mkv", b""
    yield "text.mp4", b"This is not a video.\n" * 40
    yield "page.mp4", b"<!doctype html><html><body>404 not found</body></html>"
    yield "json.mp4", b'{"error": "quota exceeded"}'
    yield "concat.mp4", b"ffconcat version 1.0\nfile whole.mp4\n"
    yield "playlist.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nwhole.mp4\n#EXT-X-ENDLIST\n"
    yield "zeros.mp4", bytes(5000)
    yield "ones.mp4", b"\xff" * 5000
    for number, length in enumerate([1, 7, 8, 100, 1000, 4096, 20_000, 60_000]):
        yield f"random-{number}.mp4", rng.bytes(length)
    yield "random-after-ftyp.mp4", data[:32] + rng.bytes(5000)

    still = cv2.imencode(".png", pictures(rng, 1)[0])[1].tobytes()
    yield "picture.mp4", still
    yield "picture.jpg.mp4", cv2.imencode(".jpg", pictures(rng, 1)[0])[1].tobytes()
    yield "wrong-extension.avi", data
    yield "wrong-extension.txt", data
    yield "no-extension", data

    ftyp = data[: int.from_bytes(data[:4], "big")]
    yield "only-ftyp.mp4", ftyp
    yield "empty-moov.mp4", ftyp + (8).to_bytes(4, "big") + b"moov"
    yield "only-mdat.mp4", ftyp + data[mdat:]
    yield "no-mdat.mp4", ftyp + data[moov:moov_end]
    yield "moov-twice.mp4", data[:moov_end] + data[moov:]
    yield "twice.mp4", data + data
    yield "trailing-garbage.mp4", data + rng.bytes(3000)
    for name, at in (("moov", moov), ("mdat", mdat)):
        for length in (0, 1, 7, 9, 2**31, 2**32 - 1):
            yield f"{name}-of-{length}-bytes.mp4", data[:at] + length.to_bytes(4, "big") + data[at + 4 :]

    # Version 0 boxes: bytes from the box's name to its field of 32 bits.
    for name, skip in (("mvhd", 20), ("tkhd", 24), ("mdhd", 20)):
        for length in (0, 1, 2**31 - 1, 2**32 - 1):
            yield f"{name}-lasts-{length}.mp4", _patched(data, name, skip, length)
    for value in (0, 1, 2**31 - 1, 2**32 - 1):
        yield f"mdhd-timescale-{value}.mp4", _patched(data, "mdhd", 16, value)
        yield f"stts-delta-{value}.mp4", _patched(data, "stts", 16, value)
        yield f"stts-count-{value}.mp4", _patched(data, "stts", 12, value)
        yield f"stsz-count-{value}.mp4", _patched(data, "stsz", 12, value)
        yield f"elst-time-{value}.mp4", _patched(data, "elst", 16, value)

    for number in range(45):
        yield f"header-bytes-{number:02}.mp4", _mutated(data, rng, moov + 8, moov_end)
    for number in range(35):
        yield f"coded-bytes-{number:02}.mp4", _mutated(data, rng, mdat + 8, size)
    hole = data[: mdat + 8] + bytes((size - mdat) // 2) + data[mdat + 8 + (size - mdat) // 2 :]
    yield "hole.mp4", hole


def _patched(data: bytes, box: str, skip: int, value: int) -> bytes:
    """The first ``box``'s 32-bit field that lies ``skip`` bytes after the beginning of its name."""
    at = data.index(box.encode()) + skip
    return data[:at] + value.to_bytes(4, "big") + data[at + 4 :]


def _mutated(data: bytes, rng: np.random.Generator, start: int, stop: int) -> bytes:
    """1 to 20 random bytes between two offsets."""
    content = np.frombuffer(data, np.uint8).copy()
    where = rng.integers(start, stop, rng.integers(1, 21))
    content[where] = rng.integers(0, 256, len(where))
    return content.tobytes()


def _encoded(folder: Path, rng: np.random.Generator) -> Iterator[Path]:
    """Files that are sound by themselves, and unusual."""
    frames = pictures(rng)
    voice = noise(rng, FRAMES / 25)

    def named(name: str) -> Path:
        return folder / name

    yield (path := named("no-audio.mp4"))
    write_video(path, frames)
    yield (path := named("no-audio.mkv"))
    encode(path, frames)
    yield (path := named("no-video.mp4"))
    encode(path, None, sound=voice[None])
    yield (path := named("no-video.mka.mkv"))
    encode(path, None, sound=voice[None], sound_codec="flac")
    yield (path := named("wave.mp4"))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(voice.tobytes())

    yield (path := named("one-frame.mp4"))
    write_video(path, frames[:1], samples=voice)
    yield (path := named("one-frame-no-audio.mp4"))
    write_video(path, frames[:1])
    yield (path := named("one-frame-one-sample.mp4"))
    write_video(path, frames[:1], samples=voice[:1])
    yield (path := named("no-sample.mp4"))
    write_video(path, frames, samples=voice[:0])

    for height, width in ((1, 1), (3, 5), (17, 33), (2, 2), (95, 97), (1, 200)):
        yield (path := named(f"size-{width}x{height}.mp4"))
        encode(path, pictures(rng, 3, (height, width)), pix_fmt="yuv444p", sound=voice[None])
    yield (path := named("size-17x33.avi"))
    encode(
        path,
        pictures(rng, 3, (33, 17)),
        codec="mjpeg",
        pix_fmt="yuvj444p",
        sound=voice[None],
        sound_codec="mp3",
    )
    for name, height, width in (("4k.mp4", 2160, 3840), ("too-wide.mp4", 16, 8208)):
        yield (path := named(name))
        flat = np.full((height, width, 3), 90, np.uint8)
        encode(path, [flat], options={"preset": "ultrafast"}, sound=voice[None])

    bytes8 = (noise(rng, 0.5, 8000) // 256 + 128).astype(np.uint8)
    for name in ("8khz-8bit.avi", "8khz-8bit.mkv", "8khz-8bit.mov"):
        yield (path := named(name))
        encode(path, frames, sound=bytes8[None], sound_codec="pcm_u8", sound_format="u8", rate=8000)
    six = np.stack([noise(rng, 0.5, 48_000) for _ in range(6)]).astype(np.float32) / 32768
    for name, codec in (("5.1.mp4", "aac"), ("5.1.mkv", "ac3")):
        yield (path := named(name))
        encode(path, frames, sound=six, sound_codec=codec, sound_format="fltp", layout="5.1", rate=48_000)

    ms = Fraction(1, 1000)
    for name, times in {
        "vfr.mp4": [0, 10, 100, 130, 131, 132, 300, 340, 900, 940, 941, 1000],
        "jump-5s.mp4": [40 * n + 5000 * (n > 6) for n in range(FRAMES)],
        "jump-11s.mp4": [40 * n + 11_000 * (n > 6) for n in range(FRAMES)],
        "jump-a-day.mkv": [40 * n + 86_400_000 * (n > 6) for n in range(FRAMES)],
        "late.mkv": [40 * n + 3000 for n in range(FRAMES)],
        "very-late.mkv": [40 * n + 60_000 for n in range(FRAMES)],
    }.items():
        yield (path := named(name))
        encode(path, frames, pts=times, time_base=ms, sound=voice[None])
