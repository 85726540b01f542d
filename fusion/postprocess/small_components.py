"""Components below a size take the label around them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.postprocess.classes import by_class, class_ids
from fusion.postprocess.components import ByComponents, Contacts, Found, Table, marks
from fusion.postprocess.operation import parameter

AROUND = "neighbours"


@dataclass(frozen=True)
class SmallComponents(ByComponents):
    """Components of fewer than `pixels` pixels become the label that most of their faces touch.

    Faces between pixels of the frame (in 3D also of frames one after the other) are counted; of
    labels that touch as many the lowest class wins. Only components that stay count: one that
    touches none of these waits until a neighbour has its new label. Where everything is small
    nothing changes. Pixels without a label (void) neither change nor count.
    """

    name: ClassVar = "small-components"
    about: ClassVar = "components below a size take the label around them"

    pixels: int = parameter(
        100, "components of fewer are removed", low=0, high=1 << 40, grid=(30, 100, 300, 1000)
    )
    by_class: Mapping[str, float] = parameter({}, "pixels of some classes in the place of `pixels`")
    classes: tuple[str, ...] = parameter((), "whose components are removed; none: of all classes")
    fill: str = parameter(AROUND, "neighbours, or the class that takes their place")

    def check(self, classes: Sequence[str], *, independent: bool) -> None:
        super().check(classes, independent=independent)
        self._limits(classes)
        if self.fill != AROUND:
            class_ids(f"{self.name}: fill", [self.fill], classes)
            if independent:
                got = f"fill={self.fill!r} of independent channels, where a pixel is in or out"
                raise InputError(f"{self.name}: {got}; leave fill out")

    def _limits(self, classes: Sequence[str]) -> NDArray[np.float64]:
        """Pixels below which a component of each class is removed."""
        chosen = set(class_ids(f"{self.name}: classes", self.classes, classes))
        usual = [self.pixels if not chosen or c in chosen else 0 for c in range(len(classes))]
        what = f"{self.name}: by_class"
        given = by_class(what, self.by_class, classes, -1, 0, math.inf)
        pairs = zip(given, usual, strict=True)
        return np.array([own if own >= 0 else rest for own, rest in pairs], np.float64)

    def task(self, classes: Sequence[str], channel: int | None) -> _Replaced:
        limits = self._limits(classes)
        if channel is not None:
            return _Replaced(np.array([0.0, limits[channel]]), None, self.neighbours)
        fill = None if self.fill == AROUND else classes.index(self.fill)
        return _Replaced(limits, fill, self.neighbours)


@dataclass
class _Replaced:
    """`fusion.postprocess.components.Task`: which components are small, and what they become."""

    limits: NDArray[np.float64]
    fill: int | None
    connectivity: int
    made: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        self.table = Table(self.connectivity, contacts=self.fill is None)

    def look(self, labels: NDArray[Any]) -> None:
        self.table.add(marks(labels))

    def decide(self) -> None:
        found = self.table.finish()
        small = (found.label >= 0) & (found.size < np.append(self.limits, 0)[found.label])
        if not small.any():
            self.made = found.label[:0]
        elif self.fill is None:
            self.made = relabelled(found, small, self.table.contacts())[found.root]
        else:
            self.made = np.where(small, self.fill, found.label)

    def changed(self, place: int, labels: NDArray[Any]) -> NDArray[Any]:
        if not len(self.made):
            return labels
        marked = marks(labels)
        new = self.made[self.table.rows(place, marked)].astype(labels.dtype)
        return np.where(marked > 0, new, labels)


def relabelled(found: Found, small: NDArray[np.bool_], contacts: Contacts) -> NDArray[np.int64]:
    """Labels of the root of each component, small ones as `SmallComponents` says.

    Args:
        found: components.
        small: [N + 1] which are to be replaced.
        contacts: between roots.
    """
    label, waiting = found.label.copy(), small.copy()
    mine = small[contacts.one]
    one, other, faces = (column[mine] for column in contacts)
    while True:
        use = ~waiting[other]
        if not use.any():
            return label  # what still waits touches nothing that stays
        width = int(label.max()) + 1
        codes, place = np.unique(one[use] * width + label[other[use]], return_inverse=True)
        votes = np.zeros(len(codes), np.int64)
        np.add.at(votes, place, faces[use])
        rows, labels = codes // width, codes % width
        order = np.lexsort((labels, -votes, rows))
        first = order[np.diff(rows[order], prepend=-1) > 0]
        label[rows[first]] = labels[first]
        waiting[rows[first]] = False
        mine = waiting[one]
        one, other, faces = one[mine], other[mine], faces[mine]
