"""Fewer models of a head: what goes first, what the bias alone can make up for, what is kept."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from fusion.contested import Maps
from fusion.contested.maps import VideoMaps
from fusion.ensemble.heads import HEADS
from fusion.errors import InputError
from fusion.kernels.resized import MAP_STEPS, Frames, stepped
from fusion.search.auto import Auto
from fusion.search.folds import hold_out
from fusion.search.held import head_name
from fusion.search.learned import fit
from fusion.search.learned.cells import Cells
from fusion.search.learned.method import Learned
from fusion.search.learned.prune import (
    again,
    benches_of,
    cheapest,
    contributions,
    head_contributions,
    pruned,
    sizes,
)
from fusion.search.learned.school import School
from fusion.search.method import Problem
from fusion.search.printed import learned_lines
from tests.search.simulated import drawn_means

CLASSES = 3
SKILL = (2.0, 0.0, 2.2, 1.8, 2.1)  # the second is pure noise


def planted(skill=SKILL, count: int = 6, confuses: int | None = None) -> Problem:
    """Videos of models of so much skill; `confuses` names one that takes class 1 for class 0."""
    rng, held = np.random.default_rng(0), []
    for _ in range(count):
        truth = rng.integers(0, CLASSES, (2, 12, 16))
        means = np.concatenate(
            [
                drawn_means(
                    rng,
                    np.where((truth == 1) & (m == confuses), 0, truth).ravel(),
                    CLASSES,
                    np.array([s]),
                )
                for m, s in enumerate(skill)
            ]
        )
        means = means.reshape(len(skill), CLASSES, 2, 12, 16).transpose(2, 0, 1, 3, 4)
        maps = stepped(np.ascontiguousarray(means, np.float32), MAP_STEPS)
        targets = np.kron(truth, np.ones((2, 2))).astype(np.uint8)
        held.append(VideoMaps.held(Frames(maps, targets, (24, 32))))
    names = (
        tuple(f"net_{m}" for m in range(len(skill))),
        tuple(f"c{c}" for c in range(CLASSES)),
        tuple(f"v{video}" for video in range(count)),
    )
    maps = Maps(*names, tuple(held))
    cells = Cells(maps, 1500, 0)
    return Problem(maps, cells=lambda: cells)


@pytest.fixture(scope="module")
def trained():
    """A school and its stages, `log` and `mix`."""
    school = School(planted(), 0.0)
    log = school.stage(HEADS["log"], None)
    return school, [log, school.stage(HEADS["mix"], log)]


def test_pure_noise_goes_first_and_adds_the_least(trained):
    school, stages = trained
    assert cheapest(school, stages[-1], 1) == ["net_1"]
    added = contributions(school, stages[-1].crossed)
    assert min(added, key=lambda name: added[name]) == "net_1"
    assert added["net_1"] < 0.01 < added["net_2"]
    curve = pruned(school, stages, 2)
    assert "net_1" in curve.points[0][-1].head.units
    assert all("net_1" not in point[-1].head.units for point in curve.points[1:])


def test_a_refitted_bias_is_that_of_brute_force(trained, monkeypatch):
    """Scores summed unit by unit in float64, and the bias by another minimiser."""
    monkeypatch.setattr(fit, "LEAST", 1e-9)
    school, (_, stage) = trained
    for bench in benches_of(school, stage.crossed):
        rest = [video for video in school.videos if video not in bench.held]
        logs, counts = (
            np.concatenate([np.float64(getattr(school.samples[v], name)) for v in rest])
            for name in ("logs", "counts")
        )
        weights = [np.float64(block) for block in bench.head.full_mixing]
        kept = [u for u in range(len(SKILL)) if u not in (1, 3)]

        def scores(of, weights=weights, kept=kept):
            return sum(of[:, u] @ weights[u].T for u in kept)

        summed = scores(logs)

        def loss(bias, fused=summed, counts=counts):
            moved = fused + bias
            top = moved.max(axis=1, keepdims=True)
            logs = moved - top - np.log(np.exp(moved - top).sum(axis=1, keepdims=True))
            return -(counts * logs).sum() / counts.sum()

        best = minimize(loss, np.float64(bench.head.bias), tol=1e-9).x
        found = bench.without((1, 3))
        assert list(found) == list(bench.held)
        for video, matrix in found.items():
            sample = school.samples[video]
            labels = (scores(np.float64(sample.logs)) + best).argmax(axis=1)
            slow = np.zeros((CLASSES, CLASSES))
            np.add.at(slow.T, labels, np.float64(sample.counts))
            assert np.abs(matrix - slow).sum() <= 0.01 * slow.sum()  # near ties
        fused = torch.from_numpy(np.float32(summed))
        mine = bench.training.bias(fused, bench.loss, torch.from_numpy(bench.head.bias)).numpy()
        # biases are known up to what all share
        np.testing.assert_allclose(mine - mine.mean(), best - best.mean(), atol=0.01)
        assert loss(np.float64(mine)) <= loss(best) + 1e-5


def test_trained_again_is_trained_on_those_models_alone(trained, monkeypatch):
    """Where a head is trained to the end it does not matter where it began."""
    monkeypatch.setattr(fit, "STEPS", 300)
    school, stages = trained
    kept = ["net_0", "net_2", "net_4"]
    found, small = again(school, stages, kept), school.only(kept)
    alone = []
    for stage in stages:
        path = small._path(
            stage.form, [stage.strength], alone[-1] if alone else None, None, school.videos
        )
        alone.append(path[0].arrays)
    for stage, arrays in zip(found, alone, strict=True):
        assert stage.head.units == tuple(kept)
        assert list(stage.held_out) == [stage.strength]
        np.testing.assert_allclose(stage.head.arrays["weight"], arrays["weight"], atol=0.02)


def test_the_curve_passes_the_number_asked_for():
    assert sizes(22, 22) == [17, 13, 10, 8, 6, 5, 4, 3, 2, 1]
    assert sizes(22, 15) == [17, 15, 12, 9, 7, 6, 5, 4, 3, 2, 1]
    assert sizes(2, 9) == [1]
    assert sizes(1, 1) == []
    for most in range(1, 23):
        assert most in [22, *sizes(22, most)]


def test_the_front_and_the_fewest_of_a_curve(trained):
    school, stages = trained
    curve = pruned(school, stages, 2)
    rows = curve.to_json()
    assert [row["models"] for row in rows] == [5, 4, 3, 2, 1]
    for row in rows:
        fewer = [r["held_out"] for r in rows if r["models"] < row["models"]]
        assert row["front"] == all(row["held_out"] > score for score in fewer)
    for most in (1, 2, 4, 9):
        few = curve.fewest(school, most)[-1]
        assert len(few.head.units) <= most
        allowed = [p[-1].scores for p in curve.points if len(p[-1].head.units) <= most]
        best = max(allowed, key=lambda scores: scores.score)
        gain = best.gain(few.scores, units=school.problem.unit_of)
        assert few.scores is best or not gain.beyond_standard_error
        for point in curve.points:  # none with fewer models would do
            if len(point[-1].head.units) < len(few.head.units):
                assert best.gain(
                    point[-1].scores, units=school.problem.unit_of
                ).beyond_standard_error


@pytest.mark.parametrize("form", ["auto", "log", "lowrank"])
def test_a_search_for_few_models(form):
    given = planted()
    found = Learned(head=form, max_models=2).search(given)
    told = found.notes["learned"]
    assert 1 <= len(found.head.units) <= 2
    assert "net_1" not in found.head.units
    assert [row["models"] for row in told["curve"]] == [5, 4, 3, 2, 1]
    assert list(found.rungs) == [head_name(name) for name in told["forms"]]
    for rung in found.rungs.values():
        assert rung.head.units == found.head.units
        assert {head.units for head in rung.crossed.values()} == {found.head.units}
        assert rung.miou == given.under(rung.head).condensed.miou([[1.0]])[0]
    said = found.to_json()["head"]
    assert said["units"] == list(found.head.units)
    assert said["parameters"] == found.head.parameters
    lines = "\n".join(learned_lines(found))
    assert "by number of models, held-out cells: 5: " in lines
    assert f"{5 - len(found.head.units)} models dropped: " in lines
    added = head_contributions(given, found)
    assert set(added) == set(found.head.units)


def test_without_the_option_nothing_is_pruned():
    found = Learned(head="log").search(planted())
    assert found.notes["learned"]["curve"] == []
    assert len(found.head.units) == len(SKILL)
    assert "by number of models" not in "\n".join(learned_lines(found))
    with_all = Learned(head="log", max_models=1).search(planted().subset(["v0"]))
    assert with_all.notes["learned"]["curve"] == []  # nothing holds out: the heaviest stays
    assert len(with_all.head.units) == 1
    assert with_all.head.units != ("net_1",)


def test_folds_prune_again():
    held = hold_out(planted(), Learned(head="log", max_models=2), 3, simple=False)
    assert len(held) == 3
    assert head_name("log") in held.contenders


def test_a_planted_confusion_is_said_in_words():
    """A model says class 0 where class 1 is true: class 1 gains from its class 0."""
    found = Learned(head="mix", surrogate=0.0).search(planted((1.0, 2.0, 1.0), confuses=1))
    lines = "\n".join(learned_lines(found))
    strongest = lines.split("mixed most:")[1].split("\n")[1:3]  # the third class loses as much
    gains = [line.strip() for line in strongest if line.strip().startswith("c1 gains")]
    assert len(gains) == 1
    assert gains[0].endswith("from c0 of net_1")


@pytest.mark.parametrize("bad", [0, -3, True, 2.5, "five", math.nan])
def test_numbers_of_models_that_are_none(bad):
    for kind in (Learned, Auto):
        said = f"{kind.name}: max models is {bad!r}; give a number of at least 1"
        with pytest.raises(InputError, match=f"^{said}$"):
            kind(max_models=bad)


def test_a_head_takes_its_units_from_more_maps():
    given = planted()
    head = Learned(head="log").search(given).head.only(["net_4", "net_0"])
    some = [given.condensed.groups.index(unit) for unit in head.units]
    maps = given.condensed
    fewer = tuple(
        VideoMaps.held(
            *(replace(f, maps=np.ascontiguousarray(f.maps[:, some])) for f in pixels.frames())
        )
        for pixels in maps.pixels
    )
    alone = replace(maps, groups=head.units, pixels=fewer)
    heads = dict.fromkeys(maps.videos, head)
    both = (source.under(heads).confusion([1.0]) for source in (maps, alone))
    np.testing.assert_array_equal(*both)
    with pytest.raises(InputError, match=r"^head: unit 'net_0' is no group of the maps \(1 such\)"):
        replace(maps, groups=("x", *maps.groups[1:])).under(heads)


def test_training_again_begins_at_what_is_left(trained, monkeypatch):
    def stay(self, strength):
        return fit.Fit({n: a.detach().numpy() for n, a in self.arrays().items()}, 0.0, None)

    monkeypatch.setattr(fit.Descent, "down", stay)
    school, stages = trained
    for old, new in zip(stages, again(school, stages, ["net_4", "net_0"]), strict=True):
        for name, array in old.head.only(["net_4", "net_0"]).arrays.items():
            np.testing.assert_allclose(new.head.arrays[name], array, atol=1e-6)
