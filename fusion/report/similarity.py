"""Who errs alike: shares of errors that two models have in common, and models in that order.

M models, P pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fusion.errors import InputError
from fusion.metrics.objectives import Counts
from fusion.report.facts import Floats, Similarity

HINT = "pip install 'segfusion[plot]'"


def common_errors(labels: np.ndarray, target: np.ndarray) -> Counts:
    """Errors that models share, counted.

    Args:
        labels: [M, P] ids.
        target: [P] ids of pixels that count.

    Returns:
        int64 [2, M, M]: pixels where both give the same wrong class, and where either is wrong.
    """
    wrong = labels != target
    some = wrong.any(axis=0)
    labels, wrong = labels[:, some], wrong[:, some]
    same = [((labels == mine) & bad).sum(axis=1) for mine, bad in zip(labels, wrong, strict=True)]
    alone = wrong.sum(axis=1)
    floats = wrong.astype(np.float64)  # whole numbers: exact, and BLAS's order of adding is hidden
    both = np.rint(floats @ floats.T).astype(np.int64)
    return np.stack([np.stack(same), alone[:, None] + alone - both]).astype(np.int64)


def similarity(models: Sequence[str], counted: Counts) -> Similarity:
    """Models in an order in which those that err alike are neighbours.

    Args:
        models: M names.
        counted: [2, M, M] as `common_errors` counts, summed.

    Raises:
        InputError: SciPy is not installed.
    """
    same, either = counted
    shares = np.divide(same, either, out=np.zeros(same.shape), where=either > 0)
    np.fill_diagonal(shares, 1.0)
    if len(models) < 2:
        return Similarity(tuple(models), shares)
    linkage, order = clustered(shares)
    names = tuple(models[place] for place in order)
    return Similarity(names, shares[np.ix_(order, order)], linkage)


def clustered(shares: Floats) -> tuple[Floats, list[int]]:
    """Average linkage on 1 - similarity, and its leaves in order, by which it then numbers them."""
    try:
        from scipy.cluster import hierarchy
        from scipy.spatial.distance import squareform
    except ImportError:
        raise InputError(f"report: clustering needs scipy, which is not there; {HINT}") from None
    apart = squareform(1 - shares, checks=False)
    linkage = hierarchy.linkage(apart, "average")
    linkage = hierarchy.optimal_leaf_ordering(linkage, apart)
    order = [int(leaf) for leaf in hierarchy.leaves_list(linkage)]
    number = len(order)
    places = {leaf: float(place) for place, leaf in enumerate(order)}
    for row in linkage:
        row[:2] = [places[int(end)] if end < number else end for end in row[:2]]
    return linkage, order
