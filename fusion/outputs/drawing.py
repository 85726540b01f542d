"""Label maps as people look at them: in colours, over their pictures, with borders. H W pixels.

`Drawing` is what the formats that draw share: a palette, pictures, how strong the colours are.
Pixels of nothing (void, no region, an absent channel, a first class "background") keep the picture,
and are black where there is none; of overlapping channels the colours are averaged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.images import Images
from fusion.labels.lookup import Colour, packed
from fusion.labels.palettes import palette_of
from fusion.labels.png import colour_map
from fusion.outputs.content import Content
from fusion.outputs.output import Output, option
from fusion.outputs.unit import Unit

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Pair = tuple[Pixels | None, Pixels]
NOTHING = "background"  # a class of this name, the first one
OPACITY = 0.5


@dataclass(frozen=True)
class Drawing(Output):
    """A format that draws label maps."""

    keeps: ClassVar = ("labels", "channels")
    draws: ClassVar = True

    palette: str | tuple[Colour, ...] | None = None  # by class; default safe
    overlay: str | Path | Images | None = option(  # noqa: RUF009  it makes a field
        "--overlay",
        "pictures to draw over, <unit>/<frame>.jpg or .png",
        type=Path,
        metavar="IMAGES",
    )
    opacity: float | None = option(
        "--opacity",
        f"of the colours, 0 (borders alone) to 1 (default {OPACITY})",
        type=float,
        metavar="PART",
    )

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise InputError(f"opacity: got {self.opacity:g}; give 0 to 1")
        given = self.overlay.root if isinstance(self.overlay, Images) else self.overlay
        place = None if given is None else os.path.abspath(given)
        object.__setattr__(self, "overlay", place)

    @property
    def strength(self) -> float:
        return OPACITY if self.opacity is None else self.opacity

    @cached_property
    def images(self) -> Images | None:
        """The pictures to draw over."""
        return None if self.overlay is None else Images(Path(str(self.overlay)))

    def prepared(self, content: Content, units: Sequence[Unit]) -> Self:
        super().prepared(content, units)
        shared: Images | None = getattr(content.ensemble, "images", None)
        return self if self.overlay is not None or shared is None else replace(self, overlay=shared)

    def refusal(self, content: Content) -> str:
        if content.kind == "stored":
            return "draws classes, in the colours of palette=; leave stored values out"
        return super().refusal(content)

    def check(self, content: Content, units: Sequence[Unit]) -> None:
        palette(self.palette, content)
        for unit in units:
            self.parts(unit)  # ids that can be no names of files are none of pictures
            if self.images is not None:
                for frame in unit.frames:
                    self.images.check(unit.video, frame, unit.size)

    def pictures(self, unit: Unit, frames: Sequence[str], content: Content) -> Iterator[Pair]:
        """(picture or None, what is drawn), each uint8 [H, W, 3], of frames in that order."""
        known = palette(self.palette, content)
        for frame, labels in content.labels(unit, frames):
            colours, covered = coloured(labels, known, content)
            picture = None
            if self.images is not None:
                picture = self.images.read(unit.video, frame, unit.size)
                colours = overlaid(picture, colours, covered, self.strength)
            yield picture, colours


def palette(given: str | Sequence[Colour] | None, content: Content) -> Pixels:
    """A colour of each class or channel, uint8 [C, 3]; of a single channel of its two outcomes.

    Args:
        given: a name in PALETTES, or colours; the rest are VOC's. Default "safe" if it has enough.
        content: what is drawn.
    """
    names = content.names
    if content.independent and len(names) == 1 and content.regions is None:
        names = (NOTHING, *names)
    if given is None:
        given = "safe" if len(names) <= 256 else "vspw"
    colours = colour_map(len(names))
    known = np.asarray(palette_of(given, names) if isinstance(given, str) else given, np.uint8)
    colours[: len(known)] = known[: len(names)]
    return colours


def coloured(labels: np.ndarray, known: Pixels, content: Content) -> tuple[Pixels, Mask]:
    """Colours uint8 [H, W, 3] of a frame, and where there is anything at all [H, W].

    Args:
        labels: of `content`: [H, W], or masks [C, H, W].
        known: of `palette`.
        content: says what the values stand for.
    """
    if labels.ndim == 3:
        count = labels.sum(axis=0, dtype=np.uint32)
        total = np.tensordot(labels.astype(np.uint32), known, axes=(0, 0))
        mean = total // np.maximum(count, 1)[..., None]
        return mean.astype(np.uint8), count > 0
    ids = list(range(len(known)) if content.regions is None else content.regions)
    table = np.zeros((1 << (8 * labels.dtype.itemsize), 3), np.uint8)
    there = np.zeros(len(table), bool)
    table[ids], there[ids] = known, True
    first = "" if content.regions is not None else content.names[0].lower()
    there[0] &= first != NOTHING and not content.independent
    colours = table[labels]
    covered = there[labels]
    colours[~covered] = 0
    return colours, covered


def overlaid(picture: Pixels, colours: Pixels, covered: Mask, opacity: float) -> Pixels:
    """Colours over a picture, and in full along the borders between them.

    Args:
        picture, colours: uint8 [H, W, 3].
        covered: where there is a colour, bool [H, W].
        opacity: of colours, 0 to 1.
    """
    part = np.uint16(round(256 * opacity))
    mixed = picture * (np.uint16(256) - part)  # 255 * 256 + 128 is below 2 ** 16
    mixed += colours * part
    mixed += np.uint16(128)
    drawn = (mixed >> 8).astype(np.uint8)
    edge = borders(colours)
    drawn[edge] = colours[edge]
    drawn[~covered] = picture[~covered]
    return drawn


def borders(colours: Pixels) -> Mask:
    """Pixels [H, W] whose left, right, upper or lower neighbour has another colour."""
    found = np.zeros(colours.shape[:2], bool)
    values = packed(colours)
    down, right = values[1:] != values[:-1], values[:, 1:] != values[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found
