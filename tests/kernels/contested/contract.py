"""What every way of condensing and counting owes: the reference's labels, or an error."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from fusion.kernels.arithmetic import normalised, normalised_multipliers
from fusion.kernels.contested import BadPixel
from fusion.kernels.contested.layout import Parts, Run, runs
from tests.contested.cases import (
    brute_force,
    nearly_tied,
    probabilities,
    some_multipliers,
    some_targets,
)

IGNORE = 255


class ContestedContract:
    """Inherit and name the `backend`: a module with `condense` and `count`."""

    backend: ModuleType

    def normalised(self, groups: int, vectors: int = 6) -> np.ndarray:
        drawn = np.random.default_rng(groups).random((vectors, groups)) + 1e-6
        return np.array([normalised(row) for row in drawn.tolist()], np.float32)

    @pytest.mark.parametrize(("groups", "classes"), [(1, 4), (2, 2), (3, 7), (5, 3)])
    def test_counts_are_those_of_the_full_probabilities(self, groups, classes):
        for seed, make in enumerate((probabilities, nearly_tied)):
            means = make(groups, classes, 700, seed=seed)
            targets = some_targets(classes, 700, seed).astype(np.uint16)
            block = self.backend.condense(means, targets, IGNORE)
            parts = Parts([(0, run) for run in runs(block)])
            weights = self.normalised(groups)
            matrices = self.backend.count(parts, weights, classes)[0] + block.constant
            counts = self.backend.count(parts, weights, classes, matrix=False)[0]
            for vector, matrix, (inter, predicted) in zip(weights, matrices, counts, strict=True):
                full = brute_force(means, targets.astype(np.uint8), vector.tolist())
                assert np.array_equal(matrix, full)
                contested = full - block.constant
                assert np.array_equal(inter, np.diagonal(contested))
                assert np.array_equal(predicted, contested.sum(axis=0))

    @pytest.mark.parametrize("reach", [1.0, 1.3, 4.0, 1000.0])
    @pytest.mark.parametrize(("groups", "classes"), [(1, 4), (2, 2), (3, 7), (5, 3)])
    def test_multipliers_within_reach_lose_nothing(self, groups, classes, reach):
        for seed, make in enumerate((probabilities, nearly_tied)):
            means = make(groups, classes, 700, seed=seed)
            targets = some_targets(classes, 700, seed).astype(np.uint16)
            block = self.backend.condense(means, targets, IGNORE, reach**2)
            parts, weights = Parts([(0, run) for run in runs(block)]), self.normalised(groups, 14)
            raw = some_multipliers(classes, reach, seed=seed).tolist()
            factors = np.array([normalised_multipliers(row, classes) for row in raw], np.float32)
            got = self.backend.count(parts, weights, classes, multipliers=factors)[0]
            for vector, factor, matrix in zip(weights.tolist(), raw, got, strict=True):
                full = brute_force(means, targets.astype(np.uint8), vector, multipliers=factor)
                assert np.array_equal(matrix + block.constant, full)

    def test_a_wider_reach_keeps_what_multipliers_could_raise(self):
        """0.6 against 0.2: a factor of 3 decides, in favour of the lower class from 3 on."""
        means = np.array([[[0.2], [0.6], [0.2]]], np.float32)
        targets = np.zeros(1, np.uint16)
        kept = [
            self.backend.condense(means, targets, IGNORE, ratio).classes.tolist()
            for ratio in (1.0, 2.99, 3.01)
        ]
        assert kept == [[], [], [0, 1, 2]]

    def test_videos_are_counted_apart_or_together(self):
        means, targets = probabilities(2, 4, 900, agree=1.0), some_targets(4, 900)
        block = self.backend.condense(means, targets.astype(np.uint16), IGNORE)
        cut = [piece for run in runs(block) for piece in run.cut(2, 2)]
        parts, weights = Parts([(i % 3, run) for i, run in enumerate(cut)]), self.normalised(2)
        apart = self.backend.count(parts, weights, 4, videos=3)
        assert np.array_equal(apart.sum(axis=0), self.backend.count(parts, weights, 4)[0])
        for video in range(3):
            own = Parts([(0, run) for v, run in parts.runs if v == video])
            assert np.array_equal(apart[video], self.backend.count(own, weights, 4)[0])

    def test_nothing_to_count(self):
        assert self.backend.count(Parts([]), self.normalised(3), 4, videos=2).sum() == 0
        none = self.backend.condense(np.zeros((2, 3, 0), np.float32), np.zeros(0, np.uint16), 255)
        assert (len(none.counts), none.constant.sum(), none.means.shape) == (0, 0, (0, 2))

    @pytest.mark.parametrize(("score", "target"), [(np.nan, 1), (-0.1, 1), (1.5, 1), (0.5, 3)])
    def test_the_first_bad_pixel_is_named(self, score, target):
        means, targets = probabilities(2, 3, 1300), np.ones(1300, np.uint16)
        means[1, 2, [700, 1200]], targets[700] = score, target
        with pytest.raises(BadPixel) as raised:
            self.backend.condense(means, targets, IGNORE)
        assert raised.value.pixel == 700
        assert ("target" in raised.value.reason) == (target == 3)


def broken(run: Run, groups: int, classes: int) -> dict[str, Run]:
    """A sound run of at least two bundles whose last is not full, wrong in one thing each."""
    wide = run.classes.copy()
    wide[run.width * 16 + 1] = classes
    last = run.classes.copy().reshape(-1, 16)
    last[-1, run.pixels % 16 - 1] = classes  # the last pixel that exists
    far = run.targets.copy()
    far[run.pixels - 1] = 60000
    return {
        "a candidate beyond the classes": run._replace(classes=wide),
        "a candidate of the last pixel": run._replace(classes=last.ravel()),
        "a target beyond the classes": run._replace(targets=far),
        "more candidates than there are": run._replace(width=run.width + 1),
        "no candidates": run._replace(width=0),
        "more pixels than there are": run._replace(pixels=run.pixels + 16),
        "less than no pixels": run._replace(pixels=-16),
        "means of fewer groups": run._replace(means=run.means[: len(run.means) // groups]),
        "doubles": run._replace(means=run.means.astype(np.float64)),
        "every other mean": run._replace(means=np.repeat(run.means, 2)[::2]),
        "big-endian": run._replace(targets=run.targets.astype(">u2")),
    }
