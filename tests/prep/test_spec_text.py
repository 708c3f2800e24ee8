"""The text of a request: that of the first version, whatever has been renamed or added since."""

from __future__ import annotations

from dataclasses import dataclass

from prep.sample_spec import SampleSpec, Sound
from prep.spec_text import spec_text

DEFAULT = (
    "SampleSpec(window=5, references=0, reference_mode='random', view=None, view_frames=None, landmarks=None, "
    "normalise='frame', frame_mel=None, window_mel=None, window_mel_frame=0, negative_gap=0, min_frames=0)"
)


def test_it_is_as_the_first_version_wrote_it() -> None:
    assert spec_text(SampleSpec()) == DEFAULT
    asked = SampleSpec(view="face96", view_frames=(2,), references=3, reference_mode="run", min_frames=25)
    written = DEFAULT.replace("view=None, view_frames=None", "view='face96', view_frames=(2,)")
    written = written.replace("references=0", "references=3").replace("'random'", "'run'")
    assert spec_text(asked) == written.replace("min_frames=0", "min_frames=25")


def test_renamed_values_keep_their_first_names() -> None:
    asked = SampleSpec(landmarks="face131", normalise="box")
    assert "landmarks='iplap131', normalise='iplap'" in spec_text(asked)


def test_a_field_that_is_added_counts_only_where_it_is_used() -> None:
    @dataclass(frozen=True)
    class Later(SampleSpec):
        added: int = 1

    assert spec_text(Later()) == DEFAULT
    assert spec_text(Later(added=2)) == DEFAULT.replace("min_frames=0", "min_frames=0, added=2")


def test_sounds_are_called_by_their_first_names_or_as_they_are() -> None:
    plain, early = Sound("mel"), Sound("mel", offset=-2)
    asked = SampleSpec(frame_sounds=(early,), window_sounds=(plain,), window_sound_frame=2, negative_gap=1)
    written = DEFAULT.replace("frame_mel=None, window_mel=None", "frame_mel='iplap', window_mel='wav2lip'")
    written = written.replace("window_mel_frame=0, negative_gap=0", "window_mel_frame=2, negative_gap=1")
    assert spec_text(asked) == written
    for sounds in ((Sound("mel", offset=-3),), (plain, Sound("mfcc", 20))):
        written = DEFAULT.replace("min_frames=0", f"min_frames=0, frame_sounds={sounds!r}")
        assert spec_text(SampleSpec(frame_sounds=sounds)) == written
