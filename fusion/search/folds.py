"""Scores on units that nothing was chosen on: everything is chosen again without each fold.

Searched weights look best on the data they were searched on: the paper's own gained 2.6 points of
mIoU on val and 0.3 on test. Units (videos, by default), not pixels, are what is held out; what is
compared with is chosen, and scored, on the very same folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fusion.contested import Condensed
from fusion.errors import InputError
from fusion.metrics import Scores
from fusion.metrics.intervals import bias_corrected
from fusion.metrics.objectives import Counts
from fusion.progress import Progress, silent
from fusion.search.held import (
    FOUND,
    GROUP,
    SINGLE,
    UNIFORM,
    WEIGHTS,
    Choice,
    Fold,
    HeldOut,
    UnitOf,
    head_name,
)
from fusion.search.method import Method, Problem
from fusion.search.result import SearchResult, rank
from fusion.search.selection import select, split_units
from fusion.text import or_none

MOST_TRIALS = 512  # of a history, in the bootstrap
Formed = Callable[[Sequence[str]], Problem]


def hold_out(
    problem: Problem,
    method: Method,
    folds: int,
    *,
    formed: Formed | None = None,
    singles: Mapping[str, Scores] | None = None,
    alone: str = GROUP,
    simple: bool = True,
    progress: Progress = silent,
) -> HeldOut:
    """Scores of every video under what is chosen without its unit.

    Args:
        problem: the whole.
        method: that finds weights.
        folds: how many, at least 2; fewer where there are fewer units.
        formed: the problem (over all videos) whose groups are formed on these videos alone;
            default the same whatever the videos.
        singles: of every model alone, for `SINGLE`.
        alone: what one group by itself is called, `SINGLE` where groups are single models.
        simple: whether what needs no search is scored as well.
        progress: a step a fold.

    Raises:
        InputError: fewer than two folds or units.
    """
    videos, inner = problem.condensed.videos, method.inner()
    check_folds(videos, problem.unit_of, folds)
    matrices: dict[str, dict[str, Counts]] = {}
    made: dict[str, list[Fold]] = {}
    choices: dict[str, list[Choice]] = {}
    several = False  # groups, in some fold
    split = split_units(videos, problem.unit_of, folds, problem.seed)
    for held in progress(split, "folds", len(split)):
        rest = [video for video in videos if video not in held]
        whole = problem if formed is None else formed(rest)
        found, scored = judged(whole, rest, held, inner)
        chosen = choices_of(found, held)
        if simple:
            without = simpler(whole, whole.subset(rest), held, singles, alone)
            scored = {name: scores for name, (scores, _) in without.items()} | scored
            chosen = {name: Choice(held, w) for name, (_, w) in without.items()} | chosen
        for name in scored:
            choices.setdefault(name, []).append(chosen[name])
        several = several or len(whole.groups) > 1
        for name, scores in scored.items():
            matrices.setdefault(name, {}).update(scores.confusions)
        for name, each in {**found.rungs, FOUND: found}.items():
            what = (each.miou, each.weights, each.multipliers)
            made.setdefault(name, []).append(Fold(held, scored[name].score, *what))
    if not several:
        matrices.pop(alone, None)
        choices.pop(alone, None)
    # folds come shuffled; what follows must not depend on that
    in_order = {name: {video: each[video] for video in videos} for name, each in matrices.items()}
    how = (problem.condensed.classes, problem.convention)
    contenders = {name: Scores(each, *how) for name, each in in_order.items()}
    return HeldOut(made.pop(FOUND), contenders, made, choices)


def judged(
    whole: Problem,
    rest: Sequence[str],
    held: Sequence[str],
    method: Method,
) -> tuple[SearchResult, dict[str, Scores]]:
    """What is chosen on some of the videos, and scores of it and of its rungs on others.

    Args:
        whole: the problem over both.
        rest, held: the videos to choose on, and those that judge.
        method: that finds weights.
    """
    found = select(whole.subset(rest), method, thorough=False)
    scored = {}
    if whole.reach is not None and found.head is None:
        scored[WEIGHTS] = whole.scores(best_without(found), None, held)
    if found.head is None:
        scored[FOUND] = whole.scores(found.vector, found.multiplier_vector, held)
        return found, scored
    there = whole.subset(held)
    for name, rung in found.rungs.items():
        assert rung.head is not None
        scored[name] = there.under(rung.head).scores(rung.vector, rung.multiplier_vector)
    return found, scored | {FOUND: scored[head_name(found.head.name)]}


def choices_of(found: SearchResult, held: tuple[str, ...]) -> dict[str, Choice]:
    """What was found without these videos, its rungs, and its weights without multipliers."""
    each = {**found.rungs, FOUND: found}
    made = {n: Choice(held, r.weights, r.multipliers, r.head) for n, r in each.items()}
    if found.head is None:
        plain = dict(zip(found.groups, best_without(found), strict=True))
        made[WEIGHTS] = Choice(held, plain)
    return made


def check_folds(videos: Sequence[str], units: UnitOf, folds: int) -> None:
    """InputError where nothing can be held out."""
    number = len({units[video] for video in videos})
    if number < 2:
        what = "unit" if number < len(videos) else "video"
        do = "holding out needs at least 2, label more videos or search without folds"
        raise InputError(f"folds: {number} {what}; {do}")
    if folds < 2:
        raise InputError(f"folds: got {folds}; give at least 2")


def best_without(found: SearchResult) -> tuple[float, ...]:
    """The best weights of a history that have no multipliers."""
    plain = [trial for trial in found.history if trial.multipliers is None]
    best: tuple[float, ...] = max(plain, key=lambda trial: rank(trial.miou)).weights
    return best


def simpler(
    whole: Problem,
    chosen: Problem,
    held: Sequence[str],
    singles: Mapping[str, Scores] | None,
    alone: str,
) -> dict[str, tuple[Scores, dict[str, float]]]:
    """What needs no search, chosen on the other videos: scores on the held-out ones, weights."""
    groups = len(whole.groups)
    each = [[float(g == h) for h in range(groups)] for g in range(groups)]
    best = max(chosen.trials(each), key=lambda trial: rank(trial.miou))
    made = {}
    for name, vector in ((UNIFORM, (1.0,) * groups), (alone, best.weights)):
        weights = dict(zip(whole.groups, vector, strict=True))
        made[name] = (whole.scores(vector, None, held), weights)
    if singles:
        rest = chosen.condensed.videos
        known = {name: rank(only(each, rest).score) for name, each in singles.items()}
        name = max(known, key=lambda name: known[name])
        made[SINGLE] = (only(singles[name], held), {name: 1.0})
    return made


def corrected_for_picking(problem: Problem, found: SearchResult) -> dict[str, Any] | None:
    """What the best of many weightings is worth where it was not picked (`bias_corrected`).

    None for maps, which count anew for every video, and for fewer than two weightings.
    """
    plain = [trial.weights for trial in found.history if trial.multipliers is None]
    if len(plain) < 2 or not isinstance(problem.condensed, Condensed):
        return None
    pixels, some = problem.condensed, plain[:: -(-len(plain) // MOST_TRIALS)]
    units = problem.unit_of
    places = {unit: place for place, unit in enumerate(dict.fromkeys(units.values()))}
    index = [places[units[video]] for video in pixels.videos]
    given = pixels.statistics(some), pixels.rows_per_video, problem.convention
    score, ends = bias_corrected(*given, seed=problem.seed, units=index)
    return {"score": or_none(score), "interval": [or_none(end) for end in ends]}


def only(scores: Scores, videos: Sequence[str]) -> Scores:
    """The scores of some of the videos."""
    matrices = {video: scores.confusions[video] for video in videos}
    return Scores(matrices, scores.classes, scores.convention)
