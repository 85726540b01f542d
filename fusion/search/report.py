"""What a search leaves behind: the ladder on every split, best.json, trials.csv and search.json."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fusion.contested import Condensed
from fusion.ensemble import Ensemble
from fusion.ensemble.file import write_json
from fusion.errors import StoreError
from fusion.metrics import Scores
from fusion.search.ladder import Rung, formula, group_rungs
from fusion.search.result import SearchResult, Trial
from fusion.search.verdict import gain, one_standard_error, scores
from fusion.text import table
from fusion.version import __version__


@dataclass(frozen=True)
class Split:
    """One split: its condensed pixels and the scores of every model alone, best first."""

    name: str
    condensed: Condensed
    digest: str
    singles: Mapping[str, Scores]


@dataclass(frozen=True)
class Report:
    """A search's result on the split it was made on, the first of `splits`, and on the others. ensemble: with the weights found.
    contributions: what each model adds, empty where it was not asked for."""

    ensemble: Ensemble
    splits: Sequence[Split]
    found: SearchResult
    contributions: Mapping[str, float]
    seed: int = 0

    @cached_property
    def rungs(self) -> list[Rung]:
        """Rows of the ladder: best single model (on the first split), then the groups in turn, then uniform weights."""
        best = next(iter(self.splits[0].singles))
        single = Rung(
            f"best single: {best}",
            {split.name: split.singles[best] for split in self.splits if best in split.singles},
        )
        condensed = {split.name: split.condensed for split in self.splits}
        return [single, *group_rungs(condensed, self.weights, self.found.convention)]

    @property
    def weights(self) -> list[float]:
        """In the order of the groups."""
        return list(self.found.vector)

    @cached_property
    def found_rung(self) -> int:
        """The row of the ladder that has every group: what was found."""
        name = formula(self.found.groups, self.weights)
        return next(i for i, rung in enumerate(self.rungs) if rung.name == name)

    def text(self) -> str:
        condensed = self.splits[0].condensed
        ensemble = self.ensemble
        names = [split.name for split in self.splits]
        rows = [
            (
                rung.name,
                *(
                    f"{100 * rung.scores[name].miou:.2f}" if name in rung.scores else "-"
                    for name in names
                ),
            )
            for rung in self.rungs
        ]
        sizes = {name: len(stores) for name, stores in ensemble.groups.items()}
        shown = [
            f"{name} {weight:g}" + (f" ({sizes[name]} models)" if sizes[name] > 1 else "")
            for name, weight in self._pairs()
            if weight > 0
        ]
        groups = ", ".join(shown)
        pixels, contested = condensed.scored, condensed.contested
        return "\n".join(
            [
                f"{len(condensed.videos)} videos, {pixels} labelled pixels, {contested} contested ({100 * condensed.fraction:.1f} %), "
                f"{condensed.candidates / max(1, contested):.2f} candidates each",
                "",
                table(rows, (f"mIoU % ({self.found.convention})", *names)),
                "",
                f"best weights by {self.found.method}: {groups}",
                f"{names[0]} mIoU {100 * self.found.miou:.2f} after {len(self.found.history)} weightings",
                *self.certificate(),
                "",
                *self.honesty(),
                *self.added(),
            ]
        )

    def added(self) -> list[str]:
        """A table of what each model adds, the most valuable first; empty where it was not asked for."""
        ranked = sorted(self.contributions.items(), key=lambda item: -item[1])
        rows = [(name, f"{100 * value:+.3f}") for name, value in ranked]
        return ["", table(rows, ("mIoU lost without this model", "%"))] if rows else []

    def certificate(self) -> list[str]:
        """What is known about weightings that were not tried."""
        known = self.found.certificate
        if known is None:
            return []
        stage = "certified" if known["complete"] else "so far, stopped by the time limit"
        return [
            f"no weighting of these groups is above {100 * known['upper_bound']:.4f} ({stage}, {known['boxes']} boxes)"
        ]

    def honesty(self) -> list[str]:
        """What the number is worth on other videos: interval, held-out score, gain over uniform weights, the simplest that will do."""
        condensed, found = self.splits[0].condensed, self.found
        assert found.scores is not None
        mine = found.scores
        uniform = scores(condensed, [1.0] * len(found.groups), found.convention)
        low, high = mine.interval(seed=self.seed)
        lines = [
            f"95 % interval over {len(condensed.videos)} videos: {100 * low:.2f} to {100 * high:.2f}"
        ]
        if math.isnan(low):
            lines = ["one video: no interval and no held-out score; label more videos"]
        if found.held_out is not None:
            lines.append(
                f"held-out mIoU, searched on the other folds' videos: {100 * found.held_out:.2f}"
            )
        best = Trial(found.vector, found.miou)
        rule = one_standard_error(condensed, best, convention=found.convention, seed=self.seed).rule
        return [
            *lines,
            f"one-standard-error rule: {rule}",
            gain(mine, uniform, seed=self.seed).sentence(),
        ]

    def _pairs(self) -> list[tuple[str, float]]:
        return list(zip(self.found.groups, self.weights, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Everything, scores as fractions, nan as null."""
        return {
            "segfusion": __version__,
            "result": self.found.to_json(),
            "honesty": self.honesty(),
            "contributions": {name: _plain(value) for name, value in self.contributions.items()},
            "groups": {
                name: [store.model for store in stores]
                for name, stores in self.ensemble.groups.items()
            },
            "ladder": [
                {
                    "name": r.name,
                    **{split: _plain(scores.miou) for split, scores in r.scores.items()},
                }
                for r in self.rungs
            ],
            "scores": {
                split: scores.to_json()
                for split, scores in self.rungs[self.found_rung].scores.items()
            },
            "singles": {
                s.name: {name: _plain(scores.miou) for name, scores in s.singles.items()}
                for s in self.splits
            },
            "splits": {s.name: _describe(s.condensed) for s in self.splits},
            "digest": self.splits[0].digest,
        }

    def write(self, out: Path) -> None:
        """best.json, trials.csv and search.json, each whole or not at all."""
        write_json(out / "search.json", self.to_json())
        self.ensemble.save(out / "best.json")
        scratch = out / f".trials.csv.{os.getpid()}"
        try:
            with open(scratch, "w", newline="", encoding="utf-8") as file:
                lines = csv.writer(file)
                lines.writerow([*self.found.groups, "miou"])
                lines.writerows([*trial.weights, trial.miou] for trial in self.found.history)
            scratch.replace(out / "trials.csv")
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise StoreError(
                f"{out / 'trials.csv'}: cannot be written ({error.strerror}); check the folder's rights and space"
            ) from error


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _describe(condensed: Condensed) -> dict[str, Any]:
    return {
        "videos": len(condensed.videos),
        "pixels": condensed.scored,
        "contested": condensed.contested,
        "candidates": condensed.candidates,
    }
