"""Wrong uses of every command: one clear line that names what is wrong, an exit code that is not 0, no traceback."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from bench.cli import main
from prep.video_writing import write_video
from tests.prep.fakes import fake_dataset

DUB = "dub wav2lip --run badrun --video vids/a.mp4 --audio vids/a.mp4 --out o.mp4"
EVAL = "eval vids --truth vids --out r --metrics psnr"
TRAIN = "train ipl --data data --preset tiny --run r"
#: Command → what its one line says.
WRONG = {
    "prep lrs22 vids --out d": "did you mean lrs2?",
    "prep folder vids/a.mp4 --out d": "vids/a.mp4 is not a folder",
    "prep folder vids --out d --split tset": "no split 'tset' in vids: there is test",
    "prep folder vids --out d --holdout 200%": "write 10% or 0.1",
    "prep folder vids --out vids/a.mp4": "vids/a.mp4",
    "inspect afile": "afile",
    "inspect badset": "badset/manifest.json cannot be read",
    "inspect data --sheet /proc/x.png": "name another file with `bench inspect --sheet`",
    "toy afile": "afile is not a folder",
    f"{TRAIN} --set batch_size=4": "did you mean landmark.train.batch_size",
    f"{TRAIN} --set landmark.train.batch_size=x": "must be a valid integer",
    f"{TRAIN} --stage rendr": "did you mean render?",
    f"{TRAIN} --clips data": "the list of clips data cannot be read",
    "train ipl --data vids": "vids is not a prepared data set",
    "train ipl --run badrun --resume": "badrun/config.json is not the configuration of a training run",
    "train ipl --data data --preset tiny --run afile/x": "afile/x cannot be written",
    "offsets --data data --sync-expert vids --out o.csv": "is not a training run",
    "generate sync-expert --run badrun --data data --out g": "sync-expert generates no videos",
    "generate ipl --run badrun --data data --out afile": "name another place",
    "dub wav2lip --run badrun --video vids --audio vids/a.mp4 --out o.mp4": "vids is a folder",
    "dub wav2lip --run badrun --video text.mp4 --audio vids/a.mp4 --out o.mp4": "not a media file",
    "dub wav2lip --run badrun --video vids/a.mp4 --audio silent.mp4 --out o.mp4": "silent.mp4: no audio stream",
    "dub wav2lip --run badrun --video vids/a.mp4 --audio vids/a.mp4 --out afile/o.mp4": "afile is a file",
    f"{DUB} --audio-track 7": "no sound track 7",
    "external x --command 'cp {vid} {out}' --data data --out e": "unknown placeholder {vid}",
    "eval vids --truth empty --out r --metrics psnr": "empty",
    f"{EVAL} --region mouht": "did you mean mouth?",
    f"{EVAL} --device cuda:99": "use --device cpu",
    "eval vids --truth vids --out afile/r --metrics psnr": "afile/r",
    "report vids": "vids holds no result.json",
    "report --table iplap-table1 --out afile/t.md": "name a place where you can write",
    "explain psnrr vids --truth vids": "did you mean psnr?",
    "check vids": "vids holds no result.json",
    "reproduce iplap-table1 --data vids --out p": "vids is not a prepared data set",
    "derive nope --data data": "no method is called nope",
    "weights import alexnet text.mp4": "text.mp4 is not alexnet",
    "demo afile --method nope": "no method is called nope",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("wrong")
    for name in ("vids", "empty", "badrun", "badset"):
        (made / name).mkdir()
    frames = np.zeros((10, 64, 64, 3), np.uint8)
    write_video(made / "vids" / "a.mp4", frames, samples=np.zeros(6400, np.int16))
    write_video(made / "silent.mp4", frames)
    (made / "text.mp4").write_text("no video")
    (made / "afile").write_text("a file")
    (made / "badrun" / "config.json").write_text("{}")
    (made / "badset" / "manifest.json").write_text("[1")
    fake_dataset(made / "data", {"train": 3, "val": 2, "test": 2}, views=("box128", "face96"))
    return made


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_use_is_one_line_and_writes_nothing(
    words: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["bench", *shlex.split(words)])
    before = sorted(folder.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 1
    assert error.startswith("error: ") and len(error.splitlines()) == 1
    assert WRONG[words] in error
    assert sorted(folder.rglob("*")) == before
