#!/bin/bash
# The first step of SyncNet's pipeline, MP4 to AVI by FFmpeg, moves sound behind the picture: by 1.6 frames at 16 kHz.
#
# Software: the FFmpeg binary of imageio-ffmpeg 0.8.1 (FFmpeg 9.0.2), PyAV 18.1.0, numpy 2.2.6.
# Input: an MP4 of 25 frames a second whose AAC sound has one burst at exactly 1.000 s, with sound at 16, 44.1 and 48 kHz.
# Steps: those of run_pipeline.py in joonson/syncnet_python and of syncnet-python 0.2.3:
#   ffmpeg -i in.mp4 -qscale:v 2 -async 1 -r 25 out.avi, then ffmpeg -i out.avi -ac 1 -vn -acodec pcm_s16le -ar 16000 a.wav
# Expected: the burst of a.wav is where that of the MP4 is, as the pictures are.
# Seen: the pictures stay, the burst is 60 ms or more late at 16 kHz, and 20 to 30 ms late at 44.1 and 48 kHz: AVI gets
#   MP3 sound, and the delay of its encoder (about 1105 samples at any rate) is not cut when it is read again.
# Why it matters: the offset that SyncNet prints for corpora with 16 kHz sound (LRS2, LRS3, HDTF) includes it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet imageio-ffmpeg==0.8.1 av==18.1.0 numpy==2.2.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import os
import subprocess
import sys
import wave
from fractions import Fraction

import av
import imageio_ffmpeg
import numpy as np

os.chdir(sys.argv[1])
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def recording(rate: int) -> None:
    with av.open("in.mp4", "w") as sink:
        video = sink.add_stream("libx264", rate=25, options={"crf": "1"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = sink.add_stream("aac", rate=rate, layout="mono")
        size = rate // 25
        for number in range(50):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 + 4 * number, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            sink.mux(video.encode(picture))
            samples = np.zeros((1, size), np.int16)
            if number == 25:
                samples[:] = (20_000 * np.sin(np.arange(size) * 2 * np.pi * 1000 / rate)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, size * number, Fraction(1, rate)
            sink.mux(sound.encode(frame))
        sink.mux([*video.encode(None), *sound.encode(None)])


def convert(*arguments: str) -> None:
    subprocess.run([FFMPEG, "-y", "-loglevel", "error", *arguments], check=True)


def burst(path: str) -> float:
    """Seconds at which the sound becomes loud."""
    with wave.open(path) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return float(np.argmax(np.abs(samples.astype(int)) > 6000)) / 16_000


def levels(path: str) -> list[int]:
    with av.open(path) as source:
        return [round(float(frame.to_ndarray(format="gray").mean())) for frame in source.decode(video=0)]


WAV = ("-ac", "1", "-vn", "-acodec", "pcm_s16le", "-ar", "16000")
late = {}
for rate in (16_000, 44_100, 48_000):
    recording(rate)
    convert("-i", "in.mp4", "-qscale:v", "2", "-async", "1", "-r", "25", "out.avi")
    convert("-i", "out.avi", *WAV, "a.wav")
    convert("-i", "in.mp4", *WAV, "direct.wav")
    late[rate] = 1000 * (burst("a.wav") - burst("direct.wav"))
    pictures = np.abs(np.subtract(levels("out.avi"), levels("in.mp4"))).max()
    print(f"{rate} Hz: sound {late[rate]:.1f} ms late after the AVI; direct at {burst('direct.wav'):.3f} s;",
          f"pictures differ by {pictures} levels at most")
    assert pictures <= 2
assert 60 < late[16_000] < 75 and 20 < late[44_100] < 30 and 18 < late[48_000] < 30
PY
echo "as described"
