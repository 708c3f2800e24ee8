"""What a sample holds as one line of text that stays the same from version to version of the suite.

Checkpoints keep a digest of it, so that training goes on with the same samples only. Hence what the first version
could ask for is written as it wrote it, whatever it is called now.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from prep.sample_spec import SampleSpec, Sound

#: (field, value) → what the first version called that value.
_CALLED = {
    ("normalise", "box"): "iplap",
    ("landmarks", "face131"): "iplap131",
    ("landmarks", "face131_pose"): "iplap_pose",
    ("landmarks", "face131_content"): "iplap_content",
}
# The sounds that the first version had, as rules with a name; one a frame, and one a window.
_RULES = {
    Sound("mel"): "wav2lip",
    Sound("mel", offset=-1): "wav2lip-generator",
    Sound("mel", offset=-2): "iplap",
    Sound("mel", offset=-2, clamp=True): "iplap-inference",
}
#: Fields of the first version, in its order, and what they are called now. They are always written; a later field is
#: where it differs from its default.
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
    """The request as text; two requests for the same samples have the same, two others do not."""
    known: dict[str, Any] = {first: getattr(spec, now) for first, now in _FIRST.items()}
    later = [f.name for f in fields(spec) if f.name not in _FIRST.values()]
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
