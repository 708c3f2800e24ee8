"""Lip sync by an expert of this suite: offsets that are known, and the file that every figure is bound to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.cli.app import app
from bench.clips.inputs import from_folders, with_trivial
from bench.common.errors import BenchError, Unavailable, Unscorable
from bench.eval import EvalOptions, evaluate_inputs
from bench.metrics import get_spec
from bench.metrics.base import Batch, ClipInfo, Context, Metric, Pictures, Score
from bench.metrics.expert_file import find_expert, load_expert
from bench.metrics.lse_expert import LseExpert, distance_table, score_table
from bench.report.tables import build_table
from bench.results import Result
from bench.train.checkpoint import write_networks
from bench.train.config import RunConfig, load_config
from bench.train.run_options import SoundConfig
from bench.weights.digests import file_sha256
from bench.weights.store import WeightStore
from prep.sample_spec import Sound
from prep.video_writing import write_video

STORE = WeightStore({}, [])
N, SIDE = 60, 112
ROWS = ("ground_truth", "wrong_audio")


class HandMade(nn.Module):
    """Knows a bright frame from a dark one and a loud one from a quiet one, and calls them the same."""

    def __init__(self) -> None:
        super().__init__()
        self.there = nn.Parameter(torch.zeros(1))

    def lips(self, frames: Tensor) -> Tensor:
        assert frames.shape[1:] == (5, 3, 96, 96)
        return frames.mean(dim=(2, 3, 4))

    def see(self, lips: Tensor) -> Tensor:
        return _code(lips > 0.5)

    def hear(self, mels: Tensor) -> Tensor:
        assert mels.shape[1:] == (80, 16)
        return _code(mels.mean(dim=1)[:, [2, 5, 8, 12, 15]] > 0)


def _code(bright: Tensor) -> Tensor:
    return F.normalize(torch.cat([bright, ~bright], dim=1).float(), dim=1)


def pattern(n: int = N, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, n).astype(bool)


def film(bright: np.ndarray) -> np.ndarray:
    frames = np.full((len(bright), SIDE, SIDE, 3), 40, np.uint8)
    frames[bright] = 210
    return frames


def sound(loud: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(640 * len(loud))
    return (np.repeat(np.where(loud, 5000.0, 1.0), 640) * noise).clip(-32768, 32767).astype(np.int16)


def face(n: int = N) -> np.ndarray:
    """Landmarks of a face from (20, 10) to (80, 90)."""
    points = np.random.default_rng(9).uniform([20, 10], [80, 90], (478, 2))
    return np.tile(points.astype(np.float32), (n, 1, 1))


def make_run(folder: Path, seed: int = 0, width: float = 0.03, view: str = "face96") -> Path:
    """A run of sync-expert whose tiny expert has random weights."""
    torch.manual_seed(seed)
    words = [f"expert.width={width}", f"expert.view={view}"]
    config = load_config("sync-expert", "tiny", words, (), folder)
    network = config.method_config.expert.build()
    # Drawn weights alone give every picture the same embedding, nearly; statistics of normalisation spread them.
    seen = network.seen
    with torch.no_grad():
        for _ in range(5):
            network(torch.rand(8, 80, 16) * 8 - 4, torch.rand(8, 15, seen.height, seen.width))
    write_networks(folder, "expert", {"expert": network.state_dict()}, "drawn by a test")
    config.save(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "sync-expert")


@pytest.fixture
def metric(run: Path) -> LseExpert:
    return LseExpert(Context(STORE, sync_expert=find_expert(run)))


@pytest.fixture
def hand_made(metric: LseExpert) -> LseExpert:
    metric.expert = HandMade()
    return metric


def score(
    metric: Metric,
    frames: np.ndarray,
    audio: np.ndarray | None,
    landmarks: np.ndarray | None = None,
    sizes: tuple[int, ...] = (16,),
    pictures: dict[int, Pictures] | None = None,
    cut: int = 0,
) -> Score:
    """Feed frames in batches of these sizes, in turn; the last ``cut`` are announced but do not come."""
    n, height, width = frames.shape[:3]
    points = face(n) if landmarks is None else landmarks
    meter = metric.meter(ClipInfo("clip", n, width, height, "clip", audio, points))
    shared = {} if pictures is None else pictures
    start = step = 0
    while start < n - cut:
        stop = min(n - cut, start + sizes[step % len(sizes)])
        meter.update(Batch(start, shared.setdefault(start, Pictures(frames[start:stop])), None))
        start, step = stop, step + 1
    return meter.finish()


@pytest.mark.parametrize("late", [-7, -1, 0, 2, 11])
def test_a_known_offset_is_found(hand_made: LseExpert, late: int) -> None:
    """The picture comes ``late`` frames after the sound that belongs to it."""
    code = pattern(N + 40)
    frames, audio = film(code[20 - late : 20 - late + N]), sound(code[20 : 20 + N])
    found = score(hand_made, frames, audio)
    assert found.values["offset"] == late
    assert found.values["abs_offset"] == abs(late)
    assert found.values["d"] == pytest.approx(0, abs=1e-6)
    # Of five independent frames half agree by chance.
    assert 0.3 < found.values["c"] < 0.7
    middle = found.series["d"][2 : N - 2]
    assert np.nanmax(middle) < 1e-6
    assert np.isnan(middle).sum() == abs(late)
    assert np.isnan(found.series["d"][[0, 1, N - 2, N - 1]]).all()


def test_wrong_sound_is_told(hand_made: LseExpert) -> None:
    right = score(hand_made, film(pattern()), sound(pattern())).values
    wrong = score(hand_made, film(pattern()), sound(pattern(seed=8))).values
    assert wrong["d"] > right["d"] + 0.2
    assert wrong["c"] < right["c"] - 0.2


def plain_rule(lips: np.ndarray, sounds: np.ndarray) -> tuple[int, float, float]:
    """Offset, cosine and confidence by plain loops: shifts with sound beside at least half of the windows."""
    means = {}
    for shift in sorted(range(-15, 16), key=abs):
        heard = [i for i in range(len(lips)) if 0 <= i + shift < len(sounds)]
        if 2 * len(heard) >= len(lips):
            means[shift] = float(np.mean([lips[i] @ sounds[i + shift] for i in heard]))
    best = max(means, key=lambda shift: means[shift])
    return -best, means[best], means[best] - sorted(means.values())[(len(means) - 1) // 2]


def test_the_rule_is_that_of_plain_loops() -> None:
    """Whatever the number of windows."""
    for n in (1, 2, 9, 30, 31, 50):
        rng = np.random.default_rng(n)
        lips, sounds = (rng.uniform(0, 1, (n, 8)) for _ in range(2))
        lips[: n - n // 3] += 2 * sounds[n // 3 :]
        lips, sounds = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (lips, sounds))
        ours = score_table(distance_table(lips, sounds, np.ones(n, bool)), n + 4).values
        late, cosine, confidence = plain_rule(lips, sounds)
        assert ours["offset"] == late
        assert ours["d"] == pytest.approx(1 - cosine, abs=1e-6)
        assert ours["c"] == pytest.approx(confidence, abs=1e-6)


@pytest.mark.parametrize("sizes", [(1,), (7, 2, 31), (70,)])
def test_the_sizes_of_batches_do_not_matter(metric: LseExpert, sizes: tuple[int, ...]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (70, SIDE, SIDE, 3), np.uint8)
    one, other = (score(metric, frames, sound(pattern(70)), sizes=s) for s in ((16,), sizes))
    assert one.values == other.values
    for key in ("d", "c"):
        np.testing.assert_array_equal(one.series[key], other.series[key])


def test_it_sees_and_hears_what_the_expert_was_trained_on(metric: LseExpert) -> None:
    """Crops and chunks as a data set holds them, through the expert's own functions."""
    from baselines.sync_expert.embedding import embed_lips, embed_sounds
    from prep.sound.features import chunk
    from prep.sound.mel import melspectrogram
    from prep.views import VIEWS

    frames = np.random.default_rng(1).integers(0, 256, (40, SIDE, SIDE, 3), np.uint8)
    audio, view = sound(pattern(40)), VIEWS["face96"]
    matrices = view.transforms(face(40), np.ones(40, bool), SIDE, SIDE)
    crops = np.stack([view.crop(f, m) for f, m in zip(frames, matrices, strict=True)])
    mel = melspectrogram(audio)
    chunks = np.stack([chunk(mel, i, Sound("mel"), 80) for i in range(36)])
    late, cosine, confidence = plain_rule(
        embed_lips(metric.expert, torch.from_numpy(crops.transpose(0, 3, 1, 2))).numpy(),
        embed_sounds(metric.expert, torch.from_numpy(chunks)).numpy(),
    )
    found = score(metric, frames, audio).values
    assert found["offset"] == late
    assert found["d"] == pytest.approx(1 - cosine, abs=1e-6)
    assert found["c"] == pytest.approx(confidence, abs=1e-6)


def test_it_hears_with_the_padding_of_its_training(run: Path, metric: LseExpert) -> None:
    config = RunConfig.load(run)
    reflected = config.model_copy(update={"sound": SoundConfig(mel_padding="reflect")})
    reflected.save(run)
    other = LseExpert(Context(STORE, sync_expert=find_expert(run)))
    assert other.digests() == {**metric.digests(), "mel padding": "reflect"}
    loud = sound(np.ones(20, bool))
    mine, theirs = metric.hear(loud, 16), other.hear(loud, 16)
    assert not np.array_equal(mine[0], theirs[0]) and np.array_equal(mine[4:12], theirs[4:12])


def test_one_pass_serves_two_sounds_of_the_same_pictures(
    metric: LseExpert, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    see = metric.see
    monkeypatch.setattr(metric, "see", lambda crops: seen.append(len(crops)) or see(crops))
    frames, pictures = film(pattern()), {}
    first = score(metric, frames, sound(pattern()), pictures=pictures)
    assert sum(n - 4 for n in seen) == N - 4
    again = score(metric, frames, sound(pattern()), pictures=pictures)
    score(metric, frames, sound(pattern(seed=5)), pictures=pictures)
    assert sum(n - 4 for n in seen) == N - 4
    assert again.values == first.values


def test_where_the_truth_has_no_face_nothing_is_judged(hand_made: LseExpert) -> None:
    code, points = pattern(), face()
    points[20:24] = np.nan
    frames = film(code)
    frames[20:24] = 255 - frames[20:24]
    found = score(hand_made, frames, sound(code), points)
    assert found.values["d"] == pytest.approx(0, abs=1e-6)
    assert found.values["offset"] == 0
    assert found.notes == {"windows": N - 4 - 8}
    assert np.isnan(found.series["d"][18:26]).all()
    points[::5] = np.nan
    with pytest.raises(Unscorable, match="no 5 successive frames"):
        score(hand_made, frames, sound(code), points)


def test_the_shorter_of_picture_and_sound_counts(hand_made: LseExpert) -> None:
    code = pattern()
    whole = score(hand_made, film(code), sound(code))
    longer = score(hand_made, film(code), np.concatenate([sound(code), sound(code)]))
    assert longer.notes == whole.notes
    assert score(hand_made, film(code), sound(code)[: 640 * 40]).notes == {"windows": 36}
    assert score(hand_made, film(code), sound(code), cut=2).notes == {"windows": N - 6}
    with pytest.raises(Unscorable, match="no 5 successive frames"):
        score(hand_made, film(code), sound(code)[: 640 * 5 - 1])


def test_what_cannot_be_scored_says_why(metric: LseExpert) -> None:
    info = ClipInfo("c", N, SIDE, SIDE, "clip", sound(pattern()), face())
    for changes, reason in (
        ({"audio": None}, "no audio track"),
        ({"landmarks": None}, "no true video"),
        ({"landmarks": np.full((N, 478, 2), np.nan, np.float32)}, "no face in the truth"),
    ):
        with pytest.raises(Unscorable, match=reason):
            metric.meter(replace(info, **changes))


def test_no_expert_no_figure() -> None:
    with pytest.raises(Unavailable, match="no sync expert is named") as error:
        LseExpert(Context(STORE))
    assert "bench train sync-expert" in error.value.remedy and "--sync-expert" in error.value.remedy


def test_the_digest_is_that_of_the_best_weights(run: Path, metric: LseExpert) -> None:
    (file,) = run.glob("expert/checkpoints/*/expert.safetensors")
    assert metric.digests() == {"sync-expert": file_sha256(file)}


def test_what_is_no_such_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="is not a training run"):
        find_expert(tmp_path)
    other = tmp_path / "ipl"
    other.mkdir()
    load_config("ipl", "tiny", (), (), other).save(other)
    with pytest.raises(BenchError, match="is a run of ipl, not of sync-expert"):
        find_expert(other)
    mouth = make_run(tmp_path / "mouth", view="mouth416x320")
    with pytest.raises(BenchError, match=r"uses the view mouth416x320, lse\.expert uses face96"):
        find_expert(mouth)
    empty = tmp_path / "empty"
    empty.mkdir()
    load_config("sync-expert", "tiny", (), (), empty).save(empty)
    with pytest.raises(BenchError, match="no checkpoint of the expert"):
        find_expert(empty)


def test_an_expert_that_is_replaced_meanwhile_is_refused(run: Path) -> None:
    found = find_expert(run)
    make_run(run, seed=1)
    with pytest.raises(BenchError, match="was replaced meanwhile"):
        load_expert(found)


def test_its_names_are_not_those_of_the_official_network() -> None:
    expert, official = get_spec("lse.expert"), get_spec("lse.lrs")
    assert not {o.label for o in expert.outputs} & {o.label for o in official.outputs}
    assert not any("LSE" in o.label for o in expert.outputs)
    assert set(expert.parameters) == set(official.parameters) == set(get_spec("lse.tracked").parameters)


class _Faces:
    """A detector that knows where the face is."""

    def __init__(self, detector: str, device: str) -> None:
        pass

    def of_truth(self, frames) -> np.ndarray:
        return np.concatenate([face(1) for _ in frames])


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("bench.eval.engine.Faces", _Faces)
    for name in ("truth", "pred"):
        (tmp_path / name).mkdir()
        for i in range(2):
            code = pattern(40 + 5 * i, seed=i)
            frames = film(code) if name == "truth" else film(np.roll(code, 1))
            write_video(tmp_path / name / f"clip{i}.mp4", list(frames), samples=sound(code, seed=i))
    return tmp_path


def judged(videos: Path, out: str, run: Path | None) -> Result:
    inputs = from_folders({"mine": videos / "pred"}, videos / "truth")
    options = EvalOptions(("psnr.frame", "lse.expert"), regions=("full",), sync_expert=run)
    return evaluate_inputs(with_trivial(inputs, ROWS), videos / out, options, STORE)


def test_a_result_carries_the_digest(videos: Path, run: Path) -> None:
    result = judged(videos, "out", run)
    info = next(m for m in result.metrics if m.name == "lse.expert")
    assert info.weights == {"sync-expert": find_expert(run).sha256}
    for row in ("mine", *ROWS):
        figure = result.figure(row, "lse.expert.d", "full")
        assert figure is not None and figure.scored == 2 and 0 <= figure.value <= 1
    (block,) = build_table("default", [result]).blocks
    assert [c.label for c in block.columns] == [
        "PSNR",
        "expert distance",
        "expert confidence",
        "expert |offset|",
    ]
    assert any(f"sync-expert {info.weights['sync-expert'][:12]}" in note for note in block.notes)

    other = judged(videos, "other", make_run(videos / "another", seed=1))
    assert result.differences(other) == ["lse.expert: another specification or other weights"]
    with pytest.raises(BenchError, match="holds another evaluation"):
        judged(videos, "out", videos / "another")


def test_without_an_expert_it_is_not_available(videos: Path) -> None:
    result = judged(videos, "out", None)
    (missing,) = result.missing
    assert missing.metric == "lse.expert" and "--sync-expert" in missing.remedy
    table = build_table("default", [result])
    cells = [cell for row in table.blocks[0].rows for cell in row.cells[1:]]
    assert cells and all(cell.text == "n/a" and cell.footnotes for cell in cells)


def test_explain_shows_offset_distance_confidence_and_the_length_of_clips(
    videos: Path, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    words = [str(videos / "pred"), "--truth", str(videos / "truth"), "--sync-expert", str(run)]
    words += [
        "--weights-dir",
        str(videos / "none"),
        "--lengths",
        "25,900",
        "--workers",
        "1",
    ]
    assert not app(["explain", "lse", *words], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    for label in ("expert distance", "expert confidence", "expert offset", "expert |offset|"):
        found = [line.split() for line in lines if f" {label}  " in line and "lse.expert" in line]
        # Once over all variants, then at each length that shortens the clips.
        assert len(found) == 3, lines
        assert [line[-2] for line in found[1:]] == ["25", "all"]
        assert found[0][-1] == found[2][-1]
    assert any(line.startswith("n/a lse.lrs") for line in lines)
    assert any("The same 2 of 2 clips" in line for line in lines)
