"""What every objective owes: its formula over label maps, and one value however it is asked."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fusion.kernels import sweep
from fusion.kernels.native import build
from fusion.kernels.sweep import FLIP, Flips
from fusion.metrics import confusion
from fusion.metrics.confusion import counts
from fusion.metrics.objectives import OBJECTIVES, Objective, objective

SEEDS = range(60)


class ObjectiveContract:
    """Inherit, give the `name` in the table, and say over sets of pixels what its classes do."""

    name: str

    def member(self, targets: set[int], predicted: set[int]) -> bool:
        """Whether a class with these pixels is in the mean."""
        raise NotImplementedError

    def class_score(self, targets: set[int], predicted: set[int]) -> float:
        either = targets | predicted
        return len(targets & predicted) / len(either) if either else 0.0

    @property
    def objective(self) -> Objective:
        return OBJECTIVES[self.name]

    def places(self, *maps: np.ndarray, classes: int) -> list[list[set[int]]]:
        """For each class the pixels that have it, in each of the maps."""
        return [[set(np.flatnonzero(ids == c)) for ids in maps] for c in range(classes)]

    def by_sets(self, targets: np.ndarray, labels: np.ndarray, classes: int) -> float:
        """The mean over members, from sets of pixels."""
        places = self.places(targets, labels, classes=classes)
        scores = [self.class_score(*pair) for pair in places if self.member(*pair)]
        return sum(scores) / len(scores) if len(targets) else math.nan

    def maps(self, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Targets and labels of some pixels, C classes of which some are missing in either."""
        rng = np.random.default_rng(seed)
        classes, pixels = int(rng.integers(1, 7)), int(rng.integers(1, 30))
        some = [rng.choice(classes, int(rng.integers(1, classes + 1))) for _ in range(2)]
        return rng.choice(some[0], pixels), rng.choice(some[1], pixels), classes

    def score(self, targets: np.ndarray, labels: np.ndarray, classes: int) -> float:
        return float(self.objective(*counts(confusion(targets, labels, classes))))

    def test_the_table_has_it(self):
        assert objective(self.name) is self.objective

    def test_it_is_its_formula_over_label_maps(self):
        for seed in SEEDS:
            targets, labels, classes = self.maps(seed)
            expected = self.by_sets(targets, labels, classes)
            assert self.score(targets, labels, classes) == pytest.approx(expected, abs=1e-14)

    def test_it_does_not_depend_on_the_order_of_classes(self):
        for seed in SEEDS:
            targets, labels, classes = self.maps(seed)
            order = np.random.default_rng(seed).permutation(classes)
            permuted = self.score(order[targets], order[labels], classes)
            assert permuted == pytest.approx(self.score(targets, labels, classes), abs=1e-14)

    def test_it_is_best_where_every_label_is_right(self):
        for seed in SEEDS:
            targets, labels, classes = self.maps(seed)
            best = self.score(targets, targets, classes)
            assert 0.0 <= self.score(targets, labels, classes) <= best <= 1.0

    def test_no_pixel_has_no_score(self):
        nothing = np.zeros((2, 4, 4), np.int64)
        nothing[1, 2, 3] = 1
        assert np.isnan(self.objective(*counts(nothing))).tolist() == [True, False]

    def test_a_batch_gives_the_bits_of_its_members(self):
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            batch = rng.integers(0, 99, (2, 3, 40, 40)) * (rng.random((40, 40)) < 0.3)
            alone = [[float(self.objective(*counts(matrix))) for matrix in row] for row in batch]
            for layout in (np.ascontiguousarray, np.asfortranarray):
                together = self.objective(*(layout(x) for x in counts(batch)))
                assert together.tolist() == alone

    def test_init_depends_on_the_targets_only_and_says_how_classes_count(self):
        for seed in SEEDS:
            targets, labels, classes = self.maps(seed)
            inter, rows, columns = counts(confusion(targets, labels, classes))
            counted = self.objective.init(rows)
            assert counted.dtype == np.uint8
            places = self.places(targets, labels, classes=classes)
            members = [self.member(*pair) for pair in places]
            allowed = {(0, False), (1, True), (2, True), (2, False)}
            assert set(zip(counted.tolist(), members, strict=True)) <= allowed
            scores = self.objective.update(inter, rows, columns)
            assert self.objective.combine(scores, counted, columns)[1] == sum(members)

    @pytest.mark.parametrize("slow", [False, True])
    def test_the_best_of_a_line_is_the_best_of_its_label_maps(self, slow):
        """Labels flip at random places; between them the map is scored from scratch."""
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            targets, labels, classes = self.maps(seed)
            inter, rows, columns = counts(confusion(targets, labels, classes))
            flips, best, left, now = [], -1.0, 0.0, labels.copy()
            for at in [*np.sort(rng.choice(np.linspace(0.1, 0.9, 9), 12)), 1.0]:
                if at > left:
                    best, left = max(best, self.by_sets(targets, now, classes)), at
                pixel, fresh = int(rng.integers(len(now))), int(rng.integers(classes))
                if at < 1.0 and fresh != now[pixel]:
                    flips.append((at, targets[pixel], now[pixel], fresh, 0))
                    now[pixel] = fresh
            found = Flips(np.array(flips, FLIP), np.zeros((2, classes), np.int64), True)
            base, counted = np.stack([inter, columns]), self.objective.init(rows)
            with pytest.MonkeyPatch.context() as patch:
                if slow:
                    patch.setattr(build, "library", lambda: None)
                value, low, high = sweep.scan(found, rows, base, counted, 0.0, 1.0, 0.0)
            assert value == pytest.approx(best, abs=1e-11)
            assert low < high
