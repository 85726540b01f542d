"""What every objective owes: its formula over label maps, and one value however it is asked."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from fusion.kernels import sweep
from fusion.kernels.native import build
from fusion.kernels.sweep import FLIP, Flips
from fusion.metrics import confusion
from fusion.metrics.objectives import OBJECTIVES, Objective, counts, objective

SEEDS = range(60)
Case = tuple[np.ndarray, np.ndarray]  # targets and labels of some pixels


def mean(values: list[float], weights: list[float]) -> float:
    """nan without values."""
    pairs = list(zip(values, weights, strict=True))
    return sum(v * w for v, w in pairs) / sum(weights) if pairs else math.nan


class ObjectiveContract:
    """Inherit, give the `name` in the table, and say over sets of pixels what its classes do.

    `chosen` are classes and their weights, {} for all of them.
    """

    name: str
    chosen: dict[int, float] = {}  # noqa: RUF012

    def member(self, targets: set[int], predicted: set[int]) -> bool:
        """Whether a class with these pixels is in the mean."""
        return bool(targets)

    def class_score(self, targets: set[int], predicted: set[int]) -> float:
        either = targets | predicted
        return len(targets & predicted) / len(either) if either else 0.0

    def frequency(self, targets: set[int]) -> float:
        """How often a class of the mean counts."""
        return 1.0

    @property
    def objective(self) -> Objective:
        return objective(self.name, self.chosen or None)

    def places(self, *maps: np.ndarray, classes: int) -> list[tuple[set[int], ...]]:
        """For each class the pixels that have it, in each of the maps."""
        return [tuple(set(np.flatnonzero(ids == c)) for ids in maps) for c in range(classes)]

    def scored(self, targets: np.ndarray, labels: np.ndarray, classes: int) -> dict[int, float]:
        """Score of each class that is a member."""
        chosen = [c for c in range(classes) if not self.chosen or c in self.chosen]
        pairs = self.places(targets, labels, classes=classes)
        members = [c for c in chosen if len(targets) and self.member(*pairs[c])]
        return {c: self.class_score(*pairs[c]) for c in members}

    def weight(self, c: int, targets: np.ndarray) -> float:
        return self.chosen.get(c, 1.0) * self.frequency(set(np.flatnonzero(targets == c)))

    def by_sets(self, cases: list[Case], classes: int) -> float:
        """The mean over members of all pixels together."""
        targets, labels = (np.concatenate(maps) for maps in zip(*cases, strict=True))
        found = self.scored(targets, labels, classes)
        return mean(list(found.values()), [self.weight(c, targets) for c in found])

    def cases(self, seed: int) -> tuple[list[Case], int]:
        """Some cases of some pixels, C classes of which some are missing in either map."""
        rng = np.random.default_rng(seed)
        classes = int(rng.integers(max(self.chosen, default=0) + 1, 8))
        made = []
        for _ in range(int(rng.integers(1, 5))):
            some = [rng.choice(classes, int(rng.integers(1, classes + 1))) for _ in range(2)]
            pixels = int(rng.integers(1, 30))
            made.append((rng.choice(some[0], pixels), rng.choice(some[1], pixels)))
        return made, classes

    def matrices(self, cases: list[Case], classes: int) -> np.ndarray:
        return np.stack([confusion(*case, classes) for case in cases])

    def test_the_table_has_it(self):
        assert objective(self.name) is OBJECTIVES[self.name]
        assert objective(self.objective) is self.objective or self.chosen
        assert pickle.loads(pickle.dumps(self.objective)) == self.objective
        assert self.objective.per_case == self.name.startswith("case-")

    def test_it_is_its_formula_over_label_maps(self):
        for seed in SEEDS:
            cases, classes = self.cases(seed)
            found = self.objective.of(self.matrices(cases, classes))
            expected = self.by_sets(cases, classes)
            assert found == pytest.approx(expected, abs=1e-14, nan_ok=True)

    def test_a_drawn_case_is_there_as_often_as_it_was_drawn(self):
        for seed in SEEDS:
            cases, classes = self.cases(seed)
            times = np.random.default_rng(seed).integers(0, 4, (5, len(cases)))
            times[:, 0] += times.sum(axis=1) == 0
            found = self.objective.resampled(self.matrices(cases, classes), times)
            for value, drawn in zip(found, times.tolist(), strict=True):
                copies = [case for case, n in zip(cases, drawn, strict=True) for _ in range(n)]
                expected = self.by_sets(copies, classes)
                assert value == pytest.approx(expected, abs=1e-14, nan_ok=True)

    def test_it_does_not_depend_on_the_order_of_cases_or_classes(self):
        for seed in SEEDS:
            cases, classes = self.cases(seed)
            expected = pytest.approx(self.by_sets(cases, classes), abs=1e-14, nan_ok=True)
            assert self.objective.of(self.matrices(cases[::-1], classes)) == expected
            if not self.chosen:
                order = np.random.default_rng(seed).permutation(classes)
                permuted = [(order[targets], order[labels]) for targets, labels in cases]
                assert self.objective.of(self.matrices(permuted, classes)) == expected

    def test_it_is_best_where_every_label_is_right(self):
        for seed in SEEDS:
            cases, classes = self.cases(seed)
            right = [(targets, targets) for targets, _ in cases]
            best, found = (self.objective.of(self.matrices(x, classes)) for x in (right, cases))
            assert math.isnan(best) or 0.0 <= found <= best <= 1.0 + 1e-15

    def test_nothing_has_no_score(self):
        nothing = np.zeros((2, 3, 7, 7), np.int64)
        nothing[1, 2] = 1
        assert np.isnan([self.objective.of(each) for each in nothing]).tolist() == [True, False]
        assert math.isnan(self.objective.of(nothing[0, :0]))
        padded = np.concatenate([nothing[0], nothing[1, 2:]])
        assert self.objective.of(padded) == self.objective.of(nothing[1, 2:])

    def test_a_batch_gives_the_bits_of_its_members(self):
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            batch = rng.integers(0, 99, (2, 3, 40, 40)) * (rng.random((40, 40)) < 0.3)
            if self.objective.per_case:
                batch = np.stack([batch, batch[::-1]], axis=2)
            alone = [[float(self.objective(*counts(each))) for each in row] for row in batch]
            for layout in (np.ascontiguousarray, np.asfortranarray):
                together = self.objective(*(layout(x) for x in counts(batch)))
                assert together.tolist() == alone

    @pytest.mark.parametrize("slow", [False, True])
    def test_the_best_of_a_line_is_the_best_of_its_label_maps(self, slow):
        """Labels flip at random places; between them all maps are scored from scratch."""
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            cases, classes = self.cases(seed)
            inter, rows, columns = counts(self.matrices(cases, classes))
            now = [labels.copy() for _, labels in cases]
            flips, best, left = [], -1.0, 0.0
            for at in [*np.sort(rng.choice(np.linspace(0.1, 0.9, 9), 12)), 1.0]:
                if at > left:
                    maps = [(targets, labels) for (targets, _), labels in zip(cases, now)]  # noqa: B905
                    value = self.by_sets(maps, classes)
                    best, left = max(best, 0.0 if math.isnan(value) else value), at
                case, fresh = int(rng.integers(len(cases))), int(rng.integers(classes))
                pixel = int(rng.integers(len(now[case])))
                if at < 1.0 and fresh != now[case][pixel]:
                    place = case if self.objective.per_case else 0
                    flips.append((at, cases[case][0][pixel], now[case][pixel], fresh, place))
                    now[case][pixel] = fresh
            base = np.stack([inter, columns], axis=1)
            base = base if self.objective.per_case else base.sum(axis=0, keepdims=True)
            found = Flips(np.array(flips, FLIP), np.zeros_like(base), True)
            with pytest.MonkeyPatch.context() as patch:
                if slow:
                    patch.setattr(build, "library", lambda: None)
                given = self.objective.cells(rows), base, 0.0, 1.0, 0.0
                value, low, high = sweep.scan(found, *given)
            assert value == pytest.approx(best, abs=1e-11)
            assert low < high
