"""Recordings that are joined into one file: the clock goes on, and picture and sound stay in step."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from prep import sound_reading, video_reading
from prep.clock import ClockReader
from prep.containers import begins_anew, opened, read_packets
from prep.errors import ClipError

RATE = 48_000
CODECS = {
    "ts": ("mpegts", "libx264", "aac"),
    "mpg": ("mpeg", "mpeg2video", "mp2"),
    "mkv": ("matroska", "libx264", "aac"),
    "webm": ("webm", "libvpx", "libopus"),
    "ogv": ("ogg", "libvpx", "libopus"),
    "mp4": ("mp4", "libx264", "aac"),
    "flv": ("flv", "libx264", "aac"),
    "asf": ("asf", "mpeg4", "mp2"),
}


def recording(
    suffix: str, folder: Path, seconds: float, flash: float, begins: float = 0, **options: str
) -> bytes:
    """A recording that is dark and silent, with a flash and a click at one time; ``begins`` is its first timestamp."""
    path = folder / f"part.{suffix}"
    form, codec, voice = CODECS[suffix]
    ms = Fraction(1, 1000)
    with av.open(
        str(path), "w", format=form, options={"output_ts_offset": str(begins), **options}
    ) as container:
        video = container.add_stream(
            codec, rate=25, options={"mbtree": "0", "bf": "2"} if codec == "libx264" else None
        )
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 25)
        video.codec_context.thread_count = 1
        sound = container.add_stream(voice, rate=RATE, layout="mono")
        samples = np.zeros((1, round(seconds * RATE)), np.int16)
        at = round(flash * RATE)
        samples[:, at : at + 480] = 20_000 * np.sin(np.arange(480) * 0.4)
        spoken = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        spoken.sample_rate, spoken.pts, spoken.time_base = RATE, 0, Fraction(1, RATE)
        packets = [*sound.encode(spoken), *sound.encode(None)]
        for number in range(round(seconds * 25)):
            grey = np.full((48, 64, 3), 230 if number == round(flash * 25) else 20, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += video.encode(frame)
        packets += video.encode(None)
        container.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base / ms))
    return path.read_bytes()


def flashes_and_clicks(path: Path) -> tuple[list[int], list[float]]:
    """Frames that flash, and frames at which a click is loudest."""
    light = np.array([frame.mean() for frame in video_reading.frames(path)])
    sound = np.abs(sound_reading.sound(path).samples.astype(float))
    # The energy of 10 ms from each sample on.
    loud = np.convolve(sound, np.ones(160), "valid")
    clicks = []
    while loud.max() > 500_000:
        at = int(loud.argmax())
        clicks.append(at / 640)
        loud[max(0, at - 4000) : at + 4000] = 0
    return np.flatnonzero(light > 120).tolist(), sorted(clicks)


@pytest.mark.parametrize("suffix", ["ts", "mpg", "mkv", "webm"])
def test_joined_recordings_are_read_to_the_end_with_lips_in_step(tmp_path: Path, suffix: str) -> None:
    first, second = recording(suffix, tmp_path, 2, 0.4), recording(suffix, tmp_path, 1.6, 1.2)
    path = tmp_path / f"joined.{suffix}"
    thrice = suffix in ("ts", "mpg")
    path.write_bytes(first + second + (first if thrice else b""))
    n_frames = video_reading.probe(path).n_frames
    assert n_frames == pytest.approx(140 if thrice else 90, abs=3)
    flashes, clicks = flashes_and_clicks(path)
    assert flashes == pytest.approx([10, 80, 100] if thrice else [10, 80], abs=3)
    assert clicks == pytest.approx(flashes, abs=0.9)  # MP2 is late by its coder's delay of 10 ms
    every = list(video_reading.frames(path))
    assert len(every) == n_frames
    for start in (0, 49, 60, n_frames - 2):
        some = list(video_reading.frames(path, start, start + 2))
        assert all(np.array_equal(a, b) for a, b in zip(some, every[start:], strict=False)) and len(some) == 2


@pytest.mark.parametrize("begins", [(0, 100), (100, 0), (7, 7.5), (95_442, 20)])
def test_a_transport_stream_goes_on_wherever_its_times_lead(
    tmp_path: Path, begins: tuple[float, float]
) -> None:
    parts = [recording("ts", tmp_path, 2, 0.4, start) for start in begins]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    assert video_reading.probe(path).n_frames == pytest.approx(100, abs=3)
    flashes, clicks = flashes_and_clicks(path)
    assert flashes == pytest.approx([10, 60], abs=3)
    assert clicks == pytest.approx(flashes, abs=0.6)


def test_times_that_pass_their_largest_value_are_one_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(recording("ts", tmp_path, 2, 1.6, 2**33 / 90_000 - 1))
    assert video_reading.probe(path).n_frames == 50
    flashes, clicks = flashes_and_clicks(path)
    assert flashes == [40] and clicks == pytest.approx(flashes, abs=0.6)
    with opened(path, "video") as container:
        assert not begins_anew(container, container.streams.video[0])


def test_chained_sound_is_read_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "one.opus"
    with av.open(str(path), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 2 * RATE), np.int16), format="s16", layout="mono")
        block.sample_rate, block.pts, block.time_base = RATE, 0, Fraction(1, RATE)
        container.mux([*stream.encode(block), *stream.encode(None)])
    (tmp_path / "three.opus").write_bytes(path.read_bytes() * 3)
    assert len(sound_reading.sound(tmp_path / "three.opus").samples) == pytest.approx(96_000, abs=2000)


def test_chained_ogg_with_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "joined.ogv"
    path.write_bytes(recording("ogv", tmp_path, 1, 0.4) + recording("ogv", tmp_path, 1, 0.4))
    with pytest.raises(ClipError, match="video: uses a coding that is not supported"):
        video_reading.probe(path)


@pytest.mark.parametrize("suffix", ["mp4", "flv", "asf", "mkv", "webm"])
def test_a_second_file_that_the_format_hides_is_refused(tmp_path: Path, suffix: str) -> None:
    part = recording(suffix, tmp_path, 1, 0.4)
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(part)
    assert video_reading.probe(path).n_frames == 25
    path.write_bytes(part * 3)  # FFmpeg reads the second of joined Matroska files, but no third
    for read in (video_reading.probe, sound_reading.sound):
        with pytest.raises(ClipError, match=r"another file is joined to its end.*`ffmpeg -f concat`"):
            read(path)


def test_a_second_recording_with_streams_of_its_own_is_refused(tmp_path: Path) -> None:
    first, second = (
        recording("ts", tmp_path, 1, 0.4, mpegts_start_pid=number, mpegts_service_id=service)
        for number, service in (("256", "1"), ("512", "7"))
    )
    (tmp_path / "a.ts").write_bytes(first + second)
    with pytest.raises(ClipError, match="another file is joined to its end"):
        video_reading.probe(tmp_path / "a.ts")


def test_two_programmes_side_by_side_are_no_joint(tmp_path: Path) -> None:
    path = tmp_path / "two.ts"
    grey = np.full((48, 64, 3), 100, np.uint8)
    with av.open(str(path), "w", format="mpegts") as container:
        streams: list[Any] = [container.add_stream("mpeg2video", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(50):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    assert video_reading.probe(path).n_frames == 50


def test_fragments_whose_times_begin_anew_are_refused(tmp_path: Path) -> None:
    part = recording("mp4", tmp_path, 2, 0.4, movflags="frag_keyframe+empty_moov+default_base_moof")
    path = tmp_path / "a.mp4"
    path.write_bytes(part)
    assert video_reading.probe(path).n_frames == 50
    path.write_bytes(part + part[part.index(b"moof") - 4 :])
    for read in (video_reading.probe, sound_reading.sound):
        with pytest.raises(
            ClipError, match=r"times begin anew at 2\.\d s: join recordings with `ffmpeg -f concat`"
        ):
            read(path)


@pytest.mark.parametrize("suffix", sorted(CODECS))
def test_the_times_of_other_files_are_those_of_the_container(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"part.{suffix}"
    recording(suffix, tmp_path, 1, 0.4)

    def times(packets: object) -> list[tuple[int | None, int | None]]:
        return [(packet.pts, packet.dts) for packet in packets]  # type: ignore[attr-defined]

    for number in (0, 1):
        with opened(path, "video") as ours, av.open(str(path)) as theirs:
            found = times(read_packets(ours, ours.streams[number]))
            assert found == times(theirs.demux(theirs.streams[number]))
            assert not begins_anew(ours, ours.streams[number])


# The rule, on times alone


def reader(discontinuous: bool = True) -> ClockReader:
    return ClockReader({0, 1}, discontinuous, "video")


def feed(
    clock: ClockReader, packets: list[tuple[int, float]], duration: float = 0.04
) -> dict[int, list[float]]:
    """Times on the clock, by stream, of packets given as (stream, time)."""
    numbers = {0: 0, 1: 0}
    for stream, time in packets:
        clock.add(stream, numbers[stream], time, time, duration)
        numbers[stream] += 1
    shifts = found.shifts if (found := clock.clock()) else {}
    result: dict[int, list[float]] = {0: [], 1: []}
    shift = {0: 0.0, 1: 0.0}
    for stream, time in packets:
        shift[stream] = shifts.get(stream, {}).get(len(result[stream]), shift[stream])
        result[stream].append(round(time + shift[stream], 6))
    return result


def both(start: float, stop: float) -> list[tuple[int, float]]:
    """Packets of two streams, every 40 ms."""
    return [(stream, start + 0.04 * n) for n in range(round((stop - start) * 25)) for stream in (0, 1)]


def steady(times: list[float]) -> bool:
    return bool(np.allclose(np.diff(times), 0.04))


def test_packets_of_both_recordings_that_stand_mixed_at_the_joint_keep_their_places() -> None:
    last = [(1, 1.96), (1, 5.0), (0, 1.96), (1, 5.04), (0, 5.0), (0, 5.04)]
    for begins in (5.0, 0.0, 1.5):
        packets = (
            both(0, 1.96)
            + [(s, t if t < 2 else t - 5 + begins) for s, t in last]
            + both(begins + 0.08, begins + 2)
        )
        found = feed(reader(), packets)
        if begins == 5.0:  # a gap, which may be one
            assert found[0] == [round(time, 6) for stream, time in packets if stream == 0]
        else:
            assert steady(found[0]) and steady(found[1])


def test_a_recording_begins_where_the_longer_stream_of_the_one_before_ends() -> None:
    packets = [*both(0, 2), (1, 2.0), (1, 2.04), *both(0, 2)]
    found = feed(reader(), packets)
    assert found[0][49:52] == [1.96, 2.08, 2.12] and steady(found[1])


def test_one_stream_that_begins_anew_alone_is_refused() -> None:
    alone = [(stream, time - 10 if stream == 0 else time) for stream, time in both(10, 20)]
    with pytest.raises(
        ClipError, match=r"video: at 10\.0 s the times of one stream begin anew, but not the other's"
    ):
        feed(reader(), both(0, 10) + alone)


@pytest.mark.parametrize("wrong", [0.5, 2000.0])
def test_one_wrong_time_moves_nothing_else(wrong: float) -> None:
    packets = both(0, 20)
    packets[500] = (0, wrong)
    found = feed(reader(), packets)
    right = [round(time, 6) for stream, time in packets if stream == 0]
    assert found[1] == [*right[:250], 10.0, *right[251:]]
    assert [time for n, time in enumerate(found[0]) if n != 250] == right[:250] + right[251:]


def test_many_segments_are_continued_and_noise_is_refused() -> None:
    found = feed(reader(), 200 * both(1.4, 5.4))
    assert len(found[0]) == 20_000 and steady(found[0]) and steady(found[1])
    wild = [(0, time) for time in np.random.default_rng(0).uniform(0, 90_000, 5000).tolist()]
    with pytest.raises(ClipError, match="its times begin anew more than 999 times"):
        feed(reader(), wild)


def test_a_pause_of_one_stream_and_a_late_one_are_no_joints() -> None:
    packets = [row for row in both(0, 40) if row[0] == 0 or 13 < row[1] < 15 or row[1] > 28]
    assert reader_finds_nothing(packets, True)


def test_decoding_times_that_a_demuxer_reconstructs_may_waver() -> None:
    packets = both(0, 4)
    packets[100] = (0, 2.4)
    assert reader_finds_nothing(packets, False)
    assert reader_finds_nothing(both(0, 2) + both(1000, 1002), False)  # a gap, which the readers refuse


def reader_finds_nothing(packets: list[tuple[int, float]], discontinuous: bool) -> bool:
    clock = reader(discontinuous)
    feed(clock, packets)
    return clock.clock() is None
