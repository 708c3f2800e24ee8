"""LRS2 and LRS3: their layouts, their lists, and their text files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prep.errors import PrepError
from prep.sources import ClipRef
from prep.sources.lrs2 import Lrs2
from prep.sources.lrs3 import Lrs3
from prep.sources.lrs_text import Word, parse_lrs_text, read_lrs_text
from tests.prep.trees import plant

A, B = "5535415699068794046", "6330311066473698535"


def lrs2(root: Path, base: str, lists: str) -> Path:
    for stem in (f"main/{A}/00001", f"main/{A}/00002", f"main/{B}/00011", f"pretrain/{A}/00001"):
        plant(root, f"{base}{stem}.mp4", f"{base}{stem}.txt")
    plant(root, f"{base}main/{B}/00018.mp4", f"{base}main/{B}/00099.mp4")
    (root / lists / "train.txt").write_bytes(f"{A}/00002\r\n{A}/00001\r\n\r\n{A}/00001\r\n".encode())
    (root / lists / "test.txt").write_text(f"{B}/00011 NF\n{B}/00018 MV\n{B}/00022 NF\nabsent/00001 MV\n")
    (root / lists / "pretrain.txt").write_text(f"{A}/00001\n")
    return root


def ref(
    base: str, clip: str, split: str, speaker: str, folder: str = "main", text: bool = True, problem: str = ""
):
    stem = f"{base}{folder}/{clip}"
    return ClipRef(
        clip_id=f"pretrain/{clip}" if folder == "pretrain" else clip,
        split=split,
        source=f"{stem}.mp4",
        speaker=speaker,
        text_file=f"{stem}.txt" if text else "",
        cuts="split" if folder == "pretrain" else "refuse",
        problem=problem,
    )


@pytest.mark.parametrize(("base", "lists"), [("mvlrs_v1/", "."), ("mvlrs_v1/", "mvlrs_v1"), ("", ".")])
def test_lrs2(tmp_path: Path, base: str, lists: str) -> None:
    lrs2(tmp_path, base, lists)
    gone = f"{base}main/{B}/00022.mp4"
    clips = [
        ref(base, f"{A}/00001", "train", A),
        ref(base, f"{A}/00002", "train", A),
        ref(base, f"{B}/00011", "test", B),
        ref(base, f"{B}/00018", "test", B, text=False),
        ref(base, f"{B}/00022", "test", B, text=False, problem=f"listed in test.txt, but {gone} is missing"),
        ref(
            base,
            "absent/00001",
            "test",
            "absent",
            text=False,
            problem=f"listed in test.txt, but {base}main/absent/00001.mp4 is missing",
        ),
        ref(base, f"{A}/00001", "pretrain", A, folder="pretrain"),
    ]
    assert Lrs2().list_clips(tmp_path) == clips
    assert Lrs2().list_clips(tmp_path, "test") == clips[2:6]
    assert Lrs2().list_clips(tmp_path, "pretrain") == clips[6:]


def test_lrs2_without_pretrain_folder(tmp_path: Path) -> None:
    plant(tmp_path, f"mvlrs_v1/main/{A}/00001.mp4")
    (tmp_path / "val.txt").write_text(f"{A}/00001\n")
    (tmp_path / "pretrain.txt").write_text(f"{B}/00001\n")
    assert [clip.split for clip in Lrs2().list_clips(tmp_path)] == ["val"]
    with pytest.raises(PrepError, match=r"pretrain\.txt is there, but the folder .*mvlrs_v1/pretrain is not"):
        Lrs2().list_clips(tmp_path, "pretrain")


def test_lrs2_refuses(tmp_path: Path) -> None:
    with pytest.raises(PrepError, match="is not LRS2: it holds neither mvlrs_v1/main/"):
        Lrs2().list_clips(plant(tmp_path, "videos/a.mp4"))
    plant(tmp_path, f"mvlrs_v1/main/{A}/00001.mp4")
    with pytest.raises(PrepError, match=r"no train\.txt or val\.txt or test\.txt in "):
        Lrs2().list_clips(tmp_path)
    (tmp_path / "train.txt").write_text(f"{A}/00001\n")
    with pytest.raises(PrepError, match=r"no test\.txt in "):
        Lrs2().list_clips(tmp_path, "test")
    with pytest.raises(PrepError, match=r"no split 'dev' in .*: there is train, val, test, pretrain$"):
        Lrs2().list_clips(tmp_path, "dev")
    (tmp_path / "test.txt").write_text(f"{A}/00001 NF\n")
    with pytest.raises(PrepError, match=rf"^{A}/00001 is in .*train\.txt and in .*test\.txt"):
        Lrs2().list_clips(tmp_path)


def lrs3(root: Path) -> Path:
    plant(root, "trainval/0Fi83BHQsMA/50001.mp4", "trainval/0Fi83BHQsMA/50001.txt")
    plant(root, "trainval/0Fi83BHQsMA/50002.mp4", "trainval/0Fi83BHQsMA/._50002.mp4", "trainval/list.txt")
    return plant(
        root, "pretrain/0Fi83BHQsMA/00001.mp4", "test/0af00UcTOSc/50001.mp4", "test/0af00UcTOSc/50001.txt"
    )


def test_lrs3(tmp_path: Path) -> None:
    lrs3(tmp_path)
    assert Lrs3().list_clips(tmp_path) == [
        ClipRef("pretrain/0Fi83BHQsMA/00001", "pretrain", "pretrain/0Fi83BHQsMA/00001.mp4", "0Fi83BHQsMA"),
        ClipRef(
            "test/0af00UcTOSc/50001",
            "test",
            "test/0af00UcTOSc/50001.mp4",
            "0af00UcTOSc",
            text_file="test/0af00UcTOSc/50001.txt",
            cuts="refuse",
        ),
        ClipRef(
            "trainval/0Fi83BHQsMA/50001",
            "train",
            "trainval/0Fi83BHQsMA/50001.mp4",
            "0Fi83BHQsMA",
            text_file="trainval/0Fi83BHQsMA/50001.txt",
            cuts="refuse",
        ),
        ClipRef(
            "trainval/0Fi83BHQsMA/50002",
            "train",
            "trainval/0Fi83BHQsMA/50002.mp4",
            "0Fi83BHQsMA",
            cuts="refuse",
        ),
    ]
    with pytest.raises(PrepError, match=r"no split 'val' in .*: there is pretrain, train, test$"):
        Lrs3().list_clips(tmp_path, "val")


def test_lrs3_held_out_by_a_list(tmp_path: Path) -> None:
    lrs3(tmp_path)
    (tmp_path / "val.txt").write_bytes(
        b"0Fi83BHQsMA/50001\r\npretrain/0Fi83BHQsMA/00001\r\ntrainval/gone/50001\r\n"
    )
    splits = {clip.clip_id: clip.split for clip in Lrs3().list_clips(tmp_path)}
    assert splits == {
        "pretrain/0Fi83BHQsMA/00001": "val",
        "test/0af00UcTOSc/50001": "test",
        "trainval/0Fi83BHQsMA/50001": "val",
        "trainval/0Fi83BHQsMA/50002": "train",
        "trainval/gone/50001": "val",
    }
    gone = Lrs3().list_clips(tmp_path, "val")[-1]
    assert gone.problem == "listed in val.txt, but trainval/gone/50001.mp4 is missing"
    (tmp_path / "val.txt").write_text("test/0af00UcTOSc/50001\n")
    with pytest.raises(PrepError, match=r"val\.txt names test/0af00UcTOSc/50001, a test clip"):
        Lrs3().list_clips(tmp_path)


def test_lrs3_refuses_a_tree_without_clips(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    with pytest.raises(PrepError, match=r"no <youtube-id>/<n>\.mp4 in test/ of "):
        Lrs3().list_clips(tmp_path)


LRS2_TEXT = """Text:  WHEN YOU'RE COOKING CHIPS AT HOME
Conf:   4

WORD START END ASDSCORE
WHEN 0.00 0.32 9.1
YOU'RE 0.32 0.47 -2.5
"""

LRS3_TEXT = """Text:  SO: THIS IS IT
Conf:  3
Ref:   0af00UcTOSc

FRAME \tX \tY \tW \tH
000110 \t0.421 \t0.219 \t0.153 \t0.272
000111 \t0.422 \t0.220 \t0.153 \t0.272

WORD START END
SO: 0.10 0.25
FRAME 0.25 0.5
"""


def test_text_of_lrs2() -> None:
    text = parse_lrs_text(LRS2_TEXT)
    assert (text.text, text.confidence, text.ref) == ("WHEN YOU'RE COOKING CHIPS AT HOME", 4.0, "")
    assert text.words == (Word("WHEN", 0.0, 0.32, 9.1), Word("YOU'RE", 0.32, 0.47, -2.5))
    assert text.boxes.shape == (0, 5)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_text_of_lrs3(newline: str, tmp_path: Path) -> None:
    (tmp_path / "50001.txt").write_bytes(LRS3_TEXT.replace("\n", newline).encode())
    text = read_lrs_text(tmp_path / "50001.txt")
    assert (text.text, text.confidence, text.ref) == ("SO: THIS IS IT", 3.0, "0af00UcTOSc")
    expected = [[110, 0.421, 0.219, 0.153, 0.272], [111, 0.422, 0.220, 0.153, 0.272]]
    np.testing.assert_array_equal(text.boxes, expected)
    assert text.boxes.dtype == np.float64
    assert text.words == (Word("SO:", 0.1, 0.25), Word("FRAME", 0.25, 0.5))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff\xfe" * 100,
        b"Conf: high\nText\nWORD START END ASDSCORE\nA b c d\nB 1\nC nan 2\nD 1 2 3 4\n\n",
        b"FRAME X Y W H\n1 2 3\n1 2 3 4 inf\nx y z w h\n",
    ],
)
def test_odd_text_is_passed_over(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_bytes(content)
    text = read_lrs_text(tmp_path / "odd.txt")
    assert (text.text, text.confidence, text.ref, text.words, text.boxes.shape) == ("", None, "", (), (0, 5))


def test_odd_bytes_and_a_bom_leave_the_rest_readable(tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_bytes(b"\xef\xbb\xbfText:\tCAF\xe9  AU LAIT \r\nconf : 2\r\n")
    text = read_lrs_text(tmp_path / "odd.txt")
    assert (text.text, text.confidence) == ("CAF\ufffd AU LAIT", 2.0)


def test_lists_of_lrs_name_folders_whose_letters_are_composed_in_another_way(tmp_path: Path) -> None:
    name, disk = "Zo\u00eb", "Zoe\u0308"
    plant(
        tmp_path,
        f"main/{disk}/1.mp4",
        f"main/{disk}/1.txt",
        f"trainval/{disk}/2.mp4",
        f"trainval/{disk}/2.txt",
    )
    (tmp_path / "train.txt").write_text(f"{name}/1\n", "utf-8")
    (tmp_path / "val.txt").write_text(f"trainval/{name}/2\n", "utf-8")
    two = f"main/{disk}/1.mp4", f"main/{disk}/1.txt"
    assert Lrs2().list_clips(tmp_path, "train") == [
        ClipRef(f"{name}/1", "train", two[0], name, text_file=two[1], cuts="refuse")
    ]
    three = f"trainval/{disk}/2.mp4", f"trainval/{disk}/2.txt"
    assert Lrs3().list_clips(tmp_path) == [
        ClipRef(f"trainval/{name}/2", "val", three[0], name, text_file=three[1], cuts="refuse")
    ]
