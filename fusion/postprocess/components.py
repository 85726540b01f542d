"""Connected components of label maps, of single frames and of whole videos, in bounded memory.

    table = Table(26); table.add(marked) slice by slice; found = table.finish()
    found.label, found.size, found.at_border       a row a component; row 0 stands for unmarked
    table.rows(z, marked)                          which component a pixel is of, once more

A slice is labelled by cc3d in one pass for all classes; components that touch one of the slice
before, with the same mark, are joined by union-find. What is kept of a slice is a few numbers a
component, whatever its pixels: a video's label maps lie in a temporary file meanwhile. A single
frame is a stack of one slice.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.postprocess.operation import LABELS, Frame, Operation, Stream, Video, parameter
from fusion.postprocess.spill import Spill

CONNECTIVITY = {2: (4, 8), 3: (6, 18, 26)}
IN_PLANE = {4: 4, 8: 8, 6: 4, 18: 8, 26: 8}
REACH = {6: 0, 18: 1, 26: 2}  # most |dy| + |dx| of neighbours in the next slice
PENDING = 1 << 20  # contacts that are kept before they are summed

Rows = NDArray[np.int64]


class Found(NamedTuple):
    """Components [N + 1], row 0 for pixels without a mark; joined ones have equal rows.

    root: the row that stands for the whole component. label: its mark minus 1. size: pixels.
    at_border: whether it touches a border of frame or volume.
    """

    root: Rows
    label: Rows
    size: Rows
    at_border: NDArray[np.bool_]


class Contacts(NamedTuple):
    """Pairs of components that share faces of pixels, both ways round, and how many they share."""

    one: Rows
    other: Rows
    faces: Rows


class _Slice(NamedTuple):
    """Of the components of a slice alone."""

    label: Rows
    size: Rows
    border: NDArray[np.bool_]


class Table:
    """Components of a stack of slices.

    Args:
        connectivity: 4 or 8 for a single slice, 6, 18 or 26 for a stack.
        contacts: whether to count the faces that components share.
    """

    def __init__(self, connectivity: int, *, contacts: bool = False) -> None:
        self._label = _cc3d()
        self.connectivity, self.counted = connectivity, contacts
        self.starts: list[int] = []  # rows before each slice's first
        self._parent, self._number = np.zeros(1, np.int64), 1  # rows; those in use
        self._slices: list[_Slice] = []
        self._last: tuple[NDArray[Any], Rows] | None = None
        self._pairs: list[Contacts] = []
        self._pending = 0

    def add(self, marked: NDArray[np.unsignedinteger]) -> None:
        """A slice [H, W]: 0 for pixels that are left out, else the class and 1."""
        start = self._number
        own, number = self._labelled(marked)
        self.starts.append(start)
        label, border = np.zeros(number + 1, np.int64), np.zeros(number + 1, bool)
        label[own] = marked
        for edge in (own[:1], own[-1:], own[:, :1], own[:, -1:]):
            border[edge] = True
        size = np.bincount(own.ravel(), minlength=number + 1)
        self._slices.append(_Slice(label[1:] - 1, size[1:], border[1:]))
        self._grow(start + number)
        rows = _from(start, own)
        if self.counted:
            self._count(rows[:, :-1], rows[:, 1:])
            self._count(rows[:-1], rows[1:])
        if self._last is not None:
            self._join(*self._last, marked, rows)
        self._last = marked, rows

    def rows(self, place: int, marked: NDArray[np.unsignedinteger]) -> Rows:
        """The row of each pixel of slice `place`, which is given once more."""
        if place == len(self.starts) - 1 and self._last is not None:
            return self._last[1]
        return _from(self.starts[place], self._labelled(marked)[0])

    def finish(self) -> Found:
        """What was found in all slices."""
        root = self._roots(np.arange(self._number))
        if self.connectivity in CONNECTIVITY[3]:
            for outer in self._slices[:1] + self._slices[-1:]:
                outer.border[:] = True
        label = np.concatenate([[-1], *(each.label for each in self._slices)])
        size = np.concatenate([[0], *(each.size for each in self._slices)])
        border = np.concatenate([[False], *(each.border for each in self._slices)])
        total = np.zeros(len(root), np.int64)
        np.add.at(total, root, size)
        touches = np.zeros(len(root), bool)
        np.logical_or.at(touches, root, border)
        return Found(root, label, total[root], touches[root])

    def contacts(self) -> Contacts:
        """The faces that different components share."""
        self._sum()
        one, other, faces = self._pairs[0] if self._pairs else Contacts(*[np.zeros(0, int)] * 3)
        ends = np.concatenate([one, other]), np.concatenate([other, one])
        return Contacts(*ends, np.concatenate([faces, faces]))

    def _grow(self, number: int) -> None:
        """Rows up to this number, each its own root; doubled, lest all be copied every slice."""
        if number > len(self._parent):
            rest = np.zeros(max(number, 2 * len(self._parent)) - len(self._parent), np.int64)
            self._parent = np.concatenate([self._parent, rest])
        self._parent[self._number : number] = np.arange(self._number, number)
        self._number = number

    def _labelled(self, marked: NDArray[np.unsignedinteger]) -> tuple[Rows, int]:
        """Components of a slice alone, 1 to N."""
        if marked.size == 0:
            return np.zeros(marked.shape, np.int64), 0
        plane = IN_PLANE[self.connectivity]
        found, number = self._label(np.ascontiguousarray(marked), connectivity=plane, return_N=True)
        return np.asarray(found, np.int64), int(number)

    def _join(self, before: NDArray[Any], over: Rows, marked: NDArray[Any], rows: Rows) -> None:
        """Joins a slice to the one before.

        Where the pixel straight before has the same mark, those around it that also have are of
        its component already; the other pixels are few.
        """
        same = (marked == before) & (marked > 0)
        found = [(over[same], rows[same])]
        y, x = np.nonzero((marked > 0) & ~same)
        for dy, dx in itertools.product((-1, 0, 1), repeat=2):
            if 0 < abs(dy) + abs(dx) <= REACH[self.connectivity]:
                inside = (y + dy >= 0) & (y + dy < len(marked))
                inside &= (x + dx >= 0) & (x + dx < marked.shape[1])
                here, there = (y[inside], x[inside]), (y[inside] + dy, x[inside] + dx)
                same = marked[here] == before[there]
                found.append((over[there][same], rows[here][same]))
        one, other = (np.concatenate(each) for each in zip(*found, strict=True))
        self._unite(*_pairs(one, other)[:2])
        if self.counted:
            self._count(over, rows)

    def _unite(self, one: Rows, other: Rows) -> None:
        while True:
            one, other = self._roots(one), self._roots(other)
            apart = one != other
            if not apart.any():
                return
            one, other = one[apart], other[apart]
            np.minimum.at(self._parent, np.maximum(one, other), np.minimum(one, other))

    def _roots(self, rows: Rows) -> Rows:
        found = rows
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                break
            found = above
        self._parent[rows] = found  # shorter ways for the next time
        return found

    def _count(self, one: Rows, other: Rows) -> None:
        """Faces between pixels of two arrays of rows."""
        apart = (one != other) & (one > 0) & (other > 0)
        pairs = Contacts(*_pairs(one[apart], other[apart]))
        self._pairs.append(pairs)
        self._pending += len(pairs.one)
        if self._pending > PENDING + 2 * len(self._pairs[0].one):
            self._sum()

    def _sum(self) -> None:
        """One entry a pair of components, as far as these are known to be joined."""
        if self._pairs:
            columns = [np.concatenate(each) for each in zip(*self._pairs, strict=True)]
            one, other = self._roots(columns[0]), self._roots(columns[1])
            low, high = np.minimum(one, other), np.maximum(one, other)
            apart = low != high
            self._pairs = [Contacts(*_pairs(low[apart], high[apart], columns[2][apart]))]
        self._pending = 0


def _from(start: int, own: Rows) -> Rows:
    """A slice's own rows 1, 2, ... among those of all slices."""
    return own if start == 1 else np.where(own > 0, own + (start - 1), 0)


def marks(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels and 1, so that 0 stands for void, the largest value of their type."""
    return labels + labels.dtype.type(1)


def _pairs(one: Rows, other: Rows, weight: Rows | None = None) -> tuple[Rows, Rows, Rows]:
    """Different pairs and how often they come, or the sum of their weights."""
    if not len(one):
        return one, other, np.zeros(0, np.int64)
    width = int(other.max()) + 1
    codes = one * width + other
    starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))  # runs: few are left to sort
    ones = np.ones(len(codes), np.int64) if weight is None else weight
    unique, place = np.unique(codes[starts], return_inverse=True)
    total = np.zeros(len(unique), np.int64)
    np.add.at(total, place, np.add.reduceat(ones, starts))
    return unique // width, unique % width, total


def _cc3d() -> Any:
    try:
        import cc3d
    except ImportError:
        do = "pip install 'segfusion[components]'"
        raise InputError(f"components: needs the package connected-components-3d; {do}") from None
    return cc3d.connected_components


class Task(Protocol):
    """What an operation does to the slices of one frame or video; of channels, to those of one."""

    def look(self, labels: NDArray[Any]) -> None:
        """A slice [H, W], one after the other."""

    def decide(self) -> None:
        """All slices have been looked at."""

    def changed(self, place: int, labels: NDArray[Any]) -> NDArray[Any]:
        """Slice `place`, once more, as it is to be."""


@dataclass(frozen=True, kw_only=True)
class ByComponents(Operation):
    """An operation on the components of label maps, frame by frame or through the whole video."""

    stage: ClassVar = LABELS
    nearest: ClassVar[bool] = False  # whether pixels are joined by faces alone, by default

    dimensions: int = parameter(
        2, "2: of each frame; 3: through frames or slices", choices=(2, 3), low=2, high=3
    )
    connectivity: int = parameter(
        0,
        "4 or 8 in 2D, 6, 18 or 26 in 3D; 0: the operation's own",
        choices=(0, 4, 8, 6, 18, 26),
        low=0,
        high=26,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        possible = CONNECTIVITY[self.dimensions]
        if self.connectivity not in (0, *possible):
            got = f"connectivity={self.connectivity} in {self.dimensions} dimensions"
            raise InputError(f"{self.name}: {got}; choose one of {possible}")

    @property
    def temporal(self) -> bool:  # type: ignore[override]
        return self.dimensions == 3

    @property
    def neighbours(self) -> int:
        """The connectivity that it works with."""
        return self.connectivity or CONNECTIVITY[self.dimensions][0 if self.nearest else -1]

    def check(self, classes: Sequence[str], *, independent: bool) -> None:
        super().check(classes, independent=independent)
        _cc3d()  # what is missing is said before anything is read

    @abstractmethod
    def task(self, classes: Sequence[str], channel: int | None) -> Task:
        """Of the maps of C classes, or of a channel's masks of 0 and 1."""

    def apply(self, stream: Stream, video: Video) -> Stream:
        if self.dimensions == 3:
            yield from self._whole(stream, video)
            return
        for frame in stream:
            made = self._tasks(video)
            for task, labels in zip(made, _maps(frame.values, video), strict=True):
                task.look(labels)
                task.decide()
            yield _changed(made, 0, frame, video)

    def _whole(self, stream: Stream, video: Video) -> Stream:
        made, number = self._tasks(video), 0
        with Spill() as kept:
            for frame in stream:
                for task, labels in zip(made, _maps(frame.values, video), strict=True):
                    task.look(labels)
                kept.put(frame)
                number += 1
            for task in made:
                task.decide()
            for place, frame in enumerate(kept.frames()):
                yield _changed(made, place, frame, video)

    def _tasks(self, video: Video) -> list[Task]:
        channels = range(len(video.classes)) if video.independent else [None]
        return [self.task(video.classes, channel) for channel in channels]

    def holds(self, video: Video) -> int:
        return 2 if self.dimensions == 3 else 1


def _maps(values: NDArray[Any], video: Video) -> Sequence[NDArray[Any]]:
    return list(values) if video.independent else [values]


def _changed(made: Sequence[Task], place: int, frame: Frame, video: Video) -> Frame:
    maps = zip(made, _maps(frame.values, video), strict=True)
    some = [task.changed(place, labels) for task, labels in maps]
    return frame.having(np.stack(some) if video.independent else some[0])
