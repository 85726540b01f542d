"""Maps at store resolution against the same videos condensed, and against plain label maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion.contested import Maps
from fusion.errors import InputError
from fusion.kernels.upsample.naive import bilinear
from fusion.metrics import CONVENTIONS, confusion, miou
from tests.search.simulated import both_ways, simplex


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_condensed_pixels(seed):
    maps, condensed = both_ways(seed=seed)
    assert (maps.groups, maps.classes, maps.videos) == (
        *(condensed.groups, condensed.classes),
        condensed.videos,
    )
    assert maps.scored == condensed.scored > 0
    assert np.array_equal(maps.rows, condensed.rows)
    weights = simplex(5, 40, seed)
    assert np.array_equal(maps.confusions(weights), condensed.confusions(weights))
    assert np.array_equal(maps.normalised(weights), condensed.normalised(weights))
    for convention in CONVENTIONS:
        expected = condensed.miou(weights, convention)
        assert np.array_equal(maps.miou(weights, convention), expected)
    for row in weights[:3]:
        assert np.array_equal(maps.confusion(row), condensed.confusion(row))
    some = ["v2", "v0"]
    found = maps.subset(some)
    assert (found.videos, found.scored) == (("v2", "v0"), condensed.subset(some).scored)
    assert np.array_equal(found.confusion(weights[0]), condensed.subset(some).confusion(weights[0]))


def labels_of(maps: Maps, weights: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    """The matrix [C, C] by whole label maps in float64."""
    total = np.zeros((len(maps.classes),) * 2, np.int64)
    for video in maps.pixels:
        for frames in video.frames():
            for each, targets in zip(frames.maps, frames.targets, strict=True):
                mixed = torch.from_numpy(np.tensordot(weights, each.astype(np.float64), 1))
                scores = bilinear(mixed, frames.size).numpy() * multipliers[:, None, None]
                total += confusion(targets, scores.argmax(axis=0), len(total), ignore=255)
    return total


def test_multipliers_favour_classes():
    maps, _ = both_ways()
    rng = np.random.default_rng(0)
    weights, multipliers = rng.dirichlet(np.ones(5), 9), rng.uniform(0.3, 3, (9, 4))
    found = maps.confusions(weights, multipliers)
    for row, scale, matrix in zip(weights, multipliers, found, strict=True):
        assert np.array_equal(matrix, labels_of(maps, row, scale))
        assert np.array_equal(maps.confusion(row, scale).sum(axis=0), matrix)
    assert np.array_equal(maps.miou(weights, "all", multipliers), miou(found, "all"))
    ones, same = np.ones(4), np.broadcast_to(multipliers[0], (9, 4))
    assert np.array_equal(maps.confusions(weights, ones), maps.confusions(weights))
    expected = maps.confusions(weights, same)
    assert np.array_equal(maps.confusions(weights, multipliers[0]), expected)


def test_flips_lead_from_one_end_to_the_other():
    maps, _ = both_ways()
    for scale in (None, [1.0, 0.5, 2.0, 1.5]):
        ends = np.random.default_rng(1).dirichlet(np.ones(5), 2)
        shares = list(maps.flips((ends[0], ends[1]), 0.0, 1.0, 10**6, scale))
        ((inter, predicted),) = np.sum([share.statistics for share in shares], axis=0)
        for share in shares:
            np.add.at(predicted, share.flips["to"], 1)
            np.subtract.at(predicted, share.flips["from"], 1)
            np.add.at(inter, share.flips["target"], share.flips["to"] == share.flips["target"])
            lost = share.flips["from"] == share.flips["target"]
            np.subtract.at(inter, share.flips["target"], lost)
        matrix = maps.confusions(ends[1:], scale)[0]
        assert predicted.tolist() == matrix.sum(axis=0).tolist()
        assert inter.tolist() == np.diagonal(matrix).tolist()


@pytest.mark.parametrize(
    ("multipliers", "message"),
    [
        ([1.0, 2.0], r"got \[1.0, 2.0\]; give 4 finite"),
        ([1.0, 0.0, -1.0, 2.0], r"got \[1.0, 0.0, -1.0, 2.0\]; give 4 finite"),
        ([1.0, 1.0, 1.0, np.nan], "nan"),
        (np.ones((3, 4)), "got 3 rows; give one, or one for each of 2"),
    ],
)
def test_multipliers_that_cannot_be(multipliers, message):
    maps, _ = both_ways()
    with pytest.raises(InputError, match=message):
        maps.confusions(np.ones((2, 5)), multipliers)


def test_weights_and_videos_are_checked_as_those_of_condensed_pixels():
    for source in both_ways():
        with pytest.raises(InputError, match=r"weights: got shape \[2, 3\]"):
            source.miou(np.ones((2, 3)))
        with pytest.raises(InputError, match="unknown \\['v9'\\]"):
            source.subset(["v0", "v9"])
        with pytest.raises(InputError, match="at least one of them above 0"):
            source.confusion(np.zeros(5))
    assert "3 videos, 5 groups, 4 classes" in repr(source)
