"""Scores of single models, and groups formed from them as the paper does (section 2.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fusion.ensemble import Ensemble, single_groups
from fusion.errors import InputError
from fusion.kernels.arithmetic import ignore_label
from fusion.metrics import Scores, confusion
from fusion.parallel import map_videos

if TYPE_CHECKING:
    from fusion.labels import Labels


@dataclass(frozen=True)
class SingleConfusions:
    """The task of one video: every model by itself, int64 [M, C, C]."""

    ensembles: tuple[Ensemble, ...]
    truth: Labels

    def __call__(self, video: str) -> np.ndarray:
        first = self.ensembles[0]
        classes = len(first.classes)
        total = np.zeros((len(self.ensembles), classes, classes), np.int64)
        for frame in first.labelled_frames(self.truth, video):
            target = first.target(self.truth, video, frame)
            for index, ensemble in enumerate(self.ensembles):
                for _, labels in ensemble.label_maps(video, [frame]):
                    total[index] += confusion(target, labels, classes, ignore=ignore_label(classes))
        return total


def score_models(
    ensemble: Ensemble,
    truth: Labels,
    *,
    convention: str = "vspw",
    scheduler: str = "threads",
    progress: str | None = None,
) -> dict[str, Scores]:
    """Scores of each of an ensemble's M models alone, by model name, best first."""
    singles = {
        name: ensemble.regrouped({name: stores}).sharing(scheduler)
        for name, stores in single_groups(ensemble.stores).items()
    }
    videos = ensemble.scored_videos(truth)
    task = SingleConfusions(tuple(singles.values()), truth)
    matrices = map_videos(task, videos, scheduler=scheduler, progress=progress)
    scores = {
        name: Scores(
            {video: matrices[video][index] for video in videos}, ensemble.classes, convention
        )
        for index, name in enumerate(singles)
    }
    return dict(
        sorted(scores.items(), key=lambda item: (-np.nan_to_num(item[1].miou, nan=-1.0), item[0]))
    )


def auto_groups(
    basic: Sequence[str],
    other: Sequence[str],
    miou: Mapping[str, float],
    *,
    strong: int = 3,
    auxiliary: int = 6,
) -> dict[str, list[str]]:
    """The paper's groups: of the basic family the `strong` best are strong and the rest weak; the `auxiliary` best of the other
    family are auxiliary. Ties go to the earlier name. Empty groups are left out; InputError where a family is too small."""
    for name, family, count in (("basic", basic, strong), ("other", other, auxiliary)):
        if len(family) < count or (name == "basic" and count < 1):
            raise InputError(
                f"auto groups: {name} family has {len(family)} models, {count} asked for; list more stores or ask for fewer"
            )
    twice = sorted(set(basic) & set(other))
    if twice:
        raise InputError(f"auto groups: {twice[0]!r} is in both families; give each store to one")
    ranked_basic = sorted(basic, key=lambda name: (-miou[name], name))
    ranked_other = sorted(other, key=lambda name: (-miou[name], name))
    groups = {
        "strong": ranked_basic[:strong],
        "weak": ranked_basic[strong:],
        "auxiliary": ranked_other[:auxiliary],
    }
    return {name: members for name, members in groups.items() if members}
