"""The nested choice against a slow twin that calls `evaluate` for everything."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

import fusion
from fusion.errors import InputError
from fusion.metrics import miou, stable_windows, video_consistency
from fusion.postprocess import NOTHING, OPERATIONS, Operation, Pipeline, operation_of, parameter
from fusion.postprocess.operation import LABELS, STAGES
from fusion.search.greedy import Greedy
from fusion.search.held import FOUND, UNIFORM
from fusion.search.postprocessing import candidates, tune
from fusion.search.postprocessing.candidates import candidates_of, longer
from fusion.search.postprocessing.measure import Measures
from fusion.search.postprocessing.tune import Tuning
from fusion.search.postprocessing.unseen import unseen
from fusion.search.run import Run
from tests.search.postprocessing.clips import CLIPS, FRAMES

STEPS = 2
TRIED = [  # a grid that shows everything, and is quick
    operation_of(each)
    for each in (
        "ema:half_life=2,both_ways=on",
        "window:radius=2",
        "window:radius=4",
        "vote:radius=4",
    )
]


@pytest.fixture
def few(monkeypatch):
    """Only these operations are tried."""
    monkeypatch.setattr(tune, "candidates_of", lambda *_: candidates.Candidates(tuple(TRIED), ()))


class Twin:
    """All of it written out: an `evaluate` per fold and candidate, and sums of matrices."""

    def __init__(self, ensemble, truth, found):
        self.truth, self.folds = truth, found.held_out.folds
        self.under = []
        for fold in self.folds:
            uniform = found.verdict.recommended == UNIFORM
            weights = dict.fromkeys(fold.weights, 1.0) if uniform else fold.weights
            self.under.append(ensemble.with_weights(weights))
        self.known = {}

    def matrices(self, pipeline):
        if str(pipeline) not in self.known:
            made = {}
            for fold, ensemble in zip(self.folds, self.under, strict=True):
                one = ensemble.with_postprocess(pipeline)
                made |= one.evaluate(self.truth, videos=fold.videos).confusions
            self.known[str(pipeline)] = made
        return self.known[str(pipeline)]

    def score(self, pipeline, videos):
        return miou(sum(self.matrices(pipeline)[video] for video in videos), "vspw")

    def gain(self, mine, other, videos):
        """The difference, and its error by leaving out a video at a time."""

        def difference(some):
            return self.score(mine, some) - self.score(other, some)

        without = [difference([v for v in videos if v != out]) for out in videos]
        mean, n = sum(without) / len(videos), len(videos)
        error = math.sqrt((n - 1) / n * sum((each - mean) ** 2 for each in without))
        return difference(videos), error

    def choice(self, videos):
        chosen = NOTHING
        while len(chosen.operations) < 3:
            best, high = None, self.score(chosen, videos)
            for each in TRIED:
                if each.name not in [one.name for one in chosen]:
                    both = sorted([*chosen, each], key=lambda one: STAGES.index(one.stage))
                    pipeline = Pipeline(tuple(both))
                    if self.score(pipeline, videos) > high:
                        best, high = pipeline, self.score(pipeline, videos)
            if best is None:
                return chosen
            value, error = self.gain(best, chosen, videos)
            if not value > error:
                return chosen
            chosen = best
        return chosen


@pytest.mark.parametrize("scene", ["still", "moving"])
def test_the_nested_choice_is_that_of_the_slow_twin(scene, request, few):
    ensemble, truth = request.getfixturevalue(scene)
    found = ensemble.search(truth, "greedy", steps=STEPS, folds=3, tune="postprocess")
    twin, known = Twin(ensemble, truth, found), found.postprocess
    assert known.best == twin.choice(list(CLIPS))
    nested = {}
    for fold, kept in zip(twin.folds, known.held.folds, strict=True):
        assert kept.parts == fold.videos
        assert kept.chosen == twin.choice([v for v in CLIPS if v not in fold.videos])
        assert kept.score == twin.score(kept.chosen, fold.videos)
        assert kept.none == twin.score(NOTHING, fold.videos)
        nested |= {video: twin.matrices(kept.chosen)[video] for video in fold.videos}
    twin.known["nested"] = nested
    value, error = twin.gain("nested", NOTHING, list(CLIPS))
    gain = known.held.gains["score"]
    assert gain.value == pytest.approx(value, abs=1e-12)
    assert gain.error == pytest.approx(math.sqrt(2 - 1 / 3) * error, rel=1e-9)
    for row in known.rows:
        assert row.score == twin.score(row.pipeline, CLIPS)
    kept = known.best if value > gain.error else NOTHING
    assert known.chosen == kept
    if scene == "still":  # smoothing helps by far
        assert kept
        assert any(len(row.pipeline.operations) > 1 for row in known.rows)
        assert value > 0.05
    else:
        assert not known.best
        assert all(not fold.chosen for fold in known.held.folds)
        assert all(row.gain.value < 0 for row in known.rows if row.pipeline)
    # what is recommended has it; what was found, and its score, stay as they were
    assert found.recommended.postprocess == kept
    assert not found.ensemble.postprocess
    assert found.miou == found.ensemble.evaluate(truth).score


def test_consistency_is_that_of_whole_videos(still, few):
    """Windows of every part, each under what was found without it, are all of a video's."""
    ensemble, truth = still
    run = Run(ensemble, truth, folds=3)
    found = run.search(Greedy(steps=STEPS))
    known = Tuning.parse("postprocess", run).tuned(found).postprocess
    under = {part: fold.ensemble for fold in unseen(run, found) for part in fold.parts}
    for row in known.rows:
        windows = []
        for video, ensemble in under.items():
            one = ensemble.with_postprocess(row.pipeline)
            targets = [truth.raw(video, frame) for frame in FRAMES]
            windows.append(stable_windows(targets, one.predict(video)))
        assert row.vc8 == video_consistency(windows, 8)
        assert math.isnan(row.vc16)  # clips of 12 frames


@pytest.mark.parametrize("units", ["blocks:5", "frames"])
def test_parts_of_videos_are_measured_in_one_pass(still, few, units):
    ensemble, truth = still
    run = Run(ensemble, truth, folds=3, units=fusion.search.Units.parse(units))
    found = run.search(Greedy(steps=1))
    folds = unseen(run, found)
    measures = Measures(run, folds)
    pipeline = Pipeline((TRIED[1], TRIED[3]))
    measures.add([(NOTHING, None), (pipeline, None)])
    parts = list(run.parts)
    mine = measures.outcome(NOTHING, parts, None)
    held = found.held_out.contenders[found.verdict.recommended]
    for part in parts:
        assert np.array_equal(mine.measures[part].confusion, held.confusions[part])
    smoothed = measures.outcome(pipeline, parts, None)
    for fold in folds:
        one = fold.ensemble.with_postprocess(pipeline)
        expected = run.fused(one, fold.parts)
        for part in fold.parts:
            confusion = smoothed.measures[part].confusion
            assert np.array_equal(confusion, expected.confusions[part])
    windows = [score for part in parts for score in smoothed.measures[part].windows[8]]
    assert len(windows) == len(CLIPS) * (len(FRAMES) - 8)


@pytest.mark.parametrize("room", [0, 5000])
def test_what_does_not_fit_is_fused_again(still, few, room, monkeypatch):
    ensemble, truth = still
    some = [(Pipeline((each,)), None) for each in TRIED]
    run = Run(ensemble, truth, folds=3)
    folds = unseen(run, run.search(Greedy(steps=1)))
    whole, little = Measures(run, folds), Measures(run, folds)
    whole.add(some)
    asked = []
    monkeypatch.setattr(type(ensemble), "spare", lambda *_: asked.append(1) or room)
    little.add(some)
    assert asked
    for pipeline, _ in some:
        one, other = (m.outcome(pipeline, CLIPS, None) for m in (whole, little))
        for clip in CLIPS:
            mine, theirs = one.measures[clip], other.measures[clip]
            assert np.array_equal(mine.confusion, theirs.confusion)
            assert mine.windows == theirs.windows


@dataclass(frozen=True)
class Spy(Operation):
    """Takes rows of labels, and says on which video it was used with which."""

    name: ClassVar = "spy"
    about: ClassVar = "notes what it is told"
    stage: ClassVar = LABELS
    seen: ClassVar[set] = set()

    rows: tuple[str, ...] = parameter((), "counts")

    def fitted(self, rows):
        return replace(self, rows=tuple(map(str, rows)))

    def apply(self, stream, video):
        self.seen.add((video.name, self.rows))
        return stream


def test_what_is_taken_from_labels_is_not_of_those_that_judge(still, monkeypatch):
    ensemble, truth = still
    Spy.seen.clear()
    monkeypatch.setattr(candidates, "OPERATIONS", {"spy": Spy})
    run = Run(ensemble, truth, folds=3)
    found = Tuning.parse("postprocess", run).tuned(run.search(Greedy(steps=1)))
    rows = ensemble.evaluate(truth).confusions
    folds = [fold.videos for fold in found.held_out.folds]

    def told(*without):
        some = [v for k, fold in enumerate(folds) if k not in without for v in fold]
        return tuple(str(n) for n in sum(rows[v].sum(axis=1) for v in some))

    for k, fold in enumerate(folds):
        others = [j for j in range(3) if j != k]
        expected = {told(k), *(told(k, j) for j in others)}
        for video in fold:
            assert {counts for name, counts in Spy.seen if name == video} == expected
    row = next(row for row in found.postprocess.rows if row.pipeline)
    assert row.gain.value == 0
    assert not found.postprocess.chosen  # none wins ties


def test_what_is_recommended_takes_it_from_all_labels(still, monkeypatch):
    ensemble, truth = still
    monkeypatch.setattr(candidates, "OPERATIONS", {"spy": Smoothing})
    found = ensemble.search(truth, "greedy", steps=1, folds=3, tune="postprocess")
    (chosen,) = found.recommended.postprocess
    total = ensemble.evaluate(truth).confusion.sum(axis=1)
    assert chosen.rows == tuple(str(n) for n in total)
    assert [row.name for row in found.postprocess.rows if row.chosen] == ["spy"]


class Smoothing(Spy):
    temporal: ClassVar = True

    def apply(self, stream, video):
        return operation_of("vote:radius=6").apply(stream, video)


@pytest.mark.parametrize("aim", ["vc8", "vc16"])
def test_by_consistency(still, moving, few, aim, monkeypatch):
    ensemble, truth = still
    if aim == "vc16":
        with pytest.raises(
            InputError, match="vc16 needs more than 16 labelled frames, the longest"
        ):
            ensemble.search(truth, "greedy", tune="postprocess:vc16")
        return
    found = ensemble.search(truth, "greedy", steps=1, folds=3, tune="postprocess:vc8")
    known = found.postprocess
    allowed = [r for r in known.rows if r.gain is None or r.gain.value >= -r.gain.error]
    assert known.chosen
    single = max((r for r in allowed if len(r.pipeline.operations) < 2), key=lambda r: r.vc8)
    best = next(row for row in known.rows if row.chosen)
    assert best.vc8 >= single.vc8
    assert "in VC8 +" in known.sentence
    ensemble, truth = moving  # where consistency costs score, none stays
    found = ensemble.search(truth, "greedy", steps=1, folds=3, tune="postprocess:vc8")
    assert not found.postprocess.chosen


def test_without_folds_it_says_so(still, few):
    found = still[0].search(still[1], "greedy", steps=1, folds=0, tune="postprocess")
    assert found.postprocess.held is None
    assert found.postprocess.chosen == found.recommended.postprocess
    assert found.postprocess.sentence.startswith("nothing was held out")
    assert any("weights too" in line for line in found.postprocess.remarks)


def test_heads_are_those_of_each_fold(still, few):
    ensemble, truth = still
    run = Run(ensemble, truth, folds=3).over("models")
    from fusion.search.learned.method import Learned

    found = run.search(Learned(head="log"))
    held = found.held_out
    choices = held.choices[FOUND]
    assert [choice.videos for choice in choices] == [fold.videos for fold in held.folds]
    assert len({id(choice.head) for choice in choices}) == 3
    assert all(choice.head.name == "log" for choice in choices)
    for choice, fold in zip(choices, held.folds, strict=True):
        scores = run.ensemble_of(choice).evaluate(truth, videos=choice.videos)
        assert scores.score == pytest.approx(fold.score, abs=0.01)  # near ties of maps
    tuned = Tuning.parse("postprocess", run).tuned(found)
    name = found.verdict.recommended
    none = next(row for row in tuned.postprocess.rows if not row.pipeline)
    assert none.score == pytest.approx(held.contenders[name].score, abs=0.01)


def test_every_contender_says_what_it_was(still):
    ensemble, truth = still
    groups = {"one": ensemble.stores[:1], "both": ensemble.stores}
    run = Run(fusion.HierarchicalEnsemble(groups), truth, folds=3, reach=4.0)
    held = run.search(Greedy(steps=STEPS)).held_out
    assert held.choices.keys() == held.contenders.keys()
    for name, scores in held.contenders.items():
        for choice in held.choices[name]:
            made = run.ensemble_of(choice).evaluate(truth, videos=choice.videos)
            for video, matrix in made.confusions.items():
                assert np.array_equal(matrix, scores.confusions[video]), name


def test_json_and_lines(still, few):
    found = still[0].search(still[1], "greedy", steps=1, folds=3, tune="postprocess")
    known = json.loads(json.dumps(found.postprocess.to_json(), allow_nan=False))
    assert known["chosen"] == found.recommended.postprocess.get_config()
    (row,) = (each for each in known["candidates"] if each["chosen"])
    assert row["name"] == str(found.recommended.postprocess)
    assert any(each["front"] for each in known["candidates"])
    assert known["candidates"][0]["name"] == "none"
    assert known["candidates"][0]["gain"] is None
    assert known["candidates"][1]["vc16"] is None
    assert len(known["held_out"]["folds"]) == 3
    text = "\n".join(found.postprocess.lines())
    assert f"postprocessing: {known['sentence']}" in text
    assert "recommended" in repr(found)


def test_what_can_be_tried(still, tmp_path):
    ensemble, truth = still
    some = candidates_of(ensemble, truth)
    assert {each.radius for each in some.operations if each.name == "vote"} == {2, 4, 8}
    assert not any(each.needs_pictures for each in some.operations)
    pictures = ensemble.regrouped(ensemble.groups, images=tmp_path)
    assert any(each.needs_pictures for each in candidates_of(pictures, truth).operations)
    names = [[each.name for each in one] for one in longer(Pipeline((TRIED[3],)), TRIED)]
    assert names == [["ema", "vote"], ["window", "vote"], ["window", "vote"]]


def test_packages_that_are_missing_are_left_out(still, monkeypatch):
    import fusion.postprocess.flow

    def none():
        raise InputError("motion: needs the package opencv; pip install 'segfusion[motion]'")

    monkeypatch.setattr(fusion.postprocess.flow, "_opencv", none)
    monkeypatch.setattr(candidates, "OPERATIONS", {"window": OPERATIONS["window"]})
    found = still[0].search(still[1], "greedy", steps=1, folds=3, tune="postprocess")
    assert all("motion" not in row.name for row in found.postprocess.rows)
    assert any("opencv" in line for line in found.postprocess.remarks)


def test_refusals(still, monkeypatch):
    ensemble, truth = still
    with pytest.raises(InputError, match="tune: got 'postproces'; did you mean 'postprocess'"):
        ensemble.search(truth, "greedy", tune="postproces")
    monkeypatch.setattr(candidates, "OPERATIONS", {"guided": Guided})
    with pytest.raises(
        InputError, match="tune: no operation applies to these data; not tried: gui"
    ):
        ensemble.search(truth, "greedy", tune="postprocess")


class Guided(Spy):
    name: ClassVar = "guided"
    pictures: ClassVar = True
