"""The call `search`: what it takes, what its result has, what it refuses before it reads."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import fusion
from fusion.contested.build import CondenseVideo
from fusion.errors import FusionError, InputError
from fusion.folds import Units
from fusion.metrics.evaluation import VideoConfusion
from fusion.metrics.objectives import objective
from fusion.search.exact.multipliers import multiplied
from fusion.search.held import FOUND, GROUP, SINGLE, UNIFORM, WEIGHTS
from fusion.search.registry import METHODS
from fusion.search.run import Run
from fusion.search.selection import shrink, split_units
from tests.samples import CLASSES, VIDEOS

QUICK = {"ranges": {"weak": (0, 1, 1), "auxiliary": (0, 1, 1)}}
DRIVES, CLIPS = 4, 2  # of the fixture "drives"


@pytest.mark.parametrize("said", [True, 4.0, (0.5, 2.0), None, False])
def test_multipliers_that_hold_out_are_part_of_what_is_found(drives, said):
    ensemble, truth = drives
    found = ensemble.search(truth, "exact", multipliers=said, gap=None, climbs=1)
    if not said:
        assert found.multipliers is None
        assert WEIGHTS not in found.held_out.contenders
        return
    reach = 2.0 if said == (0.5, 2.0) else 4.0
    assert list(found.multipliers) == CLASSES
    b = found.multipliers
    assert b["tree"] > 1.4 * max(b["sky"], b["road"], b["car"])
    assert max(b.values()) <= reach + 1e-9
    assert min(b.values()) >= 1 / reach - 1e-9
    scores = found.ensemble.evaluate(truth)
    assert found.miou == found.scores.score == scores.score
    for video, matrix in scores.confusions.items():
        assert np.array_equal(found.scores.confusions[video], matrix)
    plain = found.ensemble.with_multipliers(None).evaluate(truth)
    assert found.miou > plain.miou + 0.02
    assert found.held_out > found.held_out.contenders[WEIGHTS].score
    assert found.recommended.evaluate(truth).miou == found.miou
    assert found.verdict.recommended == FOUND
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["multipliers"] == dict(b)
    assert plain["verdict"]["recommended"] == FOUND
    assert len(plain["folds"]) == 5
    assert plain["prediction_interval"] == list(found.prediction_interval())


def test_auto_has_multipliers_and_the_others_do_not(drives):
    ensemble, truth = drives
    found = ensemble.search(truth, "auto", folds=0, gap=None, climbs=1)
    assert found.method == "auto"
    why = "no heads without folds to judge them"
    assert found.notes["auto"] == f"2 groups: exact line searches; {why}"
    assert found.multipliers is not None
    assert found.miou == found.ensemble.evaluate(truth).miou
    assert found.notes["multipliers"]["held_out"].keys() == {"0.0", "0.5", "0.75", "1.0"}
    assert ensemble.search(truth, "greedy", folds=0, steps=2).multipliers is None
    models = ensemble.search(truth, "auto", over="models", folds=0)
    assert models.groups == ("net_0", "net_1", "net_2", "net_3")
    assert models.miou == models.ensemble.evaluate(truth).miou
    assert models.multipliers is not None
    geometric = ensemble.regrouped(ensemble.groups, mean="geometric")
    alone = geometric.search(truth, "auto", folds=0, gap=None, climbs=1)
    assert alone.multipliers is None
    assert "multipliers" not in alone.notes


def test_what_the_result_has(ensemble, truth):
    found = ensemble.search(truth, **QUICK)
    assert isinstance(found.held_out, float)
    assert len(list(found.held_out)) == 3  # five by default, where there are as many
    assert found.held_out == found.held_out.scores.miou
    assert list(found.held_out.contenders) == [UNIFORM, SINGLE, GROUP, FOUND]
    assert found.gain is found.verdict.gain
    uniform = ensemble.regrouped(ensemble.groups).evaluate(truth)
    assert found.gain.value == pytest.approx(found.held_out - uniform.miou, abs=1e-15)
    assert found.units == {video: video for video in VIDEOS}
    assert found.interval() == found.scores.interval(units=found.units)
    low, high = found.prediction_interval(videos=3)
    assert (low, high) == found.held_out.prediction_interval(3)
    assert low < found.held_out < high
    narrow = found.prediction_interval(videos=300)
    assert low < narrow[0] < narrow[1] < high
    assert isinstance(found.recommended, type(ensemble))
    none = ensemble.search(truth, folds=0, **QUICK)
    assert (none.held_out, none.verdict, none.gain) == (None, None, None)
    assert none.recommended is none.ensemble
    assert none.prediction_interval(3) == none.scores.prediction_interval(3)
    assert none.vector == found.vector


@pytest.mark.parametrize("name", [FOUND, UNIFORM, WEIGHTS, SINGLE, GROUP])
def test_what_is_recommended_is_that_contender_chosen_on_all_videos(
    ensemble, truth, name, monkeypatch
):
    monkeypatch.setattr("fusion.search.verdict.Verdict.recommended", name)
    found = ensemble.search(truth, multipliers=2.0, **QUICK)
    mine = found.recommended.evaluate(truth)
    run = Run(ensemble, truth)
    alone = {
        g: ensemble.with_weights(dict.fromkeys(ensemble.groups, 0.0) | {g: 1.0})
        for g in ensemble.groups
    }
    expected = {
        FOUND: found.miou,
        UNIFORM: ensemble.regrouped(ensemble.groups).evaluate(truth).miou,
        WEIGHTS: ensemble.search(truth, folds=0, **QUICK).miou,
        SINGLE: next(iter(run.singles.values())).miou,
        GROUP: max(each.evaluate(truth).miou for each in alone.values()),
    }
    assert mine.miou == expected[name]
    assert found.recommended.multipliers is None or name == FOUND


@pytest.mark.parametrize("wanted", ["union", "dice", "case-dice-nnunet", "fwiou"])
@pytest.mark.parametrize("classes", [None, ["car", "tree"], {"sky": 2.0, 3: 0.5}])
def test_objectives_and_classes(ensemble, truth, wanted, classes):
    found = ensemble.search(truth, objective=wanted, classes=classes, folds=2, **QUICK)
    known = objective(wanted, classes, CLASSES)
    assert found.convention == known.name
    scores = found.ensemble.evaluate(truth)
    expected = known.of(np.stack(list(scores.confusions.values())))
    assert found.miou == found.scores.score == expected
    assert found.miou == max(trial.miou for trial in found.history)
    assert found.held_out.scores.objective == known
    assert found.gain.what == (known.name if known.name != "union" else "mIoU")


def test_an_objective_as_an_object_and_the_older_word(ensemble, truth):
    chosen = objective("dice", ["car"], CLASSES)
    found = ensemble.search(truth, objective=chosen, folds=0, **QUICK)
    same = ensemble.search(truth, convention="dice", classes=["car"], folds=0, **QUICK)
    assert found.history == same.history
    assert (
        ensemble.search(
            truth, "grid", convention="all", objective="dice", folds=0, **QUICK
        ).convention
        == "dice"
    )


def test_units_by_name_frames_and_blocks(drives):
    ensemble, truth = drives
    how = {"method": "greedy", "steps": 2}
    found = ensemble.search(truth, units="drive[0-9]", **how)
    assert found.units == {v: v.partition("_")[0] for v in ensemble.videos}
    assert len(found.held_out.folds) == DRIVES
    for fold in found.held_out.folds:
        assert len({video.partition("_")[0] for video in fold.videos}) == 1
        assert len(fold.videos) == CLIPS
    assert found.gain.units == DRIVES
    again = ensemble.search(truth, units=Units("(drive[0-9])_"), folds=2, **how)
    assert len(again.held_out.folds) == 2
    frames = ensemble.search(truth, units="frames", **how)
    assert list(frames.units) == [f"{v}/{f}" for v in ensemble.videos for f in ("0", "1")]
    assert frames.gain.units == 2 * DRIVES * CLIPS
    assert frames.miou == found.miou == frames.ensemble.evaluate(truth).miou
    split = split_units(list(frames.units), frames.units, 5, 0)
    assert tuple(fold.videos for fold in frames.held_out.folds) == split
    blocks = ensemble.search(truth, units="blocks:2", **how)
    assert list(blocks.units) == [f"{video}/0-1" for video in ensemble.videos]
    assert blocks.held_out == ensemble.search(truth, **how).held_out
    assert ensemble.search(truth, units="cases", **how).units == {v: v for v in ensemble.videos}


def test_multipliers_are_shrunk_by_units_with_folds_or_without(drives):
    run = Run(*drives, units=Units("drive[0-9]"), reach=4.0, scheduler="synchronous")
    method, problem = METHODS["greedy"](steps=2), run.problem
    weights = method.search(problem).vector
    trial = multiplied(problem, weights)
    together, apart = (
        shrink(replace(problem, units=units), weights, trial).to_json()
        for units in (run.unit_of, {video: video for video in run.parts})
    )
    assert together != apart
    for folds in (0, None):
        found = replace(run, folds=folds).search(method)
        assert found.notes["multipliers"] == together


def test_single_models_are_scored_with_the_same_stride_and_parts(ensemble, truth):
    run = Run(ensemble, truth, stride=3, units=Units("frames"), convention="dice")
    for store in ensemble.stores:
        alone = ensemble.regrouped({"one": [store]})
        scores = run.singles[store.model]
        assert list(scores.confusions) == [f"{v}/{f}" for v in VIDEOS for f in ("0", "1")]
        for video in VIDEOS:
            expected = VideoConfusion(alone, truth, 3)(video)
            frames = scores.confusions[f"{video}/0"] + scores.confusions[f"{video}/1"]
            assert np.array_equal(frames, expected)
    assert {scores.convention for scores in run.singles.values()} == {"dice"}
    values = [scores.score for scores in run.singles.values()]
    assert values == sorted(values, reverse=True)


def test_groups_and_the_best_model_are_chosen_again_in_the_folds(drives):
    """Without a drive the model that is bad there is the best: it is strong, and then is not."""
    ensemble, truth = drives
    stores = {store.model: store for store in ensemble.stores}
    basic = ensemble.regrouped({"basic": list(stores.values())})
    how = {"folds": DRIVES, "units": Units("drive[0-9]"), "scheduler": "synchronous"}
    run = Run(basic, truth, **how).grouped(1, 0)
    found = run.search(METHODS["greedy"](steps=2))
    single = found.held_out.contenders[SINGLE]
    for fold in found.held_out.folds:
        bad = f"net_{fold.videos[0][5]}"
        weak = [store for name, store in stores.items() if name != bad]
        formed = ensemble.regrouped({"strong": [stores[bad]], "weak": weak}, fold.weights)
        scores, alone = (
            each.evaluate(truth, videos=list(fold.videos))
            for each in (formed, ensemble.regrouped({"one": [stores[bad]]}))
        )
        for video in fold.videos:
            mine = found.held_out.scores.confusions[video]
            assert np.array_equal(mine, scores.confusions[video])
            assert np.array_equal(single.confusions[video], alone.confusions[video])
        same = [run.singles[name].confusions[fold.videos[0]] for name in stores]
        right = [np.trace(matrix) for matrix in same]
        assert right.index(min(right)) == list(stores).index(bad)
    assert run.over("models").formation is None  # single models are not formed
    assert {f.videos[0][5] for f in found.held_out.folds} == set("0123")


BAD = [
    ({"objective": "iou"}, "convention: got 'iou'; choose one of vspw, union"),
    ({"classes": ["cat"]}, "classes: there is no 'cat'; did you mean 'car'?"),
    ({"classes": []}, r"classes: got \[\]; give a list of classes, or class to weight"),
    ({"classes": {"car": 0.0}}, "the weight of 'car' is 0.0; give a number above 0"),
    ({"classes": ["car", 2]}, "classes: 2 is there twice"),
    ({"classes": [4]}, "classes: there is no class 4; give names, or ids from 0 to 3"),
    ({"multipliers": 1.0}, "multipliers: got 1.0; give r above 1 and up to 1024"),
    ({"multipliers": (2.0, 0.5)}, r"multipliers: got \(2.0, 0.5\); give r above 1"),
    ({"multipliers": math.nan}, "multipliers: got nan"),
    ({"multipliers": "on"}, "multipliers: got 'on'"),
    ({"units": "blocks:0"}, "units: got 'blocks:0'; give blocks:N"),
    ({"units": "drive[0-9"}, "units: got 'drive"),
    ({"units": ""}, "units: got ''; give videos, frames"),
    ({"units": "nowhere"}, "units: 'nowhere' matches nothing of video 'a'"),
    ({"units": "^", "folds": 2}, "matches nothing of video 'a'"),
    ({"folds": 1}, "folds: got 1; give at least 2"),
    ({"folds": -2}, "folds: got -2; give at least 2"),
    ({"method": "exact", "certify": -1.0}, "certify -1.0"),
    ({"method": "exact", "certify": math.nan}, "certify nan"),
]


@pytest.mark.parametrize(("said", "message"), BAD, ids=lambda x: str(x)[:40])
def test_bad_values_are_refused_before_any_pixel_is_read(
    ensemble, truth, said, message, monkeypatch
):
    def read(*_):
        raise AssertionError("pixels are read")

    monkeypatch.setattr(CondenseVideo, "__call__", read)
    how = {"method": "grid", "scheduler": "synchronous"}
    with pytest.raises(FusionError, match="pixels are read"):
        ensemble.search(truth, **how)
    call = partial(ensemble.search, truth, **{**how, **said})
    with pytest.raises(InputError, match=message):
        call()


def test_geometric_means_take_no_multipliers_and_that_is_said_first(ensemble, truth, monkeypatch):
    monkeypatch.setattr(CondenseVideo, "__call__", None)
    geometric = ensemble.regrouped(ensemble.groups, mean="geometric")
    with pytest.raises(InputError, match="multipliers: mean='geometric' takes none; use mean="):
        geometric.search(truth, multipliers=2.0)


def test_one_unit_is_refused_where_folds_are_asked_for(data, ensemble, tmp_path):
    shutil.copytree(data / "labels" / "val" / "a", tmp_path / "a")
    one = fusion.Labels.folder(tmp_path)
    with pytest.raises(InputError, match="folds: 1 video; holding out needs at least 2"):
        ensemble.search(one, folds=2, **QUICK)
    found = ensemble.search(one, multipliers=2.0, **QUICK)
    assert (found.held_out, found.verdict) == (None, None)
    assert all(math.isnan(end) for end in (*found.interval(), *found.prediction_interval()))
    assert found.notes["multipliers"] == {"power": 1.0, "held_out": {}}  # as they were found
    assert found.multipliers is not None
    assert found.miou == found.ensemble.evaluate(one).miou
    assert len(ensemble.search(one, units="frames", **QUICK).held_out.folds) == 2
