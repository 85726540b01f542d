"""Held-out scores against the same worked out step by step: everything is chosen again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from fusion.contested import Condensed
from fusion.errors import InputError
from fusion.metrics import Scores, miou
from fusion.search.exact.climb import Exact
from fusion.search.folds import hold_out
from fusion.search.greedy import Greedy
from fusion.search.grid import Grid
from fusion.search.held import FOUND, GROUP, SINGLE, UNIFORM, WEIGHTS
from fusion.search.method import ALONE, Method, Problem
from fusion.search.selection import select, split_units
from tests.search.simulated import condensed_of, videos
from tests.search.test_selection import apart, planted


@pytest.mark.parametrize("method", [Grid(), Greedy(), Exact(climbs=1, gap=None)])
def test_held_out_videos_are_scored_by_weights_found_without_them(method):
    condensed = videos()
    held = hold_out(Problem(condensed, "all", 1), method, 3)
    units, total = {video: video for video in condensed.videos}, np.zeros((3, 3), np.int64)
    folds = split_units(condensed.videos, units, 3, 1)
    for fold, kept in zip(folds, held.folds, strict=True):
        rest = condensed.subset([video for video in condensed.videos if video not in fold])
        found = method.search(Problem(rest, "all", 1))
        matrices = condensed.subset(fold).confusion(found.vector)
        for video, matrix in zip(fold, matrices, strict=True):
            assert np.array_equal(held.scores.confusions[video], matrix)
        total += matrices.sum(axis=0)
        assert kept.videos == fold
        assert kept.score == miou(matrices.sum(axis=0), "all")
        assert (kept.miou, kept.weights, kept.multipliers) == (found.miou, found.weights, None)
    assert held == miou(total, "all")
    assert list(held) == [fold.score for fold in held.folds]
    for scores in held.contenders.values():
        assert list(scores.confusions) == list(condensed.videos)
    assert list(held.contenders) == [UNIFORM, GROUP, FOUND]  # no reach, no models


def test_with_multipliers_all_is_chosen_again_in_every_fold():
    weighed, method = planted(), Greedy(steps=6)
    units = {video: f"drive {int(video[1]) % 5}" for video in weighed.condensed.videos}
    held = hold_out(replace(weighed, units=units), method, 4)
    found, plain = {}, {}
    for fold, kept in zip(split_units(list(units), units, 4, 0), held.folds, strict=True):
        rest = weighed.subset([video for video in units if video not in fold])
        chosen = select(replace(rest, units=units), method)
        assert (kept.videos, kept.miou) == (fold, chosen.miou)
        assert (kept.weights, kept.multipliers) == (chosen.weights, chosen.multipliers)
        numbers = None if chosen.multipliers is None else list(chosen.multipliers.values())
        weights = method.search(rest).vector
        for video in fold:
            found[video] = weighed.wide.subset([video]).confusion(chosen.vector, numbers)[0]
            plain[video] = weighed.condensed.subset([video]).confusion(weights)[0]
    assert any(fold.multipliers for fold in held.folds)
    for name, matrices in ((FOUND, found), (WEIGHTS, plain)):
        for video, matrix in matrices.items():
            assert np.array_equal(held.contenders[name].confusions[video], matrix)
    assert held.contenders[WEIGHTS].score != held
    assert held == Scores(found, list("abc")).score


def of_matrices(rows: dict[str, list[list[list[int]]]]) -> Condensed:
    """Videos of three pixels; each group, one after the other, labels them as said here.

    rows: video -> group -> (target, label) of every pixel.
    """
    means, targets = [], []
    for groups in rows.values():
        each = np.full((len(groups), 2, len(groups[0])), 0.25, np.float32)
        for g, pixels in enumerate(groups):
            for n, (_, label) in enumerate(pixels):
                each[g, label, n] = 0.75
        means.append(each)
        targets += [target for target, _ in groups[0]]
    joined = np.ascontiguousarray(np.concatenate(means, axis=2))
    return condensed_of(joined, np.array(targets, np.uint8), len(rows))


RIGHT, HALF, WRONG = [[0, 0], [1, 1]], [[0, 0], [1, 0]], [[0, 1], [1, 0]]


@dataclass(frozen=True)
class First(Method):
    """All weight to the first group, whatever the videos."""

    name: ClassVar = "first"

    def search(self, problem, workspace=ALONE):
        return problem.result(self.name, problem.trials([np.eye(len(problem.groups))[0]]))


def test_contenders_worked_out_by_hand():
    """Group 0 is right on v1 alone; group 1 on v0 alone: without v1 the other one is the best."""
    pixels = of_matrices({"v0": [HALF, RIGHT], "v1": [RIGHT, WRONG]})
    one = {"v0": np.array([[1, 0], [1, 0]]), "v1": np.array([[1, 0], [0, 1]])}  # half, right
    two = {"v0": np.array([[1, 0], [0, 1]]), "v1": np.array([[0, 1], [1, 0]])}  # right, wrong
    singles = {"m0": Scores(one, ["c0", "c1"]), "m1": Scores(two, ["c0", "c1"])}
    held = hold_out(Problem(pixels), First(), 2, singles=singles)
    # on v0 alone group 1 is the best, and it is wrong on v1; on v1 alone group 0, half right on v0
    for name in (GROUP, SINGLE):
        found = held.contenders[name].confusions
        assert np.array_equal(found["v0"], one["v0"])
        assert np.array_equal(found["v1"], two["v1"])
        assert held.contenders[name].score == pytest.approx((1 / 4 + 0) / 2)
    # the two disagree about the second pixel of v0 and both of v1: ties go to class 0
    uniform = held.contenders[UNIFORM].confusions
    assert uniform["v0"].tolist() == [[1, 0], [1, 0]]
    assert uniform["v1"].tolist() == [[1, 0], [1, 0]]
    assert held.contenders[FOUND].score == held == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert list(held.contenders) == [UNIFORM, SINGLE, GROUP, FOUND]


def test_groups_are_formed_again_in_every_fold():
    """What is formed without v0 and without the others differs, in names and numbers of groups."""
    pixels = of_matrices({"v0": [HALF, RIGHT], "v1": [RIGHT, WRONG], "v2": [RIGHT, HALF]})
    both, seen = Problem(pixels), []
    alone = Problem(
        replace(
            pixels,
            pixels=tuple(each.fused(np.array([0, 1], np.float32)) for each in pixels.pixels),
            groups=("only",),
        )
    )

    def formed(rest):
        seen.append(tuple(rest))
        return both if "v0" in rest else alone

    held = hold_out(both, First(), 3, formed=formed)
    assert sorted(seen) == [("v0", "v1"), ("v0", "v2"), ("v1", "v2")]
    weights = {fold.videos: fold.weights for fold in held.folds}
    assert weights[("v0",)] == {"only": 1.0}
    assert weights[("v1",)] == weights[("v2",)] == {"g0": 1.0, "g1": 0.0}
    # v0 by group 1, right; v1 and v2 by group 0, right
    assert held == 1.0
    assert held.contenders[GROUP].confusions["v0"].tolist() == [[1, 0], [0, 1]]
    assert list(held.contenders) == [UNIFORM, GROUP, FOUND]
    assert list(hold_out(alone, First(), 3).contenders) == [UNIFORM, FOUND]


def test_clips_of_one_drive_are_never_in_different_folds():
    condensed = videos(8)
    drives = {video: f"drive {int(video[1]) // 2}" for video in condensed.videos}
    held = hold_out(replace(Problem(condensed), units=drives), First(), 3)
    assert len(held.folds) == 3
    for drive in set(drives.values()):
        clips = {video for video in drives if drives[video] == drive}
        assert [clips <= set(fold.videos) for fold in held.folds].count(True) == 1
        assert [clips.isdisjoint(fold.videos) for fold in held.folds].count(True) == 2
    assert len(hold_out(replace(Problem(condensed), units=drives), First(), 9).folds) == 4


def test_the_seed_deals_the_folds_and_progress_sees_each():
    condensed, seen = videos(), []

    def progress(items, description, total):
        seen.append((description, total))
        yield from items

    first = hold_out(Problem(condensed, seed=0), First(), 3, progress=progress)
    again = hold_out(Problem(condensed, seed=0), First(), 3)
    assert seen == [("folds", 3)]
    assert again.folds == first.folds
    other = hold_out(Problem(condensed, seed=1), First(), 3)
    assert [fold.videos for fold in other.folds] != [fold.videos for fold in first.folds]
    assert other == first  # the same weights whatever the folds


def test_one_video_or_unit_cannot_be_held_out():
    condensed = videos(1)
    with pytest.raises(InputError, match="1 video; holding out needs at least 2"):
        hold_out(Problem(condensed), First(), 5)
    weighed = planted()
    with pytest.raises(InputError, match="1 unit; holding out needs at least 2"):
        hold_out(replace(weighed, units=dict.fromkeys(apart(weighed), "a drive")), First(), 5)
    for folds in (1, 0, -2):
        with pytest.raises(InputError, match=f"folds: got {folds}; give at least 2"):
            hold_out(weighed, First(), folds)
