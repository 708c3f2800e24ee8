"""HDTF: the official lists, whole and odd, and folders of ready-made clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from prep.errors import PrepError
from prep.sources import ClipRef
from prep.sources.hdtf import Hdtf
from tests.prep.trees import plant


def lists(root: Path, subset: str, spans: str, crops: str, heights: str) -> Path:
    """Write the three lists, with the line ends that ``spans`` has."""
    root.mkdir(parents=True, exist_ok=True)
    for kind, content in (("annotion_time", spans), ("crop_wh", crops), ("resolution", heights)):
        (root / f"{subset}_{kind}.txt").write_bytes(content.encode())
    return root


def radio(root: Path) -> Path:
    return lists(
        root,
        "RD",
        "Radio11.mp4 00:30-01:00 01:30-02:30\n",
        "Radio11_0.mp4 412 599 0 599\nRadio11_1.mp4 557 478 0 478\n",
        "Radio11.mp4 720\n",
    )


def radio_clips(source: str) -> list[ClipRef]:
    def clip(index: int, start: float, stop: float, crop: tuple[int, int, int, int]) -> ClipRef:
        return ClipRef(
            f"RD_Radio11_{index:03d}", "test", source, "Radio11", start, stop, crop=crop, size=512, height=720
        )

    return [clip(0, 30.0, 60.0, (412, 0, 599, 599)), clip(1, 90.0, 150.0, (557, 0, 478, 478))]


@pytest.mark.parametrize("where", ["", "HDTF_dataset"])
@pytest.mark.parametrize(
    "video", ["Radio11.mp4", "RD_Radio11.mp4", "_videos_raw/RD_Radio11.mp4", "videos/rd/Radio11.MKV"]
)
def test_raw_videos_are_cut_and_cropped(tmp_path: Path, where: str, video: str) -> None:
    radio(plant(tmp_path, video) / where)
    assert Hdtf().list_clips(tmp_path) == radio_clips(video)


def test_the_prefixed_name_comes_first(tmp_path: Path) -> None:
    radio(plant(tmp_path, "Radio11.mp4", "videos/RD_Radio11.mp4", "z/RD_Radio11.mp4"))
    assert Hdtf().list_clips(tmp_path) == radio_clips("videos/RD_Radio11.mp4")


def test_a_missing_video(tmp_path: Path) -> None:
    problem = "neither RD_Radio11.mp4 nor Radio11.mp4 is there"
    assert Hdtf().list_clips(radio(tmp_path)) == [
        ClipRef("RD_Radio11_000", "test", "RD_Radio11.mp4", "Radio11", problem=problem),
        ClipRef("RD_Radio11_001", "test", "RD_Radio11.mp4", "Radio11", problem=problem),
    ]


def test_a_ready_made_clip_stands_in_for_a_missing_video(tmp_path: Path) -> None:
    plant(radio(tmp_path), "RD_Radio11_000.mp4", "clips/Radio11_1.mp4")
    assert Hdtf().list_clips(tmp_path) == [
        ClipRef("RD_Radio11_000", "test", "RD_Radio11_000.mp4", "Radio11"),
        ClipRef("RD_Radio11_001", "test", "clips/Radio11_1.mp4", "Radio11"),
    ]


# Lines in the form of the official lists, where a space at the end, a missing crop, a crop larger than the
# listed resolution, and a resolution of 0 do occur.
@pytest.mark.parametrize(
    ("spans", "crops", "heights", "expected"),
    [
        (
            "X0.mp4 00:40-01:20 \r\n",
            "X0_0.mp4 397 513 0 513\r\n",
            "X0.mp4 720\r\n",
            (40.0, 80.0, (397, 0, 513, 513)),
        ),
        ("X0.mp4 00:10-00:20", "X0_0.mp4 9 720 0 720", "X0.mp4 720", (10.0, 20.0, (9, 0, 720, 720))),
        ("X0.mp4 59:58-1:00:01.5", "X0_0.mp4 1 2 3 2", "X0.mp4 714", (3598.0, 3601.5, (1, 3, 2, 2))),
        ("X0.mp4 00:10-00:20", "", "X0.mp4 720", "WRA_crop_wh.txt gives no crop for X0_0"),
        (
            "X0.mp4 00:10-00:20",
            "X0_0.mp4 178 872 0 872",
            "X0.mp4 720",
            "the crop of X0_0 ends at row 872, but WRA_resolution.txt says 720",
        ),
        (
            "X0.mp4 00:10-00:20",
            "X0_0.mp4 1 2 3 2",
            "X0.mp4 0",
            "WRA_resolution.txt says '0' for X0, so the scale of its crops is unknown",
        ),
        (
            "X0.mp4 00:10-00:20",
            "X0_0.mp4 1 2 3 2",
            "Y.mp4 720",
            "WRA_resolution.txt gives no height for X0, so the scale of its crops is unknown",
        ),
        (
            "X0.mp4 00:10-00:20",
            "X0_0.mp4 1 2 3",
            "X0.mp4 720",
            "WRA_crop_wh.txt says '1 2 3' for X0_0, which is not x width y height",
        ),
        (
            "X0.mp4 00:10-00:20",
            "X0_0.mp4 1 -2 3 2",
            "X0.mp4 720",
            "WRA_crop_wh.txt says '1 -2 3 2' for X0_0, which is not x width y height",
        ),
        (
            "X0.mp4 00:10-00:20",
            "X0_0.mp4 1 20 3 21",
            "X0.mp4 720",
            "WRA_crop_wh.txt gives X0_0 a crop of 20 x 21 pixels, which is not a square",
        ),
        (
            "X0.mp4 00:10_00:20",
            "X0_0.mp4 1 2 3 2",
            "X0.mp4 720",
            "WRA_annotion_time.txt says '00:10_00:20' for X0, which is not mm:ss-mm:ss",
        ),
        (
            "X0.mp4 00:20-00:20",
            "X0_0.mp4 1 2 3 2",
            "X0.mp4 720",
            "WRA_annotion_time.txt says 00:20-00:20 for X0, which is empty",
        ),
        ("X0.mp4", "X0_0.mp4 1 2 3 2", "X0.mp4 720", "WRA_annotion_time.txt gives no span for X0"),
    ],
)
def test_lines_whole_and_odd(
    tmp_path: Path, spans: str, crops: str, heights: str, expected: str | tuple[float, float, tuple[int, ...]]
) -> None:
    lists(plant(tmp_path, "WRA_X0.mp4"), "WRA", spans, crops, heights)
    (clip,) = Hdtf().list_clips(tmp_path)
    assert (clip.clip_id, clip.split, clip.source, clip.speaker) == ("WRA_X0_000", "test", "WRA_X0.mp4", "X")
    if isinstance(expected, str):
        assert clip.problem == expected
    else:
        assert (clip.start, clip.stop, clip.crop, clip.size) == (*expected, 512)
        assert (clip.height, clip.problem) == (int(heights.split()[1]), "")


def test_one_odd_span_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    lists(
        plant(tmp_path, "X.mp4"),
        "WDA",
        "X.mp4 00:01-00:02 oops 00:03-00:04\n",
        "X_0.mp4 1 2 3 2\nX_1.mp4 1 2 3 2\nX_2.mp4 1 2 3 2\n",
        "X.mp4 720\n",
    )
    clips = Hdtf().list_clips(tmp_path)
    assert [(clip.clip_id, clip.start, bool(clip.problem)) for clip in clips] == [
        ("WDA_X_000", 1.0, False),
        ("WDA_X_001", 0.0, True),
        ("WDA_X_002", 3.0, False),
    ]


def test_lists_that_are_incomplete(tmp_path: Path) -> None:
    (tmp_path / "RD_annotion_time.txt").write_text("Radio11.mp4 00:30-01:00\n")
    with pytest.raises(PrepError, match=r"cannot read the list .*RD_crop_wh\.txt: No such file"):
        Hdtf().list_clips(tmp_path)
    radio(tmp_path)
    (tmp_path / "RD_annotion_time.txt").write_text("Radio11.mp4 00:30-01:00\nRadio11.mp4 02:00-03:00\n")
    with pytest.raises(PrepError, match=r"RD_annotion_time\.txt has two lines for Radio11\.mp4"):
        Hdtf().list_clips(tmp_path)


def test_ready_made_clips(tmp_path: Path) -> None:
    plant(tmp_path, "RD_Radio11_000.mp4", "WDA_KatieHill_000.mp4", "more/WRA_AdamKinzinger2_010.mp4")
    plant(tmp_path, "_videos_raw/WDA_KatieHill.mp4", "Obama.mp4")
    clips = Hdtf().list_clips(tmp_path)
    assert clips[1:] == [
        ClipRef("RD_Radio11_000", "test", "RD_Radio11_000.mp4", "Radio11"),
        ClipRef("WDA_KatieHill_000", "test", "WDA_KatieHill_000.mp4", "KatieHill"),
        ClipRef("more/WRA_AdamKinzinger2_010", "test", "more/WRA_AdamKinzinger2_010.mp4", "AdamKinzinger"),
    ]
    assert clips[0].clip_id == "Obama" and clips[0].problem.startswith("not named as a clip is")


def test_raw_videos_without_lists_are_no_clips(tmp_path: Path) -> None:
    plant(tmp_path, "Radio11.mp4", "WDA_KatieHill.mp4")
    with pytest.raises(PrepError, match=r"is not HDTF: it holds neither RD_annotion_time\.txt .* nor clips"):
        Hdtf().list_clips(tmp_path)


def test_split_lists_name_clips_or_whole_videos(tmp_path: Path) -> None:
    radio(plant(tmp_path, "Radio11.mp4", "X.mp4"))
    lists(tmp_path, "WRA", "X.mp4 00:01-00:02 00:03-00:04", "X_0.mp4 1 2 3 2\nX_1.mp4 1 2 3 2", "X.mp4 720")
    (tmp_path / "train.txt").write_text("RD_Radio11\nWRA_Nobody_000\n")
    (tmp_path / "test.txt").write_text("WRA_X_001.mp4\n")
    clips = Hdtf().list_clips(tmp_path)
    assert [(clip.clip_id, clip.split, clip.problem) for clip in clips] == [
        ("RD_Radio11_000", "train", ""),
        ("RD_Radio11_001", "train", ""),
        ("WRA_Nobody_000", "train", "listed in train.txt, but there is no such file"),
        ("WRA_X_001", "test", ""),
    ]
    assert Hdtf().list_clips(tmp_path, "test") == clips[3:]
    with pytest.raises(PrepError, match=r"no split 'val' in .*: there is train, test$"):
        Hdtf().list_clips(tmp_path, "val")
