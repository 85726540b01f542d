"""Pixels for multipliers: nothing is lost within reach, refusals beyond it, fused sets, samples."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import fusion
from fusion.contested import Condensed
from fusion.contested.build import CondenseVideo, condense_ensemble, data_digest
from fusion.errors import InputError
from fusion.folds import Units
from fusion.kernels.contested import layout
from fusion.labels import Labels
from fusion.metrics.objectives import objective
from tests.contested.cases import (
    brute_force,
    condensed_of,
    nearly_tied,
    probabilities,
    some_multipliers,
    some_targets,
    some_weights,
)
from tests.samples import VIDEOS, write_sample
from tests.search.simulated import both_ways, simplex

REACH = 4.0


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reach")
    ensemble = fusion.HierarchicalEnsemble.load(write_sample(folder))
    return ensemble, Labels.folder(folder / "labels")


def counted(monkeypatch) -> list[str]:
    """Names of the parts that are condensed from now on, as they are."""
    built, plain = [], CondenseVideo.__call__

    def call(task, video):
        built.append(video)
        return plain(task, video)

    monkeypatch.setattr(CondenseVideo, "__call__", call)
    return built


@pytest.mark.parametrize("memory", ["4GB", 8_000])
def test_an_ensemble_condensed_for_multipliers_is_the_ensemble(opened, memory):
    ensemble, truth = opened
    tight = ensemble.regrouped(ensemble.groups, memory=memory)
    wide = condense_ensemble(tight, truth, reach=REACH)
    assert wide.reach == REACH
    assert wide.candidates > condense_ensemble(ensemble, truth).candidates
    rng, names = np.random.default_rng(0), list(ensemble.classes)
    for factors in some_multipliers(4, REACH, 3):
        weights = rng.random(2) + 0.01
        named = dict(zip(ensemble.groups, weights, strict=True))
        multiplied = dict(zip(names, factors.tolist(), strict=True))
        exact = ensemble.with_weights(named).with_multipliers(multiplied).evaluate(truth)
        for video, matrix in zip(wide.videos, wide.confusion(weights, factors), strict=True):
            assert np.array_equal(matrix, exact.confusions[video])
        assert wide.miou([weights], "vspw", factors)[0] == exact.miou


def test_beyond_reach_is_refused(opened):
    ensemble, truth = opened
    wide = condense_ensemble(ensemble, truth, reach=1.5)
    assert wide.miou([[1, 1]], "vspw", [1.5, 1.5, 1 / 1.5, 1]).shape == (1,)
    assert wide.miou([[1, 1]], "vspw", [22.5, 22.5, 10, 15]).shape == (1,)  # only ratios matter
    said = (
        r"two differ by a factor 2.4; these pixels were condensed for at most 2.25: give a larger"
    )
    calls = (wide.confusion, partial(wide.statistics), partial(wide.miou, convention="dice"))
    for call in calls:
        weights = [1, 1] if call is calls[0] else [[1, 1]]
        with pytest.raises(InputError, match=said):
            call(weights, multipliers=[2.4, 1, 1, 1])
    plain = condense_ensemble(ensemble, truth)
    assert np.array_equal(plain.confusion([1, 2], [3, 3, 3, 3]), plain.confusion([1, 2]))
    with pytest.raises(InputError, match="condensed for at most 1: give a larger reach"):
        plain.confusion([1, 2], [1, 1, 1, 1.01])
    with pytest.raises(InputError, match=r"reach 4, these pixels were condensed for 1.5; condense"):
        wide.fused([1, 1], 4.0)
    for reach in (0.9, 0, -1, 1025, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"multipliers: reach .*; give r from 1 to 1024"):
            condense_ensemble(ensemble, truth, reach=reach)
    geometric = ensemble.regrouped(ensemble.groups, mean="geometric")
    with pytest.raises(InputError, match="mean='geometric' takes none; use mean='arithmetic'"):
        condense_ensemble(geometric, truth, reach=REACH)


def test_the_cache_keeps_reaches_and_units_apart(opened, tmp_path, monkeypatch):
    ensemble, truth = opened
    built = counted(monkeypatch)
    again = partial(condense_ensemble, ensemble, truth, cache=tmp_path, scheduler="synchronous")
    kinds = [{}, {"reach": 4.0}, {"reach": 2.0}, {"units": Units("frames")}]
    kinds += [{"units": Units("blocks:2")}, {"units": Units("frames"), "reach": 4.0}]
    first = [again(**kind) for kind in kinds]
    assert len(built) == 3 + 3 + 3 + 6 + 3 + 6
    assert len(list(tmp_path.iterdir())) == len(kinds)
    weights, factors = [1.0, 0.7], [1.0, 1.5, 0.8, 1.9]
    for kind, made in zip(kinds, first, strict=True):
        loaded = again(**kind)
        assert (loaded.reach, loaded.videos) == (kind.get("reach", 1.0), made.videos)
        assert loaded.candidates == made.candidates
        some = factors if "reach" in kind else None
        assert np.array_equal(loaded.confusion(weights, some), made.confusion(weights, some))
    assert len(built) == 24  # nothing a second time
    # a unit of several videos changes no part, so plain caches serve it
    assert again(units=Units(".")).videos == VIDEOS
    assert len(built) == 24
    digests = {
        data_digest(ensemble, truth, 1, k.get("reach", 1.0), k.get("units", Units())) for k in kinds
    }
    assert len(digests) == len(kinds)
    assert data_digest(ensemble, truth, units=Units(".")) == data_digest(ensemble, truth)


def test_parts_of_videos_add_up_to_them(opened):
    ensemble, truth = opened
    whole = condense_ensemble(ensemble, truth, reach=REACH)
    frames = condense_ensemble(ensemble, truth, reach=REACH, units=Units("frames"))
    assert frames.videos == tuple(f"{v}/{f}" for v in VIDEOS for f in ("0", "1"))
    given = [1.0, 2.0], [1.0, 2.0, 0.5, 1.2]
    halves, videos = frames.confusion(*given), whole.confusion(*given)
    assert np.array_equal(halves[::2] + halves[1::2], videos)
    for number, frame in enumerate(("0", "1")):
        (labels,) = [
            m
            for f, m in ensemble.with_weights(dict(zip(ensemble.groups, given[0], strict=True)))
            .with_multipliers(given[1])
            .label_maps("b")
            if f == frame
        ]
        target = truth.read("b", frame)
        expected = np.zeros((4, 4), np.int64)
        np.add.at(expected, (target[target != 255], labels[target != 255]), 1)
        assert np.array_equal(halves[2 + number], expected)


@pytest.mark.parametrize("make", [probabilities, nearly_tied])
@pytest.mark.parametrize("groups", [1, 2, 5])
def test_fused_pixels_have_equal_counts_under_any_multipliers(groups, make):
    means, targets = make(groups, 5, 2000, seed=groups), some_targets(5, 2000)
    wide = condensed_of(means, targets, 3, REACH)
    for weights in some_weights(groups, 3):
        fused = wide.fused(weights, REACH)
        assert (fused.groups, fused.videos, fused.reach) == (("fused",), wide.videos, REACH)
        for factors in some_multipliers(5, REACH, 2):
            mine = fused.confusion([1.0], factors)
            assert np.array_equal(mine, wide.confusion(weights, factors))
            assert np.array_equal(
                mine.sum(axis=0), brute_force(means, targets, weights, multipliers=factors)
            )


@pytest.mark.parametrize("reach", [1.0, REACH])
def test_fused_maps_are_condensed_pixels_of_their_sum(reach):
    maps, _ = both_ways()
    for weights in simplex(5, 4):
        fused = maps.fused(weights, reach)
        assert isinstance(fused, Condensed)
        assert (fused.groups, fused.reach) == (("fused",), reach)
        assert np.array_equal(fused.rows, maps.rows)
        for factors in some_multipliers(4, reach, 3):
            assert np.array_equal(fused.confusion([1.0], factors), maps.confusion(weights, factors))
    assert fused.contested > 0 or reach == 1.0
    with pytest.raises(InputError, match="multipliers"):
        fused.confusion([1.0], [1, 1, 1, 1.01 * reach**2])


def test_a_sample_is_every_so_many_bundles_of_each_video():
    means, targets = probabilities(2, 5, 9000, agree=0.5), some_targets(5, 9000)
    whole = condensed_of(means, targets, 3, REACH)
    assert whole.thinned(whole.candidates) is whole
    assert whole.thinned(whole.candidates // 2 + 1) is whole
    some = whole.thinned(whole.candidates // 7)
    assert (some.videos, some.groups, some.reach) == (whole.videos, whole.groups, REACH)
    assert some.contested == pytest.approx(whole.contested / 7, rel=0.15)
    for mine, theirs in zip(some.pixels, whole.pixels, strict=True):
        assert np.array_equal(mine.constant, np.round(theirs.constant / 7))
        kept = list(mine.cut(1 << 20))
        expected = list(theirs.cut(1 << 20))
        for run, full in zip(kept, expected, strict=True):
            chosen = [n for n in range(full.pixels) if n // 16 % 7 == 0]
            assert (run.width, run.pixels) == (full.width, len(chosen))
            for small, large in zip(run.lines(2), full.lines(2), strict=True):
                assert np.array_equal(small, large[chosen])
        pixels = sum(run.pixels for run in kept)
        assert mine.rows.sum() == pixels
    score, sample = (each.miou([[1.0, 2.0]])[0] for each in (whole, some))
    assert sample == pytest.approx(score, abs=0.03)
    assert whole.thinned(0).contested <= 16 * 3 * len(whole.widths)


@pytest.mark.parametrize("step", [2, 3, 7, 100])
@pytest.mark.parametrize("pixels", [1, 15, 16, 17, 31, 32, 33, 48, 49, 111, 112, 113])
def test_the_last_bundle_of_a_sample_may_be_part_full(pixels, step):
    rng = np.random.default_rng(pixels)
    block = layout.Block(
        np.zeros((9, 9), np.int64),
        np.full(pixels, 2, np.uint16),
        rng.integers(0, 9, pixels).astype(np.uint16),
        np.sort(rng.permuted(np.tile(np.arange(9), (pixels, 1)), axis=1)[:, :2])
        .astype(np.uint16)
        .ravel(),
        rng.random((2 * pixels, 3)).astype(np.float32),
    )
    (run,) = layout.runs(block)
    made = layout.thinned(run, 3, step)
    made.check(3, 9)
    chosen = [n for n in range(pixels) if n // 16 % step == 0]
    assert made.pixels == len(chosen)
    for mine, theirs in zip(made.lines(3), run.lines(3), strict=True):
        assert np.array_equal(mine, theirs[chosen])


def test_samples_of_sets_on_disk_are_those_of_sets_in_memory(opened, tmp_path):
    ensemble, truth = opened
    tight = ensemble.regrouped(ensemble.groups, memory=30_000)
    streamed = condense_ensemble(tight, truth, cache=tmp_path, reach=REACH)
    assert not streamed.resident
    sample = streamed.thinned(300)
    assert sample.resident
    # one bundle at least of every stretch on disk, and here these are short
    assert 300 <= sample.contested < streamed.contested / 3
    fused = streamed.fused([1.0, 2.0], REACH)
    assert fused.resident
    assert np.array_equal(
        fused.confusion([1.0], [1, 2, 0.5, 1]), streamed.confusion([1.0, 2.0], [1, 2, 0.5, 1])
    )
    assert replace(streamed, memory=1).thinned(300).contested == sample.contested


@pytest.mark.parametrize("room", [1, 1 << 26])
@pytest.mark.parametrize("wanted", ["vspw", "case-dice-nnunet"])
def test_each_vector_has_its_own_multipliers(wanted, room, monkeypatch):
    pixels = condensed_of(probabilities(3, 5, 900, agree=1.0), some_targets(5, 900), 2, REACH)
    monkeypatch.setattr("fusion.contested.pixels.COUNTS", room)  # a vector at a time, or all
    weights, factors = some_weights(3, 3), some_multipliers(5, REACH, 4)
    assert len(weights) == len(factors) == 8
    matrices, scores = pixels.confusions(weights, factors), pixels.miou(weights, wanted, factors)
    for vector, row, matrix, score in zip(weights, factors, matrices, scores, strict=True):
        alone = pixels.confusion(vector, row)
        assert np.array_equal(alone.sum(axis=0), matrix)
        assert score == pytest.approx(objective(wanted).of(alone), abs=1e-14)
    with pytest.raises(InputError, match="got 7 rows; give one, or one for each of 8"):
        pixels.confusions(weights, factors[:7])
