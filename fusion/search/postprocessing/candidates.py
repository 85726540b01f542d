"""What is tried: every operation that these data allow, with the parameters of its grid."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fusion.ensemble import Ensemble
from fusion.errors import InputError
from fusion.labels import Labels
from fusion.postprocess import NOTHING, OPERATIONS, Operation, Pipeline
from fusion.postprocess.operation import STAGES


class Candidates(NamedTuple):
    """Operations that can be applied, and what is said of those that cannot."""

    operations: tuple[Operation, ...]
    remarks: tuple[str, ...]


def candidates_of(ensemble: Ensemble, truth: Labels) -> Candidates:
    """All that these videos allow; InputError where that is nothing.

    Times are in steps of the data, the smallest from one frame to the next.
    """
    facts = [ensemble.facts(video) for video in ensemble.scored_videos(truth)]
    times = [list(each.times.values()) for each in facts]
    step = min((b - a for some in times for a, b in itertools.pairwise(some)), default=1)
    names, independent = ensemble.channels or ensemble.classes, ensemble.channels is not None
    found: list[Operation] = []
    lacking: list[str] = []
    for kind in OPERATIONS.values():
        why = f"nothing to try in steps of {step} frames"
        some: list[Operation] = []
        for each in kind.candidates(step):
            # what is taken from labels is there once it is fitted
            pipeline = Pipeline((each,)).fitted([1] * len(ensemble.classes))
            how = {"independent": independent, "images": ensemble.images is not None}
            try:
                pipeline.check(names, [len(some) for some in times], **how)
            except InputError as error:
                why = str(error).removeprefix(f"{kind.name}: ")
            else:
                some.append(each)
        found += some
        if not some:
            lacking.append(f"{kind.name} ({why})")
    said = f"not tried: {'; '.join(lacking)}"
    if not found:
        raise InputError(f"tune: no operation applies to these data; {said}")
    return Candidates(tuple(found), (said,) if lacking else ())


def longer(pipeline: Pipeline, operations: Sequence[Operation]) -> Iterator[Pipeline]:
    """The pipeline with each of the operations that it does not have, in order of stages."""
    names = {each.name for each in pipeline}
    for each in operations:
        if each.name not in names:
            order = sorted((*pipeline, each), key=lambda one: STAGES.index(one.stage))
            yield Pipeline(tuple(order))


def singles(operations: Sequence[Operation]) -> list[Pipeline]:
    """None, and each by itself."""
    return [NOTHING, *longer(NOTHING, operations)]
