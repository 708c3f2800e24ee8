"""Which of several streams of a file is read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from prep import sound_reading, video_reading
from prep.errors import ClipError

ASIDE = [
    Disposition.visual_impaired,
    Disposition.comment,
]  # audio description, and what Matroska else can say


def write(path: Path, marks: list[Any], kind: str = "audio") -> Path:
    """A Matroska file with one stream for each disposition: sound at level 1000 (n + 1), or grey at 40 (n + 1)."""
    with av.open(str(path), "w", format="matroska") as container:
        streams: list[Any] = []
        for mark in marks:
            if kind == "audio":
                streams.append(container.add_stream("pcm_s16le", rate=16_000, layout="mono"))
            else:
                streams.append(container.add_stream("ffv1", rate=25))
                streams[-1].width, streams[-1].height, streams[-1].pix_fmt = 32, 32, "gray"
            streams[-1].disposition = Disposition(mark)
        frame: Any
        for number, stream in enumerate(streams, 1):
            if kind == "audio":
                frame = av.AudioFrame.from_ndarray(
                    np.full((1, 16_000), 1000 * number, np.int16), "s16", "mono"
                )
                frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
            else:
                frame = av.VideoFrame.from_ndarray(np.full((32, 32), 40 * number, np.uint8), "gray")
                frame.pts, frame.time_base = 0, Fraction(1, 25)
            container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def without_decoder(path: Path, number: int) -> None:
    """Give one PCM stream of a Matroska file a coding that nobody knows."""
    data = path.read_bytes()
    at = -1
    for _ in range(number + 1):
        at = data.index(b"A_PCM/INT/LIT", at + 1)
    path.write_bytes(data[:at] + b"A_XYZ/INT/LIT" + data[at + 13 :])


@pytest.mark.parametrize(
    ("marks", "wanted"),
    [
        ([0, 0], 0),
        ([0, Disposition.default], 1),
        ([Disposition.default, Disposition.default], 0),
        *(([mark | Disposition.default, 0], 1) for mark in ASIDE),
        *(([mark, mark | Disposition.default], 1) for mark in ASIDE),
        ([Disposition.comment, 0, Disposition.default], 2),
    ],
)
def test_the_sound_of_the_programme_is_read(tmp_path: Path, marks: list[Any], wanted: int) -> None:
    path = write(tmp_path / "a.mkv", marks)
    sound = sound_reading.sound(path)
    assert (sound.track, sound.samples[0]) == (wanted, 1000 * (wanted + 1))
    assert (sound_reading.film_sound(path).samples == 1000 * (wanted + 1)).all()


def test_a_stream_that_cannot_be_decoded_is_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", [Disposition.default, 0])
    without_decoder(path, 0)
    assert sound_reading.sound(path).track == 1
    assert sound_reading.sound(path, 1).samples[0] == 2000
    with pytest.raises(ClipError, match="audio: sound track 0 of 2 uses a coding that is not supported"):
        sound_reading.sound(path, 0)
    without_decoder(path, 0)
    with pytest.raises(ClipError, match="audio: uses a coding that is not supported"):
        sound_reading.sound(path)


def test_a_track_is_chosen_by_its_number_whatever_its_marks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", [Disposition.default, Disposition.comment, 0])
    for track in range(3):
        sound = sound_reading.sound(path, track)
        assert (sound.track, sound.samples[0]) == (track, 1000 * (track + 1))
    for track in (-1, 3):
        with pytest.raises(ClipError, match=f"no sound track {track}, the file has 3 sound tracks: 0 to 2"):
            sound_reading.sound(path, track)
    one = write(tmp_path / "b.mkv", [0])
    with pytest.raises(ClipError, match="no sound track 1, the file has 1 sound track: 0"):
        sound_reading.sound(one, 1)


@pytest.mark.parametrize(
    ("marks", "wanted"),
    [
        ([0, Disposition.default], 1),
        ([Disposition.comment, 0], 1),
        ([Disposition.comment | Disposition.default, Disposition.comment], 0),
    ],
)
def test_the_picture_of_the_programme_is_read(tmp_path: Path, marks: list[Any], wanted: int) -> None:
    path = write(tmp_path / "a.mkv", marks, "video")
    assert video_reading.probe(path).track == wanted
    (frame,) = video_reading.frames(path)
    assert abs(int(frame[0, 0, 0]) - 40 * (wanted + 1)) <= 25  # grey of limited range
