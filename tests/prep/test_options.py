import json
from dataclasses import replace
from pathlib import Path

from prep.options import PrepOptions, difference, fingerprint
from prep.sources.base import ClipRef

OPTIONS = PrepOptions(source="lrs2", name="lrs2", views=("box128",))
REFS = [ClipRef("a/1", "train", "a/1.mp4"), ClipRef("b/1", "train", "b/1.mp4")]


def test_equal_runs_have_equal_fingerprints() -> None:
    assert fingerprint(OPTIONS, REFS) == fingerprint(OPTIONS, list(REFS))
    assert difference(fingerprint(OPTIONS, REFS), fingerprint(OPTIONS, REFS)) == ""


def test_every_option_that_changes_is_named_with_both_values() -> None:
    old = fingerprint(OPTIONS, REFS)
    new = fingerprint(replace(OPTIONS, views=("box128", "face96"), quality=90), REFS)
    assert difference(old, new) == "quality was 95, is now 90; views was box128, is now box128,face96"


def test_another_list_of_clips_is_named() -> None:
    old = fingerprint(OPTIONS, REFS)
    assert difference(old, fingerprint(OPTIONS, REFS[:1])) == "clips was 2, is now 1"
    renamed = [REFS[0], replace(REFS[1], source="b/2.mp4")]
    assert difference(old, fingerprint(OPTIONS, renamed)) == "the list of clips is another"


def test_another_version_is_named() -> None:
    old = fingerprint(OPTIONS, REFS)
    new = {**old, "versions": {**old["versions"], "numpy": "1.20.0"}}
    assert difference(old, new) == f"numpy was {old['versions']['numpy']}, is now 1.20.0"


def test_a_data_set_of_an_earlier_schema_is_named_as_such() -> None:
    manifest = json.loads(
        (Path(__file__).parents[1] / "history" / "data" / "manifest.json").read_text("utf-8")
    )
    old, new = fingerprint(OPTIONS, REFS), fingerprint(OPTIONS, REFS)
    old = {key: value for key, value in old.items() if key in manifest["options"]} | {"schema_version": 1}
    assert "pixels" not in old and "audio_track" not in old
    assert difference(old, new) == (
        "detector was mediapipe, is now facemesh; "
        "schema_version was 1, is now 2, which mixes sound and decodes colours by other rules"
    )


def test_a_data_set_from_before_devices_was_made_on_the_cpu() -> None:
    old = {key: value for key, value in fingerprint(OPTIONS, REFS).items() if key != "device"}
    assert difference(old, fingerprint(OPTIONS, REFS)) == ""
    other = fingerprint(replace(OPTIONS, device="cuda"), REFS)
    assert difference(old, other) == "device was cpu, is now cuda"
