"""How groups are formed: models scored, ranked, and dealt out as the paper does (section 2.3).

How many are strong, and how many auxiliary, is cheap to choose on pixels that know single models:
equation 1 over groups is a weighted sum over models (a group of n models with weight w gives each
of them w / n), so one set over all models scores every choice of k strong and m auxiliary models,
each under a coarse grid of group weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from fusion.ensemble import Ensemble, single_groups
from fusion.errors import InputError
from fusion.folds import VIDEOS, Units
from fusion.kernels.numbers import void_label
from fusion.labels import Labels
from fusion.metrics import Objective, Scores, confusion
from fusion.metrics.evaluation import Parts, beside_truth, every, frame_counts, parts_of
from fusion.parallel import map_videos
from fusion.progress import Progress, silent
from fusion.search.method import Problem
from fusion.search.result import Trial, best_trial, rank

Names = Sequence[str]
Groups = Mapping[str, Names]  # group -> its models
Numbers = Mapping[str, float]
NAMES = ("strong", "weak", "auxiliary")
COARSE = (0.0, 0.5, 1.0, 1.5, 2.0)  # for alpha and beta


def single_confusions(
    models: Sequence[Ensemble], truth: Labels, parts: Parts, stride: int, name: str
) -> np.ndarray:
    """The task of one part: every model by itself, int64 [M, C, C]."""
    classes, part, some = len(models[0].classes), parts[name], every(stride)
    total = np.zeros((len(models), classes, classes), np.int64)

    def predict(frames: list[str]) -> Iterator[tuple[str, tuple[int, np.ndarray]]]:
        for frame, (index, model) in itertools.product(frames, enumerate(models)):
            for _, labels in model.predicted(part.video, [frame]):
                yield frame, (index, labels)

    for target, (index, labels) in beside_truth(models[0], truth, part, predict):
        void = void_label(classes)
        total[index] += confusion(target[some], labels[some], classes, ignore=void)
    return total


def score_models(
    ensemble: Ensemble,
    truth: Labels,
    *,
    convention: str | Objective = "vspw",
    scheduler: str = "threads",
    progress: str | None = None,
    stride: int = 1,
    units: Units = VIDEOS,
) -> dict[str, Scores]:
    """Scores of each of an ensemble's M models alone, by model name, best first.

    stride: s scores every s-th row and column. units: whose parts are scored apart.
    """
    groups = single_groups(ensemble.stores)
    alone = [
        ensemble.regrouped({n: s}, multipliers=None).sharing(scheduler) for n, s in groups.items()
    ]
    parts = parts_of(ensemble, truth, units, ensemble.scored_videos(truth))
    task = partial(single_confusions, alone, truth, parts, stride)
    shown: dict[str, Any] = {"progress": progress, "frames": frame_counts(parts)}
    found = map_videos(task, list(parts), scheduler=scheduler, **shown)
    scores = {}
    for m, name in enumerate(groups):
        matrices = {video: each[m] for video, each in found.items()}
        scores[name] = Scores(matrices, ensemble.classes, convention)
    return {n: scores[n] for n in sorted(groups, key=lambda n: (-rank(scores[n].score), n))}


def auto_groups(
    basic: Names, other: Names, miou: Numbers, *, strong: int = 3, auxiliary: int = 6
) -> dict[str, list[str]]:
    """The paper's groups from two families of models.

    Of the basic family the `strong` best are strong and the rest weak; the `auxiliary` best of the
    other family are auxiliary. Ties go to the earlier name, empty groups are left out. InputError
    where a family is too small, or a model is in both.
    """
    for name, family, count in (("basic", basic, strong), ("other", other, auxiliary)):
        if len(family) < count or (name == "basic" and count < 1):
            got = f"{name} family has {len(family)} models, {count} asked for"
            raise InputError(f"auto groups: {got}; list more stores or ask for fewer")
    twice = sorted(set(basic) & set(other))
    if twice:
        raise InputError(f"auto groups: {twice[0]!r} is in both families; give each store to one")
    basic, other = (sorted(f, key=lambda name: (-miou[name], name)) for f in (basic, other))
    return filled(basic, other, strong, auxiliary)


def filled(basic: Names, other: Names, strong: int, auxiliary: int) -> dict[str, list[str]]:
    """Groups of two ranked families, without the empty ones."""
    groups = (basic[:strong], basic[strong:], other[:auxiliary])
    return {name: list(group) for name, group in zip(NAMES, groups, strict=True) if group}


def best_coarse(problem: Problem, groups: Groups) -> Trial:
    """The best coarse weights (strong, weak, auxiliary) of groups of models, and their mIoU."""
    # a group that is empty has no axis: its points would be the same weights again
    axes = [(1.0,), *(COARSE if name in groups else (0.0,) for name in NAMES[1:])]
    points = list(itertools.product(*axes))
    named = (dict(zip(NAMES, point, strict=True)) for point in points)
    trials = problem.trials(model_weights(groups, w, problem.groups) for w in named)
    return best_trial([Trial(point, t.miou) for point, t in zip(points, trials, strict=True)])


def choose_formation(
    problem: Problem, basic: Names, other: Names, *, progress: Progress = silent
) -> tuple[int, int]:
    """How many are strong, from 1 to all, and how many auxiliary, from 0.

    problem: over single models, named as in `basic` and `other`, both best first. Of equally good
    choices the one of fewer models wins. The scores rank the choices; the search that follows
    scores the groups themselves.
    """

    def merit(sizes: tuple[int, int]) -> tuple[float, int]:
        return rank(best_coarse(problem, filled(basic, other, *sizes)).miou), -sum(sizes)

    every = list(itertools.product(range(1, len(basic) + 1), range(len(other) + 1)))
    return max(progress(every, "forming groups", len(every)), key=merit)


def model_weights(groups: Groups, weights: Numbers, models: Names) -> list[float]:
    """Weight of each model when groups share theirs among members; a model may be in several."""
    total = dict.fromkeys(models, 0.0)
    for group, members in groups.items():
        for model in members:
            total[model] += weights[group] / len(members)
    return list(total.values())


def model_contributions(problem: Problem, groups: Groups, weights: Numbers) -> dict[str, float]:
    """What each model adds: mIoU minus mIoU without it, its group being the mean of the others.

    problem: over single models. A group that the model was alone in goes; nan for the only model
    that has weight.
    """
    used = {name: members for name, members in groups.items() if weights[name] > 0}
    models = list(dict.fromkeys(itertools.chain(*used.values())))
    vectors = []
    # the first is the whole ensemble, which every other is compared with
    for left_out in (None, *models):
        rest = {name: [m for m in members if m != left_out] for name, members in used.items()}
        vectors.append(model_weights(rest, weights, problem.groups))
    miou, scored = np.full(len(vectors), np.nan), np.any(vectors, axis=1)
    miou[scored] = [trial.miou for trial in problem.trials(itertools.compress(vectors, scored))]
    return dict(zip(models, (miou[0] - miou[1:]).tolist(), strict=True))
