"""A Split: an ensemble, the labels of a split, and all that a search asks of them.

What costs time is worked out when it is first asked for, and once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from fusion.contested import Condensed, Maps, Pixels
from fusion.contested.build import condense_ensemble, data_digest
from fusion.contested.load import has_maps, load_maps
from fusion.ensemble import Ensemble, single_groups
from fusion.errors import InputError
from fusion.folds import VIDEOS, Units
from fusion.labels import Labels
from fusion.labels.census import Census, outside_values
from fusion.metrics import Calibration, Objective, Scores
from fusion.metrics.calibration import calibrate
from fusion.metrics.evaluation import Parts, VideoConfusion, parts_of
from fusion.parallel import map_videos
from fusion.progress import Progress, silent
from fusion.search.folds import only
from fusion.search.formation import auto_groups, choose_formation, model_contributions, score_models
from fusion.search.held import Choice
from fusion.search.learned.cells import Cells
from fusion.search.learned.prune import head_contributions
from fusion.search.method import Problem
from fusion.search.result import SearchResult, rank
from fusion.search.temperatures import Fit, fit_each
from fusion.stores import LogitStore
from fusion.stores.locations import Address, location_of


@dataclass(frozen=True)
class Formation:
    """How groups are formed of the groups "basic" and "other" of a split; None searches a size."""

    split: Split
    strong: int | None
    auxiliary: int | None

    def ensemble(self, parts: Iterable[str] | None) -> Ensemble:
        """The groups that the models' scores on these parts make; None: as many, of any models."""
        split, some = self.split, [] if parts is None else list(parts)
        stores = single_groups(split.ensemble.stores)
        miou = dict.fromkeys(stores, 0.0)
        if parts is not None:
            miou = {name: only(scores, some).score for name, scores in split.singles.items()}
        ranked = sorted(miou, key=lambda name: -rank(miou[name]))
        families = (split.ensemble.groups.get(family, ()) for family in ("basic", "other"))
        basic, other = ([n for n in ranked if stores[n][0] in f] for f in families)
        strong, auxiliary = self.strong, self.auxiliary
        if parts is None:
            strong, auxiliary = strong or 1, len(other) if auxiliary is None else auxiliary
        if strong is None or auxiliary is None:
            models = split.over_models.subset(some)
            best = choose_formation(models, basic, other, progress=split.progress)
            strong = strong or best[0]
            auxiliary = best[1] if auxiliary is None else auxiliary
        auxiliary = min(auxiliary, len(other))  # a family may be smaller than its default size
        groups = auto_groups(basic, other, miou, strong=strong, auxiliary=auxiliary)
        named = {g: [stores[name][0] for name in members] for g, members in groups.items()}
        return split.ensemble.regrouped(named)


@dataclass(frozen=True)
class Split:
    """One split under one ensemble, and what costs time to know of it.

    Args:
        ensemble, truth, convention, stride, seed, scheduler, cache: as in `fusion.search.search`.
        name: of the split, in tables.
        folds: the same; None for five where there are two videos.
        folder: where a method keeps what it goes on from; made when it is needed.
        progress: shows what goes on.
        title: of the only bar, shown while pixels are condensed, where there is no `progress`.
        known: scores of single models, best first, where they were worked out before.
        units: what is held out, and resampled, together.
        reach: of class multipliers, searched within [1 / reach, reach]; None for none.
        formation: how the groups were formed, where they were.
        mapped: whether pixels are kept as maps, which heads are trained on.
        say: takes a line for people before work that may be long.
    """

    ensemble: Ensemble
    truth: Labels
    name: str = "val"
    convention: str | Objective = "vspw"
    folds: int | None = 0
    stride: int = 1
    seed: int = 0
    scheduler: str = "threads"
    cache: str | Path | None = None
    folder: Path | None = None
    progress: Progress = silent
    title: str | None = None
    known: dict[str, Scores] | None = None
    units: Units = VIDEOS
    reach: float | None = None
    formation: Formation | None = None
    mapped: bool = False
    say: Callable[[str], None] = lambda text: None

    @cached_property
    def condensed(self) -> Pixels:
        """What is searched: condensed pixels, or the maps of many groups."""
        return self._condense(self.ensemble, f"reading {self.name}")

    @cached_property
    def digest(self) -> str:
        """Of stores, labels, groups and stride."""
        return data_digest(self.ensemble, self.truth, self.stride, units=self.units)

    @cached_property
    def singles(self) -> dict[str, Scores]:
        """Scores of every model alone, best first."""
        if self.known is not None:
            return self.known
        how = self.how("scoring single models")
        how |= {"stride": self.stride, "units": self.units, "convention": self.convention}
        return score_models(self.ensemble, self.truth, **how)

    @cached_property
    def fits(self) -> dict[str, Fit]:
        """The temperature of every store that has logits, fitted on this split, by path."""
        return fit_each(self.ensemble, self.truth, **self.how("fitting temperatures"))

    def fitted(self) -> Self:
        """The run with those temperatures; its folds hold out videos that they have seen."""
        ensemble = self.ensemble
        known = zip(ensemble.stores, ensemble.temperatures, strict=True)
        temperatures = {store.place: t for store, t in known}
        temperatures |= {path: fit.temperature for path, fit in self.fits.items()}
        changed = ensemble.regrouped(ensemble.groups, ensemble.weights, temperatures=temperatures)
        return replace(self, ensemble=changed, known=None)

    @property
    def problem(self) -> Problem:
        evaluate = self.evaluate if isinstance(self.condensed, Maps) else None
        more: dict[str, Any] = {"evaluate": evaluate, "wide": self.wide, "reach": self.reach}
        more |= {"units": self.unit_of, "cells": self._cells if self.mapped else None}
        return Problem(self.condensed, self.convention, self.seed, lambda: self.digest, **more)

    def _cells(self) -> Cells:
        return self.cells

    @cached_property
    def cells(self) -> Cells:
        """What heads are trained on."""
        assert isinstance(self.condensed, Maps)
        folder = None if self.cache is None else Path(self.cache) / "heads"
        return Cells.within(self.condensed, self.seed, device=self.ensemble.device, folder=folder)

    @cached_property
    def wide(self) -> Condensed | None:
        """The same pixels for multipliers; maps serve these too."""
        if self.reach is None or isinstance(self.condensed, Maps):
            return None
        title = f"condensing {self.name} for multipliers"
        return self._condensed(self.ensemble, title, self.reach)

    @cached_property
    def parts(self) -> Parts:
        """What is scored, resampled and held out, by id."""
        videos = self.ensemble.scored_videos(self.truth)
        return parts_of(self.ensemble, self.truth, self.units, videos)

    @cached_property
    def unit_of(self) -> dict[str, str]:
        """The unit of every part."""
        return {part: self.units.of(part) for part in self.parts}

    def evaluate(
        self,
        weights: Sequence[float],
        multipliers: Sequence[float] | None,
        videos: Sequence[str],
    ) -> Scores:
        """Scores of the ensemble under weights [G] and multipliers [C], every label map fused."""
        named = dict(zip(self.ensemble.groups, weights, strict=True))
        return self.fused(self.ensemble.with_weights(named).with_multipliers(multipliers), videos)

    def fused(self, ensemble: Ensemble, videos: Iterable[str] | None = None) -> Scores:
        """Scores of an ensemble of these stores on all parts or some, every label map fused."""
        task = VideoConfusion(ensemble.sharing(self.scheduler), self.truth, self.stride, self.parts)
        some = self.parts if videos is None else videos
        matrices = map_videos(task, list(some), scheduler=self.scheduler)
        return Scores(matrices, ensemble.classes, self.convention)

    def ensemble_of(self, found: SearchResult | Choice) -> Ensemble:
        """This split's stores under what was found."""
        names = found.weights if found.head is None else found.head.units
        of_these = set(names) <= set(self.ensemble.groups)
        whole = self.ensemble if of_these else self.over("models").ensemble
        groups = {name: whole.groups[name] for name in names}
        if found.head is None:
            plain = whole.regrouped(groups, found.weights)
            return plain.with_multipliers(found.multipliers)
        made = whole.regrouped(groups, head=found.head)
        return made.with_multipliers(found.multipliers)

    def scores_of(self, found: SearchResult) -> Scores:
        """Of what was found, on this split."""
        if found.head is None:
            return self.problem.scores(found.vector, found.multiplier_vector)
        return self.fused(self.ensemble_of(found))

    def census(self) -> Census:
        """What the labels hold, counted as this run scores pixels."""
        videos, classes = self.ensemble.scored_videos(self.truth), self.ensemble.classes
        channels, frames, pixels = self.ensemble.channels, 0, 0
        for video, some in self.parts.values():
            height, width = (len(range(0, n, self.stride)) for n in self.ensemble.size(video))
            frames, pixels = frames + len(some), pixels + len(some) * height * width
        if channels is not None:  # a pixel is scored in each
            pixels *= len(channels)
        outside = {} if channels else outside_values(self.truth, videos, len(classes))
        rows, stride = self.condensed.rows, self.stride
        return Census(len(videos), frames, pixels, rows, classes, outside, stride)

    def contributions(self, found: SearchResult) -> dict[str, float]:
        """What each model adds to mIoU under the weights found, or to a head on unseen cells."""
        if found.head is not None:
            known = set(found.head.units) <= set(self.ensemble.groups)
            whole = self if known else self.over("models")
            return head_contributions(replace(whole, mapped=True).problem, found)
        # groups of one model are single models: the pixels at hand will do
        if self._of_singles:
            groups = {name: [name] for name in found.groups}
            return model_contributions(self.problem, groups, found.weights)
        names = {store: name for name, (store,) in single_groups(self.ensemble.stores).items()}
        groups = {g: [names[store] for store in s] for g, s in self.ensemble.groups.items()}
        return model_contributions(self.over_models, groups, found.weights)

    def check_contributions(self) -> None:
        """InputError where groups are no weighted sums of single models."""
        if self.ensemble.mean != "arithmetic" and not self._of_singles:
            got = "mean='geometric' over groups of several models is no weighted sum of models"
            do = "use mean='arithmetic' for contributions and for sizes that are searched"
            raise InputError(f"search: {got}; {do}")

    def calibrations(self, found: SearchResult) -> dict[str, Calibration]:
        """Of what was found, over every labelled pixel whatever the stride.

        Beside a head also of the average: under the weights that were found, or uniform ones.
        """
        wanted = {self.name: self.ensemble_of(found)}
        if found.head is not None:
            weighed = found.weighed
            average = self.ensemble if weighed.head else self.ensemble_of(weighed)
            wanted[f"{self.name}, average"] = average
        how = self.how(f"calibration of {self.name}")
        return {name: calibrate(each, self.truth, **how) for name, each in wanted.items()}

    @property
    def _of_singles(self) -> bool:
        return all(len(stores) == 1 for stores in self.ensemble.groups.values())

    @cached_property
    def over_models(self) -> Problem:
        self.check_contributions()
        singles = self._condense(self.ensemble.singles(), "reading single models")
        return Problem(singles, self.convention, self.seed)

    def over(self, what: str) -> Self:
        """The run that gives weights to "groups", or to single "models"."""
        if what == "groups":
            return self
        # every model that the groups were formed of, not only those that they kept
        whole = self.ensemble if self.formation is None else self.formation.split.ensemble
        return replace(self, ensemble=whole.singles(), formation=None)

    def grouped(self, strong: int | None, auxiliary: int | None) -> Self:
        """The paper's groups, formed from the groups "basic" and "other"; None searches a size.

        They are formed again inside every fold.
        """
        formation = Formation(self, strong, auxiliary)
        formed = formation.ensemble(self.parts)
        return replace(self, ensemble=formed, known=self.singles, formation=formation)

    def foreseen(self, strong: int | None, auxiliary: int | None) -> Self:
        """What `grouped` will be like, of whichever models, before one is looked at: for plans."""
        formation = Formation(self, strong, auxiliary)
        return replace(self, ensemble=formation.ensemble(None), formation=formation)

    def formed_on(self, rest: Sequence[str]) -> Self:
        """The run whose groups are formed on some of the parts; itself where they are the same."""
        assert self.formation is not None
        ensemble = self.formation.ensemble(rest)
        if ensemble.groups == self.ensemble.groups:
            return self
        # a fold's pixels are of no use to another search: not kept on disk where memory holds them
        kept = self.condensed.resident if isinstance(self.condensed, Condensed) else True
        cache = None if kept else self.cache
        return replace(self, ensemble=ensemble, progress=silent, cache=cache)

    def elsewhere(self, truth: Labels, stores: Address | None) -> Self:
        """The same groups on a second split, whose stores have the same names in another folder."""
        ensemble = self.ensemble
        if stores is not None:
            old = ensemble.groups.items()
            there = location_of(stores)
            groups = {g: [LogitStore(there / store.file_name) for store in s] for g, s in old}
            names = [store.file_name for store in ensemble.stores]
            temperatures = dict(zip(names, ensemble.temperatures, strict=True))
            ensemble = ensemble.regrouped(groups, ensemble.weights, temperatures=temperatures)
        formation = self.formation
        if formation is not None:
            formation = replace(formation, split=formation.split.elsewhere(truth, stores))
        changed: dict[str, Any] = {
            "truth": truth,
            "name": "test",
            "known": None,
            "formation": formation,
        }
        return replace(self, ensemble=ensemble, **changed)

    def keeps_maps(self, ensemble: Ensemble) -> bool:
        """Whether the maps of its groups are searched, and not condensed pixels."""
        return self.mapped or has_maps(ensemble, self.truth)

    def _condense(self, ensemble: Ensemble, title: str) -> Pixels:
        if self.keeps_maps(ensemble):
            how = {**self.how(title), "units": self.units, "raw": self.mapped}
            return load_maps(ensemble, self.truth, stride=self.stride, **how)
        return self._condensed(ensemble, title)

    def _condensed(self, ensemble: Ensemble, title: str, reach: float = 1.0) -> Condensed:
        how = {**self.how(title), "stride": self.stride, "cache": self.cache}
        return condense_ensemble(ensemble, self.truth, reach=reach, units=self.units, **how)

    def how(self, title: str) -> dict[str, Any]:
        """What reads stores, and the title of the bar that it shows."""
        shown = self.title or (None if self.progress is silent else title)
        return {"scheduler": self.scheduler, "progress": shown}
