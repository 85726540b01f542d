"""Is the gain real? What held-out scores say, in sentences, and what they recommend.

Nothing here was chosen on the videos that judge it (fusion.search.folds). Scores are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fusion.metrics.intervals import Gain, standard_error
from fusion.search.held import FOUND, UNIFORM, HeldOut, UnitOf
from fusion.text import listed, or_none, percent

FEW_UNITS = 8  # below it an interval is mostly the uncertainty of its own width


@dataclass(frozen=True)
class Verdict:
    """What was found against what needs no search, on held-out units.

    held: scores of all contenders. units: of every video.
    """

    held: HeldOut
    units: UnitOf

    @cached_property
    def gains(self) -> Mapping[str, Gain]:
        """Of what was found over every simpler contender; not over itself under another name."""
        known = self.held.contenders
        others = [name for name in known if name == UNIFORM or known[name] is not known[FOUND]]
        others = [name for name in others if name != FOUND]
        return {name: self.held.gain(FOUND, name, self.units) for name in others}

    @property
    def gain(self) -> Gain:
        """Over uniform weights."""
        return self.gains[UNIFORM]

    @cached_property
    def recommended(self) -> str:
        """The simplest contender within one standard error of the best; uniform weights unless it
        gains over these distinguishably.

        Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3, with the
        standard error of the paired difference.
        """
        known = self.held.contenders
        names = list(known)  # the simplest first
        best = max(names, key=lambda name: -1.0 if math.isnan(s := known[name].score) else s)
        for name in names:
            behind = known[best].gain(known[name], name, units=self.units)
            if name == best or not behind.beyond_standard_error:
                break
        over = self.held.gain(name, UNIFORM, self.units)
        return name if name == UNIFORM or (over.value > 0 and over.distinguishable) else UNIFORM

    @property
    def sentence(self) -> str:
        """The verdict, with its evidence."""
        gain, folds = self.gain, len(self.held)
        if math.isnan(gain.interval[0]):
            return f"held-out gain over {UNIFORM} unknown; {self.recommended} recommended"
        low, high = (f"{100 * end:+.1f}" for end in gain.interval)
        said = (
            f"held-out gain {100 * gain.value:+.1f} [{low}, {high}] over {UNIFORM} on {folds} folds"
        )
        if not gain.distinguishable:
            return f"{said}: not distinguishable; {self.recommended} recommended"
        real = "real" if gain.value > 0 else "a real loss"
        return f"{said}: {real}; {self.recommended} recommended"

    @property
    def remarks(self) -> list[str]:
        """What cannot be known from these units."""
        number, said = len(set(self.units.values())), []
        if number < FEW_UNITS:
            cannot = "intervals are wide, and what is rare among videos was not seen"
            said.append(f"only {number} units were held out (below {FEW_UNITS}): {cannot}")
        if once := self._classes_in_one_fold():
            cannot = "nothing was chosen for them and scored elsewhere"
            said.append(f"classes that occur in one fold only: {listed(once)}; {cannot}")
        if number > 1 and self._all_alike():
            said.append("all units score alike: no interval can say how others would differ")
        return said

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`."""
        gains = {
            name: {
                "value": or_none(gain.value),
                "interval": [or_none(end) for end in gain.interval],
                "distinguishable": gain.distinguishable,
            }
            for name, gain in self.gains.items()
        }
        contenders = {name: or_none(s.score) for name, s in self.held.contenders.items()}
        said = {"sentence": self.sentence, "remarks": self.remarks}
        return {"held_out": contenders, "gains": gains, "recommended": self.recommended, **said}

    def _all_alike(self) -> bool:
        """Whether without any one unit scores and gains are what they are without another."""
        scores, places = (
            self.held.scores,
            {u: n for n, u in enumerate(dict.fromkeys(self.units.values()))},
        )
        index = [places[self.units[video]] for video in scores.confusions]
        error = standard_error([*scores.confusions.values()], scores.objective, units=index)
        return error == 0 and all(gain.error == 0 for gain in self.gains.values())

    def _classes_in_one_fold(self) -> list[str]:
        scores = self.held.scores
        rows = [
            sum(scores.confusions[video].sum(axis=1) for video in fold.videos)
            for fold in self.held.folds
        ]
        number = sum((row > 0).astype(int) for row in rows)
        return [name for name, folds in zip(scores.classes, number, strict=True) if folds == 1]

    def lines(self) -> list[str]:
        """Everything, for people."""
        shown = {name: percent(scores.score) for name, scores in self.held.contenders.items()}
        table = ", ".join(f"{name} {score}" for name, score in shown.items())
        what = self.held.scores.objective.name
        low, high = self.held.prediction_interval(units=self.units)
        many = len(self.held.scores.confusions)
        said = [f"held out, {what} %: {table}"]
        if not math.isnan(low):
            said.append(f"on {many} new videos expect {percent(low)} to {percent(high)} (95 %)")
        said += [str(gain) for gain in self.gains.values()]
        return [*said, *self.remarks, f"verdict: {self.sentence}"]
