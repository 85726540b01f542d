"""Clustering against SciPy's own, and counting on tiny maps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from fusion.report.counts import shared_errors
from fusion.report.similarity import clustered, common_errors, similarity


def test_common_errors_by_hand():
    target = np.array([0, 0, 1, 1, 2])
    labels = np.array([[0, 1, 1, 2, 0], [0, 1, 0, 0, 0], [0, 0, 1, 1, 2]])
    same, either = common_errors(labels, target)
    assert same.tolist() == [[3, 2, 0], [2, 4, 0], [0, 0, 0]]
    assert either.tolist() == [[3, 4, 3], [4, 4, 4], [3, 4, 0]]


def random_shares(models, seed):
    draw = np.random.default_rng(seed)
    shares = draw.uniform(0, 0.9, (models, models))
    shares = (shares + shares.T) / 2
    np.fill_diagonal(shares, 1)
    return shares


@pytest.mark.parametrize("models", [2, 3, 9])
def test_leaves_are_in_order_and_heights_are_scipys(models):
    shares = random_shares(models, models)
    linkage, order = clustered(shares)
    assert hierarchy.leaves_list(linkage).tolist() == [*range(models)]
    assert hierarchy.dendrogram(linkage, no_plot=True)["leaves"] == [*range(models)]
    plain = hierarchy.linkage(squareform(1 - shares, checks=False), "average")
    mine = squareform(hierarchy.cophenet(linkage))
    theirs = squareform(hierarchy.cophenet(plain))[np.ix_(order, order)]
    np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_two_that_err_alike_are_neighbours():
    counted = np.full((2, 3, 3), 10)
    counted[0] = [[9, 1, 8], [1, 9, 1], [8, 1, 9]]
    found = similarity(["a", "b", "c"], counted)
    assert abs(found.models.index("a") - found.models.index("c")) == 1
    places = [found.models.index(name) for name in "abc"]
    np.testing.assert_array_equal(
        found.shares[np.ix_(places, places)], [[1, 0.1, 0.8], [0.1, 1, 0.1], [0.8, 0.1, 1]]
    )


def test_models_without_errors_and_single_ones():
    found = similarity(["a", "b"], np.zeros((2, 2, 2), np.int64))
    assert found.shares.tolist() == [[1, 0], [0, 1]]
    alone = similarity(["a"], np.zeros((2, 1, 1), np.int64))
    assert (alone.models, alone.linkage) == (("a",), None)


def test_large_frames_are_thinned_and_void_never_counts(monkeypatch):
    monkeypatch.setattr("fusion.report.counts.MOST_PIXELS", 20)
    target = np.zeros((8, 8), np.uint8)
    target[0, 0] = 255
    labels = [np.ones((8, 8), np.uint8), np.full((8, 8), 2, np.uint8)]
    counted = shared_errors(labels, target, 255)
    assert counted[1].tolist() == [[15, 15], [15, 15]]  # every 2nd row and column, but a void one
    assert counted[0].tolist() == [[15, 0], [0, 15]]
