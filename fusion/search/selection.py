"""One choice of everything: weights by a method, then multipliers, shrunk as inner folds say.

    method.search(problem) -> weights -> multipliers by line searches -> b^p, p by inner folds

This is the call that a search makes on all videos, and again inside every fold: whatever is chosen
is chosen without the videos that judge it. C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusion.contested import Condensed
from fusion.contested.build import MOST_REACH
from fusion.ensemble import Ensemble
from fusion.errors import InputError
from fusion.folds import dealt
from fusion.metrics import Scores
from fusion.metrics.objectives import Counts
from fusion.search.exact.multipliers import REACH, Classes, multiplied
from fusion.search.held import UnitOf, head_name
from fusion.search.method import ALONE, Method, Problem, Workspace
from fusion.search.result import SearchResult, Trial

POWERS = (0.0, 0.5, 0.75, 1.0)  # of the multipliers: 0 uses none, 1 all of what was found
INNER = 3  # folds
THRESHOLD_REACH = 99.0  # of channels: thresholds from 0.01 to 0.99


def select(
    problem: Problem,
    method: Method,
    workspace: Workspace = ALONE,
    *,
    thorough: bool = True,
) -> SearchResult:
    """The method's result; where the problem has a reach, with multipliers if they hold out.

    A single unit holds nothing out: multipliers then stay as found. Under a head they are found on
    what the inner folds' heads make of videos that these have not seen.

    thorough: whether multipliers end on all pixels; off inside folds, as methods are quick there.
    """
    found = method.search(problem, workspace)
    if found.head is None:
        return _multiplied(problem, found, thorough)
    rungs = {name: _multiplied(problem, rung, thorough) for name, rung in found.rungs.items()}
    return replace(rungs[head_name(found.head.name)], rungs=rungs)


def _multiplied(problem: Problem, found: SearchResult, thorough: bool) -> SearchResult:
    """The result with multipliers, where they hold out."""
    if problem.reach is None or not problem.condensed.scored:
        return found
    unseen = problem if found.head is None else problem.under(found.crossed)
    trial = multiplied(unseen, found.vector, thorough=thorough and found.head is None)
    shrinkage = shrink(unseen, found.vector, trial)
    notes = {**found.notes, "multipliers": shrinkage.to_json()}
    if shrinkage.power == 0:
        return replace(found, notes=notes)
    assert trial.multipliers is not None
    multipliers = tuple(b**shrinkage.power for b in trial.multipliers)
    whole = problem if found.head is None else problem.under(found.head)
    (shrunk,) = whole.trials([trial.weights], [multipliers])
    history = (*found.history, *(() if found.head else (trial,)), shrunk)
    named = dict(zip(problem.condensed.classes, multipliers, strict=True))
    more: dict[str, Any] = {"vector": trial.weights, "multipliers": named, "notes": notes}
    return replace(found, miou=shrunk.miou, history=history, **more)


@dataclass(frozen=True)
class Shrinkage:
    """How much of the multipliers is used, by the inner folds.

    power: p of b^p, 0 for no multipliers. held_out: the objective of every power there; empty
    where nothing could be held out.
    """

    power: float
    held_out: Mapping[float, float]

    def to_json(self) -> dict[str, Any]:
        return {"power": self.power, "held_out": {str(p): s for p, s in self.held_out.items()}}


def shrink(problem: Problem, weights: Sequence[float], trial: Trial) -> Shrinkage:
    """The power that scores best on held-out units, 0 unless that gains over one standard error.

    Multipliers are found again without each inner fold; power 0 stands for the better of the
    method's own weights and the trial's, so that multipliers are not kept for better weights. The
    one-standard-error rule: Breiman et al., "Classification and Regression Trees", 1984, section
    3.4.3, with the error of the paired difference.
    """
    videos, units = problem.condensed.videos, problem.unit_of
    folds = split_units(videos, units, INNER, problem.seed)
    if len(folds) < 2:
        return Shrinkage(1.0, {})
    plain, pixels = samples(problem, weights, trial.weights)
    merit = problem.objective.of
    if merit(pixels.confusion([1.0])) > merit(plain.confusion([1.0])):
        plain = pixels
    names, found = dict.fromkeys(videos), dict[float, dict[str, Counts]]()
    for held in folds:
        rest = pixels.subset([video for video in names if video not in held])
        classes = Classes(rest, problem.objective, problem.reach or REACH)
        multipliers = np.array(classes.climb([1.0] * len(pixels.classes))[1])
        for power in POWERS:
            some, scale = (pixels, multipliers**power) if power else (plain, None)
            matrices = some.subset(held).confusion([1.0], scale)
            found.setdefault(power, {}).update(zip(held, matrices, strict=True))
    scores = {p: Scores(each, pixels.classes, problem.convention) for p, each in found.items()}
    held_out = {power: each.score for power, each in scores.items()}
    best = max(POWERS, key=lambda power: np.nan_to_num(held_out[power], nan=-1.0))
    if best and not scores[best].gain(scores[0.0], units=units).beyond_standard_error:
        best = 0.0
    return Shrinkage(best, held_out)


def samples(
    problem: Problem, plain: Sequence[float], weights: Sequence[float]
) -> tuple[Condensed, Condensed]:
    """Fused pixels under both weights, a sample of the same ones."""
    reach = problem.reach or REACH
    if problem.wide is not None:
        wide = problem.wide.thinned(problem.sample)
        return wide.fused(plain, reach), wide.fused(weights, reach)
    fused = problem.condensed.fused(weights, reach).thinned(problem.sample)
    return fused, fused


def read_reach(
    method: type[Method],
    ensemble: Ensemble,
    multipliers: bool | float | tuple[float, float] | None,
) -> float | None:
    """As `parse_reach`, where nothing given is what the method does by default.

    Multipliers of independent channels are thresholds, and go further.
    """
    if multipliers is None:
        multipliers = method.multiplies and ensemble.mean == "arithmetic"
    return parse_reach(multipliers, REACH if ensemble.channels is None else THRESHOLD_REACH)


def parse_reach(
    multipliers: bool | float | tuple[float, float], usual: float = REACH
) -> float | None:
    """r of [1/r, r], of what a caller gives; None for no multipliers. Only ratios matter.

    InputError: a range that is none, or beyond what pixels can be condensed for.
    """
    if isinstance(multipliers, bool):
        return usual if multipliers else None
    try:
        low, high = (
            (1 / multipliers, multipliers) if isinstance(multipliers, (int, float)) else multipliers
        )
        reach = math.sqrt(high / low)
        sound = 0 < low < high and reach <= MOST_REACH
    except (TypeError, ValueError, ArithmeticError):
        sound = False
    if not sound:
        do = f"give r above 1 and up to {MOST_REACH}, or (lowest, highest)"
        raise InputError(f"multipliers: got {multipliers!r}; {do}")
    return reach


def split_units(
    videos: Sequence[str], units: UnitOf, folds: int, seed: int
) -> tuple[tuple[str, ...], ...]:
    """Units shuffled by the seed and dealt to folds as even as can be; one unit a fold at least.

    Each fold has its videos in their order.
    """
    names = list(dict.fromkeys(units[video] for video in videos))
    dealt_out = dealt(range(len(names)), min(folds, len(names)), seed) if names else []
    places = [{names[place] for place in fold} for fold in dealt_out]
    return tuple(tuple(v for v in videos if units[v] in fold) for fold in places)
