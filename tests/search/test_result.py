"""What a search returns: as JSON, in words."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from fusion.kernels.arithmetic import normalised
from fusion.metrics import Scores
from fusion.search.folds import hold_out
from fusion.search.greedy import Greedy
from fusion.search.held import FOUND, Fold, HeldOut
from fusion.search.method import Problem
from fusion.search.result import SearchResult, Trial, best_trial
from fusion.search.verdict import Verdict
from tests.search.simulated import videos


def held() -> HeldOut:
    """Of two classes one has IoU 1/2 and one 1/4."""
    scores = Scores({"v": np.array([[2, 1], [1, 0]]), "w": np.array([[1, 0], [1, 1]])}, ["a", "b"])
    folds = [Fold(("v",), 0.25, 0.9, {"g": 1.0}, {"a": 2.0, "b": 0.5})]
    return HeldOut([*folds, Fold(("w",), 0.5, 0.8, {"g": 1.0}, None)], {FOUND: scores})


def test_a_held_out_score_is_a_number_of_folds():
    found = held()
    assert isinstance(found, float)
    assert found == (1 / 2 + 1 / 4) / 2 == found.scores.miou
    assert list(found) == [0.25, 0.5]
    assert [len(found), found[1]] == [2, 0.5]
    again = pickle.loads(pickle.dumps(found))
    assert (again, list(again), again.folds) == (found, [0.25, 0.5], found.folds)


def test_results_as_json_and_the_best_of_ties():
    trials = (Trial((1.0, 0.0), float("nan")), Trial((1.0, 1.0), 0.5), Trial((2.0, 1.0), 0.5))
    assert best_trial(trials) == trials[1]
    result = SearchResult("grid", ("a", "b"), (1.0, 1.0), 0.5, "vspw", trials, held_out=held())
    plain = json.loads(json.dumps(result.to_json()))
    assert plain["held_out"] == 0.375
    assert plain["folds"][0]["videos"] == ["v"]
    assert plain["folds"][0]["multipliers"] == {"a": 2.0, "b": 0.5}
    assert [plain["verdict"], plain["multipliers"]] == [None, None]
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
    shown = str(replace(found, held_out=held(), certificate=known)).split("\n")
    assert len(shown) == 10
    assert max(map(len, shown)) < 120
    assert "greedy" in shown[0]
    assert f"model_{max(range(groups), key=best.weights.__getitem__)} " in shown[1]
    assert f"{100 * best.miou:.2f}" in shown[2]
    assert [line.split()[-1] for line in shown[3:5]] == ["37.50", "99.90"]
    assert "900" in shown[5]
    assert ("more" in shown[1]) == (groups == 40)
    bare = replace(found, miou=float("nan"), history=trials[:1])
    assert len(repr(bare).split("\n")) == 5


def test_notebooks_show_the_same_rows_escaped():
    found = SearchResult("grid", ("<i>", "b"), (1.0, 0.5), 0.5, "vspw", (Trial((1.0, 0.5), 0.5),))
    shown = found._repr_html_()
    assert "<i>" not in shown
    assert "<td>&lt;i&gt; 1, b 0.5</td>" in shown
    assert shown.count("<tr>") == len(repr(found).split("\n"))
    assert "<caption>SearchResult by grid" in shown


def test_printed_it_has_the_interval_where_it_is_known():
    weighed = Problem(videos())
    found = Greedy(steps=2).search(weighed)
    assert "interval" not in repr(found)
    scores = weighed.scores(found.vector)
    low, high = (f"{100 * end:.2f}" for end in scores.interval())
    assert f"95 % interval {low} to {high}" in repr(replace(found, scores=scores))


def test_printed_it_has_multipliers_furthest_from_one_first_and_the_verdict():
    weighed = Problem(videos())
    found = Greedy(steps=2).search(weighed)
    b = {"a": 1.1, "b": 0.25, "c": 2.0, "d": 0.9, "e": 1.5, "f": 1.0}
    verdict = Verdict(
        hold_out(weighed, Greedy(steps=2), 3), {v: v for v in weighed.condensed.videos}
    )
    shown = repr(replace(found, multipliers=b, verdict=verdict)).split("\n")
    assert shown[3] == "  multipliers b 0.25, c 2, e 1.5, d 0.9, a 1.1, ..."
    assert shown[4] == f"  verdict     {verdict.sentence}"
    assert found.gain is None
    assert replace(found, verdict=verdict).gain == verdict.gain
