"""Holes of a class become that class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion.postprocess.classes import class_ids
from fusion.postprocess.components import ByComponents, Table
from fusion.postprocess.operation import Stream, Video, parameter


@dataclass(frozen=True)
class FillHoles(ByComponents):
    """Pixels that a class encloses, up to a size, become that class; void ones too.

    Whatever lies within one other class is a hole of it: a car on the road as well.

    A hole is a component of the pixels that are not of the class, joined by faces (connectivity 4,
    6) and touching no border of frame or volume. Classes are filled one after the other, in the
    order they are given or stored in.
    """

    name: ClassVar = "fill-holes"
    about: ClassVar = "holes of a class become that class"
    reference: ClassVar = "scipy.ndimage.binary_fill_holes, of each class"
    nearest: ClassVar = True

    classes: tuple[str, ...] = parameter((), "whose holes; none: of all classes")
    pixels: int = parameter(
        100, "of the largest hole that is filled; 0: any", low=0, high=1 << 40, grid=(30, 100, 1000)
    )

    def check(self, classes: Sequence[str], *, independent: bool) -> None:
        super().check(classes, independent=independent)
        class_ids(f"{self.name}: classes", self.classes, classes)

    def apply(self, stream: Stream, video: Video) -> Stream:
        if video.independent:
            return super().apply(stream, video)
        for name in self.classes or video.classes:
            alone = replace(self, classes=(name,))
            stream = super(FillHoles, alone).apply(stream, video)
        return stream

    def task(self, classes: Sequence[str], channel: int | None) -> _Filled:
        chosen = class_ids(f"{self.name}: classes", self.classes, classes)
        if channel is None:
            return _Filled(chosen[0], self.pixels, self.neighbours)
        label = 1 if not chosen or channel in chosen else None
        return _Filled(label, self.pixels, self.neighbours)


class _Filled:
    """`fusion.postprocess.components.Task`: the holes of a class.

    Args:
        label: of the class, None for none.
        most: pixels of a hole, 0 for any number.
        connectivity: of holes.
    """

    def __init__(self, label: int | None, most: int, connectivity: int) -> None:
        self.label, self.most, self.table = label, most, Table(connectivity)
        self.before = 0  # slices without the class, so far
        self.holes = np.zeros(0, bool)  # by row

    def look(self, labels: NDArray[Any]) -> None:
        others = labels != self.label
        if not self.table.starts and others.all():  # most classes are in few frames
            self.before += 1
            return
        for _ in range(self.before):
            self.table.add(np.ones_like(others, np.uint8))
        self.before = 0
        self.table.add(others.astype(np.uint8))

    def decide(self) -> None:
        found = self.table.finish()
        self.holes = (found.label >= 0) & ~found.at_border
        if self.most:
            self.holes &= found.size <= self.most

    def changed(self, place: int, labels: NDArray[Any]) -> NDArray[Any]:
        if not self.holes.any():
            return labels
        rows = self.table.rows(place, (labels != self.label).astype(np.uint8))
        return np.where(self.holes[rows], labels.dtype.type(self.label or 0), labels)
