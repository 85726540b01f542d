"""How many models are strong, and how many auxiliary: each choice is cheap on pixels condensed for single models.

Equation 1 over groups is a weighted sum over models: a group of n models with weight w gives each of them w / n. So one condensed set
of all models scores every choice of k strong and m auxiliary models, each under a coarse grid of group weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusion.contested import Condensed
from fusion.search.result import Progress, untracked

COARSE = (0.0, 0.5, 1.0, 1.5, 2.0)  # for alpha and beta


@dataclass(frozen=True)
class Formation:
    """Sizes of the strong and auxiliary groups, the best coarse weights (strong, weak, auxiliary) there, and their mIoU."""

    strong: int
    auxiliary: int
    weights: tuple[float, ...]
    miou: float


def model_weights(
    groups: Mapping[str, Sequence[str]], weights: Mapping[str, float], models: Sequence[str]
) -> list[float]:
    """Weight of each model when its group's weight is shared among the group's members; a model may be in several groups."""
    total = dict.fromkeys(models, 0.0)
    for group, members in groups.items():
        for model in members:
            total[model] += weights[group] / len(members)
    return list(total.values())


def model_contributions(
    condensed: Condensed,
    groups: Mapping[str, Sequence[str]],
    weights: Mapping[str, float],
    convention: str = "vspw",
) -> dict[str, float]:
    """What each model adds: mIoU of the ensemble minus mIoU without the model, whose group then is the mean of the others.

    condensed: of single models. A group that the model was alone in goes; nan for the only model that has weight.
    """
    used = {name: members for name, members in groups.items() if weights[name] > 0}
    models = list(dict.fromkeys(model for members in used.values() for model in members))
    vectors = [model_weights(used, weights, condensed.groups)]
    for model in models:
        rest = {name: [m for m in members if m != model] for name, members in used.items()}
        vectors.append(
            model_weights(
                {name: members for name, members in rest.items() if members},
                weights,
                condensed.groups,
            )
        )
    scored = [index for index, vector in enumerate(vectors) if any(vector)]
    miou = np.full(len(vectors), np.nan)
    miou[scored] = condensed.miou([vectors[index] for index in scored], convention)
    return dict(zip(models, (miou[0] - miou[1:]).tolist(), strict=True))


def choose_formation(
    condensed: Condensed,
    basic: Sequence[str],
    other: Sequence[str],
    *,
    convention: str = "vspw",
    progress: Progress | None = None,
) -> tuple[Formation, list[Formation]]:
    """The best sizes, and the best point of every pair of sizes, strong from 1 to all and auxiliary from 0 to all.

    condensed: of single models, named as in `basic` and `other`, both best first. Of equally good choices the one of fewer models
    wins. The scores rank the choices; the search that follows scores the groups themselves.
    """
    sizes = list(itertools.product(range(1, len(basic) + 1), range(len(other) + 1)))
    table = []
    for strong, auxiliary in (progress or untracked)(sizes, "forming groups", len(sizes)):
        groups = {"strong": basic[:strong], "weak": basic[strong:], "auxiliary": other[:auxiliary]}
        filled = {name: members for name, members in groups.items() if members}
        axes = [(1.0,), *(COARSE if name in filled else (0.0,) for name in ("weak", "auxiliary"))]
        points = list(itertools.product(*axes))
        vectors = [
            model_weights(filled, dict(zip(groups, point, strict=True)), condensed.groups)
            for point in points
        ]
        miou = np.nan_to_num(condensed.miou(vectors, convention), nan=-1.0)
        best = int(miou.argmax())
        table.append(Formation(strong, auxiliary, points[best], float(miou[best])))
    return max(table, key=lambda f: (f.miou, -f.strong - f.auxiliary)), table
