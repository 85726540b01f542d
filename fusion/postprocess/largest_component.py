"""Only the largest component of each class stays, or of the whole foreground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.postprocess.classes import class_ids
from fusion.postprocess.components import ByComponents, Table, marks
from fusion.postprocess.operation import parameter


@dataclass(frozen=True)
class LargestComponent(ByComponents):
    """Pixels of the chosen classes outside their largest component become background.

    Of components of equal size all stay. What nnU-Net may do after prediction, with the same
    connectivity (8, 26): `together` is its rule for the foreground, without it that for each label.
    """

    name: ClassVar = "largest-component"
    about: ClassVar = "only the largest component of each class, or of all of them, stays"
    reference: ClassVar = (
        "nnU-Net v2, nnunetv2/postprocessing/remove_connected_components.py, "
        "remove_all_but_largest_component_from_segmentation"
    )

    classes: tuple[str, ...] = parameter((), "which; none: all but the background")
    together: bool = parameter(
        False, "the largest component of all these classes' union", grid=(False, True)
    )
    background: str = parameter("", "the class that takes their place; none: the first")

    def check(self, classes: Sequence[str], *, independent: bool) -> None:
        super().check(classes, independent=independent)
        class_ids(f"{self.name}: classes", self.classes, classes)
        if independent:
            if self.together or self.background:
                got = "together or background of independent channels"
                raise InputError(f"{self.name}: {got}, whose masks stand alone; leave it out")
            return
        background = self._background(classes)
        if classes[background] in self.classes:
            got = f"background {classes[background]!r} is among classes"
            raise InputError(f"{self.name}: {got}; name another background, or leave it out")

    def _background(self, classes: Sequence[str]) -> int:
        given = [self.background] if self.background else classes[:1]
        return class_ids(f"{self.name}: background", given, classes)[0]

    def task(self, classes: Sequence[str], channel: int | None) -> _Largest:
        chosen = class_ids(f"{self.name}: classes", self.classes, classes)
        if channel is not None:
            kept = [1] if not chosen or channel in chosen else []
            return _Largest(kept, 2, 0, False, self.neighbours)
        background = self._background(classes)
        chosen = chosen or [c for c in range(len(classes)) if c != background]
        return _Largest(chosen, len(classes), background, self.together, self.neighbours)


class _Largest:
    """`fusion.postprocess.components.Task`: which components stay.

    Args:
        chosen: labels.
        labels: how many there are.
        background: what others become.
        together: whether components are of the union.
        connectivity: of them.
    """

    def __init__(
        self, chosen: Sequence[int], labels: int, background: int, together: bool, connectivity: int
    ) -> None:
        self.background, self.table = background, Table(connectivity)
        self.marks = np.zeros(labels + 1, np.uint16)  # of each label and 1; 0 is void
        for label in chosen:
            self.marks[label + 1] = 1 if together else label + 1
        self.leaves = np.zeros(0, bool)

    def look(self, labels: NDArray[Any]) -> None:
        self.table.add(self.marks[marks(labels)])

    def decide(self) -> None:
        found = self.table.finish()
        largest = np.zeros(len(self.marks), np.int64)
        np.maximum.at(largest, found.label, found.size)  # row 0 is the last label, of no size
        self.leaves = (found.label >= 0) & (found.size < largest[found.label])

    def changed(self, place: int, labels: NDArray[Any]) -> NDArray[Any]:
        if not self.leaves.any():
            return labels
        leaves = self.leaves[self.table.rows(place, self.marks[marks(labels)])]
        return np.where(leaves, labels.dtype.type(self.background), labels)
