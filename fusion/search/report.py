"""What a search leaves behind: the ladder on every split, best.json, trials.csv and search.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fusion import files, sealed
from fusion.contested import Pixels
from fusion.metrics import Calibration, Scores
from fusion.metrics.intervals import Interval
from fusion.search.held import UNIFORM, head_name
from fusion.search.ladder import Rungs, formula, group_rungs
from fusion.search.result import SearchResult, rank
from fusion.search.run import Run
from fusion.text import csv_text, or_none, percent
from fusion.version import __version__

WEIGHTS_FILE = "weights.json"  # beside a head: what was found before it
MULTIPLIED = "the same weights, with multipliers"
LEAD = 0.0005  # by which a simpler row must be above what was found to be spoken of


@dataclass(frozen=True)
class Report:
    """A search's result on the split it was made on, the first of `splits`, and on the others.

    contributions: what each model adds. calibration: of what was found, by split. Both are empty
    where they were not asked for. inputs, provenance: what it was made of (`fusion.search.inputs`).
    """

    splits: Sequence[Run]
    found: SearchResult
    contributions: Mapping[str, float]
    calibration: Mapping[str, Calibration]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def rungs(self) -> Rungs:
        """The ladder: best single model (of the first split), the groups in turn, references.

        The last rows add what was found beside weights.
        """
        best, weighed = next(iter(self.splits[0].singles)), self.found.weighed
        single = {run.name: run.singles[best] for run in self.splits if best in run.singles}
        problems = {run.name: run.problem for run in self.splits}
        weights = None if weighed.head is not None else weighed.vector
        rungs = {f"best single: {best}": single, **group_rungs(problems, weights)}
        beyond = {n: rung for n, rung in self.found.rungs.items() if rung.head is not None}
        if weighed.multipliers is not None and weighed.head is None:
            beyond = {MULTIPLIED: weighed, **beyond}
        for name, rung in beyond.items():
            rungs[name] = {run.name: run.scores_of(rung) for run in self.splits}
        return rungs

    @cached_property
    def verdict(self) -> list[str]:
        """What the number is worth, in sentences."""
        low, high = self.found.interval()
        units = len(set((self.found.units or {}).values()))
        said = (
            f"95 % interval of this score on these {units} units: {percent(low)} to {percent(high)}"
        )
        if math.isnan(low):
            said = "one unit: no interval and no held-out score; label more videos"
        known = [] if self.found.verdict is None else self.found.verdict.lines()
        return [said, *self._corrected(), *self._warnings(), *known]

    def _corrected(self) -> list[str]:
        """Of the best of many weightings, what is left once the picking is discounted."""
        known, weighed = self.found.notes.get("bias_corrected"), self.found.weighed
        if not known or known["score"] is None:
            return []
        low, high = (percent(end) for end in known["interval"])
        best = max(rank(t.miou) for t in weighed.history if t.multipliers is None)
        picked = f"best of the weightings tried: {percent(best)}"
        return [
            f"{picked}; on videos that did not pick it {percent(known['score'])} ({low} to {high})"
        ]

    def _warnings(self) -> list[str]:
        """Where a row that is simpler than what was found is above it on some split."""
        said = []
        for split, mine in self.scores.items():
            rows = {n: each[split] for n, each in self.rungs.items() if split in each}
            best = max(rows, key=lambda name: rank(rows[name].score))
            lead = rows[best].score - mine.score
            if lead > LEAD:
                said.append(f"on {split}, {best!r} leads what was found by {100 * lead:.2f}")
        return said

    @property
    def scores(self) -> Mapping[str, Scores]:
        """Of what was found, by split: the row of the ladder that has every group."""
        if self.found.head is not None:
            return self.rungs[head_name(self.found.head.name)]
        if self.found.multipliers is not None:
            return self.rungs[MULTIPLIED]
        return self.rungs[formula(self.found.groups, self.found.vector)]

    def to_json(self) -> dict[str, Any]:
        """Everything, scores as fractions, nan as null."""
        groups = self.splits[0].ensemble.groups.items()
        return {
            "segfusion": __version__,
            "result": self.found.to_json(),
            "honesty": self.verdict,  # the key is a file format
            "postprocess": None if (p := self.found.postprocess) is None else p.to_json(),
            "stride": self.splits[0].stride,
            "units": self.splits[0].units.text,
            "contributions": _plain(self.contributions),
            "calibration": {split: c.to_json() for split, c in self.calibration.items()},
            "groups": {name: [store.model for store in stores] for name, stores in groups},
            "ladder": [{"name": name, **_miou(scores)} for name, scores in self.rungs.items()],
            "scores": {split: scores.to_json() for split, scores in self.scores.items()},
            "singles": {run.name: _miou(run.singles) for run in self.splits},
            "splits": {run.name: _sizes(run.condensed) for run in self.splits},
            "digest": self.splits[0].digest,
            "ladder_intervals": {n: self._intervals(rung) for n, rung in self.rungs.items()},
            "contenders": self._contenders(),
            "searched": WEIGHTS_FILE if self._weights_beside else "best.json",
            "inputs": dict(self.inputs),
            "provenance": dict(self.provenance),
        }

    def _intervals(self, rung: Mapping[str, Scores]) -> dict[str, list[float | None]]:
        """95 % interval of a row of the ladder on every split."""
        units = {run.name: run.unit_of for run in self.splits}
        return {name: _ends(scores.interval(units=units[name])) for name, scores in rung.items()}

    def _contenders(self) -> dict[str, Any]:
        """Held-out scores with their intervals, of classes too, and gains over uniform weights."""
        held, units, found = self.found.held_out, self.splits[0].unit_of, {}
        for name, scores in {} if held is None else held.contenders.items():
            assert held is not None
            values = scores.class_dice if scores.objective.dice else scores.class_iou
            known: dict[str, Any] = {"score": or_none(scores.score)}
            known["interval"] = _ends(scores.interval(units=units))
            known["classes"] = _plain(dict(zip(scores.classes, values.tolist(), strict=True)))
            if name != UNIFORM:
                gain = held.gain(name, UNIFORM, units)
                known |= {"gain": or_none(gain.value), "gain_interval": _ends(gain.interval)}
            found[name] = known
        return found

    @property
    def _weights_beside(self) -> bool:
        """Whether weights were found for groups beside a head."""
        return self.found.head is not None and self.found.weighed.head is None

    def _multiplied_classes(self) -> list[str]:
        """Columns of trials.csv, empty for trials without multipliers."""
        any_of_them = any(trial.multipliers for trial in self.found.weighed.history)
        return [f"multiplier of {name}" for name in self.splits[0].ensemble.classes] * any_of_them

    def write(self, out: Path) -> None:
        """best.json, trials.csv and search.json, each whole or not at all.

        Where a head was found also what weights alone make of the groups.
        """
        files.write_json(out / "search.json", sealed.sealed(self.to_json()))
        assert self.found.ensemble is not None
        assert self.found.recommended is not None
        if self._weights_beside:
            self.splits[0].ensemble_of(self.found.weighed).save(out / WEIGHTS_FILE)
        self.found.ensemble.save(out / "best.json")
        self.found.recommended.save(out / "recommended.json")
        header = [*self.found.weighed.groups, "miou", *self._multiplied_classes()]
        tried = self.found.weighed.history
        rows = ([*trial.weights, trial.miou, *(trial.multipliers or ())] for trial in tried)
        files.write_bytes(out / "trials.csv", csv_text([header, *rows]).encode())


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: or_none(value) for name, value in values.items()}


def _ends(interval: Interval) -> list[float | None]:
    return [or_none(end) for end in interval]


def _miou(scores: Mapping[str, Scores]) -> dict[str, float | None]:
    return _plain({name: each.score for name, each in scores.items()})


def _sizes(condensed: Pixels) -> dict[str, int]:
    return {"videos": len(condensed.videos), "pixels": condensed.scored, **condensed.sizes}
