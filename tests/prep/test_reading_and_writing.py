"""Media in and out: FFmpeg's own filters as the judge of times, known pictures and sounds, and broken files."""

from __future__ import annotations

import os
import resource
import time
import wave
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from prep import sound_reading, stills, video_reading, video_writing
from prep.conversion import Converter
from prep.errors import ClipError
from prep.pixels import Colour
from tests.prep.broken import encode, noise, pictures, write_broken_files

PARITY = Path(__file__).resolve().parents[1] / "parity" / "wav2lip_mel" / "mel.npz"
MS = Fraction(1, 1000)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def decoded(path: Path) -> list[np.ndarray]:
    """Every frame that PyAV decodes, in order."""
    convert = Converter()
    with av.open(str(path)) as container:
        return [convert(frame) for frame in container.decode(video=0)]


def filtered(path: Path) -> list[np.ndarray]:
    """What FFmpeg's own fps filter makes of a file whose first frame is moved to time zero."""
    result = []
    convert = Converter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        source = graph.add_buffer(template=stream, time_base=stream.time_base)
        fps, sink = graph.add("fps", "fps=25:round=near"), graph.add("buffersink")
        source.link_to(fps)
        fps.link_to(sink)
        graph.configure()
        first = None
        for frame in [*container.decode(stream), None]:
            if frame is not None:
                first = frame.pts if first is None else first
                frame.pts -= first
            graph.push(frame)
            while True:
                try:
                    result.append(convert(graph.pull()))
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
    return result


def assert_same_frames(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    assert len(ours) == len(theirs)
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert np.array_equal(one, other), f"frame {number} differs"


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ClipError) as caught:
        call()
    return str(caught.value)


# Frames in time


def test_25_fps_comes_through_untouched(tmp_path: Path, rng: np.random.Generator) -> None:
    video_writing.write_video(tmp_path / "a.mp4", pictures(rng, 40, (48, 64)))
    frames = list(video_reading.frames(tmp_path / "a.mp4"))
    assert_same_frames(frames, decoded(tmp_path / "a.mp4"))
    assert len(frames) == 40
    assert all(frame.flags.c_contiguous and frame.flags.writeable for frame in frames)
    info = video_reading.probe(tmp_path / "a.mp4")
    assert info == video_reading.VideoInfo(64, 48, 0, 25.0, 40, False, matrix_tagged=True)


@pytest.mark.parametrize(
    "fps", [10, 12.5, 15, 22.13, Fraction(24000, 1001), 24, Fraction(30000, 1001), 30, 50, 59.94, 60, 120]
)
@pytest.mark.parametrize("count", [2, 61])
def test_constant_rates_are_those_of_the_fps_filter(
    tmp_path: Path, rng: np.random.Generator, fps: float | Fraction, count: int
) -> None:
    path = tmp_path / "a.mp4"
    video_writing.write_video(path, pictures(rng, count, (16, 32)), fps=fps)
    ours = list(video_reading.frames(path))
    # The filter gives nothing for a video of less than half a slot.
    assert_same_frames(ours, filtered(path) or decoded(path)[-1:])
    info = video_reading.probe(path)
    assert info.n_frames == len(ours)
    assert info.source_fps == pytest.approx(float(fps), rel=1e-3)


@pytest.mark.parametrize("start", [0, 1234])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_variable_rate_is_that_of_the_fps_filter(tmp_path: Path, seed: int, start: int, suffix: str) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path / f"a.{suffix}"
    times = start + np.cumsum(rng.integers(1, 150, 40))
    encode(path, pictures(rng, 40, (16, 32)), pts=times.tolist(), time_base=MS)
    ours = list(video_reading.frames(path))
    assert_same_frames(ours, filtered(path))
    assert video_reading.probe(path).n_frames == len(ours)


def test_halves_go_to_the_later_slot(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.mkv"
    encode(path, pictures(rng, 4, (16, 16)), pts=[0, 59, 100, 160], time_base=MS)  # slots 0, 1, 3 (2.5), 4
    source = decoded(path)
    assert_same_frames(list(video_reading.frames(path))[:5], [source[n] for n in (0, 1, 1, 2, 3)])


def test_real_clips_are_those_of_the_fps_filter(clips_dir: Path) -> None:
    for name in ("talk1.mp4", "talk4.mp4"):  # 22.13 frames a second of varying length from 0.033 s on; 30
        path = clips_dir / name
        ours = list(video_reading.frames(path))
        assert_same_frames(ours, filtered(path))
        assert video_reading.probe(path).n_frames == len(ours)


def test_repeated_frames_are_copies(tmp_path: Path, rng: np.random.Generator) -> None:
    video_writing.write_video(tmp_path / "a.mp4", pictures(rng, 3, (16, 16)), fps=5)
    frames = video_reading.frames(tmp_path / "a.mp4")
    first = next(frames)
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(next(frames), kept)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi", "h264", "flv"])
@pytest.mark.parametrize("fps", [25, 30])
def test_any_start_gives_the_frames_of_a_sequential_read(tmp_path: Path, suffix: str, fps: int) -> None:
    rng = np.random.default_rng(fps)
    path = tmp_path / f"a.{suffix}"
    options = {"x264-params": "keyint=8:min-keyint=4:bframes=3:open-gop=1:b-adapt=0"}
    encode(path, pictures(rng, 40, (32, 48)), time_base=Fraction(1, fps), options=options)
    whole = list(video_reading.frames(path))
    assert len(whole) == video_reading.probe(path).n_frames
    for start in range(len(whole)):
        assert_same_frames(list(video_reading.frames(path, start, start + 2)), whole[start : start + 2])
    assert list(video_reading.frames(path, len(whole))) == []
    assert len(list(video_reading.frames(path, len(whole) - 1, 10_000))) == 1
    with pytest.raises(ValueError, match="start is -1"):
        next(video_reading.frames(path, -1))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_reading_begins_at_a_key_frame(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / f"a.{suffix}"
    encode(path, pictures(rng, 40, (32, 48)), options={"x264-params": "keyint=10:bframes=2"})
    whole = list(video_reading.frames(path))
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in [p for p in container.demux(video=0) if p.size][1:10]:
            at = data.index(bytes(packet))
            data[at : at + packet.size] = bytes(packet.size)
    path.write_bytes(data)  # frames 1 to 9 are gone, but for what concealment makes up
    assert_same_frames(list(video_reading.frames(path, 20, 30)), whole[20:30])


@pytest.mark.parametrize("suffix", ["avi", "h264"])
def test_files_without_presentation_times_are_counted(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / f"a.{suffix}"
    encode(path, pictures(rng, 20, (32, 48)), options={"x264-params": "bframes=3:b-adapt=0"})
    assert_same_frames(list(video_reading.frames(path)), decoded(path))
    assert video_reading.probe(path).n_frames == 20


# Orientation, crops, sizes


def with_matrix(source: Path, path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Overwrite a, b, c, d of the display matrix in the track header of an MP4."""
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[at + offset : at + offset + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("matrix", "rotation", "upright"),
    [
        ((1, 0, 0, 1), 0, lambda a: a),
        ((0, 1, -1, 0), 90, lambda a: np.rot90(a, -1)),
        ((-1, 0, 0, -1), 180, lambda a: np.rot90(a, 2)),
        ((0, -1, 1, 0), 270, lambda a: np.rot90(a, 1)),
        ((-1, 0, 0, 1), 0, lambda a: a[:, ::-1]),
        ((1, 0, 0, -1), 180, lambda a: a[::-1]),
        ((0, 1, 1, 0), 270, lambda a: a.transpose(1, 0, 2)),
        ((0, -1, -1, 0), 90, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
    ],
)
def test_phone_video_is_turned_upright(
    tmp_path: Path,
    rng: np.random.Generator,
    matrix: tuple[int, int, int, int],
    rotation: int,
    upright: Callable[[np.ndarray], np.ndarray],
) -> None:
    video_writing.write_video(tmp_path / "stored.mp4", pictures(rng, 3, (16, 48)))
    stored = decoded(tmp_path / "stored.mp4")
    with_matrix(tmp_path / "stored.mp4", tmp_path / "turned.mp4", matrix)
    info = video_reading.probe(tmp_path / "turned.mp4")
    assert info.rotation == rotation
    assert (info.height, info.width) == upright(stored[0]).shape[:2]
    assert_same_frames(
        list(video_reading.frames(tmp_path / "turned.mp4")), [upright(frame) for frame in stored]
    )


def test_crop_then_resize(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.mp4"
    video_writing.write_video(path, pictures(rng, 2, (64, 96)))
    whole = next(video_reading.frames(path))
    cut = next(video_reading.frames(path, crop=(10, 4, 40, 40)))
    assert np.array_equal(cut, whole[4:44, 10:50])
    assert cut.flags.owndata and cut.flags.c_contiguous
    small = next(video_reading.frames(path, crop=(10, 4, 40, 40), size=20))
    assert np.array_equal(small, cv2.resize(whole[4:44, 10:50], (20, 20), interpolation=cv2.INTER_AREA))
    large = next(video_reading.frames(path, crop=(10, 4, 40, 40), size=50))
    assert np.array_equal(large, cv2.resize(whole[4:44, 10:50], (50, 50), interpolation=cv2.INTER_LINEAR))
    with_matrix(path, tmp_path / "turned.mp4", (0, 1, -1, 0))
    turned = next(video_reading.frames(tmp_path / "turned.mp4", crop=(0, 60, 64, 30)))
    assert np.array_equal(turned, np.rot90(whole, -1)[60:90])


@pytest.mark.parametrize(
    "crop", [(0, 0, 97, 64), (-1, 0, 10, 10), (90, 0, 10, 10), (0, 60, 10, 5), (0, 0, 0, 9)]
)
def test_a_crop_outside_the_frame_is_refused(
    tmp_path: Path, rng: np.random.Generator, crop: tuple[int, int, int, int]
) -> None:
    path = tmp_path / "a.mp4"
    video_writing.write_video(path, pictures(rng, 2, (64, 96)))
    assert "leaves the frame of 96x64 pixels" in refusal(lambda: next(video_reading.frames(path, crop=crop)))


def test_a_change_of_size_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    for name, size in (("a.h264", (32, 48)), ("b.h264", (48, 64))):
        encode(tmp_path / name, pictures(rng, 5, size))
    both = tmp_path / "both.h264"
    both.write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    reason = refusal(lambda: list(video_reading.frames(both)))
    assert reason == "video: frame size changes from 48x32 to 64x48 at 0.2 s: split the file there"


# What is refused


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ([0, 40, 80, 11_080], "timestamps jump by 11 s, more than 10 s"),
        ([0, 40, 80, 10**9], "timestamps jump by 1000000 s, more than 10 s"),
    ],
)
def test_jumping_times_are_refused(
    tmp_path: Path, rng: np.random.Generator, times: list[int], reason: str
) -> None:
    path = tmp_path / "a.mkv"
    encode(path, pictures(rng, 4, (16, 16)), pts=times, time_base=MS)
    assert refusal(lambda: video_reading.probe(path)) == f"video: {reason}"
    assert refusal(lambda: next(video_reading.frames(path))) == f"video: {reason}"


def test_a_jump_of_less_than_ten_seconds_is_a_standing_picture(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "a.mkv"
    encode(path, pictures(rng, 3, (16, 16)), pts=[0, 40, 9040], time_base=MS)
    assert video_reading.probe(path).n_frames == 227
    frames = list(video_reading.frames(path))
    assert len(frames) == 227
    assert np.array_equal(frames[1], frames[225]) and not np.array_equal(frames[225], frames[226])


def test_decoding_that_stops_early_is_not_papered_over(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.mp4"
    encode(path, pictures(rng, 20, (32, 48)), options={"x264-params": "keyint=5:bframes=0"})
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in [p for p in container.demux(video=0) if p.size][10:]:
            at = data.index(bytes(packet))
            data[at : at + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    assert video_reading.probe(path).n_frames == 20
    assert len(list(video_reading.frames(path))) == 10


def test_named_reasons(tmp_path: Path, rng: np.random.Generator) -> None:
    good = tmp_path / "good.mp4"
    video_writing.write_video(good, pictures(rng, 25), samples=noise(rng, 1))
    data = good.read_bytes()

    def written(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    mute, voice = tmp_path / "mute.mp4", tmp_path / "voice.mp4"
    video_writing.write_video(mute, pictures(rng, 2))
    encode(voice, None, sound=noise(rng, 1)[None])
    wide = tmp_path / "wide.mp4"
    encode(wide, [np.zeros((16, 8200, 3), np.uint8)], options={"preset": "ultrafast"})
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    playlist = written("list.mp4", b"ffconcat version 1.0\nfile good.mp4\n")
    for path, video, audio in [
        (tmp_path / "none.mp4", "no such file", "no such file"),
        (tmp_path, "not a file", "not a file"),
        (pipe, "not a file", "not a file"),
        (written("empty.mp4", b""), "the file is empty", "the file is empty"),
        (
            written("text.mp4", b"hello\n" * 99),
            "damaged, or not a media file",
            "damaged, or not a media file",
        ),
        (playlist, "damaged, or not a media file", "damaged, or not a media file"),
        (written("cut.mp4", data[: len(data) // 2]), "the file is cut short", None),
        (mute, None, "no audio stream"),
        (voice, "no video stream", None),
        (wide, "frame of 8200x16 pixels is larger than 8192", "no audio stream"),
    ]:
        if video is not None:
            assert refusal(lambda path=path: video_reading.probe(path)) == f"video: {video}"
            assert refusal(lambda path=path: next(video_reading.frames(path))) == f"video: {video}"
        if audio is not None:
            assert refusal(lambda path=path: sound_reading.sound(path)) == f"audio: {audio}"


@pytest.mark.parametrize("suffix", ["mkv", "avi"])
def test_cut_short_is_noticed_in_other_containers(
    tmp_path: Path, rng: np.random.Generator, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    encode(path, pictures(rng, 12), sound=noise(rng, 0.5)[None], sound_codec="pcm_s16le")
    assert video_reading.probe(path).n_frames == 12
    path.write_bytes(path.read_bytes()[:-2000])
    assert refusal(lambda: video_reading.probe(path)) == "video: the file is cut short"


def outcome(path: Path) -> list[str]:
    """How each way of reading a file ends; anything but a ClipError goes through."""
    results = []
    readers: list[Callable[[], object]] = [
        lambda: video_reading.probe(path),
        lambda: sum(int(frame.sum()) for frame in video_reading.frames(path)),
        lambda: int(np.abs(sound_reading.sound(path).samples.astype(np.int64)).sum()),
        lambda: stills.image(path).shape,
    ]
    for reader in readers:
        try:
            results.append(str(reader()))
        except ClipError as error:
            results.append(str(error))
    return results


def test_broken_files_are_read_or_refused(tmp_path: Path) -> None:
    paths = write_broken_files(tmp_path / "one", seed=1)
    assert len(paths) == len(set(paths)) >= 200
    began = time.monotonic()
    outcomes = {path.name: outcome(path) for path in paths}
    assert time.monotonic() - began < 60
    refused = [
        line for lines in outcomes.values() for line in lines if line.startswith(("video: ", "audio: "))
    ]
    assert len(refused) > 150
    assert not [line for line in refused if str(tmp_path) in line or "0x" in line or "\n" in line]
    # The same files in another folder, read in another order, end in the same way.
    again = write_broken_files(tmp_path / "two", seed=1)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
    for path in again[::-3]:
        assert outcome(path) == outcomes[path.name], path.name


# Sound


def lag(ours: np.ndarray, original: np.ndarray) -> int:
    """By how many samples ours is late, from the peak of the cross-correlation."""
    size = 1 << int(np.ceil(np.log2(len(ours) + len(original))))
    spectrum = np.fft.rfft(ours.astype(float), size) * np.conj(np.fft.rfft(original.astype(float), size))
    at = int(np.fft.irfft(spectrum).argmax())
    return at if at < size // 2 else at - size


def hiss(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Noise below 3 kHz, which any sample rate keeps; int16 (n,)."""
    count = round(seconds * rate)
    spectrum = np.fft.rfft(rng.normal(size=count))
    spectrum[np.fft.rfftfreq(count, 1 / rate) > 3000] = 0
    samples = np.fft.irfft(spectrum, count)
    return (samples / np.abs(samples).max() * 12_000).astype(np.int16)


def test_a_stereo_clip_is_the_reference_sound_which_was_mixed_3_db_louder(clips_dir: Path) -> None:
    with np.load(PARITY) as archive:
        reference = archive["wav_int16"] / np.sqrt(2)  # sqrt(1/2) (left + right), instead of 1/2
    sound = sound_reading.sound(clips_dir / "talk2.mp4")
    assert sound.samples.shape == reference.shape
    assert np.abs(sound.samples - reference).max() <= 1.1  # both are rounded
    assert (sound.mix, sound.channels, sound.track) == ("mean", 2, 0)
    assert sound.starts == 0
    assert sound.duration == pytest.approx(221_184 / 44_100)


def test_mono_at_16_khz_is_not_touched(tmp_path: Path, rng: np.random.Generator) -> None:
    samples = rng.integers(-32768, 32768, 16_000).astype(np.int16)
    path = tmp_path / "a.mkv"
    encode(path, pictures(rng, 25, (16, 16)), sound=samples[None], sound_codec="pcm_s16le")
    sound = sound_reading.sound(path)
    assert np.array_equal(sound.samples, samples)
    assert (sound.starts, sound.duration) == (0, 1)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    assert np.array_equal(sound_reading.sound(tmp_path / "a.wav").samples, samples)


@pytest.mark.parametrize("late", [-700, 0, 500])
@pytest.mark.parametrize(
    ("suffix", "rate", "codec", "form", "layout"),
    [
        ("mkv", 8000, "pcm_u8", "u8", "mono"),
        ("mp4", 16_000, "aac", "s16", "mono"),
        ("mp4", 44_100, "aac", "s16p", "stereo"),
        ("mkv", 48_000, "flac", "s16p", "stereo"),
        ("mp4", 48_000, "aac", "fltp", "5.1"),
        ("ts", 48_000, "ac3", "fltp", "5.1"),
    ],
)
def test_sound_is_in_step_with_the_picture(
    tmp_path: Path, suffix: str, rate: int, codec: str, form: str, layout: str, late: int
) -> None:
    rng = np.random.default_rng(3)
    original = hiss(rng, 2, rate)
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    sound = np.repeat(original[None], channels, axis=0)
    if form == "u8":
        sound = (sound // 256 + 128).astype(np.uint8)
    elif form == "fltp":
        sound = (sound / 32768 / 4).astype(np.float32)
    path = tmp_path / f"a.{suffix}"
    start = max(0, -late)
    encode(
        path,
        pictures(rng, 50, (16, 16)),
        pts=[start + 40 * n for n in range(50)],
        time_base=MS,
        sound=sound,
        sound_codec=codec,
        sound_format=form,
        layout=layout,
        rate=rate,
        sound_start=max(0, late) * rate // 1000,
    )
    result = sound_reading.sound(path)
    wanted = original[:: rate // 16_000] if rate % 16_000 == 0 else resampled(original, rate)
    # 16 samples are 1 ms; Matroska and MPEG-TS round times, and AC-3 in them has its coder's delay.
    assert abs(lag(result.samples, wanted) - late * 16) <= (256 * 16 // 48 + 16 if codec == "ac3" else 16)
    assert result.starts * 1000 == pytest.approx(late, abs=70)  # priming may stand before the first sample


def resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    """To 16 kHz, by the spectrum."""
    count = len(samples) * 16_000 // rate
    spectrum = np.fft.rfft(samples.astype(float))
    return np.fft.irfft(spectrum[: count // 2 + 1], count)


@pytest.mark.parametrize(("shift", "kind"), [(8000, "gap"), (-3200, "overlap"), (80, "jitter")])
def test_gaps_are_silent_and_overlaps_cut(
    tmp_path: Path, rng: np.random.Generator, shift: int, kind: str
) -> None:
    samples = rng.integers(1, 20_000, 32_000).astype(np.int16)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for at in (0, 16_000):
            block = av.AudioFrame.from_ndarray(samples[None, at : at + 16_000], format="s16", layout="mono")
            block.sample_rate, block.time_base = 16_000, Fraction(1, 16_000)
            block.pts = at + (shift if at else 0)
            container.mux(stream.encode(block))
    result = sound_reading.sound(path)
    assert result.duration == 2
    if kind == "gap":
        wanted = np.concatenate([samples[:16_000], np.zeros(8000, np.int16), samples[16_000:]])
    elif kind == "overlap":
        wanted = np.concatenate([samples[:16_000], samples[19_200:]])
    else:
        wanted = samples
    assert np.array_equal(result.samples, wanted)


def film(rng: np.random.Generator, path: Path, channels: np.ndarray, layout: str, rate: int = 16_000) -> Path:
    """A short video with the sound ``channels``, int16 (n channels, n samples), without loss."""
    packed = np.ascontiguousarray(channels.T).reshape(1, -1)
    encode(path, pictures(rng, 25, (16, 16)), sound=packed, sound_codec="pcm_s16le", layout=layout, rate=rate)
    return path


def test_the_mix_is_the_mean_of_the_channels_as_in_librosa(tmp_path: Path, rng: np.random.Generator) -> None:
    for layout, n in {"stereo": 2, "2.1": 3, "5.1": 6, "7.1": 8}.items():
        channels = rng.integers(-32768, 32768, (n, 16_000)).astype(np.int16)
        result = sound_reading.sound(film(rng, tmp_path / "a.mkv", channels, layout))
        wanted = np.mean(channels / np.float32(32768), axis=0) * 32768  # librosa.to_mono
        assert np.abs(result.samples - wanted).max() <= 0.51
        assert (result.mix, result.channels) == ("mean", n)


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
def test_one_voice_has_one_level_in_any_layout(tmp_path: Path, rng: np.random.Generator, rate: int) -> None:
    voice = hiss(rng, 1, rate)
    mono = sound_reading.sound(film(rng, tmp_path / "a.mkv", voice[None], "mono", rate))
    assert mono.mix == "mono"
    for layout, n in {"stereo": 2, "5.1": 6}.items():
        result = sound_reading.sound(film(rng, tmp_path / "b.mkv", np.tile(voice, (n, 1)), layout, rate))
        assert np.abs(result.samples.astype(int) - mono.samples).max() <= 1
        assert result.mix == "mean"


def test_a_loud_passage_changes_nothing_elsewhere(tmp_path: Path, rng: np.random.Generator) -> None:
    voice = hiss(rng, 1, 48_000)
    loud = voice.copy()
    loud[40_000:] = rng.choice([-32768, 32767], 8000)
    quiet, shouted = (
        sound_reading.sound(film(rng, tmp_path / "a.mkv", np.stack([v, v]), "stereo", 48_000)).samples
        for v in (voice, loud)
    )
    assert np.array_equal(quiet[:13_000], shouted[:13_000])


def test_channels_that_cancel_give_way_to_the_louder_one(tmp_path: Path, rng: np.random.Generator) -> None:
    one, other = hiss(rng, 1, 16_000), hiss(rng, 1, 16_000)
    none = np.zeros_like(one)
    faint = (one * 0.708).astype(np.int16)
    late = np.roll(one, 8)  # half a millisecond, as of two microphones
    for layout, channels, mix in [
        ("stereo", [one, one], "mean"),
        ("stereo", [one, other], "mean"),
        ("stereo", [one, late], "mean"),
        ("stereo", [one, none], "mean"),
        ("stereo", [none, none], "mean"),
        ("5.1", [none, none, one, none, none, none], "mean"),
        ("stereo", [one, -one], "channel 1"),
        ("stereo", [-faint, one], "channel 2"),
        ("stereo", [one, -faint], "channel 1"),
        ("quad", [one, -one, -other, other], "channel 1"),
    ]:
        result = sound_reading.sound(film(rng, tmp_path / "a.mkv", np.stack(channels), layout))
        assert result.mix == mix, (layout, mix)
        wanted = np.mean(channels, axis=0) if mix == "mean" else channels[int(mix[-1]) - 1]
        assert np.abs(result.samples - wanted).max() <= 0.51


def test_each_part_of_a_file_whose_channels_change_has_the_same_level(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    voice = hiss(rng, 2, 48_000)
    levels = []
    for sign in (1, -1):
        parts = b""
        for n, layout in ((1, "mono"), (2, "stereo")):
            packed = np.ascontiguousarray(np.stack([voice, sign * voice])[:n].T).reshape(1, -1)
            path = tmp_path / f"{layout}.aac"
            encode(path, None, sound=packed, layout=layout, rate=48_000)
            parts += path.read_bytes()
        (tmp_path / "a.aac").write_bytes(parts)
        result = sound_reading.sound(tmp_path / "a.aac")
        assert (result.mix, result.channels) == ("mean" if sign == 1 else "channel 1", 2)
        samples = result.samples.astype(float)
        levels += [np.std(samples[8000:24_000]), np.std(samples[40_000:56_000])]
    assert max(levels) / min(levels) < 1.02


def test_float_sound_beyond_full_scale_is_mixed_and_then_clipped(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    left, right = np.full(16_000, 1.5, np.float32), np.full(16_000, -0.9, np.float32)
    for channels, wanted in (([left, right], round(0.3 * 32768)), ([left, left], 32767)):
        packed = np.stack(channels, axis=1).reshape(1, -1)
        path = tmp_path / "a.mkv"
        encode(path, None, sound=packed, sound_codec="pcm_f32le", sound_format="flt", layout="stereo")
        assert (sound_reading.sound(path).samples == wanted).all()


def test_damaged_float_samples_are_silent_or_clipped(tmp_path: Path) -> None:
    odd = np.array([[np.nan, np.inf, -np.inf, 1e30, 0.5]], np.float32)
    encode(tmp_path / "a.mkv", None, sound=odd, sound_codec="pcm_f32le", sound_format="flt")
    assert sound_reading.sound(tmp_path / "a.mkv").samples.tolist() == [0, 32767, -32768, 32767, 16384]


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (-160_000, None),
        (11 * 16_000, "audio: the sound starts 11 s after the picture"),
    ],
)
def test_sound_far_from_the_picture(
    tmp_path: Path, rng: np.random.Generator, start: int, reason: str | None
) -> None:
    path = tmp_path / "a.mkv"
    encode(
        path,
        pictures(rng, 3, (16, 16)),
        pts=[max(0, -start) // 16 + 40 * n for n in range(3)],
        time_base=MS,
        sound=noise(rng, 1)[None],
        sound_start=max(0, start),
    )
    assert refusal(lambda: sound_reading.sound(path)) == (
        reason or "audio: the sound ends before the picture starts"
    )


# Stills


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_images_are_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16] = 250, 120, 10
    stored = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=exif, **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {}))
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, 1),
    }[orientation]
    result = stills.image(path)
    assert result.dtype == np.uint8 and result.flags.c_contiguous
    assert np.abs(result.astype(int) - upright).max() <= 3


def test_images_of_every_kind_become_8_bit_rgb(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    grey8 = (ramp >> 8).astype(np.uint8)
    rgb8 = np.stack([grey8, grey8[::-1], 255 - grey8], axis=-1)
    rgb16 = rgb8.astype(np.uint16) * 257
    alpha = np.dstack([rgb8, grey8])
    palette = Image.fromarray(rgb8).quantize(64)
    cv2.imwrite(str(tmp_path / "grey16.png"), ramp)
    cv2.imwrite(str(tmp_path / "grey16.tiff"), ramp)
    cv2.imwrite(str(tmp_path / "rgb16.png"), rgb16[..., ::-1])
    Image.fromarray(grey8).save(tmp_path / "grey8.png")
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    Image.fromarray(np.dstack([grey8, grey8]), "LA").save(tmp_path / "grey-alpha.png")
    Image.fromarray(rgb8).save(tmp_path / "lossless.webp", lossless=True)
    palette.save(tmp_path / "palette.png")
    Image.fromarray(grey8 > 100).save(tmp_path / "bits.png")
    three = np.repeat(grey8[..., None], 3, axis=2)
    for name, wanted in {
        "grey16.png": three,
        "grey16.tiff": three,
        "rgb16.png": rgb8,
        "grey8.png": three,
        "alpha.png": rgb8,
        "grey-alpha.png": three,
        "lossless.webp": rgb8,
        "palette.png": np.asarray(palette.convert("RGB")),
        "bits.png": np.where(three > 100, 255, 0),
    }.items():
        result = stills.image(tmp_path / name)
        assert result.dtype == np.uint8 and result.shape == (8, 8, 3), name
        assert np.array_equal(result, wanted), name


def test_images_that_are_none(tmp_path: Path, rng: np.random.Generator) -> None:
    whole = cv2.imencode(".jpg", pictures(rng, 1)[0])[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    png = cv2.imencode(".png", pictures(rng, 1)[0])[1].tobytes()
    (tmp_path / "cut.png").write_bytes(png[: len(png) // 2])
    (tmp_path / "text.png").write_bytes(b"no picture")
    Image.new("1", (8193, 2)).save(tmp_path / "wide.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    for name, reason in {
        "cut.jpg": "damaged, or not an image",
        "cut.png": "damaged, or not an image",
        "text.png": "damaged, or not an image",
        "wide.png": "picture of 8193x2 pixels is larger than 8192",
        "bomb.png": "picture is larger than 8192 pixels a side",
        "none.png": "no such file",
    }.items():
        assert refusal(lambda name=name: stills.image(tmp_path / name)) == f"image: {reason}"


# Writing


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, rng: np.random.Generator) -> None:
    frames, samples = pictures(rng, 30), noise(rng, 1.2)
    video_writing.write_video(tmp_path / "a.mp4", frames, samples=samples)
    for attempt in range(15):  # x264 with mbtree failed one time in twenty, by what lay in memory
        litter = [rng.bytes(5000 + 4000 * attempt) for _ in range(20)]
        video_writing.write_video(tmp_path / "b.mp4", iter(frames), samples=samples.copy())
        assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
        del litter


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    ramp = np.linspace(20, 230, 64)
    frames = [np.stack([np.add.outer(ramp, n - ramp) / 2 + 120] * 3, axis=-1) for n in range(10)]
    frames = [frame.clip(0, 255).astype(np.uint8) for frame in frames]
    video_writing.write_video(tmp_path / "a.mp4", frames, crf=10)
    for wrote, read in zip(frames, video_reading.frames(tmp_path / "a.mp4"), strict=True):
        assert np.abs(wrote.astype(int) - read).mean() < 2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (17, 33), (32, 33), (2160, 3840)])
def test_odd_sizes_grow_by_their_last_column_or_row(tmp_path: Path, height: int, width: int) -> None:
    ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] % 200 + np.zeros(3)
    path = tmp_path / "a.mp4"
    video_writing.write_video(path, [ramp.astype(np.uint8)] * 2, crf=4)
    frames = list(video_reading.frames(path))
    assert [frame.shape for frame in frames] == [(height + height % 2, width + width % 2, 3)] * 2
    assert np.abs(frames[0][:height, :width].astype(int) - ramp).mean() < 4


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("fps", [25, Fraction(30000, 1001)])
def test_written_sound_is_in_step(tmp_path: Path, rate: int, fps: int | Fraction) -> None:
    rng = np.random.default_rng(11)
    original = hiss(rng, 3, rate)
    path = tmp_path / "a.mp4"
    video_writing.write_video(path, pictures(rng, 60, (16, 16)), fps=fps, samples=original, sample_rate=rate)
    result = sound_reading.sound(path)
    wanted = original if rate == 16_000 else resampled_any(original, rate)
    assert abs(lag(result.samples, wanted)) <= 2
    assert result.starts == pytest.approx(0, abs=1e-3)
    assert 0 <= result.duration - 3 < 1024 / rate  # AAC fills its last frame


def resampled_any(samples: np.ndarray, rate: int) -> np.ndarray:
    """To 16 kHz, from a lower or a higher rate."""
    if rate > 16_000:
        return resampled(samples, rate)
    spectrum = np.fft.rfft(samples.astype(float))
    return np.fft.irfft(spectrum, len(samples) * 16_000 // rate) * 16_000 / rate


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.mp4"
    video_writing.write_video(path, pictures(rng, 3))
    before = path.read_bytes()

    def failing() -> Iterator[np.ndarray]:
        yield from pictures(rng, 30)
        raise KeyError("the generator broke")

    with pytest.raises(KeyError):
        video_writing.write_video(path, failing())
    assert path.read_bytes() == before
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"b\.mp4"):
            video_writing.write_video(tmp_path / "b.mp4", pictures(rng, 60))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        video_writing.write_video(tmp_path / "nowhere" / "a.mp4", pictures(rng, 3))


@pytest.mark.parametrize(
    ("frames", "more", "message"),
    [
        ([], {}, "no frames"),
        ([np.zeros((4, 4), np.uint8)], {}, r"frames are uint8 \(4, 4\)"),
        ([np.zeros((4, 4, 3), np.float32)], {}, "frames are float32"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)], {}, "frame 1 is"),
        (
            [np.zeros((4, 4, 3), np.uint8)],
            {"samples": np.zeros((9, 1, 1), np.int16)},
            r"samples are int16 \(9, 1, 1\)",
        ),
        ([np.zeros((4, 4, 3), np.uint8)], {"samples": np.zeros(9)}, "samples are float64"),
        (
            [np.zeros((4, 4, 3), np.uint8)],
            {"samples": np.zeros(9, np.int16), "sample_rate": 12_345},
            "AAC has no sample rate of 12345 Hz",
        ),
    ],
)
def test_what_cannot_be_written_is_named(
    tmp_path: Path, frames: list[np.ndarray], more: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        video_writing.write_video(tmp_path / "a.mp4", frames, **more)
    assert list(tmp_path.iterdir()) == []


def test_native_frames_come_at_their_own_times(tmp_path: Path, rng: np.random.Generator) -> None:
    times = [Fraction(n, 1000) for n in (0, 17, 33, 90, 100)]
    video_writing.write_video(tmp_path / "a.mp4", pictures(rng, 5), times=times)
    found = list(video_reading.native_frames(tmp_path / "a.mp4"))
    assert [when for when, _ in found] == times
    assert_same_frames([frame for _, frame in found], decoded(tmp_path / "a.mp4"))


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(60000, 1001), 23.976, 59.94, 50])
def test_the_rate_of_films_is_written_exactly(
    tmp_path: Path, rng: np.random.Generator, fps: float | Fraction
) -> None:
    video_writing.write_video(tmp_path / "a.mp4", pictures(rng, 30, (16, 16)), fps=fps)
    exact = Fraction(round(fps) * 1000, 1001) if fps != 50 else Fraction(50)
    found = [when for when, _ in video_reading.native_frames(tmp_path / "a.mp4")]
    assert found == [number / exact for number in range(30)]


@pytest.mark.parametrize("channels", [2, 6])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_sound_of_several_channels_at_its_own_rate(tmp_path: Path, channels: int, dtype: type) -> None:
    wave = np.sin(np.arange(48_000)[:, None] * 0.01 * (1 + np.arange(channels)))
    samples = (
        (wave * 8000).astype(np.int16) if dtype is np.int16 else (wave * 8000 / 32768).astype(np.float32)
    )
    frames = [np.zeros((16, 16, 3), np.uint8)] * 25
    video_writing.write_video(tmp_path / "a.mp4", frames, samples=samples, sample_rate=48_000)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.audio[0]
        assert (stream.rate, stream.channels) == (48_000, channels)
        back = np.concatenate([block.to_ndarray() for block in container.decode(stream)], axis=1)
    for one in range(channels):
        if channels == 6 and one == 3:  # AAC keeps the low frequencies only of this one
            continue
        assert np.corrcoef(back[one, 4000:40_000], wave[4000:40_000, one])[0, 1] > 0.98
    with pytest.raises(ValueError, match="no layout of 7 channels"):
        video_writing.write_video(tmp_path / "b.mp4", frames, samples=np.zeros((9, 7), np.int16))


def test_files_carry_the_tags_of_their_source(tmp_path: Path, rng: np.random.Generator) -> None:
    first = Colour("bt709", 1, 1, full=True)
    video_writing.write_video(
        tmp_path / "a.mp4", pictures(rng, 2), colour=first, sample_aspect=Fraction(4, 3)
    )
    assert Colour.of(tmp_path / "a.mp4") == first
    info = video_reading.probe(tmp_path / "a.mp4")
    assert (info.matrix, info.matrix_tagged, info.sample_aspect) == ("bt709", True, pytest.approx(4 / 3))
