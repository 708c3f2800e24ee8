"""What a sample holds as one line of text that stays the same from version to version of the suite.

Checkpoints keep a digest of it, so that training goes on with the same samples only. Hence the names and fields that
the first version had are written as it wrote them, whatever they are called now.
"""

from __future__ import annotations

from dataclasses import fields

from prep.sample_spec import SampleSpec

#: Fields of the first version, in its order; they are always written. A later one is where it differs from its default.
_FIRST = (
    "window",
    "references",
    "reference_mode",
    "view",
    "view_frames",
    "landmarks",
    "normalise",
    "frame_mel",
    "window_mel",
    "window_mel_frame",
    "negative_gap",
    "min_frames",
)
#: (field, value) → what the first version called that value.
_CALLED = {
    ("normalise", "box"): "iplap",
    ("landmarks", "face131"): "iplap131",
    ("landmarks", "face131_pose"): "iplap_pose",
    ("landmarks", "face131_content"): "iplap_content",
}


def spec_text(spec: SampleSpec) -> str:
    """The request as text; two requests for the same samples have the same, two others do not."""
    later = [
        field.name
        for field in fields(spec)
        if field.name not in _FIRST and getattr(spec, field.name) != field.default
    ]
    shown = []
    for name in (*_FIRST, *later):
        value = getattr(spec, name)
        shown.append(f"{name}={_CALLED.get((name, value), value)!r}")
    return f"SampleSpec({', '.join(shown)})"
