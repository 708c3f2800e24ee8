"""FFHQ: the official layout with and without its metadata, and other trees of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prep.errors import PrepError
from prep.sources import ClipRef, ffhq
from prep.sources.ffhq import Ffhq
from tests.prep.trees import plant

METADATA = "ffhq-dataset-v2.json"


def entry(number: int, category: str = "training") -> dict[str, Any]:
    """One entry in the form of FFHQ's README, with landmarks that tell the image."""
    path = f"{number // 1000 * 1000:05d}/{number:05d}.png"
    points = [[float(number), round(i / 4, 2)] for i in range(68)]
    wild = [[-1.0, -1.0]] * 68
    return {
        "category": category,
        "metadata": {"photo_title": 'a "title" with } and \\ and é', "author": "x"},
        "image": {
            "file_path": f"images1024x1024/{path}",
            "pixel_size": [1024, 1024],
            "face_landmarks": points,
        },
        "thumbnail": {"file_path": f"thumbnails128x128/{path}"},
        "in_the_wild": {"file_path": f"in-the-wild-images/{path}", "face_landmarks": wild},
    }


def described(number: int, split: str, **others: Any) -> ClipRef:
    stem = f"{number // 1000 * 1000:05d}/{number:05d}"
    landmarks = tuple(value for i in range(68) for value in (float(number), i / 4))
    common: dict[str, Any] = {
        "source": f"images1024x1024/{stem}.png",
        "still": True,
        "height": 1024,
        "aligned": True,
        "landmarks68": landmarks,
    }
    return ClipRef(stem, split, **(common | others))


def test_official_with_metadata(tmp_path: Path) -> None:
    plant(
        tmp_path,
        "images1024x1024/00000/00000.png",
        "images1024x1024/60000/60001.png",
        "images1024x1024/LICENSE.txt",
    )
    # An image that the metadata does not name, and images of the other kinds.
    plant(tmp_path, "images1024x1024/00000/00007.png", "thumbnails128x128/00000/00000.png")
    table = {"0": entry(0), "3": entry(3), "60001": entry(60001, "validation")}
    (tmp_path / METADATA).write_text(json.dumps(table))
    missing = "images1024x1024/00000/00003.png"
    clips = [
        described(0, "train"),
        described(3, "train", problem=f"listed in {METADATA}, but {missing} is missing"),
        described(60001, "val"),
    ]
    assert Ffhq().list_clips(tmp_path) == clips
    assert Ffhq().list_clips(tmp_path, "val") == clips[2:]
    with pytest.raises(PrepError, match=r"no split 'test' in .*: there is train, val$"):
        Ffhq().list_clips(tmp_path, "test")


@pytest.mark.parametrize("inside", [False, True])
def test_official_without_metadata_splits_by_number(tmp_path: Path, inside: bool) -> None:
    base = "images1024x1024"
    plant(
        tmp_path / base, "00000/00000.png", "59000/59999.png", "60000/60000.png", "69000/69999.png", "0/x.png"
    )
    prefix = "" if inside else f"{base}/"
    assert Ffhq().list_clips(tmp_path / base if inside else tmp_path) == [
        ClipRef(stem, split, f"{prefix}{stem}.png", still=True, aligned=True)
        for stem, split in [
            ("00000/00000", "train"),
            ("59000/59999", "train"),
            ("60000/60000", "val"),
            ("69000/69999", "val"),
        ]
    ]


def test_images_without_their_thousands(tmp_path: Path) -> None:
    plant(tmp_path, "images1024x1024/00000.png")
    (tmp_path / METADATA).write_text(json.dumps({"0": entry(0)}))
    assert Ffhq().list_clips(tmp_path) == [described(0, "train", source="images1024x1024/00000.png")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged or cut short at its start: download it again"),
        ("[1, 2]", "is damaged or cut short at its start"),
        (json.dumps({"0": entry(0), "1": entry(1)})[:-900], "is damaged or cut short at entry '1'"),
        (json.dumps({"0": entry(0)})[:-1], "is damaged or cut short at entry '0'"),
        (json.dumps({"0": entry(0)}).replace(": [[", ": [[oops "), "is damaged or cut short at entry '0'"),
        (json.dumps({"0": {"category": "training"}}), "entry '0' is not in the form of FFHQ's metadata"),
        (json.dumps({"5": entry(5, "testing")}), "entry '5' is not in the form"),
        (json.dumps({"5": entry(5) | {"image": {"file_path": "x.png"}}}), "entry '5' is not in the form"),
    ],
)
def test_damaged_metadata_is_named(tmp_path: Path, content: str, message: str) -> None:
    plant(tmp_path, "images1024x1024/00000/00000.png")
    (tmp_path / METADATA).write_text(content)
    with pytest.raises(PrepError, match=METADATA) as caught:
        Ffhq().list_clips(tmp_path)
    assert message in str(caught.value)


@settings(deadline=None)  # a busy machine says nothing of the reader
@given(
    table=st.dictionaries(
        st.text(), st.dictionaries(st.text(), st.lists(st.floats(allow_nan=False) | st.text()))
    ),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    chunk=st.integers(1, 9),
)
def test_streamed_json_equals_json(
    tmp_path_factory: pytest.TempPathFactory,
    table: dict[str, Any],
    indent: int | None,
    ascii_only: bool,
    chunk: int,
) -> None:
    path = tmp_path_factory.mktemp("json") / "table.json"
    text = json.dumps(table, indent=indent, ensure_ascii=ascii_only)
    path.write_bytes(text.encode("utf-8", "surrogatepass" if ascii_only else "replace"))
    expected = json.loads(path.read_text(encoding="utf-8"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ffhq, "_CHUNK", chunk)
        assert dict(ffhq._entries(path)) == expected


def test_coordinates_share_objects(tmp_path: Path) -> None:
    plant(tmp_path, "images1024x1024/00000/00000.png")
    (tmp_path / METADATA).write_text(json.dumps({"0": entry(0), "1": entry(1)}))
    first, second = (clip.landmarks68 or () for clip in Ffhq().list_clips(tmp_path))
    assert first[3] == 0.25 and first[3] is second[3]
    np.testing.assert_array_equal(np.reshape(second, (68, 2))[:, 1], np.arange(68) / 4)


def test_any_tree_of_images(tmp_path: Path) -> None:
    plant(tmp_path, "face 1.PNG", "deep/face2.jpeg", "face3.webp", "face3.bmp", "clip.mp4", ".x.png")
    clips = [
        ClipRef("deep/face2", "train", "deep/face2.jpeg", still=True),
        ClipRef("face 1", "train", "face 1.PNG", still=True),
        ClipRef("face3.bmp", "train", "face3.bmp", still=True),
        ClipRef("face3.webp", "train", "face3.webp", still=True),
    ]
    assert Ffhq().list_clips(tmp_path) == clips
    with pytest.raises(PrepError, match=r"no split 'val' in .*: there is train$"):
        Ffhq().list_clips(tmp_path, "val")
    (tmp_path / "test.txt").write_text("face 1\ngone.png\n")
    assert Ffhq().list_clips(tmp_path) == [
        ClipRef("face 1", "test", "face 1.PNG", still=True),
        ClipRef("gone.png", "test", "gone.png", problem="listed in test.txt, but there is no such file"),
    ]


def test_metadata_without_images(tmp_path: Path) -> None:
    (tmp_path / METADATA).write_text("{}")
    with pytest.raises(PrepError, match=r"holds ffhq-dataset-v2\.json, but no folder images1024x1024"):
        Ffhq().list_clips(tmp_path)
    (tmp_path / METADATA).unlink()
    (tmp_path / "images1024x1024").mkdir()
    with pytest.raises(PrepError, match=r"no image in .*: looked for 00000/00000\.png to 69000/69999\.png"):
        Ffhq().list_clips(tmp_path)
