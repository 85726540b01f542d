"""Holes of a class become that class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion.postprocess.classes import class_ids
from fusion.postprocess.components import ByComponents, Table
from fusion.postprocess.operation import parameter


@dataclass(frozen=True)
class FillHoles(ByComponents):
    """Pixels that a class encloses, up to a size, become that class; void ones too.

    A hole is a component of the pixels that are not of the class, joined by faces (connectivity 4,
    6) and touching no border of frame or volume. A pixel in holes of several classes goes to the
    class of the largest.
    """

    name: ClassVar = "fill-holes"
    about: ClassVar = "holes of a class become that class"
    reference: ClassVar = "scipy.ndimage.binary_fill_holes, of each class"
    nearest: ClassVar = True

    classes: tuple[str, ...] = parameter((), "whose holes; none: of all classes")
    pixels: int = parameter(
        0, "of the largest hole that is filled; 0: any", low=0, high=1 << 40, grid=(100, 1000, 0)
    )

    def check(self, classes: Sequence[str], *, independent: bool) -> None:
        super().check(classes, independent=independent)
        class_ids(f"{self.name}: classes", self.classes, classes)

    def task(self, classes: Sequence[str], channel: int | None) -> _Filled:
        chosen = class_ids(f"{self.name}: classes", self.classes, classes)
        if channel is not None:
            chosen = [1] if not chosen or channel in chosen else []
        elif not chosen:
            chosen = list(range(len(classes)))
        return _Filled(chosen, self.pixels, self.neighbours)


class _Filled:
    """`fusion.postprocess.components.Task`: the holes of each class.

    Args:
        chosen: labels.
        most: pixels of a hole, 0 for any number.
        connectivity: of holes.
    """

    def __init__(self, chosen: Sequence[int], most: int, connectivity: int) -> None:
        self.chosen, self.most, self.connectivity = chosen, most, connectivity
        self.tables: dict[int, Table] = {}  # of the labels that were seen
        self.sizes: dict[int, NDArray[np.int64]] = {}  # of holes by row, 0 of what is none
        self.slices = 0

    def look(self, labels: NDArray[Any]) -> None:
        there = set(np.unique(labels).tolist())
        for label in self.chosen:
            if label in there and label not in self.tables:
                self.tables[label] = Table(self.connectivity)
                for _ in range(self.slices):  # nothing of it so far
                    self.tables[label].add(np.ones_like(labels, np.uint8))
        for label, table in self.tables.items():
            table.add((labels != label).astype(np.uint8))
        self.slices += 1

    def decide(self) -> None:
        for label in sorted(self.tables):
            found = self.tables[label].finish()
            hole = (found.label >= 0) & ~found.at_border
            if self.most:
                hole &= found.size <= self.most
            if hole.any():
                self.sizes[label] = np.where(hole, found.size, 0)

    def changed(self, place: int, labels: NDArray[Any]) -> NDArray[Any]:
        if not self.sizes:
            return labels
        filled, largest = labels.copy(), np.zeros(labels.shape, np.int64)
        for label, sizes in self.sizes.items():
            size = sizes[self.tables[label].rows(place, (labels != label).astype(np.uint8))]
            more = size > largest
            filled[more], largest[more] = label, size[more]
        return filled
