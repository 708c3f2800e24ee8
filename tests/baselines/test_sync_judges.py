"""Scores of shifted sound, windows, speech and the offset of a clip, against plain loops and known truths."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.sync_judges import (
    Windows,
    clip_offset,
    right_above_wrong,
    shifted_scores,
    speech_frames,
    window_offsets,
)
from baselines.sync_judges.offset import SIGNIFICANCE
from baselines.sync_judges.speech import frame_levels
from prep.sound.mel import melspectrogram


def pair(
    frames: int = 200, width: int = 6, noise: float = 1.0, late: int = 0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth lips and sounds that belong together; the video is ``late`` frames late."""
    rng = np.random.default_rng(seed)
    common, own = (_smooth(rng.standard_normal((frames + 80, width))) for _ in range(2))
    sounds = common[40 : 40 + frames]
    lips = common[40 - late : 40 - late + frames] + noise * own[40 : 40 + frames]
    return lips.astype(np.float32), sounds.astype(np.float32)


def _smooth(rows: np.ndarray) -> np.ndarray:
    kernel = np.hanning(7)
    return np.stack(
        [np.convolve(column, kernel / np.linalg.norm(kernel), "same") for column in rows.T], axis=1
    )


def plain_score(lips: np.ndarray, sounds: np.ndarray, frame: int, shift: int) -> float:
    if not 0 <= frame + shift < len(sounds):
        return float("nan")
    return float(sum(float(a) * float(b) for a, b in zip(lips[frame], sounds[frame + shift], strict=True)))


def plain_mean(lips: np.ndarray, sounds: np.ndarray, start: int, window: int, shift: int) -> float:
    return float(np.mean([plain_score(lips, sounds, t, shift) for t in range(start, start + window)]))


@pytest.mark.parametrize(("frames", "heard"), [(1, 1), (30, 25), (30, 40), (150, 150), (300, 290)])
def test_scores_are_those_of_a_plain_loop(frames: int, heard: int) -> None:
    rng = np.random.default_rng(0)
    lips, sounds = rng.standard_normal((frames, 3)), rng.standard_normal((heard, 3)).astype(np.float32)
    lips[frames // 2] = np.nan
    sounds[heard // 3] = np.nan
    found = shifted_scores(lips, sounds, 9)
    plain = [[plain_score(lips, sounds, t, d) for d in range(-9, 10)] for t in range(frames)]
    np.testing.assert_allclose(found, plain, atol=1e-12)
    assert np.isnan(found[frames // 2]).all() and found.dtype == np.float64


def test_what_has_no_product_is_refused() -> None:
    with pytest.raises(ValueError, match="no product"):
        shifted_scores(np.zeros((4, 3)), np.zeros((4, 2)), 1)
    with pytest.raises(ValueError, match="speech is said of 3 frames, lips are given of 40"):
        right_above_wrong(np.zeros((40, 3)), np.zeros((40, 3)), np.ones(3, bool))


@pytest.mark.parametrize("heard", [90, 100, 130])
def test_right_above_wrong_is_that_of_a_plain_loop(heard: int) -> None:
    lips, sounds = pair(130, noise=3)
    sounds = sounds[:heard]
    lips[61] = np.nan
    speech = np.random.default_rng(1).uniform(size=130) > 0.5
    windows = Windows(window=20, step=7, nearest=5, furthest=30)
    right, pairs, judged = 0.0, 0, 0
    for start in range(0, 130 - 20 + 1, 7):
        here = plain_mean(lips, sounds, start, 20, 0)
        if np.isnan(here) or speech[start : start + 20].sum() < 10:
            continue
        judged += 1
        for shift in (*range(-30, -4), *range(5, 31)):
            there = plain_mean(lips, sounds, start, 20, shift)
            if not np.isnan(there):
                right, pairs = right + (here > there), pairs + 1
    found = right_above_wrong(lips, sounds, speech, windows)
    assert (found.pairs, found.windows) == (pairs, judged)
    assert found.share == pytest.approx(right / pairs) and 0.5 < found.share < 1


def test_equal_scores_count_half() -> None:
    lips, sounds = np.ones((60, 2)), np.ones((60, 2))
    assert right_above_wrong(lips, sounds).share == 0.5
    # Windows at 0, 5 … 35 of 25 frames; shifts of 8 frames and more with sound for the whole window.
    pairs = sum(max(0, s - 8 + 1) + max(0, 35 - s - 8 + 1) for s in range(0, 36, 5))
    assert right_above_wrong(lips, sounds).pairs == pairs
    # A mean over another part of the sums may differ in its last bits.
    assert right_above_wrong(lips * 0.1, sounds * 0.3).share == 0.5


def test_without_a_pair_there_is_no_share() -> None:
    for lips, sounds, speech in (
        (*pair(20), None),
        (*pair(32), None),
        (*pair(60), np.zeros(60, bool)),
        (np.full((60, 6), np.nan), pair(60)[1], None),
    ):
        found = right_above_wrong(lips, sounds, speech)
        assert np.isnan(found.share) and (found.windows, found.pairs) == (0, 0)


@pytest.mark.parametrize("late", [-7, -1, 0, 4])
def test_windows_find_a_known_offset(late: int) -> None:
    lips, sounds = pair(160, late=late, noise=0.5)
    found = window_offsets(lips, sounds)
    # Windows of 50 frames at 0, 5 … 110 that have sound 15 frames before and after.
    assert found.dtype == np.int64 and len(found) == len([s for s in range(0, 111, 5) if 15 <= s <= 95])
    assert (found == late).all()


def test_windows_without_lips_or_speech_have_no_offset() -> None:
    lips, sounds = pair(160, noise=0.5)
    speech = np.arange(160) < 80
    # Those of the starts 15 … 55 have speech in at least 25 of 50 frames.
    assert len(window_offsets(lips, sounds, speech)) == 9
    lips[70] = np.nan
    assert len(window_offsets(lips, sounds, speech)) == 2
    assert len(window_offsets(lips[:40], sounds)) == 0


def test_of_equal_shifts_a_window_takes_the_smallest() -> None:
    assert window_offsets(np.ones((100, 2)), np.ones((100, 2))).tolist() == [0] * 5


@pytest.mark.parametrize("late", range(-7, 8))
def test_a_known_offset_of_a_clip_is_found(late: int) -> None:
    for seed in range(5):
        found = clip_offset(*pair(125, late=late, seed=seed))
        assert found.frames == late and found.undecidable == ""
        assert found.significance > SIGNIFICANCE and found.confidence > 0
        assert found.in_sync() == (abs(late) <= 1) and found.in_sync(7)


def test_the_score_is_a_plain_mean() -> None:
    """Of embeddings without their means, at the best shift, and above the median over shifts."""
    lips, sounds = pair(140, late=3, seed=4)
    sounds = sounds + 5  # what every score has is in none
    lips[20:30] = np.nan
    found = clip_offset(lips, sounds, reach=8)
    seen = np.isfinite(lips[:, 0])
    centred = lips.astype(np.float64) - lips[seen].astype(np.float64).mean(axis=0)
    heard = sounds.astype(np.float64) - sounds.astype(np.float64).mean(axis=0)
    means = [
        np.nanmean([plain_score(centred, heard, t, d) for t in range(140) if seen[t]]) for d in range(-8, 9)
    ]
    assert found.frames == 3
    assert found.score == pytest.approx(means[5]) == pytest.approx(max(means))
    assert found.confidence == pytest.approx(means[5] - np.median(means))


def test_wrong_sound_has_no_offset() -> None:
    decided = [clip_offset(pair(seed=i)[0], pair(seed=1000 + i)[1]).frames is not None for i in range(200)]
    assert sum(decided) <= 10


def test_more_noise_is_less_significant() -> None:
    figures = [
        np.mean([clip_offset(*pair(noise=noise, seed=i)).significance for i in range(10)])
        for noise in (0.5, 2, 8)
    ]
    assert figures == sorted(figures, reverse=True)


@pytest.mark.parametrize("scale", [0.0, 1.0, 300.0])
def test_still_lips_and_silence_are_undecidable(scale: float) -> None:
    lips, sounds = pair()
    still = clip_offset(np.tile(lips[:1] * scale + 0.1, (200, 1)), sounds)
    assert (still.frames, still.undecidable, still.confidence) == (None, "the lips do not move", 0)
    silence = clip_offset(lips, np.tile(sounds[:1] * scale, (200, 1)))
    assert (silence.frames, silence.undecidable, silence.confidence) == (None, "the sound does not change", 0)
    assert not still.in_sync(99)


def test_lips_that_tremble_have_no_confidence() -> None:
    lips, sounds = pair()
    noise = np.random.default_rng(0).standard_normal(lips.shape) * 1e-3
    found = clip_offset(lips[:1] + noise, sounds)
    assert found.frames is None and 0 <= found.confidence < 1e-3 * clip_offset(lips, sounds).confidence * 2


def test_too_little_to_decide() -> None:
    lips, sounds = pair(noise=0.1)
    speech = np.zeros(200, bool)
    speech[:24] = True
    assert clip_offset(lips, sounds, speech).undecidable == "speech in 24 frames, 25 are needed"
    speech[24] = True
    assert clip_offset(lips, sounds, speech).frames == 0
    assert clip_offset(lips[:24], sounds[:24]).undecidable == "too short"
    nothing = np.full_like(lips, np.nan)
    for missing in (clip_offset(nothing, sounds), clip_offset(lips, nothing), clip_offset(lips[:0], sounds)):
        assert missing.undecidable == "no lips and sound to compare" and np.isnan(missing.confidence)
    far = clip_offset(lips, sounds[:60])
    assert far.undecidable == "sound beside less than half of the lips" and np.isnan(far.score)


def test_sound_that_ends_early_is_compared_where_it_is() -> None:
    lips, sounds = pair(late=2, noise=0.3)
    assert clip_offset(lips, sounds[:130]).frames == 2


def tone(level: float, frames: int, seed: int = 0) -> np.ndarray:
    """Noise of a level in units of int16."""
    return np.random.default_rng(seed).standard_normal(640 * frames) * level


def test_speech_is_where_the_sound_is_loud() -> None:
    samples = np.concatenate([tone(0, 20), tone(3000, 40), tone(20, 40), tone(2000, 20)])
    speech = speech_frames(melspectrogram(samples.astype(np.int16)), 130)
    expected = np.zeros(130, bool)
    expected[20:60] = expected[100:120] = True
    # A column sees 25 ms to each side.
    inner = np.ones(130, bool)
    inner[[19, 59, 60, 99, 119, 120]] = False
    np.testing.assert_array_equal(speech[inner], expected[inner])


def test_silence_has_no_speech() -> None:
    for level in (0, 1, 20):
        assert not speech_frames(melspectrogram(tone(level, 50).round().astype(np.int16)), 50).any()
    assert not speech_frames(np.zeros((0, 80), np.float32), 5).any()


def test_the_level_of_a_frame_is_a_plain_mean_of_power() -> None:
    mel = np.random.default_rng(0).uniform(-4, 4, (35, 80)).astype(np.float32)
    found = frame_levels(mel, 12)
    for frame in range(12):
        columns = [c for c in range(35) if 3.2 * frame - 1e-9 <= c < 3.2 * (frame + 1) - 1e-9]
        if columns:
            power = np.mean([10 ** (((float(v) + 4) * 12.5 - 80) / 10) for c in columns for v in mel[c]])
            assert found[frame] == pytest.approx(10 * np.log10(power))
        else:
            assert found[frame] == -np.inf
    assert np.isfinite(found).sum() == 11
