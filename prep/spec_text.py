"""The content of a sample as one line of text, the same in every version of the suite.

Checkpoints contain a digest of it, so that training is resumed with the same samples only. So the fields of the first
version are written with the names of that version, whatever their names are now.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from prep.sample_spec import SampleSpec, Sound

#: (field, value) → name of that value in the first version.
_CALLED = {
    ("normalise", "box"): "iplap",
    ("landmarks", "face131"): "iplap131",
    ("landmarks", "face131_pose"): "iplap_pose",
    ("landmarks", "face131_content"): "iplap_content",
}
# The sounds of the first version, which were named rules; one for a frame, and one for a window.
_RULES = {
    Sound("mel"): "wav2lip",
    Sound("mel", offset=-1): "wav2lip-generator",
    Sound("mel", offset=-2): "iplap",
    Sound("mel", offset=-2, clamp=True): "iplap-inference",
}
#: Fields that change how a picture is delivered and not which one: methods once scaled pictures themselves.
_APPEARANCE = {"size"}
#: Fields of the first version, in its order, and their current names. They are always written; a later field is
#: written #: only if it differs from its default.
_FIRST = {
    "window": "window",
    "references": "references",
    "reference_mode": "reference_mode",
    "view": "view",
    "view_frames": "view_frames",
    "landmarks": "landmarks",
    "normalise": "normalise",
    "frame_mel": "frame_sounds",
    "window_mel": "window_sounds",
    "window_mel_frame": "window_sound_frame",
    "negative_gap": "negative_gap",
    "min_frames": "min_frames",
}


def spec_text(spec: SampleSpec) -> str:
    """A spec as text; two specs have the same text if and only if they choose the same windows, and the same of
    them."""
    known: dict[str, Any] = {first: getattr(spec, now) for first, now in _FIRST.items()}
    later = [f.name for f in fields(spec) if f.name not in _FIRST.values() and f.name not in _APPEARANCE]
    for first in ("frame_mel", "window_mel"):
        sounds = known[first]
        known[first] = _RULES.get(sounds[0]) if len(sounds) == 1 else None
        if sounds and known[first] is None:
            later.append(_FIRST[first])
    default = type(spec)()
    shown = [f"{name}={_CALLED.get((name, value), value)!r}" for name, value in known.items()]
    shown += [
        f"{name}={getattr(spec, name)!r}" for name in later if getattr(spec, name) != getattr(default, name)
    ]
    return f"SampleSpec({', '.join(shown)})"
