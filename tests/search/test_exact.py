"""The exact search: never below its starts, certified, resumed, stopped."""

from __future__ import annotations

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from fusion.errors import InputError, StoreError
from fusion.metrics import CONVENTIONS, objective
from fusion.search.exact import climb
from fusion.search.exact.certify import Certified, certify
from fusion.search.exact.climb import Exact
from fusion.search.exact.line import best_on_segment
from fusion.search.grid import Grid
from fusion.search.method import Problem, Workspace
from fusion.search.result import Trial, best_trial
from tests.search.simulated import condensed_of, crossings, problem, simplex, small


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("groups", [2, 3, 6])
def test_never_below_grid_starts_or_trials_and_true_in_float32(groups, convention):
    condensed = small(groups, seed=7, pixels=500)
    given_points = simplex(groups, 30, seed=3)
    weighed, method = Problem(condensed, convention), Exact(given_points.tolist(), 2, gap=None)
    found = method.search(weighed)
    assert found.miou == condensed.miou([found.vector], convention)[0]
    assert found.miou == best_trial(found.history).miou
    assert found.miou >= condensed.miou(given_points, convention).max()
    if groups < 4:
        assert found.miou >= Grid().search(weighed).miou
    assert list(found.weights) == list(condensed.groups)


@pytest.mark.parametrize("seed", range(4))
def test_finds_the_optimum_of_two_groups(seed):
    """Two groups are one segment: every stretch can be evaluated."""
    means, targets = problem(2, 3, 80, seed)
    condensed = condensed_of(means, targets)
    at = crossings(means, np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    middles = (at[1:] + at[:-1])[np.diff(at) > 1e-6] / 2
    best = condensed.miou(np.stack([1 - middles, middles], axis=1)).max()
    found = Exact(gap=1e-9).search(Problem(condensed))
    assert found.miou >= best
    assert found.certificate["upper_bound"] >= best


def test_same_seed_same_result_and_the_optimum_of_three_groups_is_certified():
    condensed = small(seed=5)
    weighed, method = Problem(condensed, seed=3), Exact(gap=0.004, certify=math.inf)
    found, again = method.search(weighed), method.search(weighed)
    assert found.history == again.history
    assert found.certificate["complete"]
    assert condensed.miou(simplex(3, 5000)).max() <= found.certificate["upper_bound"]
    assert json.loads(json.dumps(found.to_json()))["certificate"]["gap"] <= 0.004
    if stretch := found.notes.get("piece"):
        ends = condensed.miou([stretch["from"], stretch["to"]])
        assert (ends <= found.miou + 1e-12).all()


def test_no_time_returns_the_best_start_with_an_unknown_gap():
    condensed = small()
    found = Exact(time_limit=0.0).search(Problem(condensed))
    assert found.miou == best_trial(found.history).miou >= Grid().search(Problem(condensed)).miou
    assert found.notes["sweeps"] == 0
    known = {"gap": None, "upper_bound": 1.0, "boxes": 0, "seconds": 0.0, "complete": False}
    assert found.certificate == known


def test_an_interrupted_search_goes_on_to_the_same_end(tmp_path, monkeypatch):
    condensed, state = small(seed=11, pixels=600), tmp_path / "state.json"
    weighed, method = Problem(condensed, seed=1), Exact(gap=0.01, state=state, certify=math.inf)
    whole = Exact(gap=0.01, certify=math.inf).search(weighed)
    sweeps, original = [], best_on_segment

    def dies(*arguments, **options):
        if len(sweeps) == 7:
            raise KeyboardInterrupt
        sweeps.append(1)
        return original(*arguments, **options)

    with monkeypatch.context() as broken:
        broken.setattr("fusion.search.exact.climb.best_on_segment", dies)
        with pytest.raises(KeyboardInterrupt):
            method.search(weighed)
    assert json.loads(state.read_text())["step"] >= 1
    found = method.search(weighed)
    assert found.notes["resumed"]
    assert found.notes["sweeps"] < whole.notes["sweeps"]
    assert (found.vector, found.miou) == (whole.vector, whole.miou)
    done = method.search(weighed)
    assert done.notes["sweeps"] == 0
    assert done.vector == whole.vector
    assert done.certificate["upper_bound"] == whole.certificate["upper_bound"]
    assert {entry.name for entry in tmp_path.iterdir()} == {"state.json"}


def test_states_of_other_data_and_broken_ones_are_refused(tmp_path):
    state = tmp_path / "state.json"
    quick = Exact(climbs=1, gap=None, state=state)
    quick.search(Problem(small()))
    for other in (small(seed=9), small(classes=5)):
        with pytest.raises(InputError, match="other data"):
            quick.search(Problem(other))
    with pytest.raises(InputError, match="other data"):
        quick.search(Problem(small(), "union"))
    for text in ("{", "[]", "{}"):
        state.write_text(text)
        with pytest.raises(StoreError, match="no state"):
            quick.search(Problem(small()))
    with pytest.raises(StoreError, match="cannot be written"):
        Exact(climbs=1, state=state / "below" / "a" / "file").search(Problem(small()))


def test_wrong_options():
    late = ({"time_limit": seconds} for seconds in (-1.0, float("nan")))
    for options in ({"climbs": -1}, {"gap": 1.5}, *late):
        with pytest.raises(InputError, match="give numbers >= 0, a gap below 1"):
            Exact(**options)
    with pytest.raises(InputError, match="convention"):
        Problem(small(), "x")
    with pytest.raises(InputError, match="weights"):
        Exact(starts=[[1.0, 2.0]]).search(Problem(small()))


def test_the_best_of_one_group_is_certain():
    assert Exact().search(Problem(small(1))).certificate["complete"]


def test_all_uncontested_and_equal_models():
    means, targets = problem(1, 4, 200)
    condensed = condensed_of(np.repeat(means, 3, axis=0), targets)
    found = Exact().search(Problem(condensed))
    assert found.miou == condensed.miou([[1, 1, 1]])[0]
    assert found.certificate["gap"] < 1e-9


def test_a_class_without_pixels():
    means, targets = problem(3, 4, 300)
    targets[targets == 2] = 255
    for convention in CONVENTIONS:
        condensed = condensed_of(means, targets)
        found = Exact(gap=0.05).search(Problem(condensed, convention))
        most = condensed.miou(simplex(3, 2000), convention).max()
        assert most <= found.certificate["upper_bound"]


def test_exact_is_never_below_the_grid_and_is_certified(ensemble, truth):
    found = ensemble.search(truth, "exact", folds=3, certify=math.inf)  # machines are busy
    assert found.miou >= ensemble.search(truth, "grid").miou
    assert found.ensemble.evaluate(truth).miou == found.miou
    assert found.miou <= found.certificate["upper_bound"] <= found.miou + 1e-4
    assert found.interval() == found.scores.interval()
    assert found.held_out is not None


def test_searches_in_one_folder_keep_their_states_apart(tmp_path):
    condensed, at, method = small(), Workspace(folder=tmp_path), Exact(climbs=1, gap=None)

    def search(convention, seed):
        return method.search(Problem(condensed, convention, seed, lambda: "0123456789abcdef01"), at)

    rules = [("vspw", 0), ("union", 0), ("vspw", 3)]
    found = [search(*rule) for rule in rules]
    assert not any(each.notes["resumed"] for each in found)
    assert all(search(*rule).notes["resumed"] for rule in rules)
    plain, union, three = (
        tmp_path / f"exact-0123456789abcdef{rule}.json" for rule in ("", "-union-0", "-vspw-3")
    )
    assert set(tmp_path.iterdir()) == {plain, union, three}
    union.rename(plain)
    assert search("union", 0).notes["resumed"]  # from the one name that older versions had
    assert not union.exists()


def test_an_objective_without_a_bound_is_searched_and_not_certified(tmp_path):
    condensed, at = small(), Workspace(folder=tmp_path)
    wanted = objective("case-dice-monai", {"c/0": 2.0, "c1": 1.0}, ["c/0", "c1", "c2", "c3"])
    weighed = Problem(condensed, wanted, digest=lambda: "0123456789abcdef01")
    found = Exact(climbs=1).search(weighed, at)
    assert found.certificate is None
    assert found.miou == condensed.miou([found.vector], wanted)[0]
    assert found.miou > condensed.miou([[1.0] * 3], wanted)[0]
    assert found.convention == "case-dice-monai(c/0=2, c1=1)"
    assert json.loads(json.dumps(found.to_json()))["convention"] == found.convention
    (state,) = tmp_path.iterdir()
    assert re.fullmatch("exact-0123456789abcdef-[0-9a-f]{8}-0.json", state.name)
    assert Exact(climbs=1).search(weighed, at).notes["resumed"]
    with pytest.raises(InputError, match="has no bound; certify by vspw, union, all, or search"):
        certify(weighed, Trial(found.vector, found.miou))


def test_a_state_of_an_older_version_is_read(tmp_path):
    """Its keys are a file format."""
    state = tmp_path / "state.json"
    weighed, method = Problem(small()), Exact(climbs=1, gap=0.05, state=state, certify=math.inf)
    done = method.search(weighed)
    kept = json.loads(state.read_text())
    steps = ["data", "climbed", "step", "current", "found", "segment"]
    assert list(kept) == [*steps, "certify", "sha256"]
    assert list(kept["certify"]) == ["open", "settled", "boxes", "seconds", "closed"]
    del kept["sha256"], kept["segment"], kept["certify"]["closed"]
    state.write_text(json.dumps(kept))
    again = method.search(weighed)
    assert again.notes["sweeps"] == 0
    assert again.vector == done.vector
    assert {**again.certificate, "seconds": 0} == {**done.certificate, "seconds": 0}


def test_a_search_that_goes_on_knows_the_stretch_of_its_result(tmp_path):
    """It is swept again, not believed."""
    method = Exact(climbs=1, gap=None, state=tmp_path / "state.json")
    whole, again = (method.search(Problem(small(seed=5))) for _ in range(2))
    assert again.notes["sweeps"] == 0
    assert again.notes["piece"] == whole.notes["piece"]
    assert whole.notes["piece"]["width"] > 0


@pytest.mark.parametrize(
    ("certify", "limit", "seconds"),
    [
        (0.25, None, 25.0),
        (0.0, None, 1.0),  # a second at least
        (0.001, None, 1.0),
        (math.inf, None, math.inf),
        (0.25, 110.0, 10.0),
        (0.25, 130.0, 25.0),
    ],
)
def test_a_certificate_gets_a_share_of_the_time_of_the_search(certify, limit, seconds, monkeypatch):
    """By a clock that stands still but for the climbs, which take 100 seconds."""
    clock, given = [7.0], []

    def climb_all(search, climbs, progress):
        clock[0] += 100

    def certified(problem, best, *, time_limit, **_):
        given.append(time_limit)
        known = {"gap": 0.5, "upper_bound": 1.0, "boxes": 1, "seconds": 0.0, "complete": False}
        return Certified(known, best, {})

    monkeypatch.setattr(climb, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(climb._Search, "climb_all", climb_all)
    monkeypatch.setattr(climb, "certify", certified)
    found = Exact(certify=certify, time_limit=limit).search(Problem(small()))
    assert given == [pytest.approx(seconds)]
    assert found.certificate["upper_bound"] == 1.0
    given.clear()
    assert Exact(gap=None).search(Problem(small())).certificate is None
    assert given == []
