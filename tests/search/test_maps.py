"""Searches over many models on maps: what condensed pixels would give, with evaluated scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import fusion
from fusion.contested import Condensed, Maps
from fusion.contested.load import LoadVideo, load_maps
from fusion.errors import InputError
from fusion.kernels.upsample.naive import bilinear
from fusion.search import condense_ensemble
from fusion.search.exact.certify import certify
from fusion.search.exact.climb import Exact
from fusion.search.exact.line import best_on_segment
from fusion.search.exact.multipliers import multiplied
from fusion.search.folds import hold_out
from fusion.search.greedy import Greedy
from fusion.search.grid import Grid
from fusion.search.method import Problem
from fusion.search.result import Trial
from fusion.search.run import Run
from fusion.search.selection import select
from fusion.search.study import Optuna
from tests.samples import CLASSES, FRAMES, NATIVE, SIZE
from tests.search.simulated import both_ways

METHODS = {
    "greedy": Greedy(steps=12),
    "grid": Grid({f"g{g}": (0, 1, 1) for g in range(1, 5)}),
    "optuna": Optuna(trials=12),
    "exact": Exact(climbs=1),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_finds_what_it_finds_on_condensed_pixels(name, seed):
    problems = [Problem(source, seed=seed) for source in both_ways(seed=seed)]
    fast, slow = (METHODS[name].search(problem) for problem in problems)
    assert fast.vector == pytest.approx(slow.vector, abs=1e-6)
    assert fast.miou == slow.miou
    assert len(fast.history) == len(slow.history)
    folds = [hold_out(problem, METHODS[name], 3) for problem in problems]
    assert folds[0] == folds[1]
    assert list(folds[0]) == list(folds[1])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_multipliers_on_maps_are_those_of_condensed_pixels(seed):
    sources = both_ways(seed=seed, count=5, reach=4.0)
    units = {f"v{video}": f"v{video}" for video in range(5)}
    problems = [Problem(source, seed=seed, reach=4.0) for source in sources]
    fast, slow = (multiplied(problem, [1.0, 2.0, 0.0, 1.0, 1.0]) for problem in problems)
    assert fast.multipliers == pytest.approx(slow.multipliers, rel=1e-5)
    assert max(fast.multipliers) > 1
    assert fast.miou == slow.miou
    found = [select(replace(problem, units=units), Greedy(steps=3)) for problem in problems]
    mine, theirs = (each.notes["multipliers"] for each in found)
    assert mine["power"] == theirs["power"]
    # sums and interpolation in another order: one pixel may fall otherwise at a near tie
    assert mine["held_out"] == pytest.approx(theirs["held_out"], abs=1e-5)
    assert found[0].miou == found[1].miou
    held = [hold_out(problem, Greedy(steps=3), 3) for problem in problems]
    assert held[0] == held[1]
    for name, scores in held[0].contenders.items():
        for video, matrix in scores.confusions.items():
            assert np.array_equal(matrix, held[1].contenders[name].confusions[video])


def test_a_line_is_the_same_line():
    rng = np.random.default_rng(0)
    problems = [Problem(source) for source in both_ways()]
    for start, end in rng.dirichlet(np.ones(5), (6, 2)):
        mine, theirs = (best_on_segment(problem, start, end) for problem in problems)
        assert mine.miou == pytest.approx(theirs.miou, abs=1e-12)
        assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_nothing_is_certified_on_maps():
    maps, _ = both_ways(models=3)
    assert Exact(climbs=1).search(Problem(maps)).certificate is None
    with pytest.raises(InputError, match="certify: got maps of 3 models"):
        certify(Problem(maps), Trial((1.0, 1.0, 1.0), 0.5))


@pytest.mark.parametrize("stride", [1, 3])
def test_stores_give_what_condensing_gives(ensemble, truth, stride):
    models, weights = ensemble.singles(), np.random.default_rng(0).dirichlet(np.ones(6), 20)
    maps = load_maps(models, truth, stride=stride)
    expected = condense_ensemble(models, truth, stride=stride)
    assert maps.videos == expected.videos
    assert np.array_equal(maps.rows, expected.rows)
    # other order of roundings: a near tie may fall otherwise
    assert np.abs(maps.confusions(weights) - expected.confusions(weights)).sum() <= 2
    with pytest.raises(InputError, match="stride: got 0"):
        load_maps(models, truth, stride=0)


def test_maps_that_do_not_fit_are_read_at_every_pass(ensemble, truth, monkeypatch):
    models = ensemble.singles()
    whole, weights = load_maps(models, truth), np.random.default_rng(0).dirichlet(np.ones(6), 9)
    tight = load_maps(models.regrouped(models.groups, memory=15_000), truth)
    loaded, original = [], LoadVideo.maps

    def counted(task, video, frames):
        loaded.append(len(frames))
        return original(task, video, frames)

    monkeypatch.setattr(LoadVideo, "maps", counted)
    for _ in range(2):
        assert np.array_equal(tight.confusions(weights), whole.confusions(weights))
    assert loaded == [1] * 12
    ends = weights[0].astype(np.float64), weights[1].astype(np.float64)
    found, expected = (best_on_segment(Problem(maps), *ends) for maps in (tight, whole))
    assert found == expected or found.miou == expected.miou


def test_what_is_reported_is_what_evaluation_gives(ensemble, truth, monkeypatch):
    monkeypatch.setattr(Maps, "confusion", None)  # not what maps count
    run = Run(ensemble, truth, convention="union").over("models")
    assert isinstance(run.condensed, Maps)
    found = run.search(Greedy(steps=9))
    scores = found.ensemble.evaluate(truth, convention="union")
    assert (found.miou, found.scores.miou) == (scores.miou, scores.miou)
    for video, matrix in scores.confusions.items():
        assert np.array_equal(found.scores.confusions[video], matrix)
    uniform = run.problem.uniform
    assert uniform.miou == run.ensemble.evaluate(truth, convention="union").miou
    assert run.contributions(found).keys() == {n for n, w in found.weights.items() if w > 0}
    strided = Run(ensemble, truth, stride=3).over("models")
    expected = condense_ensemble(strided.ensemble, truth, stride=3).confusion([1.0] * 6)
    matrices = strided.problem.uniform.confusions.values()
    assert np.array_equal(np.stack(list(matrices)), expected)


def test_few_groups_other_resizes_and_mixed_resolutions_are_condensed(
    data, ensemble, truth, tmp_path
):
    models = ensemble.singles()
    assert isinstance(Run(ensemble, truth).condensed, Condensed)
    names = list(models.groups)
    for count, kind in ((3, Condensed), (4, Maps)):
        some = models.regrouped({name: models.groups[name] for name in names[:count]})
        assert type(Run(some, truth).condensed) is kind
    logits = models.regrouped(models.groups, resize="logits")
    assert isinstance(Run(logits, truth).condensed, Condensed)
    with fusion.LogitWriter(tmp_path / "fine.zarr", CLASSES) as writer:
        for video in models.videos:
            with writer.video(video, frames=FRAMES, size=SIZE) as out:
                for _ in FRAMES:
                    out.append(np.random.default_rng(0).normal(size=(4, 10, 14)))
    mixed = fusion.HierarchicalEnsemble({**models.groups, "fine": [tmp_path / "fine.zarr"]})
    assert isinstance(Run(mixed, truth).condensed, Condensed)
    # heads fuse at the finest
    assert mixed.grid("a") == (10, 14)
    (_, means), *_ = mixed.native_means("a", FRAMES)
    coarse = next(models.native_means("a", FRAMES))[1]
    assert torch.equal(means[:-1], bilinear(coarse, (10, 14)))


def test_scores_that_are_no_probabilities_are_named(ensemble, truth, monkeypatch):
    models = ensemble.singles()

    def undefined(self, video, frames):
        return ((frame, torch.full((6, 4, *NATIVE), torch.nan)) for frame in frames)

    monkeypatch.setattr(type(models), "native_means", undefined)
    with pytest.raises(InputError, match=r"video '.', frame '0' has scores that are NaN or not"):
        load_maps(models, truth, scheduler="synchronous")
