#!/bin/bash
# Of recordings that are joined byte by byte, FFmpeg's demuxers read a different share in every format, without an error.
#
# Software: PyAV 18.1.0 (FFmpeg 8), numpy 2.2.6.
# Input: a one-second recording of 25 frames with sound, muxed as MPEG-TS, FLV and Matroska; each file joined to itself
#   once and twice (as `cat a a` does: camcorder chapters, recorded stream segments).
# Expected: all frames, or an error.
# Seen: MPEG-TS gives all frames (25, 50, 75), with times that begin anew. FLV gives 25 of 25, 50 and 75. Matroska gives
#   25, then 50, and of three recordings only 50: the third one is dropped. There is no error.
# Why it matters: a data set misses recordings of which no failure is told.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==2.2.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FORMATS = {"mpegts": "mpeg2video", "flv": "flv1", "matroska": "mpeg2video"}


def recording(path: str, form: str) -> None:
    with av.open(path, "w", format=form) as sink:
        video = sink.add_stream(FORMATS[form], rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = sink.add_stream("aac", rate=44_100, layout="mono")
        for number in range(25):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * number, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            sink.mux(video.encode(picture))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1764), np.int16), format="s16", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = 44_100, 1764 * number, Fraction(1, 44_100)
            sink.mux(sound.encode(samples))
        sink.mux([*video.encode(None), *sound.encode(None)])


seen = {}
for form in FORMATS:
    one = Path(sys.argv[1], f"one.{form}")
    recording(str(one), form)
    for copies in (1, 2, 3):
        joined = Path(sys.argv[1], f"joined.{form}")
        joined.write_bytes(one.read_bytes() * copies)
        with av.open(str(joined)) as source:
            seen[form, copies] = sum(1 for packet in source.demux(source.streams.video[0]) if packet.size)
print({f"{form} x {copies}": frames for (form, copies), frames in seen.items()})
assert [seen["mpegts", n] for n in (1, 2, 3)] == [25, 50, 75]
assert [seen["flv", n] for n in (1, 2, 3)] == [25, 25, 25]
assert [seen["matroska", n] for n in (1, 2, 3)] == [25, 50, 50]
PY
echo "as described"
