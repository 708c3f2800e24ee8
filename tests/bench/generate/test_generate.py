"""Videos over a data set: what is in them, what stands beside them, what goes wrong, and going on."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import bench.generate.over_data as module
from bench.cli.app import app
from bench.clips.inputs import from_dataset, with_trivial
from bench.clips.inputs.dataset import NO_SOURCE
from bench.clips.inputs.declared import GENERATION
from bench.clips.protocols import PAIRS, Cast, Pair, dubbing, load_pairs, reconstruction, transfer
from bench.common.errors import BenchError
from bench.common.lock import exclusive
from bench.common.methods import METHODS
from bench.eval import EvalOptions, evaluate_inputs
from bench.generate.fit import Fit
from bench.generate.over_data import generate
from bench.generate.pairing import GenerateOptions
from bench.generate.record import TalkerGeneration, read_generation
from bench.generate.talkers import Talkers, TalkerSource, load_talker
from bench.train.config import RunConfig
from bench.train.official import import_official
from bench.weights.store import WeightStore
from models.base import Drive
from prep.detectors import identity
from prep.errors import PrepError
from prep.pixels import Colour
from prep.shards import MANIFEST, write_json
from prep.sound.mel import melspectrogram
from prep.sound_reading import sound
from prep.video_reading import frames, probe
from prep.video_writing import write_video
from tests.bench.fake_method import Fake, box, make_run, number_of, numbered, register, run
from tests.bench.fake_metrics import NAMES
from tests.prep.fakes import fake_clip, write_fake_dataset

__all__ = ["run"]

LENGTHS = {"s0/a": 30, "s0/b": 22, "s1/c": 26, "s1/d": 12}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    clips = [
        fake_clip(name, n, split="test", undetected=(3,) if name == "s1/c" else ())
        for name, n in LENGTHS.items()
    ]
    write_fake_dataset(folder / "data", clips, clips_per_shard=2)
    for clip in clips:
        path = folder / "corpus" / clip.source
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, [numbered(i) for i in range(clip.n_frames)], samples=clip.audio)
    manifest = json.loads((folder / "data" / MANIFEST).read_text())
    write_json(folder / "data" / MANIFEST, {**manifest, "root": str(folder / "corpus")})
    return folder


@pytest.fixture
def data(prepared: Path) -> Path:
    return prepared / "data"


def make(
    run: Path, data: Path, out: Path, call: dict[str, Any] | None = None, **changes: Any
) -> TalkerGeneration:
    return generate("fake", run, data, out, GenerateOptions(**changes), **(call or {}))


def videos(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix()[:-4] for path in out.rglob("*.mp4"))


def test_every_clip_is_generated_with_its_own_sound(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = make(run, data, out)
    assert videos(out) == sorted(LENGTHS)
    assert (done.clips, done.made, done.failures, done.frames) == (4, 4, {}, sum(LENGTHS.values()))
    for name, n in LENGTHS.items():
        shown = list(frames(out / f"{name}.mp4"))
        assert [number_of(frame) for frame in shown] == list(range(n))
        truth = fake_clip(name, n)
        for t in range(n):
            x0, y0, x1, y1 = box(truth.transforms["box128"][t])
            inside = shown[t][(y0 + y1) // 2 + 4 : y1 - 4, x0 + 4 : x1 - 4]
            untouched = name == "s1/c" and t == 3
            assert abs(float(inside.mean()) - (90 if untouched else 165)) < 3
            assert abs(float(shown[t][y0 + 4 : (y0 + y1) // 2 - 4, x0 + 4 : x1 - 4].mean()) - 90) < 3
        heard = sound(out / f"{name}.mp4").samples
        assert abs(len(heard) - 640 * n) <= 1100
        assert truth.audio is not None
        assert np.corrcoef(heard[: 640 * n - 640], truth.audio[: 640 * n - 640])[0, 1] > 0.9


def test_videos_have_the_colours_of_their_sources(run: Path, prepared: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    colour = Colour("bt709", 1, 1)
    path = corpus / "s0/a.mp4"
    path.parent.mkdir(parents=True)
    frame = numbered(3)
    frame[20:60] = (200, 60, 40)
    write_video(path, [frame] * LENGTHS["s0/a"], colour=colour, crf=2)
    done = make(run, prepared / "data", tmp_path / "out", {"root": corpus}, limit=1, crf=2)
    assert done.made == 1 and probe(tmp_path / "out/s0/a.mp4").colour == colour
    assert np.abs(next(frames(tmp_path / "out/s0/a.mp4"))[30:50].astype(int) - (200, 60, 40)).max() <= 3


def test_generation_json_says_where_they_come_from(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = make(run, data, out, {"command": "bench generate …"})
    assert read_generation(out) == done
    assert done.complete and (done.method, done.protocol, done.seed) == ("fake", "reconstruction", None)
    weights = next(run.rglob("net.safetensors"))
    assert done.weights == {"net": sha256(weights.read_bytes()).hexdigest()}
    inputs = from_dataset({}, data)
    assert (done.data, done.split, done.manifest_sha256) == ("fake", "test", inputs.manifest_sha256)
    assert done.packages["torch"] and done.machine["cores"] and done.command == "bench generate …"
    assert load_pairs(out / PAIRS, LENGTHS) == reconstruction(LENGTHS)
    assert done.detector == identity("facemesh"), "what found the faces of the data set"
    scored = from_dataset({"ours": out}, data)
    assert scored.protocol == "reconstruction" and not scored.unmatched
    assert all(job.candidates[0].problem == "" for job in scored.jobs)


def test_dubbing_takes_the_sound_of_another_clip_and_its_length(
    run: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = make(run, data, out, protocol="dubbing", seed=5)
    pairs = load_pairs(out / PAIRS, LENGTHS)
    assert pairs == dubbing(LENGTHS, 5) and (done.protocol, done.seed) == ("dubbing", 5)
    for pair in pairs:
        n, heard = LENGTHS[pair.video], LENGTHS[pair.audio]
        shown = [number_of(frame) for frame in frames(out / f"{pair.video}.mp4")]
        assert shown == Fit().order(n, heard).tolist()
        driving = fake_clip(pair.audio, heard).audio
        samples = sound(out / f"{pair.video}.mp4").samples
        assert driving is not None
        assert np.corrcoef(samples[: 640 * heard - 640], driving[: 640 * heard - 640])[0, 1] > 0.9
    scored = from_dataset({"ours": out}, data)
    assert scored.protocol == "dubbing" and scored.voices == {}
    other = tmp_path / "other"
    make(run, data, other)
    with pytest.raises(BenchError, match="ours was dubbed and theirs reconstructed: score them separately"):
        from_dataset({"ours": out, "theirs": other}, data)
    (other / GENERATION).write_text("{}")
    with pytest.raises(BenchError, match=r"generation\.json does not name the protocol"):
        from_dataset({"theirs": other}, data)


def test_transfer_gives_one_sound_to_several_and_draws_them(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cast = Cast("s0/b", ("s1/c", "s0/a"))
    done = make(run, data, out, protocol="transfer", cast=cast)
    assert (done.protocol, done.seed, done.driver, done.made) == ("dubbing", None, "s0/b", 2)
    assert videos(out) == ["s0/a", "s1/c"]
    assert load_pairs(out / PAIRS, LENGTHS) == [Pair("s1/c", "s1/c", "s0/b"), Pair("s0/a", "s0/a", "s0/b")]
    for name in ("s0/a", "s1/c"):
        assert probe(out / f"{name}.mp4").n_frames == LENGTHS["s0/b"]
    sheet = cv2.imread(str(out / "sheet.jpg"))
    across, row = 192 + 6, 20 + 192 + 6
    assert sheet.shape == (20 + 3 * row + 6, 9 * across + 6, 3)
    # Below the middle of the face: the driving clip and the targets are grey, what the fake method made its negative.
    grey = [
        [float(sheet[40 + r * row + 135, 6 + c * across + 96].mean()) for c in range(9)] for r in range(3)
    ]
    assert np.abs(np.array(grey[0][1:]) - 90).max() < 5 and grey[0][0] > 200
    assert max(abs(line[0] - 90) for line in grey[1:]) < 5
    generated = np.array(grey[1:])[:, 1:]
    # One frame of s1/c shows no face, and passes as it is.
    assert ((abs(generated - 165) < 5) | (abs(generated - 90) < 5)).all() and (generated > 150).sum() >= 15
    assert from_dataset({"ours": out}, data).protocol == "dubbing"


def test_a_transfer_goes_on_and_follows_from_the_seed(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    speakers = {clip: clip.split("/")[0] for clip in LENGTHS}
    done = make(run, data, out, protocol="transfer", seed=3)
    (pair,) = load_pairs(out / PAIRS, LENGTHS)
    assert [pair] == transfer(speakers, 3) and (done.seed, done.driver) == (3, pair.audio)
    drawn = (out / "sheet.jpg").read_bytes()
    (out / "sheet.jpg").unlink()
    again = make(run, data, out, protocol="transfer", seed=3)
    assert again.frames == 0 and (out / "sheet.jpg").read_bytes() == drawn
    with pytest.raises(BenchError, match=r"another generation \(other .*driver.*\): use another --out"):
        make(run, data, out, protocol="transfer", cast=Cast(driver=pair.video))
    (out / f"{pair.video}.mp4").write_bytes(b"no video")
    with pytest.raises(BenchError, match=r"sheet\.jpg cannot be drawn \(damaged.*\): make .*--overwrite"):
        make(run, data, out, protocol="transfer", seed=3)


def test_a_target_that_fails_has_no_row(run: Path, prepared: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    (corpus / "s0").mkdir(parents=True)
    for name in ("s0/a", "s0/b"):
        (corpus / f"{name}.mp4").write_bytes((prepared / "corpus" / f"{name}.mp4").read_bytes())
    cast = Cast("s0/b", ("s0/a", "s1/c"))
    done = make(
        run,
        prepared / "data",
        tmp_path / "out",
        {"root": corpus},
        protocol="transfer",
        cast=cast,
        fit=Fit("cut"),
    )
    assert done.failures == {"s1/c": NO_SOURCE}
    assert cv2.imread(str(tmp_path / "out" / "sheet.jpg")).shape[0] == 20 + 2 * (20 + 192 + 6) + 6
    with pytest.raises(BenchError, match=r"s1/d, the driving clip: the source video is missing.*--driver"):
        make(
            run, prepared / "data", tmp_path / "no", {"root": corpus}, protocol="transfer", cast=Cast("s1/d")
        )


def test_the_command_draws_a_transfer(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["generate", "fake", "--run", run, "--data", data, "--out", out, "--device", "cpu"]
    words += ["--protocol", "transfer", "--driver", "s0/b", "--target", "s1/d"]
    shown = CliRunner().invoke(app, list(map(str, words)))
    assert shown.exit_code == 0, shown.exception
    assert f"{out / 'sheet.jpg'}: driven by s0/b" in shown.stdout and videos(out) == ["s1/d"]


@pytest.mark.parametrize("protocol", ["reconstruction", "dubbing"])
def test_what_is_generated_is_scored(
    run: Path, data: Path, tmp_path: Path, protocol: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.metrics.METRICS", NAMES)
    make(run, data, tmp_path / "out", protocol=protocol)
    inputs = with_trivial(from_dataset({"ours": tmp_path / "out"}, data))
    names = ("fake.mean", "fake.loudness")
    scored = evaluate_inputs(
        inputs, tmp_path / "result", EvalOptions(names, regions=("full",)), WeightStore({}, [tmp_path])
    )
    figure = scored.figure("ours", "fake.loudness", "full")
    assert figure is not None and (figure.asked, figure.scored) == (4, 4)
    assert scored.protocol == protocol
    paired = scored.figure("ours", "fake.mean", "full")
    assert paired.scored == 4 if paired else protocol == "dubbing"


def test_flags_cut_and_pad(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(run, data, out, protocol="dubbing", fit=Fit("cut", "pad"))
    for name, n in LENGTHS.items():
        assert probe(out / f"{name}.mp4").n_frames == n


def test_a_list_of_pairs_is_taken_in_place_of_the_rule(run: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("s0/b s1/d\ns1/d s0/b\n")
    out = tmp_path / "out"
    done = make(run, data, out, {"pairs": tmp_path / "list.txt"}, limit=1)
    assert videos(out) == ["0"] and done.protocol == "dubbing" and done.seed is None
    assert probe(out / "0.mp4").n_frames == LENGTHS["s0/b"]
    assert len(load_pairs(out / PAIRS, LENGTHS)) == 2


def test_what_is_there_is_kept_and_the_rest_is_made(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = make(run, data, out, limit=2)
    assert videos(out) == ["s0/a", "s0/b"] and first.clips == 2
    before = {name: (out / f"{name}.mp4").stat().st_mtime_ns for name in videos(out)}
    steps: list[tuple[int, int]] = []
    second = make(run, data, out, {"on_progress": lambda done, total: steps.append((done, total))})
    assert steps == [(i, 4) for i in (1, 2, 3, 4)]
    assert second.frames == LENGTHS["s1/c"] + LENGTHS["s1/d"] and second.made == 4
    assert before == {name: (out / f"{name}.mp4").stat().st_mtime_ns for name in before}


def test_an_interruption_leaves_whole_videos_and_says_so(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    whole = Fake.generate

    def stops(self: Fake, drive: Drive) -> Any:
        for index, frame in enumerate(whole(self, drive)):
            if drive.footage.n_frames == LENGTHS["s0/b"] and index == 9:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(Fake, "generate", stops)
    with pytest.raises(KeyboardInterrupt):
        make(run, data, out)
    assert videos(out) == ["s0/a"] and not read_generation(out).complete
    assert not list(out.rglob(".*.mp4*"))
    # A record from before detectors had names goes on, too.
    record = json.loads((out / GENERATION).read_text("utf-8"))
    assert record.pop("detector")["name"] == "facemesh"
    (out / GENERATION).write_text(json.dumps(record), "utf-8")
    monkeypatch.setattr(Fake, "generate", whole)
    assert make(run, data, out).made == 4 and read_generation(out).complete


def test_another_generation_is_not_mixed_in(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(run, data, out, limit=1)
    with pytest.raises(
        BenchError, match=r"another generation \(other pairs_sha256, protocol, seed\): use another"
    ):
        make(run, data, out, protocol="dubbing")
    make_run(run, weights=1)
    with pytest.raises(BenchError, match=r"\(other weights\).*--overwrite"):
        make(run, data, out)
    done = make(run, data, out, {"overwrite": True}, limit=2)
    assert (done.frames, done.made) == (LENGTHS["s0/a"] + LENGTHS["s0/b"], 2)
    (out / GENERATION).write_text('{"complete": true}')
    with pytest.raises(BenchError) as caught:
        make(run, data, out)
    name = out / GENERATION
    assert str(caught.value) == (
        f"{name} is not of `bench generate`, or damaged: use another --out, or --overwrite"
    )
    assert make(run, data, out, {"overwrite": True}, limit=1).made == 1
    (out / GENERATION).unlink()
    with pytest.raises(BenchError, match=r"holds videos without generation\.json"):
        make(run, data, out)


def test_a_folder_that_another_process_writes_is_refused(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (
        exclusive(out, "bench generate"),
        pytest.raises(BenchError, match="is being written by another `bench generate`: wait for it"),
    ):
        make(run, data, out)
    assert list(out.iterdir()) == []
    assert make(run, data, out, limit=1).made == 1


def test_a_clip_that_fails_is_recorded_and_the_rest_goes_on(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    audio = fake_clip("s0/b", LENGTHS["s0/b"]).audio
    assert audio is not None
    # What the fake method tells a sound by.
    loudest = round(float(melspectrogram(audio)[:16].max()) * 1000)
    run = make_run(tmp_path / "run", f"generate.fails_at={loudest}")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name in ("s0/a", "s0/b", "s1/d"):
        path = corpus / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((prepared / "corpus" / f"{name}.mp4").read_bytes())
    (corpus / "s1/d.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    done = make(run, prepared / "data", out, {"root": corpus})
    assert videos(out) == ["s0/a"] and (done.clips, done.made) == (4, 1)
    assert done.failures == {
        "s0/b": "RuntimeError: out of memory",
        "s1/c": NO_SOURCE,
        "s1/d": "video: damaged, or not a media file",
    }
    words = ["generate", "fake", "--run", run, "--data", prepared / "data", "--root", corpus, "--out", out]
    shown = CliRunner().invoke(app, list(map(str, words)))
    assert shown.exit_code == 3
    assert "1 of 4 videos" in shown.stdout.replace("\n", " ")
    assert "missing: 1 of 4 (s0/b, for one): RuntimeError: out of memory" in shown.stderr
    assert CliRunner().invoke(app, [*map(str, words), "--allow-partial"]).exit_code == 0


def test_too_few_frames_are_a_failure(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    done = make(make_run(tmp_path / "run", "generate.fewer=2"), data, tmp_path / "out", limit=1)
    assert done.failures == {"s0/a": "ValueError: 28 frames were generated for 30"}
    assert videos(tmp_path / "out") == []


def test_options_of_generation_can_be_set_without_training_again(
    run: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = [
        "generate",
        "fake",
        "--run",
        run,
        "--data",
        data,
        "--out",
        out,
        "--limit",
        "1",
        "--device",
        "cpu",
    ]
    shown = CliRunner().invoke(app, [*map(str, words), "--set", "generate.bright=210"])
    assert shown.exit_code == 0, shown.exception
    assert "with generate.bright=210" in " ".join(shown.stdout.split())
    assert read_generation(out).changed == {"generate.bright": 210}
    x0, y0, x1, y1 = box(fake_clip("s0/a", LENGTHS["s0/a"]).transforms["box128"][0])
    frame = next(frames(out / "s0/a.mp4"))
    assert abs(float(frame[(y0 + y1) // 2 + 4 : y1 - 4, x0 + 4 : x1 - 4].mean()) - (210 - 90)) < 3
    with pytest.raises(BenchError, match=r"holds another generation \(other changed, config_sha256\)"):
        make(run, data, out, limit=1)
    # The value that the run has anyway changes nothing.
    plain = make(run, data, tmp_path / "plain", limit=1)
    assert make(
        run, data, tmp_path / "plain", limit=1, overrides=("generate.bright=255",)
    ) == plain.model_copy(update={"frames": 0, "seconds": ANY, "created": ANY})


def test_records_without_changed_options_stay_readable(run: Path, data: Path, tmp_path: Path) -> None:
    make(run, data, tmp_path / "out", limit=1)
    path = tmp_path / "out" / GENERATION
    stored = json.loads(path.read_text())
    del stored["changed"]
    path.write_text(json.dumps(stored))
    assert read_generation(tmp_path / "out").changed == {}
    assert make(run, data, tmp_path / "out", limit=1).made == 1


class FakeSource(TalkerSource):
    """Registers the method, which another process does not know."""

    def open(self) -> Talkers:
        METHODS.entries["fake"] = "tests.bench.fake_method:Fake"
        return super().open()


@pytest.mark.slow
def test_processes_make_the_same_videos(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(run, data, tmp_path / "one")
    monkeypatch.setattr(module, "TalkerSource", FakeSource)
    done = make(run, data, tmp_path / "two", {"workers": 2})
    assert done.made == 4 and videos(tmp_path / "two") == sorted(LENGTHS)
    for name in LENGTHS:
        assert (tmp_path / "one" / f"{name}.mp4").read_bytes() == (
            tmp_path / "two" / f"{name}.mp4"
        ).read_bytes()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--run", "nowhere"], "nowhere is not a training run"),
        (["--protocol", "dub"], "did you mean dubbing"),
        (["--split", "tets"], "did you mean test"),
        (["--device", "cuda:77"], "there is no device 'cuda:77' here"),
        (["--longer-audio", "loops"], "did you mean loop"),
        (["--driver", "s0/a"], "--driver, --target and --targets need --protocol transfer"),
        (
            ["--protocol", "transfer", "--pairs", "p.csv"],
            "p.csv and --protocol transfer both define the pairs",
        ),
        (["--protocol", "transfer", "--targets", "2"], "use --targets 1 at most"),
        (["--set", "generate.brigth=3"], "generate.brigth: no such key; did you mean generate.bright?"),
        (["--set", "bright=3"], "--set bright: no such key; did you mean generate.bright?"),
        (["--set", "generate.bright=word"], "generate.bright=word: must be a valid integer"),
        (["--set", "generate.bright=0"], "generate.bright=0: must be greater than or equal to 1"),
        (["--set", "generate.bright"], "--set generate.bright: write it as key=value"),
        (["--set", "train.steps=3"], "train.steps is an option of training, which the run has fixed"),
        (["--set", "runner.seed=3"], "runner.seed is an option of training, which the run has fixed"),
    ],
)
def test_mistakes_are_one_line(run: Path, data: Path, tmp_path: Path, words: list[str], match: str) -> None:
    call = [
        "generate",
        "fake",
        "--run",
        run,
        "--data",
        data,
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
        *words,
    ]
    done = CliRunner().invoke(app, list(map(str, call)))
    assert isinstance(done.exception, (BenchError, PrepError))
    assert match in str(done.exception) and "\n" not in str(done.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["/proc/videos", "file/videos"])
def test_a_place_that_cannot_be_written_fails_before_the_run_is_opened(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match=r"videos cannot be written"):
        generate("fake", tmp_path / "no run", tmp_path, tmp_path / out)


def test_data_that_were_decoded_as_opencv_does_are_generated_from_and_written_so(
    run: Path, prepared: Path, tmp_path: Path
) -> None:
    shutil.copytree(prepared / "data", tmp_path / "data")
    manifest = json.loads((tmp_path / "data" / MANIFEST).read_text())
    manifest["options"] = {"pixels": "opencv"}
    write_json(tmp_path / "data" / MANIFEST, manifest)
    path = tmp_path / "corpus/s0/a.mp4"
    path.parent.mkdir(parents=True)
    frame = numbered(3)
    frame[20:60] = (200, 60, 40)
    write_video(path, [frame] * LENGTHS["s0/a"], colour=Colour("bt709", 1, 1), crf=2)
    out = tmp_path / "out"
    assert make(run, tmp_path / "data", out, {"root": tmp_path / "corpus"}, limit=1, crf=2).made == 1
    assert probe(out / "s0/a.mp4").colour.matrix == "bt601"
    seen, made = (
        next(frames(video, pixels="opencv"))[30:50].astype(int) for video in (path, out / "s0/a.mp4")
    )
    assert np.abs(seen - (200, 60, 40)).max() > 6 and np.abs(made - seen).max() <= 4


def test_a_run_of_another_method_is_refused(run: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="fake is a run of fake, not of ipl"):
        generate("ipl", run, data, tmp_path / "out")
    with pytest.raises(BenchError, match="did you mean fake"):
        generate("fke", run, data, tmp_path / "out")


# --- official weights


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    register(monkeypatch)
    (tmp_path / "official.toml").write_text("size = 3\n")
    return tmp_path / "official.toml"


def test_official_weights_become_a_run(preset: Path, data: Path, tmp_path: Path) -> None:
    state = {"their.weight": torch.arange(3.0)[None], "their.bias": torch.ones(1)}
    torch.save({"state_dict": state, "global_step": 7}, tmp_path / "net.pth")
    words = [
        "weights",
        "import",
        "fake",
        tmp_path / "net.pth",
        "--run",
        tmp_path / "theirs",
        "--preset",
        preset,
    ]
    shown = CliRunner().invoke(app, list(map(str, words)))
    assert shown.exit_code == 0, shown.exception
    assert "fake: net from" in shown.stdout and "bench dub fake --run" in shown.stdout
    loaded = load_talker(tmp_path / "theirs", "cpu", "fake")
    assert torch.equal(loaded.talker.networks["net"].weight, state["their.weight"])
    assert make(tmp_path / "theirs", data, tmp_path / "out", limit=1).made == 1
    with pytest.raises(BenchError, match="theirs is there already"):
        import_official("fake", [tmp_path / "net.pth"], tmp_path / "theirs", str(preset))


def test_official_weights_say_how_their_sound_was_prepared(preset: Path, tmp_path: Path) -> None:
    torch.save({"their.weight": torch.ones(1, 3), "their.bias": torch.ones(1)}, tmp_path / "net.pth")
    words = ["size=3", "sound.mel_padding=reflect"]
    import_official("fake", [tmp_path / "net.pth"], tmp_path / "a", str(preset), words)
    import_official("fake", [tmp_path / "net.pth"], tmp_path / "b", str(preset), words[:1])
    paddings = [RunConfig.load(tmp_path / name).sound.mel_padding for name in "ab"]
    assert paddings == ["reflect", "constant"]


def test_official_weights_that_do_not_fit_are_refused(preset: Path, tmp_path: Path) -> None:
    path, theirs = tmp_path / "net.pth", tmp_path / "theirs"

    def refused(match: str, *files: Path, size: int = 3) -> None:
        with pytest.raises(BenchError, match=match):
            import_official("fake", files or (path,), theirs, str(preset), [f"size={size}"])
        assert not theirs.exists()

    refused(r"net\.pth: no such file")
    torch.save({"a": torch.ones(1)}, path)
    refused(r"net\.pth: not a checkpoint of Fake: their\.weight is missing")
    torch.save({"their.weight": torch.ones(1, 3)}, path)
    refused(r"net\.pth: lacks bias")
    refused(r"net\.pth holds the net network, and so does .*net\.pth: give one", path, path)
    torch.save({"their.weight": torch.ones(1, 3), "their.bias": torch.ones(1)}, path)
    refused(r"weight has shape \(1, 3\), the network expects \(1, 4\)", size=4)
    path.write_bytes(b"nothing")
    refused(r"net\.pth is not a checkpoint that can be read safely")


def test_a_name_that_is_neither_is_refused(preset: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["weights", "import", "fkae", str(preset)])
    assert "unknown weights or method 'fkae': did you mean fake?" in str(done.exception)
