"""Condensation loses nothing: counts of contested pixels are those of the full probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion.contested import condense
from fusion.errors import InputError
from fusion.kernels.contested import cpu
from fusion.kernels.native import build
from tests.contested.cases import (
    brute_force,
    condensed_of,
    nearly_tied,
    probabilities,
    some_targets,
    some_weights,
)

FIELDS = ("constant", "counts", "targets", "classes", "means")


@given(
    groups=st.integers(1, 4),
    classes=st.integers(1, 9),
    pixels=st.integers(1, 90),
    levels=st.sampled_from([0, 2, 6]),
    seed=st.integers(0, 2**31),
    weights=st.lists(st.floats(0, 10, allow_subnormal=True), min_size=4, max_size=4),
)
def test_equals_brute_force_cell_for_cell(groups, classes, pixels, levels, seed, weights):
    means, targets = (
        probabilities(groups, classes, pixels, seed, levels),
        some_targets(classes, pixels, seed),
    )
    chosen = weights[:groups] if sum(weights[:groups]) > 0 else [1.0] * groups
    assert np.array_equal(
        condensed_of(means, targets).confusions([chosen])[0], brute_force(means, targets, chosen)
    )


@pytest.mark.parametrize("groups", [1, 2, 3, 22])
def test_near_ties_are_decided_as_float32_rounding_decides_them(groups):
    means = nearly_tied(groups, 5, 4000, groups)
    targets = some_targets(5, 4000)
    weights = some_weights(groups, 12, seed=groups)
    condensed = condensed_of(means, targets)
    assert condensed.contested > 0 or groups == 1
    for vector, matrix in zip(weights, condensed.confusions(weights), strict=True):
        assert np.array_equal(matrix, brute_force(means, targets, vector))


def test_a_higher_class_needs_a_margin_where_rounding_can_tie():
    just_above = np.nextafter(np.float32(0.3), np.float32(1))
    means = np.array([[[0.3], [just_above]], [[0.3], [just_above]]], np.float32)
    assert (
        condensed_of(means, np.zeros(1, np.uint8)).contested == 1
    )  # 0.3 w may round to the same as (0.3 + ulp) w
    assert (
        condensed_of(means[:, ::-1].copy(), np.zeros(1, np.uint8)).contested == 0
    )  # a lower class wins the tie anyway


def test_candidates_of_a_pixel_worked_out_by_hand():
    #          class   0    1    2    3
    means = np.array([[0.5, 0.3, 0.1, 0.1], [0.1, 0.3, 0.4, 0.2]], np.float32)[:, :, None]
    block = condense(means, np.array([2], np.uint8), 4, ignore=255)
    assert block.classes.tolist() == [0, 1, 2]  # 3 loses to 1 in both groups
    assert block.means.tolist() == means[:, :3, 0].T.tolist()
    assert block.constant.sum() == 0
    condensed = condensed_of(means, np.array([2], np.uint8))
    assert condensed.widths == {3: 1}
    assert (condensed.contested, condensed.candidates, condensed.scored, condensed.fraction) == (
        1,
        3,
        1,
        1.0,
    )


def test_without_a_compiler(monkeypatch):
    means, targets, weights = probabilities(3, 7, 900), some_targets(7, 900), some_weights(3)
    with_compiler = condensed_of(means, targets, 2)
    monkeypatch.setattr(build, "library", lambda: None)
    without = condensed_of(means, targets, 2)
    assert np.array_equal(without.confusions(weights), with_compiler.confusions(weights))
    assert np.array_equal(without.miou(weights), with_compiler.miou(weights))


def test_small_output_buffers_are_used_again(monkeypatch):
    means, targets = probabilities(2, 6, 4000, agree=1.0), some_targets(6, 4000)
    whole = condense(means, targets, 6, ignore=255)
    monkeypatch.setattr(cpu, "ROOM", 1)
    in_parts = condense(means, targets, 6, ignore=255)
    for name in FIELDS:
        assert np.array_equal(getattr(whole, name), getattr(in_parts, name))


def test_one_group_and_equal_models_are_never_contested():
    means, targets = probabilities(1, 6, 1000), some_targets(6, 1000)
    for same in (means, np.repeat(means, 4, axis=0)):
        condensed = condensed_of(same, targets)
        assert np.array_equal(
            condensed.confusions([[1.0] * len(same)])[0], brute_force(means, targets, [1.0])
        )
        near_ties = condensed.contested  # classes apart by less than the margin stay
        assert near_ties <= 2


def test_ties_everywhere_go_to_the_lowest_class():
    condensed = condensed_of(np.full((3, 4, 100), 0.25, np.float32), np.full(100, 2, np.uint8))
    assert condensed.contested == 0
    assert condensed.pixels[0].constant[2, 0] == 100
    assert condensed.confusions(some_weights(3)).sum() == 100 * len(some_weights(3))


def test_all_void():
    condensed = condensed_of(np.full((2, 3, 40), np.nan, np.float32), np.full(40, 255, np.uint8), 2)
    assert (condensed.scored, condensed.contested, condensed.fraction) == (0, 0, 0.0)
    assert condensed.confusions([[1, 1]]).sum() == 0
    assert np.isnan(condensed.miou([[1, 1]])).all()


def test_no_pixels_at_all():
    assert condense(
        np.zeros((2, 3, 0), np.float32), np.zeros(0, np.uint8), 3, ignore=255
    ).constant.shape == (3, 3)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.1, 1.5])
@pytest.mark.parametrize("agree", [False, True])
def test_a_bad_score_on_a_counted_pixel_is_named(bad, slow, agree, monkeypatch):
    if slow:
        monkeypatch.setattr(build, "library", lambda: None)
    means = probabilities(2, 3, 1200)
    if agree:
        means[1] = means[0]
    means[1, 2, 1100] = bad
    targets = np.ones((30, 40), np.uint8)
    with pytest.raises(InputError, match=r"video 'clip 7'.*\[27, 20\].*NaN"):
        condense(means.reshape(2, 3, 30, 40), targets, 3, ignore=255, video="clip 7")
    targets[27, 20] = 255
    condense(means.reshape(2, 3, 30, 40), targets, 3, ignore=255)


@pytest.mark.parametrize("slow", [False, True])
def test_a_stray_target_is_named(slow, monkeypatch):
    if slow:
        monkeypatch.setattr(build, "library", lambda: None)
    targets = np.zeros(5, np.uint8)
    targets[3] = 3
    with pytest.raises(InputError, match=r"target 3.*below 3 or 255"):
        condense(probabilities(2, 3, 5), targets, 3, ignore=255)


def test_negative_zero_is_a_score():
    means = np.full((2, 2, 1), -0.0, np.float32)
    assert condense(means, np.zeros(1, np.uint8), 2, ignore=255).constant[0, 0] == 1


@pytest.mark.parametrize(
    ("means", "targets"),
    [
        (np.zeros((2, 3, 4)), np.zeros(4, np.uint8)),
        (np.zeros((2, 4, 4), np.float32), np.zeros(4, np.uint8)),
        (np.zeros((0, 3, 4), np.float32), np.zeros(4, np.uint8)),
        (np.zeros((2, 3, 4), np.float32), np.zeros(4, np.int64)),
        (np.zeros((2, 3, 4), np.float32), np.zeros(5, np.uint8)),
    ],
)
def test_shapes_and_types_are_checked(means, targets):
    with pytest.raises(InputError, match=r"condense: .* give "):
        condense(means, targets, 3, ignore=255)


def test_torch_tensors_and_frames_are_taken():
    means, targets = (
        torch.tensor(probabilities(2, 3, 600)).reshape(2, 3, 20, 30),
        torch.zeros(20, 30, dtype=torch.uint8),
    )
    assert condense(means, targets, 3, ignore=255).constant.sum() > 0
