"""The weight plane against `evaluate` at its points, and intervals taken one by one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import fusion
from fusion.metrics.intervals import Gain
from fusion.report.gather import facts_of
from fusion.report.plane import Axes, scored, weight_plane
from fusion.report.results import read_results
from tests.report.cases import QUICK, search, write_underrated

PLACES = [(0, 0), (0, 40), (17, 3), (40, 40), (20, 28), (5, 33)]


def weights_at(plane, y, x):
    return {"strong": 1.0, "weak": plane.x[x], "auxiliary": plane.y[y]}


def matrices(scores):
    return np.stack([scores.confusions[v] for v in sorted(scores.confusions)])


def test_scores_are_those_of_evaluate(facts, found, truths):
    plane = facts.plane
    assert (plane.fixed, plane.axes, plane.paper) == ("strong", ("weak", "auxiliary"), (1.4, 1.0))
    assert plane.scores.shape == (len(plane.y), len(plane.x)) == (41, 41)
    for y, x in PLACES:
        mine = found.with_weights(weights_at(plane, y, x)).evaluate(truths["val"])
        assert plane.scores[y, x] == mine.miou
    known = facts.weights
    ratios = known["weak"] / known["strong"], known["auxiliary"] / known["strong"]
    assert plane.best == (*ratios, facts.score.value)
    assert (plane.x[0], plane.x[-1]) == (0.0, 2.0)


def test_plausible_is_what_the_paired_gain_cannot_tell(facts, found, truths):
    plane, best = facts.plane, matrices(found.evaluate(truths["val"]))
    assert plane.plausible.any()
    assert not plane.plausible.all()
    edge = [tuple(place) for place in np.argwhere(~plane.plausible)[:3]]
    for y, x in PLACES + edge:
        mine = matrices(found.with_weights(weights_at(plane, y, x)).evaluate(truths["val"]))
        assert plane.plausible[y, x] == (not Gain.between(mine, best).distinguishable)


def test_multipliers_stay_as_they_were_found(tmp_path):
    folder = search(write_underrated(tmp_path), *QUICK, "--multipliers", "--folds", "0")
    truth = fusion.Labels.folder(tmp_path / "labels")
    facts = facts_of(read_results(folder))
    found = fusion.HierarchicalEnsemble.load(folder / "best.json")
    assert found.multipliers is not None
    assert facts.multipliers == found.multipliers
    assert [row.multiplier for row in facts.classes] == [*found.multipliers.values()]
    assert facts.plane.best[2] == facts.score.value
    for y, x in PLACES:
        mine = found.with_weights(weights_at(facts.plane, y, x)).evaluate(truth)
        assert mine.miou == facts.plane.scores[y, x]


def test_beside_a_head_the_plane_is_of_the_weights_before_it(tmp_path):
    """What the head was compared with is kept too, and told apart from what was found."""
    folder = search(write_underrated(tmp_path), "--gap", "0.5")
    results, truth = read_results(folder), fusion.Labels.folder(tmp_path / "labels")
    assert results.document["searched"] == "weights.json"
    facts = facts_of(results)
    best, before = (
        fusion.HierarchicalEnsemble.load(folder / name) for name in ("best.json", "weights.json")
    )
    assert best.head is not None
    assert facts.score.value == best.evaluate(truth).miou
    assert [row.found for row in facts.classes] == best.evaluate(truth).class_iou.tolist()
    assert facts.weights == before.weights
    assert facts.plane.best[2] == before.evaluate(truth).miou
    fixed = before.weights[facts.plane.fixed]
    for y, x in PLACES[:3]:
        point = (facts.plane.x[x], facts.plane.y[y])
        moved = {n: fixed * w for n, w in zip(facts.plane.axes, point, strict=True)}
        mine = before.with_weights({**before.weights, **moved}).evaluate(truth)
        assert facts.plane.scores[y, x] == pytest.approx(mine.miou, abs=1e-9)
    form = best.head.name
    assert any(f"what was found is the {form} head; weights" in line for line in facts.remarks)
    assert not any("this report counted" in line for line in facts.remarks)


def test_two_groups_are_a_line_with_a_certificate(data, truths):
    folder = search(data, "--method", "exact", groups="ensemble.toml", out="line")
    results = read_results(folder)
    plane = weight_plane(results.data[0], results.document)
    assert (plane.axes, plane.paper, plane.scores.shape) == (("weak", ""), None, (1, 41))
    found = results.data[0].found
    for x in (0, 13, 40):
        mine = found.with_weights({"strong": 1, "weak": plane.x[x]}).evaluate(truths["val"])
        assert plane.scores[0, x] == mine.miou
    assert plane.certified == results.document["result"]["certificate"]["upper_bound"]
    assert plane.best[2] <= plane.certified + 1e-12


def test_of_many_groups_the_heaviest_move_and_the_others_stay(data, truths):
    folder = search(data, "--method", "greedy", "--over", "models", "--steps", "9", out="many")
    results = read_results(folder)
    plane = weight_plane(results.data[0], results.document)
    found = results.data[0].found
    weights = dict(found.weights)
    scale = weights[plane.fixed]
    rest = [w for name, w in weights.items() if name not in (plane.fixed, *plane.axes)]
    assert max(rest) <= min(weights[name] for name in plane.axes)
    assert plane.scores.shape == (11, 11)
    assert plane.best[2] == found.evaluate(truths["val"]).miou
    for y, x in [(0, 0), (3, 9), (10, 2)]:
        moved = {plane.axes[0]: plane.x[x] * scale, plane.axes[1]: plane.y[y] * scale}
        mine = found.with_weights(weights | moved).evaluate(truths["val"])
        # maps may differ from fusion at near ties
        assert plane.scores[y, x] == pytest.approx(mine.miou, abs=2e-3)


@pytest.mark.parametrize(
    ("weights", "fixed", "moving", "base"),
    [
        ((1, 1.4, 1), 0, (1, 2), (1, 1.4, 1)),
        ((0.5, 1.0, 0.0), 0, (1, 2), (1, 2, 0)),
        ((0, 2, 1), 1, (0, 2), (0, 1, 0.5)),
        ((0.1, 1.0, 0.2), 1, (0, 2), (0.1, 1, 0.2)),
        ((1, 0.1, 0.3, 0.2), 0, (2, 3), (1, 0.1, 0.3, 0.2)),
        ((1, 3), 0, (1,), (1, 3)),
    ],
)
def test_axes(weights, fixed, moving, base):
    axes = Axes.of(weights)
    assert (axes.fixed, axes.moving) == (fixed, moving)
    np.testing.assert_allclose(axes.base, base)
    points = [[7.0, 8.0][: len(moving)]]
    (vector,) = axes.vectors(points)
    expected = list(axes.base)
    for place, value in zip(moving, points[0], strict=True):
        expected[place] = value
    assert vector.tolist() == expected


def test_an_optimum_outside_widens_the_axes(results):
    data = results.data[0]
    far = data.split.ensemble.with_weights({"strong": 1, "weak": 5, "auxiliary": 1})
    split = dataclasses.replace(data.split, ensemble=far)
    plane = weight_plane(dataclasses.replace(data, split=split), results.document)
    assert (plane.x[-1], plane.y[-1]) == (6.25, 2.0)
    assert plane.best[:2] == (5.0, 1.0)


def test_below_two_units_nothing_is_known_of_chance(results):
    problem = results.data[0].split.problem
    alone = dataclasses.replace(problem, units=dict.fromkeys(problem.condensed.videos, "one"))
    scores, plausible = scored(alone, np.ones((2, 3)), np.ones(3), None)
    assert scores.tolist() == [problem.uniform.miou] * 2
    assert plausible is None
