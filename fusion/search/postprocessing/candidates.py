"""What is tried: every operation that these data allow, with the parameters of its grid.

Operations that may be of some classes only are tried on all, and on each by itself: nnU-Net finds
out so for every class whether only its largest component should stay.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fusion.ensemble import Ensemble
from fusion.errors import InputError
from fusion.labels import Labels
from fusion.postprocess import NOTHING, OPERATIONS, Operation, Pipeline
from fusion.postprocess.operation import STAGES

FEW_CLASSES = 30  # that are tried one by one
CLASSES = "classes"  # the parameter that names some of them, none for all


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
        for each in [*kind.candidates(step), *one_by_one(kind, names)]:
            # what is taken from labels is there once it is fitted
            pipeline = Pipeline((each,)).fitted([1] * len(ensemble.classes))
            how = {"independent": independent, "images": ensemble.images is not None}
            try:
                pipeline.check(names, [len(some) for some in times], **how)
            except InputError as error:
                why = str(error).removeprefix(f"{kind.name}: ")
            else:
                some.append(each)
        if all(getattr(each, CLASSES, ()) for each in some):
            some = []  # what cannot be done to all is about other things than a class at a time
        found += some
        if not some:
            lacking.append(f"{kind.name} ({why})")
    said = f"not tried: {'; '.join(lacking)}"
    if not found:
        raise InputError(f"tune: no operation applies to these data; {said}")
    return Candidates(tuple(found), (said,) if lacking else ())


def one_by_one(kind: type[Operation], names: Sequence[str]) -> list[Operation]:
    """The operation on each class alone, where it can be, and classes are not many."""
    known = kind.parameters().get(CLASSES)
    if known is None or known["default"] != () or len(names) > FEW_CLASSES:
        return []
    return [kind.from_config({CLASSES: [name]}) for name in names]


def longer(pipeline: Pipeline, operations: Sequence[Operation]) -> Iterator[Pipeline]:
    """The pipeline with each of the operations that it does not have, in order of stages; one that
    it has of some classes may be of another as well.
    """
    known = {each.name: each for each in pipeline}
    for each in operations:
        if each.name not in known:
            order = sorted((*pipeline, each), key=lambda one: STAGES.index(one.stage))
            yield Pipeline(tuple(order))
        elif (both := joined(known[each.name], each)) is not None:
            yield Pipeline(tuple(both if one.name == each.name else one for one in pipeline))


def joined(one: Operation, other: Operation) -> Operation | None:
    """An operation on the classes of both; None where they differ in more, or one is on all."""
    mine, theirs = (tuple(getattr(each, CLASSES, ())) for each in (one, other))
    alike = {**one.get_config(), CLASSES: 0} == {**other.get_config(), CLASSES: 0}
    if not mine or not theirs or not alike or set(theirs) <= set(mine):
        return None
    return type(one).from_config({**one.get_config(), CLASSES: sorted({*mine, *theirs})})


def singles(operations: Sequence[Operation]) -> list[Pipeline]:
    """None, and each by itself."""
    return [NOTHING, *longer(NOTHING, operations)]
