"""What a search returns: as JSON, in words."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fusion.kernels.arithmetic import normalised
from fusion.search.greedy import Greedy
from fusion.search.method import Problem
from fusion.search.result import SearchResult, Trial, best_trial
from tests.search.simulated import videos


def test_results_as_json_and_the_best_of_ties():
    trials = (Trial((1.0, 0.0), float("nan")), Trial((1.0, 1.0), 0.5), Trial((2.0, 1.0), 0.5))
    assert best_trial(trials) == trials[1]
    result = SearchResult("grid", ("a", "b"), (1.0, 1.0), 0.5, "vspw", trials, held_out=0.45)
    plain = json.loads(json.dumps(result.to_json()))
    assert plain["weights"] == {"a": 1.0, "b": 1.0}
    assert plain["interval"] is None
    assert plain["history"][0] == [[1.0, 0.0], None]
    assert normalised(result.vector) == [0.5, 0.5]


@pytest.mark.parametrize("groups", [1, 3, 40])
def test_printed_it_is_a_table_of_about_ten_lines(groups):
    rng = np.random.default_rng(0)
    names = tuple(f"model_{g}" for g in range(groups))
    trials = [Trial(tuple(rng.random(groups).tolist()), rng.random()) for _ in range(900)]
    best = best_trial(trials)
    found = SearchResult("greedy", names, best.weights, best.miou, "vspw", tuple(trials))
    known = {"upper_bound": 0.999}
    shown = str(replace(found, held_out=0.125, certificate=known)).split("\n")
    assert len(shown) == 10
    assert max(map(len, shown)) < 120
    assert "greedy" in shown[0]
    assert f"model_{max(range(groups), key=best.weights.__getitem__)} " in shown[1]
    assert f"{100 * best.miou:.2f}" in shown[2]
    assert [line.split()[-1] for line in shown[3:5]] == ["12.50", "99.90"]
    assert "900" in shown[5]
    assert ("more" in shown[1]) == (groups == 40)
    bare = replace(found, miou=float("nan"), history=trials[:1])
    assert len(repr(bare).split("\n")) == 5


def test_printed_it_has_the_interval_where_it_is_known():
    weighed = Problem(videos())
    found = Greedy(steps=2).search(weighed)
    assert "interval" not in repr(found)
    scores = weighed.scores(found.vector)
    low, high = (f"{100 * end:.2f}" for end in scores.interval())
    assert f"95 % interval {low} to {high}" in repr(replace(found, scores=scores))
