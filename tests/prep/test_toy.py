"""The embedded corpus: layout, sameness of bytes, and a mouth that moves with the sound."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np
import psutil
import pytest

from prep.errors import PrepError
from prep.installing import install
from prep.rates import FPS, SAMPLES_PER_FRAME
from prep.sound_reading import sound
from prep.sources import get_source
from prep.toy.sentences import HELD_OUT, TRAIN, transcript
from prep.toy.speech import Phoneme, Voice, speak
from prep.toy.visemes import CHANNELS, articulate
from prep.toy.warp import invert, thin_plate
from prep.video_reading import frames, probe

pytest.importorskip("espeakng_loader", reason="the extra `toy` is not installed")
pytest.importorskip("skimage", reason="the extra `toy` is not installed")
pytest.importorskip("matplotlib", reason="the extra `toy` is not installed")

from prep.toy import corpus as toy
from prep.toy.corpus import ToyReport, read_report, write_corpus

VOICE = Voice("en-us+f2", 50, 160)


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def report(toy_corpus: Path) -> ToyReport:
    return read_report(toy_corpus)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny") / "corpus"
    write_corpus(out, clips=2, seconds=1.2, size=96, seed=3, workers=2)
    return out


# --- what is written -------------------------------------------------------------------------------------------------


def test_layout_is_that_of_lrs2(toy_corpus: Path, report: ToyReport) -> None:
    root = toy_corpus / "mvlrs_v1"
    listed: dict[str, str] = {}
    for split in ("train", "val", "test"):
        for line in (root / f"{split}.txt").read_text().splitlines():
            clip_id, *tags = line.split(" ")
            assert tags == (["NF"] if split == "test" else [])
            listed[clip_id] = split
    assert listed == {clip.clip_id: clip.split for clip in report.clips}
    assert len(report.clips) == 8 and set(listed.values()) == {"train", "val", "test"}
    assert sorted(p.relative_to(root / "main").as_posix() for p in (root / "main").rglob("*.mp4")) == sorted(
        f"{clip_id}.mp4" for clip_id in listed
    )
    for clip in report.clips:
        speaker, number = clip.clip_id.split("/")
        assert len(speaker) == 19 and speaker.isdigit() and len(number) == 5 and number.isdigit()
        text, conf = (root / "main" / f"{clip.clip_id}.txt").read_text().splitlines()
        assert text == f"Text:  {clip.text}" and conf == "Conf:  5"
        assert clip.text == clip.text.upper() and clip.text


def test_the_lrs2_source_reads_it(toy_corpus: Path, report: ToyReport) -> None:
    refs = get_source("lrs2").list_clips(toy_corpus)
    assert {ref.clip_id: ref.split for ref in refs} == {clip.clip_id: clip.split for clip in report.clips}
    assert not any(ref.problem for ref in refs)


def test_nobody_and_no_sentence_is_in_two_splits(report: ToyReport) -> None:
    by_split = {
        split: {clip.clip_id.split("/")[0] for clip in report.clips if clip.split == split}
        for split in ("train", "val", "test")
    }
    assert (
        not by_split["train"] & (by_split["val"] | by_split["test"])
        and not by_split["val"] & by_split["test"]
    )
    assert not set(map(transcript, TRAIN)) & set(map(transcript, HELD_OUT))
    said = {True: TRAIN, False: HELD_OUT}
    for clip in report.clips:
        pool = [transcript(sentence) for sentence in said[clip.split == "train"]]
        # Whole sentences only: what remains after taking them out is nothing.
        rest = clip.text
        for sentence in sorted(pool, key=len, reverse=True):
            rest = rest.replace(sentence, "")
        assert not rest.strip(), clip.text


def test_pictures_and_sound_have_the_length_that_was_meant(toy_corpus: Path, report: ToyReport) -> None:
    for clip in report.clips:
        path = toy_corpus / "mvlrs_v1" / "main" / f"{clip.clip_id}.mp4"
        info = probe(path)
        assert (info.width, info.height, info.source_fps) == (128, 128, FPS)
        assert info.n_frames == len(clip.opening) <= 2.0 * FPS
        heard = sound(path)
        assert abs(heard.starts) < 1e-3
        # AAC comes in blocks of 1024 samples, the last of which is not cut.
        assert 0 <= len(heard.samples) - info.n_frames * SAMPLES_PER_FRAME < 1024


def test_phonemes_fill_the_clip(report: ToyReport) -> None:
    for clip in report.clips:
        assert clip.phonemes[0][1] == 0.0
        assert clip.phonemes[-1][2] == pytest.approx(len(clip.opening) / FPS, abs=1e-4)
        for before, after in itertools.pairwise(clip.phonemes):
            assert before[2] == pytest.approx(after[1], abs=1e-4)
            assert before[2] > before[1]
        spoken = sum(stop - start for name, start, stop in clip.phonemes if name)
        assert spoken > 0.4


# --- the same again --------------------------------------------------------------------------------------------------


def test_same_seed_same_bytes_whatever_the_workers(tiny: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "again", clips=2, seconds=1.2, size=96, seed=3, workers=1)
    assert digests(tmp_path / "again") == digests(tiny)


def test_another_seed_gives_another_corpus(tiny: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    write_corpus(
        tmp_path / "other",
        clips=2,
        seconds=1.2,
        size=96,
        seed=4,
        workers=1,
        progress=lambda done, total: steps.append((done, total)),
    )
    ours, theirs = digests(tmp_path / "other"), digests(tiny)
    assert ours.keys() == theirs.keys()
    assert all(ours[name] != theirs[name] for name in ours if name.endswith(".mp4"))
    assert steps[-1] == (2, 2)


def test_what_is_there_is_left_alone(tiny: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny.rglob("*")}
    again = write_corpus(tiny, clips=2, seconds=1.2, size=96, seed=3)
    assert not again.fresh and again.clips == read_report(tiny).clips
    assert {path: path.stat().st_mtime_ns for path in tiny.rglob("*")} == before


# --- does it talk? ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(toy_corpus: Path, report: ToyReport) -> list[tuple[toy.ToyClip, np.ndarray, np.ndarray]]:
    """Three clips, the lips' opening that FaceMesh sees in each frame, and the sound's strength around it."""
    mediapipe = pytest.importorskip(
        "mediapipe.python.solutions.face_mesh", reason="mediapipe is not installed"
    )
    found = []
    with mediapipe.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True) as detector:
        # An own face, glasses, a mixed face.
        for clip in (report.clips[0], report.clips[1], report.clips[4]):
            path = toy_corpus / "mvlrs_v1" / "main" / f"{clip.clip_id}.mp4"
            opening: list[float] = []
            for frame in frames(path):
                faces = detector.process(frame).multi_face_landmarks
                assert faces, f"no face in frame {len(opening)} of {clip.clip_id}"
                at = np.array([(p.x, p.y) for p in faces[0].landmark])
                opening.append(np.hypot(*(at[13] - at[14])) / np.hypot(*(at[33] - at[263])))
            heard = np.pad(sound(path).samples.astype(float), (320, 320))
            windows = [heard[k * 640 : (k + 1) * 640] for k in range(len(opening))]
            found.append((clip, np.array(opening), np.sqrt([np.mean(w**2) for w in windows])))
    return found


def test_facemesh_sees_the_opening_that_was_meant(
    measured: list[tuple[toy.ToyClip, np.ndarray, np.ndarray]],
) -> None:
    for clip, seen, _ in measured:
        assert np.corrcoef(seen, clip.opening)[0, 1] >= 0.9, clip.clip_id
        assert 0.6 < np.polyfit(clip.opening, seen, 1)[0] < 1.6
        shut = np.array(clip.opening) < 0.002
        assert shut.any() and np.median(seen[shut]) < 0.03


def test_the_mouth_moves_with_the_sound(
    measured: list[tuple[toy.ToyClip, np.ndarray, np.ndarray]],
) -> None:
    lags = range(-4, 5)
    similarity = np.zeros(len(lags))
    for _, seen, strength in measured:
        inside = slice(5, len(seen) - 5)
        similarity += [np.corrcoef(np.roll(strength, lag)[inside], seen[inside])[0, 1] for lag in lags]
    assert abs(lags[int(np.argmax(similarity))]) <= 1
    assert similarity.max() / len(measured) > 0.3


def test_lips_meet_for_m_b_and_p(report: ToyReport) -> None:
    closures = 0
    for clip in report.clips:
        for name, start, stop in clip.phonemes:
            if name[:1] and name[0] in "mbp":
                during = [
                    clip.opening[k] for k in range(len(clip.opening)) if start - 0.02 <= k / FPS <= stop
                ]
                assert not during or min(during) < 0.01, (clip.clip_id, name, start)
                closures += bool(during)
    assert closures >= 4


# --- the parts -------------------------------------------------------------------------------------------------------


def test_speech_depends_on_nothing_but_the_request() -> None:
    first = speak(["The people love it.", "Maybe later."], VOICE, 4.0)
    speak(["Something else."], Voice("en-gb-x-rp+f3", 30, 150), 4.0)
    second = speak(["The people love it.", "Maybe later."], VOICE, 4.0)
    assert np.array_equal(first.samples, second.samples) and first.phonemes == second.phonemes
    assert first.sentences == ("The people love it.", "Maybe later.")
    assert first.phonemes[0].start == 0.0
    assert first.phonemes[-1].stop == pytest.approx(len(first.samples) / 16_000, abs=1e-3)
    names = "".join(p.name for p in first.phonemes)
    assert names.count("p") == 2 and "v" in names and "m" in names
    assert np.abs(first.samples).max() == pytest.approx(0.55)


def test_sentences_that_do_not_fit_are_left_out_whole() -> None:
    long = "Every summer the river is a little lower than the year before."
    speech = speak([long, "Thank you."], VOICE, 1.2)
    assert speech.sentences == ("Thank you.",) and len(speech.samples) <= 1.2 * 16_000
    with pytest.raises(PrepError, match="longer clips"):
        speak([long], VOICE, 1.2)


def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(PrepError, match="no voice is named xx-yy"):
        speak(["Hello."], Voice("xx-yy", 50, 160), 2.0)


def mouth(phonemes: list[Phoneme], time: float) -> dict[str, float]:
    return dict(zip(CHANNELS, articulate(phonemes, np.array([time]))[0], strict=True))


def test_mouth_shapes() -> None:
    silence = [Phoneme("", 0.0, 1.0)]
    assert max(mouth(silence, 0.5).values()) == 0.0
    word = [Phoneme("", 0.0, 0.3), Phoneme("ˈɑː", 0.3, 0.6), Phoneme("m", 0.6, 0.7), Phoneme("uː", 0.7, 1.0)]
    wide, closed, round_ = (mouth(word, time) for time in (0.45, 0.65, 0.85))
    assert wide["open"] > 0.95 and wide["round"] < 0.05
    assert closed["open"] < 0.01 and closed["press"] > 0.5
    assert round_["round"] > 0.8 and round_["open"] < 0.5
    assert mouth([Phoneme("iː", 0.0, 0.4)], 0.2)["wide"] > 0.7
    assert mouth([Phoneme("f", 0.0, 0.3)], 0.15)["bite"] > 0.9
    # A diphthong moves from its first vowel to its second one.
    glide = [Phoneme("ˈaʊ", 0.0, 0.4)]
    assert mouth(glide, 0.1)["open"] > 0.8 and mouth(glide, 0.3)["round"] > 0.5
    # Rest, before and after.
    assert mouth(word, -0.3)["open"] < 0.01 and mouth(word, 1.3)["open"] < 0.01


def test_every_sound_of_the_sentences_has_a_mouth_shape() -> None:
    from prep.toy.looks import LOOKS
    from prep.toy.visemes import _CONSONANTS, _VOWELS

    known = {*_VOWELS, *_CONSONANTS, *"ˈˌːˑ̩"}
    for look in LOOKS[1:10:4]:
        speech = speak((TRAIN + HELD_OUT)[5::9], look.voice, 60.0)
        assert len(speech.sentences) >= 5
        assert {symbol for p in speech.phonemes for symbol in p.name} <= known, look.voice


def test_thin_plate_reproduces_affine_maps_and_hits_its_points() -> None:
    rng = np.random.default_rng(0)
    points, query = rng.random((30, 2)), rng.random((50, 2))
    matrix, offset = rng.random((2, 2)), rng.random(2)
    assert np.allclose(
        thin_plate(points, points @ matrix + offset, query), query @ matrix + offset, atol=1e-8
    )
    values = rng.random((30, 3))
    assert np.allclose(thin_plate(points, values, points), values, atol=1e-7)


def test_invert_finds_where_a_point_came_from() -> None:
    y, x = np.mgrid[:64, :64].astype(np.float32)
    field = np.stack([4 * np.sin(y / 12), 3 * np.cos(x / 15)], axis=-1)
    targets = np.stack([x, y], axis=-1)[20:40, 20:40]
    sources = invert(field, np.ascontiguousarray(targets), steps=12)
    moved = sources + np.stack([4 * np.sin(sources[..., 1] / 12), 3 * np.cos(sources[..., 0] / 15)], axis=-1)
    assert np.abs(moved - targets).max() < 0.05


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"clips": 0}, "clips"),
        ({"seconds": 0.5}, "seconds"),
        ({"seconds": 61}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"size": 63}, "size"),
        ({"size": 101}, "size"),
        ({"size": 2048}, "size"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "workers"),
    ],
)
def test_bad_arguments(tmp_path: Path, options: dict[str, float], named: str) -> None:
    with pytest.raises(PrepError, match=named):
        write_corpus(tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())


def test_other_options_on_an_existing_corpus_are_named(tiny: Path) -> None:
    with pytest.raises(PrepError, match="seed 3, not 5"):
        write_corpus(tiny, clips=2, seconds=1.2, size=96, seed=5)
    with pytest.raises(PrepError, match="clips 2, not 3"):
        write_corpus(tiny, clips=3, seconds=1.2, size=96, seed=3)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(PrepError, match="no toy corpus"):
        write_corpus(tmp_path, clips=1)
    (tmp_path / "toy.json").write_text(json.dumps({"clips": 3}))
    with pytest.raises(PrepError, match="damaged"):
        write_corpus(tmp_path, clips=1)
    with pytest.raises(PrepError, match="not a folder"):
        write_corpus(tmp_path / "mine.txt", clips=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.txt", "toy.json"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(toy, "write_video", full)
    with pytest.raises(PrepError, match="No space left on device"):
        write_corpus(tmp_path / "out", clips=1, seconds=1.2, size=64, workers=1)
    assert not any(tmp_path.iterdir())


def test_a_killed_worker_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    def kill(done: int, total: int) -> None:
        for child in psutil.Process().children():
            if any("spawn_main" in word for word in child.cmdline()):
                child.kill()

    with pytest.raises(PrepError, match="killed"):
        write_corpus(tmp_path / "out", clips=4, seconds=1.2, size=64, workers=2, progress=kill)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["espeakng_loader", "skimage", "matplotlib"])
def test_a_missing_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else real(name))
    with pytest.raises(PrepError) as caught:
        write_corpus(tmp_path / "out", clips=1, seconds=1.2, size=64, workers=1)
    assert install("toy") in str(caught.value) and "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir())
