"""What was scored on held-out folds, and what each gains over uniform weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fusion.report.facts import Contender, Estimate, Facts
from fusion.report.figures.chart import clean, estimates, known, with_interval
from fusion.report.figures.figure import Figure


@dataclass(frozen=True)
class Contenders(Figure):
    """Held-out scores."""

    name: ClassVar[str] = "contenders"
    title: ClassVar[str] = "Scores on held-out folds"
    note: ClassVar[str] = (
        "Everything was chosen without the videos that it is scored on. "
        "Lines: 95 % intervals; these overlap also where gains on the same videos are real."
    )

    def shown(self, facts: Facts) -> bool:
        return any(known(each.score.value) for each in facts.contenders)

    def alt(self, facts: Facts) -> str:
        scored = [each for each in facts.contenders if known(each.score.value)]
        best = max(scored, key=lambda each: each.score.value)
        worst = min(scored, key=lambda each: each.score.value)
        said = f"Best on held-out folds: {clean(best.name)}, {with_interval(best.score)} %"
        if worst is not best:
            said += f"; worst: {clean(worst.name)}, {with_interval(worst.score)} %"
        chosen = [each for each in scored if each.recommended]
        if chosen and chosen[0] is not best:
            said += f"; recommended: {clean(chosen[0].name)}, {with_interval(chosen[0].score)} %"
        return f"{said}."

    def spec(self, facts: Facts, width: int) -> dict[str, Any]:
        return _rows(facts.contenders, {c.name: c.score for c in facts.contenders}, facts, width)


@dataclass(frozen=True)
class Gains(Figure):
    """Held-out gains over uniform weights, of the same videos."""

    name: ClassVar[str] = "gains"
    title: ClassVar[str] = "Gains over uniform weights"
    note: ClassVar[str] = (
        "Differences on the same held-out videos. A line that crosses the dashed zero: not "
        "distinguishable from uniform weights."
    )

    def shown(self, facts: Facts) -> bool:
        return any(c.gain is not None and known(c.gain.value) for c in facts.contenders)

    def alt(self, facts: Facts) -> str:
        said = []
        for each in facts.contenders:
            if each.gain is not None and known(each.gain.value):
                what = f"{clean(each.name)} {with_interval(each.gain, sign=True)}"
                said.append(f"{what} ({_judged(each.gain)})")
        return f"Held-out gains over uniform weights, in points: {'; '.join(said)}."

    def spec(self, facts: Facts, width: int) -> dict[str, Any]:
        gaining = [each for each in facts.contenders if each.gain is not None]
        gains = {each.name: each.gain for each in gaining if each.gain is not None}
        return _rows(gaining, gains, facts, width, sign=True)


def _judged(gain: Estimate) -> str:
    if not (known(gain.low) and known(gain.high)):
        return "no interval"
    if gain.low <= 0 <= gain.high:
        return "not distinguishable"
    return "real" if gain.low > 0 else "a real loss"


def _rows(
    shown: Sequence[Contender],
    values: dict[str, Estimate],
    facts: Facts,
    width: int,
    *,
    sign: bool = False,
) -> dict[str, Any]:
    names = [clean(each.name) for each in shown]
    chosen = {each.name for each in shown if each.recommended}
    kinds = {"recommended": chosen, "contender": {each.name for each in shown} - chosen}
    series = {
        kind: {clean(name): values[name] for name in values if name in members}
        for kind, members in kinds.items()
    }
    what = f"gain in {facts.objective}, points" if sign else f"held-out {facts.objective}, %"
    return estimates(series, names, width, what, sign=sign, one_line=True)
