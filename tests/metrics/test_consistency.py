"""VC_n against the definition as nested loops, and hand-made videos."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.metrics import VARIANTS, stable_windows, video_consistency


def slow_windows(targets, predictions, length, last_window):
    scores = []
    for i in range(len(targets) - length + (1 if last_window else 0)):
        common_g = np.ones(targets[0].shape, dtype=bool)
        common_p = np.ones(targets[0].shape, dtype=bool)
        for j in range(1, length):
            common_g &= targets[i] == targets[i + j]
            common_p &= predictions[i] == predictions[i + j]
        scores.append((common_g & common_p).sum() / common_g.sum() if common_g.any() else math.nan)
    return scores


def slow_consistency(videos, length, variant):
    pooled = []
    for targets, predictions in videos:
        if variant == "cffm" and len(targets) <= 16:
            continue
        for n in (8, 16) if variant == "dvis" and length == 16 else (length,):
            pooled += slow_windows(targets, predictions, n, variant == "corrected")
    known = [s for s in pooled if not math.isnan(s)]
    return sum(known) / len(known) if known else math.nan


def random_video(rng, frames, size=(4, 5)):
    """Maps that change rarely, so that long windows have stable pixels."""
    video = [rng.integers(0, 3, size)]
    for _ in range(frames - 1):
        video.append(np.where(rng.random(size) < 0.03, rng.integers(0, 3, size), video[-1]))
    return np.array(video, dtype=np.uint8)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(0, 24), max_size=4),
    st.sampled_from(sorted(VARIANTS)),
    st.sampled_from([8, 16]),
)
def test_equals_nested_loops(seed, lengths, variant, n):
    rng = np.random.default_rng(seed)
    videos = [[random_video(rng, frames)[:frames] for _ in range(2)] for frames in lengths]
    windows = [stable_windows(iter(g), iter(p)) for g, p in videos]
    expected = slow_consistency([video for video in videos if len(video[0])], n, variant)
    found = video_consistency(windows, n, variant)
    assert found == pytest.approx(expected, rel=1e-13, nan_ok=True)
    np.testing.assert_equal(video_consistency(windows[::-1], n, variant), found)


@pytest.mark.parametrize(
    ("frames", "official", "corrected"), [(7, 0, 0), (8, 0, 1), (9, 1, 2), (10, 2, 3)]
)
def test_number_of_windows(frames, official, corrected):
    rng = np.random.default_rng(0)
    windows = stable_windows(random_video(rng, frames), random_video(rng, frames), lengths=(8,))
    assert windows.frames == frames
    assert len(windows.counts[8]) == corrected
    assert math.isnan(video_consistency([windows], 8)) == (official == 0)
    assert math.isnan(video_consistency([windows], 8, "corrected")) == (corrected == 0)


def test_cffm_skips_videos_of_16_frames():
    video = np.zeros((17, 2, 2), dtype=np.uint8)
    for frames, expected in [(16, math.nan), (17, 1.0)]:
        windows = stable_windows(video[:frames], video[:frames])
        assert video_consistency([windows], 8, "cffm") == pytest.approx(expected, nan_ok=True)
        assert video_consistency([windows], 8, "official") == 1.0


def test_windows_are_counted_by_hand():
    # one row of three pixels over four frames, n = 2: the first never moves, the second moves in
    # G, the third in P
    g = np.array([[[0, 0, 1]], [[0, 1, 1]], [[0, 1, 1]], [[0, 0, 1]]])
    p = np.array([[[2, 2, 2]], [[2, 2, 0]], [[2, 2, 0]], [[2, 2, 0]]])
    windows = stable_windows(g, p, lengths=(2, 3))
    assert windows.counts[2].tolist() == [[1, 2], [3, 3], [2, 2]]
    assert windows.counts[3].tolist() == [[1, 2], [2, 2]]
    assert video_consistency([windows], 2) == pytest.approx((1 / 2 + 1) / 2)
    assert video_consistency([windows], 2, "corrected") == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert video_consistency([windows], 3, "dvis") == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)


def test_a_constant_wrong_prediction_is_consistent_and_void_counts():
    g = np.full((10, 3, 3), 255, dtype=np.uint8)
    assert video_consistency([stable_windows(g, np.zeros_like(g))], 8) == 1.0


def test_windows_pool_over_videos_by_window():
    still = np.zeros((11, 2, 2), dtype=np.uint8)
    moving = np.array([np.full((2, 2), t % 2) for t in range(9)], dtype=np.uint8)
    pooled = [stable_windows(still, still), stable_windows(still[:9], moving)]
    # three windows of 1, one of 0: not the mean of two videos
    assert video_consistency(pooled, 8) == 3 / 4


def test_nothing_stable_in_the_targets_is_no_score():
    moving = np.array([np.full((2, 2), t % 2) for t in range(10)], dtype=np.uint8)
    assert math.isnan(video_consistency([stable_windows(moving, moving)], 8))
    assert math.isnan(video_consistency([], 8))


def test_a_reused_buffer_is_no_trap():
    video = random_video(np.random.default_rng(2), 12)
    buffer = np.empty_like(video[0])
    reader = (np.copyto(buffer, frame) or buffer for frame in video)
    reused, fresh = (stable_windows(targets, video).counts[8] for targets in (reader, video))
    assert reused.tolist() == fresh.tolist()


def test_variants_say_which_targets_they_read():
    raw = [name for name, rule in VARIANTS.items() if rule.raw_targets]
    assert (raw, len(VARIANTS)) == (["official", "dvis", "corrected"], 4)


def test_results_travel():
    video = random_video(np.random.default_rng(3), 20)
    windows = stable_windows(video, video)
    sent = pickle.loads(pickle.dumps(windows))
    assert video_consistency([sent], 16) == video_consistency([windows], 16)


def test_refusals():
    maps = np.zeros((3, 2, 2), dtype=np.uint8)
    for targets, predictions, message in [
        (maps, maps[:2], "predictions end after 2 frames"),
        (maps[:1], maps, "targets end after 1 frames"),
        ([maps[0], np.zeros((2, 3), int)], maps[:2], "sizes differ in frame number 2"),
        ([maps[0]], [np.zeros((1, 2), int)], "sizes differ in frame number 1"),
        (maps, maps.astype(float), "prediction of frame number 1 is float64"),
    ]:
        with pytest.raises(InputError, match=message):
            stable_windows(targets, predictions)
    with pytest.raises(InputError, match="at least 2"):
        stable_windows(maps, maps, lengths=(1,))
    with pytest.raises(InputError, match="length: got 4"):
        video_consistency([stable_windows(maps, maps)], 4)
    with pytest.raises(InputError, match="official, cffm"):
        video_consistency([], 8, "mean")
