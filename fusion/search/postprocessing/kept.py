"""What fusion makes of a video, kept for all that is tried on it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from torch import Tensor

from fusion.ensemble.plan import Plan
from fusion.ensemble.stream import Band, Fusion, Means
from fusion.kernels.arithmetic import Fused

Made = tuple[Any, ...]  # the frame's id first


@dataclass(frozen=True)
class Kept(Fusion):
    """Fusion whose frames are made once, as far as there is room for them.

    Args:
        room: bytes.
        known: what is kept, by kind and frame; of one video.
    """

    room: int = 0
    known: dict[tuple[Hashable, str], list[Made]] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Fusion, room: int) -> Self:
        """A recipe that keeps what it makes."""
        return cls(**vars(recipe), room=room)

    def bands(self, video: str, frames: Sequence[str], plan: Plan) -> Iterator[Band]:
        make = super().bands
        yield from self._each(plan.outputs, frames, lambda some: make(video, some, plan))

    def maps(self, video: str, frames: Sequence[str], plan: Plan) -> Means:
        make = super().maps
        yield from self._each("maps", frames, lambda some: make(video, some, plan))

    def _each(
        self, kind: Hashable, frames: Sequence[str], make: Callable[[Sequence[str]], Iterator[Any]]
    ) -> Iterator[Any]:
        """Frames that are kept, then the others as they are made."""
        first = next((n for n, f in enumerate(frames) if (kind, f) not in self.known), len(frames))
        for frame in frames[:first]:
            yield from self.known[kind, frame]
        made: list[Made] = []
        for each in make(frames[first:]) if first < len(frames) else ():
            if made and made[0][0] != each[0]:
                self._keep(kind, made)
                made = []
            made.append(each)
            yield each
        if made:
            self._keep(kind, made)

    def _keep(self, kind: Hashable, made: list[Made]) -> None:
        held = sum(_bytes(each[-1]) for some in self.known.values() for each in some)
        if held + sum(_bytes(each[-1]) for each in made) <= self.room:
            self.known[kind, made[0][0]] = made


def _bytes(values: Tensor | Fused) -> int:
    return (
        values.nbytes if isinstance(values, Tensor) else sum(map(_bytes, values.asked().values()))
    )
