#!/bin/bash
# libswresample's mix of stereo to mono is 3 dB louder in float than in int16.
#
# Software: PyAV 18.1.0 (its wheel carries FFmpeg 8, libswresample 6.3), numpy 1.26.4.
# Input: one sine, as mono and as two equal channels, int16, 48 kHz; and in the centre channel of 5.1.
# Expected: AudioResampler(format, "mono", 48000) gives the voice the same level whatever the format of the output.
# Seen: "s16" gives -15.3 dB for mono and for stereo; "flt" gives -15.3 dB for mono and -12.2 dB for stereo. In 5.1 the
#   same centre channel is 10.7 dB louder in "flt" than in "s16". Coefficients are normalised for integer output only.
# Why it matters: a mel spectrogram made from web video in float has another level than the one made from
#   `ffmpeg -ac 1`, which most training code of talking faces used.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==1.26.4
"$folder/venv/bin/python" - <<'PY'
from fractions import Fraction

import av
import numpy as np

tone = (8000 * np.sin(2 * np.pi * 220 * np.arange(48_000) / 48_000)).astype(np.int16)


def level(form: str, layout: str, channels: int, spoken: tuple[int, ...]) -> float:
    samples = np.zeros((48_000, channels), np.int16)
    samples[:, spoken] = tone[:, None]
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
    resampler = av.AudioResampler(form, "mono", 48_000)
    mixed = np.concatenate([part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))])
    scale = 32768 if form == "s16" else 1
    return float(20 * np.log10(np.sqrt(np.mean((mixed / scale) ** 2))))


seen = {}
for form in ("s16", "flt"):
    seen[form] = [level(form, "mono", 1, (0,)), level(form, "stereo", 2, (0, 1)), level(form, "5.1", 6, (2,))]
    print(form, "mono, stereo, 5.1 with a voice in the centre:", [round(value, 2) for value in seen[form]], "dB")
assert abs(seen["s16"][1] - seen["s16"][0]) < 0.1, "int16: stereo has another level than mono"
assert 2.9 < seen["flt"][1] - seen["flt"][0] < 3.1, "float: stereo is no longer 3 dB above mono"
assert 10 < seen["flt"][2] - seen["s16"][2] < 11.5, "5.1: float is no longer about 10.7 dB above int16"
PY
echo "as described"
