"""Tuning postprocessing: everything is chosen again without each fold, which then judges it.

    parts under what was found without them (fusion.search.postprocessing.unseen)
    -> every candidate measured once -> for each fold a choice on the others -> scores of the fold
    -> the choice on all, recommended where the folds' choices gain over one standard error

Weights, multipliers and heads that a choice looks at were found without the part that is scored,
but with the fold that judges among the rest: choices see its labels only through these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from fusion.errors import InputError
from fusion.metrics.objectives import objective
from fusion.postprocess import NOTHING, Pipeline
from fusion.search.held import FOUND
from fusion.search.postprocessing.candidates import Candidates, candidates_of
from fusion.search.postprocessing.choose import Selection, choose, no_loss
from fusion.search.postprocessing.measure import Measures
from fusion.search.postprocessing.outcome import AIMS, CONSISTENCY, SCORE, Measure, on_front
from fusion.search.postprocessing.tuned import FoldChoice, Held, Row, Tuned
from fusion.search.postprocessing.unseen import unseen
from fusion.search.result import SearchResult
from fusion.search.run import Run
from fusion.text import did_you_mean

POSTPROCESS = "postprocess"
TUNES = (POSTPROCESS, *(f"{POSTPROCESS}:{aim}" for aim in AIMS if aim != SCORE))


@dataclass(frozen=True)
class Tuning:
    """What is to be tuned, checked before anything is searched.

    Args:
        run: the split.
        aim: what is to rise: "score", or video consistency "vc8" or "vc16", for which the score may
            fall by no more than one standard error and 0.2 points.
        candidates: what is tried.
    """

    run: Run
    aim: str
    candidates: Candidates

    @classmethod
    def parse(cls, text: str, run: Run) -> Self:
        """Of "postprocess", "postprocess:vc8" or "postprocess:vc16".

        InputError: another text, or data that no operation applies to.
        """
        if text not in TUNES:
            raise InputError(f"tune: got {text!r}{did_you_mean(text, TUNES)}")
        aim = text.partition(":")[2] or SCORE
        if aim != SCORE:
            check_windows(run, aim)
        return cls(run, aim, candidates_of(run.ensemble, run.truth))

    def tuned(self, found: SearchResult) -> SearchResult:
        """The result with its postprocessing, which the recommended ensemble has if it holds out.

        What was found otherwise, and its scores, stay as they are.
        """
        run, operations = self.run, self.candidates.operations
        folds = unseen(run, found)
        measures = Measures(run, folds)
        choices = [Selection(tuple(run.parts), None)]
        several = len(folds) > 1
        for number, fold in enumerate(folds if several else ()):
            held = set(fold.parts)
            choices.append(Selection([p for p in run.parts if p not in held], number))
        choose(measures, choices, operations, self.aim)
        best, judged = choices[0].chosen, choices[1:]
        held_out = self._held(measures, judged) if several else None
        chosen = best if held_out is None or self._holds_out(held_out) else NOTHING
        result = Tuned(
            self.aim,
            objective(run.convention).name,
            FOUND if found.verdict is None else found.verdict.recommended,
            best,
            measures.fitted(chosen),
            self._rows(measures, chosen),
            held_out,
            self._remarks(measures, found),
        )
        assert found.recommended is not None
        recommended = found.recommended.with_postprocess(result.chosen)
        return replace(found, recommended=recommended, postprocess=result)

    def _held(self, measures: Measures, choices: Sequence[Selection]) -> Held:
        """Every fold under what was chosen without it, against none."""
        mine: dict[str, Measure] = {}
        folds: list[FoldChoice] = []
        for choice, fold in zip(choices, measures.folds, strict=True):
            outcome, none = (
                measures.outcome(p, fold.parts, None) for p in (choice.chosen, NOTHING)
            )
            mine.update(outcome.measures)
            scores = outcome.scores.score, none.scores.score
            folds.append(FoldChoice(fold.parts, choice.chosen, *scores))
        parts = list(self.run.parts)
        whole = measures.put_together("what was chosen", {part: mine[part] for part in parts})
        none = measures.outcome(NOTHING, parts, None)
        # every part has a share in the choices of all folds but its own (`HeldOut.choice`)
        wider = math.sqrt(2 - 1 / len(folds))
        gains = {aim: whole.gain(none, aim) for aim in AIMS}
        wide = {aim: gain.widened(wider) for aim, gain in gains.items()}
        scores = whole.scores.score, none.scores.score
        return Held(folds, *scores, wide, no_loss(gains[SCORE]))

    def _holds_out(self, held: Held) -> bool:
        """Whether the folds' choices gain more than one standard error."""
        kept = self.aim == SCORE or held.lossless
        return kept and held.gains[self.aim].beyond_standard_error

    def _rows(self, measures: Measures, chosen: Pipeline) -> list[Row]:
        """All that was measured on every part."""
        parts = list(self.run.parts)
        outcomes = [
            (pipeline, measures.outcome(pipeline, parts, None))
            for pipeline in measures.pipelines.values()
            if measures.whole(pipeline)
        ]
        none = measures.outcome(NOTHING, parts, None)
        points = [
            (one.scores.score, one.consistency(8), one.consistency(16)) for _, one in outcomes
        ]
        rows = []
        for (pipeline, one), point, front in zip(outcomes, points, on_front(points), strict=True):
            gain = one.gain(none) if pipeline else None
            marks = {"front": front, "chosen": pipeline == chosen}
            score, vc8, vc16 = point
            rows.append(Row(one.name, pipeline, score, gain, vc8, vc16, **marks))
        return rows

    def _remarks(self, measures: Measures, found: SearchResult) -> list[str]:
        said = list(self.candidates.remarks)
        said += [f"not tried: {why}" for why in dict.fromkeys(measures.lacking.values())]
        if len(measures.folds) == 1:
            said.append("postprocessing was chosen on the videos that scored it, and weights too")
        return said


def check_windows(run: Run, aim: str) -> None:
    """InputError where no video is long enough for a window."""
    frames: dict[str, int] = {}
    for video, some in run.parts.values():
        frames[video] = frames.get(video, 0) + len(some)
    most, length = max(frames.values()), CONSISTENCY[aim]
    if most <= length:  # the official windows leave the last one out
        got = f"{aim} needs more than {length} labelled frames, the longest video has {most}"
        raise InputError(f"tune: {got}; use {POSTPROCESS!r}")
