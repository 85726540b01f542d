"""The coverage benchmark runs, and its populations are what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import intervals
from fusion.metrics.objectives import objective


def test_every_candidate_is_asked(monkeypatch, capsys):
    monkeypatch.delenv("SEGFUSION_DATA", raising=False)
    monkeypatch.setattr(intervals, "SCENES", [(5, 1, 2), (9, 3, 2)])
    assert intervals.main(["--repetitions", "2", "--json", "--objective", "dice"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = [f"{scene}, 2 rare classes" for scene in ("5 videos in 5 units", "9 videos in 3 units")]
    assert list(found) == names
    for shares in found.values():
        assert len(shares) == 15
        assert all(0 <= share <= 100 for share in shares.values())


def test_models_of_a_population_are_of_one_quality_and_rare_classes_are_rare():
    matrices = intervals.population(np.random.default_rng(0), 3, 2)
    assert matrices.shape == (2, 3 * intervals.POPULATION, 11, 11)
    rows = matrices.sum(axis=3)
    np.testing.assert_allclose(rows[0], rows[1], atol=12)  # rounded apart
    lives = (rows[0].reshape(-1, 3, 11) > 0).any(axis=1).mean(axis=0)
    assert lives[:9].min() > 0.9
    assert lives[9:].max() < 0.2
    first, second = (objective("vspw").of(each) for each in matrices)
    assert first == pytest.approx(second, abs=0.03)
