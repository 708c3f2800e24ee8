"""Speaks sentences with espeak-ng, as a separate script, so that every clip gets a new synthesiser.

The library keeps state from one utterance to the next (the phase of its noise, its random numbers), so the same
sentence sounds different the second time. A new process a clip makes a clip's sound depend on nothing but its own
request. Run as ``python espeak.py``: a request as JSON on standard input, ``{"voice", "pitch", "rate", "seconds",
"gap", "sentences"}``; the answer on standard output is one line of JSON and then the samples, int16 little-endian.

The library is GPL-3.0 and comes with the package ``espeakng-loader``; it is loaded here, at run time, and nowhere else.
"""

from __future__ import annotations

import array
import ctypes
import json
import sys
from typing import Any

_RETRIEVAL = 1
_PHONEMES, _IPA, _DONT_EXIT = 0x1, 0x2, 0x8000
_RATE, _PITCH = 1, 3
_UTF8 = 1
_END, _PHONEME = 0, 7
#: What is left of the time must be worth another sentence, and then only so many are tried: the search would always
#: end with the same few shortest ones.
_SHORTEST, _TRIES = 0.7, 5


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Synthesiser:
    """One voice of espeak-ng.

    Args:
        voice: a name as espeak-ng knows it, ``en-us+f2``.
        pitch: 0 to 100.
        rate: words a minute.
    """

    def __init__(self, voice: str, pitch: int, rate: int) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        path = espeakng_loader.get_data_path().encode()
        self.sample_rate = self._library.espeak_Initialize(_RETRIEVAL, 0, path, _PHONEMES | _IPA | _DONT_EXIT)
        if self.sample_rate <= 0:
            raise RuntimeError("the synthesiser's data cannot be read")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise RuntimeError(f"no voice is named {voice}")
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        self._library.espeak_SetParameter(_RATE, rate, 0)

    def speak(self, text: str) -> tuple[array.array[int], list[tuple[str, int]]]:
        """The samples (int16) of one sentence, and its phonemes (IPA) with the samples at which they begin."""
        samples = array.array("h")
        phonemes: list[tuple[str, int]] = []

        def collect(wave: Any, count: int, events: Any) -> int:
            if wave and count > 0:
                samples.frombytes(ctypes.string_at(wave, 2 * count))
            at = 0
            while events[at].type != _END:
                if events[at].type == _PHONEME:
                    raw = bytes(events[at].id.string).split(b"\0")[0]
                    phonemes.append((raw.decode("utf-8", "ignore"), events[at].sample))
                at += 1
            return 0

        callback = _Callback(collect)
        self._library.espeak_SetSynthCallback(callback)
        data = text.encode()
        failed = self._library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _UTF8, None, None)
        if failed or self._library.espeak_Synchronize():
            raise RuntimeError("the synthesiser refused a sentence")
        return samples, phonemes


def answer(request: dict[str, Any]) -> tuple[dict[str, Any], array.array[int]]:
    """Speak sentences, in their order, as long as they fit into ``seconds``, with ``gap`` seconds between them.

    Returns:
        ``{"sample_rate", "spoken": [{"sentence", "start", "stop", "phonemes": [[name, sample], …]}]}``, all positions
        in samples from the beginning of the sound, and the sound.
    """
    voice = Synthesiser(request["voice"], request["pitch"], request["rate"])
    limit = int(request["seconds"] * voice.sample_rate)
    gap = int(request["gap"] * voice.sample_rate)
    sound = array.array("h")
    spoken: list[dict[str, Any]] = []
    tries = 0
    for sentence in request["sentences"]:
        start = len(sound) + (gap if spoken else 0)
        if spoken and (tries == _TRIES or limit - start < _SHORTEST * voice.sample_rate):
            break
        tries += bool(spoken)
        samples, phonemes = voice.speak(sentence)
        if start + len(samples) > limit:
            continue
        sound.extend([0] * (start - len(sound)))
        sound.extend(samples)
        spoken.append(
            {
                "sentence": sentence,
                "start": start,
                "stop": len(sound),
                "phonemes": [[name, start + at] for name, at in phonemes],
            }
        )
    return {"sample_rate": voice.sample_rate, "spoken": spoken}, sound


def main() -> None:
    """Answer one request."""
    try:
        header, sound = answer(json.load(sys.stdin))
    except (RuntimeError, OSError) as error:
        sys.exit(str(error))
    if sys.byteorder == "big":
        sound.byteswap()
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + sound.tobytes())


if __name__ == "__main__":
    main()
