"""The ladder: what is fused step by step, on every split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from fusion.report.facts import Facts
from fusion.report.figures.chart import clean, estimates, known, score, signed, with_interval
from fusion.report.figures.figure import Figure


@dataclass(frozen=True)
class Ladder(Figure):
    """Scores of every rung, each split beside the others."""

    name: ClassVar[str] = "ladder"
    title: ClassVar[str] = "The ladder, step by step"
    note: ClassVar[str] = "Points: scores. Lines: 95 % intervals. Higher is better."

    def shown(self, facts: Facts) -> bool:
        return any(known(each.value) for rung in facts.ladder for each in rung.scores.values())

    def alt(self, facts: Facts) -> str:
        said = []
        for split in facts.splits:
            rungs = [(r.name, r.scores[split]) for r in facts.ladder if split in r.scores]
            rungs = [(name, each) for name, each in rungs if known(each.value)]
            if not rungs:
                continue
            (first, start), (best, top) = rungs[0], max(rungs, key=lambda rung: rung[1].value)
            if len(rungs) == 1:
                said.append(f"On {split}: {clean(first)} {with_interval(start)} %.")
                continue
            said.append(
                f"On {split} the ladder goes from {score(start.value)} % ({clean(first)}) to "
                f"{with_interval(top)} % ({clean(best)}): {signed(top.value - start.value)} points."
            )
        return " ".join(said)

    def spec(self, facts: Facts, width: int) -> dict[str, Any]:
        series = {
            split: {clean(r.name): r.scores[split] for r in facts.ladder if split in r.scores}
            for split in facts.splits
        }
        names = [clean(rung.name) for rung in facts.ladder]
        used = {split: rungs for split, rungs in series.items() if rungs}
        return estimates(used, names, width, f"{facts.objective}, %")
