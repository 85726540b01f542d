"""Moving pictures: a file a unit, frame after frame in the memory of one of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from fusion.errors import InputError
from fusion.files import refusals, replacing
from fusion.outputs.content import Content
from fusion.outputs.drawing import Drawing, Pixels
from fusion.outputs.output import Part, option
from fusion.outputs.unit import Unit

FPS = 10.0


@dataclass(frozen=True)
class Strip(Drawing):
    """Picture and overlay side by side, [H, 2 W]; without pictures the coloured label map."""

    ending: ClassVar[str]
    fastest: ClassVar[float]  # frames a second

    fps: float | None = option(
        "--fps", f"frames a second (default {FPS:g})", type=float, metavar="NUMBER"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.1 <= self.rate <= self.fastest:
            raise InputError(f"fps: got {self.fps:g}; {self.name} has 0.1 to {self.fastest:g}")

    @property
    def rate(self) -> float:
        return FPS if self.fps is None else self.fps

    def parts(self, unit: Unit) -> list[Part]:
        return [Part((unit.name + self.ending,), unit.frames)]

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        path = out / parts[0].files[0]
        shown = self.shown(unit, content)
        with refusals(path), replacing(path, overwrite=overwrite) as scratch:
            self.encode(scratch, shown)

    def shown(self, unit: Unit, content: Content) -> Iterator[Pixels]:
        """What is seen of each frame, uint8 [H, W, 3] of one size."""
        for picture, drawn in self.pictures(unit, unit.frames, content):
            yield drawn if picture is None else np.concatenate([picture, drawn], axis=1)

    @abstractmethod
    def encode(self, path: Path, shown: Iterator[Pixels]) -> None:
        """A new file of these frames, of which it holds one at a time."""
