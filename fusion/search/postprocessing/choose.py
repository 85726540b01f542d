"""Which operations, one after the other, as long as each is worth more than one standard error.

    none -> with the operation that helps most -> with the next -> ... -> none helps

nnU-Net chooses its postprocessing so, by the mean alone (nnunetv2/postprocessing,
`determine_postprocessing`); here a step must be above one standard error of the paired difference
(Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3), so that nothing wins
ties. By consistency a step must raise that, and the score may fall by no more than its error, nor
by more than LOSS: where one unit loses all that is lost, the error is about as large as the loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fusion.metrics.intervals import Gain
from fusion.postprocess import NOTHING, Operation, Pipeline
from fusion.search.postprocessing.candidates import longer
from fusion.search.postprocessing.measure import Measures, config_of
from fusion.search.postprocessing.outcome import SCORE

MOST = 3  # operations of a pipeline
LOSS = 0.002  # of a score that consistency may cost


def no_loss(gain: Gain) -> bool:
    """Whether a score is above another, or so near that none counts as lost."""
    return not math.isnan(gain.error) and gain.value >= -min(gain.error, LOSS)


@dataclass
class Selection:
    """A choice on some parts, so far.

    judge: the fold that it keeps out of sight, None for none. chosen: the pipeline. going: whether
    an operation may still be added.
    """

    parts: Sequence[str]
    judge: int | None
    chosen: Pipeline = field(default=NOTHING)
    going: bool = True

    def step(self, measures: Measures, operations: Sequence[Operation], aim: str) -> None:
        """Adds the operation that helps most, if one does."""
        now = measures.outcome(self.chosen, self.parts, self.judge)
        none = measures.outcome(NOTHING, self.parts, self.judge)
        best, name = now, self.chosen
        for pipeline in self.longer(operations):
            if config_of(pipeline) in measures.lacking:
                continue
            one = measures.outcome(pipeline, self.parts, self.judge)
            if aim != SCORE and not no_loss(one.gain(none)):
                continue
            if one.value(aim) > best.value(aim):
                best, name = one, pipeline
        self.going = best is not now and best.gain(now, aim).beyond_standard_error
        if self.going:
            self.chosen = name

    def longer(self, operations: Sequence[Operation]) -> list[Pipeline]:
        """What may be chosen in its place."""
        return [p for p in longer(self.chosen, operations) if len(p.operations) <= MOST]


def choose(
    measures: Measures, choices: Sequence[Selection], operations: Sequence[Operation], aim: str
) -> None:
    """All choices side by side, so that what several of them need is measured once."""
    measures.add((NOTHING, choice.judge) for choice in choices)
    while some := [choice for choice in choices if choice.going]:
        measures.add((p, choice.judge) for choice in some for p in choice.longer(operations))
        for choice in some:
            choice.step(measures, operations, aim)
