"""Labels of weighted sums at label size: the compiled loops against whole maps, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.kernels import resized
from fusion.kernels.native import build
from fusion.kernels.resized import WEIGHT_STEPS, Frames, cpu, naive, stepped

SIZES = {
    "up": ((5, 7), (20, 28)),
    "odd": ((6, 11), (23, 70)),
    "wide cells": ((2, 3), (9, 61)),
    "one native pixel": ((1, 1), (5, 19)),
    "equal": ((6, 9), (6, 9)),
    "down": ((12, 17), (5, 6)),
}


@pytest.fixture(autouse=True, scope="module")
def a_compiler():
    assert build.library() is not None, "these tests need a C compiler"


def frames_of(
    native=(5, 7), size=(20, 28), models=4, classes=5, frames=3, stride=1, seed=0, levels=0, wide=0
) -> Frames:
    """Models that agree more or less; few `levels` make ties everywhere."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(frames, 1, classes, *native)) * 2
    logits = logits + rng.normal(size=(frames, models, classes, *native))
    maps = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    maps = np.round(maps * levels) / levels if levels else maps
    targets = rng.integers(0, classes + 1, (frames, *size))[:, ::stride, ::stride]
    void = 65535 if wide else 255
    kind = np.uint16 if wide else np.uint8
    targets = np.where(targets == classes, void, targets).astype(kind)
    return Frames(stepped(maps.astype(np.float32), 2.0**24), targets, size, stride)


def vectors(number: int, models: int, seed: int = 0) -> np.ndarray:
    weights = np.random.default_rng(seed).dirichlet(np.full(models, 0.5), number)
    return stepped(weights, WEIGHT_STEPS)


def multipliers(number: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 2, (number, classes)).astype(np.float32)


def check_count(frames: Frames, weights: np.ndarray, scale: np.ndarray) -> None:
    for matrix in (True, False):
        expected = naive.count(frames, weights, scale, matrix=matrix)
        assert np.array_equal(cpu.count(frames, weights, scale, matrix=matrix), expected)


def check_flips(frames: Frames, ends: np.ndarray, scale: np.ndarray, *stretch: float) -> int:
    both = np.stack([scale, scale])
    mine, theirs = (each.flips(frames, ends, both, *stretch, 10**6) for each in (cpu, naive))
    assert np.array_equal(mine.statistics, theirs.statistics)
    assert np.array_equal(np.sort(mine.flips), np.sort(theirs.flips))
    assert mine.complete
    return len(mine.flips)


@pytest.mark.parametrize("classes", [1, 2, 5, 40])
@pytest.mark.parametrize("name", SIZES)
def test_counts_and_flips_of_every_size(name, classes):
    native, size = SIZES[name]
    frames = frames_of(native, size, classes=classes)
    for number in (1, 2, 8, 11):
        check_count(frames, vectors(number, 4), np.ones((number, classes), np.float32))
        check_count(frames, vectors(number, 4), multipliers(number, classes))
    for scale in (np.ones(classes, np.float32), multipliers(1, classes)[0]):
        check_flips(frames, vectors(2, 4), scale, 0.0, 1.0)
        check_flips(frames, vectors(2, 4), scale, 0.25, 0.5)


@settings(max_examples=60, deadline=None)
@given(
    native=st.tuples(st.integers(1, 4), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 40)),
    models=st.integers(1, 5), classes=st.integers(1, 6), levels=st.integers(1, 5),
    number=st.integers(1, 10), seed=st.integers(0, 2**31), stride=st.integers(1, 3),
    wide=st.booleans(),
)  # fmt: skip
def test_ties_and_near_ties(native, size, models, classes, levels, number, seed, stride, wide):
    """Where bounds and settling would go wrong: levels that tie, models that are all but equal."""
    frames = frames_of(native, size, models, classes, 2, stride, seed, levels, wide)
    weights = vectors(number, models, seed)
    weights[number // 2 :] = weights[0]
    check_count(frames, weights, np.ones((number, classes), np.float32))
    check_count(frames, weights, np.round(multipliers(number, classes, seed) * 2) / 2)
    corners = np.eye(models)[[0, -1]]
    for ends in (corners, vectors(2, models, seed)):
        check_flips(frames, ends, np.ones(classes, np.float32), 0.0, 1.0)


def test_a_weight_vector_has_one_score_in_any_company_and_on_any_threads():
    frames, weights = frames_of((9, 13), (36, 52), models=6), vectors(70, 6)
    ones, before = np.ones((70, 5), np.float32), torch.get_num_threads()
    whole = resized.count(frames, weights, ones)
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert np.array_equal(resized.count(frames, weights, ones), whole)
    finally:
        torch.set_num_threads(before)
    for b in (0, 33, 69):
        assert np.array_equal(resized.count(frames, weights[b : b + 1], ones[:1])[0], whole[b])
    assert np.array_equal(resized.count(frames, weights[::-1].copy(), ones)[::-1], whole)


def test_sums_are_exact_in_any_order():
    frames, weights = frames_of(models=50), vectors(1, 50)[0]
    forwards, backwards = np.zeros((2, *frames.maps.shape[2:]))
    for m in range(50):
        forwards += weights[m] * frames.maps[0, m].astype(np.float64)
        backwards += weights[-1 - m] * frames.maps[0, -1 - m].astype(np.float64)
    assert np.array_equal(forwards, backwards)


def test_labels_worked_out_by_hand():
    """Between native pixels 0.75 | 0.25 and 0.25 | 0.75 the label changes in the middle."""
    maps = np.array([[[[[0.75, 0.25]], [[0.25, 0.75]]]]], np.float32)
    frames = Frames(maps, np.array([[[0, 0, 1, 255]]], np.uint8), (1, 4))
    one = np.ones((1, 1))
    plain = resized.count(frames, one, np.ones((1, 2), np.float32))
    assert plain.tolist() == [[[2, 0], [0, 1]]]
    # at the second pixel 0.625 against 0.375: only beyond 5 / 3 class 1 has it
    for multiplier, expected in ((1.6, [[2, 0], [0, 1]]), (1.7, [[1, 1], [0, 1]])):
        scale = np.array([[1, multiplier]], np.float32)
        assert resized.count(frames, one, scale).tolist() == [expected]
    # of equals the lowest class
    tied = Frames(np.full_like(maps, 0.5), frames.targets, (1, 4))
    found = resized.count(tied, one, np.ones((1, 2), np.float32), matrix=False)
    assert found.tolist() == [[[2, 0], [3, 0]]]


def test_flips_by_hand_and_too_many_for_the_room():
    maps = np.array([[[[[0.75]], [[0.25]]], [[[0.25]], [[0.75]]]]], np.float32)
    frames = Frames(maps, np.ones((1, 3, 3), np.uint8), (3, 3))
    ends, ones = (np.array([1.0, 0.0]), np.array([0.0, 1.0])), np.ones(2, np.float32)
    found = resized.flips(frames, ends, ones, 0.0, 1.0, 9)
    assert found.flips.tolist() == [(0.5, 1, 0, 1, 0)] * 9
    assert found.statistics.tolist() == [[0, 0], [9, 0]]
    assert found.complete
    assert not resized.flips(frames, ends, ones, 0.0, 1.0, 8).complete
    assert resized.flips(frames, ends, ones, 0.5, 1.0, 8).complete


def test_what_does_not_fit_is_named():
    frames = frames_of()
    with pytest.raises(ValueError, match=r"got weights float64 \[2, 3\]"):
        resized.count(frames, vectors(2, 3), np.ones((2, 5), np.float32))
    with pytest.raises(ValueError, match=r"multipliers \[1, 5\]"):
        resized.count(frames, vectors(2, 4), np.ones((1, 5), np.float32))
    with pytest.raises(ValueError, match=r"uint8 \[3, 20, 28\]; give .* uint16 \[T, 10, 14\]"):
        Frames(frames.maps, frames.targets, frames.size, 2)
    with pytest.raises(ValueError, match="gaps"):
        Frames(frames.maps[:, :, :, ::2], frames.targets, frames.size)
    assert resized.count(frames, np.zeros((0, 4)), np.ones((0, 5), np.float32)).shape == (0, 5, 5)
