"""A Run: a split that is searched, on all videos and again without each fold.

    Run.search(method) -> everything chosen on all videos -> again without each fold -> verdict
                       -> beyond weights, where the method goes on: heads, on the same folds

The rungs of such a ladder are contenders like any other: the verdict recommends the simplest that
held-out scores do not rule out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fusion import files
from fusion.ensemble import Ensemble, single_groups
from fusion.errors import InputError
from fusion.metrics.objectives import objective
from fusion.plain import check_writable
from fusion.progress import silent
from fusion.search.claims import differing, same
from fusion.search.folds import best_without, check_folds, corrected_for_picking, hold_out
from fusion.search.held import (
    FOUND,
    MULTIPLIERS,
    SINGLE,
    UNIFORM,
    WEIGHTS,
    WEIGHTS_ALONE,
    HeldOut,
    head_name,
)
from fusion.search.method import Data, Facts, Method, Workspace, check_seed
from fusion.search.result import SearchResult, rank
from fusion.search.selection import select
from fusion.search.split import Split
from fusion.search.verdict import Verdict
from fusion.text import percent, say_seconds

FOLDS = 5


@dataclass(frozen=True)
class Run(Split):
    """One split under one ensemble, searched."""

    def search(self, method: Method) -> SearchResult:
        """Everything chosen on all videos, and again without each fold: what it is worth.

        `ensemble` is what was found, `recommended` what the folds do not rule out.
        """
        folds = self.prepare(method)
        if method.trains:
            return self.mapped_run._searched(method, folds)
        found = self._searched(method, folds)
        heads, why = method.beyond(self.facts(folds))
        if why:
            found = replace(found, notes={**found.notes, "auto": f"{found.notes['auto']}; {why}"})
        if heads is None:
            return found
        assert found.verdict is not None
        self.say(f"weights: {found.verdict.sentence}; next heads are trained over single models")
        return self._ladder(found, self.models._searched(heads, folds, alone=False))

    @cached_property
    def models(self) -> Run:
        """The run over single models that heads are trained on."""
        return self.over("models").mapped_run

    @property
    def mapped_run(self) -> Run:
        """The same, its pixels kept as maps."""
        return self if self.mapped else replace(self, mapped=True)

    def facts(self, folds: int, pixels: int | None = None) -> Facts:
        """What a method may go by when it decides how far to go; counts labels, unless told."""
        models = len(self.over("models").ensemble.groups)
        sizes = {"units": len(set(self.unit_of.values())), "models": models}
        sizes |= {
            "classes": len(self.ensemble.classes),
            "pixels": self.condensed.scored if pixels is None else pixels,
        }
        return Facts(folds=folds, fusable=self._fusable, **sizes)

    @property
    def _fusable(self) -> bool:
        """Whether a head can fuse these groups."""
        alike = (self.ensemble.mean, self.ensemble.resize) == ("arithmetic", "probabilities")
        return alike and self.ensemble.channels is None

    def _searched(self, method: Method, folds: int, *, alone: bool = True) -> SearchResult:
        """One method's result, judged by folds; without simpler contenders unless it is alone."""
        problem = self.problem
        self.announce(method, folds)
        # not before pixels are condensed: what fails until then leaves no empty folder
        if self.folder is not None:
            with files.refusals(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
        found = select(problem, method, self._workspace)
        if found.head is None:
            found = self._complete(found)
        else:  # one of its rungs, which are all completed
            rungs = {name: self._complete(rung) for name, rung in found.rungs.items()}
            found = replace(rungs[head_name(found.head.name)], rungs=rungs)
        if not folds:
            return found
        if self.folder is not None and alone:
            assert found.ensemble is not None
            # folds take as long again several times over: what is known by now is kept
            found.ensemble.save(self.folder / "best.json")
            said = f"{self.name} {percent(found.miou)}, kept in {self.folder / 'best.json'}"
            self.say(f"found {said}; next everything is chosen again without each fold")
        return self._judged(found, method, folds, alone=alone)

    def _complete(self, found: SearchResult) -> SearchResult:
        """The result with its scores and ensemble."""
        scores, ensemble = self.scores_of(found), self.ensemble_of(found)
        # maps count near ties as they interpolate; everywhere else counts are those of the search
        exact = found.head is None and self.problem.evaluate is None
        if exact and not same(found.miou, scores.score):
            claim = (found.vector, found.miou, scores.score)
            raise differing(f"search by {found.method}", *claim, "search again")
        more: dict[str, Any] = {"scores": scores, "ensemble": ensemble, "recommended": ensemble}
        return replace(found, miou=scores.score, units=self.unit_of, **more)

    def _judged(
        self, found: SearchResult, method: Method, folds: int, *, alone: bool
    ) -> SearchResult:
        """The result with held-out scores, the verdict on them, and what that recommends."""
        problem, how = self.problem, dict[str, Any](progress=self.progress, simple=alone)
        corrected = corrected_for_picking(problem, found)
        if self._of_singles:
            how["alone"] = SINGLE
        elif alone:
            how["singles"] = self.singles
        if self.formation is not None:
            how["formed"] = lambda rest: self.formed_on(rest).problem
        held = hold_out(problem, method, folds, **how)
        notes = {**found.notes, "bias_corrected": corrected}
        found = replace(found, held_out=held, notes=notes)
        return self._with_verdict(found) if alone else found

    def _with_verdict(self, found: SearchResult) -> SearchResult:
        assert found.held_out is not None
        verdict = Verdict(found.held_out, self.unit_of)
        recommended = self.contender(verdict.recommended, found)
        return replace(found, verdict=verdict, recommended=recommended)

    def _ladder(self, weights: SearchResult, heads: SearchResult) -> SearchResult:
        """Weights and heads as contenders of one verdict; the best of them is what was found."""
        assert weights.held_out is not None
        assert heads.held_out is not None
        first = WEIGHTS_ALONE if self.reach is None else MULTIPLIERS
        rungs = {first: weights, **heads.rungs}
        folds = {first: weights.held_out.folds, **heads.held_out.rungs}
        scores = {first: weights.held_out.scores}
        scores |= {name: heads.held_out.contenders[name] for name in heads.rungs}
        best = max(scores, key=lambda name: rank(scores[name].score))
        simpler = {n: s for n, s in weights.held_out.contenders.items() if n != FOUND}
        choices = {n: weights.held_out.choices[n] for n in simpler}
        choices |= {first: weights.held_out.choices[FOUND]}
        choices |= {name: heads.held_out.choices[name] for name in heads.rungs}
        contenders = {**simpler, **scores, FOUND: scores[best]}
        held = HeldOut(folds[best], contenders, folds, {**choices, FOUND: choices[best]})
        notes = {**weights.notes, **heads.notes, **rungs[best].notes}
        notes |= {"auto": weights.notes.get("auto", ""), "rung": best}
        found = replace(rungs[best], method=weights.method, rungs=rungs, held_out=held, notes=notes)
        return self._with_verdict(found)

    def prepare(self, method: Method) -> int:
        """How many folds there will be. Refuses whatever it can before anything is worked out."""
        check_seed(self.seed)
        if self.reach is not None and self.ensemble.mean != "arithmetic":
            raise InputError("multipliers: mean='geometric' takes none; use mean='arithmetic'")
        number, folds = len(set(self.unit_of.values())), self.folds
        if folds is None:
            folds = FOLDS if number > 1 else 0
        if folds:
            check_folds(list(self.parts), self.unit_of, folds)
        if method.trains and not self._fusable:
            got = "heads fuse probabilities of classes that exclude each other, at store resolution"
            raise InputError(f"{method.name}: {got}; use resize='probabilities', mean='arithmetic'")
        if method.trains and number < 2:
            do = "label at least 2, or hold out parts with --units blocks:N or frames"
            raise InputError(f"{method.name}: one unit; how far a head may go is held out; {do}")
        method.effort(list(self.ensemble.groups))  # refuses options of groups that are not there
        if self.folder is not None:
            check_writable(self.folder)
            method.check(
                Data(self.digest, objective(self.convention).name, self.seed), self._workspace
            )
        return min(folds, number)

    def announce(self, method: Method, folds: int) -> None:
        """Says how much work a search with so many folds will be."""
        asked = FOLDS if self.folds is None else self.folds
        if 0 < folds < asked:
            self.say(f"{asked} folds asked for, {folds} units there: {folds} folds")
        effort = method.effort(list(self.ensemble.groups))
        if effort is None:
            return
        again = f", and again in each of {folds} folds" if folds else ""
        self.say(f"{method.name}: {effort} weightings{self._duration(effort)}{again}")

    def _duration(self, weightings: int) -> str:
        """How long so many take at most, where somebody watches."""
        if self.progress is silent:
            return ""
        began, groups = time.monotonic(), len(self.problem.groups)
        self.problem.trials(np.eye(groups))
        return f", {say_seconds(weightings * (time.monotonic() - began) / groups)} at most"

    @property
    def _workspace(self) -> Workspace:
        return Workspace(self.progress, self.folder)

    def contender(self, name: str, found: SearchResult) -> Ensemble:
        """A contender of the folds by its name there, chosen on all videos."""
        plain, groups = self.ensemble.plain(), list(self.ensemble.groups)
        if name in found.rungs:
            found, name = found.rungs[name], FOUND
        if name == FOUND and found.ensemble is not None:
            return found.ensemble
        if name == UNIFORM:
            return plain.with_weights(dict.fromkeys(groups, 1.0))
        if name == WEIGHTS:
            found = found.rungs.get(MULTIPLIERS, found)
            return plain.with_weights(dict(zip(groups, best_without(found), strict=True)))
        if name == SINGLE and not self._of_singles:
            best = next(iter(self.singles))
            return plain.regrouped({best: single_groups(plain.stores)[best]})
        alone = self.problem.trials(np.eye(len(groups)))
        best = groups[int(np.argmax([rank(trial.miou) for trial in alone]))]
        return plain.regrouped({best: plain.groups[best]})
