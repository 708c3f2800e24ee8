#!/bin/bash
# Resemblyzer's embedding of a voice depends on how loud the recording is, although it normalises the volume.
#
# Software: Resemblyzer 0.1.4 with webrtcvad 2.0.10, librosa 0.11.0, torch 2.15.0, setuptools 80.9.0 (see
#   webrtcvad-without-pkg-resources.sh).
# Input: two artificial voices of 6 s, 16 kHz, peak 1 (RMS near -17 dBFS), and the same samples times 0.5, 0.25, 0.1 and
#   0.05; each through preprocess_wav, which is to normalise the volume, and embed_utterance.
# Expected: the same embedding for the same sound at another gain.
# Seen: the cosine to the embedding at full level is 0.89 and 0.87 at a gain of 0.5, and 0.73 to 0.78 from 0.25 on. The volume
#   is only ever raised, to -30 dBFS: what is louder keeps its level, and the mel spectrogram is not logarithmic.
# Why it matters: methods that take the speaker from this embedding (MakeItTalk, voice cloning) get another speaker from
#   a louder recording of the same one. Scale speech to -30 dBFS or below before it goes in.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet Resemblyzer==0.1.4 webrtcvad==2.0.10 librosa==0.11.0 torch==2.15.0 setuptools==80.9.0
"$folder/venv/bin/python" -W ignore - <<'PY'
import numpy as np
from resemblyzer import VoiceEncoder, preprocess_wav

RATE, SECONDS = 16_000, 6
GAINS = (0.5, 0.25, 0.1, 0.05)


def voice(pitch, formants):
    """Harmonics under moving formants, with pauses between syllables."""
    time = np.arange(RATE * SECONDS) / RATE
    hertz = pitch * (1 + 0.15 * np.sin(2 * np.pi * 0.7 * time))
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    moved = 1 + 0.25 * np.sin(2 * np.pi * 1.9 * time)
    sound = np.zeros_like(time)
    for k in range(1, 30):
        envelope = sum(np.exp(-(((k * hertz - centre * moved) / width) ** 2)) for centre, width in formants)
        sound += envelope * np.sin(k * phase) * (k * hertz < 7500)
    sound *= 0.55 + 0.45 * np.sin(2 * np.pi * 3.3 * time)
    return (sound / np.abs(sound).max()).astype(np.float32)


encoder = VoiceEncoder("cpu", verbose=False)
voices = {
    "low": voice(110, [(600, 150), (1100, 200), (2500, 300)]),
    "high": voice(210, [(800, 200), (1400, 250), (2900, 350)]),
}
for name, sound in voices.items():
    loud = encoder.embed_utterance(preprocess_wav(sound))
    again = encoder.embed_utterance(preprocess_wav(sound))
    cosines = [float(loud @ encoder.embed_utterance(preprocess_wav(sound * gain))) for gain in GAINS]
    print(name, "same gain", round(float(loud @ again), 4), dict(zip(GAINS, np.round(cosines, 3).tolist())))
    assert loud @ again > 0.9999
    assert cosines[0] < 0.92 and max(cosines[1:]) < 0.82, cosines
    # Below -30 dBFS the volume is raised to it, and the gain makes no difference.
    assert abs(cosines[2] - cosines[3]) < 1e-3, cosines
PY
