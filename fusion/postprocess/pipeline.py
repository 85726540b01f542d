"""Operations one after the other, stage by stage."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fusion.errors import InputError
from fusion.postprocess.operation import LABELS, STAGES, Operation, Stream, Video


@dataclass(frozen=True)
class Pipeline:
    """Operations in their order; empty, and false, for none.

    InputError: one that works on an earlier stage than the one before it.
    """

    operations: tuple[Operation, ...] = ()

    def __post_init__(self) -> None:
        places = [STAGES.index(each.stage) for each in self.operations]
        for place, (before, after) in enumerate(itertools.pairwise(places)):
            if after < before:
                one, other = self.operations[place], self.operations[place + 1]
                order = f"{other.name!r} works on {other.stage}, {one.name!r} on {one.stage}"
                raise InputError(f"postprocess: {order}; give {other.name!r} first")

    def __bool__(self) -> bool:
        return bool(self.operations)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __str__(self) -> str:
        return ", ".join(map(str, self.operations)) or "none"

    def of(self, stage: str) -> tuple[Operation, ...]:
        """Those of a stage."""
        return tuple(each for each in self.operations if each.stage == stage)

    @property
    def looks_at_probabilities(self) -> bool:
        """Whether label maps need probabilities beside them."""
        return any(each.looks_at for each in self.of(LABELS))

    def apply(self, stage: str, stream: Stream, video: Video) -> Stream:
        """The stream after all operations of a stage."""
        for each in self.of(stage):
            stream = each.apply(stream, video)
        return stream

    def check(
        self, classes: Sequence[str], frames: Sequence[int], *, independent: bool, images: bool
    ) -> None:
        """InputError where an operation cannot work on these data.

        Args:
            classes: names, or those of channels.
            frames: how many each video has.
            independent: whether they are channels.
            images: whether there are pictures.
        """
        for each in self.operations:
            each.check(classes, independent=independent)
            if each.temporal and max(frames, default=0) < 2:
                what = "looks at neighbouring frames, and every video here is a single image"
                raise InputError(f"{each.name}: it {what}; leave it out")
            if each.needs_pictures and not images:
                raise InputError(f"{each.name}: it looks at pictures; give their folder (images=)")

    @property
    def fits(self) -> bool:
        """Whether an operation takes something from labels."""
        return any(type(each).fitted is not Operation.fitted for each in self.operations)

    def fitted(self, rows: Sequence[int]) -> Pipeline:
        """The operations with what they take from labels; `rows`: labelled pixels of each class."""
        return Pipeline(tuple(each.fitted(rows) for each in self.operations))

    def holds(self, stage: str, video: Video) -> int:
        """Frames of a stage that are held at a time."""
        return 1 + sum(each.holds(video) for each in self.of(stage))

    def get_config(self) -> list[dict[str, Any]]:
        """The operations' own."""
        return [each.get_config() for each in self.operations]


NOTHING = Pipeline()
