"""Every number of a report against a slow obvious count, or what `evaluate` and `search` say."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

import fusion
from fusion.ensemble.ensemble import PLAIN
from fusion.folds import Units
from fusion.report.counts import FOUND, SINGLE, UNIFORM, sample_of
from fusion.report.facts import Estimate
from fusion.report.gather import facts_of, front
from fusion.report.results import Running, read_results
from fusion.search.held import FOUND as HELD_FOUND
from tests.report.cases import QUICK, same_facts, search, write_channels, write_underrated
from tests.samples import CLASSES, FRAMES, VIDEOS


def same(mine, value, interval):
    assert isinstance(mine, Estimate)
    np.testing.assert_equal([mine.value, mine.low, mine.high], [value, *interval])


@pytest.fixture(scope="module")
def searched(data, truths):
    """What the API finds with the command's options."""
    ensemble = fusion.HierarchicalEnsemble.load(data / "three.toml")
    ranges = {"weak": (0, 2, 0.5), "auxiliary": (0, 2, 0.5)}
    return ensemble.search(truths["val"], "grid", ranges=ranges)


def uniform_of(found):
    return found.regrouped(found.groups, **PLAIN)


def contestants(facts, found, models):
    return {SINGLE: models[facts.best], UNIFORM: uniform_of(found), FOUND: found}


def test_what_the_search_said(facts, searched, data):
    assert facts.verdict == searched.verdict.sentence
    assert facts.weights == searched.weights
    same(facts.score, searched.miou, searched.interval())
    same(facts.expected, float(searched.held_out), searched.prediction_interval())
    assert facts.objective == "mIoU (vspw)"
    assert facts.splits == ("val", "test")
    assert facts.groups["weak"] == ("net_1", "net_2")
    assert not any("this report counted" in line for line in facts.remarks)
    told = set(facts.remarks)
    assert set(searched.verdict.remarks) <= told
    repeated = ("verdict: ", "held out, ", "gain over ", "95 % interval", "on 3 new videos")
    assert not any(line.startswith(repeated) for line in told)


def test_contenders_are_those_of_the_folds(facts, searched):
    held, units = searched.held_out, searched.units
    assert [c.name for c in facts.contenders] == [*held.contenders]
    for mine in facts.contenders:
        scores = held.contenders[mine.name]
        same(mine.score, scores.score, scores.interval(units=units))
        assert mine.found == (mine.name == HELD_FOUND)
        assert mine.recommended == (mine.name == searched.verdict.recommended)
        if mine.name == "uniform weights":
            assert mine.gain is None
        else:
            gain = held.gain(mine.name, "uniform weights", units)
            same(mine.gain, gain.value, gain.interval)
    values = held.contenders[HELD_FOUND].class_iou
    assert [row.held_out for row in facts.classes] == values.tolist()


def test_ladder_is_of_both_splits_with_their_intervals(facts, found, models, truths):
    rungs = {rung.name: rung for rung in facts.ladder}
    made = {f"best single: {facts.best}": models[facts.best], "uniform weights": uniform_of(found)}
    for name, ensemble in made.items():
        assert [*rungs[name].scores] == ["val", "test"]
        for split, truth in truths.items():
            scores = ensemble.evaluate(truth)
            same(rungs[name].scores[split], scores.miou, scores.interval())
    assert len(rungs) >= 4


def test_classes_are_scored_on_the_second_split(facts, found, models, truths):
    scores = {
        name: ensemble.evaluate(truths["test"])
        for name, ensemble in contestants(facts, found, models).items()
    }
    assert [row.name for row in facts.classes] == CLASSES
    for c, row in enumerate(facts.classes):
        numbers = [scores[name].class_iou[c] for name in (SINGLE, UNIFORM, FOUND)]
        assert [row.single, row.uniform, row.found] == numbers
        target = [truths["test"].read(v, f) == c for v in VIDEOS for f in FRAMES]
        assert row.pixels == np.sum(target)
        assert row.multiplier is None


def test_models_are_scored_on_both_splits(facts, models, truths, data):
    document = json.loads((data / "results" / "search.json").read_text())
    weights = document["result"]["weights"]
    total = sum(weights.values())
    assert {row.name for row in facts.models} == models.keys()
    for row in facts.models:
        for split, truth in truths.items():
            assert row.scores[split] == models[row.name].evaluate(truth).miou
        share = weights[row.group] / len(facts.groups[row.group]) / total
        assert row.weight == pytest.approx(share, rel=1e-12)
        assert row.adds == document["contributions"].get(row.name)
    assert max(facts.models, key=lambda row: row.scores["val"]).name == facts.best


def test_videos_of_both_splits(facts, found, models, truths):
    expected = []
    for split, truth in truths.items():
        single, mine = (e.evaluate(truth).per_video for e in (models[facts.best], found))
        expected += [(split, v, len(FRAMES), single[v], mine[v]) for v in VIDEOS]
    got = [(v.split, v.name, v.frames, v.single, v.found) for v in facts.videos]
    assert got == expected


def test_confusions_that_changed_most(facts, found, models, truths):
    single, mine = (e.evaluate(truths["test"]).confusion for e in (models[facts.best], found))
    pairs = [
        (abs(int(mine[t, p] - single[t, p])), CLASSES[t], CLASSES[p], single[t, p], mine[t, p])
        for t, p in itertools.permutations(range(4), 2)
        if mine[t, p] != single[t, p]
    ]
    expected = sorted(pairs, key=lambda pair: -pair[0])
    got = [(c.truth, c.predicted, c.single, c.found) for c in facts.confusions]
    assert got == [pair[1:] for pair in expected]


def test_calibration_is_that_of_the_ensembles(facts, found, models, truths):
    for curve, ensemble in zip(
        facts.calibration, contestants(facts, found, models).values(), strict=True
    ):
        known = ensemble.calibration(truths["test"])
        assert curve.ece == known.ece
        pixels, confidence, accuracy = known.reliability.T
        np.testing.assert_array_equal(curve.confidence, confidence)
        np.testing.assert_array_equal(curve.accuracy, accuracy)
        np.testing.assert_array_equal(curve.share, pixels / pixels.sum())
    assert [curve.name for curve in facts.calibration] == [SINGLE, UNIFORM, FOUND]


def shared_by_hand(models, truth, frames):
    """[M, M] shares, pixel by pixel."""
    same, either = (dict.fromkeys(itertools.product(models, models), 0) for _ in range(2))
    for video, frame in frames:
        target = truth.read(video, frame)
        labels = {name: each.predict(video, [frame])[0] for name, each in models.items()}
        for a, b in same:
            for y, x in zip(*np.nonzero(target != 255), strict=True):
                wrong = [labels[n][y, x] != target[y, x] for n in (a, b)]
                same[a, b] += all(wrong) and labels[a][y, x] == labels[b][y, x]
                either[a, b] += any(wrong)
    return {pair: same[pair] / either[pair] for pair in same}


def test_similarity_counted_pixel_by_pixel(facts, models, truths):
    frames = [*itertools.product(VIDEOS, FRAMES)]
    expected = shared_by_hand(models, truths["test"], frames)
    names = facts.similarity.models
    assert sorted(names) == sorted(models)
    for (i, a), (j, b) in itertools.product(enumerate(names), repeat=2):
        assert facts.similarity.shares[i, j] == expected[a, b]


def test_few_frames_are_looked_at_where_all_would_take_long(
    data, models, truths, facts, monkeypatch
):
    monkeypatch.setattr("fusion.report.counts.MOST_FRAMES", 2)
    fewer = facts_of(read_results(data / "results"))
    frames = [*itertools.product(VIDEOS, FRAMES)][::3]
    expected = shared_by_hand(models, truths["test"], frames)
    names = fewer.similarity.models
    for (i, a), (j, b) in itertools.product(enumerate(names), repeat=2):
        assert fewer.similarity.shares[i, j] == expected[a, b]
    assert "similarity and calibration are of 2 of the 6 labelled frames of test" in fewer.remarks
    assert fewer.classes == facts.classes
    assert fewer.videos == facts.videos


def test_the_sample_is_as_large_as_its_work_allows(results, monkeypatch):
    parts = results.data[0].split.parts
    assert len(sample_of(parts, 1)) == 6
    monkeypatch.setattr("fusion.report.counts.MOST_WORK", 300)
    assert len(sample_of(parts, 100)) == 3
    assert sample_of(parts, 1000) == {("a", "0")}


@pytest.mark.parametrize("how", [{"memory": "60kB"}, {"scheduler": "synchronous"}])
def test_neither_memory_nor_scheduler_shows(data, facts, how):
    again = facts_of(read_results(data / "results", None, Running(**how)))
    same_facts(again, facts)


@pytest.mark.parametrize("units", ["frames", "[ab]|c"])
def test_units_and_stride_are_those_of_the_search(data, truths, units, tmp_path):
    folder = search(data, *QUICK, "--units", units, "--stride", "3", out=f"units{len(units)}")
    facts = facts_of(read_results(folder))
    document = json.loads((folder / "search.json").read_text())
    assert facts.score.value == document["scores"]["val"]["score"]
    assert not any("this report counted" in line for line in facts.remarks)
    pixels = sum(
        np.count_nonzero(truths["val"].read(v, f)[::3, ::3] != 255) for v in VIDEOS for f in FRAMES
    )
    assert sum(row.pixels for row in facts.classes) == pixels
    named = [part for v in VIDEOS for part in Units.parse(units).parts(v, FRAMES)]
    assert [row.name for row in facts.videos] == named
    assert dict(facts.provenance)["units"] == units


def test_another_objective_is_what_classes_and_videos_are_scored_by(data, truths):
    said_so = ["--objective", "dice", "--classes", "car=2", "tree"]
    folder = search(data, *QUICK, *said_so, out="dice")
    facts = facts_of(read_results(folder))
    found = fusion.HierarchicalEnsemble.load(folder / "best.json")
    scores = found.evaluate(truths["val"])
    assert facts.objective == "dice(car=2, tree=1)"
    assert [row.found for row in facts.classes] == scores.class_dice.tolist()
    for row in facts.videos:
        d = scores.confusions[row.name]
        two = [2 * d[c, c] / (d[c].sum() + d[:, c].sum()) for c in (2, 3)]
        assert row.found == pytest.approx((2 * two[0] + two[1]) / 3, rel=1e-12)


def test_a_head_has_no_weights_and_no_plane(data, truths):
    folder = search(data, "--method", "learned", "--head", "log", out="head")
    results = read_results(folder)
    assert results.data[0].found.head is not None
    facts = facts_of(results)
    scores = fusion.HierarchicalEnsemble.load(folder / "best.json").evaluate(truths["val"])
    assert facts.score.value == scores.miou
    assert [row.found for row in facts.classes] == scores.class_iou.tolist()
    assert (facts.plane, facts.weights) == (None, {})
    assert all(math.isnan(row.weight) for row in facts.models)
    assert not any("this report counted" in line for line in facts.remarks)


def test_channels_are_scored_by_what_is_there(tmp_path):
    folder = write_channels(tmp_path)
    said_so = ["--method", "exact", "--multipliers", "--label-map", str(folder / "map.json")]
    results = read_results(search(folder, *said_so, groups="ensemble.toml"))
    facts, (data,) = facts_of(results), results.data
    scores = data.found.evaluate(data.split.truth)
    assert [row.name for row in facts.classes] == ["core", "whole"]
    assert [row.found for row in facts.classes] == scores.class_iou[1::2].tolist()
    assert facts.score.value == scores.score
    assert facts.decision == "threshold"
    assert facts.multipliers == (data.found.thresholds if data.found.multipliers else {})
    assert facts.similarity.shares.shape == (2, 2)
    assert facts.colours.shape == (3, 3)
    for row in facts.helped + facts.hurt:
        assert {picture.shape for picture in row.pictures.values()} == {(20, 28, 3)}
    # masks of each channel, pixel by pixel
    same = either = 0
    models = [*data.models.values()]
    for video, frame in itertools.product(VIDEOS, FRAMES):
        target = data.split.truth.channels(video, frame, ("core", "whole"))
        one, two = (each.predict(video, [frame])[0] for each in models)
        wrong = [one != target, two != target]
        same += np.count_nonzero(wrong[0] & wrong[1] & (one == two))
        either += np.count_nonzero(wrong[0] | wrong[1])
    assert facts.similarity.shares[0, 1] == same / either


def test_provenance_has_every_store_and_its_digest(facts, data):
    told = dict(facts.provenance)
    assert told["segfusion"] == fusion.__version__
    assert {"numpy", "torch", "python", "date"} <= told.keys()
    assert "--method grid" in told["command"]
    for path in sorted(data.glob("net_*.zarr")):
        line = told[f"store, val: {path.stem}"]
        assert line == f"../{path.name} ({fusion.LogitStore(path).digest()})"
    assert told["labels, test"].startswith("../second (")


def test_postprocessing_that_was_tried(data, results):
    assert front(results.document) == ()
    row = {
        "name": "median 3",
        "score": 0.5,
        "vc8": 0.9,
        "vc16": 0.8,
        "front": True,
        "chosen": False,
    }
    (point,) = front({"postprocess": {"candidates": [row]}})
    assert (point.name, point.vc16, point.on_front, point.chosen) == ("median 3", 0.8, True, False)


def test_what_is_done_after_fusion_is_scored_too(results, facts):
    last = results.data[-1]
    smoothed = last.found.with_postprocess("ema:half_life=5")
    data = (*results.data[:-1], dataclasses.replace(last, found=smoothed))
    shown = facts_of(dataclasses.replace(results, data=data))
    scores = smoothed.evaluate(last.split.truth)
    assert scores.miou != last.found.evaluate(last.split.truth).miou
    assert [row.found for row in shown.classes] == scores.class_iou.tolist()
    assert any("this report counted" in line for line in shown.remarks)
    curve, known = shown.calibration[-1], smoothed.calibration(last.split.truth)
    assert curve.ece == known.ece
    rows = shown.helped + shown.hurt
    assert {row.frame for row in rows} == {*FRAMES}
    for row in rows:
        labels = smoothed.predict(row.video, FRAMES)[FRAMES.index(row.frame)]
        np.testing.assert_array_equal(row.pictures[FOUND], shown.colours[labels])


def test_one_unit_has_no_verdict_and_no_interval(tmp_path):
    folder = search(write_underrated(tmp_path), *QUICK, "--units", "v")
    facts = facts_of(read_results(folder))
    assert facts.verdict.startswith("one unit: no interval and no held-out score")
    assert facts.verdict not in facts.remarks
    assert (facts.expected, facts.contenders, facts.plane.plausible) == (None, (), None)
    for estimate in (facts.score, *(e for rung in facts.ladder for e in rung.scores.values())):
        assert estimate.value > 0
        assert math.isnan(estimate.low)
    assert all(math.isnan(row.held_out) for row in facts.classes)
