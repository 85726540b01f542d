"""`learned`: what the contract of methods asks, where pixels are maps; and what a fold may see."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from fusion.contested import Maps
from fusion.contested.maps import VideoMaps
from fusion.ensemble.heads import HEADS
from fusion.ensemble.heads.log import Log
from fusion.errors import InputError
from fusion.metrics import CONVENTIONS
from fusion.search.__main__ import build_parser
from fusion.search.folds import hold_out, judged
from fusion.search.held import FOUND, head_name
from fusion.search.learned import fit
from fusion.search.learned.cells import Cells
from fusion.search.learned.method import Learned
from fusion.search.learned.school import School, lowest
from fusion.search.method import Problem, Workspace
from fusion.search.printed import learned_lines
from fusion.search.registry import METHODS
from fusion.search.result import SearchResult
from fusion.search.selection import select
from tests.search.simulated import both_ways, videos

QUICK = Learned(head="log")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """What is asked here does not depend on how far training goes."""
    monkeypatch.setattr(fit, "STEPS", 6)


def maps_of(count: int = 6, models: int = 3, classes: int = 3, **more) -> Maps:
    return both_ways(models, classes, count, **more)[0]


def problem(maps: Maps | None = None, seed: int = 0, **more) -> Problem:
    maps = maps or maps_of()
    cells = Cells.within(replace(maps, memory=8 * 4 * 12 * 300), seed)
    return Problem(maps, seed=seed, cells=lambda: cells, **more)


def changed(maps: Maps, video: str, targets) -> Maps:
    """Maps whose labels of one video are what `targets` makes of them."""
    place = maps.videos.index(video)
    (frames,) = maps.pixels[place].frames()
    other = VideoMaps.held(replace(frames, targets=np.ascontiguousarray(targets(frames.targets))))
    return replace(maps, pixels=(*maps.pixels[:place], other, *maps.pixels[place + 1 :]))


def check(found: SearchResult, given: Problem) -> None:
    """A head, by itself with weight 1; its score is that of the maps that it makes."""
    assert found.head is not None
    assert (found.method, found.convention) == ("learned", given.objective.name)
    assert found.groups == (found.head.name,)
    assert found.head.units == given.condensed.groups
    assert found.crossed.keys() == set(given.condensed.videos)
    (score,) = given.under(found.head).condensed.miou([[1.0]], given.convention)
    assert found.miou == score
    assert list(found.rungs) == [head_name(name) for name in found.notes["learned"]["forms"]]


@pytest.mark.parametrize("convention", [*CONVENTIONS, "dice", "case-dice-nnunet"])
def test_a_head_with_the_score_of_what_it_makes(convention):
    given = problem(convention=convention)
    found = QUICK.search(given)
    check(found, given)
    assert 0.25 <= found.notes["learned"]["temperature"] <= 4
    assert found.to_json()["notes"]["learned"]["form"] == "log"


def test_forms_stand_on_those_below_them():
    given = problem()
    for form, chain in (("mix", ["log", "mix"]), ("lowrank", ["log", "lowrank"])):
        found = Learned(head=form).search(given)
        check(found, given)
        assert list(found.notes["learned"]["forms"]) == chain
        assert found.head.name == form
    forms = Learned().forms
    assert [form.name for form in forms(4, 5)] == ["log", "mix"]
    assert [form.name for form in forms(22, 124)] == ["log", "lowrank"]
    auto = Learned().search(given)
    check(auto, given)
    assert auto.head.name in ("log", "mix")


def test_same_seed_same_head_whoever_asks_first():
    one, two = (Learned().search(problem(seed=3)) for _ in range(2))
    assert (one.history, one.head, one.notes) == (two.history, two.head, two.notes)
    assert one.crossed == two.crossed
    for name, rung in one.rungs.items():
        assert rung.head == two.rungs[name].head


def test_some_of_the_videos():
    given = problem().subset(["v1", "v4", "v2"])
    assert given.condensed.videos == ("v1", "v4", "v2")
    check(QUICK.search(given), given)


def test_what_cannot_be_trained_on_is_refused_in_a_sentence():
    maps = maps_of(count=3)
    void = maps
    for video in maps.videos:
        void = changed(void, video, lambda targets: np.full_like(targets, 255))
    wrong = {
        "use resize='probabilities' and mean='arithmetic'": Problem(videos()),
        "the labels are all void; label some pixels": problem(void),
    }
    for said, given in wrong.items():
        with pytest.raises(InputError, match=f"^learned: .*{said}") as caught:
            QUICK.search(given)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reach", [None, 4.0])
def test_one_unit_holds_nothing_out(reach):
    """The smallest form, at its strongest pull."""
    maps = maps_of(count=3)
    for some in ({}, dict.fromkeys(maps.videos, "drive")):
        given = problem(maps if some else maps.subset(["v1"]), units=some or None, reach=reach)
        found = select(given, Learned())
        assert found.head.name == "log"
        assert found.notes["learned"]["forms"]["log"]["strength"] == Log.strengths[0]
        assert found.miou == pytest.approx(
            given.under(found.head).scores([1.0], found.multiplier_vector).score
        )


@pytest.mark.parametrize("convention", ["vspw", "dice", "case-iou", "case-dice-nnunet"])
def test_void_videos_are_trained_around(convention):
    """All but one: the inner fold that holds it out has nothing to train on."""
    maps = maps_of(count=3)
    for video in ("v0", "v2"):
        maps = changed(maps, video, lambda targets: np.full_like(targets, 255))
    given = problem(maps, convention=convention)
    check(Learned().search(given), given)


def test_options_are_its_fields_and_bad_ones_are_named():
    options = {f.name: getattr(QUICK, f.name) for f in fields(QUICK)}
    assert Learned(**options) == QUICK
    wrong = {
        "surrogate is -1.0; give a share of at least 0": {"surrogate": -1.0},
        "surrogate is nan": {"surrogate": float("nan")},
        "head: got 'mxi'; did you mean 'mix'": {"head": "mxi"},
        "head: got 'zzzzzz'": {"head": "zzzzzz"},
    }
    for said, option in wrong.items():
        with pytest.raises(InputError, match=f"^learned: .*{said}"):
            Learned(**option)


def test_the_command_line_has_it():
    parser = build_parser()
    assert METHODS["learned"] is Learned
    assert Learned.from_arguments(vars(parser.parse_args([]))) == Learned()
    given = vars(parser.parse_args(["--head", "mix", "--surrogate", "0.25"]))
    assert Learned.from_arguments(given) == Learned("mix", 0.25)
    told = " ".join(parser.format_help().split())
    assert f"learned ({Learned.about})" in told
    assert all(f"{flag} " in told for flag in Learned.flags())
    assert all(f"{form}, " in told for form in HEADS)


def test_inside_a_fold_it_is_the_same_kind():
    assert QUICK.inner() == QUICK
    assert (Learned.over, Learned.multiplies, Learned.trains) == ("models", True, True)


def test_progress_sees_every_form():
    seen = []

    def progress(items, description, total):
        for item in items:
            seen.append((description, total))
            yield item

    given = problem()
    found = Learned().search(given, Workspace(progress))
    assert len(seen) == 8  # three inner folds and all videos, of each form
    assert [said.startswith("the log head") for said, _ in seen] == [True] * 4 + [False] * 4
    assert {total for _, total in seen} == {4}
    assert found.history == Learned().search(given).history


@pytest.mark.parametrize("reach", [None, 4.0])
def test_what_is_held_out_has_no_part_in_what_is_chosen(reach):
    """Other labels of a held-out video leave the fold's heads, and all that is on them, as is."""
    maps, rest = maps_of(), ["v0", "v1", "v3", "v4", "v5"]
    mine = problem(maps, reach=reach)
    other = problem(changed(maps, "v2", lambda targets: targets[:, ::-1]), reach=reach)
    found, theirs = (judged(each, rest, ["v2"], Learned()) for each in (mine, other))
    assert found[0].head == theirs[0].head
    assert found[0].crossed == theirs[0].crossed
    assert found[0].multipliers == theirs[0].multipliers
    for name, rung in found[0].rungs.items():
        assert (rung.head, rung.multipliers) == (
            theirs[0].rungs[name].head,
            theirs[0].rungs[name].multipliers,
        )
    assert found[1][FOUND].score != theirs[1][FOUND].score
    whole = [select(each, Learned()) for each in (mine, other)]
    assert whole[0].head != whole[1].head  # where it is not held out it has


def test_inner_folds_keep_to_themselves():
    """A head of `crossed` is what other videos make of it, its own labels whatever they are."""
    maps = maps_of()
    mine, theirs = (
        QUICK.search(problem(each))
        for each in (maps, changed(maps, "v2", lambda targets: targets[:, ::-1]))
    )
    schools = [School(problem(maps), 1.0)]
    (fold,) = (set(fold) for fold in schools[0].folds if "v2" in fold)
    strengths = [found.notes["learned"]["forms"]["log"]["strength"] for found in (mine, theirs)]
    assert strengths[0] == strengths[1]
    for video in maps.videos:
        if video in fold:  # up to the one temperature, which all of them share
            a, b = (found.crossed[video].full_mixing for found in (mine, theirs))
            t = [found.notes["learned"]["temperature"] for found in (mine, theirs)]
            np.testing.assert_allclose(a * t[0], b * t[1], rtol=1e-5)
        else:
            assert mine.crossed[video] != theirs.crossed[video]


def test_folds_score_every_rung():
    given = problem(reach=4.0)
    held = hold_out(given, Learned(), 3, simple=False)
    assert {head_name("log"), head_name("mix"), FOUND} == held.contenders.keys()
    assert set(held.rungs) == {head_name("log"), head_name("mix")}
    assert all(len(folds) == 3 for folds in held.rungs.values())
    for scores in held.contenders.values():
        assert list(scores.confusions) == list(given.condensed.videos)
        assert [m.sum() for m in scores.confusions.values()] == [
            pixels.rows.sum() for pixels in given.condensed.pixels
        ]


@pytest.mark.parametrize("valley", [-1.3, 0.0, 0.9])
def test_golden_sections_find_a_valley(valley):
    assert lowest(lambda x: (x - valley) ** 2, -1.4, 1.4) == pytest.approx(valley, abs=1e-3)


def test_the_temperature_is_of_the_lowest_cross_entropy():
    """Of unseen cells: a grid of temperatures has none lower."""
    given = problem()
    school = School(given, 1.0)
    stage = school.stage(HEADS["log"], None)
    temperature = school.temperature(stage)

    def cost(t: float) -> float:
        total = 0.0
        for video, head in stage.crossed.items():
            sample = school.samples[video]
            scores = np.einsum("uck,nuk->nc", head.full_mixing, sample.logs) + head.bias
            scores = np.float64(scores) / t
            logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
            total -= (sample.counts * logs).sum()
        return total

    assert cost(temperature) <= min(cost(t) for t in np.geomspace(0.25, 4, 41)) * (1 + 1e-6)


@pytest.mark.parametrize("stride", [1, 4])
def test_what_a_head_makes_is_kept_where_memory_holds_it(stride):
    """Whatever the stride: cells are kept, not label pixels. What is made again is the same."""
    maps = maps_of(count=2)
    if stride > 1:
        parts = [next(video.frames()) for video in maps.pixels]
        fewer = [np.ascontiguousarray(p.targets[:, ::stride, ::stride]) for p in parts]
        pairs = zip(parts, fewer, strict=True)
        held = (VideoMaps.held(replace(p, targets=t, stride=stride)) for p, t in pairs)
        maps = replace(maps, pixels=tuple(held))
    head = Log(maps.groups, maps.classes, Log.start(3, 3, None))
    size = 2 * 2 * 6 * 10 * 3 * 4  # videos, frames, cells, classes, bytes
    heads = dict.fromkeys(maps.videos, head)
    kept, again = (replace(maps, memory=m).under(heads) for m in (2 * size, 2 * size - 2))
    for mine, theirs in zip(kept.pixels, again.pixels, strict=True):
        assert next(mine.frames()) is next(mine.frames())
        assert next(theirs.frames()) is not next(theirs.frames())
        assert np.array_equal(next(mine.frames()).maps, next(theirs.frames()).maps)
    assert np.array_equal(kept.confusion([1.0]), again.confusion([1.0]))


def test_classes_that_nothing_is_and_losses_that_are_no_number_are_said():
    void = maps_of()
    for video in void.videos:
        void = changed(void, video, lambda targets: np.where(targets == 2, 255, targets))
    found = QUICK.search(problem(void))
    told = found.notes["learned"]
    assert told["unseen"] == ["c2"]
    said = "classes without a labelled pixel keep the smaller form's weights: c2"
    assert said in learned_lines(found)
    assert not any("no number" in line for line in learned_lines(found))
    forms = {"log": {**told["forms"]["log"], "stopped": 7}}
    stopped = replace(found, notes={"learned": {**told, "forms": forms}})
    said = "  log: the loss was no number at step 7; what was best before it is kept"
    assert said in learned_lines(stopped)
    assert "without a labelled" not in "\n".join(learned_lines(QUICK.search(problem())))


@pytest.mark.parametrize("options", [{"resize": "logits"}, {"mean": "geometric"}])
def test_what_no_head_can_fuse_is_refused_before_pixels_are_read(drives, options, monkeypatch):
    ensemble, truth = drives
    monkeypatch.setattr("fusion.search.split.load_maps", None)
    other = ensemble.regrouped(ensemble.groups, **options)
    with pytest.raises(InputError, match="learned: heads fuse probabilities of classes"):
        other.search(truth, "learned", multipliers=False)
