"""A Run: an ensemble, the labels of a split, and all that a search asks of them.

What costs time is worked out when it is first asked for, and once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fusion import files
from fusion.contested import Maps, Pixels
from fusion.contested.build import condense_ensemble, data_digest
from fusion.contested.load import has_maps, load_maps
from fusion.ensemble import Ensemble, single_groups
from fusion.labels import Labels
from fusion.labels.census import Census, outside_values
from fusion.metrics import Scores
from fusion.metrics.evaluation import VideoConfusion
from fusion.parallel import map_videos
from fusion.progress import Progress, silent
from fusion.search.folds import hold_out
from fusion.search.formation import auto_groups, choose_formation, model_contributions, score_models
from fusion.search.method import Method, Problem, Workspace
from fusion.search.result import SearchResult
from fusion.stores import LogitStore

FOLDS = 5


@dataclass(frozen=True)
class Run:
    """One split under one ensemble.

    Args:
        ensemble, truth, convention, stride, seed, scheduler, cache: as in `fusion.search.search`.
        name: of the split, in tables.
        folds: the same; None for five where there are two videos.
        folder: where a method keeps what it goes on from; made when it is needed.
        progress: shows what goes on.
        title: of the only bar, shown while pixels are condensed, where there is no `progress`.
        known: scores of single models, best first, where they were worked out before.
    """

    ensemble: Ensemble
    truth: Labels
    name: str = "val"
    convention: str = "vspw"
    folds: int | None = 0
    stride: int = 1
    seed: int = 0
    scheduler: str = "threads"
    cache: str | Path | None = None
    folder: Path | None = None
    progress: Progress = silent
    title: str | None = None
    known: dict[str, Scores] | None = None

    @cached_property
    def condensed(self) -> Pixels:
        """What is searched: condensed pixels, or the maps of many groups."""
        return self._condense(self.ensemble, f"reading {self.name}")

    @cached_property
    def digest(self) -> str:
        """Of stores, labels, groups and stride."""
        return data_digest(self.ensemble, self.truth, self.stride)

    @cached_property
    def singles(self) -> dict[str, Scores]:
        """Scores of every model alone, best first."""
        if self.known is not None:
            return self.known
        how = self._how("scoring single models")
        return score_models(self.ensemble, self.truth, convention=self.convention, **how)

    @property
    def problem(self) -> Problem:
        evaluate = self.evaluate if isinstance(self.condensed, Maps) else None
        return Problem(self.condensed, self.convention, self.seed, lambda: self.digest, evaluate)

    def evaluate(self, weights: Sequence[float]) -> Scores:
        """Scores of the ensemble under one weight vector [G], every label map fused."""
        named = dict(zip(self.ensemble.groups, weights, strict=True))
        ensemble = self.ensemble.with_weights(named).sharing(self.scheduler)
        task, videos = VideoConfusion(ensemble, self.truth, self.stride), self.condensed.videos
        matrices = map_videos(task, videos, **self._how("scoring"))
        return Scores(matrices, self.ensemble.classes, self.convention)

    def census(self) -> Census:
        """What the labels hold, counted as this run scores pixels."""
        videos, classes = self.condensed.videos, self.ensemble.classes
        frames = pixels = 0
        for video in videos:
            labelled = len(self.ensemble.labelled_frames(self.truth, video))
            height, width = (len(range(0, n, self.stride)) for n in self.ensemble.size(video))
            frames, pixels = frames + labelled, pixels + labelled * height * width
        outside = outside_values(self.truth, videos, len(classes))
        return Census(len(videos), frames, pixels, self.condensed.rows, classes, outside)

    def search(self, method: Method) -> SearchResult:
        """Weights by a method, scored per video and on held-out videos; `ensemble` has them."""
        problem, folds = self.problem, self.folds
        if folds is None and len(self.condensed.videos) > 1:
            folds = FOLDS
        # not before pixels are condensed: what fails until then leaves no empty folder
        if self.folder is not None:
            with files.refusals(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
        found = method.search(problem, Workspace(self.progress, self.folder))
        held = hold_out(problem, method, folds, progress=self.progress).miou if folds else None
        ensemble = self.ensemble.with_weights(found.weights)
        scores = problem.scores(found.vector)
        more: dict[str, Any] = {"scores": scores, "held_out": held, "ensemble": ensemble}
        return replace(found, miou=scores.miou, **more)

    def contributions(self, found: SearchResult) -> dict[str, float]:
        """What each model adds to mIoU under the weights found."""
        # groups of one model are single models: the pixels at hand will do
        if all(len(stores) == 1 for stores in self.ensemble.groups.values()):
            groups = {name: [name] for name in found.groups}
            return model_contributions(self.problem, groups, found.weights)
        names = {store: name for name, (store,) in single_groups(self.ensemble.stores).items()}
        groups = {g: [names[store] for store in s] for g, s in self.ensemble.groups.items()}
        return model_contributions(self._over_models, groups, found.weights)

    @property
    def _over_models(self) -> Problem:
        singles = self._condense(self.ensemble.singles(), "reading single models")
        return Problem(singles, self.convention, self.seed)

    def over(self, what: str) -> Run:
        """The run that gives weights to "groups", or to single "models"."""
        return self if what == "groups" else replace(self, ensemble=self.ensemble.singles())

    def grouped(self, strong: int | None, auxiliary: int | None) -> Run:
        """The paper's groups, formed from the groups "basic" and "other"; None searches a size."""
        stores = single_groups(self.ensemble.stores)
        families = (self.ensemble.groups.get(family, ()) for family in ("basic", "other"))
        basic, other = ([n for n in self.singles if stores[n][0] in f] for f in families)
        if strong is None or auxiliary is None:
            best = choose_formation(self._over_models, basic, other, progress=self.progress)
            strong = strong or best[0]
            auxiliary = best[1] if auxiliary is None else auxiliary
        auxiliary = min(auxiliary, len(other))  # a family may be smaller than its default size
        miou = {name: scores.miou for name, scores in self.singles.items()}
        groups = auto_groups(basic, other, miou, strong=strong, auxiliary=auxiliary)
        named = {g: [stores[name][0] for name in members] for g, members in groups.items()}
        return replace(self, ensemble=self.ensemble.regrouped(named), known=self.singles)

    def elsewhere(self, truth: Labels, stores: Path | None) -> Run:
        """The same groups on a second split, whose stores have the same names in another folder."""
        ensemble = self.ensemble
        if stores is not None:
            old = ensemble.groups.items()
            groups = {g: [LogitStore(stores / store.path.name) for store in s] for g, s in old}
            names = [store.path.name for store in ensemble.stores]
            temperatures = dict(zip(names, ensemble.temperatures, strict=True))
            ensemble = ensemble.regrouped(groups, ensemble.weights, temperatures=temperatures)
        return replace(self, ensemble=ensemble, truth=truth, name="test", known=None)

    def _condense(self, ensemble: Ensemble, title: str) -> Pixels:
        how = self._how(title)
        if has_maps(ensemble, self.truth):
            return load_maps(ensemble, self.truth, stride=self.stride, **how)
        return condense_ensemble(ensemble, self.truth, stride=self.stride, cache=self.cache, **how)

    def _how(self, title: str) -> dict[str, Any]:
        """What reads stores, and the title of the bar that it shows."""
        shown = self.title or (None if self.progress is silent else title)
        return {"scheduler": self.scheduler, "progress": shown}
