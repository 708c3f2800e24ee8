"""The floor of the landmark detector: the row that shows it, and its share of other rows' figures."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from bench.cli.app import app
from bench.cli.console_explain import floor_line
from bench.clips.inputs import from_folders, with_trivial
from bench.clips.job import SHIFTED, TRIVIAL
from bench.eval import EvalOptions, evaluate_inputs
from bench.eval import explain as why
from bench.eval.by_detector import Floor, with_floor
from bench.eval.faces import Wanted
from bench.metrics import METRICS
from bench.report.formats import write
from bench.report.tables import build_table
from bench.results import Result
from bench.weights.store import WeightStore
from prep.video_writing import write_video
from tests.bench.eval.videos import drifting, write_lossless

HEIGHT, WIDTH, N = 48, 64, 6
LANDMARKS = ("lmd.lip_norm", "lmd.mean68", "lmd.chen_dlib")


class Brightest:
    """Stands in for the detector: a face whose first point is the brightest pixel, ``lag`` pixels behind where it goes.

    ``lag`` of 0 is a detector that follows every shift; 1 one that does not notice a shift by one pixel.
    """

    lag = 0.0
    face = np.random.default_rng(3).uniform(0, 16, (478, 3)).astype(np.float32)

    def __init__(self, detector: str, device: str) -> None:
        pass

    def _one(self, frame: np.ndarray) -> np.ndarray:
        y, x = np.unravel_index(frame.sum(axis=2).argmax(), frame.shape[:2])
        moved = np.array([x, y, 0], np.float32)
        return self.face + moved - np.float32(self.lag) * np.sign(moved - START)

    def of_truth(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        return np.stack([self._one(frame) for frame in frames])

    def of_predictions(self, wanted: Sequence[Wanted]) -> list[np.ndarray]:
        return [self.of_truth(one.frames) for one in wanted]


#: Where the bright pixel of the truth is, in every frame.
START = np.array([20, 12, 0], np.float32)


def lit(moved: int = 0) -> list[np.ndarray]:
    frames = [frame // 2 for frame in drifting(N, HEIGHT, WIDTH)]
    for frame in frames:
        frame[int(START[1]), int(START[0]) + moved] = 255
    return frames


@pytest.fixture(autouse=True)
def _faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.eval.engine.Faces", Brightest)
    monkeypatch.setattr(Brightest, "lag", 0.0)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A truth with sound, and a method whose face is 4 pixels to the right; without loss."""
    samples = np.random.default_rng(0).integers(-9999, 9999, 640 * N).astype(np.int16)
    for name, moved in (("truth", 0), ("mine", 4)):
        (tmp_path / name).mkdir()
        for clip in ("a", "b"):
            write_lossless(tmp_path / name / f"{clip}.mp4", lit(moved))
    write_video(tmp_path / "sound.mp4", lit(), samples=samples)
    return {name: tmp_path / name for name in ("truth", "mine")}


def scored(folders: dict[str, Path], metrics: Sequence[str], rows: Sequence[str] = TRIVIAL) -> Result:
    inputs = with_trivial(from_folders({"mine": folders["mine"]}, folders["truth"]), rows)
    out = folders["truth"].parent / "out"
    options = EvalOptions(tuple(metrics), regions=("full",))
    return evaluate_inputs(inputs, out, options, WeightStore({}, [out]), overwrite=True)


@pytest.mark.parametrize("lag", [0.0, 0.25, 1.0])
def test_the_row_is_what_the_detector_lacks_of_following_a_shift(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, lag: float
) -> None:
    monkeypatch.setattr(Brightest, "lag", lag)
    result = scored(folders, ["lmd.vico_l1", "lmd.chen_sum20"])
    moved = result.figure(SHIFTED, "lmd.vico_l1", "clip")
    assert moved is not None and (moved.scored, moved.asked) == (2, 2)
    assert moved.value == pytest.approx(lag, abs=1e-5)
    centred = result.figure(SHIFTED, "lmd.chen_sum20", "clip")
    assert centred is not None and centred.value == pytest.approx(0, abs=1e-3)


def test_only_metrics_of_detected_landmarks_are_scored_on_it(folders: dict[str, Path]) -> None:
    result = scored(folders, ["psnr.frame", "lmd.lip_norm"])
    assert [m.method for m in result.methods] == ["mine", *TRIVIAL]
    row = result.method(SHIFTED)
    assert row is not None and [f.output for f in row.figures] == ["lmd.lip_norm"]
    for other in set(TRIVIAL) - {SHIFTED}:
        found = result.method(other)
        assert found is not None and [f.output for f in found.figures] == ["psnr.frame", "lmd.lip_norm"]


def test_without_such_a_metric_there_is_no_such_row(folders: dict[str, Path]) -> None:
    result = scored(folders, ["psnr.frame"])
    assert SHIFTED not in [m.method for m in result.methods]
    assert {m.method for m in result.methods} == {"mine", *TRIVIAL} - {SHIFTED}


def test_a_table_has_a_dash_where_it_is_not_defined(folders: dict[str, Path]) -> None:
    result = scored(folders, ["psnr.frame", "lmd.lip_norm"])
    table = build_table("default", [result])
    (block,) = table.blocks
    (row,) = (row for row in block.rows if row.method == SHIFTED)
    assert [(cell.text, cell.footnotes) for cell in row.cells] == [("–", []), ("0.00000", [])]
    assert row.label == "Ground truth, shifted" and row.clips == "2"
    assert sum("shifted by one pixel" in note for note in block.notes) == 1
    for form in ("md", "latex", "csv", "html", "json"):
        assert "Ground truth, shifted" in write(table, form)
    # A table without a column for it does not show the row.
    without = result.model_copy(update={"metrics": result.metrics[:1]})
    (block,) = build_table("default", [without]).blocks
    assert SHIFTED not in [row.method for row in block.rows]
    assert not any("shifted by one pixel" in note for note in block.notes)


def test_which_metrics_detect_landmarks() -> None:
    from bench.metrics import get_spec

    found = {name for name in METRICS if get_spec(name).detects}
    assert found == {
        "lmd.chen_sum20", "lmd.chen_mean", "lmd.vico_l1", "lmd.mean68", "lmd.lip_norm", "landmark_error",
    }  # fmt: skip


def test_explain_adds_the_row_and_says_its_share(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Brightest, "lag", 0.5)
    done = CliRunner().invoke(
        app, ["explain", "lmd", f"mine={folders['mine']}", "--truth", str(folders["truth"])]
    )
    assert done.exit_code == 0, done.output
    # 4 pixels to the right, of which the detector misses a half; of a shift in both directions it misses a half twice.
    (line,) = (
        line for line in done.stdout.splitlines() if line.startswith("mine: the landmark detector alone")
    )
    assert "29% of LMD-L1 (0.500 of 1.750)" in line
    assert SHIFTED in done.stdout


def test_explain_of_pictures_has_no_floor(folders: dict[str, Path]) -> None:
    words = ["explain", "psnr", f"mine={folders['mine']}", "--truth", str(folders["truth"]), "--with-trivial"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "detector" not in done.stdout and SHIFTED not in done.stdout


def test_floors_are_of_the_clips_that_both_have(folders: dict[str, Path]) -> None:
    (folders["mine"] / "b.mp4").write_bytes(b"no video")
    shown = why.explain("lmd", {"mine": folders["mine"]}, truth=folders["truth"], device="cpu")
    found = {e.variant: e for e in shown.floors}
    assert {e.method for e in shown.floors} == {"mine"}
    assert (found["lmd.vico_l1"].clips, found["lmd.vico_l1"].value) == (1, pytest.approx(2))
    assert "lmd.chen_dlib" not in found
    # Centred mouths of a face that is only displaced have no distance, so there is no share of it.
    assert all(e.value > 0 for e in shown.floors)


def test_the_row_is_added_once_and_only_where_it_says_something(folders: dict[str, Path]) -> None:
    inputs = from_folders({"mine": folders["mine"]}, folders["truth"])

    def rows(*metrics: str, of=inputs) -> list[str]:
        return [c.method for c in with_floor(of, metrics, 0).jobs[0].candidates]

    assert rows("lmd.lip_norm") == ["mine", SHIFTED]
    assert rows("lmd.lip_norm", of=with_trivial(inputs)) == ["mine", *TRIVIAL]
    assert rows("psnr.frame", "lmd.chen_dlib") == ["mine"]
    assert rows("lmd.lip_norm", of=from_folders({"mine": folders["mine"]}, None)) == ["mine"]


def test_the_line_has_all_variants_and_no_row_that_is_the_truth() -> None:
    found = [
        Floor("lmd.lip_norm", "LipLMD", 5, "mine", 0.016, 0.0032, 12),
        Floor("lmd.mean68", "F-LMD", 3, "mine", 2.0, 0.5, 12),
    ]
    console = Console(width=400, file=io.StringIO())
    console.print(floor_line(found, "mine"))
    assert isinstance(console.file, io.StringIO)
    assert (
        "gives 20% of LipLMD (0.00320 of 0.01600), 25% of F-LMD (0.500 of 2.000)" in console.file.getvalue()
    )
    assert floor_line(found, "ground_truth") == ""
