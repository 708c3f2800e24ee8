#!/bin/bash
# AAC sound in MP4 ends later in FFmpeg 7 than in FFmpeg 9, which cuts too much of the files that version 7 wrote.
#
# Software: the FFmpeg binaries of imageio-ffmpeg 0.6.0 (FFmpeg 7.0.2) and 0.8.1 (FFmpeg 9.0.2).
# Input: two seconds and 777 samples of a sine, mono, at 16, 22.05, 44.1 and 48 kHz; ffmpeg -i in.wav -c:a aac out.m4a by
#   each version, read again by each: ffmpeg -i out.m4a -f s16le -.
# Expected: as many samples as were put in.
# Seen: 7 returns whole frames of 1024 samples, here 111 to 1015 samples too many, whoever wrote the file. 9 returns what
#   was put in if 9 wrote the file. Of what 7 wrote it returns 5 (22.05 kHz), 27 (44.1 kHz) and 9 (48 kHz) samples too few,
#   as the length that 7 writes is in whole milliseconds, rounded down. There is no message.
# Why it matters: one and the same clip has another number of samples, and so of mel frames, by version. (At 48 kHz PyAV
#   18.1.0 reads both files as version 7 does, PyAV 19.0.2 as version 9 does.)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 0.6.0 0.8.1; do
    "$folder/venv/bin/pip" install --quiet --no-deps --target "$folder/$version" "imageio-ffmpeg==$version"
done
"$folder/venv/bin/python" - "$folder" <<'PY'
import array
import math
import os
import subprocess
import sys
import wave
from pathlib import Path

os.chdir(sys.argv[1])
FFMPEG = {name: str(next(Path(version).resolve().glob("imageio_ffmpeg/binaries/ffmpeg*")))
          for name, version in ((7, "0.6.0"), (9, "0.8.1"))}
for name, binary in FFMPEG.items():
    print(name, subprocess.run([binary, "-version"], check=True, capture_output=True, text=True).stdout.splitlines()[0])
seen = {}
for rate in (16_000, 22_050, 44_100, 48_000):
    length = 2 * rate + 777
    with wave.open("in.wav", "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(array.array("h", (round(8000 * math.sin(at / 20)) for at in range(length))).tobytes())
    for writer in FFMPEG:
        subprocess.run([FFMPEG[writer], "-y", "-loglevel", "error", "-i", "in.wav", "-c:a", "aac", "out.m4a"], check=True)
        for reader in FFMPEG:
            command = [FFMPEG[reader], "-loglevel", "error", "-i", "out.m4a", "-f", "s16le", "-"]
            read = subprocess.run(command, check=True, capture_output=True)
            assert not read.stderr
            seen[rate, writer, reader] = len(read.stdout) // 2 - length
            print(f"{rate} Hz, written by {writer}, read by {reader}: {seen[rate, writer, reader]:+d} of {length} samples")
for rate, padding, lost in ((16_000, 1015, 0), (22_050, 179, -5), (44_100, 111, -27), (48_000, 503, -9)):
    assert [seen[rate, writer, reader] for writer in (7, 9) for reader in (7, 9)] == [padding, lost, padding, 0]
PY
echo "as described"
