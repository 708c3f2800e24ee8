"""The pipeline as a whole, on the embedded corpus: bytes, resuming, faults."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prep import shards
from prep.alone import try_alone
from prep.errors import PrepError
from prep.options import PrepOptions
from prep.pipeline import ShardPlan, make_shard, plan_shards, prepare, select
from prep.shard_tasks import PrepProgress
from prep.sources import get_source
from prep.sources.base import ClipRef
from tests.prep.broken import write_broken_files

OPTIONS = PrepOptions(source="lrs2", name="toy", views=("box128", "face96"), clips_per_shard=2)


def refs_of(root: Path, source: str = "lrs2", limit: int | None = None) -> list[ClipRef]:
    return select(list(get_source(source).list_clips(root)), limit)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="session")
def prepared(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "data"
    prepare(refs_of(toy_corpus), toy_corpus, out, OPTIONS, workers=2)
    return out


# --- planning


@given(
    st.lists(st.sampled_from(["train", "val", "test"]), min_size=1, max_size=700),
    st.none() | st.integers(1, 50),
)
def test_every_clip_is_in_exactly_one_shard(splits: list[str], size: int | None) -> None:
    refs = select([ClipRef(f"{i:04d}", split, f"{i}.mp4") for i, split in enumerate(splits)], None)
    plans = plan_shards(refs, size)
    assert sorted(r.clip_id for p in plans for r in p.refs) == [r.clip_id for r in refs]
    assert len({p.name for p in plans}) == len(plans)
    for plan in plans:
        assert {r.split for r in plan.refs} == {plan.split}
        assert [r.clip_id for r in plan.refs] == sorted(r.clip_id for r in plan.refs)
        assert len(plan.refs) <= (size or 256)


@pytest.mark.parametrize(("clips", "shards_expected"), [(3, 2), (40, 20), (1243, 63), (45839, 180)])
def test_shard_sizes_follow_the_number_of_clips(clips: int, shards_expected: int) -> None:
    refs = [ClipRef(f"{i:06d}", "train", f"{i}.mp4") for i in range(clips)]
    assert len(plan_shards(refs)) == shards_expected


def test_limit_is_per_split_and_in_order_of_ids() -> None:
    refs = [ClipRef(f"{i}", split, f"{i}.mp4") for i, split in enumerate(["b", "a", "b", "a", "b"])]
    assert [r.clip_id for r in select(refs[::-1], 2)] == ["0", "1", "2", "3"]


def test_two_clips_of_one_name_and_none_at_all_are_refused() -> None:
    ref = ClipRef("x", "train", "x.mp4")
    with pytest.raises(PrepError, match="two clips are called 'x'"):
        select([ref, replace(ref, split="test")], None)
    with pytest.raises(PrepError, match="no clips found"):
        select([], None)


# --- what is written


def test_every_clip_becomes_a_row_with_every_frame_detected(toy_corpus: Path, prepared: Path) -> None:
    clips = list(shards.read(prepared))
    assert sorted(c.clip_id for c in clips) == [r.clip_id for r in refs_of(toy_corpus)]
    for clip in clips:
        assert clip.detected.all()
        assert clip.dataset == "toy"
        assert clip.text
        assert (clip.width, clip.height) == (128, 128)
        assert clip.audio is not None and len(clip.audio) == 640 * clip.n_frames
        assert clip.mel is not None and clip.mel.shape == (clip.n_frames * 640 // 200 + 1, 80)
        assert abs(clip.av_difference) < 0.1
        assert set(clip.images) == {"box128", "face96"}
        assert all(image for images in clip.images.values() for image in images)


def test_the_manifest_counts_what_is_there(prepared: Path) -> None:
    manifest = shards.read_manifest(prepared)
    assert manifest["complete"]
    clips = list(shards.read(prepared, columns=[]))
    assert sum(s["clips"] for s in manifest["splits"].values()) == len(clips)
    assert sum(s["frames"] for s in manifest["splits"].values()) == sum(c.n_frames for c in clips)
    for entry in manifest["shards"]:
        assert shards.sha256(prepared / shards.SHARDS / entry["name"]) == entry["sha256"]


def test_one_worker_writes_the_same_bytes_as_two(toy_corpus: Path, prepared: Path, tmp_path: Path) -> None:
    prepare(refs_of(toy_corpus), toy_corpus, tmp_path / "data", OPTIONS, workers=1)
    assert contents(tmp_path / "data") == contents(prepared)


def test_a_complete_folder_is_left_alone(toy_corpus: Path, prepared: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (prepared / shards.SHARDS).iterdir()}
    prepare(refs_of(toy_corpus), toy_corpus, prepared, OPTIONS, workers=1)
    assert {p: p.stat().st_mtime_ns for p in (prepared / shards.SHARDS).iterdir()} == before


def test_progress_adds_up(toy_corpus: Path, tmp_path: Path) -> None:
    seen: list[PrepProgress] = []
    manifest = prepare(
        refs_of(toy_corpus, limit=2), toy_corpus, tmp_path, OPTIONS, workers=1, on_progress=seen.append
    )
    assert sum(p.shards for p in seen) == len(manifest["shards"])
    assert sum(p.clips for p in seen) == sum(s["clips"] for s in manifest["splits"].values())


# --- going on, refusing


def copy(folder: Path, to: Path) -> Path:
    for name, data in contents(folder).items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(data)
    return to


def test_a_lost_shard_and_a_stale_file_are_mended(toy_corpus: Path, prepared: Path, tmp_path: Path) -> None:
    out = copy(prepared, tmp_path / "data")
    next((out / shards.SHARDS).glob("*.parquet")).unlink()
    (out / shards.FAILURES).unlink()
    (out / shards.SHARDS / ".train-00000.parquet.0123.tmp").write_bytes(b"half")
    prepare(refs_of(toy_corpus), toy_corpus, out, OPTIONS, workers=1)
    assert contents(out) == contents(prepared)


def test_other_options_are_refused_and_named(toy_corpus: Path, prepared: Path) -> None:
    before = contents(prepared)
    with pytest.raises(PrepError, match="quality was 95, is now 80"):
        prepare(refs_of(toy_corpus), toy_corpus, prepared, replace(OPTIONS, quality=80))
    with pytest.raises(PrepError, match="clips was 8, is now"):
        prepare(refs_of(toy_corpus, limit=1), toy_corpus, prepared, OPTIONS)
    assert contents(prepared) == before


def test_a_folder_without_a_shard_is_free_for_other_options(toy_corpus: Path, tmp_path: Path) -> None:
    refs = refs_of(toy_corpus, limit=1)[:1]
    (tmp_path / shards.SHARDS).mkdir()
    shards.write_json(tmp_path / shards.MANIFEST, {"options": {"views": ["lower512"]}, "complete": False})
    assert prepare(refs, toy_corpus, tmp_path, OPTIONS, workers=1)["complete"]


def test_a_foreign_shard_is_refused(toy_corpus: Path, prepared: Path, tmp_path: Path) -> None:
    out = copy(prepared, tmp_path / "data")
    (out / shards.SHARDS / "train-00099.parquet").write_bytes(b"")
    with pytest.raises(PrepError, match=r"train-00099\.parquet is not a shard of this data set"):
        prepare(refs_of(toy_corpus), toy_corpus, out, OPTIONS)
    (out / shards.MANIFEST).unlink()
    with pytest.raises(PrepError, match=r"without a manifest\.json"):
        prepare(refs_of(toy_corpus), toy_corpus, out, OPTIONS)


def test_a_folder_in_use_is_refused(toy_corpus: Path, prepared: Path) -> None:
    import fcntl

    folder = os.open(prepared, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        with pytest.raises(PrepError, match="is being written by another"):
            prepare(refs_of(toy_corpus), toy_corpus, prepared, OPTIONS)
    finally:
        os.close(folder)


# --- faults

PREP = [sys.executable, "-m", "bench", "prep", "lrs2"]
FLAGS = ["--views", "box128,face96", "--clips-per-shard", "2", "--name", "toy"]


def kill_at_random(corpus: Path, out: Path, kills: int, longest: float, seed: int) -> int:
    """Start the command and SIGKILL it, again and again; returns how often it was still running."""
    rng = random.Random(seed)
    hit = 0
    for i in range(kills):
        command = [*PREP, str(corpus), "--out", str(out), *FLAGS, "--workers", str(1 + i % 2)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.1, longest))
        hit += process.poll() is None
        process.kill()
        process.wait()
    return hit


def test_killed_and_run_again_gives_the_same_bytes(toy_corpus: Path, prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    assert kill_at_random(toy_corpus, out, kills=2, longest=5, seed=3)
    prepare(refs_of(toy_corpus), toy_corpus, out, OPTIONS, workers=2)
    assert contents(out) == contents(prepared)


@pytest.mark.slow
def test_killed_twenty_times_gives_the_same_bytes(toy_corpus: Path, prepared: Path, tmp_path: Path) -> None:
    for attempt in range(4):
        out = tmp_path / str(attempt)
        kill_at_random(toy_corpus, out, kills=5, longest=8, seed=attempt)
        prepare(refs_of(toy_corpus), toy_corpus, out, OPTIONS, workers=1 + attempt % 2)
        assert contents(out) == contents(prepared)


def test_a_worker_killed_in_the_middle_of_a_shard_costs_no_clip(
    toy_corpus: Path, prepared: Path, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    killed: list[int] = []

    def kill_a_busy_worker() -> None:
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            half = [p for p in (out / shards.SHARDS).glob(".*.tmp") if p.stat().st_size > 0]
            for child in psutil.Process().children(recursive=True) if half else []:
                try:
                    if any(str(out) in f.path for f in child.open_files()):
                        child.kill()
                        killed.append(child.pid)
                        return
                except psutil.Error:
                    continue
            time.sleep(0.02)

    thread = threading.Thread(target=kill_a_busy_worker)
    thread.start()
    prepare(refs_of(toy_corpus), toy_corpus, out, OPTIONS, workers=2)
    thread.join()
    assert killed
    assert contents(out) == contents(prepared)


def test_a_clip_that_kills_its_worker_is_a_failure_row(
    toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder's crash, made by a start-up hook in every process below this one."""
    refs = refs_of(toy_corpus, limit=2)
    poison = refs[1].clip_id
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util, os, signal, sys\n"
        "class Hook:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name != 'prep.clip': return None\n"
        "        sys.meta_path.remove(self)\n"
        "        spec = importlib.util.find_spec(name)\n"
        "        execute = spec.loader.exec_module\n"
        "        def poisoned(module):\n"
        "            execute(module)\n"
        "            process = module.ClipProcessor.process\n"
        "            def die(self, ref):\n"
        f"                if ref.clip_id == {poison!r}: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "                return process(self, ref)\n"
        "            module.ClipProcessor.process = die\n"
        "        spec.loader.exec_module = poisoned\n"
        "        return spec\n"
        "sys.meta_path.insert(0, Hook())\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    manifest = prepare(refs, toy_corpus, tmp_path / "data", OPTIONS, workers=1)
    (failure,) = shards.read_failures(tmp_path / "data")
    assert (failure.clip_id, failure.step) == (poison, "crash")
    assert "SIGSEGV" in failure.reason
    assert sum(s["clips"] for s in manifest["splits"].values()) == len(refs) - 1


def test_a_process_that_dies_alone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nkill -ABRT $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    failure = try_alone(ClipRef("a", "test", "a.mp4"), tmp_path, OPTIONS)
    assert failure == shards.Failure("a", "test", "a.mp4", "crash", "the decoder crashed (SIGABRT)")


def test_broken_files_are_failure_rows_with_reasons(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    files = write_broken_files(root, seed=0)
    assert len(files) >= 200
    options = replace(OPTIONS, source="folder", name="folder", clips_per_shard=500)
    refs = refs_of(root, "folder")
    (plan,) = plan_shards(refs, 500)
    (tmp_path / "out" / shards.SHARDS).mkdir(parents=True)
    started = time.monotonic()
    info = make_shard(plan, root, tmp_path / "out", options, {})
    assert time.monotonic() - started < 300
    failures = shards.shard_failures(tmp_path / "out" / shards.SHARDS / info.name)
    # None of the files shows a face, so every listed one must have failed, each with a step and one line.
    assert info.clips == 0
    assert sorted(f.clip_id for f in failures) == sorted(r.clip_id for r in refs)
    for failure in failures:
        assert failure.step in {"source", "video", "audio", "landmarks"}
        assert failure.reason and "\n" not in failure.reason
        assert str(tmp_path) not in failure.reason
    assert len({f.reason for f in failures}) >= 8


def test_a_full_disk_is_one_clear_line_and_leaves_no_partial_file(toy_corpus: Path, tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(tmp_path)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        with pytest.raises(PrepError, match=r"the disk of .* is full: free some space"):
            prepare(refs_of(toy_corpus, limit=1), toy_corpus, tmp_path / "data", OPTIONS, workers=1)
        assert [p.name for p in (tmp_path / "data").rglob("*") if p.is_file()] == [shards.MANIFEST]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_an_output_that_cannot_be_made_is_one_clear_line(toy_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PrepError, match="file"):
        prepare(refs_of(toy_corpus, limit=1), toy_corpus, tmp_path / "file" / "data", OPTIONS)


def test_a_listed_problem_is_a_failure_row(tmp_path: Path) -> None:
    (tmp_path / shards.SHARDS).mkdir()
    plan = ShardPlan(
        "test-00000.parquet", "test", (ClipRef("a", "test", "a.mp4", problem="a.mp4 is missing"),)
    )
    info = make_shard(plan, tmp_path, tmp_path, OPTIONS, {})
    assert (info.clips, info.failures) == (0, 1)
    (failure,) = shards.shard_failures(tmp_path / shards.SHARDS / info.name)
    assert (failure.step, failure.reason) == ("source", "a.mp4 is missing")


def test_ctrl_c_keeps_complete_shards(toy_corpus: Path, prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    command = [*PREP, str(toy_corpus), "--out", str(out), *FLAGS, "--workers", "1"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # A test run in the background may be told to ignore it, and its children would be too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list((out / shards.SHARDS).glob("[!.]*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped" in err and "Traceback" not in err
    left = [p.name for p in (out / shards.SHARDS).iterdir()]
    assert left and not any(name.startswith(".") for name in left)
    assert len(left) < len(list((prepared / shards.SHARDS).iterdir()))
    prepare(refs_of(toy_corpus), toy_corpus, out, OPTIONS, workers=1)
    assert contents(out) == contents(prepared)
