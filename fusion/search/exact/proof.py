"""The state of a certificate, proved again: nothing is believed that the pixels can be asked.

    leaves -> the halvings that lead to them from all weightings, which shows that they cover these
           -> their bounds, from the pixels

Bounding a leaf again takes as long as it took at first, so that of long certificates some are
bounded when a run goes on from them (the highest, and others at random), and the rest before the
certificate is called complete. A run that ends earlier says how many it took from the state.

G groups.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.contested import Condensed
from fusion.errors import CorruptStoreError
from fusion.kernels import sweep
from fusion.kernels.sweep import Undecided
from fusion.metrics.objectives import miou_of_counts
from fusion.search.claims import SAME, number
from fusion.search.method import Problem

ROUNDING = 1e-12  # of the float64 sums of IoU
EVERY = 1 << 28  # pixels times leaves, up to which all are bounded at once
HIGHEST, DRAWN = 4, 12  # of more
Corners = NDArray[np.float64]


class Leaf(NamedTuple):
    """A simplex that a state has, and its bound there."""

    bound: float
    corners: Corners


class Step(NamedTuple):
    """A simplex on the way to a leaf: its bound, and the pixels that are open in it."""

    key: bytes
    bound: float
    undecided: Undecided


def upper_bound(found: Undecided, problem: Problem) -> float:
    """The most that mIoU can be over the simplex that `found` describes.

    By ``union`` a class without targets counts as soon as it is predicted: the settled predictions
    are the fewest members there can be.
    """
    inter, rows = found.right + found.gain, problem.condensed.rows
    return float(miou_of_counts(inter, rows, found.wrong + inter, problem.convention)) + ROUNDING


def longest_edge(corners: Corners) -> tuple[int, int, float]:
    """The two corners that are furthest from each other, and how far that is."""
    edges = np.linalg.norm(corners[:, None] - corners[None], axis=2)
    first, second = np.unravel_index(int(edges.argmax()), edges.shape)
    return int(first), int(second), float(edges[first, second])


def halved(corners: Corners) -> tuple[Corners, Corners]:
    """The two halves [2, G, G] of a simplex, and the middle of its longest edge."""
    first, second, _ = longest_edge(corners)
    middle = (corners[first] + corners[second]) / 2
    halves = np.stack([corners, corners])
    halves[0, first] = halves[1, second] = middle
    return halves, middle


def leaves_of(simplexes: Any, groups: int) -> list[Leaf]:
    """Bounds and corners as a state lists them; ValueError for anything else."""
    leaves = []
    for bound, corners in simplexes:
        points = np.array(corners, np.float64)
        if points.shape != (groups, groups) or not np.isfinite(points).all():
            raise ValueError("corners that are none")
        leaves.append(Leaf(float(number(bound, 0.0)), points))
    return leaves


def parents_of(leaves: Sequence[Leaf], groups: int) -> dict[bytes, bytes | None]:
    """The simplex that each was halved from, down to the leaves.

    ValueError where these are not what halving makes of all weightings, each there once.
    """
    left = {leaf.corners.tobytes() for leaf in leaves}
    root = np.eye(groups)
    parents: dict[bytes, bytes | None] = {root.tobytes(): None}
    waiting, most = [root], 2 * len(leaves)
    while waiting:
        corners = waiting.pop()
        key = corners.tobytes()
        if key in left:
            left.remove(key)
            continue
        if len(parents) >= most:
            raise ValueError("its simplexes do not cover all weightings")
        for half in halved(corners)[0]:
            parents[half.tobytes()] = key
            waiting.append(half)
    if left or len(parents) != most - 1:
        raise ValueError("its simplexes overlap")
    return parents


class Proof:
    """Leaves of a state, and which of them the pixels bear out so far.

    Args:
        problem, condensed: what is certified.
        root: all pixels, none of them settled.
        leaves: of the state; None for a certificate that begins.

    Raises:
        CorruptStoreError: leaves that do not cover all weightings; a bound that is too low.
    """

    def __init__(
        self, problem: Problem, condensed: Condensed, root: Undecided, leaves: Sequence[Leaf] | None
    ) -> None:
        self.problem, self.root = problem, root
        self.groups, self.most_kept = len(problem.groups), condensed.budget.open_parts
        (self.pixels,) = condensed.batches()
        self.parents: Mapping[bytes, bytes | None] = {}
        self._way: list[Step] = []  # to the leaf that was bounded last
        if leaves is None:
            self.waiting: list[Leaf] = []
            return
        try:
            self.parents = parents_of(leaves, self.groups)
        except ValueError as error:
            raise CorruptStoreError(str(error)) from error
        places = {key: place for place, key in enumerate(self.parents)}
        # neighbours have most of their ways in common
        self.waiting = sorted(leaves, key=lambda leaf: places[leaf.corners.tobytes()])
        if len(leaves) * len(root.ids) > EVERY:
            drawn = np.random.default_rng().permutation(len(leaves))[:DRAWN].tolist()
            ranked = sorted(range(len(leaves)), key=lambda n: -self.waiting[n].bound)
            some = {*ranked[:HIGHEST], *drawn}
            rest = [leaf for n, leaf in enumerate(self.waiting) if n not in some]
            self.waiting = [leaf for n, leaf in enumerate(self.waiting) if n in some]
            self.go_on()
            self.waiting = rest
        else:
            self.go_on()

    def go_on(self, deadline: float = float("inf")) -> None:
        """Bounds the leaves that are waiting, until it is so late by the monotonic clock."""
        while self.waiting and time.monotonic() < deadline:
            leaf = self.waiting.pop()
            found = self._bound(leaf.corners.tobytes())
            if leaf.bound < found - SAME:
                got = f"says {leaf.bound:.9g} is an upper bound where the pixels give {found:.9g}"
                raise CorruptStoreError(got)

    def _bound(self, leaf: bytes) -> float:
        """Of a leaf, from its pixels: the lowest on the way to it."""
        keys, key = [leaf], self.parents[leaf]
        while key is not None:
            keys.append(key)
            key = self.parents[key]
        keys.reverse()
        common = sum(1 for known, key in zip(self._way, keys, strict=False) if known.key == key)
        del self._way[common:]
        for key in keys[common:]:
            bound, undecided = self._way[-1][1:] if self._way else (1.0, self.root)
            corners = np.frombuffer(key).reshape(self.groups, self.groups)
            found = sweep.bound(self.pixels, undecided, corners)
            bound = min(bound, upper_bound(found, self.problem))
            held = sum(step.undecided.ids.nbytes for step in self._way) + found.ids.nbytes
            self._way.append(Step(key, bound, found if held <= self.most_kept else undecided))
        return self._way[-1].bound
